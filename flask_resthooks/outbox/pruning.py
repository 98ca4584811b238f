"""Truth: what retention removes, batch by batch. Rows that came to their end ──► **gone**.

An event goes with all its deliveries and their attempts, in one transaction, and only when each of
the deliveries has ended: whoever finds an event finds what has become of it, and a recovery never
takes for missed what was delivered. What is due stays, and all that belongs to it.

Batches are found by ids, which are ordered by time, and read before anything is locked. On
PostgreSQL nothing here waits for a row that somebody else has locked; and who makes deliveries of
old events (`recovery.py`) locks these meanwhile.
"""

from __future__ import annotations

import datetime as dt
import time
from collections import Counter
from collections.abc import Iterator, Sequence

import sqlalchemy as sa

from .. import ids
from ..database import Database
from ..models import Tables
from ..sets import among

BATCH_OF_WRITER, BATCH = 0.01, 0.05
"""Seconds that a batch of events should take: the next one has more or fewer, accordingly. On
SQLite everybody else who writes waits for it; on PostgreSQL nobody does."""

LEAST_EVENTS, MOST_EVENTS = 50, 500

MOST_DELIVERIES = 1000
"""Deliveries that go in one batch, unless a single event has more."""

AT_ONCE = 500
"""Rows of other kinds that are looked at together, and deliveries whose attempts are removed so."""

IDLE_HOST = dt.timedelta(days=1)
"""For so long the strikes of a host are remembered at least."""

Removed = Counter[str]
"""How many rows were removed, by what they are."""


