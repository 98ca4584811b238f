"""The pipeline's SQL, on both databases."""

from __future__ import annotations

import datetime as dt
import threading
from collections import Counter
from typing import Any

import pytest
import sqlalchemy as sa
from servers import PostgresServer
from world import START, World

from flask_resthooks import ids, models, signing
from flask_resthooks.outbox import Outbox, claiming
from flask_resthooks.outbox.subscriptions import _expiring


def test_an_event_goes_to_each_matching_subscription_of_its_owner_once(world: World) -> None:
    wanted = {
        world.subscribe("contact.create"),
        world.subscribe("contact.*"),
        world.subscribe("*"),
        world.subscribe("*", "contact.*", "contact.create", "invoice.paid"),
    }
    world.subscribe("contact.update")
    world.subscribe("contacts.*")
    world.subscribe("*", owner="2")
    world.subscribe("*", status="inactive")
    world.subscribe("*", status="pending")
    world.subscribe("*", expires_at=START - dt.timedelta(seconds=1))
    wanted.add(world.subscribe("*", expires_at=START + dt.timedelta(seconds=1)))
    world.happen()
    assert world.outbox.fan_out(10)[0] == 1
    rows = world.deliveries()
    assert sorted(row.subscription_id for row in rows) == sorted(wanted)
    assert {row.status for row in rows} == {"pending"}
    assert all(ids.is_id(ids.DELIVERY, row.id) for row in rows)
    assert len({row.id for row in rows}) == len(rows)
    assert world.outbox.fan_out(10) == (0, 0)


def test_a_fan_out_takes_no_more_events_than_it_may(world: World) -> None:
    world.subscribe("*")
    world.happen(count=5)
    assert [world.outbox.fan_out(2) for _ in range(4)] == [(2, 2), (2, 2), (1, 1), (0, 0)]
    assert len(world.deliveries()) == 5


def test_an_event_committed_late_with_a_small_number_is_not_passed_over(
    postgresql_url: str,
) -> None:
    world = World(postgresql_url)
    world.subscribe("*")
    late = world.engine.connect()
    late.execute(world.tables.event.insert(), world.event_row("contact.late"))
    world.happen("contact.early")
    assert world.outbox.fan_out(10)[0] == 1
    late.commit()
    late.close()
    assert world.outbox.fan_out(10)[0] == 1
    assert {row.event_type for row in world.deliveries()} == {"contact.late", "contact.early"}
    world.engine.dispose()


def test_a_claim_holds_all_that_is_needed_to_send(world: World) -> None:
    secret = signing.new_secret()
    subscription = world.subscribe("*", target_url="https://example.com/x", secret=secret)
    (event,) = world.happen("contact.update")
    world.outbox.fan_out(10)
    (claim,) = world.outbox.claim(10, 60)
    assert (claim.subscription_id, claim.target_url, claim.secrets, claim.number) == (
        subscription,
        "https://example.com/x",
        (secret,),
        1,
    )
    assert (claim.event.id, claim.event.type, claim.event.data) == (
        event,
        "contact.update",
        '{"name":"Ada"}',
    )
    assert claim.event.timestamp == START
    assert claim.event.sequence > 0
    assert world.outbox.claim(10, 60) == []


def test_a_lease_that_has_run_out_lets_another_claim(world: World) -> None:
    world.subscribe("*")
    world.happen()
    world.outbox.fan_out(10)
    (first,) = world.outbox.claim(10, 60)
    world.later(59)
    assert world.outbox.claim(10, 60) == []
    assert world.outbox.next_due() == START + dt.timedelta(seconds=60)
    world.later(1)
    (second,) = world.outbox.claim(10, 60)
    assert second.delivery_id == first.delivery_id
    assert second.lease != first.lease


def test_a_claim_is_not_forgotten_by_a_database_that_crashes(
    postgres_server: PostgresServer, postgresql_url: str
) -> None:
    """Else what is on its way would be claimed and sent once more."""
    world = World(f"{postgresql_url}&options=-csynchronous_commit%3Don")
    world.subscribe("*")
    world.happen()
    assert world.outbox.fan_out(10) == (1, 1)
    assert len(world.outbox.claim(10, lease=60)) == 1
    world.engine.dispose()
    postgres_server.crash()
    postgres_server.start()
    assert [row.status for row in world.deliveries()] == ["sending"]
    world.engine.dispose()


