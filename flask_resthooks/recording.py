"""Engine: writes down what became of claims, whatever the database does meanwhile.

POST ──► **settle** ──► delivered, or due again

What was sent should be known as sent: a database that is away for a moment is asked again, and
what cannot be stored of one delivery does not keep the others from being settled.
"""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

import sqlalchemy as sa

from .judging import without_texts
from .outbox import UNREADABLE, Claim, Outbox, Outcome, Settled
from .settings import LEASE_MARGIN, Settings

log = logging.getLogger(__name__)

PATIENCE = 20.0
"""Seconds for which it is tried to write down what was sent, while the lease lasts."""

LEAST_PATIENCE = LEASE_MARGIN - 2.0
"""The same, at least: so much is left of a lease after the attempt that began the latest."""

PAUSES = (0.05, 2.0)
"""Seconds until the next try: the first ones, and at most."""

Result = TypeVar("Result")


class Recorder:
    """Writes to one outbox, for one drain."""

    def __init__(self, outbox: Outbox, settings: Settings) -> None:
        self._outbox = outbox
        self._disable_after = settings.disable_after
        # Not for longer than the lease has room for: then it is sent again, by whoever claims it.
        left = settings.lease - settings.start_margin
        self._patience = min(max(left, LEAST_PATIENCE), PATIENCE)

    def settle(self, outcomes: Sequence[Outcome]) -> Settled:
        """Settle; without the receivers' texts, if these cannot be stored."""
        try:
            return self._in_bulk(outcomes)
        except sa.exc.DataError:
            log.exception("what came back cannot be stored; it is settled without its texts")
            return self._one_by_one([without_texts(outcome) for outcome in outcomes])
        except UNREADABLE:
            log.exception("what came back cannot be settled at once; one by one")
            return self._one_by_one(outcomes)

    def give_back(self, claims: Collection[Claim], delay: float = 0.0) -> None:
        """Let go of claims that were not sent: see `Outbox.give_back`."""
        self._persist(lambda: self._outbox.give_back(claims, delay))

    def cancel(self, reasons: Sequence[tuple[Claim, str]]) -> None:
        """Have claims come to nothing, each for its reason."""
        self._persist(lambda: self._outbox.cancel(reasons))

    def _in_bulk(self, outcomes: Sequence[Outcome]) -> Settled:
        return self._persist(lambda: self._outbox.settle(outcomes, self._disable_after))

    def _one_by_one(self, outcomes: Sequence[Outcome]) -> Settled:
        """Settle all at once if that works; else each by itself, and what cannot be settled at all
        is sent again when its lease ends."""
        try:
            return self._in_bulk(outcomes)
        except (sa.exc.DataError, *UNREADABLE):
            held: set[str] = set()
            disabled: dict[str, str] = {}
            recovered: dict[str, dt.datetime] = {}
        for outcome in outcomes:
            try:
                one = self._in_bulk([outcome])
            except (sa.exc.DataError, *UNREADABLE):
                log.exception("the delivery %s cannot be settled", outcome.claim.delivery_id)
                continue
            held |= one.held
            disabled |= one.disabled
            recovered |= one.recovered
        return Settled(frozenset(held), disabled, recovered)

    def _persist(self, act: Callable[[], Result]) -> Result:
        """Write to the database, again if it is away."""
        until = time.monotonic() + self._patience
        pause, longest = PAUSES
        while True:
            try:
                return act()
            except (sa.exc.OperationalError, sa.exc.InterfaceError) as error:
                if time.monotonic() + pause > until:
                    raise
                log.warning("the database did not take what was sent (%s); again", error.orig)
                time.sleep(pause)
                pause = min(2 * pause, longest)
