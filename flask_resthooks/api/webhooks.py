"""The `webhooks` of an OpenAPI document: what receivers are called with.

One for each event type that everybody sees; those that are registered later come in later.
"""

from __future__ import annotations

import copy
import datetime as dt
import json
import logging
from typing import Any

from apispec import APISpec

from .. import formats, ids, intents
from ..event_types import THIN, EventType, EventTypes
from ..outbox.subscriptions import EXPIRED
from . import examples
from .components import DATA, PREFIX, Components
from .payloads import THIN_SCHEMA, Part, json_schema
from .sampling import UPDATE, made_up
from .schemas import AboutSubscription

log = logging.getLogger(__name__)

_AT = dt.datetime(2026, 1, 15, 9, 30, tzinfo=dt.timezone.utc)

_RESPONSES: Part = {
    "2XX": {"description": "Delivered. The body of the answer is of no importance."},
    "3XX": {"description": "Failed: redirects are not followed. It is not tried again."},
    "410": {"description": "Unsubscribes: the subscription is disabled, nothing more is sent."},
    "default": {"description": "It is tried again later; `Retry-After` is heeded."},
}


def _text(description: str, **more: Any) -> Part:
    return {"type": "string", "description": description, **more}


_ID = {"pattern": f"^({ids.EVENT}|{ids.TEST})_[0-9a-f]{{32}}$"}
_HEADERS: tuple[tuple[str, bool, Part], ...] = (
    ("webhook-id", True, _text("The event's id: the same at every attempt.", **_ID)),
    (
        "webhook-timestamp",
        True,
        _text("Seconds since 1970, of this attempt.", pattern="^[0-9]+$"),
    ),
    (
        "webhook-signature",
        True,
        _text(
            "Of `<webhook-id>.<webhook-timestamp>.<body>`: `v1,` and base64 of the HMAC-SHA256, or "
            "`v1a,` and base64 of the ed25519 signature; several with spaces between them while "
            "secrets are rotated."
        ),
    ),
    ("x-hook-event", True, _text("The event type.")),
    (
        "x-hook-sequence",
        True,
        _text("Later events of one resource have greater ones.", pattern="^[0-9]+$"),
    ),
    ("x-hook-format", True, _text("The form of the body.", enum=list(formats.NAMES))),
    (
        "x-hook-payload",
        False,
        _text("`thin`, if `data` tells where to look and no more.", enum=[formats.THIN]),
    ),
    ("x-hook-signature", False, _text("Hex of the HMAC-SHA256 of the body; not with `v1a`.")),
    ("x-hook-test", False, _text("`ping`, if nothing happened and this is a test.")),
)

_SEQUENCE = {
    "type": "integer",
    "description": "Later events of one resource have greater ones.",
    "minimum": 0,
}
_MOMENT = _text("When it happened.", format="date-time")
_EVENT_ID = _text("The event's id.", **_ID)
_MARK = _text(
    "There, and `thin`, if `data` tells where to look and no more: because that was asked for, or "
    "because the hook would be too long.",
    enum=[formats.THIN],
)


def _object(properties: Part, *, optional: tuple[str, ...] = ()) -> Part:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


# What is around `data`; the bodies of the format `bare` have nothing there.
_ENVELOPES: Part = {
    formats.STANDARD: _object(
        {
            "id": _EVENT_ID,
            "type": _text("The event type."),
            "timestamp": _MOMENT,
            "sequence": _SEQUENCE,
            "payload": _MARK,
            "data": {},
        },
        optional=("payload",),
    ),
    formats.RESTHOOKS: _object(
        {
            "hook": _object(
                {
                    "id": _text("The subscription's id."),
                    "event": _text("The event type."),
                    "target": _text("The URL that is called."),
                    "event_id": _EVENT_ID,
                    "timestamp": _MOMENT,
                    "sequence": _SEQUENCE,
                    "payload": _MARK,
                },
                optional=("payload",),
            ),
            "data": {},
        }
    ),
    formats.CLOUDEVENTS: _object(
        {
            "specversion": _text("Of CloudEvents.", enum=["1.0"]),
            "id": _EVENT_ID,
            "source": _text("Who tells.", format="uri-reference"),
            "type": _text("The event type."),
            "time": _MOMENT,
            "datacontenttype": _text("Of `data`.", enum=["application/json"]),
            "sequence": _text(
                "Later events of one resource have greater ones.",
                pattern=f"^[0-9]{{{formats.SEQUENCE_DIGITS}}}$",
            ),
            "payload": _MARK,
            "subject": _text("What it happened to."),
            "data": {},
        },
        optional=("payload", "subject"),
    ),
}
_FORMER = {"type": "object", "description": "The former values of what changed."}
_PREVIOUS: Part = {
    formats.STANDARD: _FORMER,
    formats.RESTHOOKS: _FORMER,
    formats.CLOUDEVENTS: _text("The former values of what changed: a JSON object, as a text."),
}


_OWN = (
    EventType(intents.PING, AboutSubscription(), "A test: nothing has happened."),
    EventType(
        intents.HANDSHAKE, AboutSubscription(), "Asks whether the receiver wants to be called."
    ),
    EventType(EXPIRED, AboutSubscription(), "The subscription has expired: this is the last hook."),
)
"""What is told of subscriptions themselves."""