def test_a_late_settle_is_recorded_and_changes_nothing(world: World) -> None:
    world.subscribe("*")
    world.happen()
    world.outbox.fan_out(10)
    (first,) = world.outbox.claim(10, 60)
    world.later(61)
    (second,) = world.outbox.claim(10, 60)
    late = world.outbox.settle([world.outcome(first, "failed", disable="gone", reason="x")])
    assert late.held == frozenset()
    assert late.disabled == {}
    (row,) = world.deliveries()
    assert (row.status, row.lease, row.attempts) == ("sending", second.lease, 0)
    assert len(world.attempts()) == 1
    assert world.outbox.settle([world.outcome(second)]).held == {second.delivery_id}
    (row,) = world.deliveries()
    assert (row.status, row.lease, row.due_at, row.attempts) == ("delivered", None, None, 1)
    assert row.finished_at == world.now


def test_a_settle_writes_each_outcome_to_its_delivery(world: World) -> None:
    world.subscribe("*")
    world.happen(count=3)
    world.outbox.fan_out(10)
    good, again, bad = world.outbox.claim(10, 60)
    next_at = START + dt.timedelta(seconds=5)
    world.outbox.settle(
        [
            world.outcome(good, status_code=200, response="ok"),
            world.outcome(again, "pending", next_at=next_at, error="dns", detail="no such name"),
            world.outcome(bad, "failed", reason="gave up after 10 attempts", status_code=500),
        ]
    )
    rows = {row.id: row for row in world.deliveries()}
    assert rows[good.delivery_id].status == "delivered"
    assert rows[again.delivery_id].due_at == next_at
    assert rows[again.delivery_id].finished_at is None
    assert rows[bad.delivery_id].status == "failed"
    assert rows[bad.delivery_id].reason == "gave up after 10 attempts"
    assert rows[bad.delivery_id].due_at is None
    assert world.outbox.next_due() == next_at
    assert {(a.status_code, a.error, a.response, a.next_at) for a in world.attempts()} == {
        (200, None, "ok", None),
        (None, "dns", None, next_at),
        (500, None, None, None),
    }


def test_a_subscription_that_is_gone_is_disabled_once_and_what_waits_is_cancelled(
    world: World,
) -> None:
    subscription = world.subscribe("*")
    world.happen(count=4)
    world.outbox.fan_out(10)
    one, two, three = world.outbox.claim(3, 60)
    outcomes = [world.outcome(one, "failed", reason="410", disable="410")]
    assert world.outbox.settle(outcomes).disabled == {subscription: "410"}
    statuses = sorted(row.status for row in world.deliveries())
    assert statuses == ["cancelled", "failed", "sending", "sending"]
    # What was in flight already is told as what came of it.
    next_at = START + dt.timedelta(seconds=5)
    again = world.outbox.settle(
        [
            world.outcome(two, "failed", reason="410", disable="410"),
            world.outcome(three, "pending", next_at=next_at),
        ]
    )
    assert again.disabled == {}
    assert again.held == {two.delivery_id, three.delivery_id}
    world.later(5)
    assert world.outbox.claim(10, 60) == []
    statuses = sorted(row.status for row in world.deliveries())
    assert statuses == ["cancelled", "cancelled", "failed", "failed"]
    with world.engine.connect() as connection:
        row = connection.execute(world.tables.subscription.select()).one()
    assert (row.status, row.disabled_reason) == ("disabled", "410")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"status": "inactive"}, "the subscription is inactive"),
        ({"expires_at": START}, "the subscription has expired"),
        (None, "the subscription was deleted"),
    ],
)
def test_what_may_not_be_sent_any_more_is_cancelled_when_it_falls_due(
    world: World, change: dict[str, Any] | None, reason: str
) -> None:
    world.subscribe("*")
    world.happen()
    world.outbox.fan_out(10)
    table = world.tables.subscription
    with world.engine.begin() as connection:
        connection.execute(table.delete() if change is None else table.update().values(change))
    assert world.outbox.claim(10, 60) == []
    (row,) = world.deliveries()
    assert (row.status, row.reason, row.due_at) == ("cancelled", reason, None)


