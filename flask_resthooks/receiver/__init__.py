"""Receives hooks, in a Flask app that need not know anything else of flask_resthooks.

    POST ──► read ──► **verify** ──► understand ──► handshake or ping? answer ──► seen? ──► view

`decorator` is that way, and the rooms are its steps: `bodies`, `events` (what a hook tells, in
four formats), `handshakes`, `replay`, `errors`. Of the rest of the package, only `signing` and
`errors` are imported: none of what sends.
"""

from __future__ import annotations

__all__ = [
    "Event",
    "HookRefused",
    "MemoryReplayStore",
    "RedisReplayStore",
    "ReplayStore",
    "receive",
]

from .decorator import receive
from .errors import HookRefused
from .events import Event
from .replay import MemoryReplayStore, RedisReplayStore, ReplayStore
