"""Engine: the fan-outs of one drain, which go on beside its sending.

event row ──► **fan-out** ──► delivery rows ──► claim
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent import futures

from .outbox.fan_out import MOST_DELIVERIES

AT_ONCE = (100, 1000)
"""Events that one fan-out takes on: the first one, and at most."""


class FanningOut:
    """One fan-out at a time, each of which takes on more than the one before.

    :param beside: where it is done.
    :param fan_out: does it, of so many events at most; how many events and deliveries it were.
    :param done: called at the end of each, in another thread.
    """

    def __init__(
        self,
        beside: futures.Executor,
        fan_out: Callable[[int], tuple[int, int]],
        done: Callable[[object], None],
    ) -> None:
        self._beside = beside
        self._fan_out = fan_out
        self._done = done
        self._going_on: futures.Future[tuple[int, int]] | None = None
        self._at_once = AT_ONCE[0]

    def some(self, wait: bool) -> tuple[bool, bool]:
        """Have some events fanned out.

        :param wait: until it is done.
        :returns: whether it goes on; and whether there may be more than it has taken on.
        """
        if self._going_on is None:
            self._begin()
        assert self._going_on is not None
        if not wait and not self._going_on.done():
            return True, True
        events, deliveries = self._going_on.result()
        self._going_on = None
        more = events >= self._at_once or deliveries >= MOST_DELIVERIES
        self._at_once = min(2 * self._at_once, AT_ONCE[1])
        if more:  # while these are claimed and sent
            self._begin()
        return False, more

    def finish(self) -> None:
        """Wait for the one that goes on; what it failed with is raised."""
        if self._going_on is not None:
            self._going_on.result()

    def _begin(self) -> None:
        self._going_on = self._beside.submit(self._fan_out, self._at_once)
        self._going_on.add_done_callback(self._done)
