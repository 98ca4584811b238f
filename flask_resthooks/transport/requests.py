"""Ground: the transport that POSTs with requests, on a pool of threads.

A POST goes straight to an `HTTPAdapter`, not through a `Session`: no redirects are followed, no
cookies kept, no netrc, proxy or CA bundle taken from the environment, and a good half of the CPU
is saved. Below the adapter the exchange is our own (`_Attempt.urlopen`), for three promises that
urllib3's pool does not make: the connection is made to the address that the guard has checked,
the whole attempt has a deadline, and no more than `response_limit` bytes of the answer are read
(`http1.Response`).
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, cast

import requests
import requests.adapters
import requests.utils
import urllib3.connection
import urllib3.exceptions
from urllib3.util import Timeout
from urllib3.util.ssl_ import create_urllib3_context

from ..errors import AddressRefused
from ..guard import Guard, Target
from . import KEPT_HEADERS, MAX_DETAIL, Answer, Error, Request, http1
from .idle import IdleConnections

log = logging.getLogger(__name__)

WATCH_INTERVAL = 0.1
"""Seconds between two looks at the deadlines: by so much an attempt may overrun."""

IDLE_LIMIT = 30.0
"""Seconds after which a connection that nobody used is closed."""

# Headers that belong to the connection; a caller's are ignored.
_OWN_HEADERS = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_HEADER_NAME = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
# RFC 9110, section 5.5; what is beyond latin-1 has no bytes there.
_BAD_IN_HEADER_VALUE = re.compile(r"[^\t\x20-\x7e\x80-\xff]")
_NO_LETTER_OR_DIGIT = re.compile(r"[^0-9A-Za-z]+")

# What a connection that had gone stale in the pool answers with.
_STALE = (
    ConnectionResetError,
    ConnectionAbortedError,
    BrokenPipeError,
    ssl.SSLEOFError,
    ssl.SSLZeroReturnError,
)


class RequestsTransport:
    """POSTs with requests, `concurrency` at a time.

    It belongs to the process that made it: after a fork the child must make its own (threads do
    not survive a fork, and two processes must not write to one connection).

    :param guard: judges every URL and every address, at the time of the connection.
    :param concurrency: threads, and so POSTs in flight. Each one in flight and each idle
        connection holds two file descriptors.
    :param connect_timeout: seconds for resolving the name and connecting.
    :param timeout: seconds for the whole attempt, from its start to the answer's last byte.
    :param response_limit: how many bytes of an answer's body are read and kept. A longer answer
        costs its connection.
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
        ca_file: str | None = None,
    ) -> None:
        self.guard = guard
        self.connect_timeout = connect_timeout
        self.timeout = timeout
        self.response_limit = response_limit
        self._ca_file = ca_file
        self._pid = os.getpid()
        self._adapter = _Adapter()
        self._plan = functools.lru_cache(maxsize=4096)(self._make_plan)
        self._tls_lock = threading.Lock()
        self._tls: ssl.SSLContext | None = None
        self._lookups = threading.BoundedSemaphore(4 * concurrency)
        self.idle: IdleConnections[_Connection | _TLSConnection] = IdleConnections(
            limit=max(2 * concurrency, 64)
        )
        self.watchdog = _Watchdog(self.idle)
        self._executor = ThreadPoolExecutor(concurrency, thread_name_prefix="resthooks-transport")

    def submit(self, request: Request) -> Future[Answer]:
        """Have a POST made as soon as a thread is free.

        :raises RuntimeError: after `close`, and in a process that did not make this transport.
        """
        if os.getpid() != self._pid:
            raise RuntimeError(
                "this transport was made before a fork: make a new one in each process"
            )
        return self._executor.submit(self._perform, request)

    def close(self) -> None:
        """Cancel what has not started, wait for what has, and close every connection."""
        if os.getpid() == self._pid:
            self._executor.shutdown(wait=True, cancel_futures=True)
            self.watchdog.stop()
        self.idle.close()

    def _perform(self, request: Request) -> Answer:
        start = time.monotonic()
        if start > request.start_before:
            return Answer(
                status=None,
                error="not_started",
                detail="its time was over before its turn came; nothing was sent",
                started=False,
            )
        attempt: _Attempt | None = None
        failure: Exception | None = None
        try:
            attempt = _Attempt(self, self._plan(request.url), request, start)
            self.watchdog.watch(attempt)
            try:
                self._adapter.send(_Prepared(attempt), stream=True, timeout=_NO_TIMEOUT)
                attempt.read_body()
            finally:
                self.watchdog.release(attempt)
        except requests.exceptions.ConnectionError as error:
            # The adapter's wrapping of an OSError.
            cause = error.args[0] if error.args else error
            failure = cause if isinstance(cause, Exception) else error
        except Exception as error:  # whatever it is, it is this attempt's answer
            failure = error
        if attempt is None:
            return _answer(None, failure, start)
        attempt.let_go()
        if attempt.expired:
            failure = _Failed("timeout", f"the attempt took longer than {self.timeout:g} seconds")
        return _answer(attempt, failure, start)

    def _make_plan(self, url: str) -> _Plan:
        return _Plan(self.guard.check_url(url))

    def tls_context(self) -> ssl.SSLContext:
        """Made once, at the first https URL: reading the certificates takes some time."""
        with self._tls_lock:
            if self._tls is None:
                context = create_urllib3_context()
                context.load_verify_locations(
                    self._ca_file or requests.utils.DEFAULT_CA_BUNDLE_PATH
                )
                self._tls = context
            return self._tls

    def resolve(self, host: str, port: int, deadline: float) -> list[tuple[int, tuple[Any, ...]]]:
        """`Guard.resolve`, given up at the deadline.

        `getaddrinfo` cannot be interrupted: it runs in a thread of its own, which is left behind
        if it hangs. There is a bound on how many may hang.
        """
        late = _Failed("connect_timeout", f"the name {host!r} was not resolved in time")
        if not self._lookups.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise late
        outcome: Future[list[tuple[int, tuple[Any, ...]]]] = Future()

        def look_up() -> None:
            try:
                outcome.set_result(self.guard.resolve(host, port))
            except BaseException as error:  # raised in the thread that waits
                outcome.set_exception(error)
            finally:
                self._lookups.release()

        try:
            threading.Thread(target=look_up, name="resthooks-lookup", daemon=True).start()
        except RuntimeError:  # the system gives no more threads
            self._lookups.release()
            raise
        done = threading.Event()
        outcome.add_done_callback(lambda _: done.set())
        if not done.wait(max(0.0, deadline - time.monotonic())):
            raise late
        try:
            return outcome.result()
        except AddressRefused:
            raise
        except (OSError, UnicodeError) as error:
            raise _Failed("dns", f"the name {host!r} cannot be resolved: {error}") from error


