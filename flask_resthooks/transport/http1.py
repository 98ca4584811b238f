"""Ground: reads an HTTP/1 answer from a socket (RFC 9112), and believes nothing of it.

Not http.client's: that one parses a head with a parser made for mail, which takes longer than all
the rest of the exchange, and takes a chunk's size as `int` does, so that `-1` reads without end.
Here every read has a bound in bytes, and between two of them the clock is looked at: shutting a
socket down does not stop a sender who is faster than we read.
"""

from __future__ import annotations

import io
import re
import socket
import ssl
import time
from typing import Any

from . import KEPT_HEADERS

MAX_HEADER_BYTES = 65536
"""Of an answer's head, together with interim ones before it; and of the trailers of its body."""

MAX_CHUNK_LINE = 4096
"""Bytes of the line that a chunk begins with: its size, and extensions that nobody uses."""

PIECE = 65536
"""Bytes of a body that are read between two looks at the clock."""

STATUS = re.compile(rb"(HTTP/1\.[0-9])[ \t]+([1-9][0-9]{2})(?:[ \t][^\n]*)?\r?\n")
"""An answer's first line: its version and its status."""

_LENGTH = re.compile(r"[0-9]{1,19}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\n]*)?\r?\n")
_LINE_ENDS = (b"\r\n", b"\n")
# Whoever sends ten thousand others fills no memory with them.
_FIELDS = KEPT_HEADERS | {"connection", "content-length", "transfer-encoding"}


class NotHTTP(Exception):
    """What came back is no answer of HTTP/1; the message says what is wrong with it."""


