"""Ground: reads an HTTP/1 answer (RFC 9112), and believes nothing of it.

Not http.client's: that one parses a head with a parser made for mail, which takes longer than all
the rest of the exchange, and takes a chunk's size as `int` does, so that `-1` reads without end.

It reads what it is fed, in whatever pieces, and knows neither sockets nor clocks: those who do are
above. Everything that it waits for has a bound in bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from . import KEPT_HEADERS

MAX_HEADER_BYTES = 65536
"""Of an answer's head, together with interim ones before it; and of the trailers of its body."""

MAX_CHUNK_LINE = 4096
"""Bytes of the line that a chunk begins with: its size, and extensions that nobody uses."""

PIECE = 16384
"""Bytes to read from a connection between two looks at the clock."""

STATUS = re.compile(rb"(HTTP/1\.[0-9])[ \t]+([1-9][0-9]{2})(?:[ \t][^\n]*)?\r?\n")
"""An answer's first line: its version and its status."""

_LENGTH = re.compile(r"[0-9]{1,19}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\n]*)?\r?\n")
# Whoever sends ten thousand others fills no memory with them.
_FIELDS = KEPT_HEADERS | {"connection", "content-length", "transfer-encoding"}


class NotHTTP(Exception):
    """What came back is no answer of HTTP/1; the message says what is wrong with it."""


