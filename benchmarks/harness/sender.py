"""The sending side: `bench_app` on one database, what happens in it, and who subscribes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import bench_app
import sqlalchemy as sa

from flask_resthooks import ids
from flask_resthooks.outbox import Outbox
from flask_resthooks.transport import TRANSPORTS

from . import processes
from .counting import Count, count
from .processes import LIMIT
from .receivers import Receiver, rate

EVENT_LOOP = "asyncio" if "asyncio" in TRANSPORTS else "requests"
"""The transport that is measured."""

NOTE = "x" * 690
"""What makes a body of 1,000 bytes, about, of a contact."""

_AT_ONCE = 5000


def config_of(database_url: str, redis_url: str, **settings: Any) -> dict[str, Any]:
    """Of an app that sends to loopback."""
    return {
        "SQLALCHEMY_DATABASE_URI": database_url,
        "RESTHOOKS_REDIS_URL": redis_url,
        "RESTHOOKS_REQUIRE_HTTPS": False,
        "RESTHOOKS_ALLOWED_NETWORKS": ["127.0.0.0/8"],
        **settings,
    }


class Sender:
    """One app, its database, and the configuration for its workers.

    :param settings: `RESTHOOKS_…`, beside those that it needs.
    """

    def __init__(self, database_url: str, redis_url: str, **settings: Any) -> None:
        self.config = config_of(database_url, redis_url, **settings)
        self.app = bench_app.create_app(self.config)
        self.db = bench_app.db
        self.plant = self.app.extensions["resthooks"].plant
        self.tables = bench_app.hooks.tables
        with self.app.app_context():
            self.db.create_all()
            self.engine: sa.Engine = self.db.engine
        Outbox(self.engine, self.tables).prepare()
        self._row: dict[str, Any] | None = None

    def with_settings(self, **settings: Any) -> dict[str, Any]:
        """The configuration of a worker that has other ones."""
        return {**self.config, **settings}

    def subscribe(self, url: str, owner: int = 1) -> str:
        """Have everything of an owner sent there; the subscription's id."""
        answer = self.app.test_client().post(
            "/api/v1/subscriptions",
            json={"target_url": url, "events": ["*"]},
            headers={"X-Owner": str(owner)},
        )
        assert answer.status_code == 201, answer.text
        return str(answer.json["id"])

    def commit(self, number: int, *, owner: int = 1, note: str | None = None) -> None:
        """So many new records, in one transaction."""
        with self.app.app_context():
            self.db.session.add_all(
                bench_app.Tracked(
                    account_id=owner, name=f"Ada {n}", email="a@b.example", city="X", note=note
                )
                for n in range(number)
            )
            self.db.session.commit()

    def commit_one(self, *, owner: int) -> float:
        """One new record; the seconds that its commit took, and making it."""
        with self.app.app_context():
            start = time.perf_counter()
            self.db.session.add(
                bench_app.Tracked(account_id=owner, name="Ada", email="a@example.com", city="Bath")
            )
            self.db.session.commit()
            return time.perf_counter() - start

    def fill(self, number: int) -> list[str]:
        """So many events at once, as if as many records had been committed; their ids.

        They are copies of one that a commit has made, each with an id of its own: what is measured
        here is what comes after the commit.
        """
        event = self.tables.event
        if self._row is None:
            self.commit(1, note=NOTE)
            newest = sa.select(event).order_by(event.c.sequence.desc()).limit(1)
            with self.engine.begin() as connection:
                row = dict(connection.execute(newest).mappings().one())
                connection.execute(event.delete().where(event.c.sequence == row.pop("sequence")))
            self._row = row
        made = [ids.new(ids.EVENT) for _ in range(number)]
        with self.engine.begin() as connection:  # a worker sees all of them or none
            for first in range(0, number, _AT_ONCE):
                rows = [
                    {**self._row, "id": id_, "resource": f"contact:{first + n}"}
                    for n, id_ in enumerate(made[first : first + _AT_ONCE])
                ]
                connection.execute(event.insert(), rows)
        return made

    def wake(self) -> None:
        """Ask for one more drain."""
        self.plant.wakeups.insist()

    def empty(self) -> None:
        """Forget all that happened."""
        tables = self.tables
        with self.engine.begin() as connection:
            for table in (tables.event, tables.delivery, tables.attempt, tables.host):
                if self.engine.dialect.name == "postgresql":
                    connection.execute(sa.text(f"TRUNCATE {table.name}"))
                else:
                    connection.execute(table.delete())

    def number(self, statement: Any) -> int:
        """What a statement counts."""
        with self.engine.connect() as connection:
            return int(connection.scalar(statement) or 0)

    def waiting(self) -> int:
        """Events that were not fanned out."""
        mark = self.tables.event.c.fanned_out_at
        return self.number(sa.select(sa.func.count()).where(mark.is_(None)))

    def undelivered(self, besides: str | None = None) -> int:
        """Deliveries that have not come to their end.

        :param besides: a subscription that does not count.
        """
        delivery = self.tables.delivery
        left = sa.select(sa.func.count()).where(delivery.c.due_at.is_not(None))
        return self.number(left.where(delivery.c.subscription_id != (besides or "")))

    def wait_until_settled(self, limit: float = LIMIT, besides: str | None = None) -> None:
        """Wait until nothing is left to do; see `undelivered`."""
        end = time.monotonic() + limit
        while left := self.waiting() + self.undelivered(besides):
            assert time.monotonic() < end, f"{left:,} are not settled after {limit:g} s"
            time.sleep(0.2)

    def deliver(self, receiver: Receiver, number: int, **settings: Any) -> tuple[float, Count]:
        """Have a new worker send so many; how many a second it did, from the first arrival to the
        last one, and what came."""
        self.empty()
        made = self.fill(number)
        receiver.forget()
        processes.burst(self.with_settings(**settings))
        assert not self.waiting() + self.undelivered()
        arrivals = receiver.arrivals()
        return rate(arrivals), counted(made, receiver)

    def close(self) -> None:
        self.engine.dispose()


def counted(made: Sequence[str], receiver: Receiver) -> Count:
    """What had to come to a receiver, against what came."""
    return count(made, [arrival.id for arrival in receiver.arrivals()])
