"""The drain, with the clock passed in, against a real receiver."""

from __future__ import annotations

import datetime as dt
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
import sqlalchemy as sa
from engine import Engine
from receivers import Receiver
from servers import Inbox
from world import World

from flask_resthooks import retry, signing
from flask_resthooks.drain import Drain
from flask_resthooks.outbox import Outbox, Outcome, Settled, Sight
from flask_resthooks.outbox.subscriptions import EXPIRED_AT_ONCE
from flask_resthooks.transport import Answer, Request


@pytest.fixture
def make(world: World) -> Iterator[Callable[..., Engine]]:
    made: list[Engine] = []

    def make(**config: Any) -> Engine:
        made.append(Engine(world, **config))
        return made[-1]

    yield make
    for engine in made:
        engine.transport.close()


Make = Callable[..., Engine]


def test_a_drain_sends_everything_that_is_due(world: World, make: Make, inbox: Inbox) -> None:
    first = world.subscribe("*", target_url=inbox.url("/1"))
    world.subscribe("*", target_url=inbox.url("/2"))
    events = world.happen(count=150)
    assert make().run() is None
    assert len(inbox.requests) == 300
    assert {request.headers["webhook-id"] for request in inbox.requests} == set(events)
    assert {row.status for row in world.deliveries()} == {"delivered"}
    assert {row.status_code for row in world.attempts()} == {200}
    assert {row.number for row in world.attempts()} == {1}
    with world.engine.connect() as connection:
        table = world.tables.subscription
        secret = connection.scalar(sa.select(table.c.secret).where(table.c.id == first))
    # The world's clock stands still, far from the packages' own: the signature alone is checked.
    for request in inbox.requests:
        if request.path == "/1":
            signing.verify(
                secret, request.headers, request.body, now=world.now.timestamp(), tolerance=0
            )
            assert request.headers["content-type"] == "application/json"
            assert request.headers["webhook-id"] in request.body.decode()


def test_500_follows_the_schedule_with_jitter_and_then_gives_up(
    world: World, make: Make, inbox: Inbox
) -> None:
    inbox.answer = lambda request: 500
    world.subscribe("*", target_url=inbox.url())
    (event,) = world.happen()
    engine = make()
    pauses = []
    while True:
        before = world.now
        due = engine.run(chance=0.5)
        if due is None:
            break
        pauses.append((due - before).total_seconds())
        world.now = due
    jittered = [pause * 1.1 for pause in retry.DEFAULT_SCHEDULE[1:]]
    assert pauses == pytest.approx(jittered)
    assert len(inbox.requests) == 10
    assert {request.headers["webhook-id"] for request in inbox.requests} == {event}
    assert len({request.headers["webhook-timestamp"] for request in inbox.requests}) == 10
    (row,) = world.deliveries()
    assert (row.status, row.reason, row.attempts) == ("failed", "gave up after 10 attempts", 10)
    assert [attempt.number for attempt in world.attempts()] == list(range(1, 11))


def test_nothing_is_sent_before_its_time(world: World, make: Make, inbox: Inbox) -> None:
    inbox.answer = lambda request: 500
    world.subscribe("*", target_url=inbox.url())
    world.happen()
    engine = make()
    engine.run()
    world.later(4.9 - 2.0)  # a drain waits for what is due within two seconds
    engine.run(time_slice=0.3)
    assert len(inbox.requests) == 1


def test_a_late_success_ends_it(world: World, make: Make, inbox: Inbox) -> None:
    answers = iter([500, 429, 404, 204])
    inbox.answer = lambda request: next(answers)
    world.subscribe("*", target_url=inbox.url())
    world.happen()
    engine = make()
    while (due := engine.run()) is not None:
        world.now = due
    assert len(inbox.requests) == 4
    (row,) = world.deliveries()
    assert (row.status, row.attempts) == ("delivered", 4)


@pytest.mark.parametrize("status", [301, 302, 303, 304, 307, 308])
def test_a_redirect_is_neither_followed_nor_tried_again(
    world: World, make: Make, inbox: Inbox, status: int
) -> None:
    inbox.answer = lambda request: (status, {"location": inbox.url("/elsewhere")}, b"")
    world.subscribe("*", target_url=inbox.url("/here"))
    world.happen()
    assert make().run() is None
    assert [request.path for request in inbox.requests] == ["/here"]
    (row,) = world.deliveries()
    assert (row.status, row.reason) == (
        "failed",
        f"the receiver answered {status}: not followed",
    )


