"""Ground: from an event to the bytes of a POST.

An event's `data` and `previous` are made into JSON once, when the event is captured; a body is
put together from those texts, so a fan-out to thousands parses and dumps nothing.
"""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import json
import uuid
from dataclasses import dataclass
from typing import Any

from . import signing

STANDARD = "standard"
NAMES = (STANDARD,)
"""Body formats that a subscription may ask for."""

PAYLOADS = ("full",)


@dataclass(frozen=True, slots=True)
class Event:
    """What happened, as it is sent.

    :param data: JSON text.
    :param previous: JSON text, or None if it is no update.
    """

    id: str
    type: str
    timestamp: dt.datetime
    sequence: int
    data: str
    previous: str | None = None


def to_json(value: Any) -> str:
    """The JSON text of a representation; in ASCII, and strictly JSON.

    Dates and times become RFC 3339, decimals and UUIDs strings, enumerations their values.

    :raises TypeError: for what has no place in JSON.
    :raises ValueError: for NaN and infinities, for circular structures, and for times that UTC
        has no year for.
    """
    return json.dumps(value, default=_plain, allow_nan=False, separators=(",", ":"))


def _plain(value: Any) -> Any:
    match value:
        case dt.datetime():
            return rfc3339(value)
        case dt.date() | dt.time():
            return value.isoformat()
        case dt.timedelta():
            return value.total_seconds()
        case decimal.Decimal() | uuid.UUID():
            return str(value)
        case enum.Enum():
            return value.value
        case set() | frozenset():
            return sorted(value)
    raise TypeError(f"a {type(value).__name__} ({value!r}) has no place in JSON")


def rfc3339(moment: dt.datetime) -> str:
    """A time as RFC 3339 has it: in UTC, ending in `Z`. A naive one is taken as UTC.

    :raises ValueError: if it falls outside of the years 1 to 9999 in UTC.
    """
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.timezone.utc)
    try:
        moment = moment.astimezone(dt.timezone.utc)
    except OverflowError:
        raise ValueError(f"{moment.isoformat()} falls outside of the years 1 to 9999") from None
    return moment.isoformat().replace("+00:00", "Z")


def body(event: Event) -> bytes:
    """The body in the format `standard` (Standard Webhooks 1.0.0, "Payload structure").

    An object of `id`, `type`, `timestamp`, `sequence`, `data` and, of an update, `previous`.
    """
    head = (
        f'{{"id":{json.dumps(event.id)},"type":{json.dumps(event.type)},'
        f'"timestamp":"{rfc3339(event.timestamp)}","sequence":{event.sequence},'
        f'"data":{event.data}'
    )
    tail = "}" if event.previous is None else f',"previous":{event.previous}}}'
    return (head + tail).encode()


def headers(
    event: Event, body: bytes, *, key: bytes, timestamp: int, user_agent: str
) -> dict[str, str]:
    """The headers of one attempt.

    :param key: the subscription's, from `signing.key_of`.
    :param timestamp: seconds since the epoch, of this attempt (not of the event).
    """
    return {
        "content-type": "application/json",
        "webhook-id": event.id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signing.signature(key, event.id, timestamp, body),
        "x-hook-event": event.type,
        "x-hook-signature": signing.hook_signature(key, body),
        "user-agent": user_agent,
    }
