"""`make isolation`: what one bad target costs the others. Both databases.

100 deliveries to a good receiver, alone; and with 10,000 before them to a black hole (it takes
connections and says nothing), to a host that refuses connections, to six black holes; and with
10,000 of another owner to a receiver that is as good. Seconds from the commit to the last arrival,
by a real worker.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]
BIN = Path(sys.executable).parent

import bench_app  # noqa: E402  (found by the line above)
from servers import Inbox, PostgresServer, RedisServer  # noqa: E402

GOOD, BAD = 100, 10_000
HOLES = 6
PATIENCE = 120.0


class Round:
    """One app, its tables empty, and a worker."""

    def __init__(self, database_url: str, redis_url: str) -> None:
        config = {
            "SQLALCHEMY_DATABASE_URI": database_url,
            "RESTHOOKS_REDIS_URL": redis_url,
            "RESTHOOKS_REQUIRE_HTTPS": False,
            "RESTHOOKS_ALLOWED_NETWORKS": ["127.0.0.0/8"],
        }
        self.app = bench_app.create_app(config)
        with self.app.app_context():
            bench_app.db.drop_all()
            bench_app.db.create_all()
            self.engine = bench_app.db.engine
        environment = {
            **os.environ,
            "FLASK_APP": "bench_app",
            "PYTHONPATH": str(HERE),
            "BENCH_CONFIG": json.dumps(config),
        }
        self.worker = subprocess.Popen(
            [str(BIN / "flask"), "resthooks", "worker"],
            cwd=HERE,
            env=environment,
            stderr=subprocess.DEVNULL,
        )

    def subscribe(self, owner: int, url: str) -> None:
        answer = self.app.test_client().post(
            "/api/v1/subscriptions",
            json={"target_url": url, "events": ["*"]},
            headers={"X-Owner": str(owner)},
        )
        assert answer.status_code == 201, answer.text

    def commit(self, owner: int, count: int) -> None:
        with self.app.app_context():
            bench_app.db.session.add_all(
                bench_app.Tracked(account_id=owner, name=f"Ada {n}", email="a@b.example", city="X")
                for n in range(count)
            )
            bench_app.db.session.commit()

    def waiting(self) -> int:
        table = bench_app.hooks.tables.event
        with self.engine.connect() as connection:
            return int(
                connection.scalar(sa.select(sa.func.count()).where(table.c.fanned_out_at.is_(None)))
                or 0
            )

    def close(self) -> None:
        self.worker.kill()
        self.worker.wait()
        self.engine.dispose()


@contextlib.contextmanager
def black_hole() -> Iterator[str]:
    """Takes connections (as many as its backlog has room for) and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"


def refused() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}/"


def measure(database_url: str, redis_url: str, bad: list[str], *, before: float) -> float:
    """Seconds that the good ones take.

    :param bad: URLs that get 10,000 deliveries, all of them together.
    :param before: seconds for which these are being sent already.
    """
    made = Round(database_url, redis_url)
    try:
        with Inbox() as inbox:
            for number, url in enumerate(bad):
                made.subscribe(100 + number, url)
            made.subscribe(1, inbox.url())
            made.commit(1, 1)
            inbox.wait_for(1, timeout=PATIENCE)
            for number in range(len(bad)):
                made.commit(100 + number, BAD // len(bad))
            if bad:
                deadline = time.monotonic() + PATIENCE
                while made.waiting() and time.monotonic() < deadline:
                    time.sleep(0.05)
                time.sleep(before)
            start = time.monotonic()
            made.commit(1, GOOD)
            inbox.wait_for(1 + GOOD, timeout=PATIENCE)
            return time.monotonic() - start
    finally:
        made.close()


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    redis_server = RedisServer()
    redis_server.start()
    postgres = PostgresServer()
    with contextlib.ExitStack() as stack:
        stack.callback(redis_server.close)
        stack.callback(postgres.close)
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        holes = [stack.enter_context(black_hole()) for _ in range(HOLES)]
        busy = stack.enter_context(Inbox())
        cases: dict[str, tuple[list[str], float]] = {
            "alone": ([], 0.0),
            "a black hole, at once": (holes[:1], 0.0),
            "a black hole, for 3 s": (holes[:1], 3.0),
            "6 black holes, for 3 s": (holes, 3.0),
            "refused connections": ([refused()], 0.0),
            "another owner's good receiver": ([busy.url()], 0.0),
        }
        for name, url in (
            ("SQLite", f"sqlite:///{directory}/bench.db"),
            ("PostgreSQL", postgres.create_database()),
        ):
            alone = 0.0
            for case, (bad, before) in cases.items():
                times: list[float] = []
                for _ in range(rounds):
                    redis_server.client().flushall()
                    times.append(measure(url, redis_server.url, bad, before=before))
                median: Any = statistics.median(times)
                alone = alone or median
                print(
                    f"{name:10} {case:30} {median:6.2f} s, {median / alone:5.2f} times; "
                    f"bound {2 * alone + 1:.2f} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()
