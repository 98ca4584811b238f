"""What goes in and out, as marshmallow schemas.

Their names begin with `RESTHooks`, for they become components of the host's OpenAPI document,
where a `Subscription` may mean something else.
"""

from __future__ import annotations

from typing import Any

import marshmallow as ma
from marshmallow import fields, validate

from .. import formats, ids, models, own_headers, signing
from ..models import URL_LENGTH, utcnow
from .fields import (
    Flag,
    Headers,
    IdCursor,
    Limit,
    Metadata,
    Moment,
    NameCursor,
    Names,
    Number,
    Text,
)

SUBSCRIPTION_STATUSES = ("pending", "active", "inactive", "disabled", "expired")
RECOVERY_STATUSES = ("pending", "running", "done", "cancelled")
DELIVERY_STATUSES = ("pending", "sending", "delivered", "failed", "cancelled")

DEFAULT_LIMIT, MAX_LIMIT = 20, 100
MAX_EVENTS = 100
MAX_PATTERN = 102
MAX_DESCRIPTION = 1000
DEFAULT_OVERLAP, MAX_OVERLAP = 86_400, 604_800

# 24 to 64 bytes in base64; or an ed25519 key.
SECRET_PATTERN = (
    r"^whsk_([A-Za-z0-9+/]{42}[A-Za-z0-9+/]=|[A-Za-z0-9+/]{85}[A-Za-z0-9+/]==)$|^whsec_(([A-Za-z0-9+/]{4}){8,20}"
    r"([A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{2}==)?"
    r"|([A-Za-z0-9+/]{4}){21}[A-Za-z0-9+/]{2}==)$"
)


def _says(description: str, **more: Any) -> dict[str, Any]:
    return {"description": description, **more}


# The writable fields. Each is made twice: with a default for POST and PUT, without for PATCH.


def _target_url(**options: Any) -> fields.Field[Any]:
    says = _says("Where the hooks go: a public https URL.", format="uri")
    return fields.String(validate=validate.Length(max=URL_LENGTH), metadata=says, **options)


def _pattern(description: str) -> Text:
    return Text(max_length=MAX_PATTERN, metadata=_says(description))


def _event() -> fields.Field[Any]:
    return _pattern("A single event type or pattern, instead of `events`.")


def _events() -> fields.Field[Any]:
    says = _says(
        "Event types, or patterns: `contact.*` is every event of a contact, `*` any event."
    )
    return Names(
        _pattern("An event type or a pattern that matches one."),
        max_items=MAX_EVENTS,
        metadata=says,
    )


def _active(**options: Any) -> fields.Field[Any]:
    says = _says("False pauses; true resumes, also when the subscription was disabled.")
    return Flag(metadata=says, **options)


def _description(**options: Any) -> fields.Field[Any]:
    return Text(max_length=MAX_DESCRIPTION, metadata=_says("For people."), **options)


def _metadata(**options: Any) -> fields.Field[Any]:
    return Metadata(
        max_keys=50,
        keys=Text(min_length=1, max_length=40),
        values=Text(max_length=500),
        metadata=_says("For your own use; keys have at most 40 characters. Replaced as a whole."),
        **options,
    )


def _format(**options: Any) -> fields.Field[Any]:
    says = _says("The form of the body that is sent.")
    return fields.String(validate=validate.OneOf(formats.NAMES), metadata=says, **options)


def _payload(**options: Any) -> fields.Field[Any]:
    says = _says("How much of the resource is sent.")
    return fields.String(validate=validate.OneOf(formats.PAYLOADS), metadata=says, **options)


def _headers(**options: Any) -> fields.Field[Any]:
    says = _says(
        "Headers of your own that are sent along, such as a token: texts by name. They are never "
        "shown again. Replaced as a whole.",
        maxProperties=own_headers.MAX_HEADERS,
        additionalProperties={"type": "string", "maxLength": own_headers.MAX_VALUE},
    )
    return Headers(metadata=says, **options)


def _expiry_notice(**options: Any) -> fields.Field[Any]:
    says = _says("Whether a last hook, `resthooks.expired`, tells when it expires.")
    return Flag(metadata=says, **options)


