"""Ground: the outbound proxy, if there is one: the tunnel that CONNECT opens through it.

http targets go through a tunnel as https ones do. In the other form, a whole URL in the request
line, a proxy replaces `Host` by the host of that URL (RFC 9112, section 3.2.2), so that it would
have to be given the name, and would resolve it once more; and its own error pages, which tell of
the network inside, could not be told from the receiver's answers.
"""

from __future__ import annotations

import base64
import re
import socket
import time
from urllib.parse import unquote_to_bytes, urlsplit

from .http1 import STATUS, NotHTTP

MAX_HEADER_BYTES = 16384
"""Of a proxy's answer, together with interim ones before it."""

PIECE = 4096

_END = re.compile(rb"\r?\n\r?\n")


class Refused(Exception):
    """The proxy opens no tunnel.

    :param status: what it answered.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"it answered {status}")
        self.status = status


class Proxy:
    """A proxy, by its URL: `http://[user:password@]host:port`.

    `name` is it without user and password, for the operator's log.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host = parts.hostname or ""
        self.port = parts.port or 80
        self.name = f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
        self._credentials = ""
        if parts.username is not None:
            pair = unquote_to_bytes(parts.username) + b":" + unquote_to_bytes(parts.password or "")
            self._credentials = (
                f"Proxy-Authorization: Basic {base64.b64encode(pair).decode('ascii')}\r\n"
            )

    def open_tunnel(self, sock: socket.socket, authority: str, deadline: float) -> None:
        """Have the proxy connect this socket to somebody else.

        Not one byte is read of what comes through the tunnel. What the proxy says beside its
        status is for nobody's eyes.

        :param authority: address and port.
        :param deadline: the `time.monotonic()` by which it must have answered.
        :raises Refused: if it answers anything but 2xx.
        :raises NotHTTP: if its answer is none.
        :raises OSError: if it closes the connection; TimeoutError after the deadline.
        """
        _set_timeout(sock, deadline)
        sock.sendall(
            f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{self._credentials}\r\n".encode(
                "latin-1"
            )
        )
        room = MAX_HEADER_BYTES
        while True:
            head = _read_head(sock, room, deadline)
            room -= len(head)
            if room < 0:
                raise NotHTTP("its head is too long")
            parts = STATUS.match(head)
            if parts is None:
                raise NotHTTP("it is no answer to CONNECT")
            status = int(parts[2])
            if 200 <= status < 300:
                return
            if status >= 200 or status == 101:
                raise Refused(status)


def _read_head(sock: socket.socket, room: int, deadline: float) -> bytes:
    """Read a head, and nothing of what comes behind it."""
    head = bytearray()
    while True:
        _set_timeout(sock, deadline)
        more = sock.recv(PIECE, socket.MSG_PEEK)
        if not more:
            raise ConnectionResetError("the connection was closed")
        begin = max(0, len(head) - 3)
        end = _END.search(head + more, begin)
        taken = len(more) if end is None else end.end() - len(head)
        head += sock.recv(taken)
        if end is not None and len(head) >= end.end():
            return bytes(head)
        if len(head) > room:
            raise NotHTTP("its head is too long")


def _set_timeout(sock: socket.socket, deadline: float) -> None:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    sock.settimeout(left)
