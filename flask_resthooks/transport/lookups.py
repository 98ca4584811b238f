"""Ground: names to addresses, before a deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

Address = tuple[int, tuple[Any, ...]]
"""An address family, and an address of it."""


class Late(Exception):
    """The resolver did not answer in time."""


class Lookups:
    """Asks a resolver that cannot be interrupted, and gives it up.

    `getaddrinfo` runs in a thread of its own, which is left behind if it hangs.

    :param limit: how many may hang.
    """

    def __init__(self, limit: int) -> None:
        self._room = threading.BoundedSemaphore(limit)

    def find(self, resolve: Callable[[], list[Address]], deadline: float) -> list[Address]:
        """What `resolve` returns or raises.

        :param deadline: the `time.monotonic()` at which it is given up.
        :raises Late: if it takes longer.
        """
        if not self._room.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise Late
        outcome: Future[list[Address]] = Future()

        def look_up() -> None:
            try:
                outcome.set_result(resolve())
            except BaseException as error:  # raised in the thread that waits
                outcome.set_exception(error)
            finally:
                self._room.release()

        try:
            threading.Thread(target=look_up, name="resthooks-lookup", daemon=True).start()
        except RuntimeError:  # the system gives no more threads
            self._room.release()
            raise
        done = threading.Event()
        outcome.add_done_callback(lambda _: done.set())
        if not done.wait(max(0.0, deadline - time.monotonic())):
            raise Late
        return outcome.result()
