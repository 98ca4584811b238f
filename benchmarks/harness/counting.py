"""What was lost, and what came twice: by `webhook-id`, at the receiver."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass


class Miscounted(AssertionError):
    """Something did not come once and no more: a figure of such a run is worth nothing."""


@dataclass(frozen=True, slots=True)
class Count:
    """
    :param wanted: deliveries that had to come, each once.
    :param lost: those that did not.
    :param twice: arrivals beyond the first one of a delivery.
    :param strange: arrivals of what nobody had asked for.
    """

    wanted: int = 0
    lost: int = 0
    twice: int = 0
    strange: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(
            self.wanted + other.wanted,
            self.lost + other.lost,
            self.twice + other.twice,
            self.strange + other.strange,
        )

    def check(self, what: str) -> Count:
        """Itself.

        :raises Miscounted: if anything is not as it has to be.
        """
        if self.lost or self.twice or self.strange:
            raise Miscounted(
                f"{what}: of {self.wanted:,} deliveries {self.lost:,} were lost, {self.twice:,} "
                f"came twice, and {self.strange:,} came that nobody had asked for"
            )
        return self


def count(wanted: Collection[Hashable], arrived: Iterable[Hashable]) -> Count:
    """Compare what had to come with what came."""
    had_to_come = set(wanted)
    times = Counter(arrived)
    known = [times[one] for one in times if one in had_to_come]
    return Count(
        wanted=len(had_to_come),
        lost=len(had_to_come) - len(known),
        twice=sum(known) - len(known),
        strange=times.total() - sum(known),
    )
