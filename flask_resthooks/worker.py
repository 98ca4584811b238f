"""Engine: the worker behind `flask resthooks worker`: RQ worker, scheduler and sweep in one.

It runs drains in its own process (RQ's `SimpleWorker`), keeps connections and threads between
them, and outlives a Redis that goes away and comes back.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import threading
import time
from types import FrameType
from typing import Any

import redis
import rq
import sqlalchemy as sa
from rq.exceptions import StopRequested
from rq.scheduler import RQScheduler
from rq.utils import now as rq_now
from rq.worker import SimpleWorker, WorkerStatus

from .database import Database
from .jobs import EARLY, Plant, Runner, run_for
from .schema import check_schema
from .sealing import check_seals
from .settings import shown
from .wakeups import connect

log = logging.getLogger(__name__)

RECONNECT_PAUSE = 1.0
"""Seconds between two tries to reach Redis."""

REMIND_PAUSE = 60.0
"""Seconds between two log lines that say that Redis is away."""

REDIS_TIMEOUT = 5.0
"""Seconds for an answer of Redis, outside of the app's commits."""

LOOK_PAUSE = 0.5
"""Seconds between two looks at what falls due."""

COLLECTED = (20_000, 20, 50)
"""Python's thresholds for looking for garbage in cycles, in a worker: deliveries leave none, and
with the usual ones a third of the time would be spent on looking."""

GRACE = 5.0
"""Seconds that a worker which has settled everything may take to say good-bye to Redis."""


class _Worker(SimpleWorker):
    """Tells the drain that is running when the worker is asked to stop."""

    stop: threading.Event
    max_connection_wait_time = 2.0  # until it looks again whether Redis is back

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """As RQ's, but without asking Redis: it may hang, and a drain may be in the middle."""
        self.stop.set()
        self._shutdown_requested_date = rq_now()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.request_force_stop)
        if self.get_state() != WorkerStatus.BUSY:
            raise StopRequested
        self._stop_requested = True


def work(plant: Plant, *, burst: bool = False) -> None:
    """Work until SIGTERM or SIGINT; with `burst`, until nothing is due.

    :raises redis.RedisError: with `burst`, if Redis cannot be reached.
    :raises KeyMissing: if a secret in the database cannot be opened.
    """
    check_schema(plant.engine(), plant.tables, plant.app.extensions)
    check_seals(Database(plant.engine()), plant.tables, plant.vault)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):  # RQ's worker puts its own in their place
        signal.signal(number, lambda signum, frame: stop.set())
    runner = run_for(plant, stop)
    gc.collect()
    gc.freeze()  # what there is by now stays
    gc.set_threshold(*COLLECTED)
    try:
        if burst:
            runner.run()
            if not stop.is_set():
                _work_once(plant, stop, burst=True)
        else:
            clock = threading.Thread(
                target=_keep_time, args=(plant, runner, stop), name="resthooks-time", daemon=True
            )
            clock.start()
            _keep_working(plant, stop)
    finally:
        runner.close()


def _keep_working(plant: Plant, stop: threading.Event) -> None:
    settings = plant.settings
    log.info(
        "sending hooks: queue %s on %s, by %s, %d POSTs at a time",
        *(settings.queue, shown(settings.redis_url), settings.transport, settings.concurrency),
    )
    told_at = float("-inf")
    while not stop.is_set():
        try:
            _work_once(plant, stop, burst=False)
        except redis.RedisError as error:
            if time.monotonic() - told_at >= REMIND_PAUSE:
                log.error("Redis is away (%s); trying again", error)
                told_at = time.monotonic()
        except StopRequested:
            return
        stop.wait(RECONNECT_PAUSE)


def _work_once(plant: Plant, stop: threading.Event, *, burst: bool) -> None:
    connection = connect(plant.settings.redis_url)
    try:
        queue = rq.Queue(plant.settings.queue, connection=connection)
        worker: Any = _Worker([queue], connection=connection)
        worker.stop = stop
        worker.work(burst=burst, logging_level="WARNING")
    finally:
        connection.close()


def _keep_time(plant: Plant, runner: Runner, stop: threading.Event) -> None:
    """Ask for a drain at every interval, and when the database says that something falls due.

    What Redis remembers is not needed for that. It is looked after all the same: other workers
    may have scheduled something.
    """
    wakeups = plant.wakeups
    swept_at = float("-inf")
    scheduler: Any = None  # RQ has no types for it
    while not stop.wait(LOOK_PAUSE):
        try:
            now = time.monotonic()
            if now - swept_at >= plant.settings.sweep_interval:
                wakeups.insist()
                swept_at = now
            elif runner.idle.is_set():
                pause = runner.due_in()
                if pause is not None and pause <= EARLY:
                    wakeups.ask()
            if scheduler is None:
                connection = connect(plant.settings.redis_url, socket_timeout=REDIS_TIMEOUT)
                scheduler = RQScheduler([plant.settings.queue], connection, logging_level="WARNING")
            _tick(scheduler)
        except redis.RedisError:
            pass  # RQ's worker says so already; again in a moment
        except sa.exc.DBAPIError as error:
            log.error("the database cannot be asked (%s); trying again", error.orig)
            stop.wait(REMIND_PAUSE / 12)
        except Exception:
            log.exception("asking for drains failed; again in a moment")
            stop.wait(RECONNECT_PAUSE)
    with contextlib.suppress(redis.RedisError):
        if scheduler is not None:
            scheduler.release_locks()
    _leave(runner)


def _tick(scheduler: Any) -> None:
    """What RQ's scheduler does every second in a process of its own, which would not outlive a
    Redis that goes away."""
    if scheduler.should_reacquire_locks:
        scheduler.acquire_locks()
    if scheduler.acquired_locks:
        scheduler.heartbeat()
        scheduler.enqueue_scheduled_jobs()


def _leave(runner: Runner) -> None:
    """End the process when its work is done, even if Redis does not let RQ's worker go."""
    runner.idle.wait()
    time.sleep(GRACE)
    log.warning("Redis does not answer; leaving without a word to it")
    logging.shutdown()
    os._exit(0)
