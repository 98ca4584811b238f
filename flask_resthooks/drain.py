"""Engine: one drain. Fan out, claim, send, settle, until nothing is due or the time is over.

The four go on side by side: while POSTs are in flight, what has come back is settled and more is
claimed, so that one slow receiver does not hold the others up. No transaction is open while a POST
is in flight.
"""

from __future__ import annotations

import datetime as dt
import functools
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import sqlalchemy as sa

from . import formats, retry, signing
from ._version import __version__
from .models import utcnow
from .outbox import Claim, Outbox, Outcome, Settled
from .settings import Settings
from .transport import Answer, Request, Transport

log = logging.getLogger(__name__)

USER_AGENT = f"flask-resthooks/{__version__}"

FAN_OUT = 500
"""Events that one fan-out takes on."""

MAX_WINDOW = 1000
"""Deliveries that are claimed and not settled, at most."""

AHEAD = 0.5
"""Seconds of work that are claimed in advance, at the pace of the last settle."""

SETTLE_PAUSE = 0.04
"""Seconds between two settles, so that each has many to settle."""

LOOK_PAUSE = 0.1
"""Seconds between two looks for more, when the last one found nothing."""

LINGER = 2.0
"""A drain waits for what falls due within so many seconds; RQ's scheduler is not as exact."""


