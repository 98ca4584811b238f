"""Truth: whose turn it is. Pure.

A receiver may ask for slowness: by a rate that it granted, by `Retry-After`, or by answering that
it is overloaded, which goes for its host. Then what is due of it is not sent but falls due later,
at the time of its turn: `due_at` stays the one column that says what there is to do, and nobody
else waits behind it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..models import EVENT, PING

BURST = 1.0
"""Seconds of a rate that may be sent at once."""


@dataclass(slots=True)
class Turns:
    """What is to become of deliveries that are due.

    :param free: those that may be sent now, in the order in which they were due.
    :param later: ids of those that may not, by the time at which they fall due again.
    :param next_turns: when those subscriptions that have a rate may be sent more.
    """

    free: list[Any] = field(default_factory=list)
    later: dict[dt.datetime, list[str]] = field(default_factory=dict)
    next_turns: dict[str, dt.datetime] = field(default_factory=dict)


def held(rows: Sequence[Any], now: dt.datetime) -> Turns:
    """Set apart what has to wait for its receiver, or for its receiver's host.

    A rate is not looked at: what is left may still be more than its receiver's rate allows.

    :param rows: with `id`, `turn_at` (None, or the subscription's), `rate` and `host_turn_at`.
    """
    turns = Turns()
    for row in rows:
        until = row.host_turn_at
        if row.turn_at is not None and not _is_paced(row):
            until = row.turn_at if until is None else max(until, row.turn_at)
        if until is None or until <= now:
            turns.free.append(row)
        else:
            turns.later.setdefault(until, []).append(row.id)
    return turns


def paced(rows: Sequence[Any], now: dt.datetime, waiting: Callable[[str], int]) -> Turns:
    """Take no more of a subscription than its rate allows; the others get turns of their own.

    They are spread over the time that all that waits of the subscription will take: so each is
    looked at about once before its turn comes, however many there are.

    :param rows: with `id`, `kind`, `subscription_id`, `rate` (per minute, or None) and `turn_at`.
    :param waiting: how many deliveries of a subscription wait; asked only where some are too many.
    """
    turns = Turns()
    surplus: dict[str, list[Any]] = {}
    for row in rows:
        if not _is_paced(row):
            turns.free.append(row)
            continue
        turn = turns.next_turns.get(row.subscription_id)
        if turn is None:
            turn = max(row.turn_at or now, now)
        if row.subscription_id in surplus or turn > now + dt.timedelta(seconds=BURST):
            surplus.setdefault(row.subscription_id, []).append(row)
            continue
        turns.free.append(row)
        turns.next_turns[row.subscription_id] = turn + dt.timedelta(seconds=60 / row.rate)
    for subscription_id, late in surplus.items():
        first = turns.next_turns.get(subscription_id) or late[0].turn_at
        room = max(waiting(subscription_id), len(late)) / len(late) * 60 / late[0].rate
        for number, row in enumerate(late):
            turn = first + dt.timedelta(seconds=number * room)
            turns.later.setdefault(turn, []).append(row.id)
    return turns


def merged(first: Mapping[Any, list[str]], second: Mapping[Any, list[str]]) -> dict[Any, list[str]]:
    """Two `Turns.later` as one."""
    both = {due: list(delivery_ids) for due, delivery_ids in first.items()}
    for due, delivery_ids in second.items():
        both.setdefault(due, []).extend(delivery_ids)
    return both


def _is_paced(row: Any) -> bool:
    """A rate is for what happens and for tests; what is said once is not held back by it."""
    return row.rate is not None and row.kind in (EVENT, PING)
