"""What comes in."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
from marshmallow import fields, validate

from ... import formats, own_headers, signing
from ...models import URL_LENGTH, utcnow
from ..fields import Flag, Headers, Metadata, Moment, Names, Number, Text
from .words import MAX_PATTERN, described

MAX_EVENTS = 100
MAX_DESCRIPTION = 1000
DEFAULT_OVERLAP, MAX_OVERLAP = 86_400, 604_800

# 24 to 64 bytes in base64; or an ed25519 key.
SECRET_PATTERN = (
    r"^whsk_([A-Za-z0-9+/]{42}[A-Za-z0-9+/]=|[A-Za-z0-9+/]{85}[A-Za-z0-9+/]==)$"
    r"|^whsec_(([A-Za-z0-9+/]{4}){8,20}"
    r"([A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{2}==)?"
    r"|([A-Za-z0-9+/]{4}){21}[A-Za-z0-9+/]{2}==)$"
)


# The writable fields. Each is made twice: with a default for POST and PUT, without for PATCH.


def _target_url(**options: Any) -> fields.Field[Any]:
    says = described("Where the hooks go: a public https URL.", format="uri")
    return fields.String(validate=validate.Length(max=URL_LENGTH), metadata=says, **options)


def _pattern(description: str) -> Text:
    return Text(max_length=MAX_PATTERN, metadata=described(description))


def _event() -> fields.Field[Any]:
    return _pattern("A single event type or pattern, instead of `events`.")


def _events() -> fields.Field[Any]:
    says = described(
        "Event types, or patterns: `contact.*` is every event of a contact, `*` any event."
    )
    return Names(
        _pattern("An event type or a pattern that matches one."),
        max_items=MAX_EVENTS,
        metadata=says,
    )


def _active(**more: Any) -> fields.Field[Any]:
    says = described("False pauses; true resumes, also when the subscription was disabled.", **more)
    return Flag(metadata=says)


def _description(**options: Any) -> fields.Field[Any]:
    return Text(max_length=MAX_DESCRIPTION, metadata=described("For people."), **options)


def _metadata(**options: Any) -> fields.Field[Any]:
    return Metadata(
        max_keys=50,
        keys=Text(min_length=1, max_length=40),
        values=Text(max_length=500),
        metadata=described("For your own use; keys of 40 characters at most. Replaced as a whole."),
        **options,
    )


def _format(**options: Any) -> fields.Field[Any]:
    says = described("The form of the body that is sent.")
    return fields.String(validate=validate.OneOf(formats.NAMES), metadata=says, **options)


def _payload(**options: Any) -> fields.Field[Any]:
    says = described("How much of the resource is sent.")
    return fields.String(validate=validate.OneOf(formats.PAYLOADS), metadata=says, **options)


def _headers(**options: Any) -> fields.Field[Any]:
    says = described(
        "Headers of your own that are sent along, such as a token: texts by name. They are never "
        "shown again. Replaced as a whole.",
        maxProperties=own_headers.MAX_HEADERS,
        additionalProperties={"type": "string", "maxLength": own_headers.MAX_VALUE},
    )
    return Headers(metadata=says, **options)


def _expiry_notice(**options: Any) -> fields.Field[Any]:
    says = described("Whether a last hook, `resthooks.expired`, tells when it expires.")
    return Flag(metadata=says, **options)


def _expires_at(**options: Any) -> fields.Field[Any]:
    def in_the_future(value: Any) -> None:
        if value <= utcnow():
            raise ma.ValidationError("Must be in the future.")

    says = described(
        "Nothing is sent after this time, which must be in the future and before the year 9000; "
        "null: no end."
    )
    return Moment(allow_none=True, validate=in_the_future, metadata=says, **options)


def _signature(**options: Any) -> fields.Field[Any]:
    says = described(
        "How hooks are signed: `v1` with a secret that both sides have, `v1a` with a key whose "
        "public half verifies (ed25519)."
    )
    return fields.String(validate=validate.OneOf(signing.KINDS), metadata=says, **options)


def _own_secret() -> fields.Field[Any]:
    says = described(
        "Signs the hooks. For `v1`: `whsec_` and 24 to 64 bytes in base64; for `v1a`: `whsk_` and "
        "an ed25519 key in base64. Made if absent.",
        pattern=SECRET_PATTERN,
    )
    return fields.String(metadata=says)


class RESTHooksSubscriptionReplaceSchema(ma.Schema):
    """All that a subscription's owner decides."""

    target_url = _target_url(required=True)
    event = _event()
    events = _events()
    active = _active(default=True)
    description = _description(load_default="")
    metadata = _metadata(load_default=dict)
    format = _format()
    payload = _payload(load_default=formats.FULL)
    headers = _headers(load_default=dict)
    expires_at = _expires_at(load_default=None)
    expiry_notice = _expiry_notice(load_default=False)

    @ma.validates_schema
    def _one_of_both(self, data: Any, **kwargs: Any) -> None:
        if ("event" in data) == ("events" in data):
            raise ma.ValidationError("Give either events or event.", "events")


class RESTHooksSubscriptionCreateSchema(RESTHooksSubscriptionReplaceSchema):
    signature = _signature(load_default=signing.V1)
    secret = _own_secret()


class RESTHooksRotationSchema(ma.Schema):
    """How a secret is replaced."""

    overlap = Number(
        maximum=MAX_OVERLAP,
        load_default=DEFAULT_OVERLAP,
        metadata=described("Seconds for which the former secret signs, too."),
    )
    signature = _signature()
    secret = _own_secret()

    optional = True


class RESTHooksConfirmationSchema(ma.Schema):
    """What proves that the receiver wants to be called."""

    secret = Text(
        max_length=1000, metadata=described("Of the handshake; or in the header `X-Hook-Secret`.")
    )

    optional = True


class RESTHooksPingSchema(ma.Schema):
    """What is sent to test a receiver."""

    event = _pattern("An event type whose sample is sent; absent: a hook `resthooks.ping`.")

    optional = True


class RESTHooksRecoverSchema(ma.Schema):
    """What is to be sent again."""

    since = Moment(
        required=True, metadata=described("What happened since this time and was not delivered.")
    )


class RESTHooksSubscriptionChangeSchema(ma.Schema):
    """What is absent stays as it is."""

    target_url = _target_url()
    event = _event()
    events = _events()
    active = _active()
    description = _description()
    metadata = _metadata()
    format = _format()
    payload = _payload()
    headers = _headers()
    expires_at = _expires_at()
    expiry_notice = _expiry_notice()

    @ma.validates_schema
    def _not_both(self, data: Any, **kwargs: Any) -> None:
        if "event" in data and "events" in data:
            raise ma.ValidationError("Give either events or event.", "events")


_EITHER = {"oneOf": [{"required": ["event"]}, {"required": ["events"]}]}
RULES: dict[type[ma.Schema], dict[str, Any]] = {
    RESTHooksSubscriptionCreateSchema: _EITHER,
    RESTHooksSubscriptionReplaceSchema: _EITHER,
    RESTHooksSubscriptionChangeSchema: {"not": {"required": ["event", "events"]}},
}
"""What the methods above check, for the OpenAPI document."""
