"""Ground: ends attempts whose time is over, whatever their thread is blocked in."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Any, Protocol

from .failures import Failed
from .idle import IdleConnections

WATCH_INTERVAL = 0.1
"""Seconds between two looks at the deadlines: by so much an attempt may overrun."""

IDLE_LIMIT = 30.0
"""Seconds after which a connection that nobody used is closed."""


class Watched(Protocol):
    """An attempt, as the watchdog sees it: when it ends, whether it has, and on what socket."""

    deadline: float
    expired: bool
    handle: socket.socket | None


class Watchdog:
    """A thread that looks at the clock.

    A socket's own timeout starts anew with every byte, so a receiver that drips could stretch an
    attempt without end. Shutting the connection down from another thread wakes the blocked one,
    in the handshake, while sending and while reading.

    :param idle: what is closed when it grows old.
    """

    def __init__(self, idle: IdleConnections[Any]) -> None:
        self._idle = idle
        self._lock = threading.Lock()
        self._attempts: set[Watched] = set()
        self._work = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="resthooks-watchdog", daemon=True)
        self._thread.start()

    def watch(self, attempt: Watched) -> None:
        with self._lock:
            self._attempts.add(attempt)
        if not self._work.is_set():
            self._work.set()

    def arm(self, attempt: Watched, handle: socket.socket | None) -> None:
        """Tell which connection the attempt is on now."""
        with self._lock:
            attempt.handle = handle
            if attempt.expired:
                raise Failed("timeout", "")

    def release(self, attempt: Watched) -> None:
        """From here on the attempt's connection is not touched any more."""
        with self._lock:
            self._attempts.discard(attempt)
            attempt.handle = None

    def stop(self) -> None:
        with self._lock:
            self._stopped.set()
            self._work.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(WATCH_INTERVAL):
            now = time.monotonic()
            self._idle.close_older_than(now - IDLE_LIMIT)
            with self._lock:
                for attempt in self._attempts:
                    if now >= attempt.deadline:
                        attempt.expired = True
                        if attempt.handle is not None:
                            with contextlib.suppress(OSError):  # it is down already
                                attempt.handle.shutdown(socket.SHUT_RDWR)
                if not self._attempts and not self._stopped.is_set():
                    self._work.clear()
            # With nothing in flight there is nothing to look at but connections that grow old.
            self._work.wait(IDLE_LIMIT)
