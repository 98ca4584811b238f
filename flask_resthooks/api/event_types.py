"""Routes of event types."""

from __future__ import annotations

from typing import Any

from .. import event_types
from . import examples
from . import schemas as s
from .errors import not_found
from .fields import NameCursor
from .payloads import json_schema
from .views import View, operation

_NAME_PARAMETER = {
    "name": "name",
    "in": "path",
    "description": "The event type's name, such as `contact.create`.",
    "required": True,
}


class _View(View):
    tag = "Webhook event types"


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
        names = sorted(name for name in types if name > after)
        here = names[:limit]
        return {
            "data": [show(types[name]) for name in here],
            "next_cursor": NameCursor.of(here[-1]) if len(names) > limit else None,
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
        if name not in self.context.event_types:
            raise not_found("event type")
        event_type = self.context.event_types[name]
        return show(event_type) | {"schema": json_schema(event_type.schema)}


def show(event_type: event_types.EventType) -> dict[str, Any]:
    """An event type as the API shows it."""
    return {"name": event_type.name, "description": event_type.description}
