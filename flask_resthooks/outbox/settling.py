"""Truth: the settle. What came of attempts ──► **the fate of their deliveries**, written down."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from .. import ids
from ..database import Database
from ..models import Tables
from ..sets import among, insert_rows, rows_of
from .claims import Claim, Outcome, Settled
from .health import OURS, Health
from .hosts import Hosts
from .subscriptions import finished

PORTION = 4 * 1024 * 1024
"""Characters of receivers' answers that one statement writes down, about."""


class Settling:
    """Writes down what came of claims; it counts only while their lease is held."""

    def __init__(self, database: Database, tables: Tables, hosts: Hosts) -> None:
        self._database = database
        self._tables = tables
        self._hosts = hosts
        self._health = Health(database, tables, hosts)

    def run(self, outcomes: Sequence[Outcome], failing_limit: float) -> Settled:
        """See `Outbox.settle`."""
        if not outcomes:
            return Settled(frozenset(), {}, {})
        now = self._database.now()
        with self._database.transaction() as connection:
            held = self._delivered(outcomes, now, connection)
            held |= self._not_delivered(outcomes, now, connection)
            ours = [outcome for outcome in outcomes if outcome.claim.delivery_id in held]
            for some in _portions(outcomes):
                insert_rows(connection, self._tables.attempt, _attempts(some))
            disabled, recovered = self._health.note(ours, failing_limit, connection)
            self._hosts.unbook([o.claim for o in ours if o.error in OURS], connection)
        return Settled(held, disabled, recovered)

    def give_back(self, claims: Collection[Claim], delay: float) -> None:
        """See `Outbox.give_back`."""
        if not claims:
            return
        with self._database.transaction() as connection:
            held = self._held(claims, connection)
            if held:
                mine = [claim for claim in claims if claim.delivery_id in held]
                self._hosts.unbook(mine, connection)
                due_at = self._database.now() + dt.timedelta(seconds=delay)
                connection.execute(
                    self._of(held).values(status="pending", lease=None, due_at=due_at)
                )

    def cancel(self, reasons: Sequence[tuple[Claim, str]]) -> None:
        """See `Outbox.cancel`."""
        now = self._database.now()
        by_reason: Mapping[str, list[str]] = defaultdict(list)
        with self._database.transaction() as connection:
            held = self._held([claim for claim, _ in reasons], connection)
            mine = [claim for claim, _ in reasons if claim.delivery_id in held]
            self._hosts.unbook(mine, connection)
            for claim, reason in reasons:
                if claim.delivery_id in held:
                    by_reason[reason].append(claim.delivery_id)
            for reason, delivery_ids in by_reason.items():
                connection.execute(
                    self._of(delivery_ids).values(
                        status="cancelled", reason=reason, **finished(now)
                    )
                )

    def _held(self, claims: Collection[Claim], connection: sa.Connection) -> frozenset[str]:
        """Lock those deliveries whose lease is still the claim's."""
        delivery = self._tables.delivery
        held: set[str] = set()
        for lease, delivery_ids in _by_lease(claims).items():
            mine = (
                sa.select(delivery.c.id)
                .where(among(delivery.c.id, delivery_ids), delivery.c.lease == lease)
                .order_by(delivery.c.id)
                .with_for_update()
            )
            held.update(id_ for (id_,) in rows_of(connection, mine))
        return frozenset(held)

    def _delivered(
        self, outcomes: Sequence[Outcome], now: dt.datetime, connection: sa.Connection
    ) -> frozenset[str]:
        """Settle what was delivered; the ids of those whose lease was still the claim's."""
        delivery = self._tables.delivery
        values = {
            "status": "delivered",
            "attempts": delivery.c.attempts + 1,
            "reason": None,
            **finished(now),
        }
        held: set[str] = set()
        claims = [outcome.claim for outcome in outcomes if outcome.status == "delivered"]
        if self._database.sqlite:  # nobody else writes meanwhile
            held.update(self._held(claims, connection))
        for lease, ids_ in _by_lease(claims).items():
            mine = self._of(ids_).where(delivery.c.lease == lease).values(**values)
            if self._database.sqlite:
                connection.execute(mine)
            else:
                held.update(connection.scalars(mine.returning(delivery.c.id)))
        return frozenset(held)

    def _not_delivered(
        self, outcomes: Sequence[Outcome], now: dt.datetime, connection: sa.Connection
    ) -> frozenset[str]:
        """The same for the others."""
        delivery = self._tables.delivery
        others = [outcome for outcome in outcomes if outcome.status != "delivered"]
        held = self._held([outcome.claim for outcome in others], connection)
        values = [
            {
                "delivery_id": outcome.claim.delivery_id,
                "new_status": outcome.status,
                "fault": int(outcome.fault),
                "new_reason": outcome.reason,
                "next_at": outcome.next_at,
                "end": None if outcome.next_at else now,
            }
            for outcome in others
            if outcome.claim.delivery_id in held
        ]
        if values:
            connection.execute(
                delivery.update()
                .where(delivery.c.id == sa.bindparam("delivery_id"))
                .values(
                    status=sa.bindparam("new_status"),
                    attempts=delivery.c.attempts + 1,
                    # A fault of ours takes no attempt from those that the schedule grants.
                    attempts_before=delivery.c.attempts_before + sa.bindparam("fault"),
                    faults=delivery.c.faults + sa.bindparam("fault"),
                    reason=sa.bindparam("new_reason"),
                    due_at=sa.bindparam("next_at"),
                    finished_at=sa.bindparam("end"),
                    lease=None,
                ),
                values,
            )
        return held

    def _of(self, delivery_ids: Collection[str]) -> sa.Update:
        delivery = self._tables.delivery
        return delivery.update().where(among(delivery.c.id, delivery_ids))


def _by_lease(claims: Collection[Claim]) -> dict[str, list[str]]:
    by_lease: dict[str, list[str]] = defaultdict(list)
    for claim in claims:
        by_lease[claim.lease].append(claim.delivery_id)
    return by_lease


def _portions(outcomes: Sequence[Outcome]) -> Iterator[list[Outcome]]:
    """Some at a time, so that not all that receivers have written is in one statement."""
    portion: list[Outcome] = []
    size = 0
    for outcome in outcomes:
        portion.append(outcome)
        size += len(outcome.response)
        if size > PORTION:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def _attempts(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    named = ids.several(ids.ATTEMPT, [outcome.started_at.timestamp() for outcome in outcomes])
    return [
        {
            "id": id_,
            "delivery_id": outcome.claim.delivery_id,
            "number": outcome.claim.number,
            "started_at": outcome.started_at,
            "duration": outcome.duration,
            "status_code": outcome.status_code,
            "error": outcome.error,
            "detail": outcome.detail or None,
            "response": outcome.response or None,
            "request_id": outcome.request_id,
            "next_at": outcome.next_at,
        }
        for id_, outcome in zip(named, outcomes, strict=True)
    ]
