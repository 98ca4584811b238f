"""Truth: all SQL of the pipeline. Set-based Core statements, each method one short transaction.

    event row ──► `fan_out` ──► delivery rows ──► `claim` ──► (POST) ──► `settle`

What the two databases do differently is in `database.py`.
"""

from __future__ import annotations

import datetime as dt
import secrets
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from . import event_types, formats, ids
from .database import Database, among
from .models import Tables


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery that this process may send until its lease ends.

    :param lease: the token of the claim; `settle` counts only while it is the delivery's.
    :param number: of the attempt to be made, from 1.
    """

    delivery_id: str
    lease: str
    number: int
    event: formats.Event
    subscription_id: str
    target_url: str
    secret: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a claim, and what is to become of its delivery.

    :param status: `delivered`, `failed` or `pending`.
    :param next_at: when it falls due again; only when `pending`.
    :param disable: why its subscription is to be disabled, or None.
    :param response: what the receiver answered, cut to the limit.
    """

    claim: Claim
    status: str
    started_at: dt.datetime
    duration: float
    status_code: int | None = None
    error: str | None = None
    detail: str = ""
    response: str = ""
    reason: str | None = None
    next_at: dt.datetime | None = None
    disable: str | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """What a settle did.

    :param held: ids of the deliveries whose lease was still ours.
    :param disabled: ids of the subscriptions that were active until now, with the reason.
    """

    held: frozenset[str]
    disabled: dict[str, str]


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

    def now(self) -> dt.datetime:
        """The time that due times and leases are told by."""
        return self._database.now()

    def prepare(self) -> None:
        """To be called once by a worker that starts: see `Database.prepare`."""
        self._database.prepare()

    def synchronise(self) -> None:
        """To be called before each drain: see `Database.synchronise`."""
        self._database.synchronise()

    def fan_out(self, limit: int, delay: float = 0.0) -> tuple[int, int]:
        """Make deliveries of up to `limit` events that have none yet.

        Events are found by their mark, never by their number: transactions commit out of order.

        :param delay: seconds until the first attempt.
        :returns: how many events were fanned out, and to how many deliveries.
        """
        event = self._tables.event
        waiting = (
            sa.select(event.c.sequence, event.c.type)
            .where(event.c.fanned_out_at.is_(None))
            .order_by(event.c.sequence)
            .limit(limit)
        )
        with self._database.connect() as connection:
            if connection.execute(waiting.limit(1)).first() is None:
                return 0, 0
        with self._database.transaction() as connection:
            found = connection.execute(waiting.with_for_update(skip_locked=True)).all()
            if not found:
                return 0, 0
            sequences = [row.sequence for row in found]
            now = self.now()
            made = connection.execute(
                self._deliveries_of(sequences, {row.type for row in found}, now, delay),
                execution_options={"preserve_rowcount": True},
            )
            connection.execute(
                event.update().where(among(event.c.sequence, sequences)).values(fanned_out_at=now)
            )
        return len(found), made.rowcount

    def _deliveries_of(
        self, sequences: Sequence[int], types: Collection[str], now: dt.datetime, delay: float
    ) -> sa.Insert:
        event, delivery = self._tables.event, self._tables.delivery
        subscription, wish = self._tables.subscription, self._tables.subscription_event
        matching = sa.union_all(
            *(
                sa.select(sa.literal(type_).label("type"), sa.literal(pattern).label("pattern"))
                for type_ in sorted(types)
                for pattern in event_types.patterns_of(type_)
            )
        ).subquery("matching")
        # Without DISTINCT: no two patterns of a subscription match one event (event_types.widest).
        chosen = (
            sa.select(
                self._new_delivery_id(now),
                event.c.id,
                subscription.c.id,
                event.c.owner,
                event.c.type,
                event.c.resource,
                sa.literal("pending"),
                sa.literal(0),
                sa.literal(now + dt.timedelta(seconds=delay), delivery.c.due_at.type),
                sa.literal(now, delivery.c.created_at.type),
            )
            .select_from(event)
            .join(matching, matching.c.type == event.c.type)
            .join(
                wish,
                sa.and_(wish.c.owner == event.c.owner, wish.c.pattern == matching.c.pattern),
            )
            .join(subscription, subscription.c.id == wish.c.subscription_id)
            .where(
                among(event.c.sequence, sequences),
                subscription.c.status == "active",
                sa.or_(subscription.c.expires_at.is_(None), subscription.c.expires_at > now),
            )
        )
        c = delivery.c
        return delivery.insert().from_select(
            [
                c.id,
                c.event_id,
                c.subscription_id,
                c.owner,
                c.event_type,
                c.resource,
                c.status,
                c.attempts,
                c.due_at,
                c.created_at,
            ],
            chosen,
            include_defaults=False,
        )

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

    def claim(
        self,
        limit: int,
        lease: float,
        *,
        share: Callable[[str], int] | None = None,
        full: Collection[str] = (),
    ) -> list[Claim]:
        """Take up to `limit` deliveries that are due, for `lease` seconds.

        Those whose subscription may no longer be served are cancelled instead.

        :param share: how many of a subscription (by its id) may be taken, at most.
        :param full: ids of subscriptions of which none may be taken.
        """
        delivery, subscription = self._tables.delivery, self._tables.subscription
        now = self.now()
        is_due = delivery.c.due_at <= now
        expired = subscription.c.expires_at <= now
        due = (
            sa.select(
                delivery.c.id,
                delivery.c.event_id,
                delivery.c.subscription_id,
                delivery.c.attempts,
                subscription.c.target_url,
                subscription.c.secret,
                subscription.c.status,
                # Judged here: what a customer gave as a time need not be one for Python.
                sa.and_(subscription.c.expires_at.is_not(None), expired).label("expired"),
            )
            .select_from(
                delivery.outerjoin(subscription, subscription.c.id == delivery.c.subscription_id)
            )
            .where(is_due)
            .order_by(delivery.c.due_at)
            .limit(limit if share is None else 2 * limit)
            .with_for_update(of=delivery, skip_locked=True)
        )
        if full:
            due = due.where(sa.not_(among(delivery.c.subscription_id, full)))
        with self._database.connect() as connection:
            if connection.execute(sa.select(delivery.c.id).where(is_due).limit(1)).first() is None:
                return []
        with self._database.transaction() as connection:
            rows = _fairly(connection.execute(due).all(), limit, share)
            if not rows:
                return []
            events = self._events(connection, {row.event_id for row in rows})
            token = secrets.token_hex(16)
            claims: list[Claim] = []
            unwanted: dict[str, list[str]] = defaultdict(list)
            for row in rows:
                event = events.get(row.event_id)
                objection = _objection(row.status, row.expired, event)
                if event is None or objection is not None:
                    unwanted[objection or ""].append(row.id)
                    continue
                claims.append(
                    Claim(
                        delivery_id=row.id,
                        lease=token,
                        number=row.attempts + 1,
                        event=event,
                        subscription_id=row.subscription_id,
                        target_url=row.target_url,
                        secret=row.secret,
                    )
                )
            if claims:
                connection.execute(
                    self._of([claim.delivery_id for claim in claims]).values(
                        status="sending", lease=token, due_at=now + dt.timedelta(seconds=lease)
                    )
                )
            for reason, unwanted_ids in unwanted.items():
                connection.execute(
                    self._of(unwanted_ids).values(
                        status="cancelled", reason=reason, **_finished(now)
                    )
                )
        return claims

    def _events(
        self, connection: sa.Connection, event_ids: Collection[str]
    ) -> dict[str, formats.Event]:
        event = self._tables.event
        found = connection.execute(
            sa.select(
                event.c.id,
                event.c.type,
                event.c.created_at,
                event.c.sequence,
                event.c.data,
                event.c.previous,
            ).where(among(event.c.id, event_ids))
        )
        return {row.id: formats.Event(*row) for row in found}

    def settle(self, outcomes: Sequence[Outcome]) -> Settled:
        """Write down what came of attempts.

        An attempt is always recorded; it changes its delivery only if the lease is still the one
        that it was made under.
        """
        now = self.now()
        with self._database.transaction() as connection:
            held = self._held([outcome.claim for outcome in outcomes], connection)
            ours = [outcome for outcome in outcomes if outcome.claim.delivery_id in held]
            self._settle_deliveries(ours, now, connection)
            connection.execute(
                self._tables.attempt.insert(), [_attempt(outcome) for outcome in outcomes]
            )
            gone = {
                outcome.claim.subscription_id: outcome.disable
                for outcome in ours
                if outcome.disable is not None
            }
            disabled = self._disable(gone, now, connection) if gone else {}
        return Settled(held, disabled)

    def _held(self, claims: Collection[Claim], connection: sa.Connection) -> frozenset[str]:
        """Lock those deliveries whose lease is still the claim's."""
        delivery = self._tables.delivery
        by_lease: dict[str, list[str]] = defaultdict(list)
        for claim in claims:
            by_lease[claim.lease].append(claim.delivery_id)
        held: set[str] = set()
        for lease, delivery_ids in by_lease.items():
            held.update(
                connection.scalars(
                    sa.select(delivery.c.id)
                    .where(among(delivery.c.id, delivery_ids), delivery.c.lease == lease)
                    .order_by(delivery.c.id)
                    .with_for_update()
                )
            )
        return frozenset(held)

    def _settle_deliveries(
        self, outcomes: Sequence[Outcome], now: dt.datetime, connection: sa.Connection
    ) -> None:
        delivery = self._tables.delivery
        delivered = [o.claim.delivery_id for o in outcomes if o.status == "delivered"]
        if delivered:
            connection.execute(
                self._of(delivered).values(
                    status="delivered", attempts=delivery.c.attempts + 1, **_finished(now)
                )
            )
        others = [outcome for outcome in outcomes if outcome.status != "delivered"]
        if others:
            connection.execute(
                delivery.update()
                .where(delivery.c.id == sa.bindparam("delivery_id"))
                .values(
                    status=sa.bindparam("new_status"),
                    attempts=delivery.c.attempts + 1,
                    reason=sa.bindparam("new_reason"),
                    due_at=sa.bindparam("next_at"),
                    finished_at=sa.bindparam("end"),
                    lease=None,
                ),
                [
                    {
                        "delivery_id": outcome.claim.delivery_id,
                        "new_status": outcome.status,
                        "new_reason": outcome.reason,
                        "next_at": outcome.next_at,
                        "end": None if outcome.next_at else now,
                    }
                    for outcome in others
                ],
            )

    def _disable(
        self, reasons: dict[str, str], now: dt.datetime, connection: sa.Connection
    ) -> dict[str, str]:
        subscription = self._tables.subscription
        found = connection.scalars(
            sa.select(subscription.c.id)
            .where(among(subscription.c.id, reasons), subscription.c.status == "active")
            .order_by(subscription.c.id)
            .with_for_update()
        ).all()
        for subscription_id in found:  # rare: once in a subscription's life
            reason = reasons[subscription_id]
            connection.execute(
                subscription.update()
                .where(subscription.c.id == subscription_id)
                .values(status="disabled", disabled_reason=reason, updated_at=now)
            )
            connection.execute(
                cancel_deliveries(
                    self._tables, subscription_id, f"the subscription is disabled: {reason}", now
                )
            )
        return {subscription_id: reasons[subscription_id] for subscription_id in found}

    def give_back(self, claims: Collection[Claim]) -> None:
        """Let go of deliveries that were claimed and not sent: they are due at once."""
        if not claims:
            return
        with self._database.transaction() as connection:
            held = self._held(claims, connection)
            if held:
                connection.execute(
                    self._of(held).values(status="pending", lease=None, due_at=self.now())
                )

    def next_due(self) -> dt.datetime | None:
        """When there will be something to do: a delivery falls due, or a lease of another ends."""
        event, delivery = self._tables.event, self._tables.delivery
        with self._database.connect() as connection:
            waiting = sa.select(event.c.sequence).where(event.c.fanned_out_at.is_(None)).limit(1)
            if connection.execute(waiting).first() is not None:
                return self.now()
            due: dt.datetime | None = connection.scalar(
                sa.select(delivery.c.due_at)
                .where(delivery.c.due_at.is_not(None))
                .order_by(delivery.c.due_at)
                .limit(1)
            )
            return due

    def _of(self, delivery_ids: Collection[str]) -> sa.Update:
        delivery = self._tables.delivery
        return delivery.update().where(among(delivery.c.id, delivery_ids))


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
        .values(status="cancelled", reason=reason, **_finished(now))
    )


