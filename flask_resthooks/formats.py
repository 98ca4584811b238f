"""Ground: from an event to the bytes of a POST, in the format that its subscription asked for.

An event's `data` and `previous` are made into JSON once, when the event is captured; a body is
put together from those texts, so a fan-out to thousands parses and dumps nothing of them.

    standard     the envelope of Standard Webhooks: `id`, `type`, `timestamp`, `sequence`, `data`
    resthooks    `hook`, which tells of the subscription and the event, beside `data`
    bare         `data` alone, as the app's own API would answer it; the rest is in the headers
    cloudevents  CloudEvents 1.0 in JSON, structured

A body whose `data` are thin says so: `"payload":"thin"` beside `data` (in `resthooks`, in `hook`;
in `cloudevents`, as an extension), and the header `x-hook-payload`, which is all that `bare` has.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import functools
import json
import re
import uuid
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

from . import event_types, own_headers, signing
from .errors import ConfigurationError

T = TypeVar("T")

NAMES = STANDARD, RESTHOOKS, BARE, CLOUDEVENTS = ("standard", "resthooks", "bare", "cloudevents")
"""Body formats that a subscription may ask for."""

PAYLOADS = FULL, THIN = event_types.PAYLOADS
"""What `data` is: all that the schema shows, or where to look it up."""

MAX_DATA = 16_777_216
"""Bytes of `data` and `previous` together that are kept; of an event of more, the thin form is.
No limit of bodies is above it: so what is kept in full can be sent in full."""

SEQUENCE_DIGITS = 20
"""Of a CloudEvents `sequence`, which is compared as text: more than any 64-bit number has."""

# What CloudEvents allows in no attribute (1.0, "Type System", String): control characters, lone
# surrogates, and Unicode's noncharacters.
_NO_CLOUDEVENTS_TEXT = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane * 0x10000 + 0xFFFE + last) for plane in range(17) for last in (0, 1))
    + "]"
)

# RFC 3986, appendix A.
_CHAR = r"[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2}"
_PCHAR = rf"(?:{_CHAR}|[:@])"
_PATH = rf"(?:/{_PCHAR}*)*"
_AUTHORITY = rf"(?:(?:{_CHAR}|:)*@)?(?:\[(?:{_CHAR}|:)+\]|(?:{_CHAR})*)(?::[0-9]*)?"
_ROOTED = rf"//{_AUTHORITY}{_PATH}|/(?:{_PCHAR}+{_PATH})?"
_URI_REFERENCE = re.compile(
    rf"(?:[A-Za-z][A-Za-z0-9+.-]*:(?:{_ROOTED}|{_PCHAR}+{_PATH}|)"
    rf"|{_ROOTED}|(?:{_CHAR}|@)+{_PATH}|)"
    rf"(?:\?(?:{_PCHAR}|[/?])*)?(?:#(?:{_PCHAR}|[/?])*)?"
)


@dataclass(slots=True)
class Event:
    """What happened, as it is sent. A value: nobody changes it. Not frozen: that would make it take
    five times as long to make, and there are thousands a second.

    :param data: JSON text, of `to_json`.
    :param previous: JSON text, of `to_json`; None if it is no update.
    :param resource: what it happened to, `contact:17`; None if nobody said.
    :param url: where that can be fetched; None if nobody said.
    :param kind: `event`, or what the system itself has to say: `ping`, `handshake`, `notice`.
    """

    id: str
    type: str
    timestamp: dt.datetime
    sequence: int
    data: str
    previous: str | None = None
    resource: str | None = None
    url: str | None = None
    kind: str = "event"


@dataclass(frozen=True, slots=True)
class Recipient:
    """Who a body is made for: as much of a subscription as may show in it.

    :param format: one of `NAMES`.
    :param payload: one of `PAYLOADS`.
    """

    subscription_id: str
    target_url: str
    format: str = STANDARD
    payload: str = FULL


@dataclass(slots=True)
class Body:
    """What is sent. A value, too.

    :param payload: one of `PAYLOADS`: that of these bytes, whatever was asked for.
    """

    content: bytes = field(repr=False)
    payload: str = FULL


def to_json(value: Any) -> str:
    """The JSON text of a representation; in ASCII, and strictly JSON.

    Dates and times become RFC 3339, decimals and UUIDs strings, enumerations their values.

    :raises TypeError: for what has no place in JSON.
    :raises ValueError: for NaN and infinities, for circular structures, and for times that UTC
        has no year for.
    """
    return _json_text(value)


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


_json_text = json.JSONEncoder(default=_plain, allow_nan=False, separators=(",", ":")).encode


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


def thin_data(event: Event) -> str:
    """What takes the place of `data` in a thin hook: where to look it up, as JSON text.

    An object of `resource` and `url`; each is null if nobody said.
    """
    return thin(event.resource, event.url)


def thin(resource: str | None, url: str | None) -> str:
    """`thin_data` of what is no event yet."""
    return to_json({"resource": resource, "url": url})


def body(event: Event, recipient: Recipient | None = None, *, source: str = "/") -> bytes:
    """The body of a hook: JSON, in ASCII.

    :param recipient: None stands for anybody who wants the format `standard`, in full.
    :param source: the app, as a URI-reference; it shows in the format `cloudevents` only.
    :raises ConfigurationError: if `source` is no URI-reference, or an empty one.
    :raises ValueError: for a format or a payload that there is not.
    """
    recipient = recipient or _ANYBODY
    if recipient.payload not in PAYLOADS:
        raise ValueError(f"there is no payload {recipient.payload!r}; known: {', '.join(PAYLOADS)}")
    if _payload_of(event, recipient) == THIN:
        event = dataclasses.replace(event, data=thin_data(event), previous=None)
        recipient = dataclasses.replace(recipient, payload=THIN)
    return _known(_BODIES, recipient.format)(event, recipient, source).encode()


def fitting_body(event: Event, recipient: Recipient, *, limit: int, source: str = "/") -> Body:
    """The body of a hook, thin if it would be longer than `limit` otherwise.

    A thin one that is too long leaves out the URL. What is left is as long as the columns of a row
    are, some kilobytes, and is sent whatever the limit: a hook that says little is better than
    none.

    :param limit: bytes.
    :raises ConfigurationError: and ValueError, as `body` does.
    """
    # So as not to make what is too long, for each of many, only to see how long it is.
    if len(event.data) <= limit:
        content = body(event, recipient, source=source)
        if len(content) <= limit:
            return Body(content, _payload_of(event, recipient))
    recipient = dataclasses.replace(recipient, payload=THIN)
    content = body(event, recipient, source=source)
    if len(content) > limit:
        content = body(dataclasses.replace(event, url=None), recipient, source=source)
    return Body(content, THIN)


def _payload_of(event: Event, recipient: Recipient) -> str:
    """What a body of that event for that recipient is, if nothing is too long."""
    # What has been kept in the thin form: see `MAX_DATA`, and thin event types.
    kept_thin = (
        event.previous is None
        and event.data.startswith(_THIN_BEGINS)
        and event.data == thin_data(event)
    )
    return THIN if kept_thin else recipient.payload


def shape_of(recipient: Recipient) -> Hashable:
    """Recipients of equal shapes get the same bytes of one event: they are made once for all."""
    if recipient.format == RESTHOOKS:
        return recipient
    return recipient.format, recipient.payload


def check_source(source: Any) -> str:
    """The same, if it can name an app in CloudEvents (1.0, "source").

    :raises ConfigurationError: if it is not a URI-reference (RFC 3986), or empty.
    """
    if not isinstance(source, str) or not source or not _URI_REFERENCE.fullmatch(source):
        raise ConfigurationError(
            f"{source!r} is no source of CloudEvents; it must be a URI or a path, such as "
            "'https://app.example.com' or '/shop', and not empty"
        )
    return source


def _standard(event: Event, recipient: Recipient, source: str) -> str:
    # Standard Webhooks 1.0.0, "Payload structure".
    return (
        f'{{"id":{_quoted(event.id)},"type":{_quoted(event.type)},'
        f'"timestamp":"{rfc3339(event.timestamp)}","sequence":{event.sequence}{_mark(recipient)},'
        f'"data":{event.data}{_previous(event)}}}'
    )


def _resthooks(event: Event, recipient: Recipient, source: str) -> str:
    # The REST Hooks patterns: `hook` is the subscription that this is sent for.
    return (
        f'{{"hook":{{"id":{_quoted(recipient.subscription_id)},'
        f'"event":{_quoted(event.type)},"target":{_quoted(recipient.target_url)},'
        f'"event_id":{_quoted(event.id)},"timestamp":"{rfc3339(event.timestamp)}",'
        f'"sequence":{event.sequence}{_mark(recipient)}}},'
        f'"data":{event.data}{_previous(event)}}}'
    )


def _mark(recipient: Recipient) -> str:
    return ',"payload":"thin"' if recipient.payload == THIN else ""


def _previous(event: Event) -> str:
    return "" if event.previous is None else f',"previous":{event.previous}'


def _bare(event: Event, recipient: Recipient, source: str) -> str:
    return event.data


def _cloudevents(event: Event, recipient: Recipient, source: str) -> str:
    # CloudEvents 1.0.2, JSON event format, and its extension `sequence`, which asks for texts that
    # are in order when they are compared as texts.
    attributes = {
        "specversion": "1.0",
        "id": event.id,
        "source": _source(source),
        "type": event.type,
        "time": rfc3339(event.timestamp),
        "datacontenttype": "application/json",
        "sequence": f"{event.sequence:0{SEQUENCE_DIGITS}d}",
    }
    if recipient.payload == THIN:
        attributes["payload"] = THIN
    if event.resource:
        attributes["subject"] = _NO_CLOUDEVENTS_TEXT.sub("\ufffd", event.resource)
    if event.previous is not None:
        # An extension is no object; and of what JSON in ASCII holds, DEL alone is no text here.
        attributes["previous"] = event.previous.replace("\x7f", "\\u007f")
    return f'{to_json(attributes)[:-1]},"data":{event.data}}}'


_quoted = json.encoder.encode_basestring_ascii
_source = functools.lru_cache(maxsize=16)(check_source)

_ANYBODY = Recipient("", "")
_THIN_BEGINS = '{"resource":'
_BODIES: Mapping[str, Callable[[Event, Recipient, str], str]] = {
    STANDARD: _standard,
    RESTHOOKS: _resthooks,
    BARE: _bare,
    CLOUDEVENTS: _cloudevents,
}
_CONTENT_TYPES = {
    **dict.fromkeys(NAMES, "application/json"),
    CLOUDEVENTS: "application/cloudevents+json",
}
_TESTS = ("ping", "handshake")
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


def _known(table: Mapping[str, T], format: str) -> T:
    try:
        return table[format]
    except KeyError:
        raise ValueError(f"there is no format {format!r}; known: {', '.join(NAMES)}") from None


def content_type(format: str) -> str:
    """The media type of the bodies of a format.

    :raises ValueError: for a format that there is not.
    """
    return _known(_CONTENT_TYPES, format)


def headers(
    event: Event,
    body: bytes,
    *,
    signers: Sequence[signing.Signer],
    timestamp: int,
    user_agent: str,
    format: str = STANDARD,
    payload: str = FULL,
    extra: Mapping[str, str] = _NO_HEADERS,
) -> dict[str, str]:
    """The headers of one attempt, by lower-case name.

    Whatever the format, they tell `webhook-id`, `x-hook-event` and `x-hook-sequence`: the body of
    some has no place for them.

    :param payload: of the body; one of `PAYLOADS`.
    :param signers: of the subscription's secrets, from `signing.signer`, the newest first.
    :param timestamp: seconds since the epoch, of this attempt (not of the event).
    :param extra: the subscription's own headers. None of ours is overridden, whether we send it
        this time or not.
    :raises ValueError: for a format that there is not, and without signers.
    """
    if not signers:
        raise ValueError("a hook is not sent without a signature")
    made = {
        "content-type": content_type(format),
        "webhook-id": event.id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signing.signatures(signers, event.id, timestamp, body),
        "x-hook-event": event.type,
        "x-hook-sequence": str(event.sequence),
        "x-hook-format": format,
        "user-agent": user_agent,
    }
    hook_signatures = (signer.hook_signature(body) for signer in signers)
    hook_signature = next((given for given in hook_signatures if given is not None), None)
    if hook_signature is not None:
        made["x-hook-signature"] = hook_signature
    if payload == THIN:
        made["x-hook-payload"] = THIN
    if event.kind in _TESTS:
        made["x-hook-test"] = event.kind
    for name, value in extra.items():
        if not own_headers.is_reserved(name):
            made[name.lower()] = value
    return made
