"""What goes out."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
from marshmallow import fields, validate

from ... import formats, ids, models
from ..fields import Moment
from .words import DELIVERY_STATUSES, RECOVERY_STATUSES, SUBSCRIPTION_STATUSES, described


class _Answer(ma.Schema):
    class Meta:
        unknown = ma.EXCLUDE  # in the OpenAPI document: more properties may come


def _id(prefix: str) -> fields.Field[Any]:
    return fields.String(required=True, metadata={"pattern": f"^{prefix}_[0-9a-f]{{32}}$"})


def _string(description: str, **options: Any) -> fields.Field[Any]:
    return fields.String(required=True, metadata=described(description), **options)


def _moment(description: str, **options: Any) -> fields.Field[Any]:
    return Moment(required=True, metadata=described(description), **options)


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
    active = fields.Boolean(required=True, metadata=described("Whether the status is `active`."))
    description = _string("For people.")
    metadata = fields.Dict(keys=fields.String(), values=fields.String(), required=True)
    format = _string("The form of the body that is sent.")
    payload = _string("How much of the resource is sent.")
    signature = _string("How hooks are signed.")
    header_names = fields.List(
        fields.String(), required=True, metadata=described("Names of your own headers.")
    )
    rate = fields.Float(
        required=True,
        allow_none=True,
        metadata=described("Hooks per minute that the receiver has granted; null: no limit."),
    )
    expires_at = _moment("Nothing is sent after this time.", allow_none=True)
    expiry_notice = fields.Boolean(
        required=True, metadata=described("Whether a last hook tells when it expires.")
    )
    confirm_until = _moment(
        "Until when the receiver may show its intent; null if it is not asked.", allow_none=True
    )
    created_at = _moment("When it was made.")
    updated_at = _moment("When it was last changed.")
    disabled_reason = _string("Why it was disabled.", allow_none=True)


class _Asked(_Answer):
    id = _id(ids.SUBSCRIPTION)
    target_url = _string("Where the hooks go.")
    events = fields.List(fields.String(), required=True)


class AboutSubscription(_Answer):
    """The `data` of hooks that tell of a subscription itself."""

    subscription = fields.Nested(_Asked, required=True)


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
        required=True, metadata=described("How many events were looked at so far.")
    )
    released = fields.Integer(
        required=True, metadata=described("How many deliveries are sent (again) for it.")
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
        required=True, metadata=described("Later events of one resource have greater ones.")
    )
    resource = _string("What it happened to.", allow_none=True)
    url = _string("Where that can be fetched.", allow_none=True)
    data = fields.Raw(required=True, metadata=described("As the event type's schema says."))
    previous = fields.Raw(metadata=described("Updates only: the former values of what changed."))


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
    attempts = fields.Integer(required=True, metadata=described("How many there were."))
    next_attempt_at = _moment("When it is tried next.", allow_none=True)
    created_at = _moment("When it was made.")
    finished_at = _moment("When it came to its end.", allow_none=True)


class RESTHooksDeliveryListSchema(_Answer):
    data = fields.List(fields.Nested(RESTHooksDeliverySchema), required=True)
    next_cursor = _cursor()


class RESTHooksAttemptSchema(_Answer):
    id = _id(ids.ATTEMPT)
    number = fields.Integer(required=True, metadata=described("From 1."))
    started_at = _moment("When it began.")
    duration = fields.Float(required=True, metadata=described("In seconds."))
    status_code = fields.Integer(
        required=True, allow_none=True, metadata=described("Null if there was no answer.")
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
        required=True, metadata=described("Whether another one had better be used.")
    )
    payload = _status(
        "`thin`: hooks tell what it happened to and where that is, whatever a subscription asks "
        "for.",
        formats.PAYLOADS,
    )


class RESTHooksEventTypeWithSchemaSchema(RESTHooksEventTypeSchema):
    schema = fields.Dict(
        required=True, metadata=described("JSON Schema (2020-12) of the `data` of its events.")
    )


class RESTHooksEventTypeListSchema(_Answer):
    data = fields.List(fields.Nested(RESTHooksEventTypeSchema), required=True)
    next_cursor = _cursor()


class RESTHooksEventTypeSampleSchema(ma.Schema):
    """The body of a hook, in the format that was asked for."""

    class Meta:
        unknown = ma.INCLUDE


class RESTHooksErrorSchema(_Answer):
    code = fields.Integer(required=True, metadata=described("The HTTP status."))
    status = _string("Its name.")
    message = _string("What is wrong, for people.")
    errors = fields.Dict(
        keys=fields.String(),
        values=fields.List(fields.String()),
        required=True,
        metadata=described("What is wrong, by field or parameter."),
    )
    error_code = _string("What is wrong, for programs: a stable word.")
    request_id = _string("Also in the header `X-Request-Id`.")
