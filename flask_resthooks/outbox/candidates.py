"""Truth: what a look hands to a claim. Values."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Recipient:
    """A subscription, and how its host is: read once for all of its deliveries.

    :param expired: its time is over; so is that of its handshake, if it is `too_late`.
    :param host_turn_at: before that, nothing is sent to its host; None: at any time.
    :param host_silences: how often no answer came of it; None: it is not known for anything.
    """

    id: str
    target_url: str
    format: str
    payload: str
    secret: str = field(repr=False)
    former_secrets: Sequence[dict[str, str]] = field(repr=False)
    headers: str | None = field(repr=False)
    status: str
    intent_id: str | None
    intent_secret: str | None = field(repr=False)
    confirmed_at: dt.datetime | None
    rate: Any
    turn_at: dt.datetime | None
    host: str
    expired: bool
    too_late: bool
    host_turn_at: dt.datetime | None = None
    host_silences: int | None = None


@dataclass(slots=True)
class Due:
    """A delivery that is due.

    :param to: its recipient; None if the subscription is gone.
    """

    to: Any
    id: str
    kind: str
    event_id: str
    owner: str
    subscription_id: str
    attempts: int
    attempts_before: int
    faults: int
    due_at: dt.datetime
    booked: bool

    @property
    def host(self) -> str:
        """Name and port of its target."""
        host: str = self.to.host
        return host


@dataclass(slots=True)
class Found:
    """What a look found, locked until the transaction ends.

    :param damaged: ids of deliveries and events that cannot be read, with what is wrong.
    """

    rows: list[Due] = field(default_factory=list)
    damaged: dict[str, str] = field(default_factory=dict)
