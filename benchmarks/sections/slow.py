"""Receivers that take 100 ms for every answer, with 500 POSTs in flight."""

from __future__ import annotations

from harness import baselines
from harness.bench import Bench
from harness.receivers import receive
from harness.results import Sample, Section, least, median, ratio, rounds
from harness.sender import EVENT_LOOP

DELAY, IN_FLIGHT = 0.1, 500
DELIVERIES, JOBS = 20_000, 30


def measure(bench: Bench) -> Section:
    kind = bench.databases[0]
    with receive(delay=DELAY) as receiver:
        settings = {"RESTHOOKS_TRANSPORT": EVENT_LOOP, "RESTHOOKS_CONCURRENCY": IN_FLIGHT}
        with bench.sender(kind, **settings) as sender:
            sender.subscribe(receiver.url())
            ours, job = f"`{EVENT_LOOP}`, {IN_FLIGHT} in flight", "an RQ job per delivery"
            found = rounds(
                bench.rounds,
                {
                    ours: lambda: Sample(*sender.deliver(receiver, bench.some(DELIVERIES))),
                    job: lambda: baselines.job_per_delivery(
                        bench, receiver, bench.some(JOBS), baselines.DEFAULT
                    ),
                },
            )
    figures = [median(name, samples, "/s") for name, samples in found.items()]
    bar = least(200)
    figures.append(ratio(f"answers after 100 ms: {ours} / {job}", found[ours], found[job], bar))
    return Section(figures)
