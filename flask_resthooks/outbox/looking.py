"""Truth: the look that goes before a claim. Which deliveries are due ──► **candidates**.

What is due first is looked at first. If there is more than one look takes in, those who have much
would hide those who have little: then it looks at what fell due last, too, and at some other
subscriptions, the next ones after those of the last time, until all have had their turn.

A row that cannot be read (a damaged value, a shape that no version of ours has written) must not
keep the others from being read: then each is read by itself, and the bad ones are named.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable, Collection, Sequence
from typing import Any

import sqlalchemy as sa

from ..database import MAY_BE_UNREADABLE, Database, let_trouble_out
from ..models import Tables
from ..sets import among, rows_of
from .candidates import Due, Found, Recipient

log = logging.getLogger(__name__)

OTHERS = 64
"""Subscriptions that are looked at beside what is due first; SQLite takes 500 parts at most."""

NEWEST = 64
"""Deliveries that fell due last, which are looked at as well: they may be all of who has little."""

STEPS = 256
"""Subscriptions of which it is asked whether anything is due, to find so many."""

Read = Callable[[sa.Connection, sa.Select[Any]], Sequence[Any]]


def read_all(connection: sa.Connection, rows: sa.Select[Any]) -> Sequence[Any]:
    """Row by row."""
    return connection.execute(rows).all()


class Looking:
    """Looks for what is due."""

    def __init__(self, database: Database, tables: Tables) -> None:
        self._database = database
        self._tables = tables
        self._cursor = ""

    def anything(self, now: dt.datetime) -> bool:
        """Whether anything is due."""
        delivery = self._tables.delivery
        due = sa.select(delivery.c.id).where(delivery.c.due_at <= now)
        # In the index's order: else PostgreSQL, when many were due at its last look at statistics,
        # hopes to come across one soon, and reads the whole table when none is.
        due = due.order_by(delivery.c.due_at).limit(1)
        with self._database.connect() as connection:
            return connection.execute(due).first() is not None

    def run(
        self, connection: sa.Connection, now: dt.datetime, look: int, full: Collection[str]
    ) -> Found:
        """Look at `look` deliveries, and beyond them if there are more.

        :param full: ids of subscriptions of which none may be taken.
        """
        delivery = self._tables.delivery
        first = sa.select(delivery.c.id).where(delivery.c.due_at <= now)
        found = self._read(
            connection, self._due(now).order_by(delivery.c.due_at).limit(look), first.limit(look)
        )
        if len(found.rows) < look:
            return self._with_recipients(connection, found, now)
        newest = first.order_by(delivery.c.due_at.desc()).limit(NEWEST)
        ids = self._of_others(connection, now, look, full) | set(connection.scalars(newest))
        ids -= {row.id for row in found.rows}
        if ids:
            those = among(delivery.c.id, sorted(ids))
            more = self._read(connection, self._due(now).where(those), first.where(those))
            found.rows += sorted(more.rows, key=lambda due: due.due_at)
            found.damaged |= more.damaged
        return self._with_recipients(connection, found, now)

    def _with_recipients(self, connection: sa.Connection, found: Found, now: dt.datetime) -> Found:
        """Give each delivery its recipient, which is read once for all of its deliveries."""
        ids = {row.subscription_id for row in found.rows}
        if not ids:
            return found
        subscription = self._tables.subscription
        theirs = self._recipients(now).where(among(subscription.c.id, sorted(ids)))
        rows = self.read_each(connection, theirs, subscription.c.id, lambda: ids, found)
        recipients = {row.id: Recipient(*row) for row in rows if isinstance(row.host, str)}
        for row in rows:
            if row.id not in recipients:
                found.damaged[row.id] = "its subscription is damaged (a host that is no text)"
        self._know_hosts(connection, recipients.values(), found)
        for due in found.rows:
            due.to = recipients.get(due.subscription_id)
            for part in (due.subscription_id, due.to and due.to.host):
                if part in found.damaged:
                    found.damaged[due.id] = found.damaged[part]
        found.rows = [due for due in found.rows if due.id not in found.damaged]
        return found

    def _know_hosts(
        self, connection: sa.Connection, recipients: Collection[Recipient], found: Found
    ) -> None:
        """What is known of the recipients' hosts; of most, it is nothing.

        Not joined: PostgreSQL might read all hosts for that.
        """
        host = self._tables.host
        names = {to.host for to in recipients}
        some = sa.select(host.c.host, host.c.turn_at, host.c.silences).where(
            among(host.c.host, sorted(names))
        )
        rows = self.read_each(connection, some, host.c.host, lambda: names, found)
        known = {row.host: row for row in rows}
        for to in recipients if known else ():
            if to.host in known:
                _, to.host_turn_at, to.host_silences = known[to.host]

    def _of_others(
        self, connection: sa.Connection, now: dt.datetime, look: int, full: Collection[str]
    ) -> set[str]:
        """Ids of deliveries that are due of the next subscriptions."""
        delivery = self._tables.delivery
        lanes = self._others(connection, now, full)
        if not lanes:
            return set()
        each = -(-look // len(lanes))
        waits = sa.select(delivery.c.id).where(delivery.c.due_at.is_not(None)).limit(each)
        parts = [sa.select(self._due_of(lane, waits, now).subquery()) for lane in lanes]
        return set(connection.scalars(sa.union_all(*parts)))

    def _due_of(self, lane: str, waits: sa.Select[Any], now: dt.datetime) -> sa.Select[Any]:
        delivery = self._tables.delivery
        if self._database.sqlite:
            of_lane = delivery.c.subscription_id == lane, delivery.c.due_at <= now
            return waits.where(*of_lane).order_by(delivery.c.due_at)
        # From the lane's first one to its last one that is due, in the order that only one index
        # has: the index of all that is due has those of others in between.
        order = delivery.c.subscription_id, delivery.c.due_at
        end = sa.tuple_(sa.literal(lane), sa.literal(now, delivery.c.due_at.type))
        of_lane = order[0] >= lane, sa.tuple_(*order) <= end
        return waits.where(*of_lane).order_by(*order)

    def _others(
        self, connection: sa.Connection, now: dt.datetime, full: Collection[str]
    ) -> list[str]:
        """The next subscriptions that something waits for, of these those of which it is due."""
        delivery = self._tables.delivery
        waits = delivery.c.due_at.is_not(None)

        def next_after(name: Any, column: sa.Column[Any]) -> Any:
            return self._by_subscription(
                sa.select(column)
                .where(waits, delivery.c.subscription_id > name)
                # Only one index has this order: no statistics make PostgreSQL take another.
                .order_by(delivery.c.subscription_id, delivery.c.due_at)
                .limit(1)
            ).scalar_subquery()

        # A walk from each to the next one, however much waits of any of them.
        cursor: sa.BindParameter[str] = sa.bindparam("cursor", self._cursor)
        walk = sa.select(
            next_after(cursor, delivery.c.subscription_id).label("id"),
            next_after(cursor, delivery.c.due_at).label("due_at"),
            sa.literal(0).label("due_before"),
            sa.literal(1).label("number"),
        ).cte("walk", recursive=True)
        is_due = walk.c.due_at <= now
        walk = walk.union_all(
            sa.select(
                next_after(walk.c.id, delivery.c.subscription_id),
                next_after(walk.c.id, delivery.c.due_at),
                walk.c.due_before + sa.case((is_due, 1), else_=0),
                walk.c.number + 1,
            ).where(walk.c.id.is_not(None), walk.c.due_before < OTHERS - 1, walk.c.number < STEPS)
        )
        found = connection.execute(sa.select(walk.c.id, (walk.c.due_at <= now).label("due"))).all()
        # The last one is none if there was no next one: then it begins anew.
        self._cursor = found[-1].id or ""
        return [row.id for row in found if row.due and row.id not in full]

    def _by_subscription(self, select: sa.Select[Any]) -> sa.Select[Any]:
        """SQLite has no statistics and may take an index that holds the history, too."""
        return select.with_hint(
            self._tables.delivery, "INDEXED BY resthooks_delivery_waiting", "sqlite"
        )

    def _read(self, connection: sa.Connection, rows: sa.Select[Any], ids: sa.Select[Any]) -> Found:
        """Read deliveries.

        :param ids: the same ones, read without anything that could be damaged.
        """
        found = Found()
        column = self._tables.delivery.c.id
        read = self.read_each(
            connection, rows, column, lambda: connection.scalars(ids).all(), found, rows_of
        )
        for row in read:
            due = Due(None, *row)
            keys = due.id, due.event_id, due.subscription_id, due.owner
            if all(isinstance(key, str) for key in keys):
                found.rows.append(due)
            elif isinstance(due.id, str):
                found.damaged[due.id] = "its row is damaged (a key that is no text)"
            else:  # nobody can name it
                log.error("a delivery has an id that is no text: %r", due.id)
        return found

    def read_each(
        self,
        connection: sa.Connection,
        rows: sa.Select[Any],
        column: sa.Column[str],
        ids: Callable[[], Collection[str]],
        found: Found,
        read: Read = read_all,
    ) -> list[Any]:
        """Read rows, each by its id if not all can be read at once; of those that cannot be read,
        `found` is told.

        :param read: how they are read at once.
        """
        try:
            return list(read(connection, rows))
        except MAY_BE_UNREADABLE as error:
            let_trouble_out(error)
            # Without its text, which may repeat the value.
            log.warning("not all of %s can be read (%s)", column.table.name, type(error).__name__)
        some: list[Any] = []
        for id_ in ids():
            try:
                some += connection.execute(rows.where(column == id_)).all()
            except MAY_BE_UNREADABLE as error:
                let_trouble_out(error)
                kind = type(error).__name__
                log.error("the row %s of %s cannot be read (%s)", id_, column.table.name, kind)
                found.damaged[id_] = f"its row cannot be read ({kind})"
        return some

    def _due(self, now: dt.datetime) -> sa.Select[Any]:
        delivery = self._tables.delivery
        return (
            sa.select(
                delivery.c.id,
                delivery.c.kind,
                delivery.c.event_id,
                delivery.c.owner,
                delivery.c.subscription_id,
                delivery.c.attempts,
                delivery.c.attempts_before,
                delivery.c.faults,
                delivery.c.due_at,
                delivery.c.booked,
            )
            .where(delivery.c.due_at <= now)
            .with_for_update(skip_locked=True)
        )

    def _recipients(self, now: dt.datetime) -> sa.Select[Any]:
        subscription = self._tables.subscription
        expired = subscription.c.expires_at <= now
        return sa.select(
            subscription.c.id,
            subscription.c.target_url,
            subscription.c.format,
            subscription.c.payload,
            subscription.c.secret,
            subscription.c.former_secrets,
            subscription.c.headers,
            subscription.c.status,
            subscription.c.intent_id,
            subscription.c.intent_secret,
            subscription.c.confirmed_at,
            subscription.c.rate,
            subscription.c.turn_at,
            subscription.c.host,
            # Judged here: what a customer gave as a time need not be one for Python.
            sa.and_(subscription.c.expires_at.is_not(None), expired).label("expired"),
            (subscription.c.intent_until <= now).label("too_late"),
        )
