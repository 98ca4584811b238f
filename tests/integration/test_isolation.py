"""One bad receiver cannot take the worker: fair claims, silent hosts, parked deliveries."""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from engine import Engine
from receivers import Receiver
from servers import Inbox
from world import World

from flask_resthooks import retry
from flask_resthooks.outbox import Claim
from flask_resthooks.outbox.looking import OTHERS, Looking
from flask_resthooks.outbox.subscriptions import send

Make = Callable[..., Engine]


@pytest.fixture
def make(world: World) -> Iterator[Make]:
    made: list[Engine] = []

    def make(**config: Any) -> Engine:
        made.append(Engine(world, **config))
        return made[-1]

    yield make
    for engine in made:
        engine.transport.close()


def hole() -> Receiver:
    """Takes every connection, and says nothing."""
    return Receiver(lambda receiver, connection: receiver.closing.wait(60))


def url(receiver: Receiver, path: str = "/") -> str:
    return f"http://127.0.0.1:{receiver.port}{path}"


def hosts(world: World) -> list[Any]:
    with world.engine.connect() as connection:
        return list(connection.execute(world.tables.host.select()))


def change(world: World, table: sa.Table, id_: str, **values: Any) -> None:
    with world.engine.begin() as connection:
        connection.execute(table.update().where(table.c.id == id_).values(**values))


def silent(world: World, claims: list[Claim], error: str = "timeout") -> None:
    """Settle claims as if no answer had come."""
    due = world.now + dt.timedelta(seconds=1)
    world.outbox.settle(
        [world.outcome(claim, "pending", next_at=due, error=error) for claim in claims]
    )


# Fair claims.


def test_ten_thousand_of_one_owner_do_not_hide_what_is_due_of_others(world: World) -> None:
    world.subscribe("*", owner="loud", target_url="https://loud.example.com/")
    world.happen(owner="loud", count=10_000)
    while world.outbox.fan_out(2_000)[0]:
        pass
    world.later(1)
    for number in range(100):
        world.subscribe("*", owner=f"quiet{number}", target_url=f"https://{number}.example.com/")
        world.happen(owner=f"quiet{number}")
    world.outbox.fan_out(1_000)
    rounds, seen = 0, Counter[str]()
    while len(seen) < 101:
        rounds += 1
        seen.update(claim.owner for claim in world.outbox.claim(64, 60))
    assert rounds <= 4
    assert sum(seen.values()) == rounds * 64


def test_every_subscription_comes_up_however_many_there_are(world: World) -> None:
    world.subscribe("*", owner="loud")
    world.happen(owner="loud", count=1_000)
    world.outbox.fan_out(2_000)
    world.later(1)
    for number in range(3 * OTHERS):
        world.subscribe("*", owner=str(number))
        world.happen(owner=str(number))
    world.outbox.fan_out(1_000)
    seen: set[str] = set()
    for _ in range(8):
        seen |= {claim.owner for claim in world.outbox.claim(50, 60)}
    assert len(seen) == 3 * OTHERS + 1


def test_what_is_not_due_is_not_found_by_the_walk(world: World) -> None:
    for number in range(30):
        world.subscribe("*", owner=str(number))
        world.happen(owner=str(number))
        if number == 9:
            world.outbox.fan_out(100, delay=0)
    world.outbox.fan_out(100, delay=3600)
    looking = Looking(world.outbox._database, world.tables)
    with world.outbox.connect() as connection:
        assert len(looking._others(connection, world.now, ())) == 10
        looking._cursor = ""
        due = [row for row in world.deliveries() if row.due_at <= world.now]
        full = {row.subscription_id for row in due[:3]}
        assert len(looking._others(connection, world.now, full)) == 7


def test_the_look_past_those_who_have_much_reads_no_table(world: World) -> None:
    delivery = world.tables.delivery
    rows = [
        {
            "id": f"dlv_{number:030}",
            "event_id": f"evt_{number:030}",
            "subscription_id": f"sub_{number % 400}",
            "owner": "1",
            "event_type": "contact.create",
            "status": "pending" if number % 10 == 0 else "delivered",
            "due_at": world.now if number % 10 == 0 else None,
            "created_at": world.now,
        }
        for number in range(20_000)
    ]
    asked: list[tuple[str, Any]] = []
    sqlite = world.engine.dialect.name == "sqlite"
    looking = Looking(world.outbox._database, world.tables)
    with world.engine.begin() as connection:
        connection.execute(delivery.insert(), rows)
        connection.exec_driver_sql("ANALYZE")
        sa.event.listen(
            connection,
            "before_cursor_execute",
            lambda *given: asked.append((given[2], given[3])),
        )
        found = looking._of_others(connection, world.now, 128, ())
        assert len(found) >= 128
        for statement, values in list(asked):
            prefix = "EXPLAIN QUERY PLAN" if sqlite else "EXPLAIN"
            plan = str(connection.exec_driver_sql(f"{prefix} {statement}", values).all())
            assert "resthooks_delivery_waiting" in plan
            assert "SCAN resthooks_delivery" not in plan
            assert "Seq Scan" not in plan