class _Failed(Exception):
    """An attempt failed for a reason that is known where it is raised."""

    def __init__(self, word: Error, detail: str) -> None:
        super().__init__(detail)
        self.word = word
        self.detail = detail


class _Plan:
    """All that can be known of a request from its URL; kept for the next one to the same URL.

    `head` is what follows the method.
    """

    __slots__ = ("head", "key", "target")

    def __init__(self, target: Target) -> None:
        self.target = target
        self.key = (target.scheme, target.host, target.port)
        self.head = (
            f" {target.path} HTTP/1.1\r\nHost: {target.authority}\r\nAccept-Encoding: identity\r\n"
        )


class _Attempt:
    """One request on its way, and what has come back of it so far."""

    def __init__(
        self, transport: RequestsTransport, plan: _Plan, request: Request, start: float
    ) -> None:
        self.transport = transport
        self.plan = plan
        self.request = request
        self.connect_deadline = start + min(transport.connect_timeout, transport.timeout)
        self.deadline = start + transport.timeout
        self.expired = False
        self.handle: socket.socket | None = None
        self.connection: _Connection | _TLSConnection | None = None
        self.response: http1.Response | None = None

    def urlopen(self, **_: Any) -> http1.Response:
        """What the adapter calls, as it would a pool's: send, and read the answer's head."""
        message = self._message()
        connection = self.transport.idle.take(self.plan.key)
        if connection is not None:
            try:
                return self._exchange(connection, message)
            except _STALE:
                # The receiver closed it while it idled. No byte of an answer came, so try again
                # on a fresh one, once; should the receiver have seen both, the webhook-id tells.
                if self.expired or (self.response and self.response.begun):
                    raise
                self.let_go()
        return self._exchange(self._new_connection(), message)

    def read_body(self) -> None:
        """Read as much of the body as is kept, and see whether that was all."""
        cast(http1.Response, self.response).read_body(self.transport.response_limit)

    def let_go(self) -> None:
        """Give the connection back if it can be used again, close it if not."""
        connection, self.connection = self.connection, None
        if connection is None:
            return
        if self.response is not None:
            self.response.close()
            if self.response.complete and not (self.response.will_close or self.expired):
                self.transport.idle.give(self.plan.key, connection)
                return
        connection.close()

    def open_socket(self) -> socket.socket:
        """Connect to an address that the guard has checked, and to no other."""
        target = self.plan.target
        addresses = self.transport.resolve(target.host, target.port, self.connect_deadline)
        failure: Exception | None = None
        for index, (family, address) in enumerate(addresses):
            left = self.connect_deadline - time.monotonic()
            if left <= 0:
                break
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                # A silent address must leave some time to those after it.
                sock.settimeout(left / (len(addresses) - index))
                sock.connect(address)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                # The watchdog ends what takes too long; this is for the case that it is gone.
                sock.settimeout(self.transport.timeout + 10 * WATCH_INTERVAL)
                return sock
            except OSError as error:
                failure = error
                sock.close()
            except BaseException:
                sock.close()
                raise
        if failure is None or isinstance(failure, TimeoutError):
            raise _Failed(
                "connect_timeout",
                f"no connection within {self.transport.connect_timeout:g} seconds",
            )
        raise failure

    def _exchange(self, connection: _Connection | _TLSConnection, message: bytes) -> http1.Response:
        self.connection = connection
        connection.attempt = self
        if connection.sock is None:
            connection.connect()
        else:
            self.transport.watchdog.arm(self, connection.handle)
        send_failure: OSError | None = None
        try:
            connection.sock.sendall(message)
        except (BrokenPipeError, ConnectionResetError) as error:
            # A receiver may answer before it has read all (413) and close.
            send_failure = error
        self.response = response = http1.Response(connection.sock, self.deadline)
        try:
            response.read_head()
        except OSError as error:
            raise send_failure or error from None
        if send_failure is not None:
            response.will_close = True
        return response

    def _new_connection(self) -> _Connection | _TLSConnection:
        target = self.plan.target
        if target.scheme == "https":
            return _TLSConnection(
                target.host, target.port, ssl_context=self.transport.tls_context()
            )
        return _Connection(target.host, target.port)

    def _message(self) -> bytes:
        method, body = self.request.method, self.request.body
        lines = [method, self.plan.head]
        for name, value in self.request.headers.items():
            if _known_header(name):
                # Looked at before it is encoded: a UnicodeEncodeError has the whole head in it.
                if _BAD_IN_HEADER_VALUE.search(value):
                    raise ValueError(
                        f"the value of the header {name!r} holds a character that has no place "
                        "in HTTP"
                    )
                lines.append(f"{name}: {value}\r\n")
        if body or method == "POST":
            lines.append(f"Content-Length: {len(body)}\r\n")
        lines.append("\r\n")
        return "".join(lines).encode("latin-1") + body


