"""Receiver: from a verified body to an event, whatever format it is in. Pure.

What is signed is `webhook-id`, `webhook-timestamp` and the body; any other header may have been
written by whoever has overheard a hook and sends it again. So the body decides what it is: one
that names its own `webhook-id` in the place where a format has it, is in that format. A header
can make a hook unreadable, but not another one.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from .errors import HookRefused

STANDARD = "standard"
RESTHOOKS = "resthooks"
BARE = "bare"
CLOUDEVENTS = "cloudevents"
FORMATS = (STANDARD, RESTHOOKS, BARE, CLOUDEVENTS)

FULL, THIN = "full", "thin"
"""What `data` is: the record, or where to look for it."""

TEST_ID = "tst_"
"""What the `webhook-id` of a test begins with."""

PING = "resthooks.ping"
HANDSHAKE = "resthooks.handshake"

HEADERS = (
    "content-type",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
    "x-hook-event",
    "x-hook-format",
    "x-hook-payload",
    "x-hook-sequence",
)
"""What is looked at of a request, in lower case."""

_SEQUENCE = re.compile(r"0|[1-9][0-9]{0,18}")
_PADDED = re.compile(r"[0-9]{1,20}")
_RFC3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


@dataclass(frozen=True, slots=True)
class Event:
    """What a hook tells.

    All of it is signed by the sender, with one exception. In the format `bare` the body has no
    place for `type`, `sequence` and `payload`: they are headers, and whoever has overheard such a
    hook can send it again within the tolerance as an event of another type.

    :param id: the same at every attempt; `webhook-id`.
    :param type: `contact.create`; empty if a sender other than flask_resthooks names none.
    :param timestamp: when it happened, in UTC; in the format `bare`, when it was sent.
    :param sequence: later events of one record have greater ones; None if the sender has none.
    :param data: the record, as JSON has it; with the payload `thin`, `resource` and `url`.
    :param payload: `full`, or `thin`: that was asked for, or the record is too long to be sent.
    :param previous: of an update, the former values of what has changed; else None.
    :param format: `standard`, `resthooks`, `bare` or `cloudevents`.
    :param test: `ping` if its owner had it sent to try the receiver out (then `data` may be a
        sample), `handshake` if it asks whether hooks are wanted; else None.
    """

    id: str
    type: str
    timestamp: dt.datetime
    sequence: int | None
    data: Any
    previous: dict[str, Any] | None = None
    format: str = STANDARD
    test: str | None = None
    payload: str = FULL


def event_of(body: bytes, headers: Mapping[str, str]) -> Event:
    """The event that a verified hook tells.

    :param headers: those of `HEADERS` that there are, by lower-case name.
    :raises HookRefused: if the body is in no format that is understood, or not in the one that
        the headers name.
    """
    content = _parsed(body)
    format = _format(content, headers)
    match format:
        case "standard":
            values = _standard(content, headers)
        case "resthooks":
            values = _resthooks(content)
        case "cloudevents":
            values = _cloudevents(content, headers)
        case _:
            values = _bare(content, headers)
    # Not by `x-hook-test`, which is not signed: the id of a test says that it is one.
    test = None
    if values["type"] == HANDSHAKE:
        test = "handshake"
    elif values["type"] == PING or headers["webhook-id"].startswith(TEST_ID):
        test = "ping"
    return Event(id=headers["webhook-id"], format=format, test=test, **values)


def _format(content: Any, headers: Mapping[str, str]) -> str:
    named = headers.get("x-hook-format")
    if named is not None and named not in FORMATS:
        raise HookRefused("x-hook-format names no format that is known")
    proven = _proven_format(content, headers["webhook-id"])
    is_cloudevents = headers.get("content-type", "").lower().startswith("application/cloudevents")
    if is_cloudevents and proven != CLOUDEVENTS:
        raise HookRefused("the body is no CloudEvent with the webhook-id as its id")
    if proven is not None:
        if named not in (None, proven):
            raise HookRefused("the body is not in the format that x-hook-format names")
        return proven
    if named is not None:
        if named != BARE:
            raise HookRefused(
                "the body is not in the format that x-hook-format names, with the webhook-id"
            )
        return BARE
    # Of another sender. Standard Webhooks asks for these three, and for no id.
    if isinstance(content, dict) and _is_standard(content):
        if "id" in content:
            raise HookRefused("the body's id is not the webhook-id")
        return STANDARD
    return BARE


def _proven_format(content: Any, message_id: str) -> str | None:
    """The format in whose place for it the body has the `webhook-id`."""
    if not isinstance(content, dict):
        return None
    if content.get("id") == message_id:
        if "specversion" in content:
            return CLOUDEVENTS
        if "type" in content and "data" in content:
            return STANDARD
    hook = content.get("hook")
    if isinstance(hook, dict) and hook.get("event_id") == message_id:
        return RESTHOOKS
    return None


def _is_standard(content: dict[str, Any]) -> bool:
    moment = content.get("timestamp")
    return (
        isinstance(content.get("type"), str)
        and isinstance(moment, str)
        and _RFC3339.fullmatch(moment) is not None
        and "data" in content
    )


def _standard(content: dict[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
    # Optional for other senders: some have the time of the attempt alone.
    moment = content.get("timestamp")
    return {
        "type": _type(content.get("type")),
        "timestamp": _sent_at(headers) if moment is None else _time(moment),
        "sequence": _sequence(content.get("sequence")),
        "data": content["data"],
        "previous": _previous(content.get("previous")),
        "payload": _payload(content.get("payload")),
    }


def _resthooks(content: dict[str, Any]) -> dict[str, Any]:
    hook = content["hook"]
    if "data" not in content:
        raise HookRefused("the body has no data")
    return {
        "type": _type(hook.get("event")),
        "timestamp": _time(hook.get("timestamp")),
        "sequence": _sequence(hook.get("sequence")),
        "data": content["data"],
        "previous": _previous(content.get("previous")),
        "payload": _payload(hook.get("payload")),
    }


def _cloudevents(content: dict[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
    """CloudEvents 1.0, JSON Event Format (structured content mode)."""
    if content["specversion"] != "1.0":
        raise HookRefused("the CloudEvent is of another version than 1.0")
    if not (isinstance(content.get("source"), str) and content["source"]):
        raise HookRefused("the CloudEvent has no source")
    if "data_base64" in content:
        raise HookRefused("the CloudEvent has no JSON data")
    moment, sequence, previous = (content.get(name) for name in ("time", "sequence", "previous"))
    if sequence is not None:
        # An extension, in zeros and digits; that of another sender need not be a number.
        is_number = isinstance(sequence, str) and _PADDED.fullmatch(sequence)
        sequence = int(sequence) if is_number else None
    if previous is not None:
        if not isinstance(previous, str):
            raise HookRefused("previous is no JSON text")
        previous = _parsed(previous.encode())
    return {
        "type": _type(content.get("type")),
        "timestamp": _sent_at(headers) if moment is None else _time(moment),
        "sequence": _sequence(sequence),
        "data": content.get("data"),
        "previous": _previous(previous),
        "payload": _payload(content.get("payload")),
    }


def _bare(content: Any, headers: Mapping[str, str]) -> dict[str, Any]:
    event_type: Any = headers.get("x-hook-event")
    if "x-hook-format" not in headers:
        in_body = content.get("type") if isinstance(content, dict) else None
        event_type = (in_body if isinstance(in_body, str) else event_type) or ""
    if event_type != "":
        event_type = _type(event_type)
    sequence = headers.get("x-hook-sequence")
    if sequence is not None and not _SEQUENCE.fullmatch(sequence):
        raise HookRefused("x-hook-sequence is no number")
    return {
        "type": event_type,
        "timestamp": _sent_at(headers),
        "sequence": _sequence(None if sequence is None else int(sequence)),
        "data": content,
        "previous": None,
        "payload": _payload(headers.get("x-hook-payload")),
    }


def _type(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 255 or not value.isprintable():
        raise HookRefused("the event's type is no name")
    return value


def _sequence(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise HookRefused("the event's sequence is no number")
    return value


def _payload(value: Any) -> str:
    """In the body of another sender, the word may mean anything."""
    return THIN if value == THIN else FULL


def _previous(value: Any) -> dict[str, Any] | None:
    if value is not None and not isinstance(value, dict):
        raise HookRefused("previous is no object")
    return value


def _sent_at(headers: Mapping[str, str]) -> dt.datetime:
    try:
        return dt.datetime.fromtimestamp(int(headers["webhook-timestamp"]), dt.timezone.utc)
    except (ValueError, OverflowError, OSError):
        raise HookRefused("webhook-timestamp is beyond the year 9999") from None


def _time(value: Any) -> dt.datetime:
    """RFC 3339, in UTC. A leap second becomes the second before it."""
    found = _RFC3339.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise HookRefused("the event's timestamp is no RFC 3339 time")
    year, month, day, hour, minute, second = map(int, found.groups()[:6])
    microsecond = int((found[7] or "0")[:6].ljust(6, "0"))
    offset = dt.timedelta(hours=int(found[9] or 0), minutes=int(found[10] or 0))
    try:
        zone = dt.timezone(-offset if found[8] == "-" else offset)
        moment = dt.datetime(
            year, month, day, hour, minute, 59 if second == 60 else second, microsecond, zone
        )
        return moment.astimezone(dt.timezone.utc)
    except (ValueError, OverflowError):
        raise HookRefused("the event's timestamp is no RFC 3339 time") from None


def _parsed(body: bytes) -> Any:
    """JSON as RFC 8259 has it, and nothing that Python cannot give on to others: UTF-8, no NaN or
    infinity, no half of a surrogate pair."""
    try:
        text = body.decode()
        content = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
        if _SURROGATE.search(text):
            json.dumps(content, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise HookRefused("the body is no JSON") from None
    return content


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} has no place in JSON")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError("a number is too large")
    return value
