"""Ground: connections of urllib3 that ask an attempt for their socket."""

from __future__ import annotations

import socket
from typing import Any, Protocol

import urllib3.connection


class Opener(Protocol):
    """An attempt, as its connection sees it."""

    def open_socket(self) -> socket.socket:
        """A socket that leads to the target."""

    def arm(self, handle: socket.socket) -> None:
        """Have an eye on this."""


class _GuardedConnection:
    """What the connections of both schemes do differently from urllib3's."""

    attempt: Opener
    handle: socket.socket | None = None

    def _new_conn(self) -> socket.socket:
        sock = self.attempt.open_socket()
        try:
            # The watchdog's own hold on the connection: it outlives the wrapping in TLS, and its
            # descriptor cannot be somebody else's by the time it is shut down.
            self.handle = sock.dup()
            self.attempt.arm(self.handle)
        except BaseException:
            sock.close()
            raise
        return sock

    def close(self) -> None:
        super().close()  # type: ignore[misc]  # urllib3's
        if self.handle is not None:
            self.handle.close()
            self.handle = None


class PlainConnection(_GuardedConnection, urllib3.connection.HTTPConnection):
    sock: Any


class TLSConnection(_GuardedConnection, urllib3.connection.HTTPSConnection):
    sock: Any


Connection = PlainConnection | TLSConnection
