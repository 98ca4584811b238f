"""Ground: the transport that POSTs with requests, on threads.

A POST goes straight to an `HTTPAdapter`, not through a `Session`: no redirects are followed, no
cookies kept, no netrc, proxy or CA bundle taken from the environment, and a good half of the CPU
is saved. Below the adapter the exchange is our own (`attempt.Attempt`).
"""

from __future__ import annotations

import functools
import os
import time
from concurrent.futures import Future
from typing import Any

import requests
import requests.adapters
import urllib3.exceptions
from urllib3.util import Timeout

from ..guard import Guard
from . import Answer, Request
from .attempt import Attempt, Kit
from .connections import Connection
from .crew import Crew
from .dialing import Dialer
from .failures import Failed, answer, late
from .idle import IdleConnections
from .lookups import Lookups
from .messages import Plan
from .tls import Contexts
from .watchdog import Watchdog


class RequestsTransport:
    """POSTs with requests, `concurrency` at a time.

    It belongs to the process that made it: after a fork the child must make its own (threads do
    not survive a fork, and two processes must not write to one connection).

    :param guard: judges every URL and every address, at the time of the connection.
    :param concurrency: POSTs in flight, at most, and so threads; while receivers answer at once,
        a few do it (`crew`). Each one in flight and each idle connection holds two file
        descriptors.
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
        self._pid = os.getpid()
        self._adapter = _Adapter()
        self._plan = functools.lru_cache(maxsize=4096)(self._make_plan)
        self.idle: IdleConnections[Connection] = IdleConnections(limit=max(2 * concurrency, 64))
        self._watchdog = Watchdog(self.idle)
        self._kit = Kit(
            Dialer(
                guard,
                Lookups(4 * concurrency),
                connect_timeout=connect_timeout,
                timeout=timeout,
                proxy=proxy,
                proxy_resolves=proxy_resolves,
            ),
            self.idle,
            self._watchdog,
            Contexts(ca_file).get,
            connect_timeout,
            timeout,
            response_limit,
        )
        self.crew: Crew[Request, Answer] = Crew(
            self._perform, self._watchdog.count_waiting, concurrency, "resthooks-transport"
        )

    def submit(self, request: Request) -> Future[Answer]:
        """Have a POST made as soon as a thread is free.

        :raises RuntimeError: after `close`, and in a process that did not make this transport.
        """
        if os.getpid() != self._pid:
            raise RuntimeError(
                "this transport was made before a fork: make a new one in each process"
            )
        return self.crew.submit(request)

    def close(self) -> None:
        """Cancel what has not started, wait for what has, and close every connection."""
        if os.getpid() != self._pid:
            return  # the threads and the connections are the parent's, and so may the locks be
        self.crew.close()
        self._watchdog.stop()
        self.idle.close()

    def _perform(self, request: Request) -> Answer:
        start = time.monotonic()
        if start > request.start_before:
            return late()
        attempt: Attempt | None = None
        failure: Exception | None = None
        try:
            attempt = Attempt(self._kit, self._plan(request.url), request, start)
            self._watchdog.watch(attempt)
            try:
                self._adapter.send(_Prepared(attempt), stream=True, timeout=_NO_TIMEOUT)
            finally:
                self._watchdog.release(attempt)
        except requests.exceptions.ConnectionError as error:
            # The adapter's wrapping of an OSError.
            cause = error.args[0] if error.args else error
            failure = cause if isinstance(cause, Exception) else error
        except Exception as error:  # whatever it is, it is this attempt's answer
            failure = error
        if attempt is not None:
            attempt.let_go()
            # The clock was looked at by the watchdog, or by who read the answer.
            if attempt.expired or isinstance(failure, TimeoutError):
                timeout = self._kit.timeout
                failure = Failed("timeout", f"the attempt took longer than {timeout:g} seconds")
        if isinstance(failure, urllib3.exceptions.SSLError):
            failure = Failed("tls", str(failure))
        return answer(
            attempt.response if attempt is not None else None,
            failure,
            start,
            sent=request.headers,
            response_limit=self._kit.response_limit,
        )

    def _make_plan(self, url: str) -> Plan:
        return Plan(self.guard.check_url(url))


class _Prepared(requests.PreparedRequest):
    """A `PreparedRequest` whose fields are filled without preparing: the plan has it all."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.method = attempt.request.method
        self.url = attempt.plan.target.url
        self.headers = attempt.request.headers  # type: ignore[assignment]  # any mapping will do
        self.body = attempt.request.body


_NO_TIMEOUT: Any = Timeout(None)


class _Adapter(requests.adapters.HTTPAdapter):
    """Hands a request to its own attempt, where the adapter would look for a pool."""

    def get_connection_with_tls_context(self, request: Any, *_: Any, **__: Any) -> Any:
        return request.attempt

    def cert_verify(self, *_: Any, **__: Any) -> None:
        """The attempt's connection verifies, always."""

    def request_url(self, request: Any, proxies: Any) -> str:
        return ""  # the plan has the request line

    def build_response(self, req: Any, resp: Any) -> Any:
        return resp
