"""One, two, four and eight worker processes on one PostgreSQL, and what each part costs."""

from __future__ import annotations

import contextlib
import os
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import psycopg
import rq
from harness.bench import Bench
from harness.processes import cpu, working
from harness.receivers import Receiver, rate, receive
from harness.results import Sample, Section, Table, median, ratio, rounds
from harness.sender import EVENT_LOOP, Sender, counted
from sqlalchemy import make_url

WORKERS = (1, 2, 4, 8)
DELIVERIES = 20_000
MOST_ROUNDS = 3
PATIENCE = 60.0
LOOK_PAUSE = 0.02

_WAITS = (
    "SELECT coalesce(wait_event_type || ': ' || wait_event, 'at work') FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'active'"
)


class Watch:
    """What one number of workers has cost, and what its connections have waited for."""

    def __init__(self) -> None:
        self.waits: Counter[str] = Counter()
        self.seconds: dict[str, list[float]] = {}


def measure(bench: Bench) -> Section:
    if bench.postgres is None:
        return Section([], notes=["This needs PostgreSQL."])
    watches = {number: Watch() for number in WORKERS}
    with (
        receive() as receiver,
        bench.sender("postgresql", RESTHOOKS_TRANSPORT=EVENT_LOOP) as sender,
    ):
        sender.subscribe(receiver.url())
        acts = {
            _name(number): _act(bench, sender, receiver, number, watches[number])
            for number in WORKERS
        }
        found = rounds(min(bench.rounds, MOST_ROUNDS), acts)
    figures = [median(name, samples, "/s") for name, samples in found.items()]
    alone = found[_name(1)]
    figures += [
        ratio(f"{_name(number)} / one", found[_name(number)], alone) for number in WORKERS[1:]
    ]
    note = (
        f"Processors that are busy, of {os.cpu_count()}, while the deliveries come. The waits are "
        f"those of the workers' statements at PostgreSQL, looked at every "
        f"{1000 * LOOK_PAUSE:.0f} ms."
    )
    return Section(figures, [_processors(watches), _waits(watches)], [note])


def _name(number: int) -> str:
    return "one worker" if number == 1 else f"{number} workers"


def _act(
    bench: Bench, sender: Sender, receiver: Receiver, number: int, watch: Watch
) -> Callable[[], Sample]:
    def act() -> Sample:
        sender.empty()
        bench.redis.client().flushall()
        with contextlib.ExitStack() as stack:
            workers = [stack.enter_context(working(sender.config)) for _ in range(number)]
            _wait_until_they_work(bench, sender, number)
            receiver.forget()  # first: a worker may look for itself what there is
            made = sender.fill(bench.some(DELIVERIES))
            assert bench.postgres is not None and bench.postgres.pid is not None
            parts = {
                "workers": [worker.pid for worker in workers],
                "PostgreSQL": [bench.postgres.pid],
                "receiver": [receiver.process.pid],
            }
            with _looking(sender, watch):
                before = _cpu(parts)
                start = time.monotonic()
                for _ in range(number):
                    sender.wake()
                receiver.wait_for(len(made))
                spent = time.monotonic() - start
                for part, seconds in _cpu(parts).items():
                    busy = (seconds - before[part]) / spent
                    watch.seconds.setdefault(part, []).append(busy)
            sender.wait_until_settled()
            return Sample(rate(receiver.arrivals()), counted(made, receiver))

    return act


def _wait_until_they_work(bench: Bench, sender: Sender, number: int) -> None:
    queue = rq.Queue(sender.plant.settings.queue, connection=bench.redis.client())
    end = time.monotonic() + PATIENCE
    while rq.Worker.count(queue=queue) < number:
        assert time.monotonic() < end, "the workers do not come up"
        time.sleep(0.1)
    time.sleep(1.5)  # for the sweep that each of them begins with


def _cpu(parts: dict[str, list[int]]) -> dict[str, float]:
    found = {part: sum(map(cpu, pids)) for part, pids in parts.items()}
    return {**found, "this benchmark": time.process_time()}  # it looks at all the others


@contextlib.contextmanager
def _looking(sender: Sender, watch: Watch) -> Iterator[None]:
    """Look at what PostgreSQL's connections wait for."""
    done = threading.Event()
    url = make_url(sender.config["SQLALCHEMY_DATABASE_URI"])

    def look() -> None:
        with psycopg.connect(
            host=str(url.query["host"]), user=url.username, dbname=url.database, autocommit=True
        ) as connection:
            while not done.wait(LOOK_PAUSE):
                watch.waits.update(row[0] for row in connection.execute(_WAITS))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _processors(watches: dict[int, Watch]) -> Table:
    parts = list(watches[WORKERS[0]].seconds)
    rows = []
    for number, watch in watches.items():
        busy = [statistics.median(watch.seconds[part]) for part in parts]
        rows.append([_name(number), *(f"{one:.2f}" for one in [*busy, sum(busy)])])
    return Table(["processors busy", *parts, "together"], rows)


def _waits(watches: dict[int, Watch]) -> Table:
    whole = sum((watch.waits for watch in watches.values()), Counter())
    kinds = [kind for kind, _ in whole.most_common(8)]
    locks = {number: _share(watch, _locks(watch)) for number, watch in watches.items()}
    rows = [
        [kind, *(_share(watch, watch.waits[kind]) for watch in watches.values())] for kind in kinds
    ]
    rows.append(["all locks (`Lock: …`)", *(locks[number] for number in watches)])
    return Table(["statements were", *map(_name, watches)], rows)


def _locks(watch: Watch) -> int:
    return sum(times for kind, times in watch.waits.items() if kind.startswith("Lock:"))


def _share(watch: Watch, times: int) -> str:
    return f"{100 * times / max(watch.waits.total(), 1):.1f} %"
