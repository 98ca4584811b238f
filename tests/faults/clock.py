"""A worker's clock that is stepped while it works: +1 h by SIGUSR1, -1 h by SIGUSR2.

Shifted are `time.time` and what tells the hour by `datetime.now` in flask_resthooks and in RQ:
everything that they ask for the time of day. The other processes' clocks are right; so is
`time.monotonic`, as it is on a machine whose clock is stepped.
"""

from __future__ import annotations

import datetime as dt
import signal
import time
import types
from typing import Any

import rq.utils

from flask_resthooks import models

STEP = 3600.0

_real_time = time.time
_ahead = 0.0


def install(ahead: float = 0.0) -> None:
    """Put the clock in the place of the real one, and obey the signals."""
    global _ahead
    _ahead = ahead
    time.time = _shifted_time
    shifted: Any = types.SimpleNamespace(**vars(dt))
    shifted.datetime = _Shifted
    models.dt = shifted  # type: ignore[attr-defined]
    for name in ("datetime", "dt"):
        if hasattr(rq.utils, name):
            old = getattr(rq.utils, name)
            setattr(rq.utils, name, shifted if isinstance(old, types.ModuleType) else _Shifted)
    signal.signal(signal.SIGUSR1, lambda number, frame: _step(STEP))
    signal.signal(signal.SIGUSR2, lambda number, frame: _step(-STEP))


def _step(seconds: float) -> None:
    global _ahead
    _ahead += seconds


def _shifted_time() -> float:
    return _real_time() + _ahead


class _Shifted(dt.datetime):
    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> Any:
        return dt.datetime.now(tz) + dt.timedelta(seconds=_ahead)
