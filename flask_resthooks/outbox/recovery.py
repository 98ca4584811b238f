"""Truth: the recovery. What a subscription missed since a time ──► **deliveries that are due**.

An owner asks for it once; it is done in steps, each a short transaction, by the drains. A step
looks at some of the owner's events in the order of their ids, releases those deliveries that were
given up or cancelled, and makes those that are missing, for the subscription was not active then.
The next step comes at a pace, and when most of that is sent: however much was missed, neither what
is new nor the app's commits have to wait for it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sa

from .. import ids
from ..database import Database
from ..models import EVENT, Tables
from ..sets import among
from .fan_out import EVERYBODY, FanOut, Sight

STEP = 500
"""Events that a step looks at."""

BACKLOG = 1000
"""Deliveries of the subscription that may wait while more are released."""

PACE = 1000.0
"""Deliveries that are released in a second, at most: commits and new hooks are to have their share
of the machine."""

STEPS_AT_ONCE = 50
"""Steps that one look takes, while none releases anything: many may wait for their receivers."""

PAUSES = (0.1, 60.0)
"""Seconds until it is looked again whether the backlog is smaller: the first time, and at most."""

UNFINISHED = 1.0
"""Seconds until a step that met an event which is not fanned out yet is taken again."""

MISSED = ("failed", "cancelled")


class Recoveries:
    """The recoveries of one database."""

    def __init__(self, database: Database, tables: Tables) -> None:
        self._database = database
        self._tables = tables
        self._fan_out = FanOut(database, tables)

    def step(self, sight: Sight = EVERYBODY) -> int:
        """Take steps that are due until one has released something; how many deliveries it was."""
        table = self._tables.recovery
        for _ in range(STEPS_AT_ONCE):
            with self._database.connect() as connection:
                due = self._due(sa.select(table.c.id, table.c.owner))
                first = connection.execute(due).first()
            if first is None:
                return 0
            # The app is asked while nothing is locked.
            hidden = {name for name in sight.restricted if not sight.sees(name, first.owner)}
            released = self._take(first.id, hidden)
            if released:
                return released
        return 0

    def _due(self, statement: sa.Select[Any]) -> sa.Select[Any]:
        table = self._tables.recovery
        is_due = statement.where(table.c.due_at <= self._database.now())
        return is_due.order_by(table.c.due_at).limit(1)

    def _take(self, recovery_id: str, hidden: Collection[str]) -> int:
        table, now = self._tables.recovery, self._database.now()
        mine = self._due(sa.select(table).where(table.c.id == recovery_id))
        with self._database.transaction() as connection:
            row = connection.execute(mine.with_for_update(skip_locked=True)).mappings().first()
            if row is None:
                return 0
            released, values = self._step(dict(row), hidden, now, connection)
            connection.execute(table.update().where(table.c.id == recovery_id).values(values))
        return released

    def next_due(self, connection: sa.Connection) -> dt.datetime | None:
        """When the next step is due."""
        table = self._tables.recovery
        found: dt.datetime | None = connection.scalar(
            sa.select(table.c.due_at)
            .where(table.c.due_at.is_not(None))
            .order_by(table.c.due_at)
            .limit(1)
        )
        return found

    def _step(
        self,
        recovery: Mapping[str, Any],
        hidden: Collection[str],
        now: dt.datetime,
        connection: sa.Connection,
    ) -> tuple[int, dict[str, Any]]:
        """How many deliveries were released, and the new values of the recovery's row."""
        subscription = self._tables.subscription
        subscription_id = recovery["subscription_id"]
        status = connection.scalar(
            sa.select(subscription.c.status).where(subscription.c.id == subscription_id)
        )
        if status != "active":
            return 0, {"status": "cancelled", "due_at": None, "finished_at": now}
        if _waiting(connection, self._tables, subscription_id, BACKLOG) >= BACKLOG:
            pause = min(max(PAUSES[0], 2 * recovery["pause"]), PAUSES[1])
            return 0, {"pause": pause, "due_at": now + dt.timedelta(seconds=pause)}
        events = self._next_events(recovery, connection)
        # What is not fanned out yet will be, for an active subscription: it is not missed, and
        # only what comes before it is known to be.
        ready = next((n for n, row in enumerate(events) if row.fanned_out_at is None), len(events))
        values: dict[str, Any] = {
            "status": "running",
            "pause": 0.0,
            "due_at": now if ready else now + dt.timedelta(seconds=UNFINISHED),
        }
        if ready:
            values["cursor"] = events[ready - 1].id
            values["examined"] = recovery["examined"] + ready
        elif not events:
            values |= {"status": "done", "due_at": None, "finished_at": now}
        mine = [row for row in events[:ready] if row.kind == EVENT and row.type not in hidden]
        released = self._release(subscription_id, mine, now, connection) if mine else 0
        values["released"] = recovery["released"] + released
        if released:
            values["due_at"] = now + dt.timedelta(seconds=released / PACE)
        return released, values

    def _next_events(self, recovery: Mapping[str, Any], connection: sa.Connection) -> list[Any]:
        event = self._tables.event
        return list(
            connection.execute(
                sa.select(
                    event.c.id, event.c.sequence, event.c.kind, event.c.type, event.c.fanned_out_at
                )
                .where(
                    event.c.owner == recovery["owner"],
                    event.c.id > recovery["cursor"],
                    event.c.id < ids.at(ids.EVENT, recovery["until"]),
                )
                .order_by(event.c.id)
                .limit(STEP)
                .with_for_update(read=True, key_share=True)  # they are not to be pruned meanwhile
            )
        )

    def _release(
        self, subscription_id: str, events: list[Any], now: dt.datetime, connection: sa.Connection
    ) -> int:
        delivery = self._tables.delivery
        again = connection.execute(
            delivery.update()
            .where(
                delivery.c.subscription_id == subscription_id,
                among(delivery.c.event_id, [row.id for row in events]),
                delivery.c.status.in_(MISSED),
            )
            .values(release(self._tables, now))
        )
        made = self._fan_out.make(connection, events, missed_by=subscription_id)
        return int(again.rowcount) + made


