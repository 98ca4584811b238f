"""Named points at which a process of the laboratory kills itself (SIGKILL), at the nth passing.

Nothing of this is in the product: the laboratory's own processes wrap its methods before they
begin. `claim`, `settle` and `fan_out` are the outbox's three transactions, and each has a moment
before its commit and one after it.
"""

from __future__ import annotations

import functools
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from flask_resthooks.outbox import Outbox
from flask_resthooks.transport.requests import RequestsTransport
from flask_resthooks.wakeups import Wakeups

IN_FLIGHT = 0.012
"""Seconds from the nth POST's beginning to the kill: receivers take longer to answer."""

_inside = threading.local()


def arm(point: str, passing: int) -> None:
    """Have this process die at a point of `POINTS`, when it is passed for the nth time."""
    left = [passing]
    lock = threading.Lock()

    def pass_by() -> None:
        with lock:
            left[0] -= 1
            over = left[0] == 0
        if over:
            _die()

    POINTS[point](pass_by)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)  # it comes at once, but not always before the next instruction


def _after(owner: Any, name: str, did: Callable[[Any], bool]) -> Callable[[Any], None]:
    """When the method has returned, so after its commit; if it did something."""

    def place(pass_by: Callable[[], None]) -> None:
        method = getattr(owner, name)

        @functools.wraps(method)
        def wrapped(*args: Any, **options: Any) -> Any:
            result = method(*args, **options)
            if did(result):
                pass_by()
            return result

        setattr(owner, name, wrapped)

    return place


def _before(owner: Any, name: str) -> Callable[[Any], None]:
    def place(pass_by: Callable[[], None]) -> None:
        method = getattr(owner, name)

        @functools.wraps(method)
        def wrapped(*args: Any, **options: Any) -> Any:
            pass_by()
            return method(*args, **options)

        setattr(owner, name, wrapped)

    return place


def _at_commit(owner: Any, name: str) -> Callable[[Any], None]:
    """When all statements of the method's transaction are done, and it is not committed."""

    def place(pass_by: Callable[[], None]) -> None:
        method = getattr(owner, name)

        @functools.wraps(method)
        def wrapped(*args: Any, **options: Any) -> Any:
            _inside.name = name
            try:
                return method(*args, **options)
            finally:
                _inside.name = None

        def committing(connection: sa.Connection) -> None:
            if getattr(_inside, "name", None) == name:
                pass_by()

        setattr(owner, name, wrapped)
        sa.event.listen(sa.Engine, "commit", committing)

    return place


def _in_flight(pass_by: Callable[[], None]) -> None:
    submit = RequestsTransport.submit

    @functools.wraps(submit)
    def wrapped(*args: Any, **options: Any) -> Any:
        future = submit(*args, **options)
        timer = threading.Timer(IN_FLIGHT, pass_by)
        timer.daemon = True
        timer.start()
        return future

    RequestsTransport.submit = wrapped  # type: ignore[method-assign]


def _at_any_commit(pass_by: Callable[[], None]) -> None:
    """Of the app: its rows, the events and the ledger are written, and not committed."""
    sa.event.listen(sa.Engine, "commit", lambda connection: pass_by())


POINTS: dict[str, Callable[[Callable[[], None]], None]] = {
    "in fan-out, before its commit": _at_commit(Outbox, "fan_out"),
    "after fan-out's commit": _after(Outbox, "fan_out", lambda made: made[0] > 0),
    "in claim, before its commit": _at_commit(Outbox, "claim"),
    "after claim's commit, before any POST": _after(Outbox, "claim", bool),
    "while POSTs are in flight": _in_flight,
    "after the answers, before settle": _before(Outbox, "settle"),
    "in settle, before its commit": _at_commit(Outbox, "settle"),
    "after settle's commit": _after(Outbox, "settle", lambda settled: True),
}
"""Of the worker."""

WEB_POINTS = {
    "in a commit, before it": _at_any_commit,
    "after a commit, before its wake-up": _before(Wakeups, "wake"),
}

POINTS |= WEB_POINTS
WORKER_POINTS = tuple(point for point in POINTS if point not in WEB_POINTS)
