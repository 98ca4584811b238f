"""Engine: one drain. Fan out, claim, send, settle, until nothing is due or the time is over.

The four go on side by side: while POSTs are in flight, more is claimed, and in threads beside it
what has come back is settled and what happened is fanned out. So no slow receiver holds the others
up, and the database works while requests are made. No transaction is open while a POST is in
flight.
"""

from __future__ import annotations

import datetime as dt
import logging
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from concurrent import futures
from typing import TypeVar

import sqlalchemy as sa

from .beside import beside
from .composing import Composer
from .dispatch import Dispatcher, ours
from .fanning import FanningOut
from .intents import Intent
from .judging import Judge
from .lanes import Lanes
from .models import EVENT
from .outbox import EVERYBODY, UNREADABLE, Claim, Outbox, Outcome, Settled, Sight
from .posting import Permit, Poster
from .recording import PATIENCE, Recorder
from .settings import Settings
from .transport import Answer, Transport
from .vault import Vault
from .window import SHORTEST, Window

log = logging.getLogger(__name__)

REVIEW_PAUSE = 0.2
"""Seconds between two looks which receivers are slow."""

PROBE_MARGIN = 5.0
"""Seconds beyond an attempt's longest that others wait for what comes of a probe."""

NEVER = sys.maxsize

LEFT_PARTS = 8
"""Of so many parts of what is on its way all but one are worth a settle, and a claim."""

TICK = 0.01
"""Seconds that a drain waits at least for more, when something has come back."""

SEND_PAUSE = 0.5
"""Seconds for which nothing is settled while claims are sent, which may have to be asked for."""

RECALL_PAUSE = 1.0
"""Seconds between two looks whether what waits for its turn is still wanted."""

LOOK_PAUSE = 0.1
"""Seconds between two looks for more, when the last one found nothing."""

FRESH = 120.0
"""Seconds after its claim by which an attempt must have begun: receivers take a timestamp that is
some minutes old for a replay."""

LINGER = 2.0
"""A drain waits for what falls due within so many seconds; RQ's scheduler is not as exact."""


TRIES, TRY_PAUSE = 3, 0.08
"""How often what ends in a deadlock is done, and seconds between two tries."""

Result = TypeVar("Result")


