"""Receivers on loopback, a thread per connection, that note everything which comes.

They answer 200, unless they are told to make trouble, which they note as well: what was received
and not acknowledged has to come again.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator

from .comparison import Receipt, Sent

TROUBLES = ("drop", "reset", "half-close")

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CUT = b"HTTP/1.1 200 OK\r\nContent-Le"
"""What a receiver says before it closes its half: no whole answer."""

STALE = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 5\r\n\r\nstale"

TOLERANCE = 300.0
"""Seconds by which a timestamp may be wrong, as in the libraries of Standard Webhooks: else it is
taken for a replay, and refused. What is refused has not come."""

BACKLOG = 1024


class Notebook:
    """What all receivers of a bench got, and what they did not acknowledge.

    `clock_ahead`: seconds by which the receivers' clocks are ahead.
    """

    def __init__(self) -> None:
        self.clock_ahead = 0.0
        self._lock = threading.Condition()
        self._receipts: list[Receipt] = []
        self._unanswered: Counter[Sent] = Counter()

    def note(self, receipt: Receipt) -> None:
        with self._lock:
            self._receipts.append(receipt)
            self._lock.notify_all()

    def will_not_answer(self, receipt: Receipt) -> None:
        with self._lock:
            self._unanswered[receipt.sent] += 1

    @property
    def receipts(self) -> list[Receipt]:
        with self._lock:
            return list(self._receipts)

    @property
    def unanswered(self) -> Counter[Sent]:
        with self._lock:
            return Counter(self._unanswered)

    @property
    def count(self) -> int:
        with self._lock:
            return len(self._receipts)

    def wait_for(self, count: int, limit: float) -> bool:
        """Whether at least `count` have come within `limit` seconds."""
        with self._lock:
            return self._lock.wait_for(lambda: len(self._receipts) >= count, limit)


class Receiver:
    """One receiver; the path of a target URL names the subscription.

    :param delay: seconds before an answer, from and to.
    """

    def __init__(self, notebook: Notebook, delay: tuple[float, float] = (0.015, 0.04)) -> None:
        self.delay = delay
        self.trouble: tuple[str, float, random.Random] | None = None
        self._notebook = notebook
        self._chance = random.Random(0)
        self._closing = threading.Event()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def making(self, what: str, part: float, chance: random.Random) -> Iterator[None]:
        """Make trouble, some of the time."""
        self.trouble = (what, part, chance)
        try:
            yield
        finally:
            self.trouble = None

    def close(self) -> None:
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._listener.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        self._open.add(connection)
        try:
            with connection, contextlib.suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                rest: bytes | None = b""
                while rest is not None:
                    rest = self._exchange(connection, rest)
        finally:
            self._open.discard(connection)

    def _exchange(self, connection: socket.socket, received: bytes) -> bytes | None:
        """One request and its answer; what was read beyond it, None when all is over."""
        while (end := received.find(b"\r\n\r\n")) < 0:
            more = connection.recv(65536)
            if not more:
                return None
            received += more
        first, *lines = received[:end].decode("latin-1").split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        stop = end + 4 + int(headers.get("content-length", "0"))
        while len(received) < stop:
            more = connection.recv(65536)
            if not more:
                return None
            received += more
        path = first.split(" ")[1]
        receipt = Receipt(path.strip("/"), headers, received[end + 4 : stop], time.time())
        now = receipt.at + self._notebook.clock_ahead
        if abs(int(headers["webhook-timestamp"]) - now) > TOLERANCE:
            connection.sendall(STALE)
            return received[stop:]
        trouble = self._trouble()
        if trouble is not None:
            self._notebook.will_not_answer(receipt)
        self._notebook.note(receipt)
        if self._closing.wait(self._chance.uniform(*self.delay)):
            return None
        if trouble is not None:
            _fail(connection, trouble)
            return None
        connection.sendall(OK)
        return received[stop:]

    def _trouble(self) -> str | None:
        if self.trouble is None:
            return None
        what, part, chance = self.trouble
        return what if chance.random() < part else None


def _fail(connection: socket.socket, trouble: str) -> None:
    if trouble == "reset":
        # To linger for no time is to reset.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    elif trouble == "half-close":
        connection.sendall(CUT)
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(5)
        while connection.recv(65536):
            pass