def _waiting(connection: sa.Connection, tables: Tables, subscription_id: str, most: int) -> int:
    """How many deliveries of a subscription wait or are being sent; counted up to `most`."""
    delivery = tables.delivery
    some = (
        sa.select(delivery.c.id)
        .where(delivery.c.subscription_id == subscription_id, delivery.c.due_at.is_not(None))
        .limit(most)
        .subquery()
    )
    return connection.scalar(sa.select(sa.func.count()).select_from(some)) or 0


def begin_recovery(
    tables: Tables,
    connection: Any,
    subscription: Mapping[str, Any],
    since: dt.datetime,
    now: dt.datetime,
) -> dict[str, Any]:
    """Ask for a recovery, in a transaction; its row.

    :param connection: or session.
    :param since: from this time on; from the subscription's beginning, if that was later, for
        nobody misses what happened before they subscribed.
    """
    since = min(max(since, subscription["created_at"]), now)
    row = {
        "id": ids.new(ids.RECOVERY),
        "subscription_id": subscription["id"],
        "owner": subscription["owner"],
        "status": "pending",
        "since": since,
        "until": now,
        "cursor": ids.at(ids.EVENT, since),
        "examined": 0,
        "released": 0,
        "due_at": now,
        "created_at": now,
        "finished_at": None,
    }
    connection.execute(tables.recovery.insert().values(**row))
    return row


def going_on(tables: Tables, connection: Any, subscription_id: str) -> str | None:
    """The id of the recovery of a subscription that has not come to its end."""
    table = tables.recovery
    found: str | None = connection.scalar(
        sa.select(table.c.id).where(
            table.c.subscription_id == subscription_id, table.c.finished_at.is_(None)
        )
    )
    return found


def release(tables: Tables, now: dt.datetime) -> dict[str, Any]:
    """The new values of deliveries that are to be sent again: their schedule begins anew."""
    return {
        "status": "pending",
        "reason": None,
        "attempts_before": tables.delivery.c.attempts,
        "faults": 0,
        "due_at": now,
        "booked": False,
        "lease": None,
        "finished_at": None,
    }
