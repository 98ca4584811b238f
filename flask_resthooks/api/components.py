"""JSON Schemas as components of an OpenAPI document, in the words of its version.

The names of these components hold a dot. Those that are made of the host's classes do not, so the
two never meet.
"""

from __future__ import annotations

import json
import re
from typing import Any

from apispec import APISpec

from .payloads import Part, mapped

PREFIX = "RESTHooks."
DATA = "data."
"""How the names of what is in the `data` of events go on."""

REFERENCE = "#/components/schemas/"

_DEFINITION = "#/$defs/"

# The words of a Schema Object of OpenAPI 3.0 that mean the same in JSON Schema.
_WORDS_3_0 = frozenset(
    {
        *("title", "description", "type", "format", "enum", "default", "example", "deprecated"),
        *("multipleOf", "maximum", "minimum", "maxLength", "minLength", "pattern"),
        *("maxItems", "minItems", "uniqueItems", "maxProperties", "minProperties", "required"),
        *("allOf", "oneOf", "anyOf", "not", "items", "properties", "additionalProperties"),
        *("readOnly", "writeOnly", "nullable", "exclusiveMaximum", "exclusiveMinimum", "$ref"),
    }
)


class Components:
    """The schemas that we add to one document of OpenAPI 3."""

    def __init__(self, spec: APISpec) -> None:
        self._spec = spec
        self._names: dict[str, str] = {}
        self._is_3_0 = spec.openapi_version.minor == 0

    def schema(self, schema: Part) -> Part:
        """A schema as it may stand in the document."""
        return for_3_0(schema) if self._is_3_0 else schema

    def add(self, name: str, schema: Part) -> Part:
        """Add a schema with its definitions, and refer to it.

        The same schema of the same name is added once.

        :param name: without our prefix; another one is found if the document has it already.
        """
        definitions: Part = schema.get("$defs", {})
        root = {word: it for word, it in schema.items() if word not in ("$defs", "$schema")}
        return self._add(name, root, definitions)

    def _add(self, name: str, schema: Part, definitions: Part) -> Part:
        below = {other: definitions[other] for other in sorted(_reached(schema, definitions))}
        key = json.dumps([name, schema, below], sort_keys=True)
        if key not in self._names:
            schemas = self._spec.components.schemas
            made = self._names[key] = self._free(name)
            schemas[made] = {}  # the name is taken, whatever is found below

            def moved(part: Part) -> Part:
                target = str(part.get("$ref", "")).removeprefix(_DEFINITION)
                part = mapped(part, moved)
                if target in definitions:
                    part |= self._add(DATA + target, definitions[target], definitions)
                return part

            schemas[made] = self.schema(moved(schema))
        return {"$ref": REFERENCE + self._names[key]}

    def _free(self, name: str) -> str:
        given = self._spec.options.get("components", {}).get("schemas", {})
        taken = {*self._spec.components.schemas, *given}
        base = PREFIX + re.sub(r"[^A-Za-z0-9._-]", "_", name)
        made, number = base, 1
        while made in taken:
            number += 1
            made = f"{base}.{number}"
        return made


def _reached(schema: Part, definitions: Part) -> set[str]:
    """The names of the definitions that a schema needs."""
    found: set[str] = set()

    def look(part: Part) -> Part:
        name = str(part.get("$ref", "")).removeprefix(_DEFINITION)
        if name in definitions and name not in found:
            found.add(name)
            look(definitions[name])
        return mapped(part, look)

    look(schema)
    return found


def for_3_0(schema: Part) -> Part:
    """A JSON Schema (2020-12) in the words of OpenAPI 3.0; what these cannot say is left out.

    OpenAPI 3.0.3, "Schema Object" and "Reference Object".
    """
    made = mapped(schema, for_3_0)
    for word in ("items", "not"):
        if isinstance(made.get(word), bool):
            made[word] = {} if made[word] else {"not": {}}
    if made.get("examples"):
        made.setdefault("example", made["examples"][0])
    if "const" in made:
        made["enum"] = [made["const"]]
    for word in ("minimum", "maximum"):
        limit = made.pop(f"exclusive{word.capitalize()}", None)
        if limit is not None:
            made |= {word: limit, f"exclusive{word.capitalize()}": True}
    made = _with_types_3_0(made)
    made = {word: it for word, it in made.items() if word in _WORDS_3_0 or word.startswith("x-")}
    if made.get("type") == "array":
        made.setdefault("items", {})
    if "$ref" in made and len(made) > 1:
        # Whatever stands beside a reference is passed over.
        made = {"allOf": [{"$ref": made.pop("$ref")}, *made.pop("allOf", [])], **made}
    return made


def _with_types_3_0(schema: Part) -> Part:
    """The same with one type at most, which is not null: `nullable` counts beside a type alone."""
    types: Any = schema.pop("type", None)
    types = types if isinstance(types, list) else [types] if types else []
    nullable = {"nullable": True} if "null" in types else {}
    others = [one for one in types if one != "null"]
    if len(others) == 1:
        return {"type": others[0], **schema, **nullable}
    if others:
        several = {"anyOf": [{"type": one, **nullable} for one in others]}
        return {**schema, "allOf": [*schema.get("allOf", []), several]}
    return {**schema, "enum": [None], **nullable} if types else schema