def test_a_claim_takes_on_no_more_than_there_is_memory_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_resthooks.outbox.claiming.MEMORY", 1000)
    for _ in range(3):
        world.subscribe("*")
    events = world.happen(count=6)
    change(world, world.tables.event, events[5], data='"' + 2000 * "x" + '"')
    for id_ in events[:5]:
        change(world, world.tables.event, id_, data='"' + 300 * "x" + '"')
    world.outbox.fan_out(10)
    sizes = []
    while claims := world.outbox.claim(100, 60):
        told = {claim.event.id: len(claim.event.data) for claim in claims}
        sizes.append(sum(told.values()))
        assert len(told) == 1 or sizes[-1] <= 1000
    assert {row.status for row in world.deliveries()} == {"sending"}


# A host that gives no answers.


def test_a_silent_host_is_left_alone_and_what_waits_loses_no_attempt(world: World) -> None:
    world.subscribe("*", target_url="https://gone.example.com/")
    world.happen(count=retry.SILENCES + 20)
    world.outbox.fan_out(100)
    claims = world.outbox.claim(retry.SILENCES - 1, 60)
    silent(world, claims)
    assert not retry.is_silent(hosts(world)[0].silences)
    last = world.outbox.claim(1, 60)
    assert len(last) == 1
    silent(world, last)
    assert retry.is_silent(hosts(world)[0].silences)
    assert world.outbox.claim(100, 60) == []
    untouched = [row for row in world.deliveries() if row.attempts == 0]
    assert len(untouched) == 20
    turn = world.now + dt.timedelta(seconds=retry.FIRST_BREAK)
    assert {(row.status, row.due_at) for row in untouched} == {("pending", turn)}


def test_it_is_probed_by_one_delivery_and_left_alone_for_longer_each_time(world: World) -> None:
    world.subscribe("*", target_url="https://gone.example.com/")
    world.happen(count=30)
    world.outbox.fan_out(100)
    silent(world, world.outbox.claim(10, 60))
    pauses = []
    for _ in range(8):
        assert world.outbox.claim(100, 60) == []
        pauses.append((hosts(world)[0].turn_at - world.now).total_seconds())
        world.later(pauses[-1])
        (probe,) = world.outbox.claim(100, 60, probe=20)
        assert probe.probe
        assert world.outbox.claim(100, 60) == []  # while it is out, nobody else tries
        world.later(1)
        silent(world, [probe])
    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300]


def test_as_soon_as_a_probe_arrives_all_that_waits_is_due(world: World) -> None:
    world.subscribe("*", target_url="https://gone.example.com/")
    world.happen(count=30)
    world.outbox.fan_out(100)
    silent(world, world.outbox.claim(10, 60))
    world.later(100)
    (probe,) = world.outbox.claim(100, 60)
    assert world.outbox.claim(100, 60) == []
    world.outbox.settle([world.outcome(probe)])
    assert hosts(world) == []
    assert len(world.outbox.claim(100, 60)) == 29


def test_any_answer_shows_that_a_host_is_back(world: World) -> None:
    world.subscribe("*", target_url="https://gone.example.com/")
    world.happen(count=30)
    world.outbox.fan_out(100)
    silent(world, world.outbox.claim(10, 60))
    world.later(100)
    (probe,) = world.outbox.claim(100, 60)
    assert world.outbox.claim(100, 60) == []
    due = world.now + dt.timedelta(seconds=300)
    world.outbox.settle([world.outcome(probe, "pending", next_at=due, status_code=500)])
    assert len(world.outbox.claim(100, 60)) == 29