class Pruning:
    """Removes the old rows of one database."""

    def __init__(self, database: Database, tables: Tables) -> None:
        self._database = database
        self._tables = tables
        self._size = LEAST_EVENTS
        self._batch = BATCH_OF_WRITER if database.sqlite else BATCH

    def batches(self, before: dt.datetime) -> Iterator[Removed]:
        """Remove what has come to its end before a time; what each batch has removed."""
        tables = self._tables
        event, delivery, attempt = tables.event, tables.delivery, tables.attempt
        host, recovery = tables.host, tables.recovery
        for prefix in (ids.EVENT, ids.TEST):
            yield from self._events(prefix, before)
        # What somebody else has left behind, and attempts that were recorded late.
        lost = sa.and_(_ended(delivery, before), _is_without(event, delivery.c.event_id))
        yield from self._rows("deliveries", delivery.c.id, _of(ids.DELIVERY, before), lost)
        lost = _is_without(delivery, attempt.c.delivery_id)
        yield from self._rows("attempts", attempt.c.id, _of(ids.ATTEMPT, before), lost)
        over = recovery.c.finished_at < before
        yield from self._rows("recoveries", recovery.c.id, _of(ids.RECOVERY, before), over)
        idle = host.c.turn_at < min(before, self._database.now() - IDLE_HOST)
        yield from self._rows("hosts", host.c.host, ("", None), idle)

    def _events(self, prefix: str, before: dt.datetime) -> Iterator[Removed]:
        """Events, the oldest first, with what belongs to them."""
        event = self._tables.event
        cursor, end = _of(prefix, before)
        while True:
            start = time.monotonic()
            some = (
                sa.select(event.c.id, event.c.fanned_out_at)
                .where(event.c.id > cursor, event.c.id < end)
                .order_by(event.c.id)
                .limit(self._size)
            )
            with self._database.connect() as connection:
                found = connection.execute(some).all()
                if not found:
                    return
                told = [row.id for row in found if row.fanned_out_at is not None]
                over, last = self._over(told, before, connection)
            removed: Removed = Counter()
            if not over or self._remove(over, before, removed):
                cursor = last or found[-1].id
            spent = time.monotonic() - start
            self._size = int(self._size * min(max(self._batch / spent, 0.5), 2.0))
            self._size = min(max(self._size, LEAST_EVENTS), MOST_EVENTS)
            yield removed

    def _over(
        self, event_ids: Sequence[str], before: dt.datetime, connection: sa.Connection
    ) -> tuple[list[str], str | None]:
        """The first of the events that may go, as many as there is room for in a batch.

        :returns: and the last one, if there may be more after it.
        """
        delivery = self._tables.delivery
        ended = sa.case((_ended(delivery, before), 1))
        counts = {
            row.event_id: row
            for row in connection.execute(
                sa.select(
                    delivery.c.event_id,
                    sa.func.count().label("all"),
                    sa.func.count(ended).label("ended"),
                )
                .where(among(delivery.c.event_id, event_ids))
                .group_by(delivery.c.event_id)
            )
        }
        over: list[str] = []
        deliveries = 0
        for event_id in event_ids:
            row = counts.get(event_id)
            if row is not None and row.ended < row.all:
                continue
            deliveries += row.all if row is not None else 0
            if over and deliveries > MOST_DELIVERIES:
                return over, over[-1]
            over.append(event_id)
        return over, None

    def _remove(self, event_ids: Sequence[str], before: dt.datetime, removed: Removed) -> bool:
        """Remove events with all that belongs to them, if that is still so.

        :param removed: is added to.
        :returns: False if it has taken too long: then some of their attempts are gone.
        """
        event, delivery, attempt = self._tables.event, self._tables.delivery, self._tables.attempt
        end = time.monotonic() + 2 * self._batch
        with self._database.transaction() as connection:
            mine, deliveries = self._lock(event_ids, before, connection)
            for start in range(0, len(deliveries), AT_ONCE):
                if removed["attempts"] and time.monotonic() > end:
                    return False
                some = deliveries[start : start + AT_ONCE]
                gone = attempt.delete().where(among(attempt.c.delivery_id, some))
                removed["attempts"] += connection.execute(gone).rowcount
            for name, table, column in (
                ("deliveries", delivery, delivery.c.event_id),
                ("events", event, event.c.id),
            ):
                gone = table.delete().where(among(column, mine))
                removed[name] += connection.execute(gone).rowcount
        return True

    def _lock(
        self, event_ids: Sequence[str], before: dt.datetime, connection: sa.Connection
    ) -> tuple[list[str], list[str]]:
        """Those of the events that may go now, and the ids of their deliveries.

        Nobody makes a delivery of a locked event, and nobody changes a locked delivery. An event
        that is locked by somebody else is left alone, and so is one of which a delivery is.
        """
        event, delivery = self._tables.event, self._tables.delivery
        free = connection.scalars(
            sa.select(event.c.id)
            .where(among(event.c.id, event_ids))
            .with_for_update(skip_locked=True)
        ).all()
        of_them = among(delivery.c.event_id, free)
        ended: dict[str, list[str]] = {event_id: [] for event_id in free}
        for row in connection.execute(
            sa.select(delivery.c.id, delivery.c.event_id)
            .where(of_them, _ended(delivery, before))
            .with_for_update(skip_locked=True)
        ):
            ended[row.event_id].append(row.id)
        all_of_them = Counter(connection.scalars(sa.select(delivery.c.event_id).where(of_them)))
        mine = [event_id for event_id in free if len(ended[event_id]) == all_of_them[event_id]]
        return mine, [id_ for event_id in mine for id_ in ended[event_id]]

    def _rows(
        self,
        name: str,
        key: sa.Column[str],
        span: tuple[str, str | None],
        condition: sa.ColumnElement[bool],
    ) -> Iterator[Removed]:
        """Rows of one table that fulfil a condition, some at a time, in the order of their key.

        :param span: what the keys are greater than, and smaller than.
        """
        cursor, end = span
        while True:
            some = sa.select(key).where(key > cursor)
            if end is not None:
                some = some.where(key < end)
            with self._database.connect() as connection:
                keys = connection.scalars(some.order_by(key).limit(AT_ONCE)).all()
                if not keys:
                    return
                over = sa.select(key).where(among(key, keys), condition)
                found = connection.scalars(over).all()
            removed: Removed = Counter()
            if found:
                with self._database.transaction() as connection:
                    locked = over.with_for_update(of=key.table, skip_locked=True)
                    mine = connection.scalars(locked).all()
                    gone = key.table.delete().where(among(key, mine))
                    removed[name] = connection.execute(gone).rowcount
            cursor = keys[-1]
            yield removed


def _of(prefix: str, before: dt.datetime) -> tuple[str, str]:
    """Between which keys the ids of a prefix are that were made before a time."""
    return f"{prefix}_", ids.at(prefix, before)


def _ended(delivery: sa.Table, before: dt.datetime) -> sa.ColumnElement[bool]:
    # A row that somebody has changed by hand need not say when: it is not to stay for ever.
    end = sa.func.coalesce(delivery.c.finished_at, delivery.c.created_at)
    return sa.and_(delivery.c.due_at.is_(None), end < before)


def _is_without(parent: sa.Table, column: sa.Column[str]) -> sa.ColumnElement[bool]:
    return sa.not_(sa.exists().where(parent.c.id == column))
