"""One delivery taken apart: microseconds of processor for each step of a drain."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from typing import Any

from harness import BENCHMARKS, processes
from harness.bench import DATABASES, Bench
from harness.counting import Count
from harness.receivers import Receiver, receive
from harness.results import Figure, Sample, Section, rounds, total
from harness.sender import EVENT_LOOP, Sender, counted

DELIVERIES = 20_000
MOST_ROUNDS = 3

Found = dict[str, list[float]]


def measure(bench: Bench) -> Section:
    found: dict[str, Found] = {kind: {} for kind in bench.databases}
    figures: list[Figure] = []
    counts: dict[str, Count] = {}
    with receive() as receiver:
        for kind in bench.databases:
            with bench.sender(kind, RESTHOOKS_TRANSPORT=EVENT_LOOP) as sender:
                sender.subscribe(receiver.url())
                act = _Act(bench, sender, receiver, found[kind])
                samples = rounds(min(bench.rounds, MOST_ROUNDS), {DATABASES[kind]: act})
                counts[kind] = total(samples[DATABASES[kind]])
    for kind, parts in found.items():
        figures += [
            Figure(f"{DATABASES[kind]}: {part}", statistics.median(some), "µs", counts[kind], some)
            for part, some in parts.items()
        ]
    return Section(figures)


class _Act:
    """A drain in a process of its own, `taken_apart.py`."""

    def __init__(self, bench: Bench, sender: Sender, receiver: Receiver, found: Found) -> None:
        self._bench = bench
        self._sender = sender
        self._receiver = receiver
        self._found = found

    def __call__(self) -> Sample:
        sender, bench = self._sender, self._bench
        sender.empty()
        made = sender.fill(bench.some(DELIVERIES))
        self._receiver.forget()
        postgres = None if sender.engine.dialect.name == "sqlite" else bench.postgres
        pid = None if postgres is None else postgres.pid
        before = processes.cpu(pid) if pid else 0.0
        done = subprocess.run(
            [sys.executable, str(BENCHMARKS / "taken_apart.py")],
            cwd=BENCHMARKS,
            env={**os.environ, **processes.environment(sender.config)},
            stdout=subprocess.PIPE,
            check=True,
        )
        seconds: dict[str, Any] = json.loads(done.stdout)
        whole = "together"
        if pid:
            seconds["PostgreSQL's own processes"] = processes.cpu(pid) - before
        seconds[whole] = sum(seconds.values())
        for part, spent in seconds.items():
            self._found.setdefault(part, []).append(1e6 * spent / len(made))
        return Sample(self._found[whole][-1], counted(made, self._receiver))
