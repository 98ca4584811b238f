"""Engine: how much is claimed at a time.

What is claimed and not settled is the window. It is as large as what the receivers take in half a
second, so that the places in flight never run empty and a worker that dies holds little; and each
subscription has its share of it: one that answers fast may have all.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection

from .dispatch import Dispatcher
from .outbox import Claim, Outcome

MOST = 2000
"""Deliveries that are claimed and not settled, at most."""

MEMORY = 64 * 1024 * 1024
"""Bytes of bodies and events with which nothing more is claimed."""

AHEAD = 0.5
"""Seconds of work that are claimed in advance, at the pace of the last settle."""

SHORTEST = 0.08
"""Seconds between two settles, at least, unless nearly all has come back."""

SLOW_PARTS = 2
"""Of so many parts of the window, slow receivers get one, all of them together."""


class Window:
    """The claims of one drain that are not settled yet.

    :param least: how many there may be at any time.
    """

    def __init__(self, dispatcher: Dispatcher, least: int) -> None:
        self._dispatcher = dispatcher
        self._least = self.size = least
        self._claims: dict[str, Claim] = {}
        self._bytes: dict[str, int] = {}
        self._held = 0
        self._of_subscription: Counter[str] = Counter()
        self._pace: dict[str, int] = {}
        self.settled_at = 0.0

    def __contains__(self, delivery_id: str) -> bool:
        return delivery_id in self._claims

    def __len__(self) -> int:
        return len(self._claims)

    @property
    def claims(self) -> Collection[Claim]:
        """All of them."""
        return self._claims.values()

    @property
    def room(self) -> int:
        """How many more there may be."""
        return 0 if self._held > MEMORY else self.size - len(self._claims)

    @property
    def slow(self) -> int:
        """How many of them may go to slow receivers."""
        return self.size // SLOW_PARTS

    def add(self, claim: Claim, body: bytes = b"") -> None:
        """A claim is on its way."""
        self._claims[claim.delivery_id] = claim
        size = len(body) + len(claim.event.data) + len(claim.event.previous or "")
        self._bytes[claim.delivery_id] = size
        self._held += size
        self._of_subscription[claim.subscription_id] += 1

    def remove(self, claim: Claim) -> None:
        """It has come back."""
        del self._claims[claim.delivery_id]
        self._held -= self._bytes.pop(claim.delivery_id)
        self._of_subscription[claim.subscription_id] -= 1
        if not self._of_subscription[claim.subscription_id]:
            del self._of_subscription[claim.subscription_id]

    def share(self, subscription_id: str, host: str) -> int:
        """How many more deliveries of a subscription may be claimed."""
        pace = self._dispatcher.pace(subscription_id, host)
        most = max(self._dispatcher.limit(pace), self._pace.get(subscription_id, 0))
        share: int = most - self._of_subscription[subscription_id]
        if pace == "slow":
            share = min(share, self.slow - self._dispatcher.slow)
        return share

    def full(self) -> list[str]:
        """The subscriptions that have their share."""
        hosts = {claim.subscription_id: claim.host for claim in self._claims.values()}
        return [id_ for id_, host in hosts.items() if self.share(id_, host) <= 0]

    def adapt(self, outcomes: Collection[Outcome]) -> None:
        """Be as large as what has come back since the last time suggests, and the times before."""
        now = time.monotonic()
        ahead = AHEAD / max(now - self.settled_at, SHORTEST)
        size = (self.size + int(len(outcomes) * ahead)) // 2
        self.size = min(max(size, self._least), MOST)
        came_back = Counter(outcome.claim.subscription_id for outcome in outcomes)
        self._pace = {id_: int(2 * count * ahead) for id_, count in came_back.items()}
        self.settled_at = now
