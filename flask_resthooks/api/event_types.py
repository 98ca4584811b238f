"""Routes of event types."""

from __future__ import annotations

from itertools import islice
from typing import Any

import flask

from .. import event_types, formats
from . import examples
from . import schemas as s
from .errors import not_found
from .fields import NameCursor
from .payloads import data_schema
from .sampling import samples
from .views import View, operation

_NAME_PARAMETER = {
    "name": "name",
    "in": "path",
    "description": "The event type's name, such as `contact.create`.",
    "required": True,
}


class _View(View):
    tag = "Webhook event types"

    def event_type(self, name: str) -> event_types.EventType:
        """An event type that the caller sees.

        :raises APIError: 404.
        """
        types = self.context.event_types
        if name in types and types[name].seen_by(self.owner):
            return types[name]
        raise not_found("event type")


class EventTypes(_View):
    @operation(
        "list_event_types",
        200,
        s.RESTHooksEventTypeListSchema,
        example=examples.page(examples.EVENT_TYPE),
        query=s.EventTypeQuery,
        by_id=False,
    )
    def get(self, query: dict[str, Any]) -> Any:
        """List the event types that can be subscribed to, by name"""
        types = self.context.event_types
        after, limit = query.get("cursor", ""), query["limit"]
        names = (name for name in sorted(types) if name > after and types[name].seen_by(self.owner))
        found = list(islice(names, limit + 1))
        here = found[:limit]
        return {
            "data": [show(types[name]) for name in here],
            "next_cursor": NameCursor.of(here[-1]) if len(found) > limit else None,
        }


class EventType(_View):
    path_parameters = (_NAME_PARAMETER,)

    @operation(
        "get_event_type",
        200,
        s.RESTHooksEventTypeWithSchemaSchema,
        example=examples.EVENT_TYPE_WITH_SCHEMA,
    )
    def get(self, query: dict[str, Any], name: str) -> Any:
        """Get an event type, with the JSON Schema of its data"""
        event_type = self.event_type(name)
        return show(event_type) | {"schema": data_schema(event_type)}


class EventTypeSample(_View):
    path_parameters = (_NAME_PARAMETER,)

    @operation(
        "get_event_type_sample",
        200,
        s.RESTHooksEventTypeSampleSchema(many=True),
        example=[examples.SAMPLE],
        query=s.EventTypeSampleQuery,
    )
    def get(self, query: dict[str, Any], name: str) -> Any:
        """Get samples of the hooks of an event type

        An array of up to three bodies, newest first: of your own records if there are any, else a
        single one that is made up.
        """
        event_type = self.event_type(name)
        settings = self.context.settings
        recipient = formats.Recipient(
            subscription_id=examples.SUBSCRIPTION["id"],
            target_url=examples.SUBSCRIPTION["target_url"],
            format=query.get("format", settings.format),
            payload=query["payload"],
        )
        bodies = [
            formats.body(event, recipient, source=settings.source)
            for event in samples(self.context, self.owner, event_type)
        ]
        return flask.Response(b"[%s]" % b",".join(bodies), content_type="application/json")


def show(event_type: event_types.EventType) -> dict[str, Any]:
    """An event type as the API shows it."""
    return {
        "name": event_type.name,
        "description": event_type.description,
        "version": event_type.version,
        "deprecated": event_type.deprecated,
        "payload": event_type.payload,
    }
