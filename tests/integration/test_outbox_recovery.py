"""Recoveries: what a subscription missed is made due, in steps, on both databases."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
import sqlalchemy as sa
from world import START, World

from flask_resthooks import ids
from flask_resthooks.outbox import Sight, recovery


def begin(world: World, subscription: str, since: dt.datetime = START) -> str:
    row = {
        "id": ids.new(ids.RECOVERY),
        "subscription_id": subscription,
        "owner": "1",
        "status": "pending",
        "since": since,
        "until": world.now,
        "cursor": ids.at(ids.EVENT, since),
        "due_at": world.now,
        "created_at": world.now,
    }
    with world.engine.begin() as connection:
        connection.execute(world.tables.recovery.insert(), row)
    return str(row["id"])


def recoveries(world: World) -> list[Any]:
    with world.engine.connect() as connection:
        return list(connection.execute(world.tables.recovery.select()))


def set_status(world: World, subscription: str, status: str) -> None:
    table = world.tables.subscription
    with world.engine.begin() as connection:
        connection.execute(table.update().where(table.c.id == subscription).values(status=status))


def finish(world: World, status: str) -> int:
    """Send whatever is due; how many there were."""
    count = 0
    while claims := world.outbox.claim(1000, 60):
        count += len(claims)
        world.outbox.settle([world.outcome(claim, status) for claim in claims])
    return count


def run(world: World, sight: Sight | None = None) -> int:
    """Take every step; how many deliveries were released."""
    released = 0
    for _ in range(100):
        released += world.outbox.recover(*([sight] if sight else []))
        if recoveries(world)[0].finished_at is not None:
            return released
        if recoveries(world)[0].due_at > world.now:
            world.now = recoveries(world)[0].due_at
    raise AssertionError("it does not end")


def test_what_was_given_up_is_sent_again_and_its_schedule_begins_anew(world: World) -> None:
    subscription = world.subscribe("*")
    world.happen(count=3)
    world.outbox.fan_out(10)
    assert finish(world, "failed") == 3
    world.later(1)
    begin(world, subscription)
    assert run(world) == 3
    claims = world.outbox.claim(10, 60)
    assert {(claim.number, claim.tries) for claim in claims} == {(2, 1)}
    world.outbox.settle([world.outcome(claim) for claim in claims])
    assert {row.status for row in world.deliveries()} == {"delivered"}
    assert sorted(row.number for row in world.attempts()) == [1, 1, 1, 2, 2, 2]
    (row,) = recoveries(world)
    assert (row.status, row.examined, row.released, row.due_at) == ("done", 3, 3, None)


def test_what_happened_while_it_was_not_active_is_sent_once(world: World) -> None:
    subscription = world.subscribe("contact.*", status="disabled")
    others = [world.subscribe("contact.*"), world.subscribe("*", owner="2")]
    missed = world.happen(count=4)
    world.happen("invoice.paid")
    world.happen(owner="2")
    world.outbox.fan_out(100)
    set_status(world, subscription, "active")
    world.later(1)
    begin(world, subscription)
    assert run(world) == 4
    mine = [row for row in world.deliveries() if row.subscription_id == subscription]
    assert sorted(row.event_id for row in mine) == sorted(missed)
    assert {row.status for row in mine} == {"pending"}
    assert len([row for row in world.deliveries() if row.subscription_id in others]) == 5
    # Again: there is nothing to release, for nothing is missed any more.
    world.later(1)
    with world.engine.begin() as connection:
        connection.execute(world.tables.recovery.delete())
    begin(world, subscription)
    assert run(world) == 0


def test_delivered_waiting_and_sent_deliveries_are_left_alone(world: World) -> None:
    subscription = world.subscribe("*")
    world.happen(count=3)
    world.outbox.fan_out(10)
    first, second, _ = world.outbox.claim(10, 60)
    world.outbox.settle(
        [
            world.outcome(first),
            world.outcome(second, "pending", next_at=world.now + dt.timedelta(days=1)),
        ]
    )
    before = world.deliveries()
    world.later(1)
    begin(world, subscription)
    assert run(world) == 0
    assert world.deliveries() == before


def test_what_happened_before_the_time_or_after_the_wish_is_not_looked_at(world: World) -> None:
    subscription = world.subscribe("*", status="disabled")
    moments = [world.now + dt.timedelta(seconds=seconds) for seconds in (0, 10, 20)]
    for moment in moments:
        rows = [{**world.event_row(), "id": ids.new(ids.EVENT, moment.timestamp())}]
        with world.engine.begin() as connection:
            connection.execute(world.tables.event.insert(), rows)
    world.outbox.fan_out(10)
    set_status(world, subscription, "active")
    world.now = moments[2]
    begin(world, subscription, since=moments[1])
    assert run(world) == 1


def test_an_event_that_is_not_fanned_out_is_waited_for_and_sent_once(world: World) -> None:
    subscription = world.subscribe("*", status="disabled")
    world.happen(count=2)
    world.outbox.fan_out(10)
    set_status(world, subscription, "active")
    world.later(1)
    world.happen()  # committed, and no drain has seen it
    world.later(1)
    begin(world, subscription)
    assert world.outbox.recover() == 2
    assert world.outbox.recover() == 0
    assert recoveries(world)[0].status == "running"
    assert world.outbox.fan_out(10) == (1, 1)
    world.later(2)
    assert run(world) == 0
    assert len(world.deliveries()) == 3
    assert len({row.event_id for row in world.deliveries()}) == 3


def test_it_waits_while_much_of_the_subscription_waits(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "STEP", 10)
    monkeypatch.setattr(recovery, "BACKLOG", 20)
    subscription = world.subscribe("*", status="disabled")
    world.happen(count=50)
    world.outbox.fan_out(100)
    set_status(world, subscription, "active")
    world.later(1)
    begin(world, subscription)
    released = []
    for _ in range(3):
        released.append(world.outbox.recover())
        assert world.outbox.recover() == 0  # each step has its time
        world.now, due = recoveries(world)[0].due_at, world.now
    assert released == [10, 10, 0]
    world.now = due
    assert world.outbox.recover() == 0
    pauses = []
    for _ in range(20):  # a receiver that does not answer is looked after ever less often
        world.now = recoveries(world)[0].due_at
        assert world.outbox.recover() == 0
        pauses.append((recoveries(world)[0].due_at - world.now).total_seconds())
    assert pauses == sorted(pauses)
    assert pauses[-1] == recovery.PAUSES[1]
    released = 20
    while recoveries(world)[0].finished_at is None:
        finish(world, "delivered")
        world.now = recoveries(world)[0].due_at or world.now
        released += world.outbox.recover()
    assert released == 50


def test_it_ends_when_the_subscription_is_switched_off_or_gone(world: World) -> None:
    subscription = world.subscribe("*")
    world.happen(count=2)
    world.outbox.fan_out(10)
    finish(world, "failed")
    begin(world, subscription)
    set_status(world, subscription, "inactive")
    assert world.outbox.recover() == 0
    (row,) = recoveries(world)
    assert (row.status, row.due_at) == ("cancelled", None)
    assert row.finished_at is not None
    assert {row.status for row in world.deliveries()} == {"failed"}


def test_several_take_their_steps_in_turn(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "STEP", 1)
    subscriptions = [world.subscribe("*", status="disabled") for _ in range(2)]
    world.happen(count=3)
    world.outbox.fan_out(10)
    for subscription in subscriptions:
        set_status(world, subscription, "active")
        world.later(1)
        begin(world, subscription)
    for _ in range(4):
        world.later(0.001)
        world.outbox.recover()
    assert [row.examined for row in recoveries(world)] == [2, 2]


def test_what_the_owner_does_not_see_is_not_released(world: World) -> None:
    subscription = world.subscribe("*", status="disabled")
    world.happen("contact.create")
    world.happen("secret.happened")
    world.outbox.fan_out(10)
    set_status(world, subscription, "active")
    world.later(1)
    begin(world, subscription)
    sight = Sight({"secret.happened"}, lambda name, owner: False)
    assert run(world, sight) == 1
    assert [row.event_type for row in world.deliveries()] == ["contact.create"]


def test_the_next_step_is_something_to_do(world: World) -> None:
    subscription = world.subscribe("*")
    assert world.outbox.next_due() is None
    begin(world, subscription)
    assert world.outbox.next_due() == world.now
    run(world)
    assert world.outbox.next_due() is None


def test_a_subscription_gets_an_event_once_whoever_makes_the_delivery(world: World) -> None:
    world.subscribe("*")
    world.happen()
    world.outbox.fan_out(10)
    (delivery,) = world.deliveries()
    twin = {**delivery._mapping, "id": ids.new(ids.DELIVERY)}
    with pytest.raises(sa.exc.IntegrityError), world.engine.begin() as connection:
        connection.execute(world.tables.delivery.insert(), twin)
