"""Engine: hands requests to the transport, as many as may be in flight.

claim ──► **dispatch** ──► transport ──► landed

Which one is next is decided by `lanes.py`; the decision is made wherever a place becomes free, in
the transport's threads as well.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from .lanes import Lanes, Pace
from .outbox import Claim
from .transport import Answer, Request, Transport

log = logging.getLogger(__name__)

Landed = Callable[[Claim, Answer], None]


class Dispatcher:
    """The requests of one drain.

    :param lanes: empty.
    :param landed: called with each answer, in any thread.
    """

    def __init__(self, transport: Transport, lanes: Lanes, landed: Landed) -> None:
        self._transport = transport
        self._landed = landed
        self._lock = threading.Lock()
        self._lanes = lanes
        self._waiting: dict[str, tuple[Claim, Request]] = {}
        self._pumping = threading.local()

    def add(self, claim: Claim, request: Request) -> None:
        """Have a request sent when its turn comes; `pump` begins what may begin."""
        with self._lock:
            self._waiting[claim.delivery_id] = (claim, request)
            now = time.monotonic()
            self._lanes.add(claim.delivery_id, claim.subscription_id, claim.host, now)

    def pump(self) -> None:
        """Begin whatever may begin."""
        if getattr(self._pumping, "now", False):
            return  # an answer that came at once: the loop below goes on by itself
        self._pumping.now = True
        try:
            while (begun := self._begin()) is not None:
                self._submit(*begun)
        finally:
            self._pumping.now = False

    def review(self) -> None:
        """See which receivers have become slow, and begin what that leaves room for."""
        with self._lock:
            self._lanes.review(time.monotonic())
        self.pump()

    def withdraw(self, wanted: Callable[[Claim], bool] = lambda claim: True) -> list[Claim]:
        """Take back those claims that were not begun and for which `wanted` is true."""
        with self._lock:
            return self._take_back(lambda item: wanted(self._waiting[item][0]))

    def withdraw_surplus(self, most: int) -> list[Claim]:
        """Take back what waits for slow receivers, beyond `most` of all that goes to such."""
        with self._lock:
            surplus = set(self._lanes.surplus(most))
            return self._take_back(surplus.__contains__) if surplus else []

    def pace(self, subscription_id: str, host: str) -> Pace:
        """How a receiver is known."""
        with self._lock:
            return self._lanes.pace(subscription_id, host, time.monotonic())

    def limit(self, pace: Pace) -> int:
        """How many POSTs may be in flight to a receiver that is known like that."""
        return self._lanes.limit(pace)

    @property
    def slow(self) -> int:
        """How many claims wait for, or are in flight to, slow receivers."""
        with self._lock:
            return self._lanes.slow

    def _begin(self) -> tuple[Claim, Request] | None:
        with self._lock:
            item = self._lanes.begin(time.monotonic())
            return None if item is None else self._waiting.pop(item)

    def _submit(self, claim: Claim, request: Request) -> None:
        try:
            future = self._transport.submit(request)
            if not isinstance(future, Future):
                raise TypeError(f"it gave {type(future).__name__}, and no Future")
        except Exception as error:  # no thread to be had, or one's own transport
            log.exception("the delivery %s was not taken by the transport", claim.delivery_id)
            future = Future()
            future.set_result(Answer(None, error="internal", detail=ours(error)))
        future.add_done_callback(lambda done: self._land(claim, done))

    def _land(self, claim: Claim, future: Future[Answer]) -> None:
        try:
            answer = future.result()
            if not isinstance(answer, Answer):
                raise TypeError(f"it gave {type(answer).__name__}, and no Answer")
        except BaseException as error:  # a transport that breaks its promise
            log.error("the transport failed", exc_info=error)
            answer = Answer(None, error="internal", detail=ours(error))
        with self._lock:
            self._lanes.end(claim.delivery_id, time.monotonic())
        # In this order: when all have landed, nobody is about to begin anything.
        self.pump()
        self._landed(claim, answer)

    def _take_back(self, wanted: Callable[[str], bool]) -> list[Claim]:
        return [self._waiting.pop(item)[0] for item in self._lanes.withdraw(wanted)]


def ours(error: BaseException) -> str:
    """The detail of an attempt that could not be made: the rest is not for the receiver's owner."""
    return f"an error of ours ({type(error).__name__}); the worker's log says more"
