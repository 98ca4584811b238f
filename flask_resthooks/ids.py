"""Ground: ids that sort by time and cannot be guessed.

An id is `<prefix>_`, 12 hex digits of milliseconds since the epoch and 20 random ones (80 bits).
The same shape can be made by the databases themselves (`outbox.py` does), so that one statement
can insert thousands of rows.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import time
from collections.abc import Collection

EVENT = "evt"
TEST = "tst"
"""Of events that are sent to test a receiver: a receiver knows them by that, for ids are signed."""

SUBSCRIPTION = "sub"
DELIVERY = "dlv"
ATTEMPT = "att"
RECOVERY = "rec"
HANDSHAKE = "hsk"

LENGTH = 3 + 1 + 12 + 20
_SHAPE = re.compile(r"[a-z]{3}_[0-9a-f]{32}")


def time_part(at: float | None = None) -> str:
    """The part of an id that sorts: `at` (seconds since the epoch; now if None)."""
    return f"{int((time.time() if at is None else at) * 1000):012x}"


def new(prefix: str, at: float | None = None) -> str:
    """A new id of that prefix."""
    return f"{prefix}_{time_part(at)}{os.urandom(10).hex()}"


def several(prefix: str, moments: Collection[float]) -> list[str]:
    """A new id for each of those moments (seconds since the epoch): the system is asked for
    something random once."""
    random = os.urandom(10 * len(moments)).hex()
    return [
        f"{prefix}_{time_part(at)}{random[20 * number : 20 * number + 20]}"
        for number, at in enumerate(moments)
    ]


def at(prefix: str, moment: dt.datetime) -> str:
    """What the ids of that prefix that were made before `moment` are smaller than."""
    return f"{prefix}_{time_part(max(moment.timestamp(), 0))}"


def before(id_: str, seconds: float) -> str:
    """The time part of an id that was made so many seconds before this one."""
    return f"{max(int(id_[4:16], 16) - int(seconds * 1000), 0):012x}"


def is_id(prefix: str, text: str) -> bool:
    """Whether `text` has the shape of an id of that prefix."""
    return text.startswith(prefix + "_") and _SHAPE.fullmatch(text) is not None