def _expires_at(**options: Any) -> fields.Field[Any]:
    def in_the_future(value: Any) -> None:
        if value <= utcnow():
            raise ma.ValidationError("Must be in the future.")

    says = _says(
        "Nothing is sent after this time, which must be in the future and before the year 9000; "
        "null: no end."
    )
    return Moment(allow_none=True, validate=in_the_future, metadata=says, **options)


def _signature(**options: Any) -> fields.Field[Any]:
    says = _says(
        "How hooks are signed: `v1` with a secret that both sides have, `v1a` with a key whose "
        "public half verifies (ed25519)."
    )
    return fields.String(validate=validate.OneOf(signing.KINDS), metadata=says, **options)


def _own_secret() -> fields.Field[Any]:
    says = _says(
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
    active = _active(load_default=True)
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
        metadata=_says("Seconds for which the former secret signs, too."),
    )
    signature = _signature()
    secret = _own_secret()

    optional = True


class RESTHooksConfirmationSchema(ma.Schema):
    """What proves that the receiver wants to be called."""

    secret = Text(
        max_length=1000, metadata=_says("Of the handshake; or in the header `X-Hook-Secret`.")
    )

    optional = True


class RESTHooksPingSchema(ma.Schema):
    """What is sent to test a receiver."""

    event = _pattern("An event type whose sample is sent; absent: a hook `resthooks.ping`.")

    optional = True


