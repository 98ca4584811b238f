"""Engine: where a drain has things done beside it: settles, and fan-outs.

Each in a thread of its own, of which no more than one is at work: a settle does not wait for a
fan-out, whose length depends on what happened.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent import futures
from typing import Any

from .outbox import Outbox


class Here(futures.Executor):
    """Does it at once, and in no other thread: for a database of one connection."""

    def submit(self, act: Callable[..., Any], /, *given: Any, **named: Any) -> futures.Future[Any]:
        done: futures.Future[Any] = futures.Future()
        try:
            done.set_result(act(*given, **named))
        except Exception as error:
            done.set_exception(error)
        return done


def beside(outbox: Outbox) -> futures.Executor:
    """What one drain submits to, until its end."""
    if outbox.one_connection:
        return Here()
    return futures.ThreadPoolExecutor(2, thread_name_prefix="resthooks-beside")
