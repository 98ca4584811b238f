"""Truth: what becomes of subscriptions, by what their receivers do and by time.

The API changes them as their owners wish (`api/rows.py`); what is here happens by itself.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from .. import formats, ids, retry
from ..database import Database, among
from ..models import EVENT, EXPIRING, NOTICE, PING, Tables
from .claims import Outcome

EXPIRED = "resthooks.expired"
"""The event type of the notice that a subscription has expired."""

EXPIRED_AT_ONCE = 100


class Subscriptions:
    """The subscriptions of one database, in the transactions of a settle."""

    def __init__(self, database: Database, tables: Tables) -> None:
        self._database = database
        self._tables = tables

    def note_health(
        self, outcomes: Sequence[Outcome], connection: sa.Connection
    ) -> dict[str, dt.datetime]:
        """Note since when subscriptions have been failing, or that they do no longer.

        :returns: those that get hooks again, with the time since when they had not.
        """
        table, now = self._tables.subscription, self._database.now()
        told = [outcome for outcome in outcomes if outcome.claim.kind == EVENT]
        good = {o.claim.subscription_id for o in told if o.status == "delivered"}
        bad = {o.claim.subscription_id for o in told} - good
        given_up = {o.claim.subscription_id for o in told if o.status == "failed"} - good
        recovered: dict[str, dt.datetime] = {}
        if good:
            recovered = self._well_again(good, connection)
        if bad:
            connection.execute(
                table.update()
                .where(among(table.c.id, sorted(bad)), table.c.failing_since.is_(None))
                .values(failing_since=now)
            )
        if given_up:
            connection.execute(
                table.update()
                .where(among(table.c.id, sorted(given_up)), table.c.failed_at.is_(None))
                .values(failed_at=now)
            )
        return recovered

    def _well_again(
        self, good: Collection[str], connection: sa.Connection
    ) -> dict[str, dt.datetime]:
        table = self._tables.subscription
        ill = sa.or_(table.c.failing_since.is_not(None), table.c.failed_at.is_not(None))
        found = connection.execute(
            sa.select(table.c.id, table.c.failed_at)
            .where(among(table.c.id, good), ill)
            .order_by(table.c.id)
            .with_for_update()
        ).all()
        if found:
            connection.execute(
                table.update()
                .where(among(table.c.id, [row.id for row in found]))
                .values(failing_since=None, failed_at=None)
            )
        return {row.id: row.failed_at for row in found if row.failed_at is not None}

    def over(
        self, outcomes: Sequence[Outcome], limit: float, connection: sa.Connection
    ) -> dict[str, str]:
        """Those of the subscriptions that have been failing for longer than `limit` seconds."""
        table, now = self._tables.subscription, self._database.now()
        bad = {o.claim.subscription_id for o in outcomes if o.status != "delivered"}
        if not bad or not limit:
            return {}
        found = connection.execute(
            sa.select(table.c.id, table.c.failing_since).where(
                among(table.c.id, sorted(bad)),
                table.c.status == "active",
                table.c.failing_since.is_not(None),
            )
        )
        return {
            row.id: retry.failing_reason(row.failing_since, now)
            for row in found
            if retry.is_over(row.failing_since, now, limit)
        }

    def disable(self, reasons: Mapping[str, str], connection: sa.Connection) -> dict[str, str]:
        """Disable subscriptions, and cancel what waits of them.

        :param reasons: by the subscription's id.
        :returns: those of them that were not disabled or the like already.
        """
        table, now = self._tables.subscription, self._database.now()
        found = connection.scalars(
            sa.select(table.c.id)
            .where(among(table.c.id, sorted(reasons)), table.c.status.in_(("active", "pending")))
            .order_by(table.c.id)
            .with_for_update()
        ).all()
        for subscription_id in found:  # rare: once in a subscription's life
            reason = reasons[subscription_id]
            connection.execute(
                table.update()
                .where(table.c.id == subscription_id)
                .values(
                    status="disabled",
                    disabled_reason=reason,
                    failed_at=sa.func.coalesce(table.c.failed_at, sa.literal(now)),
                    updated_at=now,
                )
            )
            connection.execute(
                cancel_deliveries(
                    self._tables, subscription_id, f"the subscription is disabled: {reason}", now
                )
            )
        return {subscription_id: reasons[subscription_id] for subscription_id in found}

    def confirm(self, outcomes: Sequence[Outcome], connection: sa.Connection) -> None:
        """Make those active whose receivers have shown their intent, in answer to a handshake."""
        now = self._database.now()
        for outcome in outcomes:  # once in a subscription's life, too
            if outcome.confirmed and outcome.claim.intent_id is not None:
                connection.execute(
                    confirmed(self._tables, outcome.claim.subscription_id, now)
                    .where(self._tables.subscription.c.intent_id == outcome.claim.intent_id)
                    .values(rate=outcome.rate)
                )

    def note_turns(self, outcomes: Sequence[Outcome], connection: sa.Connection) -> None:
        """Note which receivers and hosts asked us to wait, and which hosts do no longer."""
        now = self._database.now()
        waits: dict[str, float] = {}
        hosts: dict[str, tuple[float, int]] = {}
        well = {o.claim.host for o in outcomes if o.status == "delivered"}
        for outcome in outcomes:
            claim = outcome.claim
            if outcome.wait:
                waits[claim.subscription_id] = max(
                    outcome.wait, waits.get(claim.subscription_id, 0.0)
                )
            # Not by tests and handshakes: many share a host, and each could slow down the others.
            if outcome.slow_host is not None and claim.kind == EVENT:
                strikes = 1 if claim.host in well else claim.strikes + 1
                hosts[claim.host] = (outcome.slow_host, strikes)
        for subscription_id in sorted(waits):
            until = now + dt.timedelta(seconds=waits[subscription_id])
            table = self._tables.subscription
            connection.execute(
                table.update()
                .where(
                    table.c.id == subscription_id,
                    sa.or_(table.c.turn_at.is_(None), table.c.turn_at < until),
                )
                .values(turn_at=until)
            )
        for host in sorted(hosts):
            seconds, strikes = hosts[host]
            self._slow_down(host, now + dt.timedelta(seconds=seconds), strikes, connection)
        struck = {o.claim.host for o in outcomes if o.claim.strikes} & well - hosts.keys()
        if struck:
            connection.execute(
                self._tables.host.delete().where(among(self._tables.host.c.host, sorted(struck)))
            )

    def _slow_down(
        self, host: str, until: dt.datetime, strikes: int, connection: sa.Connection
    ) -> None:
        insert: Any = sqlite.insert if self._database.sqlite else postgresql.insert
        values = {"turn_at": until, "strikes": strikes}
        statement = insert(self._tables.host).values(host=host, **values)
        connection.execute(statement.on_conflict_do_update(index_elements=["host"], set_=values))

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
            found = connection.execute(locked).mappings().all()
            for row in found:
                connection.execute(
                    table.update()
                    .where(table.c.id == row["id"])
                    .values(status="expired", updated_at=now)
                )
                reason = "the subscription has expired"
                connection.execute(cancel_deliveries(self._tables, row["id"], reason, now))
                if row["expiry_notice"] and row["status"] == "active":
                    send(self._tables, connection, dict(row), NOTICE, EXPIRED, now)
        return len(found)

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
    """The statement that cancels whatever of a subscription waits.

    What is in flight is settled as what comes of it; a retry of it is cancelled when it is due.
    """
    delivery = tables.delivery
    return (
        delivery.update()
        .where(
            delivery.c.subscription_id == subscription_id,
            delivery.c.due_at.is_not(None),
            delivery.c.status == "pending",
        )
        .values(status="cancelled", reason=reason, **finished(now))
    )


def finished(now: dt.datetime) -> dict[str, Any]:
    """The columns of a delivery that has come to its end."""
    return {"due_at": None, "lease": None, "finished_at": now}