class RESTHooksRecoverSchema(ma.Schema):
    """What is to be sent again."""

    since = Moment(
        required=True, metadata=_says("What happened since this time and was not delivered.")
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


class _Answer(ma.Schema):
    class Meta:
        unknown = ma.EXCLUDE  # in the OpenAPI document: more properties may come


def _id(prefix: str) -> fields.Field[Any]:
    return fields.String(required=True, metadata={"pattern": f"^{prefix}_[0-9a-f]{{32}}$"})


def _string(description: str, **options: Any) -> fields.Field[Any]:
    return fields.String(required=True, metadata=_says(description), **options)


def _moment(description: str, **options: Any) -> fields.Field[Any]:
    return Moment(required=True, metadata=_says(description), **options)


def _cursor() -> fields.Field[Any]:
    return _string("The `cursor` of the next page; null on the last one.", allow_none=True)


def _status(description: str, statuses: tuple[str, ...]) -> fields.Field[Any]:
    return _string(description, validate=validate.OneOf(statuses))


class RESTHooksSubscriptionSchema(_Answer):
    id = _id(ids.SUBSCRIPTION)
    target_url = _string("Where the hooks go.")
    events = fields.List(fields.String(), required=True)
    status = _status(
        "`pending` until the receiver has shown its intent, `inactive` by its owner, `disabled` by "
        "us (see `disabled_reason`).",
        SUBSCRIPTION_STATUSES,
    )
    active = fields.Boolean(required=True, metadata=_says("Whether the status is `active`."))
    description = _string("For people.")
    metadata = fields.Dict(keys=fields.String(), values=fields.String(), required=True)
    format = _string("The form of the body that is sent.")
    payload = _string("How much of the resource is sent.")
    signature = _string("How hooks are signed.")
    header_names = fields.List(
        fields.String(), required=True, metadata=_says("Names of your own headers.")
    )
    rate = fields.Float(
        required=True,
        allow_none=True,
        metadata=_says("Hooks per minute that the receiver has granted; null: no limit."),
    )
    expires_at = _moment("Nothing is sent after this time.", allow_none=True)
    expiry_notice = fields.Boolean(
        required=True, metadata=_says("Whether a last hook tells when it expires.")
    )
    confirm_until = _moment(
        "Until when the receiver may show its intent; null if it is not asked.", allow_none=True
    )
    created_at = _moment("When it was made.")
    updated_at = _moment("When it was last changed.")
    disabled_reason = _string("Why it was disabled.", allow_none=True)


class RESTHooksSubscriptionCreatedSchema(RESTHooksSubscriptionSchema):
    secret = _string("Verifies the hooks. Keep it; it is not part of any list.")


class RESTHooksSubscriptionListSchema(_Answer):
    data = fields.List(fields.Nested(RESTHooksSubscriptionSchema), required=True)
    next_cursor = _cursor()


class RESTHooksSecretSchema(_Answer):
    secret = _string("Verifies the hooks: `whsec_…`, or `whpk_…` with `v1a`.")


class RESTHooksConfirmedSchema(_Answer):
    status = _status("`active` from now on.", SUBSCRIPTION_STATUSES)


class RESTHooksRecoverySchema(_Answer):
    id = _id(ids.RECOVERY)
    subscription_id = _id(ids.SUBSCRIPTION)
    status = _status(
        "`cancelled` if the subscription was paused, disabled or deleted meanwhile.",
        RECOVERY_STATUSES,
    )
    since = _moment("What happened from this time on is looked at.")
    until = _moment("And before this time.")
    examined = fields.Integer(
        required=True, metadata=_says("How many events were looked at so far.")
    )
    released = fields.Integer(
        required=True, metadata=_says("How many deliveries are sent (again) for it.")
    )
    created_at = _moment("When it was asked for.")
    finished_at = _moment("When it came to its end.", allow_none=True)


class RESTHooksRecoveryListSchema(_Answer):
    data = fields.List(fields.Nested(RESTHooksRecoverySchema), required=True)
    next_cursor = _cursor()


class RESTHooksEventSchema(_Answer):
    """As a hook of the format `standard` tells it."""

    id = _id(ids.EVENT)
    type = _string("Such as `contact.create`.")
    timestamp = _moment("When it happened.")
    sequence = fields.Integer(
        required=True, metadata=_says("Later events of one resource have greater ones.")
    )
    resource = _string("What it happened to.", allow_none=True)
    url = _string("Where that can be fetched.", allow_none=True)
    data = fields.Raw(required=True, metadata=_says("As the event type's schema says."))
    previous = fields.Raw(metadata=_says("Updates only: the former values of what changed."))


class RESTHooksEventListSchema(_Answer):
    data = fields.List(fields.Nested(RESTHooksEventSchema), required=True)
    next_cursor = _cursor()


class RESTHooksDeliverySchema(_Answer):
    id = _id(ids.DELIVERY)
    kind = _status("What it is; all but `event` are about the subscription itself.", models.KINDS)
    subscription_id = _id(ids.SUBSCRIPTION)
    event_id = _string("The `webhook-id` of every attempt.")
    event_type = _string("Such as `contact.create`.")
    resource = _string("What the event happened to.", allow_none=True)
    status = _status("`failed` is given up.", DELIVERY_STATUSES)
    reason = _string("Why it was given up or cancelled.", allow_none=True)
    attempts = fields.Integer(required=True, metadata=_says("How many there were."))
    next_attempt_at = _moment("When it is tried next.", allow_none=True)
    created_at = _moment("When it was made.")
    finished_at = _moment("When it came to its end.", allow_none=True)


class RESTHooksDeliveryListSchema(_Answer):
    data = fields.List(fields.Nested(RESTHooksDeliverySchema), required=True)
    next_cursor = _cursor()


class RESTHooksAttemptSchema(_Answer):
    id = _id(ids.ATTEMPT)
    number = fields.Integer(required=True, metadata=_says("From 1."))
    started_at = _moment("When it began.")
    duration = fields.Float(required=True, metadata=_says("In seconds."))
    status_code = fields.Integer(
        required=True, allow_none=True, metadata=_says("Null if there was no answer.")
    )
    error = _string("Why there was no answer: one word.", allow_none=True)
    detail = _string("The same, for people.", allow_none=True)
    response = _string("The beginning of the answer's body.", allow_none=True)
    request_id = _string("What the receiver calls it: its `X-Request-Id`.", allow_none=True)
    next_attempt_at = _moment("When it was to be tried again.", allow_none=True)


class RESTHooksAttemptListSchema(_Answer):
    data = fields.List(fields.Nested(RESTHooksAttemptSchema), required=True)
    next_cursor = _cursor()


class RESTHooksEventTypeSchema(_Answer):
    name = _string("`noun.verb`.")
    description = _string("For people.")
    version = _string("Of the schema.")
    deprecated = fields.Boolean(
        required=True, metadata=_says("Whether another one had better be used.")
    )
    payload = _status(
        "`thin`: hooks tell what it happened to and where that is, whatever a subscription asks "
        "for.",
        formats.PAYLOADS,
    )


class RESTHooksEventTypeWithSchemaSchema(RESTHooksEventTypeSchema):
    schema = fields.Dict(
        required=True, metadata=_says("JSON Schema (2020-12) of the `data` of its events.")
    )


class RESTHooksEventTypeListSchema(_Answer):
    data = fields.List(fields.Nested(RESTHooksEventTypeSchema), required=True)
    next_cursor = _cursor()


class RESTHooksEventTypeSampleSchema(ma.Schema):
    """The body of a hook, in the format that was asked for."""

    class Meta:
        unknown = ma.INCLUDE


class RESTHooksErrorSchema(_Answer):
    code = fields.Integer(required=True, metadata=_says("The HTTP status."))
    status = _string("Its name.")
    message = _string("What is wrong, for people.")
    errors = fields.Dict(
        keys=fields.String(),
        values=fields.List(fields.String()),
        required=True,
        metadata=_says("What is wrong, by field or parameter."),
    )
    error_code = _string("What is wrong, for programs: a stable word.")
    request_id = _string("Also in the header `X-Request-Id`.")


# Query strings.

_CURSOR = _says("The `next_cursor` of the page before.")


def _limit() -> fields.Field[Any]:
    return Limit(maximum=MAX_LIMIT, default=DEFAULT_LIMIT, metadata=_says("Entries per page."))


def _one_type() -> fields.Field[Any]:
    return Text(max_length=MAX_PATTERN, metadata=_says("An event type, such as `contact.create`."))


def _since() -> fields.Field[Any]:
    return Moment(metadata=_says("From this time on."))


def _until() -> fields.Field[Any]:
    return Moment(metadata=_says("Before this time."))


class SubscriptionQuery(ma.Schema):
    limit = _limit()
    cursor = IdCursor(ids.SUBSCRIPTION, metadata=_CURSOR)


class DeliveryQuery(ma.Schema):
    limit = _limit()
    cursor = IdCursor(ids.DELIVERY, metadata=_CURSOR)
    status = fields.String(validate=validate.OneOf(DELIVERY_STATUSES))
    event_type = _one_type()
    since = _since()
    until = _until()


class RecoveryQuery(ma.Schema):
    limit = _limit()
    cursor = IdCursor(ids.RECOVERY, metadata=_CURSOR)


class EventQuery(ma.Schema):
    limit = _limit()
    cursor = IdCursor(ids.EVENT, metadata=_CURSOR)
    type = _one_type()
    resource = Text(max_length=255, metadata=_says("What it happened to, such as `contact:17`."))
    since = _since()
    until = _until()
    after = fields.String(
        validate=validate.Regexp(f"^{ids.EVENT}_[0-9a-f]{{32}}\\Z"),
        metadata=_says(
            "The id of the last event that you have: those that came after it, the oldest first.",
            pattern=f"^{ids.EVENT}_[0-9a-f]{{32}}$",
        ),
    )


class AttemptQuery(ma.Schema):
    limit = _limit()
    cursor = IdCursor(ids.ATTEMPT, metadata=_CURSOR)


class EventTypeQuery(ma.Schema):
    limit = _limit()
    cursor = NameCursor(metadata=_CURSOR)


class EventTypeSampleQuery(ma.Schema):
    format = fields.String(
        validate=validate.OneOf(formats.NAMES),
        metadata=_says("The form of the bodies; by default that of a subscription."),
    )
    payload = fields.String(
        validate=validate.OneOf(formats.PAYLOADS),
        load_default=formats.FULL,
        metadata=_says("How much of the resource is shown."),
    )


class NoQuery(ma.Schema):
    """No parameters."""
