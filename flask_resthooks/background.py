"""Ground: something done in the background, once for however many ask for it meanwhile.

Who asks does not wait. The thread is made when it is needed, anew in a process that was forked, and
ends after a while of rest. A process that ends waits for what was asked for last, but not for long.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable

log = logging.getLogger(__name__)

REST = 30.0
"""Seconds without anything to do after which the thread ends."""


class Background:
    """Does one thing in a thread of its own.

    :param pause: seconds from the end of one time to the beginning of the next: whoever asks
        meanwhile is served by one time.
    :param exit_limit: seconds that the end of the process waits for what was asked for.
    """

    def __init__(
        self, act: Callable[[], None], *, name: str, pause: float, exit_limit: float
    ) -> None:
        self._act = act
        self._name = name
        self._pause = pause
        self.exit_limit = exit_limit
        self._begin()
        _all.add(self)

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._asked = self._served = 0

    def ask(self) -> None:
        """Have it done once more, from its beginning. Never waits."""
        if self._pid != os.getpid():
            self._begin()
        with self._changed:
            self._asked += 1
            if self._thread is not None:
                self._changed.notify_all()
                return
            self._thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
            try:
                self._thread.start()
                return
            except RuntimeError:  # no threads any more: the interpreter ends
                self._thread = None
                self._served = self._asked
        self._do()

    def wait(self, limit: float) -> bool:
        """Wait until all that was asked for is done, but no longer than so many seconds."""
        if self._pid != os.getpid():
            return True
        with self._changed:
            asked = self._asked
            return self._changed.wait_for(lambda: self._served >= asked, limit)

    def _serve(self) -> None:
        while True:
            with self._changed:
                if not self._changed.wait_for(lambda: self._asked > self._served, REST):
                    self._thread = None
                    return
                asked = self._asked
            self._do()
            with self._changed:
                self._served = asked
                self._changed.notify_all()
            time.sleep(self._pause)

    def _do(self) -> None:
        try:
            self._act()
        except Exception:
            log.exception("%s failed", self._name)


_all: weakref.WeakSet[Background] = weakref.WeakSet()


@atexit.register
def _wait_for_all() -> None:
    begun = time.monotonic()
    for one in list(_all):
        one.wait(max(begun + one.exit_limit - time.monotonic(), 0))
