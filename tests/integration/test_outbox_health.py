"""What becomes of subscriptions by what their receivers do, and by time; on both databases."""

from __future__ import annotations

import datetime as dt
import threading
from typing import Any

from world import World

from flask_resthooks.outbox import Sight

DAY = 86400.0


def subscription(world: World, id_: str) -> Any:
    table = world.tables.subscription
    with world.engine.connect() as connection:
        return connection.execute(table.select().where(table.c.id == id_)).one()


def attempt(world: World, status: str, limit: float = 5 * DAY, **values: Any) -> Any:
    """One event, sent to everybody, with that outcome; what the settle did."""
    world.happen()
    world.outbox.fan_out(10)
    claims = world.outbox.claim(10, 60)
    assert claims
    return world.outbox.settle([world.outcome(claim, status, **values) for claim in claims], limit)


def test_who_fails_without_a_break_for_too_long_is_disabled_once(world: World) -> None:
    id_ = world.subscribe("*")
    began = world.now
    assert attempt(world, "failed").disabled == {}
    assert subscription(world, id_).failing_since == began
    world.later(5 * DAY)
    assert attempt(world, "failed").disabled == {}
    world.later(1)
    settled = attempt(world, "failed")
    assert list(settled.disabled) == [id_]
    row = subscription(world, id_)
    assert row.status == "disabled"
    assert row.disabled_reason == settled.disabled[id_]
    assert began.date().isoformat() in row.disabled_reason
    world.happen()
    assert world.outbox.fan_out(10) == (1, 0)


def test_one_success_begins_the_time_anew(world: World) -> None:
    id_ = world.subscribe("*")
    attempt(world, "pending", next_at=world.now + dt.timedelta(days=300))
    world.later(4 * DAY)
    attempt(world, "delivered")
    assert subscription(world, id_).failing_since is None
    world.later(2 * DAY)
    attempt(world, "failed")
    world.later(4 * DAY)
    assert attempt(world, "failed").disabled == {}
    assert subscription(world, id_).status == "active"


def test_without_a_limit_nobody_is_disabled(world: World) -> None:
    world.subscribe("*")
    attempt(world, "failed", limit=0)
    world.later(1000 * DAY)
    assert attempt(world, "failed", limit=0).disabled == {}


def test_a_recovery_is_told_once_after_something_was_given_up(world: World) -> None:
    id_ = world.subscribe("*")
    attempt(world, "pending", next_at=world.now + dt.timedelta(days=300))
    world.later(1)
    assert attempt(world, "delivered").recovered == {}  # it had only to be tried again
    world.later(1)
    gave_up = world.now
    attempt(world, "failed")
    world.later(1)
    attempt(world, "failed")
    world.later(1)
    assert attempt(world, "delivered").recovered == {id_: gave_up}
    assert attempt(world, "delivered").recovered == {}


def test_others_are_not_told_of(world: World) -> None:
    bad, good = world.subscribe("a.*"), world.subscribe("b.*")
    world.happen("a.a")
    world.happen("b.b")
    world.outbox.fan_out(10)
    claims = world.outbox.claim(10, 60)
    by_id = {claim.subscription_id: claim for claim in claims}
    world.outbox.settle([world.outcome(by_id[bad], "failed"), world.outcome(by_id[good])], DAY)
    assert subscription(world, bad).failing_since is not None
    assert subscription(world, good).failing_since is None


def test_a_late_worker_does_not_change_the_health(world: World) -> None:
    id_ = world.subscribe("*")
    world.happen()
    world.outbox.fan_out(10)
    (claim,) = world.outbox.claim(10, 60)
    world.later(61)
    (again,) = world.outbox.claim(10, 60)
    world.outbox.settle([world.outcome(again)])
    assert not world.outbox.settle([world.outcome(claim, "failed")], 1).held
    assert subscription(world, id_).failing_since is None


