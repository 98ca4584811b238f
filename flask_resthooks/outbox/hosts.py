"""Truth: the hosts that are left alone. What came of attempts ──► **whose turn is when**.

A host that is overloaded says so (429, 502, 504); one that is gone says nothing. Both are left
alone, ever longer, until something is delivered there. Of a silent one, a probe finds out whether
it is back (`turns.probes`): then what has waited for it is sent at once.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from .. import retry
from ..database import Database
from ..models import EVENT, Tables
from ..sets import among
from .claims import Claim, Outcome

RELEASED_AT_ONCE = 10_000
"""Deliveries that are sent as soon as their host is back; the others, when it was to be probed."""


class Hosts:
    """The hosts of one database's receivers."""

    def __init__(self, database: Database, tables: Tables) -> None:
        self._database = database
        self._tables = tables

    def book_probes(
        self, connection: sa.Connection, hosts: Collection[str], until: dt.datetime
    ) -> frozenset[str]:
        """Keep all others from probing silent hosts; those of the hosts that may be probed now.

        Hosts that others have locked are left to them.
        """
        if not hosts:
            return frozenset()
        table, now = self._tables.host, self._database.now()
        mine = connection.scalars(
            sa.select(table.c.host)
            .where(among(table.c.host, sorted(hosts)), table.c.turn_at <= now)
            .order_by(table.c.host)
            .with_for_update(skip_locked=True)
        ).all()
        if mine:
            connection.execute(
                table.update().where(among(table.c.host, mine)).values(turn_at=until)
            )
        return frozenset(mine)

    def note(self, outcomes: Sequence[Outcome], connection: sa.Connection) -> None:
        """Note what outcomes tell of the hosts.

        What is bad, by events alone: many share a host, and each could have it asked by tests.
        """
        by_host: dict[str, list[Outcome]] = {}
        for outcome in outcomes:
            good = outcome.status_code is not None and outcome.status_code not in retry.THROTTLING
            if good or outcome.claim.kind == EVENT:
                by_host.setdefault(outcome.claim.host, []).append(outcome)
        known = self._known(by_host, connection)
        for host in sorted(by_host):
            some, row = by_host[host], known.get(host)
            if row is not None and any(_delivered(outcome) for outcome in some):
                self._forget(row, connection)
                row = None
            if any(outcome.status_code in retry.THROTTLING for outcome in some):
                self._note_busy(host, row, some, connection)
            elif any(outcome.status_code is not None for outcome in some):
                if row is not None and row.silences:
                    self._note_answer(row, connection)
            elif any(outcome.error in retry.SILENT for outcome in some):
                self._note_silence(host, row, some, connection)
            elif row is not None and _probed(some):  # what else there was says nothing of it
                self._note_answer(row, connection)

    def unbook(self, claims: Collection[Claim], connection: sa.Connection) -> None:
        """Probes were not made: let others make them."""
        hosts = {claim.host for claim in claims if claim.probe}
        for row in self._known(hosts, connection).values() if hosts else ():
            self._release(row, connection)
            now = self._database.now()
            connection.execute(
                self._tables.host.update()
                .where(self._tables.host.c.host == row.host)
                .values(turn_at=now)
            )

    def _known(self, hosts: Collection[str], connection: sa.Connection) -> Mapping[str, Any]:
        table = self._tables.host
        rows = sa.select(table).where(among(table.c.host, sorted(hosts)))
        if connection.execute(rows.limit(1)).first() is None:  # as it is nearly always
            return {}
        locked = rows.order_by(table.c.host).with_for_update()
        return {row.host: row for row in connection.execute(locked)}

    def _forget(self, row: Any, connection: sa.Connection) -> None:
        table = self._tables.host
        connection.execute(table.delete().where(table.c.host == row.host))
        self._release(row, connection)

    def _note_answer(self, row: Any, connection: sa.Connection) -> None:
        """It gives answers again, though none that we like."""
        table = self._tables.host
        silent = retry.is_silent(row.silences)
        values = {"silences": 0, **({"turn_at": self._database.now()} if silent else {})}
        connection.execute(table.update().where(table.c.host == row.host).values(values))
        if silent:
            self._release(row, connection)

    def _release(self, row: Any, connection: sa.Connection) -> None:
        """Have that be due which waits for this very turn of a host."""
        delivery, now = self._tables.delivery, self._database.now()
        if row.turn_at <= now:
            return  # it is due already
        subscription = self._tables.subscription
        of_host = sa.exists().where(
            subscription.c.id == delivery.c.subscription_id, subscription.c.host == row.host
        )
        some = (
            sa.select(delivery.c.id)
            .where(delivery.c.due_at == row.turn_at, delivery.c.status == "pending", of_host)
            .limit(RELEASED_AT_ONCE)
            .with_for_update(skip_locked=True)
        )
        connection.execute(
            delivery.update().where(delivery.c.id.in_(some)).values(due_at=now, booked=False)
        )

    def _note_busy(
        self, host: str, row: Any, outcomes: Sequence[Outcome], connection: sa.Connection
    ) -> None:
        now = self._database.now()
        if row is not None and row.turn_at > now and not _probed(outcomes):
            return  # it was on its way already when the host asked for slowness
        words = Counter(o.status_code for o in outcomes if o.status_code in retry.THROTTLING)
        strikes = row.strikes if row is not None else 0
        pause = retry.slow_down(max(word for word in words if word is not None), strikes)
        self._write(host, now, pause, strikes + 1, 0, connection)

    def _note_silence(
        self, host: str, row: Any, outcomes: Sequence[Outcome], connection: sa.Connection
    ) -> None:
        now = self._database.now()
        before = row.silences if row is not None else 0
        strikes = row.strikes if row is not None else 0
        silences = before + sum(outcome.error in retry.SILENT for outcome in outcomes)
        if not retry.is_silent(silences):
            turn_at = row.turn_at if row is not None else now
            self._write(host, turn_at, 0.0, strikes, silences, connection)
        elif row is None or row.turn_at <= now or _probed(outcomes):
            pause = retry.break_off(strikes)
            self._write(host, now, pause, strikes + 1, silences, connection)

    def _write(
        self,
        host: str,
        now: dt.datetime,
        pause: float,
        strikes: int,
        silences: int,
        connection: sa.Connection,
    ) -> None:
        table = self._tables.host
        values = {
            "turn_at": now + dt.timedelta(seconds=pause),
            "strikes": strikes,
            "silences": min(silences, 1_000_000),
        }
        insert: Any = sqlite.insert if self._database.sqlite else postgresql.insert
        statement = insert(table).values(host=host, **values)
        connection.execute(statement.on_conflict_do_update(index_elements=["host"], set_=values))


def _delivered(outcome: Outcome) -> bool:
    return outcome.status == "delivered" and outcome.claim.kind == EVENT


def _probed(outcomes: Sequence[Outcome]) -> bool:
    return any(outcome.claim.probe for outcome in outcomes)
