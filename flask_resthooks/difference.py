"""Engine: the difference that a transaction made to a record, and the event row that tells it.

before, noted at first touch ──► **compared with what is there at the commit** ──► event row
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from . import formats
from .errors import CaptureError
from .event_rows import Row, event_row
from .record_types import RecordType, represent
from .representation import Found, Representation


class Existed:
    """A before-state that no verb of the resource asks for."""


EXISTED = Existed()


@dataclass(frozen=True, slots=True)
class Met:
    """A record that this transaction saw only when it had changed it.

    Another one committed it between the look and the change. What it was before is told by nothing
    but a second connection, for which the app's statement must not wait.
    """

    then: Representation | CaptureError


Before = Representation | CaptureError | Met | Existed | None
"""None: the record did not exist. An error is raised only if an event needs what failed."""

After = Representation | Existed | None


def before_of(record_type: RecordType, found: Found) -> Representation | CaptureError | Existed:
    """How a record is now, before it is changed."""
    if record_type.resource is None or not record_type.looks_back:
        return EXISTED
    try:
        return represent(record_type, record_type.resource, found)
    except CaptureError as error:
        if isinstance(error.__cause__, sa.exc.SQLAlchemyError):
            # The transaction may be broken already: the next statement would hide the cause.
            raise
        return error


def difference(record_type: RecordType, before: Before, after: After) -> list[Row]:
    """The event rows that tell of it.

    One at most, but for a record that got another owner: it is gone for the one and new for the
    other, who is told nothing of what it was before.
    """
    if before is after or isinstance(before, Existed) or isinstance(after, Existed):
        return []
    if before is None:
        return _told(("create", after))
    if after is None and record_type.resource and "delete" not in record_type.resource.verbs:
        return []
    if isinstance(before, Met):
        if after is not None:
            return _told(("update", after))
        before = before.then
    if isinstance(before, CaptureError):
        raise before
    if after is None or before.owner != after.owner:
        return _told(("delete", before), ("create", after))
    if "update" not in after.resource.verbs:
        return []
    watch = after.resource.watch is not None
    if before.watched == after.watched if watch else before.data == after.data:
        return []
    if before.too_long or after.too_long:  # what it was before is not there to be told
        return _told(("update", after))
    old, new = json.loads(before.data), json.loads(after.data)
    if old == new and not watch:
        return []
    previous = {name: old[name] for name in old if name not in new or old[name] != new[name]}
    return _told(("update", after), previous=formats.to_json(previous))


def _told(*told: tuple[str, Representation | None], previous: str | None = None) -> list[Row]:
    return [
        event_row(
            f"{one.resource.name}.{verb}",
            one.owner,
            one.key,
            one.data,
            previous,
            url=one.url,
            payload=formats.THIN if one.too_long else one.resource.payload,
        )
        for verb, one in told
        if one is not None and one.owner is not None and verb in one.resource.verbs
    ]


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
