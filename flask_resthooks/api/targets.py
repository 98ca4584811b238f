"""Whether a target URL may be subscribed: the guard's word, in bounded time."""

from __future__ import annotations

import logging
import queue
import threading

from ..errors import AddressRefused
from ..guard import Guard

log = logging.getLogger(__name__)

RESOLVE_LIMIT = 1.5
"""Seconds that a request waits for a name to be resolved."""

MAX_RESOLVING = 16
"""Names that are being resolved at once; more are accepted as if the resolver were slow."""


class TargetCheck:
    """Judges target URLs for one app.

    A name that cannot be resolved in time is accepted: it is judged again at each delivery, and
    that time it counts.
    """

    def __init__(self, guard: Guard, *, limit: float = RESOLVE_LIMIT) -> None:
        self._guard = guard
        self._limit = limit
        self._room = threading.BoundedSemaphore(MAX_RESOLVING)

    def objection(self, url: str) -> str | None:
        """Why a URL is refused; None if it is not."""
        try:
            target = self._guard.check_url(url)
        except AddressRefused as refusal:
            return _told(refusal)
        if not self._room.acquire(blocking=False):
            return None
        answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()

        def resolve() -> None:
            try:
                answers.put(self._refusal(target.host, target.port))
            finally:
                self._room.release()

        # The resolver knows no timeout, and a thread of a pool would hold up the process's end.
        thread = threading.Thread(target=resolve, name="resthooks-resolve", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # there can be no more threads
            self._room.release()
            return None
        try:
            return answers.get(timeout=self._limit)
        except queue.Empty:
            return None

    def _refusal(self, host: str, port: int) -> str | None:
        try:
            self._guard.resolve(host, port)
        except AddressRefused as refusal:
            return _told(refusal)
        except (OSError, UnicodeError):
            pass
        return None


def _told(refusal: AddressRefused) -> str:
    """What the caller is told; the rest, if there is more, goes to the log."""
    if refusal.detail != refusal.reason:
        log.warning("a target URL was refused: %s", refusal.detail)
    return refusal.reason
