"""From a commit to a receiver, through the API, a real Redis and real worker processes."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections import Counter
from typing import Any

import pytest
import standardwebhooks
import svix
from host import Contact, Host, db, until
from servers import Inbox, RedisServer


def test_a_commit_becomes_a_signed_post(database_url: str, redis_url: str, inbox: Inbox) -> None:
    with Host(database_url, redis_url) as host:
        subscription = host.subscribe(inbox.url("/hooks"), "contact.*")
        with host.app.app_context():
            contact = Contact(account_id=1, name="Ada", private="secret")
            db.session.add(contact)
            db.session.commit()
            contact.name = "Grace"
            db.session.commit()
            db.session.delete(contact)
            db.session.commit()
            db.session.add(Contact(account_id=2, name="someone else's"))
            db.session.commit()
        assert host.worker("--burst").wait(30) == 0
        requests = sorted(inbox.requests, key=lambda request: json.loads(request.body)["sequence"])
        bodies = [json.loads(request.body) for request in requests]
        assert [body["type"] for body in bodies] == [
            "contact.create",
            "contact.update",
            "contact.delete",
        ]
        assert bodies[0]["data"] == {"id": contact_id(bodies), "name": "Ada"}
        assert bodies[1]["previous"] == {"name": "Ada"}
        assert bodies[2]["data"]["name"] == "Grace"
        assert not any(b"secret" in request.body for request in requests)
        for request, body in zip(requests, bodies, strict=True):
            assert request.path == "/hooks"
            assert request.headers["webhook-id"] == body["id"]
            assert request.headers["x-hook-event"] == body["type"]
            verify(request, subscription["secret"])


def contact_id(bodies: list[dict[str, Any]]) -> int:
    identity: int = bodies[0]["data"]["id"]
    return identity


def verify(request: Any, secret: str) -> None:
    body = request.body.decode()
    standardwebhooks.Webhook(secret).verify(body, dict(request.headers))
    svix.Webhook(secret).verify(body, dict(request.headers))


@pytest.mark.parametrize("kind", ["flask", "rq"])
def test_a_running_worker_is_woken_by_a_commit(
    kind: str, sqlite_url: str, redis_url: str, inbox: Inbox
) -> None:
    with Host(sqlite_url, redis_url) as host:
        worker = host.worker() if kind == "flask" else host.rq_worker()
        host.subscribe(inbox.url())
        host.create()
        assert inbox.wait_for(1, timeout=20)
        start = time.monotonic()
        host.create()
        inbox.wait_for(2, timeout=10)
        assert time.monotonic() - start < 5
        assert until(lambda: host.statuses() == {"delivered": 2})
        assert host.end(worker) == 0


@pytest.mark.parametrize("kind", ["flask", "rq"])
def test_a_retry_due_in_some_seconds_goes_out_then_and_not_at_the_next_sweep(
    kind: str, sqlite_url: str, redis_url: str, inbox: Inbox
) -> None:
    inbox.answer = lambda request: 500 if len(inbox.requests) <= 1 else 200
    config = {
        "RESTHOOKS_RETRY_SCHEDULE": [0, 5],
        "RESTHOOKS_RETRY_JITTER": 0,
        "RESTHOOKS_SWEEP_INTERVAL": 86400,
    }
    with Host(sqlite_url, redis_url, **config) as host:
        worker = host.worker() if kind == "flask" else host.rq_worker()
        host.subscribe(inbox.url())
        host.create()
        first, second = inbox.wait_for(2, timeout=30)
        assert 4.9 <= second.time - first.time <= 20  # no sweep comes so soon
        assert first.headers["webhook-id"] == second.headers["webhook-id"]
        assert host.end(worker) == 0


def test_without_redis_commits_succeed_quickly_and_the_sweep_alone_sends_everything(
    database_url: str, redis_url: str, redis_server: RedisServer, inbox: Inbox
) -> None:
    with Host(database_url, redis_url, RESTHOOKS_SWEEP_INTERVAL=2) as host:
        worker = host.worker()
        host.subscribe(inbox.url())
        host.create()
        inbox.wait_for(1, timeout=20)
        redis_server.stop()
        durations = []
        for _ in range(20):
            start = time.monotonic()
            host.create()
            durations.append(time.monotonic() - start)
        assert durations[0] < 1.0
        assert sum(durations[1:]) < 2.0
        # Nobody in this process makes the lost wake-up good: that is left to the worker's sweep.
        host.app.extensions["resthooks"].wakeups._failing = False
        redis_server.start()
        inbox.wait_for(21, timeout=40)
        host.wait_until_done()
        assert Counter(r.headers["webhook-id"] for r in inbox.requests) == Counter(host.events())
        assert worker.poll() is None
        assert host.end(worker) == 0


def test_a_plain_rq_worker_is_woken_again_when_redis_has_come_back_empty(
    sqlite_url: str, redis_url: str, redis_server: RedisServer, inbox: Inbox
) -> None:
    with Host(sqlite_url, redis_url) as host:
        host.subscribe(inbox.url())
        redis_server.stop()
        host.create()
        redis_server.start()
        host.rq_worker()
        inbox.wait_for(1, timeout=30)


@pytest.mark.parametrize("kind", ["flask", "rq"])
def test_sigterm_finishes_what_is_in_flight_and_gives_back_the_rest(
    kind: str, sqlite_url: str, redis_url: str, inbox: Inbox
) -> None:
    release = threading.Event()

    def answer(request: Any) -> int:
        release.wait(20)
        return 200

    inbox.answer = answer
    with Host(sqlite_url, redis_url, RESTHOOKS_CONCURRENCY=4) as host:
        host.subscribe(inbox.url())
        host.create(20)
        worker = host.worker() if kind == "flask" else host.rq_worker()
        inbox.wait_for(2, timeout=20)
        worker.send_signal(signal.SIGTERM)
        time.sleep(1.5)  # a forked job looks once a second
        release.set()
        assert worker.wait(20) == 0
        sent = len(inbox.requests)
        assert 2 <= sent <= 8
        assert host.statuses() == {"delivered": sent, "pending": 20 - sent}
        assert host.worker("--burst").wait(30) == 0
        assert host.statuses() == {"delivered": 20}
        assert len(inbox.requests) == 20


def test_an_exit_status_tells_that_redis_cannot_be_reached(sqlite_url: str) -> None:
    with Host(sqlite_url, "redis://127.0.0.1:1/0") as host:
        assert host.worker("--burst").wait(30) == 1


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_sigterm_ends_a_worker_whose_redis_hangs_and_nothing_is_sent_twice(
    busy: bool, sqlite_url: str, redis_url: str, redis_server: RedisServer, inbox: Inbox
) -> None:
    release = threading.Event()

    def answer(request: Any) -> int:
        release.wait(20)
        return 200

    with Host(sqlite_url, redis_url, RESTHOOKS_CONCURRENCY=4) as host:
        host.subscribe(inbox.url())
        worker = host.worker()
        host.create()
        inbox.wait_for(1, timeout=20)
        assert until(lambda: host.statuses() == {"delivered": 1})
        if busy:
            inbox.answer = answer
            host.create(3)
            inbox.wait_for(2, timeout=20)
        redis_server.freeze()
        try:
            worker.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            release.set()
            assert worker.wait(25) == 0
        finally:
            redis_server.thaw()
        assert len(inbox.requests) == host.statuses()["delivered"]
        assert host.statuses()["sending"] == 0


def test_a_sweep_can_be_asked_for_by_hand(sqlite_url: str, redis_url: str, inbox: Inbox) -> None:
    with Host(sqlite_url, redis_url) as host:
        host.subscribe(inbox.url())
        host.app.extensions["resthooks"].wakeups.wake = lambda: None  # the wake-up is lost
        host.create()
        host.rq_worker()
        assert host.command("sweep") == 0
        inbox.wait_for(1, timeout=20)
