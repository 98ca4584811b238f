"""A worker's memory over a million deliveries."""

from __future__ import annotations

import time

from harness.bench import DATABASES, Bench
from harness.processes import rss, working
from harness.receivers import receive
from harness.results import Figure, Section, most
from harness.sender import EVENT_LOOP, counted

PORTION = 50_000
"""Events that are made at once, when those before have been delivered."""

MARKS = (50_000, 250_000, 500_000, 1_000_000)
LOOK_PAUSE = 0.5
LIMIT = 600.0
"""Seconds for a portion."""


def measure(bench: Bench) -> Section:
    kind = bench.databases[0]
    whole = bench.some(bench.memory)
    portion = min(PORTION, whole)
    made: list[str] = []
    at: dict[int, float] = {}
    highest = 0.0
    with (
        receive() as receiver,
        bench.sender(kind, RESTHOOKS_TRANSPORT=EVENT_LOOP) as sender,
    ):
        sender.subscribe(receiver.url())
        receiver.forget()
        with working(sender.config) as worker:
            while len(made) < whole:
                made += sender.fill(min(portion, whole - len(made)))
                sender.wake()
                end = time.monotonic() + LIMIT
                while receiver.came() < len(made):
                    assert time.monotonic() < end, f"{receiver.came():,} of {len(made):,} came"
                    highest = max(highest, rss(worker.pid))
                    time.sleep(LOOK_PAUSE)
                if len(made) in MARKS or len(made) == whole:
                    at[len(made)] = rss(worker.pid)
                    print(f"  after {len(made):,}: {at[len(made)]:.1f} MB", flush=True)
            sender.wait_until_settled()
            counts = counted(made, receiver).check("memory")
    first, last = min(at), max(at)
    figures = [
        Figure(f"a worker's memory after {number:,} deliveries", mb, "MB", counts, bar=most(150))
        for number, mb in at.items()
    ]
    figures.append(Figure("at most, at any time", max(highest, *at.values()), "MB", counts))
    if last > first:
        figures.append(
            Figure(f"after {last:,} / after {first:,}", at[last] / at[first], "", counts)
        )
    note = (
        f"{DATABASES[kind]}; {portion:,} events at a time, copies of one that a commit had made, "
        f"written when those before had come. What was delivered stays in the tables."
    )
    return Section(figures, notes=[note])