def test_a_ping_does_not_wait_and_what_it_finds_out_counts(world: World) -> None:
    id_ = world.subscribe("*", target_url="https://gone.example.com/")
    world.happen(count=30)
    world.outbox.fan_out(100)
    silent(world, world.outbox.claim(10, 60))
    assert world.outbox.claim(100, 60) == []
    with world.engine.begin() as connection:
        row = connection.execute(
            world.tables.subscription.select().where(world.tables.subscription.c.id == id_)
        ).mappings()
        send(world.tables, connection, dict(row.one()), "ping", "resthooks.ping", world.now)
    (ping,) = world.outbox.claim(100, 60)
    assert (ping.kind, ping.probe) == ("ping", False)
    world.outbox.settle([world.outcome(ping, status_code=200)])
    assert len(world.outbox.claim(100, 60)) == 20


def test_a_probe_that_was_not_made_is_left_to_others_at_once(world: World) -> None:
    world.subscribe("*", target_url="https://gone.example.com/")
    world.happen(count=30)
    world.outbox.fan_out(100)
    silent(world, world.outbox.claim(10, 60))
    world.later(5)
    for act in ("give back", "cancel", "fault"):
        (probe,) = world.outbox.claim(100, 60, probe=20)
        assert world.outbox.claim(100, 60) == []
        if act == "give back":
            world.outbox.give_back([probe])
        elif act == "cancel":
            world.outbox.cancel([(probe, "the owner may not see it any more")])
        else:
            world.outbox.settle([world.outcome(probe, "failed", error="internal", fault=True)])
    assert len(world.outbox.claim(100, 60)) == 1


def test_a_probe_that_says_nothing_of_its_host_does_not_leave_it_alone_for_ever(
    world: World,
) -> None:
    world.subscribe("*", target_url="https://gone.example.com/")
    world.happen(count=30)
    world.outbox.fan_out(100)
    silent(world, world.outbox.claim(10, 60))
    world.later(5)
    silent(world, world.outbox.claim(100, 60), "address_refused")
    assert len(world.outbox.claim(100, 60)) > 10


def test_one_host_that_is_back_says_nothing_of_another(world: World) -> None:
    for name in ("a", "b"):
        world.subscribe(f"{name}.*", owner=name, target_url=f"https://{name}.example.com/")
        world.happen(f"{name}.create", owner=name, count=20)
    world.outbox.fan_out(100)
    silent(world, world.outbox.claim(20, 60))
    world.later(5)
    probes = {claim.owner: claim for claim in world.outbox.claim(100, 60)}
    assert len(probes) == 2 and world.outbox.claim(100, 60) == []
    world.outbox.settle([world.outcome(probes["a"])])
    assert {claim.owner for claim in world.outbox.claim(100, 60)} == {"a"}


def test_each_owner_has_a_probe_so_that_one_cannot_speak_for_all(world: World) -> None:
    for owner in "12":
        world.subscribe("*", owner=owner, target_url=f"https://shared.example.com/{owner}")
    world.happen(owner="1", count=30)
    world.outbox.fan_out(100)
    silent(world, world.outbox.claim(10, 60))
    world.happen(owner="2", count=5)
    world.outbox.fan_out(100)
    assert world.outbox.claim(100, 60) == []
    world.later(5)
    probes = {claim.owner: claim for claim in world.outbox.claim(100, 60)}
    assert set(probes) == {"1", "2"}
    silent(world, [probes["1"]])
    world.outbox.settle([world.outcome(probes["2"])])
    world.later(30)  # until when others waited for what came of the probes
    assert len(world.outbox.claim(100, 60)) > 20


def test_a_probe_of_a_worker_that_died_does_not_block_its_host(world: World) -> None:
    world.subscribe("*", target_url="https://gone.example.com/")
    world.happen(count=30)
    world.outbox.fan_out(100)
    silent(world, world.outbox.claim(10, 60))
    world.later(5)
    assert len(world.outbox.claim(100, 60, probe=20)) == 1
    world.later(19)
    assert world.outbox.claim(100, 60, probe=20) == []
    world.later(1)
    assert len(world.outbox.claim(100, 60, probe=20)) == 1


@pytest.mark.parametrize("error", ["address_refused", "internal"])
def test_what_says_nothing_about_a_host_is_not_held_against_it(world: World, error: str) -> None:
    world.subscribe("*", target_url="https://fine.example.com/")
    world.happen(count=30)
    world.outbox.fan_out(100)
    silent(world, world.outbox.claim(20, 60), error)
    assert hosts(world) == []
    assert len(world.outbox.claim(100, 60)) == 10


