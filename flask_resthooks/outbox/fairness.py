"""Truth: who comes first, when not all that is due can be taken. Pure."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

Share = Callable[[str, str], int]
"""How many more of a subscription may be taken: (its id, its host) -> number."""


def pick(rows: Sequence[Any], limit: int, share: Share | None = None) -> list[Any]:
    """Up to `limit` of the rows: owners take turns, and so do the subscriptions of each.

    :param rows: with `owner`, `subscription_id` and `host`; of each subscription, they stay in
        their order.
    :param share: None: each may have all.
    """
    if share is None and len(rows) <= limit:
        return list(rows)
    owners: dict[str, dict[str, deque[Any]]] = {}
    for row in rows:
        of_owner = owners.setdefault(row.owner, {})
        of_owner.setdefault(row.subscription_id, deque()).append(row)
    turns = deque(deque(of_owner.values()) for of_owner in owners.values())
    left: Counter[str] = Counter()
    chosen: list[Any] = []
    while turns and len(chosen) < limit:
        subscriptions = turns.popleft()
        waiting = subscriptions.popleft()
        row = waiting.popleft()
        if share is not None:
            if row.subscription_id not in left:
                left[row.subscription_id] = share(row.subscription_id, row.host)
            left[row.subscription_id] -= 1
        if share is None or left[row.subscription_id] >= 0:
            chosen.append(row)
            if waiting:
                subscriptions.append(waiting)
        if subscriptions:
            turns.append(subscriptions)
    return chosen
