"""Engine: one drain. Fan out, claim, send, settle, until nothing is due or the time is over.

The four go on side by side: while POSTs are in flight, what has come back is settled and more is
claimed, so that one slow receiver does not hold the others up. No transaction is open while a POST
is in flight.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import logging
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import sqlalchemy as sa

from . import formats, retry, signing
from ._version import __version__
from .outbox import Claim, Outbox, Outcome, Settled
from .settings import Settings
from .transport import MAX_DETAIL, Answer, Request, Transport

log = logging.getLogger(__name__)

USER_AGENT = f"flask-resthooks/{__version__}"

FAN_OUT = (100, 500)
"""Events that one fan-out takes on: the first one, and at most."""

FAN_OUT_DELIVERIES = 4000
"""Deliveries that one fan-out should make: the next one takes on fewer events if it was more."""

MAX_WINDOW = 1000
"""Deliveries that are claimed and not settled, at most."""

AHEAD = 0.5
"""Seconds of work that are claimed in advance, at the pace of the last settle."""

SLOW_SHARE = 2
"""A subscription that is not known to be fast gets one of so many parts of the POSTs in flight."""

SETTLE_PAUSE = 0.04
"""Seconds between two settles, so that each has many to settle."""

LOOK_PAUSE = 0.1
"""Seconds between two looks for more, when the last one found nothing."""

PATIENCE = 20.0
"""Seconds for which a drain tries to write down what was sent, while the lease lasts."""

LINGER = 2.0
"""A drain waits for what falls due within so many seconds; RQ's scheduler is not as exact."""


