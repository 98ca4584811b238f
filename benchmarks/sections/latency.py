"""An idle system: from a commit to the receiver; and, as the floor, what RQ takes for a job."""

from __future__ import annotations

import contextlib
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import bench_app
import rq
import sqlalchemy as sa
from harness import baselines
from harness.bench import DATABASES, Bench
from harness.counting import Count, count
from harness.processes import kill, rq_worker, working
from harness.receivers import Receiver, receive
from harness.results import Bar, Figure, Section, most
from harness.sender import EVENT_LOOP, Sender

COMMITS = 60
"""Of a round, on each database, and as many jobs."""

PAUSE = (0.3, 0.5)
"""Seconds from one commit to the next, at least and at most."""

PATIENCE = 30.0
BARS: dict[str, Bar | None] = {"median": most(25), "95 %": None, "99 %": most(100)}


class Series:
    """Commits on one database, one at a time, and when what they made has come."""

    def __init__(self, sender: Sender, receiver: Receiver) -> None:
        self._sender = sender
        self._receiver = receiver
        self._began: list[float] = []

    def begin(self) -> None:
        """Have the worker warm, and nothing to do."""
        self.commit()
        self._receiver.wait_for(1, PATIENCE)
        self._sender.wait_until_settled(PATIENCE)
        time.sleep(1)
        self._sender.empty()
        self._receiver.forget()
        self._began.clear()

    def commit(self) -> None:
        with self._sender.app.app_context():
            session = self._sender.db.session
            session.add(bench_app.Tracked(account_id=1, name="Ada", city="London"))
            self._began.append(time.time())
            session.commit()

    def end(self) -> tuple[list[float], Count]:
        """Seconds from the call of each commit to the arrival of its POST."""
        event = self._sender.tables.event
        with self._sender.engine.connect() as connection:
            made = list(connection.scalars(sa.select(event.c.id).order_by(event.c.sequence)))
        assert len(made) == len(self._began)
        self._receiver.wait_for(len(made), PATIENCE)
        self._sender.wait_until_settled(PATIENCE)
        arrived = self._receiver.arrivals()
        at = {arrival.id: arrival.at for arrival in arrived}
        counts = count(made, [arrival.id for arrival in arrived])
        return [
            at[id_] - then for id_, then in zip(made, self._began, strict=True) if id_ in at
        ], counts


class Jobs:
    """Jobs that do nothing, one at a time, and when they ran: the floor."""

    def __init__(self, bench: Bench, log: Path) -> None:
        self._queue = rq.Queue("nothing", connection=bench.redis.client())
        self._log = log
        self._began: list[float] = []

    def begin(self) -> None:
        self.commit()
        self._wait()
        self._log.write_text("")
        self._began.clear()

    def commit(self) -> None:
        self._began.append(time.time())
        self._queue.enqueue("obvious.nothing", len(self._began) - 1, result_ttl=0)

    def end(self) -> tuple[list[float], Count]:
        """Seconds from the enqueue of each job to its run."""
        self._wait()
        lines = [line.split() for line in self._log.read_text().splitlines()]
        seconds = [float(ran) - self._began[int(number)] for ran, number in lines]
        return seconds, count(range(len(self._began)), [int(number) for _, number in lines])

    def _wait(self) -> None:
        end = time.monotonic() + PATIENCE
        while len(self._log.read_text().splitlines()) < len(self._began):
            assert time.monotonic() < end, "RQ does not run its jobs"
            time.sleep(0.01)


def measure(bench: Bench) -> Section:
    with contextlib.ExitStack() as stack:
        series: dict[str, Series | Jobs] = {}
        for kind in bench.databases:
            receiver = stack.enter_context(receive(precise=True))
            sender = stack.enter_context(bench.sender(kind, RESTHOOKS_TRANSPORT=EVENT_LOOP))
            sender.subscribe(receiver.url())
            stack.enter_context(working(sender.config))
            series[f"{DATABASES[kind]}: a commit until its POST has come"] = Series(
                sender, receiver
            )
        log = bench.directory / "nothing.log"
        log.touch()
        worker = rq_worker("nothing", bench.redis.url, baselines.SIMPLE, OBVIOUS_LOG=str(log))
        stack.callback(kill, worker)
        series["the floor: an RQ job that does nothing, until it runs"] = Jobs(bench, log)
        for one in series.values():
            one.begin()
        _take_turns([one.commit for one in series.values()], bench.some(COMMITS) * bench.rounds)
        return Section([figure for name, one in series.items() for figure in _figures(name, one)])


def _take_turns(acts: list[Callable[[], None]], number: int) -> None:
    """Each once every 0.3 to 0.5 s, one after the other."""
    for _ in range(number):
        for act in acts:
            act()
            time.sleep(random.uniform(*PAUSE) / len(acts))


def _figures(name: str, series: Series | Jobs) -> list[Figure]:
    seconds, counts = series.end()
    counts.check(name)
    parts = statistics.quantiles([1000 * second for second in seconds], n=100, method="inclusive")
    of_parts = {"median": parts[49], "95 %": parts[94], "99 %": parts[98]}
    ours = isinstance(series, Series)
    return [
        Figure(f"{name}, {part}", found, "ms", counts, bar=BARS[part] if ours else None)
        for part, found in of_parts.items()
    ]
