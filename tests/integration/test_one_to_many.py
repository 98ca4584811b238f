"""One event to 10,000 subscriptions: what does not grow with them, on both databases."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import sqlalchemy as sa
from world import World

from flask_resthooks import composing, formats, ids
from flask_resthooks.composing import Bodies, Composer
from flask_resthooks.database import Database
from flask_resthooks.outbox.fan_out import FanOut
from flask_resthooks.settings import Settings
from flask_resthooks.vault import Vault

MANY, FEW = 10_000, 10
FORMATS = ("standard", "cloudevents", "bare")
SECRET = "whsec_" + "00" * 16
BATCH = 1000

PLANNED_ONCE = 15
"""Executions after which psycopg has prepared a statement, and PostgreSQL has settled on a plan."""


def subscribe(world: World, owner: str, count: int) -> None:
    """Subscriptions of one owner, to many hosts, each format in its turn."""
    rows, wishes = [], []
    for number in range(count):
        id_ = ids.new(ids.SUBSCRIPTION)
        rows.append(
            {
                "id": id_,
                "owner": owner,
                "target_url": f"https://hooks{number}.example.com/",
                "events": ["contact.*"],
                "status": "active",
                "metadata": {},
                "format": FORMATS[number % len(FORMATS)],
                "secret": SECRET,
                "created_at": world.now,
                "updated_at": world.now,
            }
        )
        wishes.append({"owner": owner, "pattern": "contact.*", "subscription_id": id_})
    with world.engine.begin() as connection:
        connection.execute(world.tables.subscription.insert(), rows)
        connection.execute(world.tables.subscription_event.insert(), wishes)


class Statements(Counter[str]):
    """How often each statement is executed on an engine; for each set of parameters once."""

    def __init__(self, engine: sa.Engine) -> None:
        super().__init__()
        self._engine = engine

    def __enter__(self) -> Statements:
        sa.event.listen(self._engine, "before_cursor_execute", self._note)
        return self

    def __exit__(self, *error: object) -> None:
        sa.event.remove(self._engine, "before_cursor_execute", self._note)

    def _note(
        self,
        connection: Any,
        cursor: Any,
        statement: str,
        parameters: Any,
        context: Any,
        many: bool,
    ) -> None:
        self[statement] += len(parameters) if many else 1


def test_the_statements_of_a_fan_out_do_not_grow_with_the_subscriptions(world: World) -> None:
    world.happen(owner="nobody")
    world.outbox.fan_out(100)  # the first one of all begins the log
    counts = {}
    for owner, subscriptions in (("few", FEW), ("many", MANY)):
        subscribe(world, owner, subscriptions)
        world.happen(owner=owner)
        with Statements(world.engine) as executed:
            assert world.outbox.fan_out(100) == (1, subscriptions)
        counts[owner] = executed
    assert counts["many"].total() == counts["few"].total()
    inserts = [text for text in counts["many"] if text.startswith("INSERT INTO resthooks_delivery")]
    assert len(inserts) == 1
    assert counts["many"][inserts[0]] == 1


class Read:
    """What PostgreSQL has read of ours in each transaction of an engine: blocks, and entries."""

    _READ = sa.text(
        "SELECT sum(pg_stat_get_xact_blocks_fetched(oid) + pg_stat_get_xact_tuples_returned(oid))"
        " FROM pg_class"
        " WHERE relname LIKE 'resthooks_%' AND relkind IN ('r', 'i')"
    )

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._before = 0
        self.counts: list[int] = []

    def __enter__(self) -> Read:
        with self._engine.connect() as connection:
            self._note(connection)
        self.counts.clear()
        sa.event.listen(self._engine, "commit", self._note)
        return self

    def __exit__(self, *error: object) -> None:
        sa.event.remove(self._engine, "commit", self._note)

    def _note(self, connection: sa.Connection) -> None:
        # Since the server was last told of it, which is of one or of several transactions.
        now = int(connection.scalar(self._READ) or 0)
        self.counts.append(now - self._before if now >= self._before else now)
        self._before = now


@pytest.mark.parametrize("few", [1, 20])
@pytest.mark.parametrize("analyzed", [False, True], ids=["unknown", "analyzed"])
def test_what_was_planned_for_few_serves_many(
    few: int, analyzed: bool, postgresql_url: str
) -> None:
    """PostgreSQL keeps the plan of a statement that is executed often, and the statistics that it
    has; the tables grow meanwhile, and what was cheapest for a handful is quadratic then."""
    world, many = World(postgresql_url), MANY // 2
    subscribe(world, "few", few)

    def work(owner: str, subscriptions: int) -> None:
        world.happen(owner=owner)
        assert world.outbox.fan_out(100) == (1, subscriptions)
        while claims := world.outbox.claim(BATCH, 60):
            world.outbox.settle([world.outcome(claim) for claim in claims])

    for number in range(PLANNED_ONCE):
        if analyzed and number == 1:
            with world.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as once:
                once.exec_driver_sql("VACUUM ANALYZE")
        work("few", few)
    subscribe(world, "others", many)
    subscribe(world, "many", many)
    with Read(world.engine) as read:
        work("many", many)
    world.engine.dispose()
    assert len(read.counts) > many / BATCH
    _, fan_out, *claims_and_settles = read.counts
    assert fan_out < 60 * many
    assert max(claims_and_settles) < 60 * BATCH


def test_what_one_has_missed_is_found_without_the_others(postgresql_url: str) -> None:
    world, many, events = World(postgresql_url), MANY // 2, 50
    subscribe(world, "1", many)
    mine = world.subscribe("contact.*")
    world.happen(count=events)
    database, event = Database(world.engine), world.tables.event
    with Read(world.engine) as read, database.transaction() as connection:
        rows = connection.execute(sa.select(event.c.sequence, event.c.type)).all()
        made = FanOut(database, world.tables).make(connection, rows, missed_by=mine)
    world.engine.dispose()
    assert made == events
    assert read.counts[0] < 60 * events


def test_what_is_told_is_stored_once(world: World) -> None:
    subscribe(world, "1", MANY)
    (event_id,) = world.happen()
    told = '{"name":"Ada","note":"' + "x" * 2000 + '"}'
    table = world.tables.event
    with world.engine.begin() as connection:
        connection.execute(table.update().where(table.c.id == event_id).values(data=told))
    assert world.outbox.fan_out(100) == (1, MANY)
    rows = world.deliveries()
    assert len(rows) == MANY
    assert {row.event_id for row in rows} == {event_id}
    assert max(sum(len(str(value)) for value in row) for row in rows) < 1000


def test_a_body_is_made_once_for_each_format(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made: Counter[str] = Counter()
    make = formats.fitting_body

    def count(event: Any, recipient: formats.Recipient, **options: Any) -> formats.Body:
        made[recipient.format] += 1
        return make(event, recipient, **options)

    monkeypatch.setattr(composing.formats, "fitting_body", count)
    subscribe(world, "1", MANY)
    world.happen()
    world.outbox.fan_out(100)
    composer = Composer(Settings(), Vault(), None)
    bodies: Bodies = {}
    sent: dict[str, set[int]] = {name: set() for name in FORMATS}
    signed = 0
    # What is claimed at once is read once: the same event, not a copy for each.
    while claims := world.outbox.claim(BATCH, 60):
        assert len({id(claim.event) for claim in claims}) == 1
        for claim in claims:
            request = composer.request(claim, bodies, timestamp=1_700_000_000, start_before=0.0)
            sent[claim.format].add(id(request.body))
            signed += 1
    assert signed == MANY
    assert made == dict.fromkeys(FORMATS, 1)
    # The very same bytes, in memory once.
    assert [len(each) for each in sent.values()] == [1] * len(FORMATS)
