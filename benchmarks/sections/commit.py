"""What a commit costs with flask_resthooks, tracked and not; and a request that only reads."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable
from typing import Any

import bench_app
import flask
import sqlalchemy as sa
from flask_sqlalchemy import SQLAlchemy
from harness import processes
from harness.bench import DATABASES, Bench
from harness.counting import Count, count
from harness.receivers import receive
from harness.results import Figure, Sample, Section, median, most, ratio, rounds
from harness.sender import EVENT_LOOP, Sender, counted

COMMITS, OBJECTS, READS = 50, 1_000, 100
WARMING_UP = 10
"""Commits that are not timed: the first ones after a pause of the disk are slower."""

FILLING = 100
"""Times that so many objects are written before: a log of SQLite's that still grows is slower."""

ROUNDS = 3
"""Times as many as of others: they are short, and a disk has its moods."""

BARE, UNTRACKED, TRACKED = "without flask_resthooks", "not tracked", "tracked"
BARS = {"sqlite": 2.0, "postgresql": 1.6}

Of = tuple[flask.Flask, SQLAlchemy, Any]
"""An app, its database, a model."""


def measure(bench: Bench) -> Section:
    figures: list[Figure] = []
    sent = Count()
    with receive() as receiver:
        for kind in bench.databases:
            with bench.sender(kind, RESTHOOKS_TRANSPORT=EVENT_LOOP) as sender:
                sender.subscribe(receiver.url())
                figures += _of_database(bench, kind, sender)
                event = sender.tables.event
                with sender.engine.connect() as connection:
                    made = list(connection.scalars(sa.select(event.c.id)))
                receiver.forget()
                processes.burst(sender.config)
                sent += counted(made, receiver).check("what was committed")
    note = (
        f"{ROUNDS * bench.rounds} rounds. The events that these commits made were sent then: "
        f"{sent.wanted:,}, of which {sent.lost} were lost and {sent.twice} came twice."
    )
    return Section(figures, notes=[note])


def _of_database(bench: Bench, kind: str, sender: Sender) -> list[Figure]:
    database = DATABASES[kind]
    some = bench.some
    acts: dict[str, Callable[[], Sample]] = {}
    with contextlib.ExitStack() as stack:
        apps = _apps(bench, kind, sender, stack)
        for name, of in apps.items():
            add = _counting(sender, _commits, of, some(COMMITS))
            acts[f"{database}: a commit, {name}"] = add
        for name in (BARE, TRACKED):
            of = apps[name]
            acts[f"{database}: 1,000 by `add_all`, {name}"] = _counting(
                sender, _add_all, of, some(OBJECTS)
            )
            acts[f"{database}: 1,000 by `insert()`, {name}"] = _counting(
                sender, _insert, of, some(OBJECTS)
            )
        reading = {BARE: apps[BARE], "with flask_resthooks": apps[TRACKED]}
        for name, of in reading.items():
            acts[f"{database}: a request that reads, {name}"] = _reads(of, some(READS))
        for act in acts.values():  # what is made once for many is made now
            act()
        # Side by side: where the system has processes run after other work is a matter of luck.
        commits = [name for name in acts if "a commit" in name]
        found = rounds(ROUNDS * bench.rounds, {name: acts.pop(name) for name in commits})
        found |= rounds(ROUNDS * bench.rounds, acts)
    figures = [median(name, samples, "ms", 1000) for name, samples in found.items()]

    def compared(what: str, name: str, limit: float | None) -> Figure:
        bar = None if limit is None else most(limit)
        samples = found[f"{database}: {what}, {name}"]
        return ratio(
            f"{database}: {what}, {name} / without",
            samples,
            found[f"{database}: {what}, {BARE}"],
            bar,
        )

    return [
        *figures,
        compared("a commit", TRACKED, BARS[kind]),
        compared("a commit", UNTRACKED, None),
        compared("1,000 by `add_all`", TRACKED, 1.8),
        compared("1,000 by `insert()`", TRACKED, None),
        compared("a request that reads", "with flask_resthooks", None),
    ]


def _apps(bench: Bench, kind: str, sender: Sender, stack: contextlib.ExitStack) -> dict[str, Of]:
    app, database, model = bench_app.without_hooks(bench.database_url(kind))
    with app.app_context():
        database.create_all()
        stack.callback(database.engine.dispose)
        if kind == "sqlite":  # as a worker has it for the other one
            with database.engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    untracked = (sender.app, sender.db, bench_app.Untracked)
    for of in ((app, database, model), untracked):
        with of[0].app_context():
            for _ in range(FILLING):
                _insert(of[1], of[2], bench.some(OBJECTS))
    return {
        BARE: (app, database, model),
        UNTRACKED: untracked,
        TRACKED: (sender.app, sender.db, bench_app.Tracked),
    }


def _counting(
    sender: Sender, act: Callable[[SQLAlchemy, Any, int], float], of: Of, number: int
) -> Callable[[], Sample]:
    """An act in its app, and whether each record of the tracked model has one event."""
    app, database, model = of
    event = sender.tables.event

    def counted_act() -> Sample:
        if model is bench_app.Tracked:
            sender.wake()  # so that the commits find a wake-up pending
        with app.app_context():
            newest = database.session.scalar(sa.select(sa.func.max(model.id))) or 0
            before = sender.number(sa.select(sa.func.max(event.c.sequence)))
            database.session.remove()
            gc.collect()  # else whose turn it is to clean up after all would be by chance
            seconds = act(database, model, number)
            if model is not bench_app.Tracked:
                return Sample(seconds)
            made = database.session.scalars(sa.select(model.id).where(model.id > newest))
            wanted = [f"contact:{id_}" for id_ in made]
            database.session.remove()
        with sender.engine.connect() as connection:
            since = sa.select(event.c.resource).where(event.c.sequence > before)
            return Sample(seconds, count(wanted, connection.scalars(since)))

    return counted_act


def _values(number: int) -> dict[str, Any]:
    return {"account_id": 1, "name": f"Ada {number}", "email": "ada@example.com", "city": "London"}


def _commits(database: SQLAlchemy, model: Any, number: int) -> float:
    """Seconds per commit of one new record, of those after the first few."""
    _commit_each(database, model, WARMING_UP)
    start = time.perf_counter()
    _commit_each(database, model, number)
    return (time.perf_counter() - start) / number


def _commit_each(database: SQLAlchemy, model: Any, number: int) -> None:
    for n in range(number):
        database.session.add(model(**_values(n)))
        database.session.commit()


def _add_all(database: SQLAlchemy, model: Any, number: int) -> float:
    """Seconds for so many new records in one commit."""
    start = time.perf_counter()
    database.session.add_all(model(**_values(n)) for n in range(number))
    database.session.commit()
    return time.perf_counter() - start


def _insert(database: SQLAlchemy, model: Any, number: int) -> float:
    """The same by one statement."""
    start = time.perf_counter()
    database.session.execute(sa.insert(model), [_values(n) for n in range(number)])
    database.session.commit()
    return time.perf_counter() - start


def _reads(of: Of, number: int) -> Callable[[], Sample]:
    """Seconds per request of a view that runs a query."""
    client = of[0].test_client()

    def act() -> Sample:
        gc.collect()
        start = time.perf_counter()
        for _ in range(number):
            assert client.get("/contacts").status_code == 200
        return Sample((time.perf_counter() - start) / number)

    return act