def test_an_answer_in_between_begins_the_count_anew(world: World) -> None:
    world.subscribe("*", target_url="https://moody.example.com/")
    world.happen(count=30)
    world.outbox.fan_out(100)
    due = world.now + dt.timedelta(seconds=300)
    for _ in range(3):
        silent(world, world.outbox.claim(retry.SILENCES - 1, 60))
        (claim,) = world.outbox.claim(1, 60)
        world.outbox.settle([world.outcome(claim, "pending", next_at=due, status_code=404)])
    assert len(world.outbox.claim(100, 60)) == 30 - 3 * retry.SILENCES


# In a drain, with real receivers.


def test_a_host_that_refuses_connections_costs_a_few_attempts_and_comes_back(
    world: World, make: Make, inbox: Inbox
) -> None:
    with Receiver(lambda receiver, connection: None) as closed:
        gone = url(closed)
    subscription = world.subscribe("*", target_url=gone)
    world.happen(count=200)
    engine = make(retry_schedule=[0, 1, 1])
    engine.run(time_slice=2)
    assert 0 < len(world.attempts()) < 100
    assert {attempt.error for attempt in world.attempts()} == {"connection"}
    assert sum(row.attempts == 0 for row in world.deliveries()) > 100
    change(world, world.tables.subscription, subscription, target_url=inbox.url())
    table = world.tables.subscription
    with world.engine.begin() as connection:  # as the API does
        connection.execute(table.update().values(host=f"127.0.0.1:{inbox.port}"))
    world.later(retry.FIRST_BREAK)
    engine.run(time_slice=2)
    assert {row.status for row in world.deliveries()} == {"delivered"}


def test_several_black_holes_leave_room_for_others(world: World, make: Make, inbox: Inbox) -> None:
    with contextlib.ExitStack() as stack:
        holes = [stack.enter_context(hole()) for _ in range(6)]
        for number, one in enumerate(holes):
            world.subscribe("*", owner=f"bad{number}", target_url=url(one))
            world.happen(owner=f"bad{number}", count=200)
        world.outbox.fan_out(5_000)
        world.later(1)
        world.subscribe("*", owner="good", target_url=inbox.url())
        engine = make(concurrency=16, timeout=10, connect_timeout=10, lease=60)
        thread = threading.Thread(target=lambda: engine.run(time_slice=8))
        thread.start()
        time.sleep(1.5)
        began = len(inbox.requests)
        world.happen(owner="good", count=100)
        try:
            arrived = inbox.wait_for(100, timeout=8.4)
        finally:
            for one in holes:
                one.closing.set()
            thread.join(30)
    assert began == 0 and len(arrived) == 100


def test_a_delivery_that_cannot_be_settled_keeps_no_other_from_it(
    sqlite_url: str, inbox: Inbox
) -> None:
    world = World(sqlite_url)
    engine = Engine(world)
    bad = world.subscribe("*", target_url=inbox.url())
    world.subscribe("*", target_url=inbox.url())
    world.happen()
    world.outbox.fan_out(10)
    with world.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE resthooks_delivery SET attempts = 9223372036854775807 "
            "WHERE subscription_id = ?",
            (bad,),
        )
        connection.exec_driver_sql(
            "INSERT INTO resthooks_subscription (id, owner, target_url, host, events, status, "
            "description, metadata, format, payload, signature, secret, former_secrets, "
            "header_names, expires_at, expiry_notice, intent_tries, created_at, updated_at) "
            "SELECT 'sub_x', owner, target_url, host, '[', status, description, '{', format, "
            "payload, signature, secret, former_secrets, header_names, '2000-01-01 00:00:00', "
            "0, 0, created_at, updated_at FROM resthooks_subscription WHERE id = ?",
            (bad,),
        )
    engine.run(time_slice=3)
    statuses = {row.subscription_id == bad: row.status for row in world.deliveries()}
    assert statuses[False] == "delivered"
    engine.transport.close()
    world.engine.dispose()


def test_no_more_than_so_many_are_in_flight_to_one_host(
    world: World, make: Make, inbox: Inbox
) -> None:
    inbox.delay = 0.01
    for owner in "123":
        world.subscribe("*", owner=owner, target_url=inbox.url(f"/{owner}"))
        world.happen(owner=owner, count=20)
    engine = make(host_concurrency=2)
    flying, most, lock = 0, 0, threading.Lock()
    submit = engine.transport.submit

    def counted(request: Any) -> Any:
        nonlocal flying, most
        with lock:
            flying += 1
            most = max(most, flying)
        future = submit(request)
        future.add_done_callback(landed)
        return future

    def landed(future: Any) -> None:
        nonlocal flying
        with lock:
            flying -= 1

    engine.transport.submit = counted  # type: ignore[method-assign]
    engine.run()
    assert len(inbox.requests) == 60
    assert most == 2