class Drain:
    """Works through everything that is due.

    :param transport: makes the POSTs; not closed by the drain.
    :param stopping: asked often; once it says True, nothing new is begun, what is in flight is
        settled, and the rest given back.
    :param settled: called after each settle is committed, with its outcomes and what it did.
    :param permit: asked of each claim before it is sent: whether its owner may still be told.
    :param sight: which owners see which event types.
    :param intent: how receivers are asked whether they want to be called.
    :param thin_types: names of the event types whose hooks are thin, whatever is asked for.
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
        vault: Vault | None = None,
        intent: Intent | None = None,
        permit: Permit | None = None,
        sight: Sight = EVERYBODY,
        thin_types: Collection[str] = (),
    ) -> None:
        self._outbox = outbox
        self._settings = settings
        self._stopping = stopping
        self._settled = settled
        self._chance = chance
        self._sight = sight
        composer = Composer(settings, vault or Vault(), intent, thin_types)
        self._judge = Judge(settings, intent, composer.handshake)
        lanes = Lanes(settings.concurrency, settings.host_concurrency)
        self._dispatcher = Dispatcher(transport, lanes, self._land)
        self._window = Window(self._dispatcher, 2 * settings.concurrency)
        self._recorder = Recorder(outbox, settings)
        self._poster = Poster(
            settings,
            composer,
            self._window,
            self._dispatcher,
            self._recorder,
            permit=permit,
            intent=intent,
            landed=self._land,
            between=self._settle_if_late,
        )
        self._beside = beside(outbox)
        self._fanning_out = FanningOut(self._beside, self._fan_out, self._stir)
        self._settling: tuple[list[Outcome], futures.Future[Settled]] | None = None
        # What came back: an answer, None (it was not begun), or why no request could be made.
        self._landed: deque[tuple[Claim, Answer | str | None]] = deque()
        self._enough = 1
        self._stirred = threading.Event()
        self._reviewed_at = 0.0
        self._look_at = 0.0
        self._recalled_at = time.monotonic()
        self._held_back = False
        self._exhausted = False
        self._expired = False

    def run(self, time_slice: float) -> dt.datetime | None:
        """Drain, for about `time_slice` seconds at most (and the length of an attempt).

        :returns: when there will be something to do again; None if nothing is waiting.
        """
        end = time.monotonic() + time_slice
        try:
            while not self._stopping() and time.monotonic() < end:
                self._take_on()
                self._expire_once()
                if self._window:
                    self._wait()
                    self._settle()
                    self._review()
                    self._recall()
                elif not self._worth_waiting():
                    break
        finally:
            with self._beside:
                self._wind_down()
        return self._outbox.next_due()

    def _expire_once(self) -> None:
        """Have subscriptions expire; not before the first look for what is to be sent, which asks
        of each whether its time is over."""
        if not self._expired:
            self._expired = True
            self._aside(self._outbox.expire, 0)

    def _take_on(self) -> None:
        """Fan out and claim, as far as there is room."""
        start = time.monotonic()
        room = self._window.room
        if start < self._look_at or 2 * room < self._window.size:
            return
        goes_on, more = self._fanning_out.some(wait=not self._window)
        if goes_on and self._exhausted:
            return  # until something is fanned out
        claimed_at = time.monotonic()
        claims = self._claim(room, claimed_at)
        if claims and 2 * len(claims) < room:
            # Those who have their share now may have stood before others.
            claims += self._claim(room - len(claims), claimed_at)
        self._exhausted = 2 * len(claims) < room
        # More may be due of those that have their share: there is room once one has come back.
        self._held_back = bool(self._window.full())
        released = 0
        if self._exhausted:  # what is new comes before what was missed
            released = self._aside(lambda: self._outbox.recover(self._sight), 0)
        if not more and self._exhausted and not released:
            now = time.monotonic()
            self._look_at = now + max(LOOK_PAUSE, 4 * (now - start))

    def _stir(self, _: object = None) -> None:
        """There is something to look at, which `_wait` waits for. Called in other threads, too."""
        if not self._stirred.is_set():
            self._stirred.set()

    def _fan_out(self, limit: int) -> tuple[int, int]:
        delay = self._settings.retry_schedule[0]
        return self._aside(lambda: self._outbox.fan_out(limit, delay, self._sight), (0, 0))

    def _claim(self, room: int, claimed_at: float) -> list[Claim]:
        lease, probe = self._settings.lease, self._settings.timeout + PROBE_MARGIN
        full = self._window.full()
        claims = self._again(
            lambda: self._outbox.claim(
                room, lease, probe=probe, share=self._window.share, full=full
            )
        )
        # What waits for its turn for long would be stale: its signature tells the time.
        start_before = claimed_at + min(lease - self._settings.start_margin, FRESH)
        self._poster.post(claims, int(self._outbox.now().timestamp()), start_before)
        return claims

    def _review(self) -> None:
        """See who is slow, and take back what waits for such where others could be claimed."""
        now = time.monotonic()
        if now - self._reviewed_at < REVIEW_PAUSE:
            return
        self._reviewed_at = now
        self._dispatcher.review()
        self._take_back(self._dispatcher.withdraw_surplus(self._window.slow))

    def _recall(self) -> None:
        """Take back what is not on its way yet and whose subscription was switched off."""
        now = time.monotonic()
        if now - self._recalled_at < RECALL_PAUSE or len(self._window) < 2:
            return
        self._recalled_at = now
        events = [claim for claim in self._window.claims if claim.kind == EVENT]
        unwanted = self._outbox.unwanted({claim.subscription_id for claim in events})
        if unwanted:
            self._take_back(
                self._dispatcher.withdraw(
                    lambda claim: claim.kind == EVENT and claim.subscription_id in unwanted
                )
            )

    def _take_back(self, claims: Collection[Claim]) -> None:
        for claim in claims:
            self._land(claim, None)

    def _land(self, claim: Claim, answer: Answer | str | None) -> None:
        """Called in the transport's threads, too."""
        self._landed.append((claim, answer))
        if len(self._landed) >= self._enough:
            self._stir()

    def _wait(self) -> None:
        """Until nearly all has come back, or something was settled or fanned out; not for long.

        Meanwhile nothing is done here: two threads of Python that work at the same time take each
        other's turns, at the price of some.
        """
        if self._settling is not None:
            self._enough = NEVER
            self._stirred.wait(LOOK_PAUSE)
        else:
            self._enough = max(len(self._window) - len(self._window) // LEFT_PARTS, 1)
            if len(self._landed) < self._enough:
                pause = self._window.settled_at + SHORTEST - time.monotonic()
                self._stirred.wait(max(pause, TICK) if self._landed else LOOK_PAUSE)
        self._stirred.clear()

    def _settle(self) -> None:
        """Have what has come back settled, if it is worth a transaction; what was never begun is
        given back. What comes back during a settle is for the next one."""
        if self._settling is not None and not self._note_settled():
            return
        early = time.monotonic() < self._window.settled_at + SHORTEST
        if early and len(self._landed) < self._enough:
            return
        outcomes: list[Outcome] = []
        unsent: list[Claim] = []
        now = self._outbox.now()
        for _ in range(len(self._landed)):
            claim, answer = self._landed.popleft()
            if answer is None or (isinstance(answer, Answer) and not answer.started):
                self._window.remove(claim)
                unsent.append(claim)
            elif (outcome := self._judged(claim, answer, now)) is not None:
                outcomes.append(outcome)
        if outcomes:
            settling = self._beside.submit(self._recorder.settle, outcomes)
            self._settling = outcomes, settling
            settling.add_done_callback(self._stir)
        if unsent:
            self._recorder.give_back(unsent)

    def _settle_if_late(self, now: float) -> None:
        """While claims are sent, which may take a while."""
        if self._landed and now - self._window.settled_at > SEND_PAUSE:
            self._settle()

    def _note_settled(self) -> bool:
        """Take note of what was settled; False if that goes on."""
        assert self._settling is not None
        outcomes, settling = self._settling
        if not settling.done():
            return False
        self._settling = None
        for outcome in outcomes:
            self._window.remove(outcome.claim)
        settled = settling.result()
        late = len(outcomes) - len(settled.held)
        if late:
            log.warning("%d attempts came back after their lease; they were recorded", late)
        self._settled(outcomes, settled)
        self._window.adapt(outcomes)
        if self._held_back:
            self._look_again()
        return True

    def _judged(self, claim: Claim, answer: Answer | str, now: dt.datetime) -> Outcome | None:
        """What came of a claim; None if nobody can say: then its lease ends, and it goes out again
        by whoever claims it."""
        try:
            if isinstance(answer, Answer):
                return self._judge.outcome(claim, answer, now, self._chance())
            return self._judge.fault(claim, answer, now)
        except Exception as error:  # this one's own: the others are to be settled
            log.exception("what came of %s cannot be judged", claim.delivery_id)
            try:
                return self._judge.fault(claim, ours(error), now)
            except Exception:
                log.exception("nor can that")
                self._window.remove(claim)
                return None

    def _aside(self, act: Callable[[], Result], nothing: Result) -> Result:
        """Do what goes beside the sending: a row of it that cannot be read does not stop that."""
        try:
            return self._again(act)
        except UNREADABLE:
            log.exception("something beside the sending failed")
            return nothing

    def _again(self, act: Callable[[], Result]) -> Result:
        """Do what changes the database, again if it was in the way of somebody else's change."""
        for _ in range(TRIES - 1):
            try:
                return act()
            except sa.exc.OperationalError as error:
                log.info("the database asks for another try (%s)", error.orig)
                time.sleep(TRY_PAUSE)
        return act()

    def _worth_waiting(self) -> bool:
        """Wait a moment if something falls due soon; False if nothing does."""
        due = self._outbox.next_due()
        if due is None:
            return False
        pause = (due - self._outbox.now()).total_seconds()
        if pause > LINGER:
            return False
        if pause <= 0:  # it may be the end of a subscription
            self._aside(self._outbox.expire, 0)
        # What else is due already is in somebody else's hands for the moment.
        time.sleep(min(pause if pause > 0 else TRY_PAUSE, LOOK_PAUSE))
        self._look_again()
        return True

    def _look_again(self) -> None:
        """There may be something to claim, whatever the last look has found."""
        self._look_at = 0.0
        self._exhausted = False

    def _wind_down(self) -> None:
        """Wait for what is in flight and settle it; give the rest back.

        What fails does not keep the rest from it: the first failure is raised at the end.
        """
        failure: Exception | None = None
        end = time.monotonic() + self._settings.timeout + 2 * PATIENCE
        self._take_back(self._dispatcher.withdraw())
        while self._window:
            if time.monotonic() > end:
                log.error("%d deliveries have not come back; their leases end", len(self._window))
                break
            try:
                self._wait()
                self._settle()
            except Exception as error:
                failure = failure or error
        try:
            self._fanning_out.finish()
        except Exception as error:
            failure = failure or error
        if failure is not None:
            raise failure
