"""Samples of hooks: of what an owner has, else made up."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
from collections.abc import Callable
from typing import Any

from .. import formats, ids
from ..event_types import THIN, EventType
from ..models import utcnow
from ..records import newest_events, newest_records
from ..samples import example_of
from .context import Context
from .payloads import Part, json_schema, shows

MAX_SAMPLES = 3

UPDATE, DELETE = ".update", ".delete"


def samples(
    context: Context, owner: str, event_type: EventType, limit: int = MAX_SAMPLES
) -> list[formats.Event]:
    """What the hooks of an event type look like, newest first; one at least.

    Of the owner's own records if there are any, as the schema shows them now. Of what was changed
    or deleted the owner's events know more, so these come first then, and second otherwise; but no
    event that tells what the schema does not show any more. Without either, one is made up from the
    schema's examples. Nothing is written, and nothing is shown that the owner may not see (any
    more).

    :param owner: who sees the event type.
    """
    return _Samples(context, owner, event_type, limit).find()


def made_up(
    event_type: EventType, schema: Part, at: dt.datetime, *, resource: str | None, update: bool
) -> formats.Event:
    """A sample that is made from the examples of a schema.

    :param schema: of the event type, from `json_schema`.
    :param update: whether it is an update, with what was before.
    """
    data = example_of(schema)
    return _event(
        event_type,
        formats.to_json(data if isinstance(data, dict) else {}),
        at,
        resource=resource,
        schema=schema if update else None,
    )


def _event(
    event_type: EventType,
    data: str,
    at: dt.datetime,
    *,
    resource: str | None,
    url: str | None = None,
    schema: Part | None = None,
) -> formats.Event:
    """An event that did not happen; before all that did, for those who look at the sequence.

    :param schema: of an update, to make up what was before.
    """
    # The same for the same record always.
    digest = hashlib.sha256(f"{event_type.name} {resource or ''}".encode()).hexdigest()
    previous = None
    if schema is not None:
        previous = formats.to_json(former_values(schema, json.loads(data)))
    made = formats.Event(
        id=f"{ids.EVENT}_{digest[:32]}",
        type=event_type.name,
        timestamp=at,
        sequence=0,
        data=data,
        previous=previous,
        resource=resource,
        url=url,
    )
    return _told(event_type, made)


def _told(event_type: EventType, event: formats.Event) -> formats.Event:
    """What an event type does not tell, its samples do not tell either."""
    if event_type.payload != THIN:
        return event
    return dataclasses.replace(event, data=formats.thin_data(event), previous=None)


def former_values(schema: Part, data: Any) -> Part:
    """A made-up `previous`: one field that had another value. Empty if there is none."""
    if not isinstance(data, dict):
        return {}
    properties: Part = schema.get("properties", {})
    names = [name for name in properties if name in data and name != "id"]
    # What the app itself sets is less likely to be what was changed.
    names.sort(key=lambda name: properties[name].get("readOnly") is True)
    for name in names:
        if isinstance(data[name], dict | list):
            continue
        former = example_of({**properties[name], "$defs": schema.get("$defs", {})})
        if former == data[name]:
            former = None
        if former != data[name]:
            return {name: former}
    return {}


class _Samples:
    def __init__(self, context: Context, owner: str, event_type: EventType, limit: int) -> None:
        self._context = context
        self._owner = owner
        self._type = event_type
        self._limit = limit
        self._schema = json_schema(event_type.schema)
        self._tracked = context.resources(event_type.name)
        self._now = utcnow().replace(microsecond=0)

    def find(self) -> list[formats.Event]:
        sources: list[Callable[[], list[formats.Event]]] = [self._records, self._events]
        if self._type.name.endswith((UPDATE, DELETE)):
            sources.reverse()
        for source in sources:
            found = [event for event in source() if self._context.permits(self._owner, event)]
            if found:
                return found
        resource = None if self._tracked is None else f"{self._tracked[1].name}:1"
        return [
            made_up(
                self._type, self._schema, self._now, resource=resource, update=self._is_update()
            )
        ]

    def _is_update(self) -> bool:
        """Whether it tells what was before: what is emitted does not, whatever its name."""
        return self._tracked is not None and self._type.name.endswith(UPDATE)

    def _events(self) -> list[formats.Event]:
        found = newest_events(
            self._context.db.session(),
            self._context.tables,
            self._owner,
            self._type.name,
            self._limit,
        )
        return [_told(self._type, event) for event in found if self._is_shown(event)]

    def _is_shown(self, event: formats.Event) -> bool:
        return self._type.payload == THIN or all(
            shows(self._schema, json.loads(text))
            for text in (event.data, event.previous)
            if text is not None
        )

    def _records(self) -> list[formats.Event]:
        if self._tracked is None:
            return []
        model, resource = self._tracked
        behind = [self._context.resources(name) for name in self._context.event_types]
        found = newest_records(
            self._context.db.session(),
            model,
            resource,
            self._owner,
            self._limit,
            tracked={tracked[0] for tracked in behind if tracked is not None},
        )
        return [
            _event(
                self._type,
                record.data,
                self._now - dt.timedelta(seconds=number),
                resource=record.key,
                url=record.url,
                schema=self._schema if self._is_update() else None,
            )
            for number, record in enumerate(found)
        ]
