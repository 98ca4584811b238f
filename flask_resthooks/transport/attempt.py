"""Ground: one request on its way, and what has come back of it so far.

Three promises that urllib3's pool does not make are kept here: the connection is made to the
address that the guard has checked (`dialing`), the whole attempt has a deadline (`watchdog`, and
here: shutting a socket down does not stop a sender who is faster than we read), and no more than
`response_limit` bytes of the answer are read (`http1`).
"""

from __future__ import annotations

import math
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from . import Request, http1
from .connections import Connection, PlainConnection, TLSConnection
from .dialing import Dialer
from .failures import STALE, STALE_LIMIT, lacks_descriptors, without_descriptors
from .idle import IdleConnections
from .messages import Plan, message
from .watchdog import Stage, Watchdog


@dataclass(frozen=True, slots=True)
class Kit:
    """What all attempts of a transport have in common.

    :param connect_timeout: seconds for resolving the name and connecting.
    :param timeout: seconds for the whole attempt.
    :param response_limit: how many bytes of an answer's body are kept.
    """

    dialer: Dialer
    idle: IdleConnections[Connection]
    watchdog: Watchdog
    tls_context: Callable[[], ssl.SSLContext]
    connect_timeout: float
    timeout: float
    response_limit: int


class Attempt:
    """One request on its way.

    :param start: the `time.monotonic()` at which its time began.
    """

    def __init__(self, kit: Kit, plan: Plan, request: Request, start: float) -> None:
        self.plan = plan
        self.request = request
        self.deadline = start + kit.timeout
        self.expired = False
        self.stage = Stage.OURS
        self.handle: socket.socket | None = None
        self.response: http1.Response | None = None
        self._kit = kit
        self._connect_deadline = start + min(kit.connect_timeout, kit.timeout)
        self._connection: Connection | None = None
        self._sent_at = math.inf

    def urlopen(self, **_: Any) -> http1.Response:
        """What the adapter calls, as it would a pool's: send, and read the answer."""
        sent = message(self.plan, self.request)
        connection = self._kit.idle.take(self.plan.key)
        if connection is not None:
            try:
                return self._exchange(connection, sent)
            except STALE:
                # The receiver closed it while it idled. No byte of an answer came, so try again
                # on a fresh one, once; should the receiver have seen both, the webhook-id tells.
                if self.expired or (self.response and self.response.begun):
                    raise
                now = time.monotonic()
                if now > self._sent_at + STALE_LIMIT or now >= self._connect_deadline:
                    raise
                self.let_go()
        return self._exchange(self._new_connection(), sent)

    def let_go(self) -> None:
        """Give the connection back if it can be used again, close it if not."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        response = self.response
        if response is not None:
            again = response.complete and not (self.expired or response.will_close)
            if again and not response.goes_on and _pending(connection.sock) == 0:
                self._kit.idle.give(self.plan.key, connection)
                return
        connection.close()

    def open_socket(self) -> socket.socket:
        """Asked by the connection."""
        return self._kit.dialer.dial(self.plan.target, self._connect_deadline)

    def arm(self, handle: socket.socket | None) -> None:
        """Told by the connection."""
        self._kit.watchdog.arm(self, handle)

    def _exchange(self, connection: Connection, sent: Iterable[bytes]) -> http1.Response:
        self._connection = connection
        connection.attempt = self
        if connection.sock is None:
            self.stage = Stage.CONNECTING
            self._connect(connection)
        else:
            self.arm(connection.handle)
        send_failure: OSError | None = None
        self.stage = Stage.SENDING
        self._sent_at = math.inf
        try:
            for piece in sent:
                connection.sock.sendall(piece)
            self._sent_at = time.monotonic()
        except (BrokenPipeError, ConnectionResetError) as error:
            # A receiver may answer before it has read all (413) and close.
            send_failure = error
        self.response = response = http1.Response(self._kit.response_limit)
        self.stage = Stage.READING
        try:
            self._read(connection.sock, response)
        except OSError as error:
            if send_failure is None or response.understood:
                raise
            raise send_failure from error
        finally:
            self.stage = Stage.OURS
        if send_failure is not None:
            response.will_close = True
        return response

    def _connect(self, connection: Connection) -> None:
        try:
            connection.connect()
        except OSError as error:
            if not lacks_descriptors(error):
                raise
            connection.close()
            if not self._kit.idle.make_room():
                raise without_descriptors() from error
            try:
                connection.connect()
            except OSError as still:
                raise (without_descriptors() if lacks_descriptors(still) else still) from error

    def _read(self, sock: socket.socket, response: http1.Response) -> None:
        while not response.done:
            if time.monotonic() >= self.deadline:
                raise TimeoutError("the answer took too long")
            try:
                data = sock.recv(http1.PIECE)
            except OSError as error:
                response.end(error)
            else:
                if data:
                    response.feed(data)
                else:
                    response.end()

    def _new_connection(self) -> Connection:
        target = self.plan.target
        if target.scheme == "https":
            return TLSConnection(target.host, target.port, ssl_context=self._kit.tls_context())
        return PlainConnection(target.host, target.port)


def _pending(sock: socket.socket) -> int:
    """What has come over TLS and was not read. What the system has not handed over yet makes the
    connection one that `is_connected` says no of."""
    return sock.pending() if isinstance(sock, ssl.SSLSocket) else 0
