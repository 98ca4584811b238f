"""Engine: the worker behind `flask resthooks worker`: RQ worker, scheduler and sweep in one.

It runs drains in its own process (RQ's `SimpleWorker`), keeps connections and threads between
them, and outlives a Redis that goes away and comes back.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from types import FrameType
from typing import Any

import redis
import rq
from rq.exceptions import StopRequested
from rq.worker import SimpleWorker

from .jobs import EARLY, Plant, Runner, run_for
from .models import utcnow
from .wakeups import connect

log = logging.getLogger(__name__)

RECONNECT_PAUSE = 1.0
"""Seconds between two tries to reach Redis."""


class _Worker(SimpleWorker):
    """Tells the drain that is running when the worker is asked to stop."""

    stop: threading.Event

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        self.stop.set()
        super().request_stop(signum, frame)  # type: ignore[no-untyped-call]  # RQ's


def work(plant: Plant, *, burst: bool = False) -> None:
    """Work until SIGTERM or SIGINT; with `burst`, until nothing is due.

    :raises redis.RedisError: with `burst`, if Redis cannot be reached.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):  # RQ's worker puts its own in their place
        signal.signal(number, lambda signum, frame: stop.set())
    runner = run_for(plant, stop)
    try:
        if burst:
            runner.run()
            _work_once(plant, stop, burst=True)
        else:
            _keep_working(plant, runner, stop)
    finally:
        runner.close()


def _keep_working(plant: Plant, runner: Runner, stop: threading.Event) -> None:
    threading.Thread(
        target=_sweep, args=(plant, runner, stop), name="resthooks-sweep", daemon=True
    ).start()
    while not stop.is_set():
        try:
            _work_once(plant, stop, burst=False)
        except redis.RedisError as error:
            log.error("Redis is away (%s); trying again", error)
        except StopRequested:
            return
        if not stop.wait(RECONNECT_PAUSE):
            log.info("starting again")


def _work_once(plant: Plant, stop: threading.Event, *, burst: bool) -> None:
    connection = connect(plant.settings.redis_url)
    try:
        queue = rq.Queue(plant.settings.queue, connection=connection)
        worker: Any = _Worker([queue], connection=connection)
        worker.stop = stop
        worker.work(burst=burst, with_scheduler=not burst, logging_level="WARNING")
    finally:
        connection.close()


def _sweep(plant: Plant, runner: Runner, stop: threading.Event) -> None:
    """Ask for a drain at every interval, and when the last one said that something falls due.

    RQ's scheduler does both as well, from what is in Redis; this does not need Redis to remember.
    """
    wakeups = plant.wakeups
    swept_at = float("-inf")
    while True:
        try:
            now = time.monotonic()
            due = runner.next_due
            if now - swept_at >= plant.settings.sweep_interval or (
                due is not None and (due - utcnow()).total_seconds() <= EARLY
            ):
                runner.next_due = None
                wakeups.begun()
                wakeups.ask()
                swept_at = now
        except redis.RedisError:
            pass  # RQ's worker says so already; again in a moment
        except Exception:
            log.exception("the sweep failed; again in a moment")
        if stop.wait(0.25):
            return
