"""Truth: the claim. Deliveries that are due ──► **those that this process may send now**."""

from __future__ import annotations

import datetime as dt
import secrets
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from .. import formats
from ..database import Database, among
from ..models import EVENT, HANDSHAKE, NOTICE, PING, Tables
from .claims import Claim
from .subscriptions import finished
from .turns import Bookings, book, held, needs_turn

GONE = "the event is no longer kept"

POSTPONED_AT_ONCE = 10_000
"""Deliveries of one subscription that one look postpones, at most."""


class Claiming:
    """Takes what is due."""

    def __init__(self, database: Database, tables: Tables) -> None:
        self._database = database
        self._tables = tables

    def run(
        self,
        limit: int,
        lease: float,
        share: Callable[[str], int] | None,
        full: Collection[str],
        look: int,
    ) -> tuple[list[Claim], int]:
        """See `Outbox.claim`.

        :param look: how many deliveries are looked at.
        :returns: the claims, and of how many others it was said that they wait or are cancelled.
        """
        delivery = self._tables.delivery
        now = self._database.now()
        is_due = delivery.c.due_at <= now
        with self._database.connect() as connection:
            if connection.execute(sa.select(delivery.c.id).where(is_due).limit(1)).first() is None:
                return [], 0
        due = self._due(now).limit(look)
        if full:
            due = due.where(sa.not_(among(delivery.c.subscription_id, full)))
        token = secrets.token_hex(16)
        with self._database.transaction() as connection:
            unwanted: dict[str, list[str]] = defaultdict(list)
            wanted = []
            for row in connection.execute(due).all():
                objection = _objection(row)
                if objection is None:
                    wanted.append(row)
                else:
                    unwanted[objection].append(row.id)
            unheld, until = held(wanted, now)
            bookings = book(unheld, now, self._booked_until(connection, unheld, now))
            mine = _fairly(bookings.free, limit, share)
            events = self._events(connection, {row.event_id for row in mine}) if mine else {}
            unwanted[GONE] += [row.id for row in mine if row.event_id not in events]
            mine = [row for row in mine if row.event_id in events]
            others = self._postpone(connection, until, now)
            others += self._keep_turns(connection, bookings, {row.id for row in mine})
            for reason, delivery_ids in unwanted.items():
                if delivery_ids:
                    others += len(delivery_ids)
                    connection.execute(
                        self._of(delivery_ids).values(
                            status="cancelled", reason=reason, **finished(now)
                        )
                    )
            if mine:
                ends_at = now + dt.timedelta(seconds=lease)
                connection.execute(
                    self._of([row.id for row in mine]).values(
                        status="sending", lease=token, due_at=ends_at, booked=False
                    )
                )
        return [_claim(row, events[row.event_id], token, now) for row in mine], others

    def _due(self, now: dt.datetime) -> sa.Select[Any]:
        delivery, subscription = self._tables.delivery, self._tables.subscription
        host = self._tables.host
        expired = subscription.c.expires_at <= now
        return (
            sa.select(
                delivery.c.id,
                delivery.c.kind,
                delivery.c.event_id,
                delivery.c.owner,
                delivery.c.subscription_id,
                delivery.c.attempts,
                delivery.c.attempts_before,
                delivery.c.due_at,
                delivery.c.booked,
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
                host.c.turn_at.label("host_turn_at"),
                # Judged here: what a customer gave as a time need not be one for Python.
                sa.and_(subscription.c.expires_at.is_not(None), expired).label("expired"),
                (subscription.c.intent_until <= now).label("too_late"),
            )
            .select_from(
                delivery.outerjoin(
                    subscription, subscription.c.id == delivery.c.subscription_id
                ).outerjoin(host, host.c.host == subscription.c.host)
            )
            .where(delivery.c.due_at <= now)
            .order_by(delivery.c.due_at)
            .with_for_update(of=delivery, skip_locked=True)
        )

    def _events(
        self, connection: sa.Connection, event_ids: Collection[str]
    ) -> dict[str, formats.Event]:
        event = self._tables.event
        found = connection.execute(
            sa.select(*event_columns(self._tables)).where(among(event.c.id, event_ids))
        )
        return {row.id: formats.Event(*row) for row in found}

    def _booked_until(
        self, connection: sa.Connection, rows: Sequence[Any], now: dt.datetime
    ) -> dict[str, dt.datetime | None]:
        """Of the subscriptions of which turns have to be booked. Nobody else books any meanwhile.

        Without those that others have locked: who changes a subscription may wait for deliveries
        that are locked here.
        """
        rated = {row.subscription_id for row in rows if needs_turn(row, now)}
        if not rated:
            return {}
        table = self._tables.subscription
        found = connection.execute(
            sa.select(table.c.id, table.c.booked_until)
            .where(among(table.c.id, sorted(rated)))
            .order_by(table.c.id)
            .with_for_update(skip_locked=True)
        )
        return {row.id: row.booked_until for row in found}

    def _keep_turns(
        self, connection: sa.Connection, bookings: Bookings, sent: Collection[str]
    ) -> int:
        """Write down the turns of what is not sent now; how many."""
        subscription, delivery = self._tables.subscription, self._tables.delivery
        if bookings.until:
            connection.execute(
                subscription.update()
                .where(subscription.c.id == sa.bindparam("of"))
                .values(booked_until=sa.bindparam("until")),
                [{"of": id_, "until": until} for id_, until in bookings.until.items()],
            )
        later = [
            {"of": id_, "turn": turn} for id_, turn in bookings.turns.items() if id_ not in sent
        ]
        if later:
            connection.execute(
                delivery.update()
                .where(delivery.c.id == sa.bindparam("of"))
                .values(due_at=sa.bindparam("turn"), booked=True),
                later,
            )
        return len(later)

    def _postpone(
        self, connection: sa.Connection, until: Mapping[str, dt.datetime], now: dt.datetime
    ) -> int:
        """Have what is due of subscriptions that are held fall due later; of how many it was."""
        delivery = self._tables.delivery
        count = 0
        for subscription_id in sorted(until):
            some = (
                sa.select(delivery.c.id)
                .where(delivery.c.subscription_id == subscription_id, delivery.c.due_at <= now)
                .order_by(delivery.c.due_at)
                .limit(POSTPONED_AT_ONCE)
                .with_for_update(skip_locked=True)
            )
            count += connection.execute(
                delivery.update()
                .where(delivery.c.id.in_(some))
                .values(due_at=until[subscription_id], booked=False)
            ).rowcount
        return count

    def _of(self, delivery_ids: Collection[str]) -> sa.Update:
        delivery = self._tables.delivery
        return delivery.update().where(among(delivery.c.id, delivery_ids))