class Drain:
    """Works through everything that is due.

    :param transport: makes the POSTs; not closed by the drain.
    :param stopping: asked often; once it says True, nothing new is begun, what is in flight is
        settled, and the rest given back.
    :param settled: called after each settle is committed, with its outcomes and what it did.
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
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._outbox = outbox
        self._transport = transport
        self._settings = settings
        self._stopping = stopping
        self._settled = settled
        self._chance = chance
        self._key = functools.lru_cache(maxsize=4096)(signing.key_of)
        self._flying: dict[str, tuple[Claim, Future[Answer]]] = {}
        self._landed: deque[tuple[Claim, Future[Answer]]] = deque()
        self._landing = threading.Event()
        self._window = 2 * settings.concurrency
        self._look_at = 0.0
        self._settled_at = 0.0
        self._fan_out = FAN_OUT[0]
        self._of_subscription: Counter[str] = Counter()
        self._pace: dict[str, int] = {}
        self._held_back = False

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
        start = time.monotonic()
        room = self._window - len(self._flying)
        if start < self._look_at or 2 * room < self._window:
            return
        fan_out = self._fan_out
        events, deliveries = self._outbox.fan_out(fan_out, self._settings.retry_schedule[0])
        if deliveries > FAN_OUT_DELIVERIES:
            self._fan_out = max(1, events * FAN_OUT_DELIVERIES // deliveries)
        else:
            self._fan_out = min(2 * fan_out, FAN_OUT[1])
        claimed_at = time.monotonic()
        claims = self._claim(room, claimed_at)
        if claims and 2 * len(claims) < room:
            # Those who have their share now may have stood before others.
            claims += self._claim(room - len(claims), claimed_at)
        # More may be due of those that have their share: there is room once one has come back.
        self._held_back = any(self._share(id_) <= 0 for id_ in self._of_subscription)
        if events < fan_out and 2 * len(claims) < room:
            now = time.monotonic()
            self._look_at = now + max(LOOK_PAUSE, 4 * (now - start))

    def _claim(self, room: int, claimed_at: float) -> list[Claim]:
        lease = self._settings.lease
        full = [id_ for id_ in self._of_subscription if self._share(id_) <= 0]
        claims = self._outbox.claim(room, lease, share=self._share, full=full)
        self._send(claims, claimed_at + lease - self._settings.start_margin)
        return claims

    def _share(self, subscription_id: str) -> int:
        """How many more deliveries of a subscription may be claimed.

        One that answers fast may have all; one that does not leaves room for the others.
        """
        least = max(self._settings.concurrency // SLOW_SHARE, 1)
        most = max(least, self._pace.get(subscription_id, 0))
        return most - self._of_subscription[subscription_id]

    def _send(self, claims: list[Claim], start_before: float) -> None:
        bodies: dict[str, bytes] = {}
        for claim in claims:
            try:
                future = self._transport.submit(self._request(claim, bodies, start_before))
            except Exception as error:  # this one's own; the others are to be sent
                log.exception("the delivery %s cannot be sent", claim.delivery_id)
                future = Future()
                future.set_result(Answer(None, error="internal", detail=str(error)))
            self._flying[claim.delivery_id] = (claim, future)
            self._of_subscription[claim.subscription_id] += 1
            future.add_done_callback(functools.partial(self._land, claim))

    def _request(self, claim: Claim, bodies: dict[str, bytes], start_before: float) -> Request:
        event = claim.event
        body = bodies.get(event.id)
        if body is None:
            body = bodies[event.id] = formats.body(event)
        headers = formats.headers(
            event,
            body,
            key=self._key(claim.secret),
            timestamp=int(self._outbox.now().timestamp()),
            user_agent=USER_AGENT,
        )
        return Request(claim.target_url, headers, body, start_before=start_before)

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
            self._of_subscription[claim.subscription_id] -= 1
            answer = None if future.cancelled() else future.result()
            if answer is None or not answer.started:
                unsent.append(claim)
            else:
                outcomes.append(self._outcome(claim, answer))
        if outcomes:
            settled = self._write_down(outcomes)
            late = len(outcomes) - len(settled.held)
            if late:
                log.warning("%d attempts came back after their lease; they were recorded", late)
            self._settled(outcomes, settled)
        if unsent:
            self._persist(self._outbox.give_back, unsent)
        self._of_subscription += Counter()  # drops those that have none in flight
        now = time.monotonic()
        ahead = AHEAD / max(now - self._settled_at, SETTLE_PAUSE)
        self._window = min(
            max(int(len(outcomes) * ahead), 2 * self._settings.concurrency), MAX_WINDOW
        )
        came_back = Counter(outcome.claim.subscription_id for outcome in outcomes)
        self._pace = {id_: int(2 * count * ahead) for id_, count in came_back.items()}
        self._settled_at = now
        if self._held_back and outcomes:
            self._look_at = 0.0

    def _outcome(self, claim: Claim, answer: Answer) -> Outcome:
        now = self._outbox.now()
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
            detail=_storable(answer.detail)[:MAX_DETAIL],
            response=_storable(answer.body.decode("utf-8", "replace")),
            reason=decision.reason,
            next_at=None if decision.delay is None else now + dt.timedelta(seconds=decision.delay),
            disable=decision.reason if decision.gone else None,
        )

    def _write_down(self, outcomes: list[Outcome]) -> Settled:
        """Settle; without the receivers' texts, if these cannot be stored."""
        try:
            settled: Settled = self._persist(self._outbox.settle, outcomes)
        except sa.exc.DataError:
            log.exception("what came back cannot be stored; it is settled without its texts")
            bare = [dataclasses.replace(outcome, detail="", response="") for outcome in outcomes]
            settled = self._persist(self._outbox.settle, bare)
        return settled

    def _persist(self, act: Callable[[Any], Any], what: Any) -> Any:
        """Write to the database, again if it is away: what was sent should be known as sent.

        Not for longer than the lease has room for: then it is sent again, by whoever claims it.
        """
        patience = min(self._settings.lease - self._settings.start_margin, PATIENCE)
        until = time.monotonic() + patience
        pause = 0.05
        while True:
            try:
                return act(what)
            except (sa.exc.OperationalError, sa.exc.InterfaceError) as error:
                if time.monotonic() + pause > until:
                    raise
                log.warning("the database did not take what was sent (%s); again", error.orig)
                time.sleep(pause)
                pause = min(2 * pause, 2.0)

    def _worth_waiting(self) -> bool:
        """Wait a moment if something falls due soon; False if nothing does."""
        due = self._outbox.next_due()
        if due is None:
            return False
        pause = (due - self._outbox.now()).total_seconds()
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


def _storable(text: str) -> str:
    """PostgreSQL stores no NUL; and no text should hold lone surrogates."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
