"""Engine: the RQ side. The job that is a drain, and what a worker process keeps between drains.

The job runs in any RQ worker: in `flask resthooks worker`, which hands its app over, and in a
plain `rq worker` with `FLASK_APP`, which knows of no app: it is loaded by the first job. A forking
worker runs each job in a new process, which inherits connections that it must not use.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import redis
import rq
import sqlalchemy as sa

from . import signals, transport
from .authorization import Authorization, Authorize
from .drain import Drain
from .errors import ConfigurationError, SchemaMismatch
from .event_types import EventTypes
from .guard import Guard
from .intents import Intent
from .models import EVENT, Tables, utcnow
from .outbox import Outbox, Outcome, Settled
from .schema import check_schema
from .settings import Settings
from .texts import printable
from .vault import Vault
from .wakeups import TIME_SLICE, Wakeups

if TYPE_CHECKING:
    from flask import Flask

log = logging.getLogger(__name__)

EARLY = 1.0
"""Seconds by which a wake-up comes before what it is for: the drain waits for the exact time."""

LISTENERS = 20.0
"""Seconds that a drain waits at its end for those who listen to signals."""

DATABASE_PAUSE = 5.0
"""Seconds until the next drain after one that the database has failed."""

TIDY_SLICE = TIME_SLICE
"""Seconds that old rows are removed at most after a drain, beside the next ones."""

TIDY_SOON = 0.5
"""The same where there is nothing beside: in a worker of RQ's own, and in one that ends."""

ASK_PAUSE = 1.0
"""Seconds between two looks whether a forking worker was asked to stop."""

MOST_TROUBLE = 10
"""Kinds of failure that are logged after a drain, the most frequent ones."""

_GOOD = "delivered"
_WORDS = {_GOOD: "delivered", "pending": "to be tried again", "failed": "given up"}


@dataclass(frozen=True, slots=True)
class Plant:
    """What drains of one app are made of."""

    app: Flask
    engine: Callable[[], sa.Engine]
    tables: Tables
    settings: Settings
    guard: Guard
    wakeups: Wakeups
    event_types: EventTypes
    vault: Vault
    intent: Intent | None = None
    authorize: Callable[[], Authorize | None] = lambda: None
    pid: int = field(default_factory=os.getpid)