def event_columns(tables: Tables) -> list[sa.Column[Any]]:
    """What a `formats.Event` is made of, in its order."""
    c = tables.event.c
    return [
        *(c.id, c.type, c.created_at, c.sequence, c.data, c.previous),
        *(c.resource, c.url, c.kind),
    ]


def _claim(row: Any, event: formats.Event, token: str, now: dt.datetime) -> Claim:
    return Claim(
        delivery_id=row.id,
        lease=token,
        number=row.attempts + 1,
        tries=row.attempts + 1 - row.attempts_before,
        event=event,
        kind=row.kind,
        owner=row.owner,
        subscription_id=row.subscription_id,
        target_url=row.target_url,
        format=row.format,
        payload=row.payload,
        secrets=(row.secret, *_still_signing(row.former_secrets, now)),
        headers=row.headers,
        host=row.host,
        intent_id=row.intent_id,
        intent_secret=row.intent_secret,
        confirmed=row.confirmed_at is not None,
    )


def _still_signing(former: Sequence[dict[str, str]], now: dt.datetime) -> list[str]:
    return [one["secret"] for one in former if dt.datetime.fromisoformat(one["until"]) > now]


def _fairly(rows: Sequence[Any], limit: int, share: Callable[[str], int] | None) -> Sequence[Any]:
    """The first `limit` rows, but no more of any subscription than its share."""
    if share is None:
        return rows[:limit]
    taken: Counter[str] = Counter()
    chosen: list[Any] = []
    for row in rows:
        if len(chosen) == limit:
            break
        if taken[row.subscription_id] < share(row.subscription_id):
            taken[row.subscription_id] += 1
            chosen.append(row)
    return chosen


_SENT_WHEN: dict[str, tuple[str, ...]] = {
    EVENT: ("active",),
    PING: ("active", "inactive", "disabled"),
    HANDSHAKE: ("pending",),
    NOTICE: ("expired",),
}
"""The statuses of a subscription in which deliveries of each kind are sent."""


def _objection(row: Any) -> str | None:
    """Why a delivery that is due may not be sent, or None."""
    if row.status is None:
        return "the subscription was deleted"
    if row.status not in _SENT_WHEN[row.kind]:
        return f"the subscription is {row.status}"
    if row.expired and row.kind != NOTICE:
        return "the subscription has expired"
    if row.kind == HANDSHAKE and row.too_late:
        return "the receiver did not show its intent in time"
    return None
