"""The laboratory: the rounds of a fault on one bench, and what came of them."""

from __future__ import annotations

import contextlib
import random
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import database_faults, disk, process_faults, server_faults
from .bench import Bench, Postgres, Redis
from .clock import STEP
from .fault import Fault

FAULTS: list[Fault] = [
    *process_faults.FAULTS,
    *server_faults.FAULTS,
    *database_faults.FAULTS,
]

QUIET_LIMIT = 60.0
"""Seconds after the last round within which everything has to have come: several leases."""

SHOWN = 10
"""Failures of each kind that are shown."""

LATE_AFTER = 20.0, 5.0
"""Seconds after which what has not come because of a wrong clock comes an hour later; in a short
form."""

TRACED_ROUNDS = 5
"""From so many rounds on, a fault must have left its trace in the logs."""


@dataclass(slots=True)
class Result:
    """What came of a fault on one database.

    :param duplicates: POSTs beyond the first of a `webhook-id`; `allowed`: the fault's bound.
    :param failures: all that must not be; empty: the fault did no harm.
    """

    fault: str
    database: str
    seed: int
    rounds: int
    transactions: int = 0
    refused: int = 0
    deliveries: int = 0
    lost: int = 0
    phantom: int = 0
    duplicates: int = 0
    allowed: int = 0
    worst_delay: float = 0.0
    seconds: float = 0.0
    remarks: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


class Laboratory:
    """Runs campaigns on its servers.

    :param postgres: is asked for when a campaign needs it.
    """

    def __init__(self, redis: Redis, postgres: Callable[[], Postgres]) -> None:
        self._redis = redis
        self._postgres = postgres

    def campaign(
        self,
        faults: Sequence[Fault],
        database: str,
        *,
        seed: int = 0,
        rounds: int = 20,
        short: bool = False,
        name: str | None = None,
    ) -> Result:
        """Inject faults that go together, in turns, and compare.

        The n-th round's transactions and choices come from the seed `seed + n` alone.

        :param rounds: of all of them together.
        """
        first = faults[0]
        result = Result(name or first.name, database, seed, rounds)
        start = time.monotonic()
        with contextlib.ExitStack() as stack:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-")))
            data, how = None, ""
            if any(fault.disk for fault in faults):
                data = home / "disk"
                how = stack.enter_context(disk.small(data))
                result.remarks.append(how)
            config = {name: value for fault in faults for name, value in fault.config.items()}
            bench = stack.enter_context(
                Bench(
                    database,
                    self._redis,
                    self._postgres,
                    home,
                    data=data,
                    disk=how,
                    config=config,
                    pause=first.pause,
                    short=short,
                )
            )
            for _ in range(first.workers):
                bench.start_worker(clock_ahead=0.0 if first.clock else None)
            try:
                for number in range(rounds):
                    _round(faults[number % len(faults)], bench, seed + number)
                    bench.do_later(all_of_it=False)
                for fault in faults:
                    fault.heal(bench)
                _come_to_rest(first, bench)
            except Exception:
                bench.wrong.append(f"the laboratory itself failed: {traceback.format_exc()}")
            _report(bench, faults, result)
        result.seconds = time.monotonic() - start
        return result


def _round(fault: Fault, bench: Bench, seed: int) -> None:
    chance = random.Random(f"{seed} {fault.name} {bench.database}")
    with bench.busy(f"{seed}", fault.lanes, fault.least):
        if fault.workers:
            bench.wait_for_hooks()
        fault.inject(bench, chance)


def _come_to_rest(fault: Fault, bench: Bench) -> None:
    """Until all has been sent; by a worker that nothing happens to."""
    if not fault.workers:
        bench.start_worker()
    quiet = bench.wait_until_quiet(LATE_AFTER[bench.short] if fault.clock else QUIET_LIMIT)
    if not quiet and fault.clock:
        # What a wrong clock had fall due later: everybody's clock is set to an hour later.
        bench.remarks.append(f"{bench.waiting()} as late as the clock was wrong")
        bench.workers[-1].end()
        bench.notebook.clock_ahead = STEP + 60
        bench.start_worker(clock_ahead=STEP + 60)
        quiet = bench.wait_until_quiet(QUIET_LIMIT)
    if not quiet:
        bench.wrong.append(f"not all was sent in the end: {bench.states()}")
    bench.do_later(all_of_it=True)


def _report(bench: Bench, faults: Sequence[Fault], result: Result) -> None:
    result.transactions, result.refused = bench.traffic.done, bench.traffic.refused
    compared, result.allowed = bench.compare()
    result.deliveries = compared.deliveries
    result.lost, result.phantom = len(compared.lost), len(compared.phantom)
    result.duplicates, result.worst_delay = compared.duplicates, compared.worst_delay
    if faults[0].workers:
        worker = bench.workers[-1]
        if not worker.running:
            bench.wrong.append(f"the worker ended by itself: {worker.status}")
        elif (status := worker.end()) != 0:
            bench.wrong.append(f"the worker did not end well when asked to: {status}")
    if result.rounds >= TRACED_ROUNDS * len(faults):
        said = bench.said()
        for fault in faults:
            if fault.trace and not any(text in said for text in fault.trace):
                bench.wrong.append(f"no trace of the fault in the logs: {fault.name}")
    if not compared.deliveries:
        bench.wrong.append("nothing was committed")
    result.remarks += bench.remarks
    for what in (compared.lost, compared.phantom, compared.wrong, compared.beyond):
        result.failures += what[:SHOWN]
    result.failures += bench.traffic.wrong + bench.wrong
    if result.failures:
        result.failures.append("the logs end:\n" + bench.said()[-3000:])


def named(name: str) -> Fault:
    """:raises LookupError: if there is none of that name."""
    for fault in FAULTS:
        if fault.name.casefold() == name.casefold():
            return fault
    raise LookupError(f"there is no fault {name!r}; --list shows them")


def of_family(family: str, database: str) -> list[Fault]:
    return [fault for fault in FAULTS if fault.family == family and database in fault.databases]
