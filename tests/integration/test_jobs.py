"""What a worker process keeps between drains: its own connections, and who listens."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import rq
import sqlalchemy as sa
from engine import LOOPBACK
from servers import Inbox, RedisServer
from world import World

from flask_resthooks import jobs, settings, signals
from flask_resthooks.errors import ConfigurationError
from flask_resthooks.event_types import EventTypes
from flask_resthooks.guard import Guard
from flask_resthooks.jobs import Plant, Runner
from flask_resthooks.vault import Vault
from flask_resthooks.wakeups import Wakeups


@pytest.fixture
def world(sqlite_url: str) -> Iterator[World]:
    world = World(sqlite_url)
    yield world
    world.engine.dispose()


@pytest.fixture
def plant(world: World, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Plant:
    import flask

    monkeypatch.setattr(jobs, "_plants", {})
    monkeypatch.setattr(jobs, "_runners", {})
    chosen = settings.from_config(
        {**LOOPBACK, "RESTHOOKS_REDIS_URL": redis_url, "RESTHOOKS_RETRY_SCHEDULE": [0]}
    )
    return Plant(
        app=flask.Flask("jobs"),
        engine=lambda: world.engine,
        tables=world.tables,
        settings=chosen,
        guard=Guard(require_https=False, allowed_networks=["127.0.0.0/8"]),
        wakeups=Wakeups(chosen),
        event_types=EventTypes(),
        vault=Vault(),
    )


def test_a_listener_that_is_slow_holds_up_no_settle(
    world: World, plant: Plant, inbox: Inbox
) -> None:
    inbox.answer = lambda request: 500
    world.subscribe("*", target_url=inbox.url())
    world.happen(count=50)
    settled_while_listening: list[int] = []
    heard: list[dict[str, Any]] = []
    all_settled = threading.Event()

    def listen(app: Any, **facts: Any) -> None:
        heard.append(facts)
        if len(heard) == 1:
            for _ in range(100):
                failed = sum(row.status == "failed" for row in world.deliveries())
                if failed == 50 or all_settled.wait(0.05):
                    break
            settled_while_listening.append(failed)
            raise RuntimeError("a listener's own trouble")

    runner = Runner(plant)
    with signals.delivery_failed.connected_to(listen):
        runner.run()
    runner.close()
    assert settled_while_listening == [50]
    assert len(heard) == 50
    assert {facts["reason"] for facts in heard} == {"gave up after 1 attempt"}


def test_a_subscription_that_is_disabled_is_told_once(
    world: World, plant: Plant, inbox: Inbox
) -> None:
    inbox.answer = lambda request: 410
    subscription = world.subscribe("*", target_url=inbox.url())
    world.happen(count=5)
    heard: list[dict[str, Any]] = []

    def listen(app: Any, **facts: Any) -> None:
        heard.append(facts)

    runner = Runner(plant)
    with signals.subscription_disabled.connected_to(listen):
        runner.run()
    runner.close()
    assert [facts["subscription_id"] for facts in heard] == [subscription]


def test_connections_of_another_process_are_not_used(world: World, plant: Plant) -> None:
    with world.engine.connect() as connection:
        parents = connection.connection.dbapi_connection
    runner = jobs.run_for(dataclasses.replace(plant, pid=plant.pid + 1))
    with world.engine.connect() as connection:
        assert connection.connection.dbapi_connection is not parents
    runner.close()
    assert parents is not None
    parents.close()


def test_two_apps_of_one_process_cannot_share_a_queue(plant: Plant) -> None:
    import flask

    jobs.run_for(plant).close()
    with pytest.raises(ConfigurationError, match=r"two apps share the queue 'resthooks'"):
        jobs.run_for(dataclasses.replace(plant, app=flask.Flask("other")))


def test_after_the_database_has_failed_another_drain_is_asked_for_soon(
    world: World, plant: Plant, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = Runner(plant)
    monkeypatch.setattr(plant.wakeups, "sweep_later", lambda: None)

    def fail(*args: Any) -> None:
        raise sa.exc.OperationalError("SELECT", {}, Exception("gone"))

    monkeypatch.setattr(runner._outbox, "fan_out", fail)
    with pytest.raises(sa.exc.OperationalError):
        runner.run()
    runner.close()
    assert len(rq.Queue("resthooks", connection=redis_server.client()).scheduled_job_registry) == 1
    assert runner.idle.is_set()