def _finished(now: dt.datetime) -> dict[str, Any]:
    return {"due_at": None, "lease": None, "finished_at": now}


def _fairly(rows: Sequence[Any], limit: int, share: Callable[[str], int] | None) -> Sequence[Any]:
    """The first `limit` rows, but no more of any subscription than its share."""
    if share is None:
        return rows
    taken: Counter[str] = Counter()
    chosen: list[Any] = []
    for row in rows:
        if len(chosen) == limit:
            break
        if taken[row.subscription_id] < share(row.subscription_id):
            taken[row.subscription_id] += 1
            chosen.append(row)
    return chosen


def _objection(status: str | None, expired: bool, event: formats.Event | None) -> str | None:
    """Why a delivery that is due may not be sent, or None."""
    if status is None:
        return "the subscription was deleted"
    if status != "active":
        return f"the subscription is {status}"
    if expired:
        return "the subscription has expired"
    if event is None:
        return "the event is no longer kept"
    return None


def _attempt(outcome: Outcome) -> dict[str, Any]:
    return {
        "id": ids.new(ids.ATTEMPT, outcome.started_at.timestamp()),
        "delivery_id": outcome.claim.delivery_id,
        "number": outcome.claim.number,
        "started_at": outcome.started_at,
        "duration": outcome.duration,
        "status_code": outcome.status_code,
        "error": outcome.error,
        "detail": outcome.detail or None,
        "response": outcome.response or None,
        "next_at": outcome.next_at,
    }