# Deliveries of which no request can be made.


def parked(world: World, engine: Engine, inbox: Inbox, others: int) -> Any:
    """Drain until the bad one is parked: three tries; the others arrive by the first."""
    engine.run()
    assert len(inbox.requests) == others
    tries = 1
    while (bad := next(r for r in world.deliveries() if r.status != "delivered")).due_at:
        assert (bad.status, bad.faults) == ("pending", tries)
        assert tries < 3
        world.later(retry.FAULT_PAUSES[tries - 1])
        engine.run()
        tries += 1
    assert bad.faults == tries == 3
    assert len(inbox.requests) == others
    return bad


def test_what_cannot_be_signed_is_parked_after_three_tries(
    world: World, make: Make, inbox: Inbox
) -> None:
    world.subscribe("*", target_url=inbox.url(), secret="no secret")
    world.subscribe("*", target_url=inbox.url())
    world.happen()
    bad = parked(world, make(), inbox, others=1)
    assert bad.status == "failed"
    assert bad.reason.startswith("parked after 3 tries: an error of ours (")
    assert "no secret" not in bad.reason
    assert (bad.attempts, bad.attempts_before) == (3, 3)


def test_parked_ones_take_no_attempts_from_the_schedule_and_can_be_sent_again(
    world: World, make: Make, inbox: Inbox
) -> None:
    subscription = world.subscribe("*", target_url=inbox.url(), secret="no secret")
    world.happen()
    engine = make(retry_schedule=[0])
    engine.run()
    assert [row.status for row in world.deliveries()] == ["pending"]
    change(world, world.tables.subscription, subscription, secret="whsec_" + "A" * 32)
    world.later(retry.FAULT_PAUSES[0])
    engine.run()
    assert [row.status for row in world.deliveries()] == ["delivered"]


