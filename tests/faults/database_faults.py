"""Faults of PostgreSQL and of SQLite."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from . import disk
from .bench import Bench
from .fault import WINDOW, Fault

FROZEN = 10.0
"""Seconds that PostgreSQL is frozen."""

UP_LIMIT = 30.0
"""Seconds in which PostgreSQL has to be up again after a crash."""


def restart(bench: Bench, chance: random.Random) -> None:
    bench.sleep(chance, 0.0, 0.3)
    with bench.exposed():
        bench.postgres.stop()
        bench.sleep(chance, 0.0, 0.6)
        bench.postgres.start()


def crash(bench: Bench, chance: random.Random) -> None:
    """SIGKILL of one server process: PostgreSQL ends all others and recovers from its log."""
    bench.sleep(chance, 0.0, 0.3)
    with bench.exposed():
        with bench.engine.connect() as connection:
            clients = connection.scalars(_CLIENTS).all()
        if clients:
            with contextlib.suppress(ProcessLookupError):
                os.kill(chance.choice(sorted(clients)), signal.SIGKILL)
        time.sleep(0.1)
        _wait_until_up(bench)


_CLIENTS = sa.text(
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
    " AND pid <> pg_backend_pid()"
)


def _wait_until_up(bench: Bench) -> None:
    until = time.monotonic() + UP_LIMIT
    while time.monotonic() < until:
        with contextlib.suppress(sa.exc.OperationalError), bench.engine.connect():
            return
        time.sleep(0.05)
    bench.wrong.append("PostgreSQL did not come up again")


def cut(bench: Bench, chance: random.Random) -> None:
    """End all connections, three times a round."""
    ending = sa.text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    with bench.exposed():
        for _ in range(3):
            bench.sleep(chance, 0.02, 0.3)
            with bench.engine.connect() as connection:
                connection.execute(ending).all()


def freeze(bench: Bench, chance: random.Random) -> None:
    bench.sleep(chance, 0.0, 0.3)
    with bench.exposed():
        stopped = _stop_all(bench)
        time.sleep(1.5 if bench.short else FROZEN)
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _stop_all(bench: Bench) -> list[int]:
    """SIGSTOP to the server and all its processes: the first one first, for it forks the others."""
    first = int((bench.postgres.directory / "data" / "postmaster.pid").read_text().split()[0])
    os.kill(first, signal.SIGSTOP)
    children = [pid for pid, parent in _parents() if parent == first]
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    return [*children, first]


def _parents() -> list[tuple[int, int]]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            found.append((int(stat.parent.name), int(fields[1])))
    return found


def deadlock(bench: Bench, chance: random.Random) -> None:
    """Lock what is being sent in the order opposite to a settle's; the settle is the victim."""
    sending = sa.text(
        "SELECT id FROM resthooks_delivery WHERE status = 'sending' ORDER BY id DESC LIMIT 40"
    )
    lock = sa.text("SELECT id FROM resthooks_delivery WHERE id = :id FOR UPDATE")
    until = time.monotonic() + chance.uniform(0.6, 1.2)
    with bench.exposed(), bench.engine.connect() as connection:
        connection.execute(sa.text("SET deadlock_timeout = '5s'"))
        connection.commit()
        while time.monotonic() < until:
            with contextlib.suppress(sa.exc.OperationalError), connection.begin():
                for id_ in connection.scalars(sending).all():
                    connection.execute(lock, {"id": id_})
            time.sleep(0.01)


def lock_tables(bench: Bench, chance: random.Random) -> None:
    """Nobody can write for longer than a statement may take."""
    table = chance.choice(["resthooks_delivery", "resthooks_event", "resthooks_attempt"])
    with bench.exposed(), bench.engine.begin() as connection:
        connection.exec_driver_sql(f"LOCK TABLE {table} IN SHARE MODE")
        bench.sleep(chance, 0.3, 0.8)


def contend(bench: Bench, chance: random.Random) -> None:
    bench.sleep(chance, 0.5, 1.0)


def write_for_long(bench: Bench, chance: random.Random) -> None:
    """One in seven is longer than we wait for a lock."""
    very_long = not bench.short and chance.random() < 1 / 7
    bench.sleep(chance, 0.0, 0.3)
    connection = sqlite3.connect(str(bench.data / "faults.db"), timeout=20, isolation_level=None)
    try:
        with bench.exposed():
            connection.execute("BEGIN IMMEDIATE")
            time.sleep(9.0 if very_long else chance.uniform(0.5, 2.0))
            connection.rollback()
    finally:
        connection.close()