@functools.lru_cache(maxsize=1024)
def _known_header(name: str) -> bool:
    """Whether a header is to be sent; the connection's own are not."""
    if not _HEADER_NAME.fullmatch(name):
        # What comes after may be a value that somebody has put into the name.
        begin = _HEADER_NAME.match(name)
        raise ValueError(
            f"a header has no proper name; it begins with {begin[0] if begin else ''!r}"
        )
    return name.lower() not in _OWN_HEADERS


class _Prepared(requests.PreparedRequest):
    """A `PreparedRequest` whose fields are filled without preparing: the plan has it all."""

    def __init__(self, attempt: _Attempt) -> None:
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


class _GuardedConnection:
    """What the connections of both schemes do differently from urllib3's."""

    attempt: _Attempt
    handle: socket.socket | None = None

    def _new_conn(self) -> socket.socket:
        sock = self.attempt.open_socket()
        try:
            # The watchdog's own hold on the connection: it outlives the wrapping in TLS, and its
            # descriptor cannot be somebody else's by the time it is shut down.
            self.handle = sock.dup()
            self.attempt.transport.watchdog.arm(self.attempt, self.handle)
        except BaseException:
            sock.close()
            raise
        return sock

    def close(self) -> None:
        super().close()  # type: ignore[misc]  # urllib3's
        if self.handle is not None:
            self.handle.close()
            self.handle = None