def test_what_a_receiver_asks_to_wait_all_of_its_deliveries_wait(world: World) -> None:
    world.subscribe("*", target_url="https://a.example.com/")
    other = world.subscribe("*", target_url="https://b.example.com/")
    world.happen()
    world.outbox.fan_out(10)
    first = next(c for c in world.outbox.claim(10, 60) if c.subscription_id != other)
    later = world.now + dt.timedelta(seconds=100)
    world.outbox.settle([world.outcome(first, "pending", next_at=later, wait=100.0)])
    world.happen(count=3)
    world.outbox.fan_out(10)
    assert {claim.subscription_id for claim in world.outbox.claim(10, 60)} == {other}
    assert world.outbox.next_due() == world.now + dt.timedelta(seconds=60)  # the other's leases
    world.later(99)
    assert first.subscription_id not in {c.subscription_id for c in world.outbox.claim(10, 60)}
    world.later(1)
    mine = [c for c in world.outbox.claim(10, 60) if c.subscription_id == first.subscription_id]
    assert len(mine) == 4


def test_a_host_that_is_too_busy_is_left_alone_ever_longer_until_it_is_not(world: World) -> None:
    ids = [
        world.subscribe("*", target_url="https://busy.example.com/1"),
        world.subscribe("*", owner="2", target_url="https://BUSY.example.com:443/2"),
    ]
    world.happen()
    world.outbox.fan_out(10)
    (claim,) = world.outbox.claim(10, 60)
    strikes = []
    for number in range(4):
        pause = 2.0**number
        due = world.now + dt.timedelta(seconds=pause)
        world.outbox.settle([world.outcome(claim, "pending", next_at=due, status_code=429)])
        strikes.append(hosts(world)[0].strikes)
        world.happen(owner="2")
        world.outbox.fan_out(10)
        assert world.outbox.claim(10, 60) == []
        world.later(pause)
        claims = world.outbox.claim(10, 60)
        assert {claim.subscription_id for claim in claims} == set(ids)
        claim = next(c for c in claims if c.subscription_id == ids[0])
        world.outbox.give_back([c for c in claims if c is not claim])
    assert strikes == [1, 2, 3, 4]
    world.outbox.settle([world.outcome(claim)])
    assert hosts(world) == []


def test_thousands_that_wait_for_their_host_do_not_hide_the_others(world: World) -> None:
    slow = world.subscribe("a.*", target_url="https://slow.example.com/")
    world.happen("a.a", count=5000)
    while world.outbox.fan_out(5000)[0]:
        pass
    (claim,) = world.outbox.claim(1, 60)
    world.outbox.settle(
        [world.outcome(claim, "pending", next_at=world.now + dt.timedelta(days=1), wait=30.0)]
    )
    good = world.subscribe("b.*", target_url="https://good.example.com/")
    world.happen("b.b", count=5)
    world.later(1)
    world.outbox.fan_out(10)
    claims = world.outbox.claim(10, 60, share=lambda id_, host: 100)
    assert {claim.subscription_id for claim in claims} == {good}
    assert len(claims) == 5
    world.later(29)
    assert {c.subscription_id for c in world.outbox.claim(10, 60)} == {slow}


def hosts(world: World) -> list[Any]:
    with world.engine.connect() as connection:
        return list(connection.execute(world.tables.host.select()))


def test_what_was_on_its_way_when_a_host_asked_for_slowness_adds_nothing(world: World) -> None:
    for owner in ("1", "2"):
        world.subscribe("*", owner=owner, target_url=f"https://busy.example.com/{owner}")
        world.happen(owner=owner, count=3)
    world.outbox.fan_out(10)
    claims = world.outbox.claim(10, 60)
    later = world.now + dt.timedelta(days=1)
    for claim in claims[:3]:
        world.outbox.settle([world.outcome(claim, "pending", next_at=later, status_code=503)])
    assert hosts(world) == []  # a failure, and no word of being too busy
    for claim in claims[3:]:
        world.outbox.settle([world.outcome(claim, "pending", next_at=later, status_code=429)])
    [host] = hosts(world)
    assert (host.strikes, host.turn_at) == (1, world.now + dt.timedelta(seconds=1))
    # A success that was claimed before it begins the count anew.
    world.later(1)
    world.happen(count=2)
    world.outbox.fan_out(10)
    first, second = world.outbox.claim(2, 60)
    world.outbox.settle([world.outcome(first)])
    assert hosts(world) == []
    world.outbox.settle([world.outcome(second, "pending", next_at=later, status_code=429)])
    assert hosts(world)[0].strikes == 1


