"""`make bench`: what a delivery costs, and what a commit costs, as ratios within one run.

Everything runs on this machine, against one receiver process, round by round in turn; a figure is
the median of its rounds. `--json FILE` keeps the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests
import rq
import sqlalchemy as sa

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]
BIN = Path(sys.executable).parent

import bench_app  # noqa: E402  (found by the line above)
from servers import RedisServer  # noqa: E402

BODY = json.dumps({"id": "evt_" + "0" * 32, "data": {"id": 1, "name": "Ada", "city": "London"}})


class Bench:
    def __init__(self, directory: Path, redis_url: str) -> None:
        self.directory = directory
        self.redis_url = redis_url
        self.receiver = subprocess.Popen(
            [sys.executable, str(HERE / "receiver.py")], stdout=subprocess.PIPE, text=True
        )
        assert self.receiver.stdout is not None
        self.url = f"http://127.0.0.1:{self.receiver.stdout.readline().strip()}/"
        self.config = {
            "SQLALCHEMY_DATABASE_URI": f"sqlite:///{directory / 'bench.db'}",
            "RESTHOOKS_REDIS_URL": redis_url,
            "RESTHOOKS_REQUIRE_HTTPS": False,
            "RESTHOOKS_ALLOWED_NETWORKS": ["127.0.0.0/8"],
        }
        self.app = bench_app.create_app(self.config)
        with self.app.app_context():
            bench_app.db.create_all()
            self.engine = bench_app.db.engine
        answer = self.app.test_client().post(
            "/api/v1/subscriptions", json={"target_url": self.url, "events": ["*"]}
        )
        assert answer.status_code == 201, answer.text

    def tally(self) -> dict[str, float]:
        figures: dict[str, float] = requests.get(self.url, timeout=10).json()
        return figures

    def session_loop(self, count: int) -> float:
        """(a) POSTs a second of a bare `requests.Session`, one after the other."""
        self.tally()
        with requests.Session() as session:
            start = time.monotonic()
            for _ in range(count):
                session.post(
                    self.url, data=BODY, headers={"content-type": "application/json"}, timeout=15
                )
            duration = time.monotonic() - start
        assert self.tally()["count"] == count
        return count / duration

    def obvious(self, count: int, worker_class: str) -> float:
        """(b) Deliveries a second of one RQ job each, from the first POST to the last."""
        import redis

        log = str(self.directory / "obvious.db")
        with sa.create_engine(f"sqlite:///{log}").begin() as connection:
            connection.exec_driver_sql(
                "CREATE TABLE IF NOT EXISTS log (url TEXT, status INT, started REAL, duration REAL)"
            )
        with redis.Redis.from_url(self.redis_url) as client:
            queue = rq.Queue("obvious", connection=client)
            for _ in range(count):
                queue.enqueue("obvious.deliver", self.url, BODY)
        self.tally()
        subprocess.run(
            [
                *[str(BIN / "rq"), "worker", "obvious", "--burst", "--quiet"],
                *["--url", self.redis_url, "--worker-class", worker_class],
            ],
            check=True,
            cwd=HERE,
            env={**os.environ, "PYTHONPATH": str(HERE), "OBVIOUS_LOG": log},
        )
        tally = self.tally()
        assert tally["count"] == count
        return (count - 1) / (tally["last"] - tally["first"])

    def deliveries(self, count: int) -> tuple[float, list[tuple[int, float]]]:
        """Deliveries a second of one `flask resthooks worker`, from the first POST until the last
        one is settled; and the worker's memory, as (deliveries made, MB)."""
        self.happen(count)
        self.tally()
        worker = subprocess.Popen(
            [str(BIN / "flask"), "resthooks", "worker", "--burst"],
            cwd=HERE,
            env={
                **os.environ,
                "FLASK_APP": "bench_app",
                "PYTHONPATH": str(HERE),
                "BENCH_CONFIG": json.dumps(self.config),
            },
        )
        memory: list[tuple[int, float]] = []
        done = threading.Event()

        def watch() -> None:
            while not done.wait(0.5):
                try:
                    memory.append((self.delivered(), rss(worker.pid)))
                except (FileNotFoundError, ProcessLookupError, IndexError):
                    return

        watcher = threading.Thread(target=watch)
        if count >= 20_000:
            watcher.start()
        assert worker.wait() == 0
        done.set()
        if watcher.ident:
            watcher.join()
        tally = self.tally()
        assert tally["count"] == count, tally
        attempt = bench_app.hooks.tables.attempt
        with self.engine.connect() as connection:
            assert connection.scalar(sa.select(sa.func.count()).select_from(attempt)) >= count
        return (count - 1) / (tally["last"] - tally["first"]), memory

    def delivered(self) -> int:
        event = bench_app.hooks.tables.attempt
        with self.engine.connect() as connection:
            return int(connection.scalar(sa.select(sa.func.count()).select_from(event)) or 0)

    def happen(self, count: int) -> None:
        """So many commits' events, all at once."""
        with self.app.app_context():
            for start in range(0, count, 5000):
                bench_app.db.session.add_all(
                    bench_app.Tracked(
                        account_id=1, name=f"Ada {number}", email="ada@example.com", city="London"
                    )
                    for number in range(start, min(start + 5000, count))
                )
                bench_app.db.session.commit()

    def empty(self) -> None:
        tables = bench_app.hooks.tables
        with self.engine.begin() as connection:
            for table in (tables.event, tables.delivery, tables.attempt):
                connection.execute(table.delete())

    def close(self) -> None:
        self.receiver.kill()
        self.receiver.wait()
        assert self.receiver.stdout is not None
        self.receiver.stdout.close()
        self.engine.dispose()


