"""A receiver that is faster than any sender here: asyncio, one process of its own.

`python receiver.py` prints its port and answers every POST with 200. `GET /` answers with JSON:
how many POSTs came since the last `GET /`, and when the first and the last one came (seconds of
`time.monotonic`, which all processes of a machine share).
"""

from __future__ import annotations

import asyncio
import json
import time

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Tally:
    def __init__(self) -> None:
        self.count = 0
        self.first = self.last = 0.0

    def add(self) -> None:
        self.last = time.monotonic()
        if not self.count:
            self.first = self.last
        self.count += 1


class Receiver(asyncio.Protocol):
    def __init__(self, tallies: list[Tally]) -> None:
        self.tallies = tallies
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        while (end := self.received.find(b"\r\n\r\n")) >= 0:
            head = self.received[:end]
            if head.startswith(b"GET"):
                tally = self.tallies.pop()
                self.tallies.append(Tally())
                body = json.dumps(vars(tally)).encode()
                self.transport.write(
                    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
                )
                self.received = self.received[end + 4 :]
                continue
            at = head.lower().find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0])
            if len(self.received) < end + 4 + length:
                return
            self.received = self.received[end + 4 + length :]
            self.tallies[-1].add()
            self.transport.write(ANSWER)


async def main() -> None:
    tallies = [Tally()]
    server = await asyncio.get_running_loop().create_server(
        lambda: Receiver(tallies), "127.0.0.1", 0, backlog=1024
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