class Runner:
    """Runs drains of one app in this process, one after the other.

    :param stop: set when the worker is asked to stop; None if the job has to ask.
    """

    def __init__(self, plant: Plant, stop: threading.Event | None = None) -> None:
        self._plant = plant
        self._stop = stop
        self._pid = os.getpid()
        # Set while no drain is running.
        self.idle = threading.Event()
        self.idle.set()
        # What listens to signals may be slow: the drain does not wait for it between settles.
        self._teller = futures.ThreadPoolExecutor(1, thread_name_prefix="resthooks-signals")
        # Nor do hooks wait while old rows are removed.
        self._tidier = futures.ThreadPoolExecutor(1, thread_name_prefix="resthooks-tidy")
        self._tidying: futures.Future[None] | None = None
        self._tidy_until = float("inf")
        self._sweep_after = float("-inf")
        self._transport = _transport_of(plant)
        self._outbox = Outbox(plant.engine(), plant.tables)
        self._outbox.prepare()

    @property
    def inherited(self) -> bool:
        """Whether this runner was made before a fork, in another process."""
        return self._pid != os.getpid()

    def run(self, asked_to_stop: Callable[[], bool] = lambda: False) -> None:
        """One drain; at its end the next one is asked for, at the time that it is needed.

        :param asked_to_stop: asked once a second.
        """
        self.idle.clear()
        try:
            self._run(asked_to_stop)
        finally:
            self.idle.set()

    def _run(self, asked_to_stop: Callable[[], bool]) -> None:
        wakeups = self._plant.wakeups
        _in_redis(wakeups.begun)
        if time.monotonic() >= self._sweep_after:  # some ms that hooks need not wait for each time
            _in_redis(wakeups.sweep_later)
            self._sweep_after = time.monotonic() + self._plant.settings.sweep_interval / 2
        tally: Counter[str] = Counter()
        trouble: Counter[str] = Counter()
        told: list[futures.Future[None]] = []

        def settled(outcomes: list[Outcome], what: Settled) -> None:
            tally.update(_WORDS[outcome.status] for outcome in outcomes)
            trouble.update(_trouble(outcome) for outcome in outcomes if outcome.status != _GOOD)
            told.append(self._teller.submit(self._tell, outcomes, what))

        plant = self._plant
        authorization = Authorization(plant.app, plant.event_types, plant.authorize())
        start = time.monotonic()
        stopping = self._stop.is_set if self._stop else _now_and_then(asked_to_stop)
        try:
            self._outbox.synchronise()
            drain = Drain(
                self._outbox,
                self._transport,
                self._plant.settings,
                # By another time what is claimed might seem to have been given up: it is settled.
                stopping=lambda: stopping() or self._outbox.clock_was_set(),
                settled=settled,
                vault=plant.vault,
                intent=plant.intent,
                permit=authorization.permits,
                sight=authorization.sight,
                thin_types=plant.event_types.thin,
            )
            due = drain.run(TIME_SLICE)
        except sa.exc.DBAPIError:
            soon = utcnow() + dt.timedelta(seconds=DATABASE_PAUSE)
            _in_redis(lambda: wakeups.at(soon))
            raise
        finally:
            futures.wait(told, LISTENERS)
            if tally:
                counts = ", ".join(f"{count} {what}" for what, count in tally.items())
                log.info("drained in %.1f s: %s", time.monotonic() - start, counts)
            for what, count in trouble.most_common(MOST_TROUBLE):
                log.warning("%d %s: %s", count, "attempt" if count == 1 else "attempts", what)
        if due is not None:
            pause = (due - self._outbox.now()).total_seconds() - EARLY
            if pause <= 0:
                _in_redis(wakeups.ask)
            else:  # by this machine's clock, which RQ's scheduler goes by
                moment = utcnow() + dt.timedelta(seconds=pause)
                _in_redis(lambda: wakeups.at(moment))
        self._tidy()

    def _tidy(self) -> None:
        """Remove what is of no use any more; in a worker that stays, beside its drains."""
        if self._stop is None:
            self._remove_old(TIDY_SOON)
        elif self._tidying is None or self._tidying.done():
            self._tidying = self._tidier.submit(self._remove_old, TIDY_SLICE)

    def _remove_old(self, seconds: float) -> None:
        try:
            self._outbox.tidy(self._plant.settings.retention, seconds, self._tidied_enough)
        except sa.exc.DBAPIError as error:
            log.warning("old rows were not removed (%s); again later", error.orig)
        except Exception:  # nobody asks what has become of it
            log.exception("old rows were not removed; again later")

    def _tidied_enough(self) -> bool:
        stopped = self._stop is not None and self._stop.is_set()
        return stopped or time.monotonic() > self._tidy_until

    def due_in(self) -> float | None:
        """Seconds until there will be something to do; None if nothing is waiting."""
        due = self._outbox.next_due()
        return None if due is None else (due - self._outbox.now()).total_seconds()

    def close(self) -> None:
        """Let go of connections and threads."""
        self._teller.shutdown()
        self._tidy_until = time.monotonic() + TIDY_SOON
        self._tidier.shutdown()
        self._transport.close()

    def _tell(self, outcomes: list[Outcome], settled: Settled) -> None:
        """Fire the signals; what a listener raises is logged and goes no further."""
        for outcome in outcomes:
            claim = outcome.claim
            # Not of tests and handshakes: whoever asked for them looks at them.
            told = claim.kind == EVENT and outcome.status == "failed"
            if told and claim.delivery_id in settled.held:
                self._send(
                    signals.delivery_failed,
                    delivery_id=claim.delivery_id,
                    subscription_id=claim.subscription_id,
                    event_id=claim.event.id,
                    reason=outcome.reason,
                )
        for subscription_id, reason in settled.disabled.items():
            log.warning("the subscription %s is disabled: %s", subscription_id, reason)
            self._send(
                signals.subscription_disabled, subscription_id=subscription_id, reason=reason
            )
        for subscription_id, since in settled.recovered.items():
            self._send(signals.subscription_recovered, subscription_id=subscription_id, since=since)

    def _send(self, signal: signals.Signal, **facts: Any) -> None:
        try:
            with self._plant.app.app_context():
                signal.send(self._plant.app, **facts)
        except Exception:
            log.exception("a listener of the signal %s failed", signal.name)