def rss(pid: int) -> float:
    """Memory of a process in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def commits(app: Any, db: Any, model: Any, count: int) -> float:
    """Seconds per commit of one new record."""
    with app.app_context():
        start = time.monotonic()
        for number in range(count):
            db.session.add(
                model(account_id=1, name=f"Ada {number}", email="ada@example.com", city="London")
            )
            db.session.commit()
        return (time.monotonic() - start) / count


def rounds(count: int, **acts: Callable[[], float]) -> dict[str, list[float]]:
    figures: dict[str, list[float]] = {name: [] for name in acts}
    for number in range(count):
        for name, act in acts.items():
            figures[name].append(act())
            print(f"  round {number + 1}: {name}: {figures[name][-1]:,.6g}", flush=True)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--deliveries", type=int, default=10_000, help="of one round")
    parser.add_argument("--memory", type=int, default=100_000, help="deliveries; 0: leave it out")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    redis_server = RedisServer()
    redis_server.start()
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory), redis_server.url)
        try:
            figures = measure(bench, options)
        finally:
            bench.close()
            redis_server.close()
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))


def measure(bench: Bench, options: argparse.Namespace) -> dict[str, float]:
    def ours() -> float:
        bench.empty()
        return bench.deliveries(options.deliveries)[0]

    print("deliveries a second")
    rates = rounds(
        options.rounds,
        ours=ours,
        session=lambda: bench.session_loop(options.deliveries // 4),
        obvious_simple=lambda: bench.obvious(300, "rq.worker.SimpleWorker"),
        obvious_default=lambda: bench.obvious(100, "rq.Worker"),
    )
    bench.empty()
    print("seconds per commit")
    bare_url = f"sqlite:///{bench.directory / 'bare.db'}"
    bare_app, bare_db, bare_model = bench_app.without_hooks(bare_url)
    with bare_app.app_context():
        bare_db.create_all()
        with bare_db.engine.connect() as connection:  # as the worker does with the other one
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    costs = rounds(
        options.rounds * 2,
        bare=lambda: commits(bare_app, bare_db, bare_model, 500),
        untracked=lambda: commits(bench.app, bench_app.db, bench_app.Untracked, 500),
        tracked=lambda: commits(bench.app, bench_app.db, bench_app.Tracked, 500),
    )
    with bare_app.app_context():
        bare_db.engine.dispose()
    rate = {name: statistics.median(found) for name, found in rates.items()}
    cost = {name: statistics.median(found) for name, found in costs.items()}
    figures = {f"{name}_per_second": found for name, found in rate.items()}
    figures |= {f"{name}_commit_ms": found * 1000 for name, found in cost.items()}
    figures |= {
        "ours_to_session": rate["ours"] / rate["session"],
        "ours_to_obvious_simple": rate["ours"] / rate["obvious_simple"],
        "ours_to_obvious_default": rate["ours"] / rate["obvious_default"],
        "tracked_to_bare_commit": cost["tracked"] / cost["bare"],
        "untracked_to_bare_commit": cost["untracked"] / cost["bare"],
    }
    if options.memory:
        bench.empty()
        _, memory = bench.deliveries(options.memory)
        early = [mb for made, mb in memory if made <= 20_000]
        figures["rss_mb_at_20000"] = early[-1]
        figures["rss_mb_at_end"] = memory[-1][1]
        figures["rss_mb_most"] = max(mb for _, mb in memory)
    print(f"\nPython {platform.python_version()}, {os.cpu_count()} CPUs")
    for name, figure in figures.items():
        print(f"{name:28} {figure:12,.2f}")
    return figures


if __name__ == "__main__":
    main()
