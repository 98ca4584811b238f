"""Ground: ends attempts whose time is over, whatever their thread is blocked in."""

from __future__ import annotations

import contextlib
import enum
import socket
import threading
import time
from typing import Any, Protocol

from urllib3.util.wait import wait_for_read, wait_for_write

from . import idle as idling
from .failures import Failed
from .idle import IdleConnections

WATCH_INTERVAL = 0.1
"""Seconds between two looks at the deadlines: by so much an attempt may overrun."""


class Stage(enum.Enum):
    """What a thread is about; it may have got further by the time that it is its turn again."""

    CONNECTING = enum.auto()
    SENDING = enum.auto()
    READING = enum.auto()
    OURS = enum.auto()


class Watched(Protocol):
    """An attempt, as the watchdog sees it: when it ends, whether it has, what it is about, and on
    what socket."""

    deadline: float
    expired: bool
    stage: Stage
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

    def count_waiting(self) -> int:
        """How many wait for the other side, and not for their turn in this process."""
        with self._lock:
            return sum(map(_waits, self._attempts))

    def stop(self) -> None:
        with self._lock:
            self._stopped.set()
            self._work.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(WATCH_INTERVAL):
            now = time.monotonic()
            self._idle.close_old()
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
            self._work.wait(idling.IDLE_LIMIT)


def _waits(attempt: Watched) -> bool:
    """What has come for it, and is not taken yet, it does not wait for."""
    stage, handle = attempt.stage, attempt.handle
    if stage is Stage.CONNECTING:
        return True
    if stage is Stage.OURS or handle is None:
        return False
    try:
        return not (wait_for_write if stage is Stage.SENDING else wait_for_read)(handle, 0)
    except (OSError, ValueError):  # it was closed meanwhile
        return False
