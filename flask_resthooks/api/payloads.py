"""What an event's `data` looks like: JSON Schema, from the marshmallow schema that makes it."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import re
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import marshmallow as ma
from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter

from .. import formats
from ..event_types import THIN, EventType
from ..samples import example_of

DIALECT = "https://json-schema.org/draft/2020-12/schema"

THIN_SCHEMA: Mapping[str, Any] = {
    "$schema": DIALECT,
    "type": "object",
    "properties": {
        "resource": {
            "type": ["string", "null"],
            "description": "What it happened to.",
            "examples": ["contact:17"],
        },
        "url": {
            "type": ["string", "null"],
            "description": "Where that can be fetched.",
            "examples": ["https://www.example.com/contacts/17"],
        },
    },
    "required": ["resource", "url"],
}
"""Of the `data` of a thin hook."""

# What is said of a value, and stays beside the alternatives that it has.
_ANNOTATIONS = (
    *("title", "description", "default", "examples", "example", "deprecated", "readOnly"),
)
# With one of these, another type in `type` would not do.
_NARROW = ("enum", "const", "not", "$ref", "anyOf", "oneOf", "allOf")
# Where in a schema other schemas are: one, several, several by name.
_ONE = ("items", "additionalProperties", "not", "propertyNames", "contains")
_SEVERAL = ("anyOf", "oneOf", "allOf", "prefixItems")
_NAMED = ("properties", "patternProperties", "$defs")
# What may be None, of all the words of JSON Schema.
_VALUES = ("default", "const", "example")

# What fields dump, to see how they do it.
_A_MOMENT = dt.datetime(2026, 1, 15, 9, 30, tzinfo=dt.timezone.utc)
_TYPICAL: Mapping[type, Any] = {
    ma.fields.Date: _A_MOMENT.date(),
    ma.fields.DateTime: _A_MOMENT,
    ma.fields.NaiveDateTime: _A_MOMENT.replace(tzinfo=None),
    ma.fields.Time: _A_MOMENT.time(),
    ma.fields.TimeDelta: dt.timedelta(minutes=15),
}

# How these formats look; apispec says them of fields that show something else, too.
_FORMATS: Mapping[str, re.Pattern[str]] = {
    "date": re.compile(r"\d{4}-\d\d-\d\d"),
    "date-time": re.compile(r"\d{4}-\d\d-\d\dT.*(Z|[+-]\d\d:\d\d)"),
}

Part = dict[str, Any]


def data_schema(event_type: EventType) -> Part:
    """The JSON Schema (2020-12) of the `data` of an event type's events."""
    return dict(THIN_SCHEMA) if event_type.payload == THIN else json_schema(event_type.schema)


def json_schema(schema: ma.Schema | None) -> Part:
    """The JSON Schema (2020-12) of what a schema dumps; of any object if there is no schema."""
    if schema is None:
        return {"$schema": DIALECT, "type": "object"}
    # A document of its own: its components are this schema's definitions.
    plugin = _Plugin()
    document = APISpec("", "", "3.1.0", plugins=[plugin])
    assert plugin.converter is not None
    with warnings.catch_warnings():
        # Two schemas of one name get names of their own, which apispec finds worth a warning.
        warnings.simplefilter("ignore", UserWarning)
        found: Part = plugin.converter.schema2jsonschema(schema)  # type: ignore[no-untyped-call]
    found = {"$schema": DIALECT, **found}
    definitions = document.to_dict().get("components", {}).get("schemas", {})
    if definitions:
        found["$defs"] = definitions
    return _mended(found)


class _Converter(OpenAPIConverter):
    """apispec's, which tells what is loaded, made to tell what is dumped and becomes JSON."""

    def schema2jsonschema(self, schema: Any) -> Any:
        made: Part = super().schema2jsonschema(schema)  # type: ignore[no-untyped-call]
        # It is what loading thinks of unknown fields. In what is dumped, more may come one day.
        made.pop("additionalProperties", None)
        return made

    def fields2jsonschema(self, fields: Any, *, partial: Any = None) -> Any:
        dumped = {name: field for name, field in fields.items() if not field.load_only}
        made: Part = super().fields2jsonschema(dumped, partial=partial)  # type: ignore[no-untyped-call]
        # What is None is dumped as null, whatever the field says of loading.
        made["properties"] = {name: _nullable(it) for name, it in made["properties"].items()}
        return made

    def field2property(self, field: Any) -> Part:
        made: Part = super().field2property(field)
        if isinstance(field, ma.fields.List) and "enum" in made:
            # `ContainsOnly` speaks of the items.
            made["items"] = {**made.get("items", {}), "enum": made.pop("enum")}
        shown = _typical(field, made)
        if shown is not None:
            made = _as_shown(made, shown, field.metadata)
        return made


class _Plugin(MarshmallowPlugin):
    Converter = _Converter


