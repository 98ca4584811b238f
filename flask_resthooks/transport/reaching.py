"""Ground: what `dialing` does, without blocking: from a target to a socket that leads there.

To an address that the guard has checked, and to no other. Through a proxy it is `dialing` itself,
in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from ..guard import Target
from .dialing import Dialer, unresolved
from .failures import lacks_descriptors
from .lookups import Address, Full, Late

FULL_PAUSE = 0.02
"""Seconds until it is asked again for room for a lookup."""

Outcome = TypeVar("Outcome")


class Reacher:
    """Opens connections, in a loop.

    :param threads: how many connections a proxy may be asked for at a time.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        dialer: Dialer,
        tls_context: Callable[[], ssl.SSLContext],
        threads: int,
    ) -> None:
        self._loop = loop
        self._dialer = dialer
        self._tls_context = tls_context
        self._threads: ThreadPoolExecutor | None = None
        if not dialer.direct:
            self._threads = ThreadPoolExecutor(threads, thread_name_prefix="resthooks-dialer")

    async def reach(self, target: Target, deadline: float) -> socket.socket:
        """Connect; and over TLS, for which there is as much time as it takes, have it agreed upon.

        :param deadline: the `time.monotonic()` by which there must be a connection.
        :raises AddressRefused: if the guard refuses an address of the target's name.
        :raises Failed: if the name has no address, the time is over, or the proxy fails.
        :raises OSError: if nobody takes the connection, and without a descriptor for it.
        """
        if self._threads is None:
            sock = await self._first(await self._resolve(target, deadline), deadline)
        else:
            sock = await self._dial(self._threads, target, deadline)
        return await self._secure(sock, target.host) if target.scheme == "https" else sock

    def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown()

    async def _resolve(self, target: Target, deadline: float) -> list[Address]:
        name, resolve = self._dialer.question(target)
        try:
            while (outcome := self._dialer.lookups.begin(name, resolve)) is None:
                if time.monotonic() >= deadline:
                    raise Full
                await asyncio.sleep(FULL_PAUSE)
            return await self._outcome(outcome, deadline)
        except (Late, Full, OSError, UnicodeError) as error:
            if lacks_descriptors(error):
                raise
            raise unresolved(target.host, error) from error

    async def _first(self, addresses: list[Address], deadline: float) -> socket.socket:
        """A connection to the first of these addresses that takes one."""
        failure: OSError | None = None
        for index, (family, address) in enumerate(addresses):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                sock.setblocking(False)
                # A silent address must leave some time to those after it.
                await self._connect(sock, address, left / (len(addresses) - index))
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return sock
            except OSError as error:
                failure = error
                sock.close()
            except BaseException:
                sock.close()
                raise
        raise self._dialer.unconnected(failure)

    async def _connect(self, sock: socket.socket, address: Any, patience: float) -> None:
        try:
            sock.connect(address)
            return
        except (BlockingIOError, InterruptedError):
            pass
        await self._ready(sock, writable=True, patience=patience)
        number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise OSError(number, os.strerror(number))

    async def _dial(
        self, threads: ThreadPoolExecutor, target: Target, deadline: float
    ) -> socket.socket:
        outcome = threads.submit(self._dialer.dial, target, deadline)
        try:
            sock = await self._outcome(outcome)
        except asyncio.CancelledError:
            outcome.add_done_callback(_close)
            outcome.cancel()
            raise
        sock.setblocking(False)
        return sock

    async def _secure(self, plain: socket.socket, host: str) -> socket.socket:
        try:
            sock = self._tls_context().wrap_socket(
                plain, server_hostname=host, do_handshake_on_connect=False
            )
        except BaseException:
            plain.close()
            raise
        try:
            while True:
                try:
                    sock.do_handshake()
                    return sock
                except ssl.SSLWantReadError:
                    await self._ready(sock)
                except ssl.SSLWantWriteError:
                    await self._ready(sock, writable=True)
        except BaseException:
            sock.close()
            raise

    async def _ready(
        self, sock: socket.socket, *, writable: bool = False, patience: float | None = None
    ) -> None:
        """Wait until something can be read from it, or be written to it.

        :raises TimeoutError: if that takes longer.
        """
        ready = self._loop.create_future()
        number = sock.fileno()
        add = self._loop.add_writer if writable else self._loop.add_reader
        add(number, _wake, ready)
        try:
            await asyncio.wait([ready], timeout=patience)
        finally:
            remove = self._loop.remove_writer if writable else self._loop.remove_reader
            remove(number)
        if not ready.done():
            raise TimeoutError

    async def _outcome(self, outcome: Future[Outcome], deadline: float | None = None) -> Outcome:
        """What comes of something that a thread does. It is left alone if it takes longer.

        :raises Late: after the deadline.
        """
        ready = self._loop.create_future()

        def tell(_: Future[Outcome]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended before it
                self._loop.call_soon_threadsafe(_wake, ready)

        outcome.add_done_callback(tell)
        patience = None if deadline is None else max(0.0, deadline - time.monotonic())
        await asyncio.wait([ready], timeout=patience)
        if not outcome.done():
            raise Late
        return outcome.result()


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _close(outcome: Future[socket.socket]) -> None:
    """Let go of what nobody waits for any more."""
    if not outcome.cancelled() and outcome.exception() is None:
        outcome.result().close()
