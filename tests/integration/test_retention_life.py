"""What retention is to those around it: the worker, the command, and who polls the log."""

from __future__ import annotations

import datetime as dt
import logging
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import flask
import pytest
import sqlalchemy as sa
from api_host import Host
from flask_sqlalchemy import SQLAlchemy

from flask_resthooks import RESTHooks, ids, jobs
from flask_resthooks.outbox import Outbox, retention

DAY = dt.timedelta(days=1)


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PAUSE", 0.0)


class Shop:
    """An app with nothing but events of long ago."""

    def __init__(self, database_url: str, redis_url: str) -> None:
        self.app = flask.Flask("shop")
        self.app.config.update(SQLALCHEMY_DATABASE_URI=database_url, RESTHOOKS_REDIS_URL=redis_url)
        self.db = SQLAlchemy()
        self.hooks = RESTHooks(self.db)
        self.db.init_app(self.app)
        self.hooks.init_app(self.app)
        with self.app.app_context():
            self.db.create_all()

    @property
    def plant(self) -> jobs.Plant:
        made: jobs.Plant = self.app.extensions["resthooks"].plant
        return made

    def set(self, **values: Any) -> None:
        for name, value in values.items():  # as if the app had been made with it
            object.__setattr__(self.plant.settings, name, value)

    def put(self, *ages: float) -> None:
        """Events of so many days ago, which nobody wanted."""
        now = dt.datetime.now(dt.timezone.utc)
        rows = [
            {
                "id": ids.new(ids.EVENT, (now - age * DAY).timestamp()),
                "type": "contact.create",
                "owner": "1",
                "created_at": now - age * DAY,
                "data": "{}",
                "fanned_out_at": now - age * DAY,
                "position": 1,
            }
            for age in ages
        ]
        with self.app.app_context(), self.db.engine.begin() as connection:
            connection.execute(self.plant.tables.event.insert(), rows)

    @property
    def count(self) -> int:
        with self.app.app_context(), self.db.engine.connect() as connection:
            events = sa.select(sa.func.count()).select_from(self.plant.tables.event)
            return connection.scalar(events) or 0

    def prune(self, *words: str) -> Any:
        return self.app.test_cli_runner().invoke(args=["resthooks", "prune", *words])

    def close(self) -> None:
        with self.app.app_context():
            self.db.engine.dispose()


@pytest.fixture
def shop(database_url: str, redis_url: str) -> Iterator[Shop]:
    made = Shop(database_url, redis_url)
    yield made
    made.close()


@pytest.fixture
def small(sqlite_url: str, redis_url: str) -> Iterator[Shop]:
    made = Shop(sqlite_url, redis_url)
    yield made
    made.close()


def test_the_command_removes_what_is_older_than_is_asked_for(shop: Shop) -> None:
    shop.put(1, 6, 20, 29, 31, 400)
    done = shop.prune()
    assert (done.exit_code, done.output) == (
        0,
        "2 events, 0 deliveries, 0 attempts were removed\n",
    )
    done = shop.prune("--older-than", "5.5")
    assert done.output.startswith("3 events,")
    assert shop.count == 1