class _Raw(io.RawIOBase):
    """A socket to read from, which stays open; it counts the bytes that came."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.came = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._sock.recv_into(buffer)
        self.came += count
        return count


class Response:
    """An answer, as far as it has come.

    `begun`: a byte of it has come; `understood`: the whole head has, and `status` and `fields`
    (those that somebody looks at, by lower-case name) are its own; `complete`: the body has come
    to its end; `will_close`: nothing else can be read from the connection.

    :param deadline: the `time.monotonic()` after which nothing more is read.
    """

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self.begun = False
        self.understood = False
        self.complete = False
        self.will_close = True
        self.status = 0
        self.fields: dict[str, str] = {}
        self.body = bytearray()
        self._sock = sock
        self._raw = _Raw(sock)
        self._file = io.BufferedReader(self._raw)
        self._taken = 0
        self._deadline = deadline
        self._chunked = False
        # Bytes to come of the body, or of the chunk; None: up to the connection's end.
        self._left: int | None = 0

    def read_head(self) -> None:
        """Read to where the body begins.

        :raises NotHTTP: if it is none.
        :raises OSError: if the connection fails or is closed; TimeoutError after the deadline.
        """
        room = MAX_HEADER_BYTES
        while True:
            line = self._line(room, "its head")
            parts = STATUS.fullmatch(line)
            if parts is None:
                raise NotHTTP(f"it begins with {_shown(line)}")
            version, status = parts[1], int(parts[2])
            sound, room = self._read_fields(room - len(line))
            if status >= 200 or status == 101:
                break
        self.status = status
        self.understood = True
        options = self.fields.get("connection", "").lower()
        self.will_close = not sound or (
            "keep-alive" not in options if version == b"HTTP/1.0" else "close" in options
        )
        self._judge_framing()

    def read_body(self, limit: int) -> None:
        """Read the body, to one byte more than the limit: that tells one of the very limit from a
        longer one, which is not read to its end.

        :raises NotHTTP: if a chunk is none.
        :raises OSError: if the connection fails or is closed; TimeoutError after the deadline.
        """
        while len(self.body) <= limit:
            if self._left == 0 and not (self._chunked and self._next_chunk()):
                self.complete = True
                return
            wanted = min(limit + 1 - len(self.body), PIECE)
            if self._left is not None:
                wanted = min(wanted, self._left)
            self._look_at_the_clock()
            piece = self._file.read(wanted)
            self._taken += len(piece)
            self.body += piece
            if self._left is not None:
                self._left -= len(piece)
            if len(piece) < wanted:
                if self._left is None:
                    self.complete = True
                    return
                raise self._closed()
            if self._chunked and self._left == 0:
                self._end_chunk()

    def goes_on(self) -> bool:
        """Whether something has come behind a complete answer.

        It would be taken for the answer to the next request on this connection. What the system
        has not handed over yet makes the connection one that `is_connected` says no of.
        """
        pending = self._sock.pending() if isinstance(self._sock, ssl.SSLSocket) else 0
        return self._raw.came > self._taken or pending > 0

    def close(self) -> None:
        """Let go of the socket, which stays open."""
        self._file.close()

    def _judge_framing(self) -> None:
        """Find out where the body ends. Source: RFC 9112, section 6.3."""
        encoding = self.fields.get("transfer-encoding")
        length = self.fields.get("content-length")
        if self.status in (101, 204, 304):
            self.will_close = self.will_close or self.status == 101
        elif encoding is not None:
            self._chunked = encoding.rpartition(",")[2].strip().lower() == "chunked"
            if not self._chunked:
                self._left = None
            if not self._chunked or length is not None:
                self.will_close = True
        elif length is not None:
            lengths = {part.strip() for part in length.split(",")}
            self._left = _whole(lengths.pop()) if len(lengths) == 1 else None
            if self._left is None:
                raise NotHTTP(f"its Content-Length is {_shown(length)}")
        else:
            self._left = None
            self.will_close = True

    def _read_fields(self, room: int) -> tuple[bool, int]:
        """Read header lines to the empty one; whether all of them were sound, and the room left.

        One that is not must not turn an accepted delivery into a failed one: it is skipped.
        """
        self.fields = fields = {}
        sound = True
        while True:
            line = self._line(room, "its head")
            room -= len(line)
            if line in _LINE_ENDS:
                return sound, room
            text = line.decode("latin-1")
            if text[0] in " \t":
                sound = False
                continue
            name, colon, value = text.partition(":")
            name, value = name.strip().lower(), value.strip()
            if not colon or not name:
                sound = False
            elif name not in fields:
                if name in _FIELDS:
                    fields[name] = value
            elif name in ("content-length", "transfer-encoding") and fields[name] != value:
                sound = False

    def _next_chunk(self) -> bool:
        """Read the line that a chunk begins with. False if it was the last one."""
        line = self._line(MAX_CHUNK_LINE, "the first line of a chunk")
        parts = _CHUNK.fullmatch(line)
        if parts is None:
            raise NotHTTP(f"a chunk of its body begins with {_shown(line)}")
        self._left = int(parts[1], 16)
        if self._left == 0:
            self._skip_trailers()
        return self._left > 0

    def _end_chunk(self) -> None:
        line = self._file.readline(2)
        self._taken += len(line)
        if line not in _LINE_ENDS:
            if len(line) < 2:
                raise self._closed()
            raise NotHTTP(f"a chunk of its body is followed by {_shown(line)}")

    def _skip_trailers(self) -> None:
        room = MAX_HEADER_BYTES
        try:
            while True:
                line = self._line(room, "what comes after its body")
                room -= len(line)
                if line in _LINE_ENDS:
                    return
        except ConnectionResetError:  # the body has come; some spare themselves the empty line
            self.will_close = True

    def _line(self, room: int, what: str) -> bytes:
        self._look_at_the_clock()
        line = self._file.readline(room + 1)
        self._taken += len(line)
        self.begun = self.begun or bool(line)
        if len(line) > room:
            raise NotHTTP(f"{what} is too long: it goes on with {_shown(line)}")
        if not line.endswith(b"\n"):
            raise self._closed()
        return line

    def _closed(self) -> ConnectionResetError:
        where = "amid the answer's body" if self.understood else "amid the answer's head"
        where = where if self.begun else "without an answer"
        return ConnectionResetError(f"the connection was closed {where}")

    def _look_at_the_clock(self) -> None:
        if time.monotonic() >= self._deadline:
            raise TimeoutError("the answer took too long")


def _whole(text: str) -> int | None:
    return int(text) if _LENGTH.fullmatch(text) else None


def _shown(came: bytes | str) -> str:
    """The beginning of what came, for people."""
    text = came[:60].decode("latin-1") if isinstance(came, bytes) else came[:60]
    return repr(text)