def test_what_is_given_back_is_due_at_once(world: World) -> None:
    world.subscribe("*")
    world.happen(count=2)
    world.outbox.fan_out(10)
    claims = world.outbox.claim(10, 60)
    world.outbox.give_back(claims)
    world.outbox.give_back([])
    assert len(world.outbox.claim(10, 60)) == 2


def test_nothing_due_is_none(world: World) -> None:
    assert world.outbox.next_due() is None
    world.happen()
    assert world.outbox.next_due() == START


def work_side_by_side(outbox: Outbox, world: World) -> list[str]:
    """Four workers; the deliveries that they have claimed."""
    claimed: list[str] = []
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(400):
                events, _ = outbox.fan_out(7)
                claims = outbox.claim(11, 60)
                claimed.extend(claim.delivery_id for claim in claims)
                if claims:
                    outbox.settle([world.outcome(claim) for claim in claims])
                if not events and not claims and outbox.next_due() is None:
                    return
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    return claimed


def test_workers_side_by_side_claim_each_delivery_once(world: World) -> None:
    world.subscribe("*")
    world.happen(count=300)
    claimed = work_side_by_side(world.outbox, world)
    assert len(claimed) == len(set(claimed)) == 300
    assert {row.status for row in world.deliveries()} == {"delivered"}


@pytest.mark.parametrize("level", ["AUTOCOMMIT", "REPEATABLE READ", "SERIALIZABLE"])
def test_whatever_isolation_the_app_has_chosen_each_delivery_is_claimed_once(
    postgresql_url: str, level: str
) -> None:
    world = World(postgresql_url)
    world.subscribe("*")
    world.happen(count=200)
    engine = sa.create_engine(postgresql_url, isolation_level=level)
    claimed = work_side_by_side(Outbox(engine, world.tables, lambda: world.now), world)
    assert len(claimed) == len(set(claimed)) == 200
    assert len(world.deliveries()) == 200
    engine.dispose()
    world.engine.dispose()


def test_workers_tell_the_time_by_the_database(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(postgresql_url)
    fast = models.utcnow() + dt.timedelta(hours=1)
    monkeypatch.setattr("flask_resthooks.database.utcnow", lambda: fast)
    worker = Outbox(world.engine, world.tables)
    assert worker.now() == fast
    worker.synchronise()
    assert abs((worker.now() - models.utcnow()).total_seconds()) < 5
    world.engine.dispose()


def test_a_claim_takes_no_more_of_a_subscription_than_its_share(world: World) -> None:
    many, few = world.subscribe("many.*"), world.subscribe("few.*")
    world.happen("many.one", count=30)
    world.outbox.fan_out(100)
    world.later(1)
    world.happen("few.one", count=3)
    world.outbox.fan_out(100)
    first = world.outbox.claim(20, 60, share=lambda id_, host: 5)
    assert Counter(claim.subscription_id for claim in first) == {many: 5, few: 3}
    assert world.outbox.claim(20, 60, share=lambda id_, host: 5, full=[many]) == []
    rest = world.outbox.claim(40, 60)
    assert [claim.subscription_id for claim in rest] == [many] * 25


def test_an_expiry_that_python_cannot_read_harms_nobody(postgresql_url: str) -> None:
    world = World(postgresql_url)
    subscription = world.subscribe("*")
    with world.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE resthooks_subscription SET expires_at = '9999-12-31 23:59:59+00'"
        )
        name = connection.engine.url.database
        connection.exec_driver_sql(f"ALTER DATABASE \"{name}\" SET timezone = 'Europe/Berlin'")
    world.engine.dispose()
    world.happen()
    world.outbox.fan_out(10)
    (claim,) = world.outbox.claim(10, 60)
    assert claim.subscription_id == subscription
    world.engine.dispose()


