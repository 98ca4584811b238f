"""Ground: names to addresses, before a deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any

Address = tuple[int, tuple[Any, ...]]
"""An address family, and an address of it."""


class Late(Exception):
    """The resolver did not answer in time."""


class Full(Exception):
    """Too many others' lookups hang: this one was not begun."""


class Lookups:
    """Asks a resolver that cannot be interrupted, and gives it up.

    `getaddrinfo` runs in a thread of its own, which is left behind if it hangs. Of one name no
    more than one hangs: who asks for it meanwhile waits for the same answer.

    :param limit: how many may hang.
    """

    def __init__(self, limit: int) -> None:
        self._room = threading.BoundedSemaphore(limit)
        self._lock = threading.Lock()
        self._going_on: dict[Hashable, Future[list[Address]]] = {}

    def find(
        self, name: Hashable, resolve: Callable[[], list[Address]], deadline: float
    ) -> list[Address]:
        """What `resolve` returns or raises.

        :param name: what is looked up.
        :param deadline: the `time.monotonic()` at which it is given up.
        :raises Late: if it takes longer.
        :raises Full: if it could not be begun until then.
        """
        outcome = self.begin(name, resolve, max(0.0, deadline - time.monotonic()))
        if outcome is None:
            raise Full
        done = threading.Event()
        outcome.add_done_callback(lambda _: done.set())
        if not done.wait(max(0.0, deadline - time.monotonic())):
            raise Late
        return outcome.result()

    def begin(
        self, name: Hashable, resolve: Callable[[], list[Address]], patience: float = 0.0
    ) -> Future[list[Address]] | None:
        """What will come of it; None if it cannot be begun.

        :param patience: seconds to wait for others' lookups to end, should too many hang.
        """
        with self._lock:
            outcome = self._going_on.get(name)
        if outcome is not None:
            return outcome
        if not self._room.acquire(timeout=patience):
            return None
        outcome = Future()

        def look_up() -> None:
            try:
                found = resolve()
            except BaseException as error:  # raised in the threads that wait
                self._end(name, outcome)
                outcome.set_exception(error)
            else:
                self._end(name, outcome)
                outcome.set_result(found)

        with self._lock:
            self._going_on[name] = outcome
        try:
            threading.Thread(target=look_up, name="resthooks-lookup", daemon=True).start()
        except RuntimeError:  # the system gives no more threads
            self._end(name, outcome)
            raise
        return outcome

    def _end(self, name: Hashable, outcome: Future[list[Address]]) -> None:
        with self._lock:
            if self._going_on.get(name) is outcome:
                del self._going_on[name]
        self._room.release()
