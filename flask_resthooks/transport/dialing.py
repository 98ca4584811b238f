"""Ground: from a target to a socket that leads there: to an address that the guard has checked, and
to no other; through the proxy, if there is one, and never around it.
"""

from __future__ import annotations

import functools
import logging
import socket
import threading
import time
from collections.abc import Callable

from ..guard import Guard, Target
from .failures import Failed, lacks_descriptors
from .http1 import NotHTTP
from .lookups import Address, Full, Late, Lookups
from .proxy import Proxy, Refused

log = logging.getLogger(__name__)

LOG_PAUSE = 60.0
"""Seconds for which the same trouble with the proxy is not logged again."""

LINK_TIMEOUT = 1.0
"""Seconds beyond a deadline that a socket would wait, were the watchdog gone."""

UNREACHED = frozenset({502, 503, 504})
"""What a proxy answers when it is the receiver who cannot be reached."""


class Dialer:
    """Opens connections.

    :param connect_timeout: seconds for all of it, for the messages.
    :param timeout: seconds of an attempt.
    :param proxy: URL of the proxy that everything goes through; empty for none.
    :param proxy_resolves: the proxy is given names, and it is trusted to refuse addresses that
        are not public: nothing is resolved here.
    """

    def __init__(
        self,
        guard: Guard,
        lookups: Lookups,
        *,
        connect_timeout: float,
        timeout: float,
        proxy: str = "",
        proxy_resolves: bool = False,
    ) -> None:
        self.lookups = lookups
        self._guard = guard
        self._connect_timeout = connect_timeout
        self._timeout = timeout
        self._proxy = Proxy(proxy) if proxy else None
        self._proxy_resolves = proxy_resolves
        self._log_lock = threading.Lock()
        self._logged: dict[str, float] = {}

    @property
    def direct(self) -> bool:
        """Whether the way leads through no proxy."""
        return self._proxy is None

    def dial(self, target: Target, deadline: float) -> socket.socket:
        """Connect.

        :param deadline: the `time.monotonic()` by which there must be a connection.
        :raises AddressRefused: if the guard refuses an address of the target's name.
        :raises Failed: if the name has no address, the time is over, or the proxy fails.
        :raises OSError: if nobody takes the connection, and without a descriptor for it.
        """
        if self._proxy is None:
            return self._first(self._resolve(target, deadline), deadline)
        if self._proxy_resolves:
            authorities = [_authority(target.host, target.port)]
        else:
            # As the proxy is given an address and no name, a name that changes its answer
            # between the check and the proxy's connection gains nothing.
            authorities = [
                _authority(address[0], target.port)
                for _, address in self._resolve(target, deadline)
            ]
        return self._through(self._proxy, authorities, deadline)

    def _resolve(self, target: Target, deadline: float) -> list[Address]:
        name, resolve = self.question(target)
        try:
            return self.lookups.find(name, resolve, deadline)
        except (Late, Full, OSError, UnicodeError) as error:
            if lacks_descriptors(error):
                raise
            raise unresolved(target.host, error) from error

    def question(self, target: Target) -> tuple[tuple[str, int], Callable[[], list[Address]]]:
        """What is asked of `lookups`."""
        host, port = target.host, target.port
        return (host, port), functools.partial(self._guard.resolve, host, port)

    def _first(self, addresses: list[Address], deadline: float) -> socket.socket:
        """A connection to the first of these addresses that takes one."""
        failure: OSError | None = None
        for index, (family, address) in enumerate(addresses):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                # A silent address must leave some time to those after it.
                sock.settimeout(left / (len(addresses) - index))
                sock.connect(address)
                return self._ready(sock)
            except OSError as error:
                failure = error
                sock.close()
            except BaseException:
                sock.close()
                raise
        raise self.unconnected(failure)

    def unconnected(self, failure: OSError | None) -> Exception:
        """What it means that no address took a connection; that of the last one is told."""
        if failure is None or isinstance(failure, TimeoutError):
            return Failed(
                "connect_timeout", f"no connection within {self._connect_timeout:g} seconds"
            )
        return failure

    def _ready(self, sock: socket.socket) -> socket.socket:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The watchdog ends what takes too long; this is for the case that it is gone.
        sock.settimeout(self._timeout + LINK_TIMEOUT)
        return sock

    def _through(self, proxy: Proxy, authorities: list[str], deadline: float) -> socket.socket:
        """A tunnel to the first of these that the proxy connects to."""
        failure = Failed("connect_timeout", "")
        for index, authority in enumerate(authorities):
            now = time.monotonic()
            if now >= deadline:
                break
            until = now + (deadline - now) / (len(authorities) - index)
            sock = self._reach(proxy, until)
            try:
                proxy.open_tunnel(sock, authority, until)
                return self._ready(sock)
            except TimeoutError:
                sock.close()
                failure = Failed("connect_timeout", "")
            except Refused as refusal:
                sock.close()
                failure = self._refused(proxy, authority, refusal.status)
                if refusal.status == 407:
                    break
            except NotHTTP as error:
                sock.close()
                raise self._failed(
                    "the outbound proxy does not answer as one",
                    f"the answer of the proxy {proxy.name} is not HTTP: {error}",
                ) from None
            except OSError as error:
                sock.close()
                failure = self._failed(
                    "the outbound proxy closed the connection without an answer",
                    f"the proxy {proxy.name} failed at CONNECT {authority}: {error}",
                )
            except BaseException:
                sock.close()
                raise
        if failure.word == "connect_timeout":
            failure.detail = (
                f"no connection through the outbound proxy within {self._connect_timeout:g} seconds"
            )
        raise failure

    def _reach(self, proxy: Proxy, deadline: float) -> socket.socket:
        """Connect to the proxy: its address is the operator's, and not judged."""
        try:
            addresses = self.lookups.find(proxy, functools.partial(_look_up, proxy), deadline)
            return self._first(addresses, deadline)
        except (Late, Full, Failed, OSError, UnicodeError) as error:
            if lacks_descriptors(error):  # no fault of the proxy's
                raise
            why = "it was not resolved in time" if isinstance(error, Late) else error
            raise self._failed(
                "the outbound proxy cannot be reached",
                f"the proxy {proxy.name} cannot be reached: {why}",
            ) from None

    def _refused(self, proxy: Proxy, authority: str, status: int) -> Failed:
        if status in UNREACHED:
            return Failed(
                "connection", f"the outbound proxy could not connect: it answered {status}"
            )
        return self._failed(
            f"the outbound proxy refused to connect: it answered {status}",
            f"the proxy {proxy.name} answered {status} to CONNECT {authority}",
        )

    def _failed(self, detail: str, logged: str) -> Failed:
        """A failure of the proxy's; where it is and what it said is the operator's to know."""
        now = time.monotonic()
        with self._log_lock:
            last = self._logged.get(detail)
            if last is None or now - last >= LOG_PAUSE:
                self._logged[detail] = now
                log.error("a hook was not sent: %s", logged)
        return Failed("proxy", detail)


def unresolved(host: str, error: Late | Full | OSError | UnicodeError) -> Failed:
    """What it means that a lookup ended like this."""
    if isinstance(error, Late):
        return Failed("connect_timeout", f"the name {host!r} was not resolved in time")
    if isinstance(error, Full):  # no fault of this receiver's: it is given back, and tried again
        detail = "too many names of others are being resolved; nothing was sent"
        return Failed("not_started", detail)
    return Failed("dns", f"the name {host!r} cannot be resolved: {error}")


def _look_up(proxy: Proxy) -> list[Address]:
    found = socket.getaddrinfo(
        proxy.host, proxy.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
    )
    return [(int(family), tuple(address)) for family, _, _, _, address in found]


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