def _typical(field: Any, schema: Part) -> Any:
    """How a field shows a value, where that is for the field to decide; None: it is not."""
    value: Any = None
    if isinstance(field, ma.fields.Decimal):
        value = decimal.Decimal(str(example_of(_bounds(schema))))
    elif getattr(field, "as_string", False):
        value = example_of(_bounds(schema))
    else:
        value = next((_TYPICAL[base] for base in type(field).__mro__ if base in _TYPICAL), None)
    if value is None or "enum" in schema:
        return None
    try:
        return plain(field._serialize(value, "", None))
    except Exception:
        return None  # a field of the app's own, that dumps something else


def _as_shown(schema: Part, shown: Any, metadata: Mapping[str, Any]) -> Part:
    """The schema of a field that shows a value like that, which apispec does not look at."""
    made = {word: it for word, it in schema.items() if word not in ("min", "example")}
    made |= {word: metadata[word] for word in ("example", "examples") if word in metadata}
    if not {"example", "examples"} & made.keys():
        made["examples"] = [shown]
    if isinstance(shown, str) and "type" not in metadata:
        made = {word: it for word, it in made.items() if word not in ("minimum", "maximum")}
        made["type"] = ["string", "null"] if "null" in (made.get("type") or ()) else "string"
    looks = _FORMATS.get(made.get("format", ""))
    if "format" not in metadata and not (looks and looks.fullmatch(str(shown))):
        made.pop("format", None)
    return made


def _bounds(schema: Part) -> Part:
    """A schema of numbers, for a field that shows them as texts."""
    found: Part = {"type": "integer" if "integer" in schema.get("type", ()) else "number"}
    for word in ("minimum", "maximum"):
        with suppress(TypeError, ValueError):
            found[word] = float(schema.get(word, ""))
    return found


def _nullable(schema: Part) -> Part:
    types = schema.get("type")
    types = [types] if isinstance(types, str) else types
    if isinstance(types, list) and not any(word in schema for word in _NARROW):
        return schema if "null" in types else {**schema, "type": [*types, "null"]}
    allowed = {
        "enum": None in schema.get("enum", ()) and (types is None or "null" in types),
        "anyOf": {"type": "null"} in schema.get("anyOf", ()),
    }
    narrow = [word for word in _NARROW if word in schema]
    if not narrow or all(allowed.get(word, False) for word in narrow):
        return schema
    said = {word: value for word, value in schema.items() if word in _ANNOTATIONS}
    rest = {word: value for word, value in schema.items() if word not in _ANNOTATIONS}
    return {**said, "anyOf": [rest, {"type": "null"}]}


def mapped(schema: Part, change: Callable[[Part], Part]) -> Part:
    """A schema with `change` made to each schema that is directly in it."""

    def changed(part: Any) -> Any:
        return change(part) if isinstance(part, dict) else part

    made = dict(schema)
    for word, value in schema.items():
        if word in _ONE:
            made[word] = changed(value)
        elif word in _SEVERAL and isinstance(value, list):
            made[word] = [changed(part) for part in value]
        elif word in _NAMED and isinstance(value, dict):
            made[word] = {name: changed(part) for name, part in value.items()}
    return made


def _mended(schema: Part) -> Part:
    """What the document of an API may say becomes what a JSON Schema may say, in JSON."""
    made = mapped(schema, _mended)
    if isinstance(made.get("$ref"), str):
        made["$ref"] = made["$ref"].replace("#/components/schemas/", "#/$defs/")
    if "example" in made:
        made.setdefault("examples", [made["example"]])
    if isinstance(made.get("examples"), dict):
        made["examples"] = list(made["examples"].values())
    if not isinstance(made.get("required", []), list):
        del made["required"]
    for word in ("example", "nullable", "xml", "externalDocs", "writeOnly"):
        made.pop(word, None)
    kept = {}
    for word, value in made.items():
        if word in (*_ONE, *_SEVERAL, *_NAMED):
            kept[word] = value
        elif value is not None or word in _VALUES:
            with suppress(TypeError, ValueError, RecursionError):
                kept[word] = plain(value)
    return kept


def plain(value: Any) -> Any:
    """A value as an event's `data` would have it.

    :raises TypeError: and ValueError, for what has no place in JSON.
    """
    return json.loads(formats.to_json(value))


def shows(schema: Part, value: Any) -> bool:
    """Whether a schema of `json_schema` shows all that a value has."""
    return _shows(schema, schema.get("$defs", {}), value)


def _shows(schema: Part, definitions: Part, value: Any) -> bool:
    if isinstance(schema.get("$ref"), str):
        schema = definitions.get(schema["$ref"].removeprefix("#/$defs/"), {})
    if isinstance(schema.get("anyOf"), list):
        return any(_shows(part, definitions, value) for part in schema["anyOf"])
    if isinstance(value, dict | list):
        types = schema.get("type") or ("object", "array")
        if ("object" if isinstance(value, dict) else "array") not in types:
            return False
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        return all(_shows(schema["items"], definitions, item) for item in value)
    if isinstance(value, dict) and isinstance(schema.get("properties"), dict):
        properties = schema["properties"]
        return all(
            name in properties and _shows(properties[name], definitions, inner)
            for name, inner in value.items()
        )
    return True
