"""Truth: all SQL of the pipeline. Set-based Core statements, each method one short transaction.

    event row ──► `fan_out` ──► delivery rows ──► `claim` ──► (POST) ──► `settle`

Each of the three is a room of its own beside this file; so are the steps of a `recovery` and what
becomes of `subscriptions`. What the two databases do differently is in `database.py`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager

import sqlalchemy as sa

from .. import answers
from ..database import UNREADABLE, Database
from ..models import Tables
from ..sets import among
from .claiming import Claiming
from .claims import Claim, Outcome, Settled
from .fairness import Share
from .fan_out import EVERYBODY, FanOut, Sight
from .hosts import Hosts
from .pruning import Removed
from .recovery import Recoveries
from .retention import Retention
from .settling import Settling
from .subscriptions import Subscriptions

__all__ = ["EVERYBODY", "UNREADABLE", "Claim", "Outbox", "Outcome", "Removed", "Settled", "Sight"]

LOOKS = 50
"""How often one claim looks for deliveries that may be sent, past those that may not."""

MOST_LOOKED_AT = 2000
"""Deliveries that one such look takes on, if the first ones found none."""

MOST_BATCHES = 20
"""Batches of old answers that are removed in one go."""


class Outbox:
    """The event, delivery and attempt rows of one database.

    :param engine: of SQLite or PostgreSQL.
    :param clock: tells the time, aware; None: the database's own clock.
    """

    def __init__(
        self,
        engine: sa.Engine,
        tables: Tables,
        clock: Callable[[], dt.datetime] | None = None,
    ) -> None:
        self._database = Database(engine, clock)
        self._tables = tables
        self._fan_out = FanOut(self._database, tables)
        hosts = Hosts(self._database, tables)
        self._claiming = Claiming(self._database, tables, hosts)
        self._settling = Settling(self._database, tables, hosts)
        self._recoveries = Recoveries(self._database, tables)
        self._subscriptions = Subscriptions(self._database, tables)
        self._retention = Retention(self._database, tables)

    def now(self) -> dt.datetime:
        """The time that due times and leases are told by."""
        return self._database.now()

    def prepare(self) -> None:
        """To be called once by a worker that starts: see `Database.prepare`."""
        self._database.prepare()

    def synchronise(self) -> None:
        """To be called before each drain: see `Database.synchronise`."""
        self._database.synchronise()

    def clock_was_set(self) -> bool:
        """To be asked often while something is claimed: see `Database.was_set`."""
        return self._database.was_set()

    @property
    def one_connection(self) -> bool:
        """Whether only one thread can use the database: see `Database.one_connection`."""
        return self._database.one_connection

    def connect(self) -> AbstractContextManager[sa.Connection]:
        """For reading."""
        return self._database.connect()

    def fan_out(self, limit: int, delay: float = 0.0, sight: Sight = EVERYBODY) -> tuple[int, int]:
        """Make deliveries of up to `limit` events that have none yet; of fewer if these make very
        many (`fan_out.MOST_DELIVERIES`).

        Events are found by their mark, never by their number: transactions commit out of order.

        :param delay: seconds until the first attempt.
        :returns: how many events were fanned out, and to how many deliveries.
        """
        return self._fan_out.run(limit, delay, sight)

    def claim(
        self,
        limit: int,
        lease: float,
        *,
        probe: float = 30.0,
        share: Share | None = None,
        full: Collection[str] = (),
    ) -> list[Claim]:
        """Take up to `limit` deliveries that are due, for `lease` seconds.

        Owners take turns, and so do the subscriptions of each. Deliveries whose subscription may no
        longer be served are cancelled instead; those whose receivers want to be left alone for a
        while fall due when that is over; those whose rows cannot be read are tried again, and
        parked.

        :param probe: seconds that it takes to see whether a host that was silent gives answers.
        :param share: how many more of a subscription may be taken, by its id and host.
        :param full: ids of subscriptions of which none may be taken.
        """
        look = limit if share is None else 2 * limit
        for _ in range(LOOKS):
            claims, others = self._claiming.run(limit, lease, probe, share, full, look)
            if claims or not others:
                return claims
            look = min(2 * look, max(look, MOST_LOOKED_AT))
        return []

    def settle(self, outcomes: Sequence[Outcome], failing_limit: float = 0.0) -> Settled:
        """Write down what came of attempts.

        An attempt is always recorded; it changes its delivery only if the lease is still the one
        that it was made under.

        :param failing_limit: seconds of failure without a success after which a subscription is
            disabled; 0: never.
        """
        return self._settling.run(outcomes, failing_limit)

    def give_back(self, claims: Collection[Claim], delay: float = 0.0) -> None:
        """Let go of deliveries that were claimed and not sent: they are due after `delay` seconds,
        by default at once."""
        self._settling.give_back(claims, delay)

    def unwanted(self, subscription_ids: Collection[str]) -> set[str]:
        """Those of the subscriptions that get nothing (any more)."""
        table = self._tables.subscription
        active = sa.select(table.c.id).where(
            among(table.c.id, subscription_ids), table.c.status == "active"
        )
        with self._database.connect() as connection:
            return set(subscription_ids) - set(connection.scalars(active))

    def cancel(self, reasons: Sequence[tuple[Claim, str]]) -> None:
        """Have claims come to nothing, each for its reason."""
        self._settling.cancel(reasons)

    def recover(self, sight: Sight = EVERYBODY) -> int:
        """Take a step of a recovery, if one is due; how many deliveries it released."""
        return self._recoveries.step(sight)

    def expire(self) -> int:
        """Have subscriptions expire whose time is over; how many did."""
        return self._subscriptions.expire()

    def tidy(
        self,
        retention: float,
        seconds: float,
        stopping: Callable[[], bool] = lambda: False,
    ) -> int:
        """Remove what is of no use any more, if it is time for that: answers that are given no
        more, and what came to its end long ago; how many rows.

        :param retention: days that events are kept, and what belongs to them; 0: for ever.
        :param seconds: how long it may take, about; the next call goes on.
        :param stopping: asked often.
        """
        removed = self._forget_answers()
        if retention:
            age = dt.timedelta(days=retention)
            removed += self._retention.look(age, seconds, stopping).total()
        return removed

    def prune(self, age: dt.timedelta) -> Iterator[Removed]:
        """Remove all that came to its end longer than `age` ago, with pauses; what each batch has
        removed, by what it is."""
        return self._retention.prune(age)

    def _forget_answers(self) -> int:
        removed = 0
        before = self.now() - answers.LIFETIME
        table = self._tables.answer
        with self._database.connect() as connection:
            old = sa.select(table.c.created_at).where(table.c.created_at < before)
            # In the index's order: else PostgreSQL may hope to come across one in the table soon.
            old = old.order_by(table.c.created_at).limit(1)
            if connection.execute(old).first() is None:
                return 0
        for _ in range(MOST_BATCHES):
            with self._database.transaction() as connection:
                batch = answers.prune(connection, self._tables, before)
            removed += batch
            if batch < answers.PRUNED_AT_ONCE:
                break
        return removed

    def next_due(self) -> dt.datetime | None:
        """When there will be something to do: a delivery falls due, a lease of another ends."""
        event, delivery = self._tables.event, self._tables.delivery
        with self._database.connect() as connection:
            waiting = sa.select(event.c.sequence).where(event.c.fanned_out_at.is_(None))
            waiting = waiting.order_by(event.c.sequence).limit(1)
            if connection.execute(waiting).first() is not None:
                return self.now()
            due: dt.datetime | None = connection.scalar(
                sa.select(delivery.c.due_at)
                .where(delivery.c.due_at.is_not(None))
                .order_by(delivery.c.due_at)
                .limit(1)
            )
            step = self._recoveries.next_due(connection)
            expiry = self._subscriptions.next_expiry(connection)
        return min((moment for moment in (due, step, expiry) if moment is not None), default=None)
