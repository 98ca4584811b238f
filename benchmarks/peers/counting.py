"""The receiver that every peer sends to: it counts deliveries by the record that they tell of.

`python counting.py` prints its port. Each record carries a mark (`mark-17`) in its name, so the
body of whatever a peer sends says which record it is about. `GET /report` answers with JSON (see
`Report`), `GET /forget` begins another one; `GET /answer`, `/refuse-first` and `/hold` set what
POSTs are answered from then on: 200; 500 to the first one of each mark; nothing, until the next
such GET breaks those off.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import asdict, dataclass, field

MARK = re.compile(rb"mark-(\d+)")
ANSWERS = {
    200: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    500: b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
}


@dataclass
class Report:
    """What came. Times are of `time.monotonic`, which all processes of a machine share."""

    posts: int = 0
    first: float = 0.0
    last: float = 0.0  # the last one that brought a mark which had not come before
    asked: dict[int, int] = field(default_factory=dict)  # POSTs by mark
    taken: dict[int, int] = field(default_factory=dict)  # those answered with 200
    sample: tuple[str, str] = ("", "")  # headers and body of the last one


class Desk:
    """What all connections share."""

    def __init__(self) -> None:
        self.report = Report()
        self.mode = "answer"
        self.held: list[asyncio.Transport] = []

    def post(self, head: bytes, body: bytes) -> int | None:
        """Note it; the status of its answer, or None for no answer yet."""
        now = time.monotonic()
        report = self.report
        found = MARK.search(body)
        mark = int(found[1]) if found else -1
        report.first = report.first or now
        report.posts += 1
        report.asked[mark] = report.asked.get(mark, 0) + 1
        report.sample = (head.decode("latin-1"), body.decode("latin-1"))
        if self.mode == "hold":
            return None
        if self.mode == "refuse-first" and report.asked[mark] == 1:
            return 500
        if mark not in report.taken:
            report.last = now
        report.taken[mark] = report.taken.get(mark, 0) + 1
        return 200

    def get(self, path: str) -> bytes:
        if path == "/report":
            return json.dumps(asdict(self.report)).encode()
        if path == "/forget":
            self.report = Report()
            return b"{}"
        self.mode = path[1:]
        for transport in self.held:
            transport.abort()
        self.held.clear()
        return b"{}"


class Connection(asyncio.Protocol):
    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        while (end := self.received.find(b"\r\n\r\n")) >= 0:
            head = self.received[:end]
            at = head.lower().find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            stop = end + 4 + length
            if len(self.received) < stop:
                return
            body, self.received = self.received[end + 4 : stop], self.received[stop:]
            self.answer(head, body)

    def answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"GET"):
            found = self.desk.get(head.split(b" ", 2)[1].decode())
            top = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(found)
            self.transport.write(top + found)
        elif (status := self.desk.post(head, body)) is not None:
            self.transport.write(ANSWERS[status])
        else:
            self.desk.held.append(self.transport)


async def main() -> None:
    desk = Desk()
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(desk), "127.0.0.1", 0, backlog=1024
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
