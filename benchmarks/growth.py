"""`make growth`: what deliveries and commits cost when the tables are large, as ratios to the same
with next to nothing in them. Both databases.

Two databases of one server take turns, round by round: a large one (see `large_tables.py`), and a
small one that has the same lively owners and subscriptions, no others and no history. In a round,
each of them commits one record after the other, then many at once, and one worker delivers all of
it. A figure is the ratio of the medians. Whatever comes is counted: none may be lost, none be sent
twice.

Nothing is removed meanwhile (`RESTHOOKS_RETENTION` is 0, and the history is younger than what is
kept anyway): what that costs is what `prune.py` measures.

`--keep DIR` keeps the filled databases there, and uses them again if they are as large as asked.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from harness import processes  # first: it finds the tests' servers
from harness.counting import Count, count
from harness.receivers import Receiver, rate, receive

import bench_app  # isort: skip
import large_tables  # isort: skip
from large_tables import LARGE, Size  # isort: skip
from servers import PostgresServer, RedisServer  # isort: skip

from flask_resthooks.outbox import Outbox

THROUGHPUT, COMMIT = 1 / 1.2, 1.2
"""What the ratios have to be, at least and at most."""

FOR_THE_FILL = (
    *("SET wal_level = minimal", "SET max_wal_senders = 0", "SET max_wal_size = '8GB'"),
    *("SET fsync = off", "SET synchronous_commit = off", "SET full_page_writes = off"),
)


class KeptPostgres(PostgresServer):
    """A PostgreSQL whose data stay in a directory, with PostgreSQL's own settings.

    :param data: where they are or will be.
    """

    def __init__(self, data: Path) -> None:
        self._kept = data
        super().__init__()

    def _make_cluster(self) -> None:
        self._data = self._kept
        if self._data.exists():
            return
        self._data.mkdir(parents=True)
        if "user" in self._options:
            os.chown(self._data, self._options["user"], self._options["group"])
        super()._make_cluster()

    def _launch(self, command: Sequence[str], ready: Callable[[], bool], **options: Any) -> None:
        # Without the tests' settings, by which it might lose something in a power cut.
        program, settings = command[:3], command[3:]
        kept = [
            part
            for flag, value in zip(settings[::2], settings[1::2], strict=True)
            if not value.endswith("=off")
            for part in (flag, value)
        ]
        super()._launch([*program, *kept], ready, **options)

    def url(self, name: str) -> str:
        """Of a database of this name, made if it is not there."""
        with self._connect("postgres") as connection:
            there = "SELECT FROM pg_database WHERE datname = %s"
            if connection.execute(there, [name]).fetchone() is None:
                connection.execute(f"CREATE DATABASE {name}".encode())
        return f"postgresql+psycopg://postgres@/{name}?host={self.directory}&port=5432"

    def alter(self, *changes: str) -> None:
        """Change settings, and start anew."""
        with self._connect("postgres") as connection:
            for change in changes:
                connection.execute(f"ALTER SYSTEM {change}".encode())
        self.stop()
        self.start()


class Side:
    """One of the two databases, and its app."""

    def __init__(self, name: str, database_url: str, redis_url: str, lively: int) -> None:
        self.name = name
        self._lively = lively
        self.config = {
            "SQLALCHEMY_DATABASE_URI": database_url,
            "RESTHOOKS_REDIS_URL": redis_url,
            "RESTHOOKS_QUEUE": f"growth-{name}",
            "RESTHOOKS_REQUIRE_HTTPS": False,
            "RESTHOOKS_ALLOWED_NETWORKS": ["127.0.0.0/8"],
            "RESTHOOKS_RETENTION": 0,
        }
        self.app = bench_app.create_app(self.config)
        self.tables = bench_app.hooks.tables
        with self.app.app_context():
            self.engine = bench_app.db.engine
            bench_app.Tracked.__table__.drop(self.engine, checkfirst=True)  # of a run before
            bench_app.db.create_all()
        Outbox(self.engine, self.tables).prepare()
        self._count = 0

    def empty(self) -> None:
        """Remove what has happened, as if nothing had."""
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            run = connection.exec_driver_sql
            if self.engine.dialect.name == "sqlite":
                for table in LARGE:
                    run(f"DELETE FROM {table}")
                run("PRAGMA wal_checkpoint(TRUNCATE)")
            else:
                run(f"TRUNCATE {', '.join(LARGE)}")

    def subscribe(self, target_url: str) -> None:
        """Have what happens to the lively owners sent there, and nothing else to anybody."""
        with self.engine.begin() as connection:
            for table in (
                *LARGE,
                "resthooks_subscription",
                "resthooks_subscription_event",
                "resthooks_log",
            ):
                connection.exec_driver_sql(f"DELETE FROM {table}")
        size = Size(0, 0, self._lively, self._lively)
        large_tables.fill(self.engine, size, lambda line: None)
        large_tables.aim(self.engine, self.tables, size, target_url)

    def commits(self, count: int) -> float:
        """Seconds per commit of one new record."""
        with self.app.app_context():
            start = time.monotonic()
            for _ in range(count):
                bench_app.db.session.add(self._record())
                bench_app.db.session.commit()
            return (time.monotonic() - start) / count

    def happen(self, count: int) -> None:
        """So many new records, some thousands in a commit."""
        with self.app.app_context():
            for start in range(0, count, 5000):
                some = range(start, min(start + 5000, count))
                bench_app.db.session.add_all([self._record() for _ in some])
                bench_app.db.session.commit()

    def _record(self) -> Any:
        self._count += 1
        return bench_app.Tracked(
            account_id=self._count * 7919 % self._lively,
            name=f"Ada {self._count}",
            email="ada@example.com",
            city="London",
        )

    def last_event(self) -> int:
        """The number of the newest one."""
        with self.engine.connect() as connection:
            newest = sa.select(sa.func.max(self.tables.event.c.sequence))
            return connection.scalar(newest) or 0

    def outcome(self, since: int) -> tuple[list[str], int]:
        """Ids of the events after that one; and how many deliveries of them came to their end as
        they should: with one attempt."""
        event, delivery = self.tables.event, self.tables.delivery
        new = event.c.sequence > since
        good = (
            sa.select(sa.func.count())
            .select_from(event.join(delivery, delivery.c.event_id == event.c.id))
            .where(new, delivery.c.status == "delivered", delivery.c.attempts == 1)
        )
        with self.engine.connect() as connection:
            made = list(connection.scalars(sa.select(event.c.id).where(new)))
            return made, connection.scalar(good) or 0


@dataclasses.dataclass
class Figures:
    """What the rounds of one side have found."""

    rates: list[float] = dataclasses.field(default_factory=list)
    commits: list[float] = dataclasses.field(default_factory=list)


def measure(
    empty: Side, large: Side, receiver: Receiver, options: argparse.Namespace
) -> dict[str, float]:
    found = {empty.name: Figures(), large.name: Figures()}
    counted, unsettled = Count(), 0
    for number in range(options.rounds + 1):  # the first one warms up
        # Each of them is first in turn: what comes second finds a warmer machine.
        for side in (empty, large) if number % 2 else (large, empty):
            if side is empty:
                side.empty()
            begin = side.last_event()
            commit = side.commits(options.commits)
            side.happen(options.deliveries - options.commits)
            receiver.forget()
            processes.burst(side.config)
            arrivals = receiver.arrivals()
            made, good = side.outcome(begin)
            assert len(made) == options.deliveries, len(made)
            counted += count(made, [arrival.id for arrival in arrivals])
            unsettled += len(made) - good
            print(
                f"  round {number or 'to warm up'}, {side.name}: {1000 * commit:.3f} ms per "
                f"commit, {rate(arrivals):,.0f} deliveries/s",
                flush=True,
            )
            if number:
                found[side.name].commits.append(commit)
                found[side.name].rates.append(rate(arrivals))
    rate_of = {name: statistics.median(figures.rates) for name, figures in found.items()}
    commit_of = {name: statistics.median(figures.commits) for name, figures in found.items()}
    return {
        "deliveries_per_second_empty": rate_of[empty.name],
        "deliveries_per_second_large": rate_of[large.name],
        "throughput_ratio": rate_of[large.name] / rate_of[empty.name],
        "commit_ms_empty": 1000 * commit_of[empty.name],
        "commit_ms_large": 1000 * commit_of[large.name],
        "commit_ratio": commit_of[large.name] / commit_of[empty.name],
        "lost": counted.lost,
        "twice": counted.twice,
        "unsettled": unsettled,
    }


def prepare(side: Side, size: Size, done: Path, before: Callable[[], None]) -> None:
    """Fill the tables of a side, if they are not filled yet.

    :param done: a file that says how large they are.
    :param before: called before a fill.
    """
    wanted = dataclasses.asdict(size)
    if done.exists():
        kept = json.loads(done.read_text())
        at = kept.pop("at")
        if kept != wanted:
            raise SystemExit(f"{done} says {kept}, and not {wanted}: remove its directory")
        if time.time() - at > large_tables.RETRIES_FROM * 86400:
            raise SystemExit(f"{done} is too old: its retries fall due; remove its directory")
    else:
        before()
        print(f"filling the {side.engine.dialect.name} tables", flush=True)
        large_tables.fill(side.engine, size, say)
        done.write_text(json.dumps({**wanted, "at": time.time()}))
    say(large_tables.sizes(side.engine))


def say(line: str) -> None:
    print(f"  {line}", flush=True)


def run(database: str, directory: Path, options: argparse.Namespace) -> dict[str, float]:
    redis_server = RedisServer()
    postgres = KeptPostgres(directory / "postgresql") if database == "postgresql" else None
    sides: dict[str, Side] = {}
    try:
        for name in ("large", "empty"):
            url = f"sqlite:///{directory / name}.db"
            if postgres is not None:
                url = postgres.url(name)
            sides[name] = Side(name, url, redis_server.url, options.lively)

        def alter(*changes: str) -> None:
            if postgres is not None:
                postgres.alter(*changes)
                for side in sides.values():
                    side.engine.dispose()

        large, empty = sides["large"], sides["empty"]
        size = Size(options.history, options.retries, options.subscriptions, options.lively)
        prepare(large, size, directory / f"{database}.json", lambda: alter(*FOR_THE_FILL))
        alter("RESET ALL")
        with receive() as receiver:
            large_tables.aim(large.engine, large.tables, size, receiver.url())
            empty.subscribe(receiver.url())
            return measure(empty, large, receiver, options)
    finally:
        for side in sides.values():
            side.engine.dispose()
        if postgres is not None:
            postgres.stop()
            postgres.close()
        redis_server.close()


def report(database: str, figures: dict[str, float]) -> bool:
    """Say what was measured; whether it is as it should be."""
    good = (
        figures["throughput_ratio"] >= THROUGHPUT
        and figures["commit_ratio"] <= COMMIT
        and not figures["lost"]
        and not figures["twice"]
        and not figures["unsettled"]
    )
    print(
        f"{database:10} {figures['deliveries_per_second_large']:,.0f} deliveries/s, "
        f"{figures['throughput_ratio']:.2f} times the empty tables' (at least {THROUGHPUT:.2f}); "
        f"{figures['commit_ms_large']:.2f} ms per commit, {figures['commit_ratio']:.2f} times the "
        f"empty tables' (at most {COMMIT:.2f}); {figures['lost']:.0f} lost, "
        f"{figures['twice']:.0f} twice, {figures['unsettled']:.0f} not settled: "
        f"{'as promised' if good else 'NOT as promised'}",
        flush=True,
    )
    return good


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--history", type=int, default=10_000_000, help="finished deliveries")
    parser.add_argument("--retries", type=int, default=1_000_000, help="that are not due")
    parser.add_argument("--subscriptions", type=int, default=100_000)
    parser.add_argument("--lively", type=int, default=100, help="owners with something happening")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--deliveries", type=int, default=10_000, help="of one round")
    parser.add_argument("--commits", type=int, default=1_000, help="one by one, of one round")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], help="this one alone")
    parser.add_argument("--keep", type=Path, help="directory of the filled databases")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    directory = options.keep or Path(tempfile.mkdtemp(prefix="resthooks-growth-", dir="/var/tmp"))
    directory.mkdir(parents=True, exist_ok=True)
    if os.getuid() == 0:
        directory.chmod(0o755)  # PostgreSQL does not run as root
    figures, good = {}, True
    try:
        for database in ("sqlite", "postgresql"):
            if options.database in (None, database):
                figures[database] = run(database, directory, options)
                good &= report(database, figures[database])
    finally:
        if options.keep is None:
            shutil.rmtree(directory, ignore_errors=True)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))
    sys.exit(not good)


if __name__ == "__main__":
    main()
