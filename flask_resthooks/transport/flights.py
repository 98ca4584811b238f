"""Ground: one request in flight over a connection that a loop watches.

No task and no timer belongs to it: the connection's answers, and the transport's look at the clock,
are all that moves it.
"""

from __future__ import annotations

import asyncio
import math
import socket
import ssl
import time
from collections.abc import Callable
from concurrent.futures import Future

from . import Answer, Request
from .http1 import PIECE, Response
from .messages import Plan

SENT_IN_A_ROW = 64
"""Pieces of a request that are sent before others have their turn."""


class Flight:
    """A request in flight.

    `seen_before`: it goes over a connection that others went over before it.

    :param start: the `time.monotonic()` at which its time began.
    :param limit: how many bytes of an answer's body are kept.
    """

    __slots__ = (
        *("dialing", "future", "plan", "request", "response", "seen_before", "sent", "start"),
        "wire",
    )

    def __init__(
        self,
        request: Request,
        future: Future[Answer],
        plan: Plan,
        sent: tuple[bytes, ...],
        start: float,
    ) -> None:
        self.request = request
        self.future = future
        self.plan = plan
        self.sent = sent
        self.start = start
        self.seen_before = False
        self.response: Response | None = None
        self.wire: Wire | None = None
        self.dialing: asyncio.Task[None] | None = None


_NONE = Response(0)


class Wire:
    """A connection that a loop watches, for as long as it is open.

    `sent_at`: the `time.monotonic()` at which the last request was sent to its end; without one
    as long as it was not.

    :param sock: does not block.
    :param landed: told how a flight over it has ended.
    :param ended: told when there is nothing more to be had of it, between two flights.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        landed: Callable[[Flight, Exception | None], None],
        ended: Callable[[Wire], None],
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._tls = isinstance(sock, ssl.SSLSocket)
        self._number = sock.fileno()
        self._landed = landed
        self._ended = ended
        self._flight: Flight | None = None
        self._response = _NONE
        self._unsent: list[bytes | memoryview] = []
        self._send_failure: OSError | None = None
        self._watches_writing = False
        self.sent_at = math.inf
        loop.add_reader(self._number, self._readable)

    @property
    def is_connected(self) -> bool:
        """Whether another request may go over it: nothing has come that nobody asked for.

        Asked of the system at each request, as the loop may not have come to it yet.
        """
        try:
            self._sock.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):  # over TLS, a ticket may have come
            return True
        except OSError:
            return False
        return False

    def carry(self, flight: Flight, response: Response) -> None:
        """Send its request, and read the answer to it."""
        flight.wire = self
        self._flight = flight
        self._response = response
        self._unsent.extend(flight.sent)
        self.sent_at = math.inf
        self._send()

    def let_go(self) -> bool:
        """The flight is over. Whether there may be another one."""
        response = self._response
        self._flight, self._response = None, _NONE  # its body is not kept while this idles
        return (
            response.complete
            and not (response.will_close or response.goes_on)
            and not self._unsent
            and self._send_failure is None
            and not (self._tls and self._pending())
        )

    def close(self) -> None:
        if self._number >= 0:
            self._loop.remove_reader(self._number)
            self._watch_writing(False)
            self._number = -1
            self._unsent.clear()
            self._sock.close()

    def _send(self) -> None:
        unsent = self._unsent
        for _ in range(SENT_IN_A_ROW):
            if not unsent:
                break
            piece = unsent[0]
            try:
                count = self._sock.send(piece)
            except (BlockingIOError, ssl.SSLWantWriteError):
                break
            except (BrokenPipeError, ConnectionResetError) as error:
                # A receiver may answer before it has read all (413) and close.
                self._send_failure = error
                unsent.clear()
            except OSError as error:
                self._land(error)
                return
            else:
                if count == len(piece):
                    del unsent[0]
                    if not unsent:
                        self.sent_at = time.monotonic()
                else:
                    unsent[0] = memoryview(piece)[count:]
        if self._watches_writing or unsent:
            self._watch_writing(bool(unsent))

    def _watch_writing(self, on: bool) -> None:
        if on and not self._watches_writing:
            self._loop.add_writer(self._number, self._send)
        elif self._watches_writing and not on:
            self._loop.remove_writer(self._number)
        self._watches_writing = on

    def _readable(self) -> None:
        if self._flight is None:
            if not self.is_connected:
                self._ended(self)
            return
        response = self._response
        failure: Exception | None = None
        try:
            data = self._sock.recv(PIECE)
            if data:
                if not response.feed(data):
                    if self._tls and self._pending():  # of which the system knows nothing
                        self._loop.call_soon(self._readable_still, self._flight)
                    return
            else:
                response.end()
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError as error:
            failure = self._ends(error)
        except Exception as error:
            failure = error
        self._land(failure)

    def _readable_still(self, flight: Flight) -> None:
        if self._flight is flight:
            self._readable()

    def _ends(self, error: OSError) -> Exception | None:
        """What it means for the answer that the connection has failed."""
        try:
            self._response.end(error)
        except OSError:
            if self._send_failure is not None and not self._response.understood:
                return self._send_failure
            return error
        return None

    def _land(self, failure: Exception | None) -> None:
        assert self._flight is not None
        self._landed(self._flight, failure)

    def _pending(self) -> bool:
        return isinstance(self._sock, ssl.SSLSocket) and self._sock.pending() > 0
