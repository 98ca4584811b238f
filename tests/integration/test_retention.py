"""Retention: what came to its end long ago is removed, and nothing else, on both databases."""

from __future__ import annotations

import datetime as dt
import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from world import START, World

from flask_resthooks import ids
from flask_resthooks.outbox import Outbox, Removed, pruning, retention

ENDS = ("delivered", "failed", "cancelled")
WAITS = ("pending", "sending")
DAY = dt.timedelta(days=1)
TABLES = ("resthooks_event", "resthooks_delivery", "resthooks_attempt")


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PAUSE", 0.0)


def put(
    world: World,
    *statuses: str,
    prefix: str = ids.EVENT,
    told: bool = True,
    attempts: int = 1,
    owner: str = "1",
) -> str:
    """Put an event of now into the database, with a delivery in each of these statuses."""
    moment = world.now.timestamp()
    event = {
        **world.event_row(owner=owner),
        "id": ids.new(prefix, moment),
        "fanned_out_at": world.now if told else None,
    }
    deliveries = [
        {
            "id": ids.new(ids.DELIVERY, moment),
            "event_id": event["id"],
            "subscription_id": ids.new(ids.SUBSCRIPTION, moment),
            "owner": owner,
            "event_type": event["type"],
            "status": status,
            "due_at": world.now if status in WAITS else None,
            "finished_at": None if status in WAITS else world.now,
            "created_at": world.now,
        }
        for status in statuses
    ]
    tries = [
        {
            "id": ids.new(ids.ATTEMPT, moment),
            "delivery_id": delivery["id"],
            "number": number,
            "started_at": world.now,
            "duration": 0.1,
        }
        for delivery in deliveries
        for number in range(1, attempts + 1)
    ]
    with world.engine.begin() as connection:
        connection.execute(world.tables.event.insert(), event)
        if deliveries:
            connection.execute(world.tables.delivery.insert(), deliveries)
        if tries:
            connection.execute(world.tables.attempt.insert(), tries)
    return str(event["id"])


def end(world: World, event_id: str, status: str = "delivered") -> None:
    """Have all deliveries of an event end now."""
    table = world.tables.delivery
    with world.engine.begin() as connection:
        connection.execute(
            table.update()
            .where(table.c.event_id == event_id)
            .values(status=status, due_at=None, finished_at=world.now)
        )


def prune(world: World, days: float = 30) -> Removed:
    return sum(world.outbox.prune(days * DAY), Counter())


def kept(world: World) -> set[str]:
    """The ids of the events that are there; with whatever belongs to them, and nothing else."""
    event, delivery, attempt = world.tables.event, world.tables.delivery, world.tables.attempt
    with world.engine.connect() as connection:
        there = set(connection.scalars(sa.select(event.c.id)))
        of_events = connection.execute(sa.select(delivery.c.id, delivery.c.event_id)).all()
        of_deliveries = set(connection.scalars(sa.select(attempt.c.delivery_id)))
    assert {row.event_id for row in of_events} <= there
    assert of_deliveries == {row.id for row in of_events}
    return there


def test_an_event_goes_when_all_of_its_deliveries_ended_long_ago(world: World) -> None:
    gone = [put(world, status, attempts=3) for status in ENDS]
    gone += [put(world, *ENDS), put(world), put(world, "delivered", prefix=ids.TEST)]
    stays = {put(world, "delivered", status) for status in WAITS}
    stays |= {put(world, status) for status in WAITS}
    stays |= {put(world, told=False), put(world, "pending", prefix=ids.TEST)}
    late = put(world, "pending")
    world.later(2 * 86400)
    end(world, late)
    newer = {put(world, "delivered"), put(world)}
    world.later(29 * 86400)
    assert prune(world) == {"events": 6, "deliveries": 7, "attempts": 13}
    assert kept(world) == stays | newer | {late}
    assert kept(world).isdisjoint(gone)
    world.later(2 * 86400)
    assert prune(world) == {"events": 3, "deliveries": 2, "attempts": 2}
    assert kept(world) == stays