def test_the_indexes_serve_the_questions_of_the_pipeline(world: World) -> None:
    delivery, event = world.tables.delivery, world.tables.event
    subscription, recovery = world.tables.subscription, world.tables.recovery
    waits = world.now + dt.timedelta(days=1)
    with world.engine.begin() as connection:
        connection.execute(
            event.insert(),
            [
                {
                    **world.event_row(),
                    "position": number,
                    "fanned_out_at": None if number % 500 == 0 else world.now,
                }
                for number in range(1, 4001)
            ],
        )
        connection.execute(
            delivery.insert(),
            [
                {
                    "id": ids.new(ids.DELIVERY),
                    "event_id": ids.new(ids.EVENT),
                    "subscription_id": f"sub_{number % 400}",
                    "owner": "1",
                    "event_type": "contact.create",
                    "status": "pending" if number % 4 == 0 else "delivered",
                    "due_at": waits if number % 4 == 0 else None,
                    "created_at": world.now,
                }
                for number in range(4000)
            ],
        )
    for number in range(300):
        world.subscribe("*", owner=str(number), expires_at=None if number else waits)
    questions = {
        "resthooks_delivery_due": sa.select(delivery.c.id)
        .where(delivery.c.due_at <= START)
        .order_by(delivery.c.due_at)
        .limit(10),
        "resthooks_event_not_fanned_out": sa.select(event.c.sequence)
        .where(event.c.fanned_out_at.is_(None))
        .order_by(event.c.sequence)
        .limit(10),
        "resthooks_event_log": sa.select(event.c.id)
        .where(event.c.owner == "1", event.c.position < 1000)
        .order_by(event.c.position.desc())
        .limit(10),
        "resthooks_delivery_waiting": sa.select(delivery.c.id)
        .where(delivery.c.subscription_id == "sub_4", delivery.c.due_at.is_not(None))
        .limit(10),
        "resthooks_delivery_of_event": sa.select(delivery.c.id).where(
            delivery.c.event_id == "evt_1", delivery.c.subscription_id == "sub_1"
        ),
        "resthooks_subscription_expiring": sa.select(subscription.c.id)
        .where(_expiring(subscription), subscription.c.expires_at <= START)
        .order_by(subscription.c.expires_at)
        .limit(1),
        "resthooks_recovery_due": sa.select(recovery.c.id)
        .where(recovery.c.due_at <= START)
        .order_by(recovery.c.due_at)
        .limit(1),
    }
    sqlite = world.engine.dialect.name == "sqlite"
    with world.engine.connect() as connection:
        connection.exec_driver_sql("ANALYZE")
        if not sqlite:  # some tables have a page or none
            connection.exec_driver_sql("SET enable_seqscan = off")
        for index, question in questions.items():
            compiled = question.compile(world.engine, compile_kwargs={"literal_binds": True})
            prefix = "EXPLAIN QUERY PLAN" if sqlite else "EXPLAIN"
            plan = str(connection.exec_driver_sql(f"{prefix} {compiled}").all())
            assert index in plan


@pytest.mark.parametrize("old", [0, 3, 2500])
def test_answers_that_are_given_no_more_are_removed_whatever_the_retention(
    world: World, old: int
) -> None:
    row = {"owner": "1", "fingerprint": "", "status_code": 201, "headers": "[]", "body": "{}"}
    now = world.outbox.now()
    ages = [*range(86_401, 86_401 + old), 60]
    rows = [{**row, "key": str(age), "created_at": now - dt.timedelta(seconds=age)} for age in ages]
    with world.engine.begin() as connection:
        connection.execute(world.tables.answer.insert(), rows)
    assert world.outbox.tidy(0, 0.0) == old
    with world.engine.connect() as connection:
        assert connection.scalars(sa.select(world.tables.answer.c.key)).all() == ["60"]


def test_long_events_are_claimed_as_short_ones_are(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.subscribe("*")
    events = world.happen(count=5)
    world.outbox.fan_out(10)
    monkeypatch.setattr(claiming, "IN_ONE_PIECE", 0)
    claims = world.outbox.claim(10, 60)
    assert sorted(claim.event.id for claim in claims) == sorted(events)
    assert all(claim.event.data for claim in claims)