def test_what_a_former_receiver_answers_does_not_count_for_the_new_one(world: World) -> None:
    id_ = world.subscribe("*")
    world.happen(count=3)
    world.outbox.fan_out(10)
    claims = world.outbox.claim(10, 60)
    table = world.tables.subscription
    with world.engine.begin() as connection:
        connection.execute(table.update().values(target_url="https://new.example.com/"))
    settled = world.outbox.settle(
        [
            world.outcome(claims[0], "failed", disable="410"),
            world.outcome(claims[1], "failed", wait=3600.0),
            world.outcome(claims[2], "delivered"),
        ],
        1,
    )
    assert not settled.disabled
    row = subscription(world, id_)
    assert (row.status, row.turn_at, row.failing_since, row.failed_at) == ("active", *[None] * 3)


def test_our_own_errors_disable_nobody(world: World) -> None:
    id_ = world.subscribe("*")
    for error in ("internal", "proxy", "internal"):
        world.later(5 * DAY)
        assert not attempt(world, "failed", error=error).disabled
    assert subscription(world, id_).failing_since is None


def test_a_first_attempt_after_a_long_time_disables_nobody(world: World) -> None:
    id_ = world.subscribe("*")
    attempt(world, "failed")
    world.later(30 * DAY)
    soon = world.now + dt.timedelta(seconds=5)
    assert not attempt(world, "pending", next_at=soon).disabled
    world.later(5)
    (claim,) = world.outbox.claim(10, 60)
    outcome = world.outcome(claim, "pending", next_at=world.now + dt.timedelta(days=1))
    assert list(world.outbox.settle([outcome], 5 * DAY).disabled) == [id_]


def test_a_long_backlog_at_a_rate_is_sent_at_that_rate(world: World) -> None:
    world.subscribe("*", rate=600.0)
    made = world.happen(count=400)
    world.outbox.fan_out(1000)
    began, sent = world.now, []
    for _ in range(3000):
        claims = world.outbox.claim(16, 60, share=lambda id_, host: 16)
        sent += [claim.event.id for claim in claims]
        world.outbox.settle([world.outcome(claim) for claim in claims])
        seconds = (world.now - began).total_seconds()
        assert len(sent) <= 10 * (seconds + 1) + 1
        if len(sent) == 400:
            break
        world.later(0.1)
    assert sorted(sent) == sorted(made)
    # Nothing is given away: as many as the rate allows.
    assert (world.now - began).total_seconds() <= 41


def test_a_backlog_at_a_rate_holds_up_nobody_else(world: World) -> None:
    world.subscribe("a.*", rate=60.0)
    world.happen("a.a", count=3000)
    world.outbox.fan_out(5000)
    world.later(1)
    other = world.subscribe("b.*")
    world.happen("b.b", count=3)
    world.outbox.fan_out(10)
    looks = 0
    while True:
        looks += 1
        claims = world.outbox.claim(16, 60, share=lambda id_, host: 16)
        world.outbox.settle([world.outcome(claim) for claim in claims])
        if other in {claim.subscription_id for claim in claims}:
            break
    assert looks <= 3


def test_turns_that_nobody_took_are_not_taken_all_at_once(world: World) -> None:
    world.subscribe("*", rate=60.0)
    world.happen(count=100)
    world.outbox.fan_out(200)
    first = world.outbox.claim(200, 60)
    world.outbox.settle([world.outcome(claim) for claim in first])
    world.later(60)  # nobody works
    assert len(world.outbox.claim(200, 60)) <= 2 + 5


def test_a_retry_after_goes_for_turns_that_are_booked_too(world: World) -> None:
    world.subscribe("*", rate=60.0)
    world.happen(count=10)
    world.outbox.fan_out(200)
    first, *_ = world.outbox.claim(200, 60)
    later = world.now + dt.timedelta(days=1)
    world.outbox.settle([world.outcome(first, "pending", next_at=later, wait=100.0)])
    world.later(50)
    assert world.outbox.claim(200, 600) == []


