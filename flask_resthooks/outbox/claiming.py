"""Truth: the claim. Deliveries that are due ──► **those that this process may send now**."""

from __future__ import annotations

import datetime as dt
import functools
import logging
import secrets
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from .. import formats, retry
from ..database import Database
from ..models import EVENT, HANDSHAKE, NOTICE, PING, Tables
from ..sets import among, bytes_of, rows_of
from .candidates import Due, Found, Recipient
from .claims import Claim
from .fairness import Share, pick
from .hosts import Hosts
from .looking import Looking, read_all
from .subscriptions import finished
from .turns import Bookings, book, held, is_probe, needs_turn, probes

log = logging.getLogger(__name__)

GONE = "the event is no longer kept"

MEMORY = 64 * 1024 * 1024
"""Bytes of events that one claim takes on."""

IN_ONE_PIECE = 4 * 1024 * 1024
"""Bytes of events that are read in one piece at most."""

MEMORY_OF_BODY = 256 * 1024
"""Bytes that a body of a long event is counted for."""

POSTPONED_AT_ONCE = 10_000
"""Deliveries of one subscription that one look postpones, at most."""


class Claiming:
    """Takes what is due."""

    def __init__(self, database: Database, tables: Tables, hosts: Hosts) -> None:
        self._database = database
        self._tables = tables
        self._hosts = hosts
        self._looking = Looking(database, tables)

    def run(
        self,
        limit: int,
        lease: float,
        probe: float,
        share: Share | None,
        full: Collection[str],
        look: int,
    ) -> tuple[list[Claim], int]:
        """See `Outbox.claim`.

        :param look: how many deliveries are looked at.
        :returns: the claims, and of how many others it was said that they wait or are cancelled.
        """
        now = self._database.now()
        # On PostgreSQL looking costs the same with the locks as without.
        if self._database.sqlite and not self._looking.anything(now):
            return [], 0
        token = secrets.token_hex(16)
        with self._database.transaction() as connection:
            found = self._looking.run(connection, now, look, full)
            unwanted: dict[str, list[str]] = defaultdict(list)
            wanted = []
            objections: dict[tuple[str, str], str | None] = {}
            for row in found.rows:
                key = row.subscription_id, row.kind
                if key not in objections:
                    objections[key] = _objection(row)
                objection = objections[key]
                if objection is not None:
                    unwanted[objection].append(row.id)
                elif row.subscription_id not in full:
                    wanted.append(row)
            unheld, until = held(wanted, now)
            bookings = book(unheld, now, self._booked_until(connection, unheld, now))
            mine = pick(bookings.free, limit, share)
            mine, size = self._affordable(connection, mine)
            mine, waiting = self._probes(connection, mine, now + dt.timedelta(seconds=probe))
            until |= waiting
            claims = self._claims(connection, mine, found, unwanted, token, size)
            taken = [claim.delivery_id for claim in claims]
            others = self._keep_turns(connection, bookings, set(taken))
            if taken:
                ends_at = now + dt.timedelta(seconds=lease)
                connection.execute(
                    self._of(taken).values(
                        status="sending", lease=token, due_at=ends_at, booked=False
                    )
                )
            others += self._park(connection, found.damaged, now)
            others += self._postpone(connection, until, now)
            for reason, delivery_ids in unwanted.items():
                others += len(delivery_ids)
                connection.execute(
                    self._of(delivery_ids).values(
                        status="cancelled", reason=reason, **finished(now)
                    )
                )
        return claims, others

    def _claims(
        self,
        connection: sa.Connection,
        rows: Sequence[Any],
        found: Found,
        unwanted: Mapping[str, list[str]],
        token: str,
        size: int,
    ) -> list[Claim]:
        """Make claims of rows; of those of which none can be made, `found` and `unwanted` are
        told.

        :param size: bytes of their events.
        """
        now = self._database.now()
        events = self._events(connection, {row.event_id for row in rows}, found, size)
        claims: list[Claim] = []
        secrets_of = functools.cache(lambda id_: _secrets(recipients[id_], now))
        recipients = {row.subscription_id: row.to for row in rows}
        for row in rows:
            if row.event_id in found.damaged:
                found.damaged[row.id] = found.damaged[row.event_id]
            elif row.event_id not in events:
                unwanted[GONE].append(row.id)
            else:
                try:
                    claims.append(
                        _claim(row, events[row.event_id], token, secrets_of(row.subscription_id))
                    )
                except Exception as error:  # whatever its row holds, it is this one's own
                    log.exception("the delivery %s cannot be claimed", row.id)
                    found.damaged[row.id] = f"its row is damaged ({type(error).__name__})"
        return claims

    def _affordable(self, connection: sa.Connection, rows: Sequence[Any]) -> tuple[list[Any], int]:
        """The first of the rows, as many as there is memory for; and how many bytes their events
        have, about. The others stay due."""
        event = self._tables.event
        ids = {row.event_id for row in rows}
        size = bytes_of(event.c.data) + bytes_of(sa.func.coalesce(event.c.previous, ""))
        of_these = among(event.c.id, ids)
        # Each event is read once; but each subscription may get a body of its own.
        sums = sa.select(sa.func.sum(size), sa.func.max(size)).where(of_these)
        total, longest = connection.execute(sums).one() if len(rows) > 1 else (MEMORY, 0)
        total, again = int(total or 0), len(rows) - len(ids)
        if total + again * min(longest or 0, MEMORY_OF_BODY) <= MEMORY:
            return list(rows), total
        found = connection.execute(sa.select(event.c.id, size).where(of_these))
        sizes: dict[str, int] = {row[0]: row[1] for row in found}
        left = MEMORY
        seen: set[str] = set()
        for number, row in enumerate(rows):
            size_ = sizes.get(row.event_id, 0)
            left -= min(size_, MEMORY_OF_BODY) if row.event_id in seen else size_
            seen.add(row.event_id)
            if left < 0 and number:  # the first one is taken always
                return list(rows[:number]), MEMORY
        return list(rows), MEMORY

    def _probes(
        self, connection: sa.Connection, rows: Sequence[Any], until: dt.datetime
    ) -> tuple[list[Any], dict[str, dt.datetime]]:
        """Those of the rows that may be sent, and until when the rest of their subscriptions wait:
        nearly all hosts are well, and then it is all."""
        silent = {row.host for row in rows if is_probe(row)}
        booked = self._hosts.book_probes(connection, silent, until)
        free, waiting = probes(rows, booked, until.isoformat())
        return free, dict.fromkeys(waiting, until)

    def _park(self, connection: sa.Connection, damaged: Mapping[str, str], now: dt.datetime) -> int:
        """Put off what cannot be read, and give it up after some tries; how many it was."""
        delivery = self._tables.delivery
        for id_, detail in damaged.items():  # rare: a row that nobody of us has written
            faults = connection.scalar(sa.select(delivery.c.faults).where(delivery.c.id == id_))
            if faults is None:
                continue  # of an event, whose deliveries are in here by themselves
            if not isinstance(faults, int):
                faults = len(retry.FAULT_PAUSES)
            decision = retry.decide_fault(faults + 1, detail)
            values: dict[str, Any] = {"status": decision.status, "lease": None}
            if decision.delay is None:
                values |= {"reason": decision.reason, **finished(now)}
            else:
                values["due_at"] = now + dt.timedelta(seconds=decision.delay)
            connection.execute(self._of([id_]).values(faults=faults + 1, **values))
        return len(damaged)

    def _events(
        self, connection: sa.Connection, event_ids: Collection[str], found: Found, size: int
    ) -> dict[str, formats.Event]:
        """What is told, by the event's id; of what cannot be read, `found` is told."""
        if not event_ids:
            return {}
        event = self._tables.event
        these = sa.select(*event_columns(self._tables)).where(among(event.c.id, event_ids))
        read = rows_of if size <= IN_ONE_PIECE else read_all
        rows = self._looking.read_each(
            connection, these, event.c.id, lambda: event_ids, found, read
        )
        return {row[0]: formats.Event(*row) for row in rows}

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


