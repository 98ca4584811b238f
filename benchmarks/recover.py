"""`make recover`: a subscription that missed 100,000 hooks gets them, all of them and once; and
what the app's commits cost meanwhile, as a ratio within one run. Both databases."""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from typing import Any

import sqlalchemy as sa
from harness.bench import DATABASES, Bench
from harness.processes import working
from harness.receivers import receive
from harness.sender import Sender, counted

PAUSE = 0.005
"""Seconds between two commits."""

LIMIT = 1800.0
"""Seconds that a recovery may take here."""


class Commits:
    """Commits one tracked record after the other, of an owner without subscriptions."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._stop = threading.Event()
        self.durations: list[float] = []
        self._thread = threading.Thread(target=self._commit)

    def __enter__(self) -> Commits:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _commit(self) -> None:
        while not self._stop.wait(PAUSE):
            self.durations.append(self._sender.commit_one(owner=2))


def recover(bench: Bench, kind: str, missed: int) -> str:
    with receive() as receiver, bench.sender(kind) as sender:
        delivery = sender.tables.delivery
        all_deliveries = sa.select(sa.func.count()).select_from(delivery)
        client = sender.app.test_client()
        body = {"target_url": receiver.url(), "events": ["*"], "active": False}
        made: Any = client.post("/api/v1/subscriptions", json=body).json
        path = f"/api/v1/subscriptions/{made['id']}"
        for start in range(0, missed, 5000):
            sender.commit(min(5000, missed - start))
        event = sender.tables.event
        with sender.engine.connect() as connection:
            ids = list(connection.scalars(sa.select(event.c.id).where(event.c.owner == "1")))
        with working(sender.config):
            sender.wait_until_settled(LIMIT)
            client.patch(path, json={"active": True})
            with Commits(sender) as before:
                time.sleep(10)
            receiver.forget()
            with Commits(sender) as during:
                begin = time.monotonic()
                answer = client.post(f"{path}/recover", json={"since": made["created_at"]})
                assert answer.status_code == 202, answer.text
                while _status(client, answer.headers["Location"]) != "done":
                    assert time.monotonic() - begin < LIMIT
                    time.sleep(0.5)
                while sender.undelivered():
                    assert time.monotonic() - begin < LIMIT
                    time.sleep(0.2)
                duration = time.monotonic() - begin
        came = counted(ids, receiver).check("recovery")
        delivered = sender.number(
            all_deliveries.where(delivery.c.status == "delivered", delivery.c.attempts == 1)
        )
    ratio = statistics.median(during.durations) / statistics.median(before.durations)
    mean = statistics.mean(during.durations) / statistics.mean(before.durations)
    return (
        f"{DATABASES[kind]:10} {missed:,} missed, {came.wanted:,} came, none lost and none twice, "
        f"{delivered:,} delivered at the first attempt, in {duration:.0f} s; "
        f"{len(during.durations):,} commits meanwhile, {ratio:.2f} times the median of before "
        f"({1000 * statistics.median(before.durations):.2f} ms), {mean:.2f} times the mean"
    )


def _status(client: Any, location: str) -> str:
    return str(client.get(location).json["status"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--missed", type=int, default=100_000)
    options = parser.parse_args()
    with Bench(rounds=1) as bench:
        for kind in bench.databases:
            print(recover(bench, kind, options.missed), flush=True)


if __name__ == "__main__":
    main()
