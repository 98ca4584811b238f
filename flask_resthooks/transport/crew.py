"""Ground: threads that do what is handed to them, as few as it takes.

Python runs one thread at a time. While receivers answer at once, it is Python that takes the time,
and more than a few threads only get into each other's way; while receivers keep their senders
waiting, each of these needs a thread of its own. Nobody can tell beforehand which it will be, so it
is looked at while there is work. (What the process takes of a processor would not tell: on a busy
machine it is little either way.)
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

FEW = 4
"""Threads that may be at work in any case."""

LOOK_INTERVAL = 0.03
"""Seconds between two looks."""

Work = TypeVar("Work")
Outcome = TypeVar("Outcome")


class Crew(Generic[Work, Outcome]):
    """Does one thing after the other, in the order in which they were handed in, several at a time.

    How many at a time begins with `FEW`, and is looked at while something waits for its turn: it
    doubles if most of those at work wait for somebody, and goes down by an eighth if few do.
    Threads that are not needed sleep.

    :param do: does it, in a thread.
    :param idlers: tells how many of those at work wait for somebody else, outside of Python.
    :param most: at a time.
    :param name: of the threads.
    """

    def __init__(
        self,
        do: Callable[[Work], Outcome],
        idlers: Callable[[], int],
        most: int,
        name: str,
    ) -> None:
        self._do = do
        self._idlers = idlers
        self._most = most
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Work, Future[Outcome]]] = deque()
        self._orders: set[object] = set()  # one for each thread at work, or called to it
        self._closed = False
        self._pressed = threading.Event()
        self._stopped = threading.Event()
        self._threads = ThreadPoolExecutor(most, thread_name_prefix=name)
        self._foreman = threading.Thread(target=self._look_after, name=f"{name}-foreman")
        self._foreman.daemon = True
        self.limit = min(FEW, most)
        self._foreman.start()

    def submit(self, work: Work) -> Future[Outcome]:
        """Have it done as soon as its turn comes.

        :raises RuntimeError: after `close`, and if the system gives no thread.
        """
        future: Future[Outcome] = Future()
        item = (work, future)
        with self._lock:
            if self._closed:
                raise RuntimeError("this transport is closed")
            self._waiting.append(item)
            if len(self._orders) < self.limit:
                try:
                    self._send_in()
                except RuntimeError:
                    # Whoever is at work will come to it; if nobody is, nobody will.
                    if not self._orders:
                        self._waiting.remove(item)
                        raise
            elif self.limit < self._most or self.limit > FEW:
                self._pressed.set()
        return future

    def close(self) -> None:
        """Cancel what has not started, and wait for what has."""
        with self._lock:
            self._closed = True
            waiting = list(self._waiting)
            self._waiting.clear()
            self._stopped.set()
            self._pressed.set()
        for _, future in waiting:
            future.cancel()
        self._threads.shutdown()
        self._foreman.join()

    def _send_in(self) -> None:
        """Call one more to work.

        :raises RuntimeError: if the system gives no thread.
        """
        order = object()
        self._orders.add(order)
        try:
            self._threads.submit(self._work, order)
        except RuntimeError:
            # The executor has kept it all the same, for a thread that may come: it is void by then.
            self._orders.remove(order)
            raise

    def _work(self, order: object) -> None:
        while True:
            with self._lock:
                if order not in self._orders:
                    return
                if not self._waiting or len(self._orders) > self.limit:
                    self._orders.remove(order)
                    return
                work, future = self._waiting.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                outcome = self._do(work)
            except BaseException as error:  # raised where it is waited for
                future.set_exception(error)
            else:
                future.set_result(outcome)

    def _look_after(self) -> None:
        while True:
            self._pressed.wait()
            while self._pressed.is_set():
                if self._stopped.wait(LOOK_INTERVAL):
                    return
                self._decide(self._idlers())

    def _decide(self, idlers: int) -> None:
        with self._lock:
            active = len(self._orders)
            if self._closed:
                return  # it stays pressed: the foreman is to see that it is over
            if not self._waiting:
                self._pressed.clear()
            elif 4 * idlers < active:
                self.limit = max(min(FEW, self._most), self.limit - max(1, self.limit // 8))
            elif 2 * idlers > active:
                self.limit = min(self._most, 2 * self.limit)
                room = self.limit - active
                try:
                    for _ in range(min(room, len(self._waiting))):
                        self._send_in()
                except RuntimeError:  # the system gives no more threads: so many it is
                    self.limit = max(FEW, len(self._orders))