def _claim(row: Due, event: formats.Event, token: str, signing: tuple[str, ...]) -> Claim:
    to = row.to
    return Claim(
        delivery_id=row.id,
        lease=token,
        number=row.attempts + 1,
        tries=row.attempts + 1 - row.attempts_before,
        event=event,
        kind=row.kind,
        owner=row.owner,
        subscription_id=row.subscription_id,
        target_url=to.target_url,
        format=to.format,
        payload=to.payload,
        secrets=signing,
        headers=to.headers,
        host=to.host,
        intent_id=to.intent_id,
        intent_secret=to.intent_secret,
        confirmed=to.confirmed_at is not None,
        faults=row.faults,
        probe=is_probe(row),
    )


def _secrets(to: Recipient, now: dt.datetime) -> tuple[str, ...]:
    """Those that sign, the newest first."""
    former = (
        one["secret"] for one in to.former_secrets if dt.datetime.fromisoformat(one["until"]) > now
    )
    return (to.secret, *former)


_SENT_WHEN: dict[str, tuple[str, ...]] = {
    EVENT: ("active",),
    PING: ("active", "inactive", "disabled"),
    HANDSHAKE: ("pending",),
    NOTICE: ("expired",),
}
"""The statuses of a subscription in which deliveries of each kind are sent."""


def _objection(row: Due) -> str | None:
    """Why a delivery that is due may not be sent, or None."""
    to = row.to
    if to is None:
        return "the subscription was deleted"
    if row.kind not in _SENT_WHEN:
        return f"there are no deliveries of the kind {row.kind[:20]!r}"
    if to.status not in _SENT_WHEN[row.kind]:
        return f"the subscription is {to.status}"
    if to.expired and row.kind != NOTICE:
        return "the subscription has expired"
    if row.kind == HANDSHAKE and to.too_late:
        return "the receiver did not show its intent in time"
    return None
