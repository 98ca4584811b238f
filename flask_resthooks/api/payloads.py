"""What an event's `data` looks like: JSON Schema, from the marshmallow schema that makes it."""

from __future__ import annotations

import warnings
from typing import Any

import marshmallow as ma
from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema(schema: ma.Schema | None) -> dict[str, Any]:
    """The JSON Schema (2020-12) of what a schema dumps; of any object if there is no schema."""
    if schema is None:
        return {"$schema": DIALECT, "type": "object"}
    # A document of its own: its components are this schema's definitions.
    plugin = MarshmallowPlugin()
    document = APISpec("", "", "3.1.0", plugins=[plugin])
    assert plugin.converter is not None
    with warnings.catch_warnings():
        # Two schemas of one name get names of their own, which apispec finds worth a warning.
        warnings.simplefilter("ignore", UserWarning)
        fields = plugin.converter.schema2jsonschema(schema)  # type: ignore[no-untyped-call]
    found: dict[str, Any] = {"$schema": DIALECT, **fields}
    definitions = document.to_dict().get("components", {}).get("schemas", {})
    if definitions:
        found["$defs"] = definitions
    mended: dict[str, Any] = _mended(found)
    return mended


def _mended(part: Any) -> Any:
    """References into an OpenAPI document become references into the schema itself; and what is
    None is dumped as null, whatever the field says of loading."""
    if isinstance(part, list):
        return [_mended(inner) for inner in part]
    if not isinstance(part, dict):
        return part
    made = {name: _mended(inner) for name, inner in part.items()}
    if isinstance(made.get("$ref"), str):
        made["$ref"] = made["$ref"].replace("#/components/schemas/", "#/$defs/")
    if made.get("type") == "object" and isinstance(made.get("properties"), dict):
        made["properties"] = {name: _nullable(inner) for name, inner in made["properties"].items()}
    return made


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    if not schema:
        return schema
    return {"anyOf": [schema, {"type": "null"}]}