def test_410_disables_the_subscription_and_cancels_what_waits(
    world: World, make: Make, inbox: Inbox
) -> None:
    inbox.answer = lambda request: 410
    subscription = world.subscribe("*", target_url=inbox.url())
    world.happen()
    engine = make()
    assert engine.run() is None
    assert [settled.disabled for _, settled in engine.told] == [{subscription: retry.GONE}]
    world.happen()
    engine.run()
    assert len(inbox.requests) == 1


def test_an_address_that_is_refused_is_a_failed_attempt(
    world: World, make: Make, inbox: Inbox
) -> None:
    world.subscribe("*", target_url=inbox.url())
    world.happen()
    due = make(allowed_networks=[]).run()
    assert due == world.now + dt.timedelta(seconds=5)
    (attempt,) = world.attempts()
    assert attempt.error == "address_refused"
    assert "127.0.0.1" in attempt.detail
    assert inbox.requests == []


def test_one_slow_receiver_does_not_hold_up_the_others(
    world: World, make: Make, inbox: Inbox
) -> None:
    release = threading.Event()

    def answer(request: Any) -> int:
        if request.path == "/slow":
            release.wait(20)
        return 200

    inbox.answer = answer
    world.subscribe("slow.*", target_url=inbox.url("/slow"))
    world.subscribe("contact.*", target_url=inbox.url("/fast"))
    world.happen("slow.one")
    world.happen(count=200)
    engine = make(concurrency=4)
    thread = threading.Thread(target=engine.run)
    thread.start()
    try:
        assert _until(lambda: sum(r.status == "delivered" for r in world.deliveries()) == 200)
    finally:
        release.set()
        thread.join(20)
    assert {row.status for row in world.deliveries()} == {"delivered"}


def test_a_slow_receiver_with_much_to_come_leaves_room_for_others(
    world: World, make: Make, inbox: Inbox
) -> None:
    release = threading.Event()

    def answer(request: Any) -> int:
        if request.path == "/slow":
            release.wait(20)
        return 200

    inbox.answer = answer
    world.subscribe("slow.*", target_url=inbox.url("/slow"))
    world.subscribe("contact.*", target_url=inbox.url("/fast"))
    world.happen("slow.one", count=200)
    engine = make(concurrency=4)
    thread = threading.Thread(target=engine.run)
    thread.start()
    try:
        assert _until(lambda: len(inbox.requests) == 2)
        world.happen(count=20)
        assert _until(lambda: sum(r.status == "delivered" for r in world.deliveries()) == 20, 5)
    finally:
        release.set()
        thread.join(20)
    assert {row.status for row in world.deliveries()} == {"delivered"}


def test_asked_to_stop_it_settles_what_is_in_flight_and_gives_back_the_rest(
    world: World, make: Make, inbox: Inbox
) -> None:
    arrived, release, stop = threading.Event(), threading.Event(), threading.Event()

    def answer(request: Any) -> int:
        arrived.set()
        release.wait(20)
        return 200

    inbox.answer = answer
    world.subscribe("*", target_url=inbox.url())
    world.happen(count=20)
    engine = make(concurrency=2)
    due: list[dt.datetime | None] = []
    thread = threading.Thread(target=lambda: due.append(engine.run(stopping=stop.is_set)))
    thread.start()
    assert arrived.wait(20)
    stop.set()
    time.sleep(0.3)
    release.set()
    thread.join(20)
    statuses = [row.status for row in world.deliveries()]
    assert statuses.count("delivered") == len(inbox.requests) <= 4
    assert statuses.count("pending") == 20 - len(inbox.requests)
    assert due == [world.now]