def test_a_granted_rate_is_kept_whoever_claims(world: World) -> None:
    world.subscribe("*", rate=120.0)
    world.happen(count=30)
    world.outbox.fan_out(100)
    sent = 0
    for _ in range(13):  # twelve seconds
        claims = world.outbox.claim(100, 60) + world.outbox.claim(100, 60)
        world.outbox.settle([world.outcome(claim) for claim in claims])
        sent += len(claims)
        assert sent <= 2 * (world.now - world.outbox.now()).total_seconds() + 27
        world.later(1)
    assert 20 <= sent <= 27
    for _ in range(30):
        if world.outbox.next_due() is None:
            break
        world.now = max(world.outbox.next_due() or world.now, world.now)
        world.outbox.settle([world.outcome(claim) for claim in world.outbox.claim(100, 60)])
    assert {row.status for row in world.deliveries()} == {"delivered"}


def test_two_workers_do_not_take_the_same_turns(postgresql_url: str) -> None:
    world = World(postgresql_url)
    world.subscribe("*", rate=60.0)
    world.happen(count=50)
    world.outbox.fan_out(100)
    claimed: list[int] = []
    start = threading.Barrier(4)

    def claim() -> None:
        start.wait()
        claimed.append(len(world.outbox.claim(10, 60)))

    threads = [threading.Thread(target=claim) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(claimed) <= 2  # now, and in a second: what the rate allows at once
    world.engine.dispose()


def test_time_makes_it_expire_and_a_last_notice_goes_out_if_asked_for(world: World) -> None:
    end = world.now + dt.timedelta(seconds=10)
    told = world.subscribe("*", expires_at=end, expiry_notice=True)
    silent = world.subscribe("*", expires_at=end)
    paused = world.subscribe("*", expires_at=end, expiry_notice=True, status="inactive")
    later = world.subscribe("*", expires_at=end + dt.timedelta(days=3))
    world.happen()
    world.outbox.fan_out(10)
    assert world.outbox.expire() == 0
    assert world.outbox.next_due() == world.now
    world.outbox.settle(
        [
            world.outcome(claim, "pending", next_at=world.now + dt.timedelta(days=1))
            for claim in world.outbox.claim(10, 60)
        ]
    )
    assert world.outbox.next_due() == end
    world.later(10)
    assert world.outbox.expire() == 2
    assert world.outbox.expire() == 0
    statuses = [subscription(world, id_).status for id_ in (told, silent, paused, later)]
    assert statuses == ["expired", "expired", "inactive", "active"]
    (claim,) = world.outbox.claim(10, 60)
    assert (claim.subscription_id, claim.kind) == (told, "notice")
    assert claim.event.type == "resthooks.expired"
    assert told in claim.event.data
    world.outbox.settle([world.outcome(claim)])
    states = {row.subscription_id: row.status for row in world.deliveries() if row.kind == "event"}
    assert states == {told: "cancelled", silent: "cancelled", later: "pending"}


def test_events_get_their_places_in_the_order_of_their_fan_outs(world: World) -> None:
    first = world.happen(count=3)
    world.outbox.fan_out(2)
    world.outbox.fan_out(2)
    second = world.happen(count=2)
    world.outbox.fan_out(2)
    table = world.tables.event
    with world.engine.connect() as connection:
        found = connection.execute(table.select().order_by(table.c.position)).all()
    assert [row.id for row in found] == [*first, *second]
    assert len({row.position for row in found}) == 5


def test_owners_get_no_events_of_types_that_they_do_not_see(world: World) -> None:
    seen, unseen = world.subscribe("*", owner="1"), world.subscribe("*", owner="2")
    for owner in ("1", "2"):
        world.happen("beta.began", owner)
        world.happen("contact.create", owner)
    asked: set[tuple[str, str]] = set()

    def sees(name: str, owner: str) -> bool:
        asked.add((name, owner))
        return owner == "1"

    assert world.outbox.fan_out(10, sight=Sight({"beta.began"}, sees)) == (4, 3)
    got = sorted((row.subscription_id, row.event_type) for row in world.deliveries())
    assert got == sorted(
        [(seen, "beta.began"), (seen, "contact.create"), (unseen, "contact.create")]
    )
    assert asked == {("beta.began", "1"), ("beta.began", "2")}
