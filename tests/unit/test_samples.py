"""Examples that are made from a JSON Schema."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import re
from typing import Any

import jsonschema_rs
import marshmallow as ma
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marshmallow import fields, validate

from flask_resthooks import regexes, samples
from flask_resthooks.api.payloads import json_schema
from flask_resthooks.samples import example_of

WORDS = st.text("abcdefgh", min_size=1, max_size=8)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


def check(schema: dict[str, Any]) -> Any:
    """Its example, which is valid."""
    example = example_of(schema)
    jsonschema_rs.Draft202012Validator(schema, validate_formats=True).validate(example)
    assert example == example_of(schema)
    return example


# What a marshmallow schema may be.


def ranges(low: int = -1000, high: int = 1000) -> st.SearchStrategy[Any]:
    return st.lists(st.integers(low, high), min_size=2, max_size=2, unique=True).map(
        lambda pair: validate.Range(*sorted(pair))
    )


def lengths(high: int = 40) -> st.SearchStrategy[Any]:
    pairs = st.tuples(st.integers(0, high), st.integers(0, high))
    return pairs.map(lambda pair: validate.Length(*sorted(pair)))


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "allow_none": st.booleans(),
        "required": st.booleans(),
        "dump_only": st.just(True),
    },
).map(lambda options: options if not options.get("dump_only") else {**options, "required": False})

PATTERNS = st.sampled_from(
    [r"^[A-Z]{2}\d{6}$", r"^\+?[0-9]{7,15}$", r"^(cus|acc)_[a-z0-9]{8}$", r"\d+-\w*", r"^[^\x00]*$"]
)


@st.composite
def one_field(draw: st.DrawFn) -> fields.Field[Any]:
    options = draw(OPTIONS)
    kind: Any = draw(
        st.sampled_from(
            [
                fields.String,
                fields.Integer,
                fields.Float,
                fields.Decimal,
                fields.Boolean,
                fields.UUID,
                fields.DateTime,
                fields.Date,
                fields.Time,
                fields.TimeDelta,
                fields.Email,
                fields.URL,
                fields.IPv4,
                fields.IPv6,
                fields.Raw,
                fields.Dict,
                fields.Enum,
            ]
        )
    )
    if kind in (fields.Integer, fields.Float, fields.Decimal):
        if draw(st.booleans()):
            options["validate"] = draw(ranges())
        options["as_string"] = draw(st.booleans())
    elif kind is fields.String:
        rules = {
            "length": lengths().map(lambda rule: {"validate": rule}),
            "one": st.lists(WORDS, min_size=1).map(lambda some: {"validate": validate.OneOf(some)}),
            "pattern": PATTERNS.map(lambda rule: {"validate": validate.Regexp(rule)}),
            "none": st.just({}),
        }
        options |= draw(rules[draw(st.sampled_from(sorted(rules)))])
    elif kind is fields.DateTime:
        options["format"] = draw(st.sampled_from(["iso", "rfc", "timestamp", "%d.%m.%Y %H:%M"]))
    elif kind is fields.Date:
        options["format"] = draw(st.sampled_from(["iso", "%d/%m/%Y"]))
    elif kind is fields.Dict and draw(st.booleans()):
        options["values"] = fields.Integer()
    elif kind is fields.Enum:
        return fields.Enum(Colour, by_value=draw(st.booleans()), **options)
    return kind(**options)


def schemas(inner: Any) -> st.SearchStrategy[type[ma.Schema]]:
    def nested(schema: type[ma.Schema]) -> st.SearchStrategy[fields.Field[Any]]:
        return st.sampled_from(
            [
                fields.Nested(schema),
                fields.Nested(schema, allow_none=True),
                fields.Nested(schema, many=True),
                fields.List(fields.Nested(schema), validate=validate.Length(min=2)),
            ]
        )

    lists = one_field().map(lambda field: fields.List(field, validate=validate.Length(max=3)))
    several = one_field() | lists
    if inner is not None:
        several |= inner.flatmap(nested)
    dictionaries = st.dictionaries(WORDS, several, max_size=6)
    return dictionaries.map(lambda members: type("SomeSchema", (ma.Schema,), members))


SCHEMAS = schemas(schemas(schemas(None)))


@given(SCHEMAS)
@settings(max_examples=150)
def test_an_example_of_what_a_schema_dumps_is_valid_and_shows_all_that_it_shows(
    schema: type[ma.Schema],
) -> None:
    made = json_schema(schema())
    jsonschema_rs.meta.validate(made)
    example = check(made)
    assert example.keys() == schema().dump_fields.keys()


# Plain JSON Schema.

JSON_NUMBERS = st.integers(-(10**6), 10**6) | st.floats(-1e6, 1e6).map(lambda x: round(x, 3))
BOUNDS = (
    st.sampled_from(["minimum", "exclusiveMinimum"]),
    st.sampled_from(["maximum", "exclusiveMaximum"]),
)


@given(JSON_NUMBERS, JSON_NUMBERS, *BOUNDS, st.booleans(), st.booleans())
def test_a_number_is_within_its_bounds(
    one: float, other: float, above: str, below: str, from_below: bool, from_above: bool
) -> None:
    low, high = sorted((one, other))
    schema: dict[str, Any] = {"type": "number"}
    if from_below:
        schema[above] = low
    if from_above:
        schema[below] = high + 0.5
    check(schema)


@given(JSON_NUMBERS, st.integers(0, 50), *BOUNDS, st.sampled_from([None, 1, 2, 7, 0.5]))
def test_a_whole_number_is_one_within_its_bounds(
    low: float, room: int, above: str, below: str, step: float | None
) -> None:
    schema: dict[str, Any] = {"type": "integer", above: low, below: low + 16 + room}
    if step is not None:
        schema["multipleOf"] = step
    assert isinstance(check(schema), int)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "maximum": -3},
        {"type": "integer", "exclusiveMaximum": 0},
        {"type": "integer", "minimum": 5},
        {"type": "integer", "minimum": 5, "exclusiveMinimum": 5},
        {"type": "integer", "maximum": 5, "exclusiveMaximum": 5},
        {"type": "integer", "minimum": -1.5, "maximum": -0.5},
        {"type": "integer", "multipleOf": 10, "minimum": 11},
        {"type": "number", "multipleOf": 0.25, "minimum": 100},
        {"type": "number", "maximum": -3},
        {"type": "number", "minimum": 2, "maximum": 2},
        {"type": "number", "minimum": 1e300},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1e-9},
    ],
)
def test_a_number_is_found_where_there_is_little_room(schema: dict[str, Any]) -> None:
    check(schema)


@given(st.sampled_from([None, *sorted(samples.FORMATS)]), st.integers(0, 30), st.integers(0, 30))
def test_a_text_has_its_length_if_its_format_leaves_room(
    format_: str | None, one: int, other: int
) -> None:
    low, high = sorted((one, other))
    schema: dict[str, Any] = {"type": "string", "minLength": low, "maxLength": high}
    if format_ is None:
        check(schema)
    else:
        example = example_of({**schema, "format": format_})
        jsonschema_rs.Draft202012Validator(
            {"type": "string", "format": format_}, validate_formats=True
        ).validate(example)


@pytest.mark.parametrize("format_", ["email", "uri", "url", "iri", "json-pointer", "idn-email"])
@pytest.mark.parametrize("length", [6, 12, 30, 60])
def test_addresses_are_as_long_or_as_short_as_they_must(format_: str, length: int) -> None:
    check({"type": "string", "format": format_, "minLength": length})
    if length > 12:
        check({"type": "string", "format": format_, "maxLength": length})


@pytest.mark.parametrize("format_", sorted(samples.FORMATS))
def test_every_text_of_the_formats_has_that_format(format_: str) -> None:
    validator = jsonschema_rs.Draft202012Validator({"format": format_}, validate_formats=True)
    for text in samples.FORMATS[format_]:
        validator.validate(text)


@pytest.mark.parametrize(
    ("schema", "example"),
    [
        ({"type": "string", "example": "a", "examples": ["b"]}, "b"),
        ({"type": "string", "example": "a", "default": "d"}, "a"),
        ({"type": "string", "default": "d"}, "d"),
        ({"type": "string", "default": ""}, "text"),
        ({"type": "boolean", "default": False}, False),
        ({"type": "integer", "example": None}, None),
        ({"const": "c"}, "c"),
        ({"enum": [None, "e", "f"]}, "e"),
        ({"enum": [None]}, None),
        ({"type": ["null", "integer"]}, 1),
        ({"type": "null"}, None),
        ({"anyOf": [{"type": "null"}, {"type": "integer"}]}, 1),
        ({"anyOf": [{"type": "null"}]}, None),
        ({"oneOf": [{"type": "string"}, {"type": "integer"}]}, "text"),
        ({"examples": ["x"], "anyOf": [{"type": "integer"}, {"type": "null"}]}, "x"),
        ({"format": "date"}, "2026-01-15"),
        ({"minimum": 3}, 4),
        ({"properties": {"a": {"type": "integer"}}}, {"a": 1}),
        ({"items": {"type": "integer"}}, [1]),
        ({}, "text"),
        (True, "text"),
        ({"type": "nonsense"}, "text"),
        ({"type": "object"}, {}),
        ({"type": "object", "additionalProperties": {}}, {}),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, {"key": 1}),
        ({"type": "object", "minProperties": 2}, {"key": "text", "key2": "text"}),
        (
            {"type": "object", "required": ["a"], "additionalProperties": {"type": "integer"}},
            {"a": 1},
        ),
        ({"type": "array", "maxItems": 0, "items": {"type": "integer"}}, []),
        ({"type": "array", "prefixItems": [{"type": "integer"}, {"const": "c"}]}, [1, "c"]),
        (
            {"type": "object", "properties": {"a": {"writeOnly": True}, "b": {"type": "null"}}},
            {"b": None},
        ),
    ],
)
def test_an_example_is_what_the_schema_gives_or_the_plainest(schema: Any, example: Any) -> None:
    assert example_of(schema) == example


@pytest.mark.parametrize(
    "items",
    [
        {"type": "string"},
        {"type": "string", "minLength": 6},
        {"type": "integer", "minimum": 7, "maximum": 9},
        {"type": "integer", "maximum": 0},
        {"type": "number"},
        {"type": "number", "minimum": 0, "maximum": 1},
        {"enum": ["a", "b", "c"]},
        {},
    ],
)
def test_items_that_must_differ_do(items: dict[str, Any]) -> None:
    check({"type": "array", "minItems": 3, "uniqueItems": True, "items": items})


def test_parts_of_all_of_are_put_together() -> None:
    schema = {
        "$defs": {
            "Named": {
                "type": "object",
                "properties": {"name": {"type": "string"}},
                "required": ["name"],
            }
        },
        "allOf": [
            {"$ref": "#/$defs/Named"},
            {"properties": {"age": {"type": "integer", "minimum": 18}}, "required": ["age"]},
        ],
    }
    assert check(schema) == {"name": "text", "age": 18}


def test_what_refers_to_itself_comes_to_an_end() -> None:
    nullable = {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}
    schema = {
        "$defs": {
            "Node": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "next": nullable,
                    "all": {"type": "array", "items": {"$ref": "#/$defs/Node"}},
                    "maybe": {"$ref": "#/$defs/Node"},
                },
                "required": ["name", "next", "all"],
            }
        },
        "$ref": "#/$defs/Node",
    }
    assert check(schema) == {"name": "text", "next": None, "all": []}


def test_what_has_no_finite_example_has_none() -> None:
    endless = {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}
    assert example_of(endless) is None
    assert example_of({"$ref": "#/$defs/nowhere"}) is None
    assert example_of({"$ref": "https://example.com/elsewhere"}) is None
    assert example_of({"allOf": [{"$ref": "#"}]}) is None


def test_many_schemas_that_all_refer_to_each_other_make_an_example_of_bounded_size() -> None:
    names = [f"S{number}" for number in range(12)]
    schema = {
        "$defs": {
            name: {
                "type": "object",
                "properties": {
                    other: {"type": "array", "items": {"$ref": f"#/$defs/{other}"}}
                    for other in names
                },
            }
            for name in names
        },
        "$ref": "#/$defs/S0",
    }
    assert len(str(check(schema))) < 200_000


def test_deep_schemas_are_followed_to_a_depth() -> None:
    definitions: dict[str, Any] = {"S0": {"type": "string"}}
    for number in range(1, 30):
        definitions[f"S{number}"] = {
            "type": "object",
            "properties": {"in": {"$ref": f"#/$defs/S{number - 1}"}},
        }
    assert str(check({"$defs": definitions, "$ref": "#/$defs/S29"})).count("in") == 7


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        *("type", "properties", "items", "anyOf", "allOf", "enum", "required"),
                        *("examples", "minLength", "maxLength", "pattern", "format", "$ref"),
                        *("minimum", "maximum", "multipleOf", "minItems", "additionalProperties"),
                        *("minProperties", "uniqueItems", "prefixItems", "a", "$defs"),
                    ]
                ),
                inner,
                max_size=5,
            )
        ),
        max_leaves=20,
    ),
    st.sampled_from(["string", "object", "array", "integer", "number", None]),
)
def test_nonsense_is_borne(nonsense: Any, type_: str | None) -> None:
    schema = nonsense if isinstance(nonsense, dict) else {"a": nonsense}
    example_of({**schema, "type": type_} if type_ else schema)


# Examples of fields.


def test_the_example_that_a_field_gives_comes_through() -> None:
    class FirmSchema(ma.Schema):
        name = fields.String(metadata={"example": "Analytical Engines"})
        founded = fields.Date(metadata={"example": dt.date(1837, 12, 1)})

    class PersonSchema(ma.Schema):
        name = fields.String(metadata={"example": "Ada Lovelace"})
        fee = fields.Decimal(metadata={"example": decimal.Decimal("12.50")})
        languages = fields.List(fields.String(), metadata={"examples": [["en", "fr"]]})
        firm = fields.Nested(FirmSchema, allow_none=True)

    assert check(json_schema(PersonSchema())) == {
        "name": "Ada Lovelace",
        "fee": "12.50",
        "languages": ["en", "fr"],
        "firm": {"name": "Analytical Engines", "founded": "1837-12-01"},
    }


# Texts for expressions.


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"^[A-Z]{2}\d{6}$", "AA111111"),
        (r"^(?:cus|acc)_[a-z0-9]{8}$", "cus_aaaaaaaa"),
        (r"^(?P<year>\d{4})-(?P<month>0[1-9]|1[0-2])$", "1111-01"),
        (r"^#(?:[0-9a-fA-F]{3}){1,2}$", "#aaa"),
        (r"^(?!admin)\w+$", "a"),
        (r"^[^\W\d_]+\.$", "a."),
        (r"[[]\]", "[]"),
        (r"^a{,2}b\b$", "b"),
        (r"^a{x}$", "a{x}"),
        (r"^\x41\s\D\S$", "A aa"),
        (r"^é+[ü]$", "éü"),
        (r"(?i)^ABC$", "ABC"),
        (r"^(x{3}|y)?z$", "z"),
        (r"^$", ""),
    ],
)
def test_a_text_is_found_for_an_expression(pattern: str, text: str) -> None:
    assert regexes.matching(pattern) == text


@pytest.mark.parametrize(
    "pattern",
    ["(", "[", r"^(a|b)\1$", r"\p{L}", "(a{1000}){1000}b", "^a^b$", "^(?=b)a$", "a" * 1001],
)
def test_no_text_is_found_where_it_would_not_match(pattern: str) -> None:
    assert regexes.matching(pattern) is None


@given(
    st.sampled_from([r"^[a-z]+$", r"^\d*$", r"x", r"^(ab)+$", r"^.{3,}$"]),
    st.integers(0, 60),
    st.integers(0, 60),
)
def test_a_found_text_has_the_length_that_is_asked_for(pattern: str, one: int, other: int) -> None:
    low, high = sorted((one, other))
    found = regexes.matching(pattern, (), low, high)
    if found is None:
        assert high < 3 or (pattern == r"^(ab)+$" and low == high)
    else:
        assert low <= len(found) <= high
        assert re.search(pattern, found)


def test_a_candidate_that_matches_is_preferred() -> None:
    assert regexes.matching("^[a-z]+$", ["TEXT", "text"]) == "text"
    assert regexes.matching("^$", [""]) == ""


@given(st.text("ab1[](){}?*+|^$\\.-,:=!<>Pdw", max_size=12))
@settings(max_examples=300)
def test_any_expression_is_borne(pattern: str) -> None:
    found = regexes.matching(pattern)
    assert found is None or re.search(pattern, found)


def test_an_expression_that_will_mean_something_else_one_day_warns_nobody() -> None:
    assert regexes.matching("^[[a]+$") == "a"
