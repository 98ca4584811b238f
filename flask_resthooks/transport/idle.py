"""Ground: connections that are kept between two POSTs."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import Generic, Protocol, TypeVar

IDLE_LIMIT = 30.0
"""Seconds after which a connection that nobody used is closed."""

SPARED = 8
"""Connections that are closed when descriptors run out."""

Key = tuple[str, str, int]
"""Scheme, host and port."""


class _Closable(Protocol):
    @property
    def is_connected(self) -> bool: ...

    def close(self) -> None: ...


Connection = TypeVar("Connection", bound=_Closable)


class IdleConnections(Generic[Connection]):
    """Connections that wait for the next POST, by scheme, host and port; the newest goes first.

    The bound is on all of them together: with many receivers it is the number of descriptors, not
    the number per host, that runs out.

    :param limit: of connections.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._closed = False
        self._by_key: dict[Key, list[Connection]] = {}
        self._since: OrderedDict[Connection, tuple[float, Key]] = OrderedDict()

    def take(self, key: Key) -> Connection | None:
        while True:
            with self._lock:
                stack = self._by_key.get(key)
                if not stack:
                    return None
                connection = stack.pop()
                if not stack:
                    del self._by_key[key]
                del self._since[connection]
            if connection.is_connected:
                return connection
            connection.close()

    def give(self, key: Key, connection: Connection) -> None:
        surplus: Connection | None = None
        with self._lock:
            if self._closed:
                surplus = connection
            else:
                self._by_key.setdefault(key, []).append(connection)
                self._since[connection] = (time.monotonic(), key)
                if len(self._since) > self._limit:
                    surplus = self._drop_oldest()
        if surplus is not None:
            surplus.close()

    def discard(self, connection: Connection) -> None:
        """Forget one that is closed."""
        with self._lock:
            _, key = self._since.pop(connection, (0.0, None))
            if key is not None:
                self._forget(connection, key)

    def close_old(self) -> None:
        """Close what has idled for `IDLE_LIMIT`."""
        instant = time.monotonic() - IDLE_LIMIT
        while True:
            with self._lock:
                since, _ = next(iter(self._since.values()), (instant, None))
                if since >= instant:
                    return
                connection = self._drop_oldest()
            connection.close()

    def make_room(self) -> bool:
        """Close the `SPARED` that have idled for longest. Whether there were any."""
        with self._lock:
            count = min(SPARED, len(self._since))
            connections = [self._drop_oldest() for _ in range(count)]
        for connection in connections:
            connection.close()
        return bool(connections)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            connections = list(self._since)
            self._since.clear()
            self._by_key.clear()
        for connection in connections:
            connection.close()

    def _drop_oldest(self) -> Connection:
        connection, (_, key) = self._since.popitem(last=False)
        self._forget(connection, key)
        return connection

    def _forget(self, connection: Connection, key: Key) -> None:
        stack = self._by_key[key]
        stack.remove(connection)
        if not stack:
            del self._by_key[key]

    def __len__(self) -> int:
        return len(self._since)
