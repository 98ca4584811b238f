"""Ground: something done in the background, once for however many ask for it meanwhile.

Who asks does not wait. The thread is made when it is needed, anew in a process that was forked, and
ends after a while of rest. A process that ends waits for what was asked for last, but not for long.
Where there can be no thread, who asks does it: once, and what is short.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)

REST = 30.0
"""Seconds without anything to do after which the thread ends."""


class Background:
    """Does one thing in a thread of its own.

    :param pause: seconds from the end of one time to the beginning of the next: whoever asks
        meanwhile is served by one time.
    :param exit_limit: seconds that the end of the process waits for what was asked for.
    :param at_once: what is done instead where there can be no thread, by whoever asks, who waits
        for it; the same if it is not given.
    """

    def __init__(
        self,
        act: Callable[[], None],
        *,
        name: str,
        pause: float,
        exit_limit: float,
        at_once: Callable[[], None] | None = None,
    ) -> None:
        self._act = act
        self._at_once = act if at_once is None else at_once
        self._name = name
        self._pause = pause
        self.exit_limit = exit_limit
        self._begin()
        _all.add(self)

    def _begin(self) -> None:
        lock = threading.RLock()
        self._changed = threading.Condition(lock)
        # Who waits cuts the pause short; who asks does not even disturb it.
        self._hurried = threading.Condition(lock)
        self._thread: threading.Thread | None = None
        self._asked = self._served = self._waited = 0
        self._pid = os.getpid()

    def ask(self) -> None:
        """Have it done once more, from its beginning.

        Never waits, unless the process ends, or there can be no thread.
        """
        if self._pid != os.getpid():  # forked by who tells Python nothing of it
            with _beginning:
                if self._pid != os.getpid():
                    self._begin()
        _wait_at_the_end_of_a_child()
        if _threads_run() and self._ask_thread():
            if _ending:
                self.wait(self.exit_limit)
            return
        asked = self._asked
        self._do(self._at_once)
        self._serve_until(asked)

    def _ask_thread(self) -> bool:
        """Whether there is one to ask."""
        with self._changed:
            self._asked += 1
            if self._thread is not None and self._thread.is_alive():
                self._changed.notify_all()
                return True
            self._thread = threading.Thread(
                target=self._serve, args=(os.getpid(),), name=self._name, daemon=True
            )
            try:
                self._thread.start()
            except RuntimeError:  # no threads any more: a limit, or the interpreter ends
                self._thread = None
                return False
            except BaseException:  # Ctrl-C, the timeout of a job: the next one tries again
                self._thread = None
                raise
            return True

    def wait(self, limit: float) -> bool:
        """Wait until all that was asked for is done, but no longer than so many seconds."""
        if self._pid != os.getpid():
            return True
        with self._changed:
            asked = self._waited = self._asked
            self._hurried.notify_all()
            return self._changed.wait_for(lambda: self._served >= asked, limit)

    def _serve(self, pid: int) -> None:
        me = threading.current_thread()

        def is_ours() -> bool:
            # With gevent, the "threads" of a process go on in what is forked from it.
            return self._thread is me and os.getpid() == pid

        with self._changed:
            if self._thread is None and self._pid == pid:
                self._thread = me  # whoever made it was interrupted before it began
        try:
            while is_ours():
                with self._changed:
                    found = self._changed.wait_for(lambda: self._asked > self._served, REST)
                    if not is_ours():
                        return
                    if not found:
                        self._thread = None
                        return
                    asked = self._asked
                self._do(self._act)
                if not is_ours():
                    return
                self._serve_until(asked)
                with self._changed:
                    self._hurried.wait_for(lambda: self._waited > self._served, self._pause)
        finally:
            with self._changed:
                if self._thread is me:
                    self._thread = None

    def _serve_until(self, asked: int) -> None:
        with self._changed:
            self._served = max(self._served, asked)
            self._changed.notify_all()

    def _do(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception:
            log.exception("%s failed", self._name)


def _threads_run() -> bool:
    """Whether a thread gets its turn while its process waits for the next request.

    uWSGI keeps the interpreter for itself meanwhile, unless it was told that there are threads.
    """
    uwsgi: Any = sys.modules.get("uwsgi")
    if uwsgi is None:
        return True
    options = getattr(uwsgi, "opt", {})
    names = ("enable-threads", "threads")
    return any(options.get(name) or options.get(name.encode()) for name in names)


def _is_child() -> bool:
    process: Any = sys.modules.get("multiprocessing.process")
    return process is not None and process.parent_process() is not None


_told = 0 if _is_child() else os.getpid()
"""The process whose end is known to wait for what was asked for."""


def _wait_at_the_end_of_a_child() -> None:
    """For those of `multiprocessing` and of Celery: they end without `atexit`."""
    global _told
    if _told == os.getpid():
        return
    _told = os.getpid()
    for name in ("multiprocessing.util", "billiard.util"):
        util: Any = sys.modules.get(name)
        if util is not None:
            util.Finalize(None, wait_for_all, exitpriority=0)


_all: weakref.WeakSet[Background] = weakref.WeakSet()


_beginning = threading.Lock()
_ending = False


def _begin_all() -> None:
    """In a process that was just forked: nothing of the threads and locks is there any more."""
    global _beginning, _ending
    _beginning = threading.Lock()
    _ending = False
    for one in list(_all):
        one._begin()


os.register_at_fork(after_in_child=_begin_all)


@atexit.register
def wait_for_all() -> None:
    """Wait for what was asked for, but not for long; whoever asks from now on waits as well."""
    global _ending
    _ending = True
    begun = time.monotonic()
    for one in list(_all):
        one.wait(max(begun + one.exit_limit - time.monotonic(), 0))
