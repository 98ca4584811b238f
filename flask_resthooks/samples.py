"""Ground: an example value, made from a JSON Schema.

What the schema's author gives as an example is shown as it is given; what is left is made up, and
is valid: a text for a string, an address for an `email`, a number within its bounds. The same
schema makes the same value always.

It knows the part of JSON Schema (2020-12) that describes what an API answers: types, properties,
items, references, alternatives, bounds, formats and patterns. Of a reference that comes back to
itself the second round is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from fractions import Fraction
from typing import Any
from urllib.parse import unquote

from . import regexes

MAX_DEPTH = 8
"""How many references deep an example goes."""

MAX_REFERENCES = 500
"""How many references are followed for one example."""

MAX_ITEMS = 20
MAX_TEXT = 1000
"""Characters of a text that is lengthened because its schema asks for it."""

TEXT = "text"
USUAL = Fraction(3, 2)
"""A number, where any would do."""

# Each the most telling one first; the shorter ones are for those who have little room.
FORMATS: Mapping[str, tuple[str, ...]] = {
    "date": ("2026-01-15",),
    "date-time": ("2026-01-15T09:30:00Z",),
    "time": ("09:30:00Z",),
    "duration": ("PT15M",),
    "uuid": ("0b9e7f6a-2f0b-4c58-9d0a-6a3f1c5e8d27",),
    "email": ("ada@example.com", "a@b.co"),
    "idn-email": ("ada@example.com", "a@b.co"),
    "hostname": ("www.example.com", "a.co"),
    "idn-hostname": ("www.example.com", "a.co"),
    "uri": ("https://www.example.com/", "https://a.co", "urn:a:b"),
    "uri-reference": ("https://www.example.com/", "/a"),
    "iri": ("https://www.example.com/", "https://a.co", "urn:a:b"),
    "iri-reference": ("https://www.example.com/", "/a"),
    "url": ("https://www.example.com/", "https://a.co"),
    "ip": ("192.0.2.1",),
    "ipv4": ("192.0.2.1",),
    "ipv6": ("2001:db8::1", "::1"),
    "json-pointer": ("/a",),
    "relative-json-pointer": ("0/a",),
    "uri-template": ("https://www.example.com/{id}", "{id}"),
    "regex": (".*",),
    "byte": ("dGV4dA==",),
}
_BEFORE_THE_HOST = frozenset({"email", "idn-email"})
_AT_THE_END = frozenset({"uri", "uri-reference", "iri", "iri-reference", "url", "json-pointer"})

_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
# What tells the type of a schema that does not say it.
_TELLING = {
    "object": ("properties", "additionalProperties", "required", "minProperties", "propertyNames"),
    "array": ("items", "prefixItems", "minItems", "maxItems", "uniqueItems"),
    "string": ("format", "pattern", "minLength", "maxLength"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}

Schema = Mapping[str, Any]


def example_of(schema: Schema | bool) -> Any:
    """An example of what a JSON Schema allows.

    None if no value can be found, say of a schema that refers to nothing but itself.
    """
    try:
        return _Maker(schema if isinstance(schema, Mapping) else {}).example(schema, ())
    except _Endless:
        return None


class _Endless(Exception):
    """It would go on for ever, or refers to nothing."""


class _Maker:
    def __init__(self, root: Schema) -> None:
        self._root = root
        self._references_left = MAX_REFERENCES

    def example(self, schema: Schema | bool, path: tuple[str, ...], turn: int = 0) -> Any:
        """
        :param path: the references that are being followed.
        :param turn: of several different examples, which one.
        """
        if not isinstance(schema, Mapping):
            return TEXT
        given = list(_given(schema))
        if given:
            return given[turn % len(given)]
        if "$ref" in schema:
            return self._referred(schema, path, turn)
        for word in ("anyOf", "oneOf"):
            if _schemas(schema.get(word)):
                return self._alternative(schema, word, path, turn)
        if _schemas(schema.get("allOf")):
            return self._together(schema, path, turn)
        match _type_of(schema):
            case "object":
                return self._object(schema, path)
            case "array":
                return self._array(schema, path)
            case "string":
                return _text(schema, turn)
            case "integer":
                return _whole(schema, turn)
            case "number":
                return _number(schema, turn)
            case "boolean":
                return turn % 2 == 0
            case "null":
                return None
        return TEXT if not turn else f"{TEXT}-{turn}"

    def _referred(self, schema: Schema, path: tuple[str, ...], turn: int) -> Any:
        reference = str(schema["$ref"])
        path = self._followed(reference, path)
        return self.example(_merged(_without(schema, "$ref"), self._target(reference)), path, turn)

    def _followed(self, reference: str, path: tuple[str, ...]) -> tuple[str, ...]:
        if reference in path or len(path) == MAX_DEPTH or not self._references_left:
            raise _Endless
        self._references_left -= 1
        return (*path, reference)

    def _target(self, reference: str) -> Schema:
        target: Any = self._root
        if reference != "#" and not reference.startswith("#/"):
            raise _Endless
        for part in reference.split("/")[1:]:
            name = unquote(part).replace("~1", "/").replace("~0", "~")
            if not isinstance(target, Mapping) or name not in target:
                raise _Endless
            target = target[name]
        if not isinstance(target, Mapping):
            raise _Endless
        return target

    def _together(self, schema: Schema, path: tuple[str, ...], turn: int) -> Any:
        parts = [_without(schema, "allOf")]
        for part in _schemas(schema["allOf"]):
            # To be merged, it must be there.
            while "$ref" in part:
                reference = str(part["$ref"])
                path = self._followed(reference, path)
                part = _merged(_without(part, "$ref"), self._target(reference))
            parts.append(dict(part))
        return self.example(_merged(*parts), path, turn)

    def _alternative(self, schema: Schema, word: str, path: tuple[str, ...], turn: int) -> Any:
        rest = _without(schema, word)
        alternatives = _schemas(schema[word])
        for alternative in sorted(alternatives, key=lambda part: _type_of(part) == "null"):
            with suppress(_Endless):
                return self.example(_merged(rest, alternative), path, turn)
        raise _Endless

    def _object(self, schema: Schema, path: tuple[str, ...]) -> dict[str, Any]:
        properties = schema.get("properties")
        properties = properties if isinstance(properties, Mapping) else {}
        required = schema.get("required")
        required = [str(name) for name in required] if isinstance(required, list) else []
        made = {}
        for name, part in properties.items():
            if isinstance(part, Mapping) and part.get("writeOnly") is True:
                continue
            try:
                made[name] = self.example(part, path)
            except _Endless:
                if name in required:
                    raise
        others = schema.get("additionalProperties", True)
        fewest = _count(schema, "minProperties")
        if isinstance(others, Mapping) and others and not properties:
            fewest = max(fewest, 1)
        fewest = min(fewest, _count(schema, "maxProperties", MAX_ITEMS), MAX_ITEMS)
        more = [name for name in required if name not in properties]
        if others is not False:
            more += [f"key{number}" if number > 1 else "key" for number in range(1, fewest + 1)]
        for name in more:
            if name in required or len(made) < fewest:
                with suppress(_Endless):
                    made.setdefault(name, self.example(others, path))
        return made

    def _array(self, schema: Schema, path: tuple[str, ...]) -> list[Any]:
        items = schema.get("items", {})
        first = _schemas(schema.get("prefixItems"))
        fewest = _count(schema, "minItems")
        size = min(max(fewest, len(first), 1), _count(schema, "maxItems", MAX_ITEMS), MAX_ITEMS)
        unique = schema.get("uniqueItems") is True
        made: list[Any] = []
        try:
            for number in range(size):
                part = first[number] if number < len(first) else items
                if part is False:
                    break
                made.append(self.example(part, path, number if unique else 0))
        except _Endless:
            if len(made) < fewest:
                raise
        return made


def _given(schema: Schema) -> Iterator[Any]:
    """What the schema itself says that there can be; something better than null if it can."""
    examples = schema.get("examples")
    if isinstance(examples, list) and examples:
        yield from examples
    elif "example" in schema:
        yield schema["example"]
    elif "const" in schema:
        yield schema["const"]
    elif isinstance(schema.get("enum"), list) and schema["enum"]:
        yield from [value for value in schema["enum"] if value is not None] or [None]
    elif schema.get("default") not in (None, "", [], {}):
        yield schema["default"]


def _type_of(schema: Schema) -> str | None:
    type_ = schema.get("type")
    if isinstance(type_, list):
        type_ = next((one for one in type_ if one != "null"), "null")
    if type_ in _TYPES:
        return str(type_)
    return next((name for name, words in _TELLING.items() if any(w in schema for w in words)), None)


def _merged(*parts: Schema) -> dict[str, Any]:
    """One schema for all of them together; the first word counts where they disagree."""
    made: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            known = made.get(name)
            if name == "properties" and isinstance(known, Mapping) and isinstance(value, Mapping):
                made[name] = {**value, **known}
            elif (
                name in ("required", "allOf")
                and isinstance(known, list)
                and isinstance(value, list)
            ):
                made[name] = [*known, *value]
            else:
                made.setdefault(name, value)
    return made


def _without(schema: Schema, word: str) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name != word}


def _schemas(value: Any) -> list[Schema]:
    found = value if isinstance(value, list) else []
    return [part for part in found if isinstance(part, Mapping)]


def _count(schema: Schema, word: str, otherwise: int = 0) -> int:
    value = _fraction(schema.get(word))
    return otherwise if value is None or value < 0 else int(value)


# Texts.


def _text(schema: Schema, turn: int) -> str:
    shortest = min(_count(schema, "minLength"), MAX_TEXT)
    longest = max(_count(schema, "maxLength", MAX_TEXT), shortest)
    pattern = schema.get("pattern")
    candidates = list(_texts(str(schema.get("format", "")), shortest, longest, turn))
    if isinstance(pattern, str):
        matching = regexes.matching(pattern, candidates, shortest, longest)
        if matching is not None:
            return matching
    fitting = (text for text in candidates if shortest <= len(text) <= longest)
    return next(fitting, candidates[0])


def _texts(format_: str, shortest: int, longest: int, turn: int) -> Iterator[str]:
    known = FORMATS.get(format_)
    if known is None:
        text = TEXT if not turn else f"{TEXT}-{turn}"
        yield (text * (shortest // len(text) + 1))[:shortest] if len(text) < shortest else text
        yield text[len(text) - longest :] if 0 < longest < len(text) else text[:longest]
        return
    yield from known
    missing = shortest - len(known[0])
    if missing > 0 and format_ in _BEFORE_THE_HOST:
        yield "a" * missing + known[0]
    elif missing > 0 and format_ in _AT_THE_END:
        yield known[0] + "a" * missing


# Numbers.


def _whole(schema: Schema, turn: int) -> int:
    step = _fraction(schema.get("multipleOf"))
    # Of 0.5 every second multiple is a whole number.
    return int(_multiple(schema, Fraction(step.numerator if step else 1), turn))


def _number(schema: Schema, turn: int) -> float:
    step = _fraction(schema.get("multipleOf"))
    if step:
        return _plain(_multiple(schema, step, turn))
    low, high, _, _ = _bounds(schema)
    if low is not None and high is not None:
        # Between them, whether they belong to it or not.
        return _plain(low + (high - low) * (Fraction(1, 2) + Fraction(turn, 4 * MAX_ITEMS)))
    if high is not None:
        return _plain(min(USUAL, high - 1) - turn)
    return _plain((USUAL if low is None or low < USUAL else low + 1) + turn)


def _multiple(schema: Schema, step: Fraction, turn: int) -> Fraction:
    """A multiple of `step` that the bounds allow, and the more ordinary the better."""
    low, high, above, below = _bounds(schema)
    first = None if low is None else math.floor(low / step) + 1 if above else math.ceil(low / step)
    last = (
        None if high is None else math.ceil(high / step) - 1 if below else math.floor(high / step)
    )
    start = 1 if first is None else max(first, 1)
    if last is None:
        return step * (start + turn)
    start = min(start, last)
    if first is None or first > last:
        return step * (start - turn)
    return step * (first + (start - first + turn) % (last - first + 1))


def _bounds(schema: Schema) -> tuple[Fraction | None, Fraction | None, bool, bool]:
    """The lowest and the highest number, and whether these themselves are excluded."""
    low, above = _fraction(schema.get("minimum")), False
    high, below = _fraction(schema.get("maximum")), False
    over, under = (
        _fraction(schema.get("exclusiveMinimum")),
        _fraction(schema.get("exclusiveMaximum")),
    )
    if over is not None and (low is None or over >= low):
        low, above = over, True
    if under is not None and (high is None or under <= high):
        high, below = under, True
    return low, high, above, below


def _fraction(value: Any) -> Fraction | None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return None
    return Fraction(str(value))


def _plain(value: Fraction) -> float:
    return value.numerator if value.denominator == 1 else float(value)
