"""`make recover`: a subscription that missed 100,000 hooks gets them, all of them and once; and
what the app's commits cost meanwhile, as a ratio within one run. Both databases."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import requests
import sqlalchemy as sa

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]
BIN = Path(sys.executable).parent

import bench_app  # noqa: E402  (found by the line above)
from servers import PostgresServer, RedisServer  # noqa: E402

PAUSE = 0.005
"""Seconds between two commits."""

LIMIT = 1800.0
"""Seconds that a recovery may take here."""


class Commits:
    """Commits one tracked record after the other, of an owner without subscriptions."""

    def __init__(self, app: Any) -> None:
        self._app = app
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
        with self._app.app_context():
            while not self._stop.wait(PAUSE):
                start = time.perf_counter()
                bench_app.db.session.add(
                    bench_app.Tracked(account_id=2, name="Ada", email="a@example.com", city="Bath")
                )
                bench_app.db.session.commit()
                self.durations.append(time.perf_counter() - start)


def recover(database_url: str, redis_url: str, missed: int) -> str:
    receiver = subprocess.Popen(
        [sys.executable, str(HERE / "receiver.py")], stdout=subprocess.PIPE, text=True
    )
    assert receiver.stdout is not None
    url = f"http://127.0.0.1:{receiver.stdout.readline().strip()}/"
    config = {
        "SQLALCHEMY_DATABASE_URI": database_url,
        "RESTHOOKS_REDIS_URL": redis_url,
        "RESTHOOKS_REQUIRE_HTTPS": False,
        "RESTHOOKS_ALLOWED_NETWORKS": ["127.0.0.0/8"],
    }
    app = bench_app.create_app(config)
    tables = bench_app.hooks.tables
    with app.app_context():
        bench_app.db.create_all()
        engine = bench_app.db.engine
    client = app.test_client()
    worker: subprocess.Popen[bytes] | None = None

    def count(statement: Any) -> int:
        with engine.connect() as connection:
            return int(connection.scalar(statement) or 0)

    delivery = tables.delivery
    all_deliveries = sa.select(sa.func.count()).select_from(delivery)
    try:
        body = {"target_url": url, "events": ["*"], "active": False}
        made = client.post("/api/v1/subscriptions", json=body).json
        path = f"/api/v1/subscriptions/{made['id']}"
        with app.app_context():
            for start in range(0, missed, 5000):
                bench_app.db.session.add_all(
                    bench_app.Tracked(account_id=1, name=f"Ada {n}", email="a@b.example", city="X")
                    for n in range(start, min(start + 5000, missed))
                )
                bench_app.db.session.commit()
        worker = subprocess.Popen(
            [str(BIN / "flask"), "resthooks", "worker"],
            cwd=HERE,
            env={
                **os.environ,
                "FLASK_APP": "bench_app",
                "PYTHONPATH": str(HERE),
                "BENCH_CONFIG": json.dumps(config),
            },
            stderr=subprocess.DEVNULL,
        )
        waiting = sa.select(sa.func.count()).where(tables.event.c.fanned_out_at.is_(None))
        while count(waiting):
            time.sleep(0.5)
        client.patch(path, json={"active": True})
        with Commits(app) as before:
            time.sleep(10)
        since = made["created_at"]
        with Commits(app) as during:
            start = time.monotonic()
            answer = client.post(f"{path}/recover", json={"since": since})
            assert answer.status_code == 202, answer.text
            while client.get(answer.headers["Location"]).json["status"] != "done":
                assert time.monotonic() - start < LIMIT
                time.sleep(0.5)
            while count(all_deliveries.where(delivery.c.due_at.is_not(None))):
                assert time.monotonic() - start < LIMIT
                time.sleep(0.2)
            duration = time.monotonic() - start
        came = requests.get(url, timeout=10).json()["count"]
        delivered = count(
            all_deliveries.where(delivery.c.status == "delivered", delivery.c.attempts == 1)
        )
        ratio = statistics.median(during.durations) / statistics.median(before.durations)
        mean = statistics.mean(during.durations) / statistics.mean(before.durations)
        return (
            f"{engine.dialect.name:10} {missed:,} missed, {came:,} came, {delivered:,} delivered "
            f"at the first attempt, in {duration:.0f} s; {len(during.durations):,} commits "
            f"meanwhile, {ratio:.2f} times the median of before "
            f"({1000 * statistics.median(before.durations):.2f} ms), {mean:.2f} times the mean"
        )
    finally:
        if worker is not None:
            worker.kill()
            worker.wait()
        receiver.kill()
        receiver.wait()
        receiver.stdout.close()
        engine.dispose()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--missed", type=int, default=100_000)
    options = parser.parse_args()
    redis_server = RedisServer()
    redis_server.start()
    postgres = PostgresServer()
    try:
        with tempfile.TemporaryDirectory() as directory:
            for url in (f"sqlite:///{directory}/bench.db", postgres.create_database()):
                redis_server.client().flushall()
                print(recover(url, redis_server.url, options.missed), flush=True)
    finally:
        postgres.close()
        redis_server.close()


if __name__ == "__main__":
    main()
