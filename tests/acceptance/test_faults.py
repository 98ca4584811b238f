"""Nothing is lost: workers killed in the middle, and several at once.

The long form is `make faults`: RESTHOOKS_FAULTS=full.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter

from host import Host
from servers import Inbox

FULL = os.environ.get("RESTHOOKS_FAULTS") == "full"


def test_killed_workers_lose_nothing_and_repeat_only_what_was_in_flight(
    database_url: str, redis_url: str, inbox: Inbox
) -> None:
    kills, deliveries = (20, 10_000) if FULL else (4, 1_200)
    chance = random.Random(0)
    config = {"RESTHOOKS_TIMEOUT": 1, "RESTHOOKS_LEASE": 12, "RESTHOOKS_SWEEP_INTERVAL": 1}
    with Host(database_url, redis_url, **config) as host:
        host.subscribe(inbox.url())
        host.create(deliveries)
        inbox.delay = 0.02
        in_flight: set[str] = set()
        killed = 0
        while killed < kills:
            before = len(inbox.requests)
            worker = host.worker()
            inbox.wait_for(before + 1, timeout=30)
            time.sleep(chance.uniform(0.02, 0.25))
            worker.kill()
            worker.wait()
            killed += 1
            in_flight |= host.sending()
        assert host.waiting(), "the kills came too late to be in the middle"
        inbox.delay = 0
        host.worker()
        host.wait_until_done(120)
        seen = Counter(request.headers["webhook-id"] for request in inbox.requests)
        lost = host.events() - set(seen)
        repeated = {event for event, count in seen.items() if count > 1}
        print(
            f"{deliveries} deliveries, {killed} kills: {len(lost)} lost, "
            f"{sum(seen.values()) - len(seen)} duplicates of {len(in_flight)} that were claimed"
        )
        assert len(host.events()) == deliveries
        assert not lost
        assert repeated <= in_flight
        bodies: dict[str, str] = {}
        for request in inbox.requests:
            body = json.loads(request.body)
            assert body["id"] == request.headers["webhook-id"]
            assert bodies.setdefault(body["id"], request.body.decode()) == request.body.decode()
        assert host.statuses() == {"delivered": deliveries}


def test_two_workers_share_the_work_and_send_nothing_twice(
    database_url: str, redis_url: str, inbox: Inbox
) -> None:
    deliveries = 10_000 if FULL else 1_500
    with Host(database_url, redis_url, RESTHOOKS_SWEEP_INTERVAL=1) as host:
        host.subscribe(inbox.url())
        workers = [host.worker(), host.worker()]
        for _ in range(10):
            host.create(deliveries // 10)
        host.wait_until_done(120)
        seen = Counter(request.headers["webhook-id"] for request in inbox.requests)
        print(f"{deliveries} deliveries, 2 workers: {len(seen)} seen, {sum(seen.values())} POSTs")
        assert set(seen) == host.events()
        assert sum(seen.values()) == len(seen) == deliveries
        assert [host.end(worker) for worker in workers] == [0, 0]
