"""A receiver that is fast and keeps its word: asyncio, one process of its own.

It answers every POST with 200, at once or after a while, and writes a line about each one to its
log: when it had come (seconds since the epoch), the port, the `webhook-id`. It writes the lines
that the nginx of `harness/receivers.py` writes, and is used where there is none.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import time
from typing import BinaryIO

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

_ID = re.compile(rb"\r\nwebhook-id: *([^\r]*)", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Receiver(asyncio.Protocol):
    """One connection.

    :param log: unbuffered.
    :param delay: seconds before each answer.
    """

    def __init__(self, log: BinaryIO, delay: float) -> None:
        self._log = log
        self._delay = delay
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._port = int(transport.get_extra_info("sockname")[1])

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end]
            length = _LENGTH.search(head)
            stop = end + 4 + (int(length[1]) if length else 0)
            if len(self._received) < stop:
                return
            self._received = self._received[stop:]
            found = _ID.search(head)
            line = b"%.6f %d %s\n" % (time.time(), self._port, found[1] if found else b"-")
            self._log.write(line)
            if self._delay:
                loop = asyncio.get_running_loop()
                loop.call_later(self._delay, self._transport.write, ANSWER)
            else:
                self._transport.write(ANSWER)


async def serve(ports: list[int], log: BinaryIO, delay: float) -> None:
    """Until it is killed."""
    loop = asyncio.get_running_loop()
    servers = [
        await loop.create_server(lambda: Receiver(log, delay), "127.0.0.1", port, backlog=4096)
        for port in ports
    ]
    await asyncio.gather(*(server.serve_forever() for server in servers))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, action="append", required=True)
    parser.add_argument("--log", required=True)
    parser.add_argument("--delay", type=float, default=0.0)
    options = parser.parse_args()
    with open(options.log, "ab", buffering=0) as log:
        asyncio.run(serve(options.port, log, options.delay))


if __name__ == "__main__":
    main()