def test_whatever_happens_only_what_is_over_goes_and_all_of_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model: the time when each event came to its end, None while it has not."""
    monkeypatch.setattr(pruning, "LEAST_EVENTS", 3)
    monkeypatch.setattr(pruning, "MOST_EVENTS", 3)
    world.outbox._retention._pruning._size = 3
    chance = random.Random(7)
    model: dict[str, dt.datetime | None] = {}
    for _ in range(40):
        for _ in range(chance.randrange(12)):
            statuses = chance.choices(ENDS + WAITS, (8, 1, 1, 1, 1), k=chance.randrange(4))
            told = chance.random() < 0.9
            id_ = put(world, *(statuses if told else ()), told=told, attempts=chance.randint(1, 3))
            open_ = not told or not {*statuses}.isdisjoint(WAITS)
            model[id_] = None if open_ else world.now
        waiting = [row.event_id for row in world.deliveries() if row.due_at is not None]
        for id_ in chance.sample(waiting, len(waiting) // 4):
            end(world, id_)
            model[id_] = world.now
        days = chance.uniform(0.5, 20)
        prune(world, days)
        horizon = world.now - days * DAY
        over = {id_ for id_, ended in model.items() if ended is not None and ended < horizon}
        for id_ in over:
            del model[id_]
        assert kept(world) == set(model)
        world.later(chance.uniform(0, 3) * 86400)
    assert model


def test_what_somebody_has_ended_by_hand_goes_too(world: World) -> None:
    put(world, "pending")
    with world.engine.begin() as connection:
        connection.execute(world.tables.delivery.update().values(due_at=None))
    world.later(29 * 86400)
    assert prune(world) == {}
    world.later(2 * 86400)
    assert prune(world) == {"events": 1, "deliveries": 1, "attempts": 1}


def test_where_nothing_is_to_be_removed_nothing_is_locked(world: World) -> None:
    stays = {put(world, "pending", "delivered"), put(world, told=False)}
    world.later(31 * 86400)
    with after(world, "DELETE", lambda: None) as deleted:
        assert prune(world) == {}
    assert not deleted
    assert kept(world) == stays


def test_what_others_have_left_behind_goes_too(world: World) -> None:
    event, delivery = world.tables.event, world.tables.delivery
    without_event = put(world, "delivered", "pending")
    without_delivery = put(world, "failed", attempts=2)
    subscription = world.subscribe("*")
    hosts = [("old.example:443", world.now), ("new.example:443", world.now + 20 * DAY)]
    over, going_on = (recovery_row(world, subscription) for _ in range(2))
    with world.engine.begin() as connection:
        connection.execute(event.delete().where(event.c.id == without_event))
        connection.execute(delivery.delete().where(delivery.c.event_id == without_delivery))
        connection.execute(
            world.tables.recovery.insert(),
            [
                {**over, "status": "done", "finished_at": world.now},
                {**going_on, "status": "running", "finished_at": None},
            ],
        )
        connection.execute(
            world.tables.host.insert(),
            [{"host": host, "turn_at": turn_at, "strikes": 1} for host, turn_at in hosts],
        )
    world.later(31 * 86400)
    removed = prune(world)
    assert removed == {"events": 1, "deliveries": 1, "attempts": 3, "recoveries": 1, "hosts": 1}
    assert [row.status for row in world.deliveries()] == ["pending"]
    assert len(world.attempts()) == 1
    with world.engine.connect() as connection:
        assert connection.scalars(sa.select(world.tables.recovery.c.id)).all() == [going_on["id"]]
        assert connection.scalars(sa.select(world.tables.host.c.host)).all() == ["new.example:443"]


def test_the_strikes_of_a_host_are_remembered_for_a_day(world: World) -> None:
    row = {"host": "a.example:443", "turn_at": world.now, "strikes": 1}
    with world.engine.begin() as connection:
        connection.execute(world.tables.host.insert(), row)
    world.later(3600)
    assert prune(world, 0.01) == {}
    world.later(86400)
    assert prune(world, 0.01) == {"hosts": 1}


def test_an_event_with_very_many_attempts_goes_in_several_steps_and_last_itself(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "AT_ONCE", 2)
    world.outbox._retention._pruning._batch = 1e-9
    put(world, *["delivered"] * 7, attempts=5)
    put(world, "failed")
    world.later(31 * 86400)
    steps = []
    for removed in world.outbox.prune(30 * DAY):
        steps.append(removed["attempts"])
        assert len(world.deliveries()) in (8, 1, 0)
    assert sum(steps) == 36
    assert max(steps) == 10
    assert kept(world) == set()


def test_a_batch_has_no_more_deliveries_than_it_may(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "MOST_DELIVERIES", 5)
    for _ in range(4):
        put(world, "delivered", "failed")
        world.later(1)
    put(world, *["delivered"] * 9)
    world.later(1)
    put(world, "pending")
    world.later(1)
    last = put(world, "delivered")
    world.later(31 * 86400)
    batches = [removed["deliveries"] for removed in world.outbox.prune(30 * DAY)]
    assert [count for count in batches if count] == [4, 4, 9, 1]
    assert last not in kept(world)
    assert len(kept(world)) == 1


def tidy(world: World, seconds: float, stopping: Callable[[], bool] = lambda: False) -> int:
    return world.outbox.tidy(30, seconds, stopping)


def test_a_worker_removes_a_little_at_a_time_and_goes_on_where_it_was(world: World) -> None:
    fill(world, 120, world.now, world.now + DAY)
    world.later(86400)
    stays = put(world, "pending")
    world.later(31 * 86400)
    first = tidy(world, 0.0)
    assert first == 3 * 50
    removed = [first]
    while len(removed) < 1000 and world.outbox._retention._going_on is not None:
        removed.append(tidy(world, 0.0))
    assert sum(removed) == 3 * 120
    assert kept(world) == {stays}
    # Then it is left alone for a while, however many drains there are.
    end(world, stays)
    world.later(31 * 86400)
    assert [tidy(world, 10.0) for _ in range(3)] == [0, 0, 0]
    world.outbox._retention._look_at = 0.0
    assert tidy(world, 10.0) == 3
    assert kept(world) == set()


def test_a_worker_that_is_to_stop_ends_its_look(world: World) -> None:
    fill(world, 60, world.now, world.now + DAY)
    world.later(31 * 86400)
    assert tidy(world, 100.0, lambda: True) == 3 * 50
    assert len(kept(world)) == 10


def test_with_a_retention_of_0_all_is_kept(world: World) -> None:
    id_ = put(world, "delivered")
    world.later(20 * 365 * 86400)
    assert world.outbox.tidy(0, 10.0) == 0
    assert kept(world) == {id_}


def test_a_look_that_failed_is_made_anew_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(world, "delivered")
    world.later(31 * 86400)

    def fail(*arguments: Any) -> None:
        raise sa.exc.OperationalError("DELETE", {}, Exception("the database is away"))

    with monkeypatch.context() as patch:
        patch.setattr(pruning.Pruning, "_remove", fail)
        with pytest.raises(sa.exc.OperationalError):
            tidy(world, 10.0)
    assert tidy(world, 10.0) == 0
    world.outbox._retention._look_at = 0.0
    assert tidy(world, 10.0) == 3


@contextmanager
def after(world: World, beginning: str, act: Callable[[], None]) -> Iterator[list[str]]:
    """Do something, once, after a statement with this beginning, before it is committed."""
    met: list[str] = []

    def look(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith(beginning) and not met:
            met.append(statement)
            act()

    sa.event.listen(world.engine, "after_cursor_execute", look)
    try:
        yield met
    finally:
        sa.event.remove(world.engine, "after_cursor_execute", look)


@pytest.fixture
def postgres(postgresql_url: str) -> Iterator[World]:
    made = World(postgresql_url)
    yield made
    made.engine.dispose()


def recovery_row(world: World, subscription: str) -> dict[str, Any]:
    return {
        "id": ids.new(ids.RECOVERY, world.now.timestamp()),
        "subscription_id": subscription,
        "owner": "1",
        "status": "pending",
        "since": START,
        "until": world.now,
        "cursor": ids.at(ids.EVENT, START),
        "due_at": world.now,
        "created_at": world.now,
    }


def begin_recovery(world: World, subscription: str) -> None:
    with world.engine.begin() as connection:
        connection.execute(world.tables.recovery.insert(), recovery_row(world, subscription))


def test_what_a_recovery_is_making_deliveries_of_is_not_removed(postgres: World) -> None:
    world = postgres
    missed = {put(world) for _ in range(3)}
    world.later(31 * 86400)
    begin_recovery(world, world.subscribe("*"))
    counts: list[Removed] = []
    with after(world, "INSERT INTO resthooks_delivery", lambda: counts.append(prune(world))) as met:
        assert world.outbox.recover() == 3
    assert met
    assert counts == [{}]
    assert {row.event_id for row in world.deliveries()} == missed
    prune(world)
    assert kept_events(world) == missed


def test_a_recovery_makes_no_deliveries_of_what_is_being_removed(postgres: World) -> None:
    world = postgres
    for _ in range(3):
        put(world)
    world.later(31 * 86400)
    stays = put(world)
    world.later(1)
    begin_recovery(world, world.subscribe("*"))
    recovering = threading.Thread(target=world.outbox.recover)
    waited = []

    def recover() -> None:
        recovering.start()
        recovering.join(0.3)
        waited.append(recovering.is_alive())

    # It is known to have no deliveries, and not removed yet.
    with after(world, "SELECT resthooks_delivery.event_id \n", recover):
        assert prune(world) == {"events": 3}
    recovering.join(10)
    assert waited == [True]
    assert [row.event_id for row in world.deliveries()] == [stays]
    assert kept_events(world) == {stays}


def kept_events(world: World) -> set[str]:
    with world.engine.connect() as connection:
        return set(connection.scalars(sa.select(world.tables.event.c.id)))


@pytest.mark.parametrize("table", ["event", "delivery"])
def test_what_somebody_else_has_locked_is_left_for_later(postgres: World, table: str) -> None:
    world = postgres
    locked = put(world, "delivered", "failed")
    put(world, "delivered")
    world.later(31 * 86400)
    rows = getattr(world.tables, table)
    column = rows.c.id if table == "event" else rows.c.event_id
    with world.engine.begin() as other:
        mine = sa.select(rows.c.id).where(column == locked).limit(1).with_for_update()
        assert len(other.execute(mine).all()) == 1
        assert prune(world) == {"events": 1, "deliveries": 1, "attempts": 1}
        assert kept(world) == {locked}
    assert prune(world) == {"events": 1, "deliveries": 2, "attempts": 2}


def test_what_is_sent_again_just_before_it_would_go_stays(world: World) -> None:
    """Between the look at it and the transaction."""
    id_ = put(world, "failed")
    world.later(31 * 86400)
    table = world.tables.delivery

    def resend() -> None:
        with world.engine.begin() as connection:
            again = {"status": "pending", "due_at": world.now, "finished_at": None}
            connection.execute(table.update().values(again))

    with after(world, "SELECT resthooks_delivery.event_id, count", resend) as met:
        assert prune(world) == {}
    assert met
    assert kept(world) == {id_}


def test_two_that_prune_at_once_do_not_wait_for_each_other(world: World) -> None:
    fill(world, 300, world.now, world.now + DAY)
    world.later(32 * 86400)
    counts: list[Removed] = []
    others = [Outbox(world.engine, world.tables, lambda: world.now) for _ in range(3)]

    def work(outbox: Outbox) -> None:
        counts.append(sum(outbox.prune(30 * DAY), Counter()))

    threads = [threading.Thread(target=work, args=(outbox,)) for outbox in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    prune(world)
    assert kept(world) == set()
    assert sum(counts, Counter()) == {"events": 300, "deliveries": 300, "attempts": 300}


def fill(world: World, events: int, first: dt.datetime, last: dt.datetime) -> None:
    """Put events that came to their end into the database, each with a delivery and an attempt."""
    step = (last - first) / events
    rows: dict[str, list[dict[str, Any]]] = {"event": [], "delivery": [], "attempt": []}
    for number in range(events):
        moment = first + number * step
        at = moment.timestamp()
        event = {**world.event_row(), "id": ids.new(ids.EVENT, at), "created_at": moment}
        delivery = {
            "id": ids.new(ids.DELIVERY, at),
            "event_id": event["id"],
            "subscription_id": "sub_1",
            "owner": "1",
            "event_type": "contact.create",
            "status": "delivered",
            "created_at": moment,
            "finished_at": moment,
        }
        attempt = {
            "id": ids.new(ids.ATTEMPT, at),
            "delivery_id": delivery["id"],
            "number": 1,
            "started_at": moment,
            "duration": 0.1,
            "status_code": 200,
        }
        rows["event"].append({**event, "fanned_out_at": moment, "position": number})
        rows["delivery"].append(delivery)
        rows["attempt"].append(attempt)
    with world.engine.begin() as connection:
        for name, some in rows.items():
            connection.execute(getattr(world.tables, name).insert(), some)


@pytest.fixture
def undisturbed(world: World) -> Iterator[World]:
    """PostgreSQL does not find out meanwhile that its tables are empty: it would read all."""
    if world.engine.dialect.name == "sqlite":
        yield world
        return
    for change in ("SET (autovacuum_enabled = false)", "RESET (autovacuum_enabled)"):
        with world.engine.begin() as connection:
            for name in TABLES:
                connection.exec_driver_sql(f"ALTER TABLE {name} {change}")
        if change.startswith("SET"):
            yield world


def test_no_statement_reads_a_whole_table(undisturbed: World) -> None:
    world = undisturbed
    fill(world, 1000, world.now, world.now + 60 * DAY)
    hosts = [{"host": f"{n}.example:443", "turn_at": START, "strikes": 1} for n in range(100)]
    recoveries = [
        {**recovery_row(world, "sub_1"), "status": "done", "finished_at": START} for _ in hosts
    ]
    with world.engine.begin() as connection:
        connection.execute(world.tables.host.insert(), hosts)
        connection.execute(world.tables.recovery.insert(), recoveries)
        # Something without what it belongs to, too.
        for table in (world.tables.event, world.tables.delivery):
            some = sa.select(table.c.id).order_by(table.c.id).limit(3)
            connection.execute(table.delete().where(table.c.id.in_(some.scalar_subquery())))
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("ANALYZE " + ", ".join(TABLES))
    world.later(31 * 86400)
    statements: dict[str, Any] = {}

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *rest: Any) -> None:
        if statement.startswith(("SELECT", "DELETE")):
            statements.setdefault(statement, parameters)

    sa.event.listen(world.engine, "after_cursor_execute", note)
    removed = prune(world)
    sa.event.remove(world.engine, "after_cursor_execute", note)
    assert removed.keys() == {"events", "deliveries", "attempts", "recoveries", "hosts"}
    assert sum(statement.startswith("DELETE") for statement in statements) >= 6
    with world.engine.connect() as connection:
        sqlite = connection.dialect.name == "sqlite"
        if not sqlite:
            # Of tables as small as these, it would read all; can it do without, if they are large?
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        explain = "EXPLAIN QUERY PLAN " if sqlite else "EXPLAIN "
        for statement, parameters in statements.items():
            lines = connection.exec_driver_sql(explain + statement, parameters).all()
            plan = "\n".join(str(line) for line in lines)
            assert "SCAN resthooks" not in plan, (statement, plan)
            assert "Seq Scan on resthooks" not in plan, (statement, plan)
            scans = re.findall(r"Index.* Scan (?:using|on) ", plan)
            assert len(scans) == plan.count("Index Cond"), (statement, plan)


def size(world: World) -> int:
    """Bytes of the database; PostgreSQL's without what is free to be used again."""
    with world.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if connection.dialect.name == "sqlite":
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            return int(pages * connection.exec_driver_sql("PRAGMA page_size").scalar_one())
        connection.exec_driver_sql("VACUUM " + ", ".join(TABLES))  # as autovacuum does
        sizes = " + ".join(f"pg_total_relation_size('{name}')" for name in TABLES)
        return int(connection.exec_driver_sql(f"SELECT {sizes}").scalar_one())


def test_over_a_year_the_tables_stay_as_large_as_the_retention_asks_for(world: World) -> None:
    rate, days, step = 20, 30, 15
    with world.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        sqlite = connection.dialect.name == "sqlite"  # another test may have used the file
        connection.exec_driver_sql("VACUUM" if sqlite else "VACUUM FULL " + ", ".join(TABLES))
    sizes, counts = [], []
    for _ in range(365 // step):
        fill(world, rate * step, world.now, world.now + step * DAY)
        world.later(step * 86400)
        prune(world, days)
        sizes.append(size(world))
        counts.append(len(world.deliveries()))
    assert len(kept(world)) == rate * days
    assert max(counts) <= rate * (days + step)
    full = days // step + 2
    assert max(sizes[full:]) <= 1.25 * sizes[full]
    assert sizes[full] > 2 * sizes[0]
