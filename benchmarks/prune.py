"""`make prune`: 1,000,000 old rows are removed while an app commits, and what its commits cost
meanwhile: windows with and without pruning take turns, so a ratio is of one run. Both databases."""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import datetime, timedelta, timezone
from typing import Any

import sqlalchemy as sa
from harness.bench import DATABASES, Bench
from harness.sender import Sender, config_of

import bench_app  # isort: skip
from flask_resthooks import ids
from flask_resthooks.outbox import Outbox

PAUSE = 0.005
"""Seconds between two commits."""

WINDOWS = {True: 5.0, False: 2.0}
"""Seconds with pruning, and then without."""

AGE = timedelta(days=30)

LIMIT = 1800.0
"""Seconds that it may take here."""


def fill(engine: sa.Engine, tables: Any, events: int) -> None:
    """Events of 31 to 60 days ago, each with a delivery and an attempt of it."""
    newest = datetime.now(timezone.utc) - AGE - timedelta(days=1)
    for first in range(0, events, 5000):
        rows: dict[Any, list[dict[str, Any]]] = {
            table: [] for table in (tables.event, tables.delivery, tables.attempt)
        }
        for number in range(first, min(first + 5000, events)):
            made = newest - (events - number) * timedelta(days=29) / events
            at = made.timestamp()
            event, delivery = ids.new(ids.EVENT, at), ids.new(ids.DELIVERY, at)
            of_all = {"owner": "1", "created_at": made}
            rows[tables.event].append(
                {
                    **of_all,
                    "id": event,
                    "type": "contact.create",
                    "resource": f"contact:{number}",
                    "data": '{"id":1,"name":"Ada Lovelace","email":"ada@example.com","city":"X"}',
                    "fanned_out_at": made,
                    "position": number + 1,
                }
            )
            rows[tables.delivery].append(
                {
                    **of_all,
                    "id": delivery,
                    "event_id": event,
                    "subscription_id": f"sub_{number % 100}",
                    "event_type": "contact.create",
                    "status": "delivered",
                    "attempts": 1,
                    "finished_at": made,
                }
            )
            rows[tables.attempt].append(
                {
                    "id": ids.new(ids.ATTEMPT, at),
                    "delivery_id": delivery,
                    "number": 1,
                    "started_at": made,
                    "duration": 0.1,
                    "status_code": 200,
                }
            )
        with engine.begin() as connection:
            for table, some in rows.items():
                connection.execute(table.insert(), some)


def prune(database_url: str, redis_url: str) -> None:
    """Remove what is old, as a worker and the command do it; told when to begin and to rest."""
    app = bench_app.create_app(config_of(database_url, redis_url))
    with app.app_context():
        batches = Outbox(bench_app.db.engine, bench_app.hooks.tables).prune(AGE)
    going = threading.Event()

    def listen() -> None:
        for line in sys.stdin:
            (going.set if line.strip() == "go" else going.clear)()

    threading.Thread(target=listen, daemon=True).start()
    removed: Counter[str] = Counter()
    going.wait()
    for batch in batches:
        removed += batch
        going.wait()
    print(removed.total(), flush=True)


def commit_for(sender: Sender, seconds: float, durations: list[float]) -> None:
    """Commit one tracked record after the other."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        durations.append(sender.commit_one(owner=2))
        time.sleep(PAUSE)


def measure(sender: Sender, rows: int) -> str:
    engine, tables = sender.engine, sender.tables
    fill(engine, tables, rows // 3)
    with engine.begin() as connection:
        connection.execute(sa.text("ANALYZE"))
    pruner = subprocess.Popen(
        [
            *[sys.executable, __file__, "--of"],
            *[sender.config["SQLALCHEMY_DATABASE_URI"], sender.config["RESTHOOKS_REDIS_URL"]],
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    durations: dict[bool, list[float]] = {True: [], False: []}
    spent = 0.0
    try:
        commit_for(sender, WINDOWS[False], [])
        while pruner.poll() is None:
            assert spent < LIMIT
            for pruning in (True, False):
                tell(pruner, "go" if pruning else "rest")
                time.sleep(0.1)
                some: list[float] = []
                commit_for(sender, WINDOWS[pruning], some)
                if pruner.poll() is None:
                    durations[pruning] += some
                    spent += WINDOWS[pruning] if pruning else 0.0
        removed = int(pruner.communicate()[0])
    finally:
        pruner.kill()
        with contextlib.suppress(BrokenPipeError):  # it has ended
            pruner.communicate()
    with engine.connect() as connection:
        left = connection.scalar(sa.select(sa.func.count()).select_from(tables.delivery))
    dialect = engine.dialect.name
    during, rest = durations[True], durations[False]

    def times(figure: Any) -> str:
        return f"{figure(during) / figure(rest):.2f} times the"

    return (
        f"{dialect:10} {removed:,} rows removed, {left} deliveries left, in {spent:.0f} s; "
        f"{len(during):,} commits meanwhile and {len(rest):,} in between: "
        f"{times(statistics.median)} median ({1000 * statistics.median(rest):.2f} ms), "
        f"{times(statistics.mean)} mean ({1000 * statistics.mean(rest):.2f} ms), "
        f"{times(late)} 99th percentile ({1000 * late(rest):.2f} ms)"
    )


def tell(pruner: subprocess.Popen[str], word: str) -> None:
    assert pruner.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it has just ended
        print(word, file=pruner.stdin, flush=True)


def late(durations: list[float]) -> float:
    return statistics.quantiles(durations, n=100)[98]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--database", choices=list(DATABASES), help="this one alone")
    parser.add_argument("--of", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.of:
        prune(*options.of)
        return
    databases = [options.database] if options.database else list(DATABASES)
    with Bench(rounds=1, databases=databases) as bench:
        for kind in databases:
            with bench.sender(kind) as sender:
                print(measure(sender, options.rows), flush=True)


if __name__ == "__main__":
    main()
