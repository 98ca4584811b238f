"""Truth: whose turn it is. Pure.

A receiver may ask for slowness: by a rate that it granted, by `Retry-After`, or by answering that
it is overloaded, which goes for its host. Then what is due of it is not sent but falls due later,
at the time of its turn: `due_at` stays the one column that says what there is to do, and nobody
else waits behind it.

A host that gives no answers at all is left alone in the same way. When its time is over, one
delivery of each owner is sent to find out whether it is back; the others wait for what comes of
it, without losing any of their attempts.
"""

from __future__ import annotations

import datetime as dt
import math
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..models import EVENT, HANDSHAKE, PING
from ..retry import is_silent

BURST = 1.0
"""Seconds of a rate that may be sent at once."""

LEAST_RATE = 1e-4
"""Deliveries per minute."""

LATE = 5.0
"""Seconds by which a booked turn may be late: after that, it is booked anew. Else all turns that
passed while nobody worked would be taken at once."""


def held(rows: Sequence[Any], now: dt.datetime) -> tuple[list[Any], dict[str, dt.datetime]]:
    """Those rows that need not wait for their receiver or its host; and until when each of the
    other subscriptions has to.

    :param rows: with `kind`, `subscription_id` and `to`: the recipient, with `turn_at` and
        `host_turn_at` (None: at any time), and `host_silences`.
    """
    free: list[Any] = []
    until: dict[str, dt.datetime] = {}
    turns: dict[tuple[str, str], dt.datetime] = {}
    for row in rows:
        key = row.subscription_id, row.kind
        turn = turns.get(key)
        if turn is None:
            turn = turns[key] = _turn_of(row, now)
        if turn > now:
            until[row.subscription_id] = turn
        else:
            free.append(row)
    return free, until


def _turn_of(row: Any, now: dt.datetime) -> dt.datetime:
    # Who has something tested wants to see now how a silent host is.
    of_host = None if is_test(row) and is_silent(row.to.host_silences) else row.to.host_turn_at
    return max((turn for turn in (row.to.turn_at, of_host) if turn is not None), default=now)


def is_test(row: Any) -> bool:
    """Whether a delivery tells nothing that has happened: it asks how a receiver is."""
    return bool(row.kind in (HANDSHAKE, PING))


def is_probe(row: Any) -> bool:
    """Whether a delivery that may be sent now finds out whether its host gives answers again."""
    return is_silent(row.to.host_silences) and not is_test(row)


def probes(
    rows: Sequence[Any], booked: Collection[str], salt: str
) -> tuple[list[Any], dict[str, str]]:
    """Those rows that may be sent although their host may be silent still; and the hosts of the
    subscriptions whose other deliveries wait for that.

    One of each owner: else one owner's silent receiver could stand for what others have there.

    :param rows: with `kind`, `owner`, `subscription_id`, `host`, and `host_silences` of `to`; in
        their order.
    :param booked: hosts that may be probed now, of those that are silent.
    :param salt: another one each time: it decides which of an owner's subscriptions it is, so that
        each of them comes up.
    """
    waiting: dict[str, str] = {}
    chosen: dict[tuple[str, str], Any] = {}
    for row in rows:
        if is_probe(row) and row.host in booked:
            waiting[row.subscription_id] = row.host
            other = chosen.setdefault((row.owner, row.host), row)
            if _lot(row, salt) < _lot(other, salt):
                chosen[row.owner, row.host] = row
    probing = {id(row) for row in chosen.values()}
    return [row for row in rows if not is_probe(row) or id(row) in probing], waiting


def _lot(row: Any, salt: str) -> int:
    return zlib.crc32(f"{salt} {row.subscription_id}".encode())


@dataclass(slots=True)
class Bookings:
    """What a look at deliveries of receivers with a rate has come to.

    :param free: those that may be sent now, in their order, and those of others.
    :param turns: by the delivery's id: the turns that were booked, those of now included.
    :param until: by the subscription's id: when its next turn can be.
    """

    free: list[Any] = field(default_factory=list)
    turns: dict[str, dt.datetime] = field(default_factory=dict)
    until: dict[str, dt.datetime] = field(default_factory=dict)


def needs_turn(row: Any, now: dt.datetime) -> bool:
    """Whether a delivery that is due needs a turn: its receiver has set a rate, and it has none.

    A rate is for what happens and for tests; what is said once is not held back by it.
    """
    if row.to.rate is None or row.kind not in (EVENT, PING) or not _is_rate(row.to.rate):
        return False
    return not row.booked or row.due_at < now - dt.timedelta(seconds=LATE)


def _is_rate(rate: Any) -> bool:
    """Whether a row has a rate that can be kept to: less than one in a week is none of ours."""
    return isinstance(rate, (int, float)) and math.isfinite(rate) and rate >= LEAST_RATE


def book(
    rows: Sequence[Any], now: dt.datetime, booked_until: Mapping[str, dt.datetime | None]
) -> Bookings:
    """Book a turn for each row that needs one: one after the other, as the rate allows.

    :param rows: with `id`, `kind`, `subscription_id`, `rate` (per minute) of `to`, `booked` and
        `due_at`.
    :param booked_until: of those subscriptions for which turns can be booked now; of the others,
        what needs a turn is left out.
    """
    made = Bookings()
    soon = now + dt.timedelta(seconds=BURST)
    for row in rows:
        if not needs_turn(row, now):
            made.free.append(row)
            continue
        id_ = row.subscription_id
        if id_ not in booked_until:
            continue
        turn = max(made.until.get(id_) or booked_until[id_] or now, now)
        made.until[id_] = turn + dt.timedelta(seconds=60 / row.to.rate)
        made.turns[row.id] = turn
        if turn <= soon:
            made.free.append(row)
    return made
