"""Truth: how receivers are. What came of attempts ──► **what becomes of their subscriptions**.

All of it in the transaction of the settle. What a receiver answers goes for the URL that was
called: a subscription that has another one by now has nothing to do with it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from .. import retry
from ..database import Database
from ..models import EVENT, Tables
from ..sets import among
from .claims import Outcome
from .hosts import Hosts
from .subscriptions import cancel_deliveries, confirmed

OURS = frozenset({"internal", "proxy"})
"""The errors of attempts that failed by no fault of their receivers."""


class Health:
    """The receivers of one database."""

    def __init__(self, database: Database, tables: Tables, hosts: Hosts) -> None:
        self._database = database
        self._tables = tables
        self._hosts = hosts

    def note(
        self, outcomes: Sequence[Outcome], failing_limit: float, connection: sa.Connection
    ) -> tuple[dict[str, str], dict[str, dt.datetime]]:
        """Note what outcomes tell of their receivers.

        :returns: the subscriptions that were disabled, with the reason; and those that get hooks
            again, with the time since when they had not.
        """
        rows = self._rows({outcome.claim.subscription_id for outcome in outcomes}, connection)
        told = [
            outcome
            for outcome in outcomes
            if (row := rows.get(outcome.claim.subscription_id)) is not None
            and row.target_url == outcome.claim.target_url
            and outcome.error not in OURS
        ]
        recovered = self._note_failures(told, rows, connection)
        self._note_waits(told, connection)
        self._hosts.note(told, connection)
        self._confirm(told, connection)
        reasons = self._over(told, failing_limit, connection)
        for outcome in told:
            if outcome.disable is not None:
                reasons[outcome.claim.subscription_id] = outcome.disable
        return self._disable(reasons, connection) if reasons else {}, recovered

    def _rows(self, ids: Collection[str], connection: sa.Connection) -> dict[str, Any]:
        table = self._tables.subscription
        found = connection.execute(
            sa.select(
                table.c.id, table.c.target_url, table.c.failing_since, table.c.failed_at
            ).where(among(table.c.id, sorted(ids)))
        )
        return {row.id: row for row in found}

    def _note_failures(
        self, outcomes: Sequence[Outcome], rows: Mapping[str, Any], connection: sa.Connection
    ) -> dict[str, dt.datetime]:
        """Note since when subscriptions have been failing, or that they do no longer."""
        table, now = self._tables.subscription, self._database.now()
        events = [outcome for outcome in outcomes if outcome.claim.kind == EVENT]
        good = {o.claim.subscription_id for o in events if o.status == "delivered"}
        bad = {o.claim.subscription_id for o in events} - good
        given_up = {o.claim.subscription_id for o in events if o.status == "failed"} - good
        for ids, column in ((bad, table.c.failing_since), (given_up, table.c.failed_at)):
            unnoted = sorted(id_ for id_ in ids if getattr(rows[id_], column.name) is None)
            if unnoted:
                connection.execute(
                    table.update()
                    .where(among(table.c.id, unnoted), column.is_(None))
                    .values({column: now})
                )
        ill = {id_ for id_ in good if rows[id_].failing_since or rows[id_].failed_at}
        return self._well_again(ill, connection) if ill else {}

    def _well_again(
        self, ids: Collection[str], connection: sa.Connection
    ) -> dict[str, dt.datetime]:
        table = self._tables.subscription
        found = connection.execute(
            sa.select(table.c.id, table.c.failed_at)
            .where(among(table.c.id, sorted(ids)))
            .order_by(table.c.id)
            .with_for_update()
        ).all()
        connection.execute(
            table.update()
            .where(among(table.c.id, sorted(ids)))
            .values(failing_since=None, failed_at=None)
        )
        return {row.id: row.failed_at for row in found if row.failed_at is not None}

    def _over(
        self, outcomes: Sequence[Outcome], limit: float, connection: sa.Connection
    ) -> dict[str, str]:
        """Those of the subscriptions that have been failing for longer than `limit` seconds.

        Not by a first attempt: after a long time without any, that alone tells nothing.
        """
        table, now = self._tables.subscription, self._database.now()
        bad = {
            o.claim.subscription_id
            for o in outcomes
            if o.status == "failed" or (o.status == "pending" and o.claim.tries > 1)
        }
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

    def _disable(self, reasons: Mapping[str, str], connection: sa.Connection) -> dict[str, str]:
        """Disable subscriptions, and cancel what waits of them; those that were not before."""
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

    def _confirm(self, outcomes: Sequence[Outcome], connection: sa.Connection) -> None:
        """Make those active whose receivers have shown their intent, in answer to a handshake."""
        table, now = self._tables.subscription, self._database.now()
        for outcome in outcomes:  # once in a subscription's life, too
            if outcome.confirmed and outcome.claim.intent_id is not None:
                connection.execute(
                    confirmed(self._tables, outcome.claim.subscription_id, now)
                    .where(table.c.intent_id == outcome.claim.intent_id)
                    .values(rate=outcome.rate, booked_until=None)
                )

    def _note_waits(self, outcomes: Sequence[Outcome], connection: sa.Connection) -> None:
        """Note which receivers asked us to wait."""
        table, now = self._tables.subscription, self._database.now()
        waits: dict[str, float] = {}
        for outcome in outcomes:
            if outcome.wait:
                id_ = outcome.claim.subscription_id
                waits[id_] = max(outcome.wait, waits.get(id_, 0.0))
        for id_ in sorted(waits):
            until = now + dt.timedelta(seconds=waits[id_])
            connection.execute(
                table.update()
                .where(
                    table.c.id == id_, sa.or_(table.c.turn_at.is_(None), table.c.turn_at < until)
                )
                .values(turn_at=until)
            )
