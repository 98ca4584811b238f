"""Ground: what a receiver's answer means, and when to try again. Pure.

Source: Standard Webhooks 1.0.0, "Deliverability and reliability", and the REST Hooks patterns:
2xx acknowledges, 3xx is neither followed nor retried, 410 ends the subscription, everything else
is tried again by a schedule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

DEFAULT_SCHEDULE = (0, 5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
"""Seconds before each attempt: ten attempts over 75 hours and more."""

GONE = "the receiver answered 410 Gone"


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a delivery after an attempt.

    :param status: `delivered`, `failed` (given up) or `pending` (to be tried again).
    :param delay: seconds until the next attempt; only when `pending`.
    :param reason: why it was given up; only when `failed`.
    :param gone: the receiver wants no more: its subscription is to be disabled.
    """

    status: Literal["delivered", "failed", "pending"]
    delay: float | None = None
    reason: str | None = None
    gone: bool = False


def decide(
    status: int | None,
    *,
    attempts: int,
    schedule: Sequence[float],
    jitter: float,
    chance: float,
) -> Decision:
    """Decide about a delivery after an attempt.

    A 2xx status acknowledges even when the answer's body never came to its end.

    :param status: HTTP status of the answer, or None if there was none.
    :param attempts: how many attempts were made, this one included.
    :param schedule: seconds before each attempt, the first one included.
    :param jitter: by which part a wait may be lengthened; never shortened.
    :param chance: a random number from 0 up to 1.
    """
    if status is not None:
        if 200 <= status < 300:
            return Decision("delivered")
        if 300 <= status < 400:
            return Decision("failed", reason=f"the receiver answered {status}: not followed")
        if status == 410:
            return Decision("failed", reason=GONE, gone=True)
    if attempts >= len(schedule):
        return Decision("failed", reason=f"gave up after {attempts} attempts")
    return Decision("pending", delay=schedule[attempts] * (1 + jitter * chance))
