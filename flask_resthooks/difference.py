"""Engine: the difference that a transaction made to a record, and the event row that tells it.

before, noted at first touch ──► **compared with what is there at the commit** ──► event row
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from . import formats, ids
from .errors import CaptureError
from .models import utcnow
from .representation import RecordType, Representation, represent


class Existed:
    """A before-state that no verb of the resource asks for."""


EXISTED = Existed()

Before = Representation | CaptureError | Existed | None
"""None: the record did not exist. An error is raised only if an event needs what failed."""

After = Representation | Existed | None

Row = dict[str, Any]


def before_of(record_type: RecordType, instance: Any) -> Before:
    """How a record is now, before it is changed."""
    if record_type.resource is None or not record_type.looks_back:
        return EXISTED
    try:
        return represent(record_type, record_type.resource, instance)
    except CaptureError as error:
        if isinstance(error.__cause__, sa.exc.SQLAlchemyError):
            # The transaction may be broken already: the next statement would hide the cause.
            raise
        return error


def difference(record_type: RecordType, before: Before, after: After) -> Row | None:
    """The event row that tells of it; None if there is nothing to tell."""
    if before is after or isinstance(before, Existed) or isinstance(after, Existed):
        return None
    if before is None:
        return _verb_row("create", after) if after else None
    if after is None and record_type.resource and "delete" not in record_type.resource.verbs:
        return None
    if isinstance(before, CaptureError):
        raise before
    if after is None:
        return _verb_row("delete", before)
    watch = after.resource.watch is not None
    if before.watched == after.watched if watch else before.data == after.data:
        return None
    old, new = json.loads(before.data), json.loads(after.data)
    if old == new and not watch:
        return None
    previous = {name: old[name] for name in old if name not in new or old[name] != new[name]}
    return _verb_row("update", after, formats.to_json(previous))


def _verb_row(verb: str, told: Representation, previous: str | None = None) -> Row | None:
    if told.owner is None:
        return None
    return event_row(f"{told.resource.name}.{verb}", told.owner, told.key, told.data, previous)


def event_row(
    event_type: str, owner: str, resource: str | None, data: str, previous: str | None = None
) -> Row:
    """A row of the event table; its sequence is made by the database."""
    return {
        "id": ids.new(ids.EVENT),
        "type": event_type,
        "owner": owner,
        "resource": resource,
        "created_at": utcnow(),
        "data": data,
        "previous": previous,
    }


def json_of(event_type: str, schema: Any, value: Any) -> str:
    """The `data` of an event that is emitted.

    :raises CaptureError: if the value cannot be represented.
    """
    try:
        if not isinstance(value, Mapping):
            if schema is None:
                raise TypeError(f"it has no schema, so it takes a mapping, not {value!r}")
            value = schema.dump(value, many=False)
        return formats.to_json(value)
    except Exception as error:
        raise CaptureError(f"no {event_type} can be made: {error}") from error
