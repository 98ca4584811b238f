"""The table of what was measured, for the terminal and for the documentation."""

from __future__ import annotations

import os
import platform
import sqlite3
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from .laboratory import FAULTS, Result

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "faults.md"

COLUMNS = (
    "fault",
    "database",
    "rounds",
    "deliveries",
    "lost",
    "phantom",
    "twice",
    "explained",
    "worst delay",
)

HEAD = """\
# Faults

<!-- Made by `make faults`: do not edit. -->

`make faults` breaks everything around the hooks, and counts. A seeded workload (random transactions
of several owners, savepoints and rollbacks included) is committed by a web process, which keeps a
ledger of its own in the same transactions. Nine subscriptions want parts of it. A fault is then
injected, again and again. At the end all that is in the ledger is compared with what the receivers
got, by `webhook-id`, signatures and bodies included. The processes, Redis, PostgreSQL, SQLite and
sockets are real ones.

* **deliveries**: what had to come: one for each event and subscription that wants it.
* **lost**: what was committed and did not come. **phantom**: what came and was never committed.
* **twice**: POSTs beyond the first one of a `webhook-id` at a subscription. What was sent and
  not settled when its worker died has to be sent again: whether it arrived, nobody knows.
* **explained**: how many of them the fault explains; each one must be explained for itself. What
  explains them is said below.
* **worst delay**: seconds from the commit to the first receipt, the time that the fault lasted
  included. The settings are short ones: a timeout of 4 s, a lease of 15 s, a sweep each second.

The command fails if anything is lost or phantom, if one POST too many is not explained, if a
signature does not verify, if a body differs from the first time, or if a worker that nobody killed
has ended.

"""


def order(results: Sequence[Result]) -> list[Result]:
    names = [fault.name for fault in FAULTS]
    return sorted(results, key=lambda result: (names.index(result.fault), result.database))


def rows(results: Sequence[Result]) -> list[tuple[str, ...]]:
    return [
        (
            result.fault,
            "SQLite" if result.database == "sqlite" else "PostgreSQL",
            f"{result.rounds}",
            f"{result.deliveries:,}",
            f"{result.lost}",
            f"{result.phantom}",
            f"{result.duplicates}",
            f"{result.allowed}",
            f"{result.worst_delay:.1f}",
        )
        for result in results
    ]


def as_text(results: Sequence[Result]) -> str:
    """For the terminal."""
    lines = [COLUMNS, *rows(results)] if len(results) > 1 else rows(results)
    widths = (50, 10, 6, 10, 4, 7, 5, 9, 11)
    return "\n".join(
        "  ".join(
            cell.ljust(width) if number < 2 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def as_page(results: Sequence[Result], seconds: float, seed: int) -> str:
    """For the documentation."""
    results = order(results)
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows(results)]
    table = "\n".join(lines)
    kills = sum(r.rounds for r in results if r.fault.startswith("worker killed"))
    totals = (
        f"In all {sum(r.rounds for r in results):,} rounds, {kills} of them kills of the worker; "
        f"{sum(r.transactions for r in results):,} transactions and "
        f"{sum(r.deliveries for r in results):,} deliveries: "
        f"{sum(r.lost for r in results)} lost, {sum(r.phantom for r in results)} phantom."
    )
    remarks = "".join(
        f"* {result.fault}, {row[1]}: {'; '.join(result.remarks)}.\n"
        for result, row in zip(results, rows(results), strict=True)
        if result.remarks
    )
    measured = {result.fault for result in results}
    meanings = "".join(
        f"| {fault.name} | {fault.what} | {fault.explains} |\n"
        for fault in FAULTS
        if fault.name in measured
    )
    return (
        f"{HEAD}## Measured\n\n{table}\n\n{totals}\n\n{remarks}\n{_machine(seconds, seed)}\n"
        "## What is done\n\n| fault | each round | explained are |\n| --- | --- | --- |\n"
        f"{meanings}\n{TAIL}"
    )


TAIL = """\
A worker kills itself at a named point: the laboratory's own entry wraps the product's methods,
which have no hooks for it. A stepped clock is that of the worker process alone: `time.time`, and
`datetime.now` where flask_resthooks and RQ tell the time; due times on PostgreSQL are told by the
database's clock. With SQLite there is no other clock than the machine's: hooks that go out while it
is wrong have a timestamp that receivers refuse (these do), and come later.

## One again

Each round has a seed, the next one's is greater by one. `python -m tests.faults --list` shows the
names;

```sh
python -m tests.faults --fault "worker killed at random" --database sqlite --seed 7 --rounds 1
```

does the eighth round of that fault again: its transactions, and where it strikes. When exactly the
processes come to it is the machine's.
"""


def _machine(seconds: float, seed: int) -> str:
    return (
        f"Seeds from {seed}, in {seconds / 60:.0f} minutes, on {os.cpu_count()} CPUs "
        f"({platform.machine()}, {platform.system()}), Python {platform.python_version()}, "
        f"SQLAlchemy {version('sqlalchemy')}, SQLite {sqlite3.sqlite_version}, "
        f"RQ {version('rq')}.\n"
    )


def write(results: Sequence[Result], seconds: float, seed: int) -> None:
    PAGE.write_text(as_page(results, seconds, seed))
