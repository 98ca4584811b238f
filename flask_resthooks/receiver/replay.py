"""Receiver: a hook that comes again is not processed again.

A hook comes twice if its answer got lost, or because somebody who has overheard it sends it again
within the tolerance. A store remembers what was processed; it needs to be able to say of a key
whether it is new (`add`), and to forget one (`discard`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

log = logging.getLogger("flask_resthooks.receiver")

RETENTION = 7 * 86400.0
"""Seconds that a hook is remembered: well over the 76 hours, lengthened by up to a fifth, in which
flask_resthooks tries again by default."""

PROCESSING = 300.0
"""Seconds after which a view that has not ended is taken for dead."""


class ReplayStore(Protocol):
    """What remembers. Several processes of an app must share it, threads may use it at once."""

    def add(self, key: str, seconds: float) -> bool:
        """Remember a key for some seconds, unless it is remembered already: then False, and it
        stays as it is. Of several calls at once, one gets True."""
        ...

    def discard(self, key: str) -> None:
        """Forget a key, if it is remembered."""
        ...


class MemoryReplayStore:
    """Remembers in memory: for an app of one process, and until that ends.

    :param limit: how many keys are remembered, at most. More than these, and the oldest are
        forgotten early.
    :param clock: seconds that only grow.
    """

    def __init__(
        self, limit: int = 100_000, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if limit < 1:
            raise ValueError("limit must be 1 or more")
        self._limit = limit
        self._clock = clock
        self._ends: dict[str, float] = {}
        self._lock = threading.Lock()

    def add(self, key: str, seconds: float) -> bool:
        """See `ReplayStore`."""
        now = self._clock()
        with self._lock:
            if self._ends.get(key, now) > now:
                return False
            self._ends.pop(key, None)  # the new one is the youngest
            if len(self._ends) >= self._limit:
                self._make_room(now)
            self._ends[key] = now + seconds
            return True

    def discard(self, key: str) -> None:
        """See `ReplayStore`."""
        with self._lock:
            self._ends.pop(key, None)

    def __len__(self) -> int:
        return len(self._ends)

    def _make_room(self, now: float) -> None:
        # For some more than one, so that not every call has to look through all.
        keep = self._limit - max(1, self._limit // 8)
        alive = [(key, end) for key, end in self._ends.items() if end > now]
        self._ends = dict(alive[-keep:] if keep else ())


class RedisReplayStore:
    """Remembers in Redis, for all processes of an app.

    :param client: a `redis.Redis`, or what has its `set` and `delete`.
    :param prefix: what the names of its keys begin with.
    """

    def __init__(self, client: Any, prefix: str = "resthooks:received:") -> None:
        self._client = client
        self._prefix = prefix

    def add(self, key: str, seconds: float) -> bool:
        """See `ReplayStore`."""
        milliseconds = max(1, round(seconds * 1000))
        return bool(self._client.set(self._prefix + key, 1, nx=True, px=milliseconds))

    def discard(self, key: str) -> None:
        """See `ReplayStore`."""
        self._client.delete(self._prefix + key)


class Turn:
    """One hook's way through a store.

    While its view runs, the hook is only marked for `PROCESSING` seconds: if the process dies, it
    is not taken for processed when it comes again. Nobody else changes its mark meanwhile, for a
    second mark says that somebody is at it.

    :param keys: by each of which it is known; not empty.
    :param retention: seconds to remember it once it is processed.
    """

    def __init__(self, store: ReplayStore, keys: Sequence[str], retention: float) -> None:
        self._store = store
        self._keys = sorted(keys)
        self._retention = retention

    def begin(self) -> str:
        """`new`: it is to be processed, and then `done` or `failed` must be called. `busy`:
        somebody is processing it. `known`: it was processed."""
        begun: list[str] = []
        try:
            for key in self._keys:
                if not self._store.add(_at_it(key), PROCESSING):
                    self._forget(*map(_at_it, begun))
                    return "busy"
                begun.append(key)
            new = [key for key in self._keys if self._store.add(key, PROCESSING)]
            if len(new) == len(self._keys):
                return "new"
            self._remember(new)
        except BaseException:
            self._forget(*map(_at_it, begun))
            raise
        self._forget(*map(_at_it, begun))
        return "known"

    def done(self) -> None:
        """It was processed."""
        try:
            self._remember(self._keys)
        except Exception:
            # It is processed all the same, and the sender should hear that.
            log.exception("a hook was processed, but that could not be remembered")
        self._forget(*map(_at_it, self._keys))

    def failed(self) -> None:
        """It was not processed, and is to be when it comes again."""
        self._forget(*self._keys)
        self._forget(*map(_at_it, self._keys))

    def _remember(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._store.discard(key)
            self._store.add(key, self._retention)

    def _forget(self, *keys: str) -> None:
        for key in keys:
            try:
                self._store.discard(key)
            except Exception:
                log.exception("a hook could not be forgotten; until then, it will not be processed")


def _at_it(key: str) -> str:
    return f"{key}:at-it"
