"""All that the pipeline does with a database, once: for `test_plans.py`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import large_tables
import sqlalchemy as sa
from capture_world import World as CaptureWorld
from world import World

from flask_resthooks import ids, models
from flask_resthooks.outbox import Claim
from flask_resthooks.outbox.log import place
from flask_resthooks.outbox.recovery import begin_recovery

SIZE = large_tables.Size(history=40_000, retries=15_000, subscriptions=30_000, lively=40)
OTHERS = 5_000
"""Hosts, recoveries and answers."""

SMALL = large_tables.Size(history=400, retries=150, subscriptions=400, lively=40)
SMALL_OTHERS = 5

Doing = Callable[[str], AbstractContextManager[None]]


def fill(world: World, size: large_tables.Size = SIZE, others: int = OTHERS) -> None:
    """Make the tables large."""
    world.now = models.utcnow()
    large_tables.fill(world.engine, size, lambda line: None)
    tables, now = world.tables, world.now
    long_ago = now - dt.timedelta(days=20)
    with world.engine.begin() as connection:
        connection.execute(
            tables.host.insert(),
            [
                {"host": f"hooks{n}.example.com:443", "turn_at": long_ago, "strikes": 1}
                for n in range(others)
            ],
        )
        connection.execute(
            tables.recovery.insert(),
            [
                {
                    "id": ids.new(ids.RECOVERY, (long_ago + dt.timedelta(seconds=n)).timestamp()),
                    "subscription_id": f"sub_{n}",
                    "owner": str(n),
                    "status": "done",
                    "since": long_ago,
                    "until": long_ago,
                    "cursor": "",
                    "created_at": long_ago,
                    "finished_at": long_ago,
                }
                for n in range(others)
            ],
        )
        connection.execute(
            tables.answer.insert(),
            [
                {
                    "owner": str(n),
                    "key": "key",
                    "fingerprint": "",
                    "status_code": 201,
                    "headers": "{}",
                    "body": "",
                    "created_at": now - dt.timedelta(seconds=18 * n),
                }
                for n in range(others)
            ],
        )
        # Many more hosts, of no owner's.
        connection.exec_driver_sql(
            "INSERT INTO resthooks_host (host, turn_at, strikes, silences) SELECT "
            "a.host || '.' || b.host, a.turn_at, 1, 0 FROM resthooks_host AS a CROSS JOIN "
            "(SELECT host FROM resthooks_host ORDER BY host LIMIT 9) AS b"
        )
        # Some of the history was given up.
        some = sa.func.substr(tables.delivery.c.id, 34, 3) == "000"
        connection.execute(
            tables.delivery.update()
            .where(some, tables.delivery.c.status == "delivered")
            .values(status="failed", reason="it was given up")
        )


@contextmanager
def all_at_once(world: World) -> Iterator[None]:
    """For a while, much is due, much is not fanned out, much of what was answered is old, and no
    subscription is active."""
    event, delivery, answer = world.tables.event, world.tables.delivery, world.tables.answer
    subscription = world.tables.subscription
    waits = delivery.c.status == "pending"
    days = sa.literal(dt.timedelta(days=30), sa.Interval())
    newest = event.c.sequence > SIZE.events // 2
    with world.engine.begin() as connection:
        connection.execute(
            delivery.update().where(waits).values(due_at=delivery.c.due_at.op("-")(days))
        )
        connection.execute(event.update().where(newest).values(fanned_out_at=None, position=None))
        connection.execute(subscription.update().values(status="inactive"))
        connection.execute(answer.update().values(created_at=answer.c.created_at.op("-")(days)))
    yield
    with world.engine.begin() as connection:
        connection.execute(subscription.update().values(status="active"))
        connection.execute(
            delivery.update().where(waits).values(due_at=delivery.c.due_at.op("+")(days))
        )
        connection.execute(
            event.update()
            .where(newest)
            .values(fanned_out_at=event.c.created_at, position=event.c.sequence)
        )
        connection.execute(answer.update().values(created_at=answer.c.created_at.op("+")(days)))
    autocommit = world.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    with autocommit as connection:
        connection.exec_driver_sql("VACUUM")  # what was changed, without looking at it anew


class Traffic:
    """
    :param doing: is told what is done.
    """

    def __init__(self, world: World, doing: Doing) -> None:
        self._world = world
        self._outbox = world.outbox
        self._doing = doing
        table = world.tables.subscription
        with world.engine.connect() as connection:
            lively = sa.select(table.c.id, table.c.owner).where(
                table.c.owner.in_([str(n) for n in range(SIZE.lively)]),
                sa.cast(table.c.events, sa.Text) == '["*"]',
            )
            self._ids = {int(row.owner): row.id for row in connection.execute(lively)}

    def run(self) -> None:
        """One thing after the other."""
        self._quiet("before")
        self._plain()
        self._backlog()
        self._ill()
        self._rated()
        self._ending()
        self._recovered()
        self._quiet("after")
        self._old()

    def _happen(self, owners: Collection[int], each: int = 1) -> None:
        for owner in owners:
            self._world.happen(owner=str(owner), count=each)

    def _fanned_out(self, owners: Collection[int], each: int = 1) -> None:
        self._happen(owners, each)
        while self._outbox.fan_out(100)[0]:
            pass

    def _claim(self, limit: int = 40, **options: Any) -> list[Claim]:
        return self._outbox.claim(limit, 60, **options)

    def _all(self) -> list[Claim]:
        """Claim all there is."""
        claims: list[Claim] = []
        while some := self._claim(50):
            claims += some
        return claims

    def _settle(self, claims: Sequence[Claim], status: str = "delivered", **values: Any) -> None:
        self._outbox.settle([self._world.outcome(c, status, **values) for c in claims], 5 * 86400)

    def _in(self, seconds: float) -> dt.datetime:
        return self._world.now + dt.timedelta(seconds=seconds)

    def _change(self, owner: int, **values: Any) -> None:
        table = self._world.tables.subscription
        with self._world.engine.begin() as connection:
            connection.execute(
                table.update().where(table.c.id == self._ids[owner]).values(**values)
            )

    def _quiet(self, when: str) -> None:
        with self._doing(f"quiet {when}"):
            assert self._outbox.fan_out(100) == (0, 0)
            assert self._claim() == []
            assert self._outbox.recover() == 0
            assert self._outbox.expire() == 0
            assert self._outbox.next_due() is not None

    def _plain(self) -> None:
        self._happen(range(40))
        with self._doing("fan out"):
            assert self._outbox.fan_out(30) == (30, 30)
            assert self._outbox.fan_out(30) == (10, 10)
        with self._doing("claim"):
            claims = self._claim()
        assert len(claims) == 40
        with self._doing("unwanted"):
            assert not self._outbox.unwanted({claim.subscription_id for claim in claims})
        with self._doing("give back"):
            self._outbox.give_back(claims[:5])
        with self._doing("cancel"):
            self._outbox.cancel([(claim, "nobody wants it") for claim in claims[5:10]])
        with self._doing("settle"):
            self._settle(claims[10:])
        self._settle(self._all())
        self._happen([0], 3)
        with self._doing("place"), self._world.engine.begin() as connection:
            assert place(connection, self._world.tables, "0") == 3
        self._outbox.fan_out(10)
        self._settle(self._all())

    def _backlog(self) -> None:
        """More is due of one subscription than a claim looks at."""
        self._fanned_out([0], 300)
        self._world.later(1)
        self._fanned_out(range(1, 40))
        with self._doing("claim beside a backlog"):
            claims = self._claim(20, share=lambda subscription_id, host: 3)
            for _ in range(3):
                claims += self._claim(20, full=[self._ids[0]], share=lambda id_, host: 1)
        assert claims
        self._settle(claims)
        self._settle(self._all())

    def _ill(self) -> None:
        """Receivers fail, ask for slowness, are busy, are silent, and well again."""
        self._fanned_out(range(40))
        claims = {int(claim.owner): claim for claim in self._all()}
        later = self._in(600)
        with self._doing("settle failures"):
            self._settle([claims[n] for n in range(1, 5)], "pending", next_at=later)
            self._settle([claims[n] for n in range(5, 9)], "failed", reason="it was given up")
            self._settle([claims[9]], "pending", next_at=later, fault=True, error="internal")
            self._settle([claims[10]], "failed", disable="it is gone")
            self._settle([claims[11]], "pending", next_at=later, wait=300.0)
            self._settle([claims[12]], "pending", next_at=later, status_code=429)
            for n in range(13, 20):
                self._settle([claims[n]], "pending", next_at=later, error="timeout")
        self._settle([claims[n] for n in claims if n >= 20 or n == 0])
        self._fanned_out(range(20))
        with self._doing("claim what is held"):
            held = {int(claim.owner) for claim in self._claim()}
        assert held.isdisjoint({10, 11, 12})
        self._world.later(700)
        self._fanned_out(range(20), 2)
        with self._doing("claim with probes"):
            claimed = self._all()
        probes = [claim for claim in claimed if claim.probe]
        with self._doing("settle what is well again"):
            self._outbox.give_back(probes[:1])
            self._settle([claim for claim in claimed if claim not in probes[:1]])
        self._world.later(700)
        self._settle(self._all())

    def _rated(self) -> None:
        for owner in (20, 21):
            self._change(owner, rate=30.0)
        self._fanned_out([20, 21], 10)
        with self._doing("claim at a rate"):
            claims = self._claim()
        assert len(claims) == 2
        self._settle(claims)
        self._world.later(120)
        self._settle(self._all())

    def _ending(self) -> None:
        self._fanned_out([22, 23], 3)
        self._change(22, expires_at=self._in(-1), expiry_notice=True)
        with self._doing("next due"):
            assert self._outbox.next_due() is not None
        with self._doing("expire"):
            assert self._outbox.expire() == 1
        table, wish = self._world.tables.subscription, self._world.tables.subscription_event
        with self._world.engine.begin() as connection:
            connection.execute(table.delete().where(table.c.id == self._ids[23]))
            connection.execute(wish.delete().where(wish.c.subscription_id == self._ids[23]))
        with self._doing("claim what is unwanted"):
            self._settle(self._all())

    def _recovered(self) -> None:
        self._change(24, status="inactive")
        self._fanned_out([24], 20)
        self._fanned_out([25], 20)
        self._settle(self._all(), "failed", reason="it was given up")
        self._change(24, status="active")
        table = self._world.tables.subscription
        with self._world.engine.begin() as connection:
            self._world.later(1)
            for owner in (24, 25):
                row = connection.execute(table.select().where(table.c.id == self._ids[owner]))
                subscription = {
                    **row.mappings().one(),
                    "created_at": self._in(-86400 * 30),
                }
                begin_recovery(
                    self._world.tables, connection, subscription, self._in(-86400), self._world.now
                )
        released = 0
        with self._doing("recover"):
            for _ in range(20):
                released += self._outbox.recover()
                self._world.later(2)
        assert released >= 40
        with self._doing("settle many"):
            self._settle(self._all())

    def _old(self) -> None:
        with self._doing("tidy"):
            assert self._outbox.tidy(27, 60) > 0
        with self._doing("prune"):
            for _ in self._outbox.prune(dt.timedelta(days=26)):
                pass


def captured(url: str, watch: Callable[[sa.Engine], AbstractContextManager[Any]]) -> None:
    """Commits of tracked records, in an app on the same database."""
    app = CaptureWorld(url)
    try:
        with watch(app.engine):
            contact = app.Contact(owner_id=1, name="Ada")
            app.session.add(contact)
            app.session.commit()
            contact.name = "Grace"
            app.session.commit()
            app.session.delete(contact)
            app.session.commit()
    finally:
        app.close()
