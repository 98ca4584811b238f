"""Query strings."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
from marshmallow import fields, validate

from ... import formats, ids
from ..fields import IdCursor, Limit, Moment, NameCursor, Text
from .words import DELIVERY_STATUSES, MAX_PATTERN, described

DEFAULT_LIMIT, MAX_LIMIT = 20, 100

_CURSOR = described("The `next_cursor` of the page before.")


def _limit() -> fields.Field[Any]:
    return Limit(maximum=MAX_LIMIT, default=DEFAULT_LIMIT, metadata=described("Entries per page."))


def _one_type() -> fields.Field[Any]:
    metadata = described("An event type, such as `contact.create`.")
    return Text(max_length=MAX_PATTERN, metadata=metadata)


def _since() -> fields.Field[Any]:
    return Moment(metadata=described("From this time on."))


def _until() -> fields.Field[Any]:
    return Moment(metadata=described("Before this time."))


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
    resource = Text(
        max_length=255, metadata=described("What it happened to, such as `contact:17`.")
    )
    since = _since()
    until = _until()
    after = fields.String(
        validate=validate.Regexp(f"^{ids.EVENT}_[0-9a-f]{{32}}\\Z"),
        metadata=described(
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
        metadata=described("The form of the bodies; by default that of a subscription."),
    )
    payload = fields.String(
        validate=validate.OneOf(formats.PAYLOADS),
        load_default=formats.FULL,
        metadata=described("How much of the resource is shown."),
    )


class NoQuery(ma.Schema):
    """No parameters."""