DAMAGE: dict[str, tuple[str, dict[str, Any]]] = {
    "the secrets that still sign": ("subscription", {"former_secrets": [{"until": 1}]}),
    "no list of secrets": ("subscription", {"former_secrets": {"a": 1}}),
    "the receiver's headers": ("subscription", {"headers": "no object"}),
    "an unknown format": ("subscription", {"format": "morse"}),
    "what has happened": ("event", {"data": "{no"}),
    "the former values": ("event", {"data": "{}", "previous": "{"}),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_row_is_parked_and_does_not_stop_its_batch(
    world: World, make: Make, inbox: Inbox, what: str
) -> None:
    damaged = world.subscribe("bad.*", target_url=inbox.url())
    for _ in range(3):
        world.subscribe("good.*", target_url=inbox.url())
    (event,) = world.happen("bad.create")
    world.happen("good.create")
    table, values = DAMAGE[what]
    change(world, getattr(world.tables, table), event if table == "event" else damaged, **values)
    bad = parked(world, make(), inbox, others=3)
    assert bad.subscription_id == damaged
    assert bad.status == "failed" and bad.reason.startswith("parked after 3 tries: ")


RAW_DAMAGE = {
    "a time of the subscription": ("subscription", "turn_at", "yesterday"),
    "JSON of the subscription": ("subscription", "former_secrets", "[{"),
    "the time of the event": ("event", "created_at", "then"),
    "the number of attempts": ("delivery", "attempts", "many"),
    "a time of the host": ("host", "turn_at", "0000"),
    "the owner of the delivery": ("delivery", "owner", b"\0\xff"),
    "the event of the delivery": ("delivery", "event_id", b"\0\xff"),
    "the subscription of the delivery": ("delivery", "subscription_id", b"\0\xff"),
    "the host of the subscription": ("subscription", "host", b"\0\xff"),
    "the text of the event": ("event", "data", "no UTF-8"),
    "the target of the subscription": ("subscription", "target_url", "no UTF-8"),
    "the kind of the delivery": ("delivery", "kind", "no UTF-8"),
    "a blob that SQLite takes for JSON": ("delivery", "attempts", b"\x133"),
}


@pytest.mark.parametrize("what", RAW_DAMAGE)
def test_what_cannot_even_be_read_is_parked(sqlite_url: str, inbox: Inbox, what: str) -> None:
    """SQLite keeps whatever is put into a column."""
    world = World(sqlite_url)
    engine = Engine(world)
    table, column, value = RAW_DAMAGE[what]
    damaged = world.subscribe("a.*", target_url=inbox.url())
    for _ in range(3):
        world.subscribe("b.*", target_url=inbox.url("/others"))
    (event,) = world.happen("a.a")
    world.happen("b.b")
    world.outbox.fan_out(10)
    (delivery,) = [row for row in world.deliveries() if row.subscription_id == damaged]
    ids = {"subscription": damaged, "event": event, "delivery": delivery.id}
    with world.engine.begin() as connection:
        if table == "host":
            host = f"127.0.0.1:{inbox.port}"
            inbox_host = f"localhost:{inbox.port}"
            connection.execute(
                world.tables.subscription.update()
                .where(world.tables.subscription.c.id == damaged)
                .values(host=inbox_host)
            )
            assert host != inbox_host
            connection.execute(
                world.tables.host.insert().values(
                    host=inbox_host, turn_at=world.now, strikes=0, silences=0
                )
            )
            where, key = "host", inbox_host
        else:
            where, key = "id", ids[table]
        given, value = ("CAST(? AS TEXT)", b"\xff") if value == "no UTF-8" else ("?", value)
        connection.exec_driver_sql(
            f"UPDATE resthooks_{table} SET {column} = {given} WHERE {where} = ?", (value, key)
        )
    engine.run()
    assert [request.path for request in inbox.requests] == ["/others"] * 3
    for pause in retry.FAULT_PAUSES:
        world.later(pause)
        engine.run()
    assert len(inbox.requests) == 3
    with world.engine.connect() as connection:
        (row,) = connection.exec_driver_sql(
            "SELECT status, reason, due_at FROM resthooks_delivery WHERE id = ?", (delivery.id,)
        )
    assert (row.status, row.due_at) == ("failed", None)
    assert row.reason.startswith(("parked after 3 tries: its row ", "parked after 3 tries: its s"))
    engine.transport.close()
    world.engine.dispose()


@pytest.mark.parametrize("value", ["infinity", "-infinity"])
def test_a_time_beyond_pythons_stops_nobody(postgresql_url: str, inbox: Inbox, value: str) -> None:
    """PostgreSQL knows some that an operator may have written by hand."""
    world = World(postgresql_url)
    engine = Engine(world)
    columns = {
        "subscription": ["turn_at", "booked_until", "failing_since", "failed_at", "expires_at"],
        "event": ["created_at"],
        "delivery": ["due_at", "created_at"],
    }
    for table, names in columns.items():
        for name in names:
            id_ = world.subscribe(f"{name}.*", target_url=inbox.url())
            (event,) = world.happen(f"{name}.create")
            world.outbox.fan_out(10)
            (delivery,) = [row.id for row in world.deliveries() if row.subscription_id == id_]
            key = {"subscription": id_, "event": event, "delivery": delivery}[table]
            with world.engine.begin() as connection:
                connection.exec_driver_sql(
                    f"UPDATE resthooks_{table} SET {name} = %s WHERE id = %s", (value, key)
                )
    world.subscribe("good.*", target_url=inbox.url("/good"))
    world.happen("good.create")
    engine.run(time_slice=2)
    assert [request.path for request in inbox.requests].count("/good") == 1
    statuses = Counter(row.status for row in world.deliveries())
    assert statuses["delivered"] >= 6 and statuses["sending"] == 0
    engine.transport.close()
    world.engine.dispose()


@pytest.mark.parametrize("rate", [0.0, -1.0, 1e-300])
def test_a_rate_that_is_none_stops_nobody(
    world: World, make: Make, inbox: Inbox, rate: float
) -> None:
    world.subscribe("*", target_url=inbox.url(), rate=rate)
    world.subscribe("*", target_url=inbox.url())
    world.happen()
    make().run(time_slice=2)
    assert [row.status for row in world.deliveries()] == ["delivered"] * 2


def test_what_an_app_raises_about_the_right_is_no_fault_of_the_delivery(
    world: World, make: Make, inbox: Inbox
) -> None:
    def permit(claim: Claim) -> bool:
        raise RuntimeError("the directory is away")

    world.subscribe("*", target_url=inbox.url())
    world.happen()
    engine = make(drain={"permit": permit}, retry_schedule=[0, 10, 100])
    engine.run()
    (row,) = world.deliveries()
    assert (row.status, row.faults, row.attempts) == ("pending", 0, 1)
    assert row.due_at == world.now + dt.timedelta(seconds=10)
    assert world.attempts()[0].detail == (
        "an error of ours (RuntimeError); the worker's log says more"
    )