def fill_disk(bench: Bench, chance: random.Random) -> None:
    """Fill the disk; whoever wants to write more finds no room."""
    bench.sleep(chance, 0.0, 0.3)
    with bench.exposed(), _full(bench):
        bench.sleep(chance, 0.5, 1.2)


@contextlib.contextmanager
def _full(bench: Bench) -> Iterator[None]:
    if bench.disk == disk.LIMIT:
        pids = [bench.web.pid, *(worker.pid for worker in bench.workers)]
        with disk.no_growth(pids, bench.data.glob("faults.db*")):
            yield
        return
    filler, stop = bench.data / "filler", threading.Event()
    filling = threading.Thread(target=_fill, args=(filler, stop), daemon=True)
    filling.start()
    try:
        yield
    finally:
        stop.set()
        filling.join()
        filler.unlink()


def _fill(filler: Path, stop: threading.Event) -> None:
    """Again and again: what a checkpoint gives free is taken, too."""
    with filler.open("ab", buffering=0) as file:
        while not stop.wait(0.01):
            for size in (65536, 4096, 256):
                with contextlib.suppress(OSError):
                    while file.write(bytes(size)) == size:
                        pass


POSTGRESQL = ("postgresql",)
SQLITE = ("sqlite",)

FAULTS = [
    Fault(
        "PostgreSQL restarted",
        "postgresql",
        "a fast shutdown, and back within a second",
        restart,
        explains=WINDOW,
        databases=POSTGRESQL,
        trace=("terminating connection", "server closed the connection", "Connection refused"),
    ),
    Fault(
        "PostgreSQL crashed",
        "postgresql",
        "SIGKILL of a server process: all connections break, and it recovers from its log",
        crash,
        explains=WINDOW,
        databases=POSTGRESQL,
        trace=("terminating connection", "server closed the connection", "recovery mode"),
    ),
    Fault(
        "PostgreSQL connections cut",
        "postgresql",
        "`pg_terminate_backend` for all of them, three times a round",
        cut,
        explains=WINDOW,
        databases=POSTGRESQL,
        trace=("terminating connection",),
    ),
    Fault(
        "PostgreSQL frozen",
        "postgresql",
        f"SIGSTOP of all its processes for {FROZEN:g} s",
        freeze,
        explains=WINDOW,
        databases=POSTGRESQL,
    ),
    Fault(
        "PostgreSQL deadlocks",
        "postgresql",
        "a competing session locks the rows of a settle in the opposite order",
        deadlock,
        explains=WINDOW,
        databases=POSTGRESQL,
        trace=("deadlock detected",),
    ),
    Fault(
        "PostgreSQL serialization failures",
        "postgresql",
        "the app's isolation is SERIALIZABLE, and its transactions change one row",
        contend,
        databases=POSTGRESQL,
        lanes=3,
        pause=0.0,
        config={
            "SQLALCHEMY_ENGINE_OPTIONS": {"isolation_level": "SERIALIZABLE"},
            "CONTENDED": True,
        },
        trace=("could not serialize access",),
    ),
    Fault(
        "PostgreSQL statement_timeout",
        "postgresql",
        "150 ms, while another session locks one of our tables for up to 0.8 s",
        lock_tables,
        explains=WINDOW,
        databases=POSTGRESQL,
        config={
            "SQLALCHEMY_ENGINE_OPTIONS": {"connect_args": {"options": "-c statement_timeout=150"}}
        },
        trace=("statement timeout",),
    ),
    Fault(
        "SQLite locked",
        "sqlite",
        "another writer holds the lock for up to 2 s, one in seven for 9 s",
        write_for_long,
        explains=WINDOW,
        databases=SQLITE,
        config={"SQLALCHEMY_ENGINE_OPTIONS": {"connect_args": {"timeout": 1}}},
        trace=("database is locked",),
    ),
    Fault(
        "SQLite disk full",
        "sqlite",
        "its disk, a small tmpfs, is filled for up to 1.2 s",
        fill_disk,
        explains=WINDOW,
        databases=SQLITE,
        disk=True,
        trace=("disk is full", "disk I/O error"),
    ),
]