def install(
    spec: APISpec, types: EventTypes, *, format: str = formats.STANDARD, source: str = "/"
) -> None:
    """Have a document tell of the hooks of all event types that are not restricted.

    As `webhooks` in OpenAPI 3.1 and later, as `x-webhooks` in 3.0, and not at all in 2. What the
    document itself says of a webhook of the same name is left as it is.

    :param format: of subscriptions that ask for none; it is shown first.
    :param source: of CloudEvents, for the examples.
    """
    if spec.openapi_version.major >= 3:
        made = _Webhooks(spec, format, source)
        for event_type in _OWN:
            made.add(event_type)
        types.listen(made.add)


class _Webhooks:
    """Those of one document."""

    def __init__(self, spec: APISpec, format: str, source: str) -> None:
        self._formats = sorted(formats.NAMES, key=lambda name: name != format)
        self._source = source
        self._components = Components(spec)
        self._spec = spec
        self._section = "x-webhooks" if spec.openapi_version.minor == 0 else "webhooks"
        # A dictionary of our own: the options may be those of several documents.
        self._shown: Part = dict(spec.options.get(self._section) or {})
        self._theirs = frozenset(self._shown)
        self._later: dict[str, EventType] = {}

    def add(self, event_type: EventType) -> None:
        """Show an event type."""
        if event_type.restricted or event_type.name in self._theirs:
            return
        self._spec.options[self._section] = self._shown
        # A schema may refer to another one that is defined later: there is a next time for it.
        for waiting in [*self._later.values(), event_type]:
            self._shown[waiting.name] = {"post": self._operation(waiting)}

    def _operation(self, event_type: EventType) -> Part:
        self._later.pop(event_type.name, None)
        try:
            schema = json_schema(event_type.schema)
        except Exception as error:
            log.warning("what %s tells cannot be described yet: %r", event_type.name, error)
            self._later[event_type.name] = event_type
            schema = json_schema(None)
        made: Part = {
            "operationId": f"resthooks_hook_{event_type.name}",
            "summary": event_type.name,
            "description": _description(event_type),
            # Whatever secures the document's own operations, receivers ask for nothing of it.
            "security": [],
            "parameters": [self._header(*header) for header in _HEADERS],
            "requestBody": {"required": True, "content": self._content(event_type, schema)},
            "responses": _RESPONSES,
        }
        if event_type.deprecated:
            made["deprecated"] = True
        # Without parts that two operations share: YAML would refer from one to the other.
        return copy.deepcopy(made)

    def _header(self, name: str, required: bool, schema: Part) -> Part:
        component = PREFIX + name
        schema = dict(schema)
        self._spec.components.parameters.setdefault(
            component,
            {
                "name": name,
                "in": "header",
                "required": required,
                "description": schema.pop("description"),
                "schema": schema,
            },
        )
        return {"$ref": f"#/components/parameters/{component}"}

    def _content(self, event_type: EventType, schema: Part) -> Part:
        data = self._data(event_type, schema)
        example = made_up(
            event_type, schema, _AT, resource=None, update=event_type.name.endswith(UPDATE)
        )
        bodies: dict[str, list[Part]] = {}
        shown: dict[str, Part] = {}
        for name in self._formats:
            type_ = formats.content_type(name)
            bodies.setdefault(type_, []).append(self._body(name, event_type, data))
            recipient = formats.Recipient(
                subscription_id=examples.SUBSCRIPTION["id"],
                target_url=examples.SUBSCRIPTION["target_url"],
                format=name,
                payload=event_type.payload,
            )
            body = json.loads(formats.body(example, recipient, source=self._source))
            shown.setdefault(type_, {})[name] = {"summary": f"In the format {name}", "value": body}
        return {
            type_: {
                "schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas},
                "examples": shown[type_],
            }
            for type_, schemas in bodies.items()
        }

    def _data(self, event_type: EventType, schema: Part) -> Part:
        thin = self._components.add(DATA + "thin", dict(THIN_SCHEMA))
        if event_type.payload == THIN:
            return thin
        if event_type.schema is None:
            return {"type": "object"}
        name = type(event_type.schema).__name__.removesuffix("Schema")
        return {"anyOf": [self._components.add(DATA + name, schema), thin]}

    def _body(self, format: str, event_type: EventType, data: Part) -> Part:
        said = {"title": format, "description": f"In the format `{format}`."}
        if format == formats.BARE:
            return self._components.schema({**said, **data})
        named = {"type": "string", "enum": [event_type.name]}
        properties: Part = {"type": named, "data": data}
        if format == formats.RESTHOOKS:
            properties = {"hook": {"type": "object", "properties": {"event": named}}, "data": data}
        if event_type.name.endswith(UPDATE) and event_type.payload != THIN:
            properties["previous"] = _PREVIOUS[format]
        around = self._components.add(f"hook.{format}", _ENVELOPES[format])
        made = {**said, "allOf": [around, {"type": "object", "properties": properties}]}
        return self._components.schema(made)


def _description(event_type: EventType) -> str:
    said = [event_type.description] if event_type.description else []
    said.append(f"Version {event_type.version} of its data.")
    if event_type.payload == THIN:
        said.append("The data tell where to look, whatever a subscription asks for.")
    said.append(
        "Sent to the subscriptions that ask for it, in the form that they ask for by `format` and "
        "`payload`."
    )
    return "\n\n".join(said)
