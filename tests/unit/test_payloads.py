"""JSON Schema of what events carry."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import marshmallow as ma

from flask_resthooks.api.payloads import json_schema


class FirmSchema(ma.Schema):
    name = ma.fields.String()


class PersonSchema(ma.Schema):
    id = ma.fields.Integer(dump_only=True)
    name = ma.fields.String(data_key="fullName")
    email = ma.fields.Email(allow_none=True)
    account = ma.fields.Nested(FirmSchema)
    friends = ma.fields.List(ma.fields.Nested(lambda: PersonSchema(only=("id", "name"))))


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
