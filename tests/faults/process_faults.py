"""Faults of our own processes: workers and web servers that are killed, suspended, misled."""

from __future__ import annotations

import functools
import random
import signal
import sqlite3
import time

import sqlalchemy as sa

from .bench import SETTINGS, Bench
from .crashes import WEB_POINTS, WORKER_POINTS
from .fault import UNSETTLED, Fault
from .processes import Child, Worker

DEATH_LIMIT = 40.0
"""Seconds in which a process has to come to the point where it dies."""

RESUMED_AFTER = SETTINGS["RESTHOOKS_LEASE"] + 1.0
"""Seconds after which a suspended worker goes on: its leases are over."""


def _await_death(bench: Bench, child: Child, point: str) -> None:
    if not child.wait(DEATH_LIMIT):
        child.kill()
        bench.wrong.append(f"never came to the point: {point}")
    elif child.status != -signal.SIGKILL:
        bench.wrong.append(f"ended by itself ({child.status}) before it came to: {point}")


def kill_at_random(bench: Bench, chance: random.Random) -> None:
    worker = bench.start_worker()
    bench.wait_for_hooks()
    bench.sleep(chance, 0.0, 0.4)
    worker.kill()
    bench.expose()


def kill_at(point: str, bench: Bench, chance: random.Random) -> None:
    worker = bench.start_worker(crash=(point, chance.randint(1, 4)))
    _await_death(bench, worker, point)
    bench.expose()


def kill_web(bench: Bench, chance: random.Random) -> None:
    bench.sleep(chance, 0.05, 0.5)
    bench.restart_web()


def kill_web_at(point: str, bench: Bench, chance: random.Random) -> None:
    bench.restart_web(crash=(point, chance.randint(1, 8)))
    _await_death(bench, bench.web, point)
    bench.restart_web()


def suspend(bench: Bench, chance: random.Random) -> None:
    """Suspend a worker past its leases; the next round's takes over, or the one of the end.

    Rounds overlap: each suspended worker sleeps on while others work. Not inside of a
    transaction on SQLite, where it would hold the lock of the one writer: that is another fault.
    """
    sleeper = bench.start_worker()
    bench.wait_for_hooks()
    while True:
        bench.sleep(chance, 0.0, 0.3)
        sleeper.signal(signal.SIGSTOP)
        time.sleep(0.02)  # until it has stopped
        # In this order: who holds SQLite's lock may keep others from reading, too.
        if _nobody_works_on_the_database(bench) and bench.claimed():
            break
        sleeper.signal(signal.SIGCONT)
    bench.expose(unsent=True)
    bench.later.append((time.monotonic() + RESUMED_AFTER, functools.partial(_resume, sleeper)))


def _resume(sleeper: Worker) -> None:
    """Go on, with leases that are over, and be asked to stop a moment later."""
    sleeper.signal(signal.SIGCONT)
    time.sleep(0.3)
    sleeper.signal(signal.SIGTERM)


def _nobody_works_on_the_database(bench: Bench) -> bool:
    if bench.database == "postgresql":
        question = sa.text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND state = 'idle in transaction'"
        )
        with bench.engine.connect() as connection:
            return not connection.scalar(question)
    writer = sqlite3.connect(str(bench.data / "faults.db"), timeout=0.3)
    try:
        writer.execute("BEGIN EXCLUSIVE")  # without a write-ahead log, readers count as well
        writer.rollback()
    except sqlite3.OperationalError:
        return False
    finally:
        writer.close()
    return True


def step(there: signal.Signals, back: signal.Signals, bench: Bench, chance: random.Random) -> None:
    """Step the worker's clock, and after a moment step it back."""
    worker = bench.workers[-1]
    bench.sleep(chance, 0.0, 0.3)
    worker.signal(there)
    bench.sleep(chance, 0.3, 0.8)
    worker.signal(back)
    bench.sleep(chance, 0.2, 0.5)


def nothing(bench: Bench, chance: random.Random) -> None:
    bench.sleep(chance, 0.2, 0.4)


FAULTS = [
    Fault(
        "two workers",
        "none",
        "no fault: two workers share the work",
        nothing,
        workers=2,
        lanes=3,
        pause=0.01,
    ),
    Fault(
        "worker killed at random",
        "kills",
        "SIGKILL at any moment after its first POST",
        kill_at_random,
        explains=UNSETTLED,
        workers=0,
    ),
    *(
        Fault(
            f"worker killed {point}",
            "kills",
            "SIGKILL at the first to fourth passing of that point",
            functools.partial(kill_at, point),
            explains=UNSETTLED,
            workers=0,
        )
        for point in WORKER_POINTS
    ),
    Fault(
        "web killed at random",
        "web",
        "SIGKILL of the web process while clients commit",
        kill_web,
        lanes=3,
        pause=0.005,
    ),
    *(
        Fault(
            f"web killed {point}",
            "web",
            "SIGKILL of the web process at the first to eighth passing of that point",
            functools.partial(kill_web_at, point),
            lanes=3,
            pause=0.005,
        )
        for point in WEB_POINTS
    ),
    Fault(
        "worker suspended",
        "suspension",
        "SIGSTOP with claims in hand, SIGCONT when its leases are over and another worker has "
        "taken over",
        suspend,
        explains="what the suspended workers had claimed",
        workers=0,
    ),
    Fault(
        "clock +1 h",
        "clock",
        "the worker's clock is stepped by an hour while it works, and back",
        functools.partial(step, signal.SIGUSR1, signal.SIGUSR2),
        clock=True,
    ),
    Fault(
        "clock -1 h",
        "clock",
        "the worker's clock is set back by an hour while it works, and forth again",
        functools.partial(step, signal.SIGUSR2, signal.SIGUSR1),
        clock=True,
    ),
]