class Response:
    """An answer, as far as it has come.

    `begun`: a byte of it has come; `understood`: the whole head has, and `status` and `fields`
    (those that somebody looks at, by lower-case name) are its own; `complete`: the body has come
    to its end; `will_close`: nothing else can be read from the connection; `done`: there is nothing
    more to read, be it complete or longer than the limit; `goes_on`: something has come behind it,
    which would be taken for the answer to the next request.

    :param limit: of the body, in bytes. One more is read: that tells one of the very limit from a
        longer one, which is not read to its end.
    """

    def __init__(self, limit: int) -> None:
        self.begun = False
        self.understood = False
        self.complete = False
        self.will_close = True
        self.done = False
        self.goes_on = False
        self.status = 0
        self.fields: dict[str, str] = {}
        self.body = bytearray()
        self._limit = limit
        # What has come and is not yet read begins at `_at`. Whatever reads the next part of it
        # answers whether it had enough.
        self._data: bytes | bytearray = b""
        self._at = 0
        self._step: Callable[[Response], bool] = Response._read_status
        self._room = MAX_HEADER_BYTES
        self._searched = 0
        self._old = False
        self._chunked = False
        # Bytes to come of the body, or of the chunk; None: up to the connection's end.
        self._left: int | None = 0

    def feed(self, data: bytes) -> bool:
        """Read on.

        :param data: what has come.
        :returns: `done`.
        :raises NotHTTP: if it is no answer.
        """
        if self.done:
            self.goes_on = self.goes_on or bool(data)
            return True
        if data:
            self.begun = True
        rest = self._data
        if rest:
            assert isinstance(rest, bytearray)
            rest += data
        else:
            self._data = rest = data
        self._at = 0
        while not self.done and self._step(self):
            pass
        if self._at < len(rest):
            if self.done:
                self.goes_on = True
            elif isinstance(rest, bytearray):
                del rest[: self._at]
                return False
            else:
                self._data = bytearray(rest[self._at :])
                return False
        self._data = b""
        return self.done

    def end(self, error: OSError | None = None) -> None:
        """Nothing more will come.

        :param error: what the connection failed with; None if it was closed.
        :raises OSError: if the answer is not complete by that.
        """
        if self.done:
            return
        if self._step is Response._skip_trailers:
            # The body has come; some spare themselves the empty line.
            ends = error is None or isinstance(error, ConnectionResetError)
        else:
            ends = error is None and self.understood and self._left is None
        if not ends:
            raise error or self._closed()
        self.will_close = True
        self.complete = self.done = True

    def _read_status(self) -> bool:
        line = self._line(self._room, "its head")
        if line is None:
            return False
        parts = STATUS.fullmatch(line)
        if parts is None:
            raise NotHTTP(f"it begins with {_shown(line)}")
        self._old = parts[1] == b"HTTP/1.0"
        self.status = int(parts[2])
        self._expect_lines(len(line), self._room - len(line))
        self._step = Response._read_fields
        return True

    def _read_fields(self) -> bool:
        """Read header lines to the empty one.

        One that is not sound must not turn an accepted delivery into a failed one: it is skipped.
        """
        lines = self._lines("its head")
        if lines is None:
            return False
        fields: dict[str, str] = {}
        sound = True
        for line in lines.decode("latin-1").split("\n")[:-1]:
            name, colon, value = line.partition(":")
            name = name.strip().lower()
            if not colon or not name or line[0] in " \t":
                sound = False
            elif name in _FIELDS:
                value = value.strip()
                if name not in fields:
                    fields[name] = value
                elif fields[name] != value and name in ("content-length", "transfer-encoding"):
                    sound = False
        self.fields = fields
        if self.status < 200 and self.status != 101:
            self._step = Response._read_status
            return True
        self.understood = True
        options = fields.get("connection", "").lower()
        self.will_close = not sound or (
            "keep-alive" not in options if self._old else "close" in options
        )
        self._judge_framing()
        self._step = Response._read_body
        return True

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
            self._left = _whole(length)
            if self._left is None:
                raise NotHTTP(f"its Content-Length is {_shown(length)}")
        else:
            self._left = None
            self.will_close = True

    def _read_body(self) -> bool:
        room = self._limit + 1 - len(self.body)
        if room <= 0:
            self.done = True
            return False
        left = self._left
        if left == 0:
            if self._chunked:
                self._step = Response._read_chunk_line
                return True
            self.complete = self.done = True
            return False
        begin = self._at
        taken = min(len(self._data) - begin, room)
        if left is not None:
            taken = min(taken, left)
            self._left = left - taken
            if left == taken and self._chunked:
                self._step = Response._end_chunk
        self.body += self._data[begin : begin + taken]
        self._at = begin + taken
        return taken > 0

    def _read_chunk_line(self) -> bool:
        line = self._line(MAX_CHUNK_LINE, "the first line of a chunk")
        if line is None:
            return False
        parts = _CHUNK.fullmatch(line)
        if parts is None:
            raise NotHTTP(f"a chunk of its body begins with {_shown(line)}")
        self._left = int(parts[1], 16)
        if self._left == 0:
            self._expect_lines(len(line), MAX_HEADER_BYTES)
            self._step = Response._skip_trailers
        else:
            self._at += len(line)
            self._step = Response._read_body
        return True

    def _end_chunk(self) -> bool:
        line = bytes(self._data[self._at : self._at + 2])
        if line[:1] == b"\n":
            line = b"\n"
        elif len(line) < 2:
            return False
        elif line != b"\r\n":
            raise NotHTTP(f"a chunk of its body is followed by {_shown(line)}")
        self._at += len(line)
        self._step = Response._read_body
        return True

    def _skip_trailers(self) -> bool:
        if self._lines("what comes after its body") is not None:
            self.complete = self.done = True
        return False

    def _line(self, room: int, what: str) -> bytes | None:
        """The next line, which is not taken yet; None if it has not come to its end."""
        data, begin = self._data, self._at
        end = data.find(b"\n", begin, begin + room)
        if end >= 0:
            return bytes(data[begin : end + 1])
        if len(data) - begin > room:
            raise _too_long(what, data[begin : begin + room + 1])
        return None

    def _expect_lines(self, taken: int, room: int) -> None:
        """Of the line before, its end stays: an empty line is seen by two of them."""
        self._at += taken - 1
        self._room = room
        self._searched = 0

    def _lines(self, what: str) -> bytes | None:
        """All lines before an empty one, and all are taken; None if it has not come."""
        data, begin = self._data, self._at
        end = data.find(b"\n\r\n", begin + self._searched)
        after = end + 3 if end >= 0 else len(data) + 1
        bare = data.find(b"\n\n", begin + self._searched, end + 1 if end >= 0 else len(data))
        if bare >= 0:
            end, after = bare, bare + 2
        most = begin + 1 + self._room
        if after > most and len(data) > most:
            raise _too_long(what, data[data.rfind(b"\n", begin, most) + 1 : most + 1])
        if after > len(data):
            self._searched = max(0, len(data) - begin - 2)
            return None
        self._at = after
        self._room = most - after
        return bytes(data[begin + 1 : end + 1])

    def _closed(self) -> ConnectionResetError:
        where = "amid the answer's body" if self.understood else "amid the answer's head"
        where = where if self.begun else "without an answer"
        return ConnectionResetError(f"the connection was closed {where}")


def _whole(text: str) -> int | None:
    """A length, which may be said several times."""
    if "," in text:
        lengths = {part.strip() for part in text.split(",")}
        text = lengths.pop() if len(lengths) == 1 else ""
    return int(text) if _LENGTH.fullmatch(text) else None


def _too_long(what: str, came: bytes | bytearray) -> NotHTTP:
    return NotHTTP(f"{what} is too long: it goes on with {_shown(bytes(came))}")


def _shown(came: bytes | str) -> str:
    """The beginning of what came, for people."""
    text = came[:60].decode("latin-1") if isinstance(came, bytes) else came[:60]
    return repr(text)
