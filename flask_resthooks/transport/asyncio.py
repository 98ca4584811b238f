"""Ground: the transport that POSTs from one thread, with an event loop.

What a POST costs there is little more than what the system takes for sending and receiving: the
requests' answers come to `flights` as they are, and only dialing has a task of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import math
import os
import socket
import threading
import time
from collections import deque
from concurrent.futures import Future

from ..guard import Guard, Target
from . import Answer, Request
from . import idle as idling
from .dialing import Dialer
from .failures import (
    STALE,
    STALE_LIMIT,
    Failed,
    answer,
    lacks_descriptors,
    late,
    without_descriptors,
)
from .flights import Flight, Wire
from .http1 import Response
from .idle import IdleConnections
from .lookups import Lookups
from .messages import Plan, message
from .reaching import Reacher
from .tls import Contexts

LOOK_INTERVAL = 0.1
"""Seconds between two looks at the deadlines: by so much an attempt may overrun."""


class AsyncioTransport:
    """POSTs from an event loop in a thread of its own, `concurrency` at a time.

    It belongs to the process that made it: after a fork the child must make its own (threads do
    not survive a fork, and two processes must not write to one connection).

    :param guard: judges every URL and every address, at the time of the connection.
    :param concurrency: POSTs in flight; the others wait for their turn. Each one in flight and
        each idle connection holds a file descriptor.
    :param connect_timeout: seconds for resolving the name and connecting.
    :param timeout: seconds for the whole attempt, from its start to the answer's last byte.
    :param response_limit: how many bytes of an answer's body are read and kept. A longer answer
        costs its connection.
    :param proxy: URL of the HTTP proxy that everything goes through; empty for none.
    :param proxy_resolves: the proxy is given names, and it is trusted to refuse addresses that
        are not public.
    :param ca_file: certificates to trust instead of those that requests trusts.
    """

    def __init__(
        self,
        guard: Guard,
        concurrency: int,
        connect_timeout: float,
        timeout: float,
        response_limit: int,
        *,
        proxy: str = "",
        proxy_resolves: bool = False,
        ca_file: str | None = None,
    ) -> None:
        self.guard = guard
        self._concurrency = concurrency
        self._connect_timeout = min(connect_timeout, timeout)
        self._timeout = timeout
        self._too_long = f"the attempt took longer than {timeout:g} seconds"
        self._response_limit = response_limit
        self._pid = os.getpid()
        self._plan = functools.lru_cache(maxsize=4096)(self._make_plan)
        self.idle: IdleConnections[Wire] = IdleConnections(limit=max(2 * concurrency, 64))
        self._loop = asyncio.SelectorEventLoop()
        dialer = Dialer(
            guard,
            Lookups(4 * concurrency),
            connect_timeout=connect_timeout,
            timeout=timeout,
            proxy=proxy,
            proxy_resolves=proxy_resolves,
        )
        self._reacher = Reacher(self._loop, dialer, Contexts(ca_file).get, concurrency)
        self._lock = threading.Lock()
        self._closed = False
        self._waiting: deque[tuple[Request, Future[Answer]]] = deque()
        self._woken = False
        # What follows is the loop's alone.
        self._flying: dict[Flight, None] = {}  # in the order of their starts
        self._beginning = False
        self._looking: asyncio.TimerHandle | None = None
        self._looks_at = math.inf
        self._thread = threading.Thread(target=self._run, name="resthooks-transport", daemon=True)
        self._thread.start()
        self._ident = self._thread.ident

    def submit(self, request: Request) -> Future[Answer]:
        """Have a POST made as soon as fewer than `concurrency` are in flight.

        :raises RuntimeError: after `close`, and in a process that did not make this transport.
        """
        if os.getpid() != self._pid:
            raise RuntimeError(
                "this transport was made before a fork: make a new one in each process"
            )
        future: Future[Answer] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("this transport is closed")
            self._waiting.append((request, future))
            if threading.get_ident() != self._ident:
                if not self._woken:  # one wake-up is enough for all that wait
                    self._woken = True
                    try:
                        self._loop.call_soon_threadsafe(self._wake)
                    except RuntimeError:  # the loop has gone
                        self._woken = False
                        self._waiting.pop()
                        self._closed = True
                        raise RuntimeError("this transport is closed: its loop has gone") from None
                return future
        self._begin_some()
        return future

    def close(self) -> None:
        """Cancel what has not started, wait for what has, and close every connection."""
        if os.getpid() != self._pid:
            return  # the loop is the parent's, and its descriptors are shared
        with self._lock:
            waiting = [] if self._closed else list(self._waiting)
            if not self._closed:
                self._closed = True
                self._waiting.clear()
                self._loop.call_soon_threadsafe(self._stop_if_done)
        for _, future in waiting:
            future.cancel()
        if threading.get_ident() != self._ident:
            self._thread.join()

    def _run(self) -> None:
        try:
            self._loop.run_forever()
        finally:
            self._abandon()
            tasks = asyncio.all_tasks(self._loop)
            if tasks:  # they have been cancelled, and let go of what they hold
                self._loop.run_until_complete(asyncio.wait(tasks))
            self.idle.close()
            self._reacher.close()
            self._loop.close()

    def _abandon(self) -> None:
        """End whatever has none yet. There is nothing of the kind unless the loop was torn off."""
        with self._lock:
            self._closed = True
            waiting = list(self._waiting)
            self._waiting.clear()
        failure = RuntimeError("the transport's thread has ended")
        for flight in list(self._flying):
            with contextlib.suppress(BaseException):  # of who is told: the others are told too
                self._land(flight, failure)
        for _, future in waiting:
            with contextlib.suppress(BaseException):
                future.cancel()

    def _wake(self) -> None:
        self._woken = False
        self._begin_some()

    def _begin_some(self) -> None:
        if self._beginning:
            return  # an attempt that ended at once: the loop below goes on by itself
        self._beginning = True
        try:
            while self._waiting and len(self._flying) < self._concurrency:
                try:
                    request, future = self._waiting.popleft()
                except IndexError:  # closed meanwhile
                    break
                if future.set_running_or_notify_cancel():
                    self._begin(request, future)
        finally:
            self._beginning = False

    def _begin(self, request: Request, future: Future[Answer]) -> None:
        start = time.monotonic()
        if start > request.start_before:
            future.set_result(late())
            return
        try:
            plan = self._plan(request.url)
            sent = message(plan, request)
        except Exception as error:  # whatever it is, it is this attempt's answer
            future.set_result(self._answer(request, None, error, start))
            return
        flight = Flight(request, future, plan, sent, start)
        self._flying[flight] = None
        if len(self._flying) == 1:
            self._look_in(LOOK_INTERVAL)
        wire = self.idle.take(plan.key)
        if wire is None:
            flight.dialing = self._loop.create_task(self._dial(flight))
        else:
            flight.seen_before = True
            self._send(flight, wire)

    async def _dial(self, flight: Flight) -> None:
        try:
            deadline = flight.start + self._connect_timeout
            sock = await self._reach(flight.plan.target, deadline)
        except Exception as error:
            flight.dialing = None
            self._land(flight, error)
        else:
            flight.dialing = None
            self._send(flight, Wire(self._loop, sock, self._land, self._drop))

    async def _reach(self, target: Target, deadline: float) -> socket.socket:
        try:
            return await self._reacher.reach(target, deadline)
        except OSError as error:
            if not lacks_descriptors(error):
                raise
            if not self.idle.make_room():
                raise without_descriptors() from error
            try:
                return await self._reacher.reach(target, deadline)
            except OSError as still:
                raise (without_descriptors() if lacks_descriptors(still) else still) from error

    def _send(self, flight: Flight, wire: Wire) -> None:
        flight.response = Response(self._response_limit)
        wire.carry(flight, flight.response)

    def _drop(self, wire: Wire) -> None:
        self.idle.discard(wire)
        wire.close()

    def _land(self, flight: Flight, failure: Exception | None) -> None:
        """A flight has come to its end."""
        wire, response = flight.wire, flight.response
        if wire is not None:
            flight.wire = None
            if wire.let_go() and failure is None:
                self.idle.give(flight.plan.key, wire)
            else:
                wire.close()
                if flight.seen_before and isinstance(failure, STALE):
                    assert response is not None
                    now = time.monotonic()
                    at_once = now <= wire.sent_at + STALE_LIMIT
                    in_time = now < flight.start + self._connect_timeout
                    if at_once and in_time and not response.begun:
                        # The receiver closed it while it idled. No byte of an answer came, so try
                        # again on a fresh one, once; should the receiver have seen both, the
                        # webhook-id tells.
                        flight.seen_before = False
                        flight.response = None
                        flight.dialing = self._loop.create_task(self._dial(flight))
                        return
        del self._flying[flight]
        if flight.dialing is not None:
            flight.dialing.cancel()
        if isinstance(failure, TimeoutError):
            failure = Failed("timeout", self._too_long)
        answered = self._answer(flight.request, response, failure, flight.start)
        flight.future.set_result(answered)
        if self._waiting:
            self._begin_some()
        if self._closed:
            self._stop_if_done()

    def _answer(
        self, request: Request, response: Response | None, failure: Exception | None, start: float
    ) -> Answer:
        return answer(
            response, failure, start, sent=request.headers, response_limit=self._response_limit
        )

    def _look(self) -> None:
        """End the flights whose time is over, and what has idled for long."""
        self._looks_at = math.inf
        latest = time.monotonic() - self._timeout
        try:
            for flight in list(itertools.takewhile(lambda one: one.start <= latest, self._flying)):
                self._land(flight, Failed("timeout", self._too_long))
            self.idle.close_old()
        finally:
            if self._flying:
                self._look_in(LOOK_INTERVAL)
            elif len(self.idle):
                self._look_in(idling.IDLE_LIMIT)

    def _look_in(self, seconds: float) -> None:
        """Have the next look be no later than that."""
        instant = self._loop.time() + seconds
        if instant < self._looks_at:
            if self._looking is not None:
                self._looking.cancel()
            self._looks_at = instant
            self._looking = self._loop.call_at(instant, self._look)

    def _stop_if_done(self) -> None:
        if self._closed and not self._flying and self._loop.is_running():
            self._loop.stop()

    def _make_plan(self, url: str) -> Plan:
        return Plan(self.guard.check_url(url))