def _transport_of(plant: Plant) -> transport.Transport:
    settings = plant.settings
    try:
        return transport.create(
            settings.transport,
            guard=plant.guard,
            concurrency=settings.concurrency,
            connect_timeout=settings.connect_timeout,
            timeout=settings.timeout,
            response_limit=settings.response_limit,
            proxy=settings.proxy,
            proxy_resolves=settings.proxy_resolves,
        )
    except Exception as error:  # an app's own may raise anything
        raise ConfigurationError(
            f"RESTHOOKS_TRANSPORT = {settings.transport!r} cannot be used: {error}"
        ) from error


_plants: dict[str, Plant] = {}
_runners: dict[str, Runner] = {}


def run_for(plant: Plant, stop: threading.Event | None = None) -> Runner:
    """Have the jobs of this process serve that app; its runner.

    :raises ConfigurationError: if another app of this process has the same queue.
    """
    queue = plant.settings.queue
    if _plants.setdefault(queue, plant).app is not plant.app:
        raise ConfigurationError(
            f"two apps share the queue {queue!r}: each needs a RESTHOOKS_QUEUE of its own"
        )
    runner = _runners.get(queue)
    if runner is None or runner.inherited:
        if plant.pid != os.getpid():
            # The parent's connections stay the parent's.
            plant.engine().dispose(close=False)
        runner = _runners[queue] = Runner(plant, stop)
    return runner


def drain(queue: str) -> None:
    """The RQ job: one drain of the app that uses this queue."""
    plant = _plants.get(queue) or _load(queue)
    if queue not in _runners:
        try:
            check_schema(plant.engine(), plant.tables, plant.app.extensions)
        except SchemaMismatch as error:
            # Said once per sweep, until it fits: the mark of a pending wake-up stays, so that
            # commits ask for no more of them.
            log.error("no hooks are sent: %s", error)
            _in_redis(plant.wakeups.sweep_later)
            return
    run_for(plant).run(_asker(plant))


def _load(queue: str) -> Plant:
    from flask.cli import ScriptInfo

    app = ScriptInfo(app_import_path=os.environ.get("FLASK_APP")).load_app()
    state = app.extensions.get("resthooks")
    if state is None:
        raise RuntimeError("the app that FLASK_APP names does not use flask_resthooks")
    plant: Plant = state.plant
    if plant.settings.queue != queue:
        raise RuntimeError(
            f"this drain is for the queue {queue!r}, but the app that FLASK_APP names uses "
            f"{plant.settings.queue!r}"
        )
    return plant


def _trouble(outcome: Outcome) -> str:
    claim = outcome.claim
    why = outcome.reason or outcome.error or f"the receiver answered {outcome.status_code}"
    return printable(f"{claim.subscription_id} at {claim.host}: {_WORDS[outcome.status]}: {why}")


def _asker(plant: Plant) -> Callable[[], bool]:
    """Asks whether the worker of this job shuts down. A forked one gets no signal: Redis knows."""
    job = rq.get_current_job()
    key = f"rq:worker:{job.worker_name}" if job is not None else ""

    def ask() -> bool:
        try:
            # Not on RQ's connection, which would wait for minutes.
            return plant.wakeups.client.hget(key, "shutdown_requested_date") is not None
        except redis.RedisError:
            return False

    return ask


def _now_and_then(ask: Callable[[], bool]) -> Callable[[], bool]:
    last_time, said = time.monotonic(), False

    def asked() -> bool:
        nonlocal last_time, said
        if not said and time.monotonic() - last_time >= ASK_PAUSE:
            said = ask()
            last_time = time.monotonic()
        return said

    return asked


def _in_redis(act: Callable[[], None]) -> None:
    """Without Redis a drain still does its work."""
    try:
        act()
    except redis.RedisError as error:
        log.warning("Redis did not take a wake-up (%s); the next sweep makes it good", error)