def test_the_command_tells_how_far_it_has_come(
    small: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_resthooks.cli.PROGRESS_PAUSE", 0.0)
    small.put(*[40] * 120)
    lines = small.prune().output.splitlines()
    assert lines[0] == "50 events, 0 deliveries, 0 attempts so far"
    assert lines[-1] == "120 events, 0 deliveries, 0 attempts were removed"


@pytest.mark.parametrize("days", ["0", "-3", "nan", "inf", "-inf", "1e9", "soon", ""])
def test_the_command_refuses_what_is_no_number_of_days(small: Shop, days: str) -> None:
    small.put(40)
    done = small.prune(f"--older-than={days}")
    assert done.exit_code == 2
    assert "--older-than" in done.output
    assert small.count == 1


def test_without_a_retention_the_command_asks_for_one(small: Shop) -> None:
    small.set(retention=0.0)
    small.put(40)
    done = small.prune()
    assert done.exit_code == 2
    assert "say --older-than DAYS" in done.output
    assert small.count == 1
    assert small.prune("--older-than", "30").exit_code == 0
    assert small.count == 0


def test_a_command_that_the_database_fails_says_how_to_go_on(
    small: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Outbox, age: dt.timedelta) -> Iterator[Counter[str]]:
        yield Counter(events=3)
        raise sa.exc.OperationalError("DELETE", {}, Exception("the server is gone"))

    monkeypatch.setattr(Outbox, "prune", fail)
    done = small.prune()
    assert done.exit_code == 1
    assert "3 events" in done.output
    assert "the server is gone; run it again to go on" in done.output


def drained(runner: jobs.Runner) -> None:
    try:
        runner.run()
    finally:
        runner.close()


@pytest.mark.parametrize("stays", [True, False], ids=["flask resthooks worker", "rq worker"])
def test_a_worker_removes_old_rows_after_a_drain(shop: Shop, stays: bool) -> None:
    shop.put(1, 31, 400)
    runner = jobs.Runner(shop.plant, threading.Event() if stays else None)
    try:
        runner.run()
        # A process that RQ forks for a job has nobody to do it later.
        assert stays or shop.count == 1
    finally:
        runner.close()
    assert shop.count == 1


def test_a_worker_keeps_all_with_a_retention_of_0(small: Shop) -> None:
    small.set(retention=0.0)
    small.put(1, 31, 400)
    drained(jobs.Runner(small.plant))
    assert small.count == 3


def test_a_worker_that_is_to_stop_leaves_the_rest_for_later(small: Shop) -> None:
    small.put(*[40] * 120)
    stop = threading.Event()
    stop.set()
    drained(jobs.Runner(small.plant, stop))
    assert small.count == 70


def test_a_drain_does_not_wait_while_old_rows_are_removed(
    small: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.put(*[40] * 120)
    going_on, drained_again = threading.Event(), threading.Event()

    def wait(seconds: float) -> None:
        going_on.set()
        assert drained_again.wait(20)

    runner = jobs.Runner(small.plant, threading.Event())
    monkeypatch.setattr(retention.time, "sleep", wait)
    runner.run()
    assert going_on.wait(20)
    runner.run()
    drained_again.set()
    runner.close()
    assert small.count < 120


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            sa.exc.OperationalError("DELETE", {}, Exception("the database is away")),
            "old rows were not removed (the database is away); again later",
        ),
        (sa.exc.TimeoutError("no connection is free"), "no connection is free"),
    ],
)
def test_a_worker_outlives_what_fails_it_there(
    small: Shop,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    told: str,
) -> None:
    def fail(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr(Outbox, "tidy", fail)
    with caplog.at_level(logging.WARNING):
        drained(jobs.Runner(small.plant, threading.Event()))
    assert told in caplog.text


def happen(acme: Host, age: dt.timedelta, *, held: bool = False) -> str:
    """An event of so long ago in the log, told to everybody; maybe with a delivery that waits."""
    now = dt.datetime.now(dt.timezone.utc)
    made = now - age
    id_ = ids.new(ids.EVENT, made.timestamp())
    position = acme.db.session.scalar(sa.select(sa.func.count()).select_from(acme.tables.event))
    acme.execute(
        acme.tables.event.insert(),
        {
            "id": id_,
            "type": "contact.create",
            "owner": "acme",
            "created_at": made,
            "data": "{}",
            "fanned_out_at": made,
            "position": 1000 + int((dt.timedelta(days=1000) - age) / dt.timedelta(seconds=1)),
        },
    )
    assert position is not None
    if held:
        acme.execute(
            acme.tables.delivery.insert(),
            {
                "id": ids.new(ids.DELIVERY, made.timestamp()),
                "event_id": id_,
                "subscription_id": "sub_1",
                "owner": "acme",
                "event_type": "contact.create",
                "status": "pending",
                "due_at": now,
                "created_at": made,
            },
        )
    return id_


def listed(acme: Host, query: str) -> tuple[list[str], str | None]:
    answer = acme.call("GET", f"/events{query}")
    assert answer.status_code == 200, answer.text
    return [entry["id"] for entry in answer.json["data"]], answer.json["next_cursor"]


def test_the_log_goes_on_after_an_event_that_was_removed(acme: Host) -> None:
    with acme.app.app_context():
        outbox = Outbox(acme.db.engine, acme.tables)
        held = happen(acme, 60 * DAY, held=True)
        old = [happen(acme, age * DAY) for age in (50, 40, 39)]
        new = [happen(acme, age * DAY) for age in (20, 10, 1, 0)]
        page, cursor = listed(acme, "?limit=6")
        assert page == [*reversed(new), old[2], old[1]]
        poll, further = listed(acme, f"?limit=2&after={held}")
        assert poll == old[:2]
        sum(outbox.prune(30 * DAY), Counter())
        assert listed(acme, "") == ([*reversed(new), held], None)
        for id_ in old:
            assert listed(acme, f"?after={id_}") == (new, None)
            answer = acme.call("GET", f"/events/{id_}")
            assert answer.status_code == 404
        assert listed(acme, f"?after={held}&cursor={further}") == (new, None)
        assert listed(acme, f"?cursor={cursor}") == ([held], None)
        # What was removed close to what stays: rather twice than not at all.
        gone = ids.new(ids.EVENT, int(held[4:16], 16) / 1000 + 60)
        assert listed(acme, f"?after={gone}") == ([held, *new], None)
        # When all is gone, there is just nothing.
        sum(outbox.prune(dt.timedelta(seconds=-1)), Counter())
        assert listed(acme, f"?after={new[0]}") == ([held] * 0, None)
        later = happen(acme, dt.timedelta(0))
        assert listed(acme, f"?after={new[0]}") == ([later], None)
        assert listed(acme, f"?after={new[2]}") == ([later], None)