def test_what_could_not_be_begun_in_time_is_given_back_without_an_attempt(
    world: World, make: Make, inbox: Inbox
) -> None:
    # The lease leaves half a second to begin in; the one thread is held for longer.
    engine = make(concurrency=1, timeout=1, connect_timeout=1, lease=11.5)
    inbox.delay = 0.8
    world.subscribe("*", target_url=inbox.url())
    world.happen(count=2)
    engine.run(time_slice=1.2)
    assert (
        len(inbox.requests)
        == len(world.attempts())
        == len([row for row in world.deliveries() if row.status == "delivered"])
    )
    assert {row.attempts for row in world.deliveries() if row.status == "pending"} <= {0}


def test_a_settle_that_the_database_refuses_is_tried_again(
    world: World, make: Make, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle = world.outbox.settle
    failures = iter([sa.exc.OperationalError("settle", {}, Exception("gone"))] * 2)

    def refuse(outcomes: list[Outcome], failing_limit: float) -> Settled:
        for failure in failures:
            raise failure
        return settle(outcomes, failing_limit)

    monkeypatch.setattr(world.outbox, "settle", refuse)
    world.subscribe("*", target_url=inbox.url())
    world.happen()
    assert make().run() is None
    assert len(inbox.requests) == 1
    assert world.deliveries()[0].status == "delivered"


def test_what_a_receiver_answers_cannot_keep_others_from_being_settled(
    world: World, make: Make, inbox: Inbox
) -> None:
    def answer(receiver: Receiver, sock: socket.socket) -> None:
        if receiver.read_request(sock):
            sock.sendall(b"\0\x01hello \xff" + b"x" * 5000 + b"\r\n")

    with Receiver(answer) as evil:
        world.subscribe("*", target_url=evil.url())
        world.subscribe("*", target_url=inbox.url())
        world.happen(count=20)
        engine = make()
        for _ in range(3):
            engine.run()
    assert len(inbox.requests) == 20
    errors = {attempt.error for attempt in world.attempts() if attempt.status_code != 200}
    assert errors == {"protocol"}
    assert max(len(attempt.detail or "") for attempt in world.attempts()) <= 500


def test_a_delivery_that_cannot_be_made_does_not_keep_others_from_being_sent(
    world: World, make: Make, inbox: Inbox
) -> None:
    world.subscribe("*", target_url=inbox.url(), secret="no secret")
    world.subscribe("*", target_url=inbox.url())
    world.happen(count=5)
    make().run()
    assert len(inbox.requests) == 5
    assert {attempt.error for attempt in world.attempts()} == {None, "internal"}


def test_the_first_attempt_waits_for_as_long_as_the_schedule_says(
    world: World, make: Make, inbox: Inbox
) -> None:
    world.subscribe("*", target_url=inbox.url())
    world.happen()
    engine = make(retry_schedule=[30, 5])
    assert engine.run() == world.now + dt.timedelta(seconds=30)
    assert inbox.requests == []
    world.later(30)
    engine.run()
    assert len(inbox.requests) == 1


def test_a_fan_out_to_many_takes_on_fewer_events(
    world: World, make: Make, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for room in ("fanning", "outbox.fan_out"):
        monkeypatch.setattr(f"flask_resthooks.{room}.MOST_DELIVERIES", 30)
    fan_out = world.outbox.fan_out
    made: list[tuple[int, int]] = []

    def counted(limit: int, delay: float, sight: Sight) -> tuple[int, int]:
        made.append(fan_out(limit, delay, sight))
        return made[-1]

    monkeypatch.setattr(world.outbox, "fan_out", counted)
    for _ in range(3):
        world.subscribe("*", target_url=inbox.url())
    world.happen(count=130)
    make().run()
    assert made[:2] == [(24, 72), (24, 72)]
    assert len(inbox.requests) == 390


def test_however_many_subscriptions_are_over_they_expire_and_the_drain_ends(
    world: World, make: Make
) -> None:
    for _ in range(EXPIRED_AT_ONCE + 20):
        world.subscribe("*", expires_at=world.now - dt.timedelta(seconds=1))
    engine = make()
    begun = time.monotonic()
    assert engine.run(time_slice=20) is None
    assert time.monotonic() - begun < 10
    with world.engine.connect() as connection:
        statuses = connection.scalars(sa.select(world.tables.subscription.c.status))
        assert set(statuses) == {"expired"}


def test_a_subscription_ends_in_the_middle_of_a_drain(sqlite_url: str, inbox: Inbox) -> None:
    world = World(sqlite_url)
    world.outbox = Outbox(world.engine, world.tables)  # by the real clock
    soon = dt.datetime.now(dt.timezone.utc) + dt.timedelta(seconds=0.5)
    world.subscribe("*", target_url=inbox.url(), expires_at=soon)
    engine = Engine(world)
    begun = time.monotonic()
    engine.run(time_slice=20)
    assert time.monotonic() - begun < 10
    assert dt.datetime.now(dt.timezone.utc) > soon
    with world.engine.connect() as connection:
        assert connection.scalar(sa.select(world.tables.subscription.c.status)) == "expired"
    engine.transport.close()
    world.engine.dispose()


@pytest.mark.parametrize(
    ("column", "value"),
    [("former_secrets", "'[{'"), ("secret", "CAST(x'ff' AS TEXT)")],
)
def test_a_damaged_subscription_expires_like_others_and_keeps_none_from_it(
    sqlite_url: str, column: str, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(sqlite_url)
    engine = Engine(world)
    for _ in range(3):
        world.subscribe("*", expires_at=world.now - dt.timedelta(seconds=1))
    with world.engine.begin() as connection:
        connection.exec_driver_sql(
            f"UPDATE resthooks_subscription SET {column} = {value} WHERE rowid = 1"
        )
    begun = time.monotonic()
    assert engine.run(time_slice=20) is None
    assert time.monotonic() - begun < 10
    with world.engine.connect() as connection:
        statuses = connection.scalars(sa.select(world.tables.subscription.c.status)).all()
    assert statuses == 3 * ["expired"]
    assert "with text" not in caplog.text
    engine.transport.close()
    world.engine.dispose()


def test_an_event_whose_type_is_no_text_does_not_keep_others_from_being_sent(
    sqlite_url: str, inbox: Inbox
) -> None:
    world = World(sqlite_url)
    engine = Engine(world)
    world.subscribe("*", target_url=inbox.url())
    world.happen()
    world.outbox.fan_out(10)
    world.happen()
    with world.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE resthooks_event SET type = CAST(x'ff' AS TEXT) WHERE fanned_out_at IS NULL"
        )
    engine.run(time_slice=1)
    assert len(inbox.requests) == 1
    engine.transport.close()
    world.engine.dispose()


def test_a_retry_goes_out_at_its_time_in_real_time(world: World, inbox: Inbox) -> None:
    inbox.answer = lambda request: 200 if len(inbox.requests) > 1 else 503
    world.subscribe("*", target_url=inbox.url())
    world.happen()
    engine = Engine(world, retry_schedule=[0, 1.5])
    drain = Drain(Outbox(world.engine, world.tables), engine.transport, engine.settings)
    assert drain.run(20) is None
    engine.transport.close()
    first, second = inbox.requests
    assert 1.4 <= second.time - first.time <= 10


def test_no_transaction_is_open_while_a_post_is_in_flight(
    world: World, make: Make, inbox: Inbox
) -> None:
    touched: list[int] = []

    def answer(request: Any) -> int:
        # With a transaction open on these rows, this would wait for the answer, and that for this.
        with world.engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql("SET LOCAL lock_timeout = '3s'")
            touched.append(
                connection.execute(world.tables.delivery.update().values(resource="x")).rowcount
            )
        return 200

    inbox.answer = answer
    world.subscribe("*", target_url=inbox.url())
    world.happen(count=3)
    make().run()
    assert touched == [3, 3, 3]


def _until(condition: Callable[[], bool], limit: float = 20) -> bool:
    end = time.monotonic() + limit
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_more_is_claimed_and_sent_while_a_settle_goes_on(
    world: World, make: Make, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.subscribe("*", target_url=inbox.url())
    world.happen(count=300)
    settle, release = world.outbox.settle, threading.Event()
    counts: list[int] = []

    def slow(outcomes: list[Outcome], limit: float) -> Settled:
        if not counts:
            counts.append(len(inbox.requests))
            deadline = time.monotonic() + 10
            while len(inbox.requests) == counts[0] and time.monotonic() < deadline:
                time.sleep(0.01)
            counts.append(len(inbox.requests))
            release.set()
        return settle(outcomes, limit)

    monkeypatch.setattr(world.outbox, "settle", slow)
    assert make(concurrency=2).run() is None
    assert release.is_set()
    assert counts[1] > counts[0]  # POSTs went on while nothing was settled
    assert len(inbox.requests) == 300
    assert {row.status for row in world.deliveries()} == {"delivered"}


def test_a_settle_that_fails_ends_the_drain_with_its_error(
    world: World, make: Make, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.subscribe("*", target_url=inbox.url())
    world.happen(count=50)

    def broken(outcomes: list[Outcome], limit: float) -> Settled:
        raise RuntimeError("no more")

    monkeypatch.setattr(world.outbox, "settle", broken)
    with pytest.raises(RuntimeError, match="no more"):
        make(concurrency=2).run()
    # What was not sent is given back; what was keeps its lease, and is sent again at its end.
    assert {row.status for row in world.deliveries()} == {"pending", "sending"}
    assert [t for t in threading.enumerate() if t.name.startswith("resthooks-beside")] == []


class Giving:
    """A transport of the app's own, which answers at once."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.count = 0

    def submit(self, request: Request) -> Future[Any]:
        self.count += 1
        future: Future[Any] = Future()
        future.set_result(self.answer)
        return future

    def close(self) -> None:
        pass


@pytest.mark.parametrize("answer", [None, 200, "ok", Answer(200, duration=float("nan"))], ids=repr)
def test_a_transport_that_breaks_its_promise_hangs_no_drain(
    world: World, make: Make, answer: Any
) -> None:
    world.subscribe("*")
    world.happen(count=3)
    engine = make()
    own = Giving(answer)
    drain = Drain(world.outbox, own, engine.settings)
    due = drain.run(1.0)
    assert own.count == 3
    assert due is not None
    assert {row.status for row in world.deliveries()} == {"pending"}


def test_an_answer_that_cannot_be_judged_is_an_error_of_ours(
    sqlite_url: str, inbox: Inbox, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(sqlite_url)
    engine = Engine(world)
    inbox.answer = lambda request: 500
    world.subscribe("*", target_url=inbox.url())
    world.happen(count=2)
    world.outbox.fan_out(10)
    first = world.deliveries()[0].id
    with world.engine.begin() as connection:  # SQLite keeps whatever is put into a column
        connection.exec_driver_sql(
            "UPDATE resthooks_delivery SET attempts = 1.5 WHERE id = ?", (first,)
        )
    engine.run(time_slice=2)
    assert f"what came of {first} cannot be judged" in caplog.text
    with world.engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT status FROM resthooks_delivery").scalars().all()
    assert rows == ["pending", "pending"]
    assert sorted(str(attempt.error) for attempt in world.attempts()) == ["None", "internal"]
    engine.transport.close()
    world.engine.dispose()


def test_a_settle_that_fails_at_the_end_keeps_no_other_from_being_written_down(
    world: World, make: Make, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.subscribe("*", target_url=inbox.url())
    world.happen(count=40)
    settle, stopped = world.outbox.settle, threading.Event()
    failed: list[int] = []

    def first_fails(outcomes: list[Outcome], limit: float) -> Settled:
        if not failed:
            stopped.set()
            failed.append(len(outcomes))
            raise RuntimeError("once")
        return settle(outcomes, limit)

    monkeypatch.setattr(world.outbox, "settle", first_fails)
    with pytest.raises(RuntimeError, match="once"):
        make(concurrency=4).run(stopping=stopped.is_set)
    assert len(world.attempts()) == len(inbox.requests) - failed[0]


def test_a_database_in_memory_can_be_drained(inbox: Inbox) -> None:
    world = World("sqlite://")
    engine = Engine(world)
    world.subscribe("*", target_url=inbox.url())
    world.happen(count=300)
    assert engine.run() is None
    assert len(inbox.requests) == 300
    engine.transport.close()
    world.engine.dispose()


def test_a_fan_out_takes_on_no_more_events_than_make_a_short_transaction(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_resthooks.outbox.fan_out.MOST_DELIVERIES", 100)
    for _ in range(30):
        world.subscribe("*")
    world.happen(count=200)
    assert world.outbox.fan_out(1000) == (8, 240)
    assert world.outbox.fan_out(1000) == (8, 240)
    assert len(world.deliveries()) == 480
