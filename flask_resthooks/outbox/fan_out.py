"""Truth: the fan-out. Event rows ──► **delivery rows**, one per subscription that wants the event.

It gives the events their places in the log as well, where no reader has done so.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from .. import event_types, ids
from ..database import Database
from ..models import EVENT, Tables
from ..sets import among, rows_of
from .log import advance

TYPES_AT_ONCE = 50
"""Event types of one statement: SQLite knows 500 parts of a compound at most."""

FIRST_EVENTS = 8
"""Events that a fan-out begins with; then twice as many each time, as long as they make few
deliveries: nobody knows before how many want them."""

MOST_DELIVERIES = 4000
"""Deliveries with which a fan-out takes on no more events: its transaction is to be short."""


@dataclass(frozen=True, slots=True)
class Sight:
    """Which owners see the event types that not everybody sees.

    :param restricted: names of those event types.
    :param sees: whether an owner sees one of them: (name, owner) -> bool.
    """

    restricted: Collection[str] = ()
    sees: Callable[[str, str], bool] = lambda name, owner: True


EVERYBODY = Sight()


class _Waiting(NamedTuple):
    """An event that is to be fanned out."""

    sequence: int
    type: str
    owner: str
    position: int | None


class FanOut:
    """Makes deliveries of events."""

    def __init__(self, database: Database, tables: Tables) -> None:
        self._database = database
        self._tables = tables

    def run(self, limit: int, delay: float, sight: Sight) -> tuple[int, int]:
        """See `Outbox.fan_out`."""
        event = self._tables.event
        waiting = (
            sa.select(event.c.sequence, event.c.type, event.c.owner, event.c.position)
            .where(event.c.fanned_out_at.is_(None))
            .order_by(event.c.sequence)
            .limit(limit)
        )
        asked: set[tuple[str, str]] = set()
        if self._database.sqlite or sight.restricted:  # on PostgreSQL, the locks cost no more
            with self._database.connect() as connection:
                if connection.execute(waiting.limit(1)).first() is None:
                    return 0, 0
                asked = {
                    (row.type, row.owner)
                    for row in (connection.execute(waiting).all() if sight.restricted else ())
                    if row.type in sight.restricted
                }
        # The app is asked while nothing is locked.
        seen = {pair: sight.sees(*pair) for pair in asked}
        with self._database.transaction() as connection:
            found = [
                row
                for row in map(
                    _Waiting._make, rows_of(connection, waiting.with_for_update(skip_locked=True))
                )
                # Of what has come in between, nobody was asked: it is left to the next one.
                if row.type not in sight.restricted or (row.type, row.owner) in seen
            ]
            done, made, size = 0, 0, FIRST_EVENTS
            while done < len(found) and made < MOST_DELIVERIES:
                some = found[done : done + size]
                told = [row for row in some if seen.get((row.type, row.owner), True)]
                made += self.make(connection, told, delay)
                done, size = done + len(some), 2 * size
            if done:
                self._mark(found[:done], connection)
        return done, made

    def make(
        self,
        connection: sa.Connection,
        events: Sequence[Any],
        delay: float = 0.0,
        *,
        missed_by: str | None = None,
    ) -> int:
        """Make deliveries of some events; how many.

        :param events: rows, with `sequence` and `type`.
        :param delay: seconds until the first attempt.
        :param missed_by: for the subscription of this id alone, of what it has no delivery of yet.
        """
        by_type: dict[str, list[int]] = defaultdict(list)
        for row in events:
            by_type[row.type].append(row.sequence)
        types, made = sorted(by_type), 0
        for start in range(0, len(types), TYPES_AT_ONCE):
            some = types[start : start + TYPES_AT_ONCE]
            sequences = [sequence for type_ in some for sequence in by_type[type_]]
            insert = self._deliveries_of(sequences, some, delay, missed_by)
            options = {"preserve_rowcount": True}
            made += connection.execute(insert, execution_options=options).rowcount
        return made

    def _mark(self, events: Sequence[Any], connection: sa.Connection) -> None:
        event = self._tables.event
        values: dict[str, Any] = {"fanned_out_at": self._database.now()}
        unplaced = [row.sequence for row in events if row.position is None]
        if unplaced:
            ahead = advance(connection, self._tables, unplaced)
            values["position"] = sa.func.coalesce(event.c.position, event.c.sequence + ahead)
        sequences = [row.sequence for row in events]
        connection.execute(event.update().where(among(event.c.sequence, sequences)).values(values))

    def _deliveries_of(
        self,
        sequences: Sequence[int],
        types: Collection[str],
        delay: float,
        missed_by: str | None,
    ) -> Any:
        event, delivery, now = self._tables.event, self._tables.delivery, self._database.now()
        matching = sa.union_all(
            *(
                sa.select(sa.literal(type_).label("type"), sa.literal(pattern).label("pattern"))
                for type_ in sorted(types)
                for pattern in event_types.patterns_of(type_)
            )
        ).subquery("matching")
        takers, are_takers, subscription_id = self._takers(matching, now, missed_by)
        # Without DISTINCT: no two patterns of a subscription match one event (event_types.widest).
        chosen = (
            sa.select(
                self._new_delivery_id(now),
                sa.literal(EVENT),
                event.c.id,
                subscription_id,
                event.c.owner,
                event.c.type,
                event.c.resource,
                sa.literal("pending"),
                sa.literal(0),
                sa.literal(0),
                sa.literal(now + dt.timedelta(seconds=delay), delivery.c.due_at.type),
                sa.false(),
                sa.literal(now, delivery.c.created_at.type),
            )
            .select_from(event)
            .join(matching, matching.c.type == event.c.type)
            .join(takers, are_takers)
            .where(among(event.c.sequence, sequences))
        )
        if missed_by is not None:
            there = (
                sa.select(delivery.c.id)
                .where(
                    delivery.c.event_id == event.c.id,
                    delivery.c.subscription_id == subscription_id,
                )
                .exists()
            )
            chosen = chosen.where(sa.not_(there))
        c = delivery.c
        insert: Any = sqlite.insert if self._database.sqlite else postgresql.insert
        statement = insert(delivery).from_select(
            [
                c.id,
                c.kind,
                c.event_id,
                c.subscription_id,
                c.owner,
                c.event_type,
                c.resource,
                c.status,
                c.attempts,
                c.attempts_before,
                c.due_at,
                c.booked,
                c.created_at,
            ],
            chosen,
            include_defaults=False,
        )
        return statement.on_conflict_do_nothing()

    def _takers(
        self, matching: sa.Subquery, now: dt.datetime, missed_by: str | None
    ) -> tuple[sa.FromClause, sa.ColumnElement[bool], sa.ColumnElement[str]]:
        """Those who want an event and may get it: what to join, on which condition; and their ids.

        On PostgreSQL the wishes are looked up for each event and pattern, and the subscription for
        each wish, whatever the statistics say: OFFSET keeps them apart. What reads all wishes, or
        all subscriptions, may seem cheaper, but their number grows.
        """
        event, wish = self._tables.event, self._tables.subscription_event
        subscription = self._tables.subscription
        wanted = [wish.c.owner == event.c.owner, wish.c.pattern == matching.c.pattern]
        if missed_by is not None:
            wanted.append(wish.c.subscription_id == missed_by)
        may_get_it = (
            subscription.c.status == "active",
            sa.or_(subscription.c.expires_at.is_(None), subscription.c.expires_at > now),
        )
        if self._database.sqlite:
            wishes = wish.join(subscription, subscription.c.id == wish.c.subscription_id)
            return wishes, sa.and_(*wanted, *may_get_it), subscription.c.id
        wisher = sa.select(wish.c.subscription_id).where(*wanted).offset(0).lateral("wisher")
        theirs = (
            subscription.c.id == wisher.c.subscription_id,
            # That it is so is known; said, it serves for every index that PostgreSQL may take.
            subscription.c.owner == event.c.owner,
        )
        taker = sa.select(subscription.c.id).where(*theirs, *may_get_it).offset(0).lateral("taker")
        return wisher.join(taker, sa.true()), sa.true(), taker.c.id

    def _new_delivery_id(self, now: dt.datetime) -> sa.ColumnElement[str]:
        """`ids.new`, made by the database, once per row."""
        random: sa.ColumnElement[str]
        if self._database.sqlite:
            random = sa.func.lower(sa.func.hex(sa.func.randomblob(10)))
        else:
            # A UUID's first 8 and last 12 digits are random.
            uuid = sa.cast(sa.func.gen_random_uuid(), sa.String)
            random = sa.func.left(uuid, 8).concat(sa.func.right(uuid, 12))
        head = f"{ids.DELIVERY}_{ids.time_part(now.timestamp())}"
        return sa.literal(head).concat(random)
