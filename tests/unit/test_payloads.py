"""JSON Schema of what events carry."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import json
from typing import Any

import jsonschema_rs
import marshmallow as ma
import pytest
from marshmallow import fields, validate

from flask_resthooks import formats
from flask_resthooks.api.payloads import THIN_SCHEMA, data_schema, json_schema, plain, shows
from flask_resthooks.event_types import EventType
from flask_resthooks.samples import example_of


class FirmSchema(ma.Schema):
    name = ma.fields.String()


class PersonSchema(ma.Schema):
    id = ma.fields.Integer(dump_only=True)
    name = ma.fields.String(data_key="fullName")
    email = ma.fields.Email(allow_none=True)
    account = ma.fields.Nested(FirmSchema)
    friends = ma.fields.List(ma.fields.Nested(lambda: PersonSchema(only=("id", "name"))))


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


def test_the_schema_describes_what_is_dumped_and_stands_on_its_own() -> None:
    schema = json_schema(PersonSchema())
    jsonschema_rs.meta.validate(schema)
    record = {"id": 1, "name": "Ada", "email": None, "account": {"name": "A"}, "friends": []}
    shown: dict[str, Any] = PersonSchema().dump(record)  # type: ignore[assignment]
    validator = jsonschema_rs.Draft202012Validator(schema)
    validator.validate({**shown, "friends": [{"id": 2, "fullName": "Bob"}]})
    assert "fullName" in schema["properties"]
    assert "#/components" not in str(schema)
    wrong: list[dict[str, Any]] = [
        {**shown, "id": "one"},
        {**shown, "account": {"name": 5}},
        {**shown, "friends": [{"id": "two"}]},
    ]
    assert [validator.is_valid(record) for record in wrong] == [False, False, False]


def test_without_a_schema_any_object_is_allowed() -> None:
    schema = json_schema(None)
    validator = jsonschema_rs.Draft202012Validator(schema)
    validator.validate({"anything": 1})
    assert not validator.is_valid([])


def test_what_is_none_is_shown_as_null_and_allowed() -> None:
    validator = jsonschema_rs.Draft202012Validator(json_schema(PersonSchema()))
    shown = PersonSchema().dump({"id": None, "name": None, "email": None, "account": None})
    assert shown == {"id": None, "fullName": None, "email": None, "account": None}
    validator.validate(shown)


def test_what_is_only_loaded_is_not_described() -> None:
    class KeySchema(ma.Schema):
        id = fields.Integer()
        private = fields.String(load_only=True, required=True)

    class LoginSchema(ma.Schema):
        name = fields.String(required=True)
        password = fields.String(load_only=True, required=True)
        keys = fields.List(fields.Nested(KeySchema))

    schema = json_schema(LoginSchema())
    assert schema["properties"].keys() == {"name", "keys"}
    assert schema["required"] == ["name"]
    assert "private" not in str(schema)
    assert "additionalProperties" not in str(schema)


class ManySchema(ma.Schema):
    """Of every field that shows a value in a way of its own."""

    id = fields.Integer(dump_only=True)
    price = fields.Decimal(places=2, validate=validate.Range(min=100))
    rate = fields.Decimal(as_string=True, allow_none=True)
    count = fields.Integer(as_string=True, validate=validate.Range(min=5, max=7))
    at = fields.DateTime()
    aware = fields.AwareDateTime(allow_none=True)
    naive = fields.NaiveDateTime()
    mail_time = fields.DateTime("rfc")
    seconds = fields.DateTime("timestamp")
    milliseconds = fields.DateTime("timestamp_ms")
    german = fields.DateTime("%d.%m.%Y")
    day = fields.Date()
    british = fields.Date(format="%d/%m/%Y")
    time = fields.Time()
    length = fields.TimeDelta()
    key = fields.UUID()
    colour = fields.Enum(Colour)
    value = fields.Enum(Colour, by_value=True, allow_none=True)
    choice = fields.String(validate=validate.OneOf(["a", "b"]), allow_none=True)
    only = fields.List(fields.String(), validate=validate.ContainsOnly(["x", "y"]))
    anything = fields.Raw()
    fixed = fields.Constant(5)
    pair = fields.Tuple((fields.Integer(), fields.String()))
    firm = fields.Pluck(FirmSchema, "name")
    firms = fields.Pluck(FirmSchema, "name", many=True)
    table = fields.Dict(values=fields.Integer())


NOW = dt.datetime(2024, 5, 6, 7, 8, 9, tzinfo=dt.timezone.utc)
RECORD: dict[str, Any] = {
    "id": 1,
    "price": decimal.Decimal("123.4"),
    "rate": decimal.Decimal("0.5"),
    "count": 6,
    "at": NOW,
    "aware": NOW,
    "naive": NOW.replace(tzinfo=None),
    "mail_time": NOW,
    "seconds": NOW,
    "milliseconds": NOW,
    "german": NOW,
    "day": NOW.date(),
    "british": NOW.date(),
    "time": NOW.time(),
    "length": dt.timedelta(hours=1),
    "key": "0b9e7f6a-2f0b-4c58-9d0a-6a3f1c5e8d27",
    "colour": Colour.RED,
    "value": Colour.BLUE,
    "choice": "a",
    "only": ["x", "x"],
    "anything": {"a": [1]},
    "pair": (1, "a"),
    "firm": {"name": "A"},
    "firms": [{"name": "A"}],
    "table": {"a": 1},
}


def test_every_field_is_described_as_it_is_shown() -> None:
    schema = json_schema(ManySchema())
    jsonschema_rs.meta.validate(schema)
    validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
    shown = json.loads(formats.to_json(ManySchema().dump(RECORD)))
    assert shown.keys() == RECORD.keys() | {"fixed"}
    validator.validate(shown)
    for name in RECORD:
        validator.validate({**shown, name: None})
    example = example_of(schema)
    validator.validate(example)
    assert {name: type(value) for name, value in example.items() if name != "anything"} == {
        **{name: type(value) for name, value in shown.items() if name != "anything"},
        "pair": str,  # marshmallow alone knows what is in it
    }
    assert shows(schema, shown)
    assert shows(schema, example)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("price", 123.4),
        ("count", 6),
        ("at", "yesterday"),
        ("seconds", "2024-05-06T07:08:09Z"),
        ("day", "06/05/2024"),
        ("colour", "red"),
        ("value", "BLUE"),
        ("choice", "c"),
        ("only", ["z"]),
        ("firm", {"name": "A"}),
        ("firms", "A"),
        ("table", {"a": "b"}),
    ],
)
def test_what_a_field_does_not_show_is_not_allowed(name: str, wrong: Any) -> None:
    validator = jsonschema_rs.Draft202012Validator(json_schema(ManySchema()), validate_formats=True)
    assert not validator.is_valid({name: wrong})


def test_a_schema_is_json_whatever_the_fields_say() -> None:
    class OddSchema(ma.Schema):
        odd = fields.String(
            metadata={
                "required": True,
                "format": None,
                "examples": {"one": {"a": decimal.Decimal("1.5")}, "two": 2},
                "x-thing": object(),
                "x-day": dt.date(2024, 5, 6),
                "nullable": True,
                "description": "Odd.",
            }
        )
        given = fields.Decimal(
            load_default=decimal.Decimal("2"), metadata={"example": decimal.Decimal("2.50")}
        )
        nan = fields.Float(load_default=float("nan"), allow_nan=True)
        # Names that are words of JSON Schema, too.
        required = fields.String()
        format = fields.String(metadata={"example": {"$ref": "#/components/schemas/a"}})

    schema = json_schema(OddSchema())
    jsonschema_rs.meta.validate(schema)
    assert json.loads(json.dumps(schema, allow_nan=False)) == schema
    assert schema["properties"] == {
        "odd": {
            "type": ["string", "null"],
            "examples": [{"a": "1.5"}, 2],
            "x-day": "2024-05-06",
            "description": "Odd.",
        },
        "given": {"type": ["string", "null"], "default": "2", "examples": ["2.50"]},
        "nan": {"type": ["number", "null"]},
        "required": {"type": ["string", "null"]},
        "format": {
            "type": ["string", "null"],
            "examples": [{"$ref": "#/components/schemas/a"}],
        },
    }


def test_what_is_said_of_a_value_stays_beside_the_alternatives_that_it_has() -> None:
    class OuterSchema(ma.Schema):
        firm = fields.Nested(FirmSchema, metadata={"description": "Its firm."})
        choice = fields.String(
            validate=validate.OneOf(["a"]), metadata={"description": "A choice.", "example": "a"}
        )
        computed = fields.Function(lambda it: 1, metadata={"description": "Anything."})

    properties = json_schema(OuterSchema())["properties"]
    assert properties["firm"] == {
        "description": "Its firm.",
        "anyOf": [{"$ref": "#/$defs/Firm"}, {"type": "null"}],
    }
    assert properties["choice"] == {
        "description": "A choice.",
        "examples": ["a"],
        "anyOf": [{"type": "string", "enum": ["a"]}, {"type": "null"}],
    }
    assert properties["computed"] == {"readOnly": True, "description": "Anything."}


def test_a_field_of_the_apps_own_that_shows_what_it_likes_is_borne() -> None:
    class Stubborn(fields.DateTime):
        def _serialize(self, value: Any, attr: Any, obj: Any, **kwargs: Any) -> Any:
            return obj.whatever

    class StubbornSchema(ma.Schema):
        at = Stubborn()

    assert json_schema(StubbornSchema())["properties"]["at"]["type"] == ["string", "null"]


def test_a_thin_event_type_tells_of_resource_and_url_alone() -> None:
    schema = data_schema(EventType("a.b", PersonSchema(), payload="thin"))
    assert schema == THIN_SCHEMA
    jsonschema_rs.meta.validate(schema)
    event = formats.Event("evt_1", "a.b", NOW, 1, "{}", resource="a:1")
    validator = jsonschema_rs.Draft202012Validator(schema)
    validator.validate(json.loads(formats.thin_data(event)))
    validator.validate(example_of(schema))
    assert not validator.is_valid({"resource": 1, "url": None})
    full = data_schema(EventType("a.b", PersonSchema()))
    assert full == json_schema(PersonSchema())


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({}, True),
        ({"id": "any value will do"}, True),
        ({"id": 1, "secret": 2}, False),
        ({"name": "that is not what it is called"}, False),
        ({"account": None, "friends": None}, True),
        ({"account": {"name": "A"}}, True),
        ({"account": {"name": "A", "secret": 2}}, False),
        ({"friends": [{"id": 1}, {"id": 2, "fullName": "Bob"}]}, True),
        ({"friends": [{"id": 1}, {"id": 2, "email": "b@c.de"}]}, False),
    ],
)
def test_what_a_schema_does_not_show_is_noticed(value: Any, shown: bool) -> None:
    assert shows(json_schema(PersonSchema()), value) is shown


def test_without_a_schema_everything_is_shown() -> None:
    assert shows(json_schema(None), {"a": {"b": [1]}})


def test_a_table_may_have_any_names() -> None:
    assert shows(json_schema(ManySchema()), {"table": {"a": 1, "b": 2}, "anything": {"c": 3}})


@pytest.mark.parametrize("value", [object(), float("nan"), {1, "a"}, {("a",): 1}])
def test_what_has_no_place_in_json_is_refused(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        plain(value)