class _Connection(_GuardedConnection, urllib3.connection.HTTPConnection):
    sock: Any


class _TLSConnection(_GuardedConnection, urllib3.connection.HTTPSConnection):
    sock: Any


class _Watchdog:
    """Ends attempts whose time is over, whatever their thread is blocked in.

    A socket's own timeout starts anew with every byte, so a receiver that drips could stretch an
    attempt without end. Shutting the connection down from another thread wakes the blocked one,
    in the handshake, while sending and while reading.
    """

    def __init__(self, idle: IdleConnections[Any]) -> None:
        self._idle = idle
        self._lock = threading.Lock()
        self._attempts: set[_Attempt] = set()
        self._work = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="resthooks-watchdog", daemon=True)
        self._thread.start()

    def watch(self, attempt: _Attempt) -> None:
        with self._lock:
            self._attempts.add(attempt)
        if not self._work.is_set():
            self._work.set()

    def arm(self, attempt: _Attempt, handle: socket.socket | None) -> None:
        """Tell which connection the attempt is on now."""
        with self._lock:
            attempt.handle = handle
            if attempt.expired:
                raise _Failed("timeout", "")

    def release(self, attempt: _Attempt) -> None:
        """From here on the attempt's connection is not touched any more."""
        with self._lock:
            self._attempts.discard(attempt)
            attempt.handle = None

    def stop(self) -> None:
        with self._lock:
            self._stopped.set()
            self._work.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(WATCH_INTERVAL):
            now = time.monotonic()
            self._idle.close_older_than(now - IDLE_LIMIT)
            with self._lock:
                for attempt in self._attempts:
                    if now >= attempt.deadline:
                        attempt.expired = True
                        if attempt.handle is not None:
                            with contextlib.suppress(OSError):  # it is down already
                                attempt.handle.shutdown(socket.SHUT_RDWR)
                if not self._attempts and not self._stopped.is_set():
                    self._work.clear()
            # With nothing in flight there is nothing to look at but connections that grow old.
            self._work.wait(IDLE_LIMIT)


def _answer(attempt: _Attempt | None, failure: Exception | None, start: float) -> Answer:
    status: int | None = None
    headers: Mapping[str, str] = {}
    body = b""
    response = attempt.response if attempt else None
    if attempt is not None and response is not None and response.understood:
        status = response.status
        body = bytes(response.body[: attempt.transport.response_limit])
        headers = {k: v for k, v in response.fields.items() if k in KEPT_HEADERS}
    word, detail = _describe(failure) if failure is not None else (None, "")
    if word == "protocol" and attempt is not None and _repeats(detail, attempt.request.headers):
        detail = "the answer is not HTTP: it repeats what was sent"
    return Answer(status, word, _readable(detail), body, headers, time.monotonic() - start)


def _repeats(detail: str, headers: Mapping[str, str]) -> bool:
    """Whether a part of a header's value is in the beginning of an answer that is not HTTP.

    Letters and digits are compared, and eight of them are a part: `detail` has been cut and quoted.
    """
    said = _NO_LETTER_OR_DIGIT.sub("", detail)
    for value in headers.values():
        sent = _NO_LETTER_OR_DIGIT.sub("", value)
        size = min(len(sent), 8)
        if size >= 4 and any(sent[i : i + size] in said for i in range(len(sent) - size + 1)):
            return True
    return False


def _readable(detail: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in detail[:MAX_DETAIL])


def _describe(failure: Exception) -> tuple[Error, str]:
    """The word for a failure, and what to tell people of it."""
    detail = str(failure) or type(failure).__name__
    if isinstance(failure, _Failed):
        return failure.word, failure.detail
    if isinstance(failure, AddressRefused):
        log.warning("a hook was not sent: %s", failure.detail)
        return "address_refused", failure.reason
    if isinstance(failure, (ssl.SSLError, urllib3.exceptions.SSLError, ssl.CertificateError)):
        return "tls", detail
    if isinstance(failure, TimeoutError):
        return "timeout", detail
    if isinstance(failure, OSError):
        return "connection", detail
    if isinstance(failure, http1.NotHTTP):
        return "protocol", f"the answer is not HTTP: {detail}"
    log.error("an attempt failed for a reason of our own", exc_info=failure)
    return "internal", f"{type(failure).__name__}: {failure}"