class Drain:
    """Works through everything that is due.

    :param transport: makes the POSTs; not closed by the drain.
    :param stopping: asked often; once it says True, nothing new is begun, what is in flight is
        settled, and the rest given back.
    :param settled: called after each settle is committed, with its outcomes and what it did.
    :param clock: tells the time, aware.
    :param chance: a random number from 0 up to 1, for the jitter.
    """

    def __init__(
        self,
        outbox: Outbox,
        transport: Transport,
        settings: Settings,
        *,
        stopping: Callable[[], bool] = lambda: False,
        settled: Callable[[list[Outcome], Settled], None] = lambda outcomes, settled: None,
        clock: Callable[[], dt.datetime] = utcnow,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._outbox = outbox
        self._transport = transport
        self._settings = settings
        self._stopping = stopping
        self._settled = settled
        self._clock = clock
        self._chance = chance
        self._key = functools.lru_cache(maxsize=4096)(signing.key_of)
        self._flying: dict[str, tuple[Claim, Future[Answer]]] = {}
        self._landed: deque[tuple[Claim, Future[Answer]]] = deque()
        self._landing = threading.Event()
        self._window = 2 * settings.concurrency
        self._look_at = 0.0
        self._settled_at = 0.0

    def run(self, time_slice: float) -> dt.datetime | None:
        """Drain, for about `time_slice` seconds at most (and the length of an attempt).

        :returns: when there will be something to do again; None if nothing is waiting.
        """
        end = time.monotonic() + time_slice
        try:
            while not self._stopping() and time.monotonic() < end:
                self._take_on()
                if self._flying:
                    self._wait()
                    self._settle()
                elif not self._worth_waiting():
                    break
        finally:
            self._wind_down()
        return self._outbox.next_due()

    def _take_on(self) -> None:
        """Fan out and claim, as far as there is room."""
        room = self._window - len(self._flying)
        if time.monotonic() < self._look_at or 2 * room < self._window:
            return
        fanned_out = self._outbox.fan_out(FAN_OUT)
        claimed_at = time.monotonic()
        claims = self._outbox.claim(room, self._settings.lease)
        self._send(claims, claimed_at + self._settings.lease - self._settings.start_margin)
        if fanned_out < FAN_OUT and len(claims) < room:
            self._look_at = time.monotonic() + LOOK_PAUSE

    def _send(self, claims: list[Claim], start_before: float) -> None:
        bodies: dict[str, bytes] = {}
        for claim in claims:
            event = claim.event
            body = bodies.get(event.id)
            if body is None:
                body = bodies[event.id] = formats.body(event)
            headers = formats.headers(
                event,
                body,
                key=self._key(claim.secret),
                timestamp=int(self._clock().timestamp()),
                user_agent=USER_AGENT,
            )
            future = self._transport.submit(
                Request(claim.target_url, headers, body, start_before=start_before)
            )
            self._flying[claim.delivery_id] = (claim, future)
            future.add_done_callback(functools.partial(self._land, claim))

    def _land(self, claim: Claim, future: Future[Answer]) -> None:
        """Called in the transport's threads."""
        self._landed.append((claim, future))
        self._landing.set()

    def _wait(self) -> None:
        """Until something has come back; and then until it is worth a transaction."""
        self._landing.wait(LOOK_PAUSE)
        pause = self._settled_at + SETTLE_PAUSE - time.monotonic()
        if pause > 0 and len(self._landed) < len(self._flying):
            time.sleep(pause)

    def _settle(self) -> None:
        """Settle what has come back; what was never begun is given back."""
        self._landing.clear()
        outcomes: list[Outcome] = []
        unsent: list[Claim] = []
        for _ in range(len(self._landed)):
            claim, future = self._landed.popleft()
            del self._flying[claim.delivery_id]
            answer = None if future.cancelled() else future.result()
            if answer is None or not answer.started:
                unsent.append(claim)
            else:
                outcomes.append(self._outcome(claim, answer))
        if outcomes:
            settled = self._persist(self._outbox.settle, outcomes)
            late = len(outcomes) - len(settled.held)
            if late:
                log.warning("%d attempts came back after their lease; they were recorded", late)
            self._settled(outcomes, settled)
        if unsent:
            self._persist(self._outbox.give_back, unsent)
        now = time.monotonic()
        pace = len(outcomes) / max(now - self._settled_at, SETTLE_PAUSE)
        self._window = min(max(int(pace * AHEAD), 2 * self._settings.concurrency), MAX_WINDOW)
        self._settled_at = now

    def _outcome(self, claim: Claim, answer: Answer) -> Outcome:
        now = self._clock()
        decision = retry.decide(
            answer.status,
            attempts=claim.number,
            schedule=self._settings.retry_schedule,
            jitter=self._settings.retry_jitter,
            chance=self._chance(),
        )
        return Outcome(
            claim,
            decision.status,
            started_at=now - dt.timedelta(seconds=answer.duration),
            duration=answer.duration,
            status_code=answer.status,
            error=answer.error,
            detail=answer.detail,
            response=answer.body.decode("utf-8", "replace").replace("\0", "\ufffd"),
            reason=decision.reason,
            next_at=None if decision.delay is None else now + dt.timedelta(seconds=decision.delay),
            disable=decision.reason if decision.gone else None,
        )

    def _persist(self, act: Callable[[Any], Any], what: Any) -> Any:
        """Write to the database, again if it fails: what was sent should be known as sent.

        Not for longer than the lease has room for: then it is sent again, by whoever claims it.
        """
        until = time.monotonic() + self._settings.lease - self._settings.start_margin
        pause = 0.05
        while True:
            try:
                return act(what)
            except sa.exc.DBAPIError:
                if time.monotonic() + pause > until:
                    raise
                log.warning("the database did not take what was sent; again", exc_info=True)
                time.sleep(pause)
                pause = min(2 * pause, 2.0)

    def _worth_waiting(self) -> bool:
        """Wait a moment if something falls due soon; False if nothing does."""
        due = self._outbox.next_due()
        if due is None:
            return False
        pause = (due - self._clock()).total_seconds()
        if pause > LINGER:
            return False
        time.sleep(min(max(pause, SETTLE_PAUSE), LOOK_PAUSE))
        self._look_at = 0.0
        return True

    def _wind_down(self) -> None:
        """Wait for what is in flight and settle it; give the rest back."""
        for _claim, future in list(self._flying.values()):
            future.cancel()
        while self._flying:
            self._landing.wait(LOOK_PAUSE)
            self._settle()
