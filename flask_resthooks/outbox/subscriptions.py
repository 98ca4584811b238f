"""Truth: what becomes of subscriptions by time, and what is sent to one of them alone.

The API changes them as their owners wish (`api/rows.py`); what receivers do to them is in
`health.py`.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from .. import formats, ids
from ..database import MAY_BE_UNREADABLE, Database, let_trouble_out
from ..models import EXPIRING, NOTICE, PING, Tables

log = logging.getLogger(__name__)

EXPIRED = "resthooks.expired"
"""The event type of the notice that a subscription has expired."""

EXPIRED_AT_ONCE = 100

CANCELLED_AT_ONCE = 10_000
"""Deliveries that are cancelled in the transaction of what ends their subscription."""


class Subscriptions:
    """Those of one database whose time is over."""

    def __init__(self, database: Database, tables: Tables) -> None:
        self._database = database
        self._tables = tables

    def expire(self) -> int:
        """Have subscriptions expire whose time is over; how many did.

        Their owners get a last notice, if they asked for it.
        """
        table, now = self._tables.subscription, self._database.now()
        over = (
            sa.select(table)
            .where(_expiring(table), table.c.expires_at <= now)
            .order_by(table.c.expires_at)
            .limit(EXPIRED_AT_ONCE)
        )
        with self._database.connect() as connection:
            if connection.execute(over.with_only_columns(table.c.id).limit(1)).first() is None:
                return 0
        with self._database.transaction() as connection:
            locked = over.with_for_update(skip_locked=True)
            found = connection.scalars(locked.with_only_columns(table.c.id)).all()
            for id_ in found:
                told = self._to_be_told(connection, id_)
                connection.execute(
                    table.update().where(table.c.id == id_).values(status="expired", updated_at=now)
                )
                reason = "the subscription has expired"
                connection.execute(cancel_deliveries(self._tables, id_, reason, now))
                if told is not None:
                    send(self._tables, connection, told, NOTICE, EXPIRED, now)
        return len(found)

    def _to_be_told(self, connection: sa.Connection, id_: str) -> dict[str, Any] | None:
        """A subscription that wants a last notice; None if it wants none, or cannot be read."""
        table = self._tables.subscription
        try:
            row = connection.execute(sa.select(table).where(table.c.id == id_)).mappings().one()
        except MAY_BE_UNREADABLE as error:
            let_trouble_out(error)
            log.error("the subscription %s cannot be read (%s)", id_, type(error).__name__)
            return None
        return dict(row) if row["expiry_notice"] and row["status"] == "active" else None

    def next_expiry(self, connection: sa.Connection) -> dt.datetime | None:
        """When the next one expires."""
        table = self._tables.subscription
        # Not of an owner's "never", which PostgreSQL knows and Python does not.
        found: dt.datetime | None = connection.scalar(
            sa.select(table.c.expires_at)
            .where(
                _expiring(table),
                table.c.expires_at <= self._database.now() + dt.timedelta(days=1),
            )
            .order_by(table.c.expires_at)
            .limit(1)
        )
        return found


def _expiring(table: sa.Table) -> sa.ColumnElement[bool]:
    """Literally as the index has it: SQLite looks no further."""
    return table.c.status.in_([sa.literal_column(f"'{status}'") for status in EXPIRING])


def send(
    tables: Tables,
    connection: Any,
    subscription: Mapping[str, Any],
    kind: str,
    event_type: str,
    now: dt.datetime,
    event: formats.Event | None = None,
) -> dict[str, Any]:
    """Make an event that goes to one subscription alone, and its delivery, in a transaction.

    :param connection: or session.
    :param event: what it tells; None: of the subscription itself.
    :returns: the delivery's row.
    """
    of_subscription = {
        "id": subscription["id"],
        "target_url": subscription["target_url"],
        "events": subscription["events"],
    }
    row = {
        "id": ids.new(ids.TEST if kind == PING else ids.EVENT),
        "kind": kind,
        "type": event_type,
        "owner": subscription["owner"],
        "resource": event.resource if event else None,
        "url": event.url if event else None,
        "created_at": now,
        "data": event.data if event else formats.to_json({"subscription": of_subscription}),
        "previous": event.previous if event else None,
        "position": 0,  # it has no place in the log
        "fanned_out_at": now,
    }
    delivery = {
        "id": ids.new(ids.DELIVERY),
        "kind": kind,
        "event_id": row["id"],
        "subscription_id": subscription["id"],
        "owner": subscription["owner"],
        "event_type": event_type,
        "resource": row["resource"],
        "status": "pending",
        "reason": None,
        "attempts": 0,
        "due_at": now,
        "created_at": now,
        "finished_at": None,
    }
    connection.execute(tables.event.insert().values(**row))
    connection.execute(tables.delivery.insert().values(**delivery))
    return delivery


def confirmed(tables: Tables, subscription_id: str, now: dt.datetime) -> sa.Update:
    """The statement by which a subscription whose receiver has shown its intent becomes active."""
    table = tables.subscription
    return (
        table.update()
        .where(table.c.id == subscription_id, table.c.status == "pending")
        .values(status="active", confirmed_at=now, updated_at=now)
    )


def cancel_deliveries(
    tables: Tables, subscription_id: str, reason: str, now: dt.datetime
) -> sa.Update:
    """The statement that cancels what waits of a subscription; of very many, the claim the rest.

    What is in flight is settled as what comes of it; a retry of it is cancelled when it is due.
    """
    delivery = tables.delivery
    some = (
        sa.select(delivery.c.id)
        .where(
            delivery.c.subscription_id == subscription_id,
            delivery.c.due_at.is_not(None),
            delivery.c.status == "pending",
        )
        .limit(CANCELLED_AT_ONCE)
    )
    return (
        delivery.update()
        .where(delivery.c.id.in_(some), delivery.c.status == "pending")
        .values(status="cancelled", reason=reason, **finished(now))
    )


def finished(now: dt.datetime) -> dict[str, Any]:
    """The columns of a delivery that has come to its end."""
    return {"due_at": None, "lease": None, "finished_at": now}
