"""Deliveries a second of one worker, beside bare loops and beside one RQ job per delivery."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from harness import baselines
from harness.bench import DATABASES, Bench
from harness.receivers import Receiver, receive
from harness.results import Figure, Sample, Section, least, median, ratio, rounds
from harness.sender import EVENT_LOOP, Sender

DELIVERIES, REQUESTS_DELIVERIES = 20_000, 10_000
"""Of a round: by the event loop, by threads."""

POSTS = {"session": 4_000, "aiohttp": 20_000}
JOBS = {"SimpleWorker": 200, "default worker": 60}
SECONDS = "/s"


def measure(bench: Bench) -> Section:
    with contextlib.ExitStack() as stack:
        receiver = stack.enter_context(receive())
        acts, concurrency = _acts(bench, receiver, stack)
        found = rounds(bench.rounds, acts)
    figures = [median(name, samples, SECONDS) for name, samples in found.items()]
    session, jobs = "bare `requests.Session`", "an RQ job per delivery, default worker"
    for kind in bench.databases:
        database = DATABASES[kind]
        if (mine := found.get(f"`{EVENT_LOOP}`, {database}")) and EVENT_LOOP != "requests":
            name = f"`{EVENT_LOOP}`, {database}"
            bar = least(4.0 if kind == "sqlite" else 3.0)
            figures.append(ratio(f"{name} / {session}", mine, found[session], bar))
            if kind == "sqlite":
                bar = least(0.6)
                figures.append(ratio(f"{name} / bare aiohttp", mine, found["bare aiohttp"], bar))
            figures.append(ratio(f"{name} / {jobs}", mine, found[jobs], least(100)))
        name = f"`requests`, {database}"
        bar = least(1.3)
        figures.append(ratio(f"{name} / {session}", found[name], found[session], bar))
    return Section(figures, notes=_notes(bench, receiver, concurrency, figures))


def _acts(
    bench: Bench, receiver: Receiver, stack: contextlib.ExitStack
) -> tuple[dict[str, Callable[[], Sample]], int]:
    acts: dict[str, Callable[[], Sample]] = {}
    concurrency = 0
    for kind in bench.databases:
        sender = stack.enter_context(bench.sender(kind, RESTHOOKS_TRANSPORT=EVENT_LOOP))
        sender.subscribe(receiver.url())
        concurrency = sender.plant.settings.concurrency
        for transport in dict.fromkeys((EVENT_LOOP, "requests")):
            number = REQUESTS_DELIVERIES if transport == "requests" else DELIVERIES
            act = _act(sender, receiver, transport, bench.some(number))
            acts[f"`{transport}`, {DATABASES[kind]}"] = act
    posts = {name: bench.some(number) for name, number in POSTS.items()}
    acts["bare `requests.Session`"] = lambda: baselines.session(receiver, posts["session"])
    acts["bare aiohttp"] = lambda: baselines.aiohttp_loop(receiver, posts["aiohttp"], concurrency)
    jobs = {name: bench.some(number) for name, number in JOBS.items()}
    acts["an RQ job per delivery, `SimpleWorker`"] = lambda: baselines.job_per_delivery(
        bench, receiver, jobs["SimpleWorker"], baselines.SIMPLE
    )
    acts["an RQ job per delivery, default worker"] = lambda: baselines.job_per_delivery(
        bench, receiver, jobs["default worker"], baselines.DEFAULT
    )
    return acts, concurrency


def _act(sender: Sender, receiver: Receiver, transport: str, number: int) -> Callable[[], Sample]:
    return lambda: Sample(*sender.deliver(receiver, number, RESTHOOKS_TRANSPORT=transport))


def _notes(bench: Bench, receiver: Receiver, concurrency: int, figures: list[Figure]) -> list[str]:
    return [
        f"{bench.rounds} rounds, {concurrency} POSTs in flight in the event loops (ours, and "
        f"aiohttp's), receiver: {receiver.name}."
    ]
