"""The OpenAPI document: valid, with `webhooks` that are what is sent."""

from __future__ import annotations

import itertools
import json
import logging
import warnings
from typing import Any

import flask_smorest
import jsonschema_rs
import marshmallow as ma
import openapi_spec_validator
import pytest
from api_host import Host, host
from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin

from flask_resthooks import formats, models, signing
from flask_resthooks.api import webhooks
from flask_resthooks.api.components import Components, for_3_0
from flask_resthooks.api.payloads import json_schema
from flask_resthooks.event_types import EventType, EventTypes
from flask_resthooks.samples import example_of

VERSIONS = ["3.0.0", "3.0.3", "3.1.0"]


class FirmSchema(ma.Schema):
    name = ma.fields.String(metadata={"description": "Its name."})
    boss = ma.fields.Nested(lambda: ContactSchema(exclude=("firm",)), allow_none=True)


class ContactSchema(ma.Schema):
    id = ma.fields.Integer(dump_only=True)
    name = ma.fields.String(
        validate=ma.validate.Length(1, 50), metadata={"example": "Ada Lovelace"}
    )
    email = ma.fields.Email(allow_none=True)
    kind = ma.fields.String(validate=ma.validate.OneOf(["person", "robot"]), allow_none=True)
    score = ma.fields.Float(
        validate=ma.validate.Range(0, 10, min_inclusive=False), metadata={"exclusiveMinimum": 0}
    )
    price = ma.fields.Decimal(places=2)
    seen_at = ma.fields.DateTime()
    password = ma.fields.String(load_only=True, required=True)
    firm = ma.fields.Nested(FirmSchema)
    firms = ma.fields.List(ma.fields.Nested(FirmSchema), metadata={"description": "All."})
    extra = ma.fields.Dict(values=ma.fields.Integer())
    anything = ma.fields.Raw(metadata={"description": "Anything."})


class HostsOwn:
    """Schemas of the host's own, of the same names and of those that ours come near to."""

    class ContactSchema(ma.Schema):
        colour = ma.fields.String()

    class FirmSchema(ma.Schema):
        size = ma.fields.Integer()

    class SubscriptionSchema(ma.Schema):
        price = ma.fields.Integer()


def with_own_routes(made: Host) -> None:
    blueprint = flask_smorest.Blueprint("own", __name__, url_prefix="/own")
    for schema in (HostsOwn.ContactSchema, HostsOwn.FirmSchema, HostsOwn.SubscriptionSchema):

        @blueprint.route(f"/{schema.__name__}", endpoint=schema.__name__)
        @blueprint.response(200, schema)
        def get() -> dict[str, Any]:
            return {}

    made.api.register_blueprint(blueprint)


def registered(types: EventTypes) -> None:
    types.add(EventType("person.update", ContactSchema(), "A person was changed.", version="v7"))
    types.add(EventType("person.create", ContactSchema(), deprecated=True))
    types.add(EventType("person.glance", ContactSchema(), payload="thin"))
    types.add(EventType("person.short", ContactSchema(only=("id", "name"))))
    types.add(EventType("person.firm", FirmSchema()))
    types.add(EventType("hidden.one", ContactSchema(), public=False))
    types.add(EventType("hidden.two", ContactSchema(), visible_to=lambda owner: True))


def document_of(made: Host) -> dict[str, Any]:
    document: dict[str, Any] = made.client.get("/openapi.json").json
    return document


def section(document: dict[str, Any]) -> dict[str, Any]:
    name = "x-webhooks" if document["openapi"].startswith("3.0") else "webhooks"
    assert {"x-webhooks", "webhooks"} & document.keys() == {name}
    found: dict[str, Any] = document[name]
    return found


def validate(document: dict[str, Any]) -> None:
    """By a validator that has nothing to do with those that made it."""
    openapi_spec_validator.validate(document)
    if "x-webhooks" in document:
        # It does not look into extensions; but what is in there must be no worse than a path.
        paths = {f"/x/{name}": item for name, item in document["x-webhooks"].items()}
        openapi_spec_validator.validate(
            {**document, "paths": {**document["paths"], **paths}, "x-webhooks": {}}
        )


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("own_first", [True, False])
def test_the_whole_document_is_valid_beside_the_hosts_own_parts(
    sqlite_url: str, version: str, own_first: bool
) -> None:
    with host(sqlite_url, config={"OPENAPI_VERSION": version}) as made:
        if own_first:
            with_own_routes(made)
        registered(made.event_types)
        webhooks.install(made.api.spec, made.event_types)
        if not own_first:
            with_own_routes(made)
        document = document_of(made)
        validate(document)
        assert document == document_of(made)
        schemas = document["components"]["schemas"]
        assert schemas["Contact"]["properties"].keys() == {"colour"}
        assert schemas["Firm"]["properties"].keys() == {"size"}
        assert schemas["Subscription"]["properties"].keys() == {"price"}
        assert "hidden" not in json.dumps(document)
        assert "password" not in json.dumps(document)
        # Schemas of one class that do not show the same.
        assert {name for name in schemas if name.startswith("RESTHooks.data.Contact")} == {
            "RESTHooks.data.Contact",
            "RESTHooks.data.Contact.2",
            "RESTHooks.data.Contact.3",
        }
        # Everything under our prefix is one of these.
        mine = [path for path in document["paths"] if path.startswith("/api/v1/")]
        rules = [rule.rule for rule in made.app.url_map.iter_rules()]
        assert len(mine) == len([rule for rule in rules if rule.startswith("/api/v1/")])


def test_an_independent_validator_finds_what_is_wrong(sqlite_url: str) -> None:
    with host(sqlite_url, config={"OPENAPI_VERSION": "3.1.0"}) as made:
        webhooks.install(made.api.spec, made.event_types)
        document = document_of(made)
        validate(document)
        document["webhooks"]["contact.create"]["post"]["parameters"][0] = {"name": "a"}
        with pytest.raises(openapi_spec_validator.validation.exceptions.OpenAPIValidationError):
            validate(document)


@pytest.mark.parametrize("version", VERSIONS)
def test_each_webhook_tells_what_is_to_be_known_of_it(sqlite_url: str, version: str) -> None:
    with host(sqlite_url, config={"OPENAPI_VERSION": version}) as made:
        webhooks.install(made.api.spec, made.event_types)
        registered(made.event_types)
        document = document_of(made)
        found = section(document)
        assert list(found) == [
            *("resthooks.ping", "resthooks.handshake", "resthooks.expired"),
            *("contact.create", "contact.update", "contact.delete", "invoice.paid"),
            *("person.update", "person.create", "person.glance", "person.short", "person.firm"),
        ]
        operation = found["person.update"]["post"]
        assert operation["summary"] == "person.update"
        assert "A person was changed." in operation["description"]
        assert "v7" in operation["description"]
        assert "deprecated" not in operation
        assert found["person.create"]["post"]["deprecated"] is True
        assert operation["security"] == []
        assert operation["responses"].keys() == {"2XX", "3XX", "410", "default"}
        assert set(operation["requestBody"]["content"]) == {
            "application/json",
            "application/cloudevents+json",
        }
        ids = [path["post"]["operationId"] for path in found.values()]
        ids += [
            operation["operationId"]
            for path in document["paths"].values()
            for method, operation in path.items()
            if method != "parameters"
        ]
        assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_headers_that_are_documented_are_those_that_are_sent(
    sqlite_url: str, version: str
) -> None:
    with host(sqlite_url, config={"OPENAPI_VERSION": version}) as made:
        webhooks.install(made.api.spec, made.event_types)
        document = document_of(made)
        references = section(document)["contact.create"]["post"]["parameters"]
        parameters = document["components"]["parameters"]
        documented = [parameters[ref["$ref"].rpartition("/")[2]] for ref in references]
        sent = formats.headers(
            EVENT,
            b"{}",
            signers=[signing.signer(signing.new_secret())],
            timestamp=1_700_000_000,
            user_agent="x",
            payload="thin",
        )
        sent["x-hook-test"] = "ping"
        assert {header["name"] for header in documented} == sent.keys() - {
            "content-type",
            "user-agent",
        }
        assert all(header["in"] == "header" for header in documented)
        optional = {header["name"] for header in documented if not header["required"]}
        assert optional == {"x-hook-payload", "x-hook-signature", "x-hook-test"}
        for header in documented:
            jsonschema_rs.Draft202012Validator(header["schema"]).validate(sent[header["name"]])


EVENT = formats.Event(
    "evt_0123456789abcdef0123456789abcdef",
    "person.update",
    models.utcnow(),
    42,
    formats.to_json(
        ContactSchema().dump(
            {"id": 7, "name": "Ada", "email": None, "kind": None, "firm": {"name": "A"}}
        )
    ),
    previous='{"name":"Bob"}',
    resource="person:7",
    url="https://crm.example.com/people/7",
)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_bodies_that_are_documented_are_those_that_are_sent(
    sqlite_url: str, version: str
) -> None:
    with host(sqlite_url, config={"OPENAPI_VERSION": version}) as made:
        registered(made.event_types)
        webhooks.install(made.api.spec, made.event_types)
        document = document_of(made)
        content = section(document)["person.update"]["post"]["requestBody"]["content"]
        for format_, payload in itertools.product(formats.NAMES, formats.PAYLOADS):
            media = content[formats.content_type(format_)]
            recipient = formats.Recipient("sub_1", "https://hooks.example.com", format_, payload)
            body = json.loads(formats.body(EVENT, recipient))
            what = (format_, payload)
            for name, schema in alternatives(media["schema"]).items():
                valid = validator(document, schema).is_valid(body)
                # In the format `bare` any object will do: it is what the data may be.
                assert valid or name != format_, what
                assert not valid or name in (format_, "bare"), what
            for example in media["examples"].values():
                assert validator(document, media["schema"]).is_valid(example["value"]), what
            if format_ != formats.BARE and payload == formats.FULL:
                example = media["examples"][format_]["value"]
                assert list(example) == [name for name in body if name != "subject"], what


def alternatives(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    several = schema["anyOf"] if "title" not in schema else [schema]
    return {part["title"]: part for part in several}


def validator(document: dict[str, Any], schema: dict[str, Any]) -> Any:
    """Of a part of a document, as a JSON Schema."""
    own = {**schema, "components": document["components"]}
    if document["openapi"].startswith("3.0"):
        own = _as_json_schema(own)
    return jsonschema_rs.Draft202012Validator(own)


def _as_json_schema(part: Any) -> Any:
    """What OpenAPI 3.0 means, in the words of JSON Schema."""
    if isinstance(part, list):
        return [_as_json_schema(inner) for inner in part]
    if not isinstance(part, dict):
        return part
    made = {name: _as_json_schema(inner) for name, inner in part.items()}
    if made.get("nullable") is True and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    for word in ("minimum", "maximum"):
        exclusive = f"exclusive{word.capitalize()}"
        if made.get(exclusive) is True:
            made[exclusive] = made.pop(word)
    return made


@pytest.mark.parametrize("version", VERSIONS)
def test_a_thin_type_is_documented_as_thin(sqlite_url: str, version: str) -> None:
    with host(sqlite_url, config={"OPENAPI_VERSION": version}) as made:
        registered(made.event_types)
        webhooks.install(made.api.spec, made.event_types)
        document = document_of(made)
        content = section(document)["person.glance"]["post"]["requestBody"]["content"]
        assert "RESTHooks.data.Contact" not in json.dumps(content)
        example = content["application/json"]["examples"]["standard"]["value"]
        assert example["data"] == {"resource": None, "url": None}
        schema = alternatives(content["application/json"]["schema"])["standard"]
        assert validator(document, schema).is_valid(example)
        assert not validator(document, schema).is_valid({**example, "data": {"id": 1}})


@pytest.mark.parametrize("format_", formats.NAMES)
def test_the_apps_own_format_comes_first(sqlite_url: str, format_: str) -> None:
    with host(sqlite_url, config={"OPENAPI_VERSION": "3.1.0"}) as made:
        webhooks.install(made.api.spec, made.event_types, format=format_, source="/shop")
        content = document_of(made)["webhooks"]["contact.create"]["post"]["requestBody"]["content"]
        type_, media = next(iter(content.items()))
        assert type_ == formats.content_type(format_)
        assert next(iter(alternatives(media["schema"]))) == format_
        clouds = content["application/cloudevents+json"]["examples"]["cloudevents"]["value"]
        assert clouds["source"] == "/shop"


# Other documents, and what else may be in them.


def test_swagger_knows_no_webhooks() -> None:
    spec = APISpec("a", "1", "2.0")
    types = EventTypes()
    webhooks.install(spec, types)
    types.add(EventType("a.b"))
    assert spec.to_dict() == APISpec("a", "1", "2.0").to_dict()


def spec_of(version: str = "3.1.0", **options: Any) -> tuple[APISpec, EventTypes]:
    spec = APISpec("a", "1", version, [MarshmallowPlugin()], **options)
    types = EventTypes()
    webhooks.install(spec, types)
    return spec, types


@pytest.mark.parametrize(("version", "name"), [("3.1.0", "webhooks"), ("3.0.3", "x-webhooks")])
def test_types_that_are_registered_later_come_into_the_document(version: str, name: str) -> None:
    spec, types = spec_of(version)
    ours = list(spec.to_dict()[name])
    for type_ in ("a.one", "a.two", "a.three"):
        types.add(EventType(type_, ContactSchema()))
        document = spec.to_dict()
        assert list(document[name]) == [*ours, *types]
        validate(json.loads(json.dumps(document)))


def test_the_hosts_own_webhooks_stay_what_they_are() -> None:
    options: dict[str, Any] = {"webhooks": {"a.one": {"summary": "The host's"}}}
    spec, types = spec_of(**options)
    types.add(EventType("a.one"))
    types.add(EventType("a.two"))
    found = spec.to_dict()["webhooks"]
    assert found["a.one"] == {"summary": "The host's"}
    assert found["a.two"]["post"]["summary"] == "a.two"
    # The options may be those of another document, too.
    assert options == {"webhooks": {"a.one": {"summary": "The host's"}}}


def test_two_documents_of_one_app_tell_the_same() -> None:
    types = EventTypes()
    specs = [APISpec("a", "1", "3.1.0") for _ in range(2)]
    types.add(EventType("a.one", ContactSchema()))
    for spec in specs:
        webhooks.install(spec, types)
    types.add(EventType("a.two", FirmSchema()))
    assert specs[0].to_dict() == specs[1].to_dict()


def test_names_that_the_document_has_already_are_left_alone() -> None:
    taken: dict[str, Any] = {"schemas": {"RESTHooks.data.Firm": {"type": "integer"}}}
    spec, types = spec_of(components=taken)
    spec.components.schema("RESTHooks.data.Firm.2", {"type": "boolean"})
    types.add(EventType("a.one", FirmSchema(only=("name",))))
    schemas = spec.to_dict()["components"]["schemas"]
    assert schemas["RESTHooks.data.Firm"] == {"type": "integer"}
    assert schemas["RESTHooks.data.Firm.2"] == {"type": "boolean"}
    assert schemas["RESTHooks.data.Firm.3"]["properties"].keys() == {"name"}


def test_equal_schemas_are_one_component_and_different_ones_of_one_name_are_two() -> None:
    spec, types = spec_of()

    def twin(**members: Any) -> ma.Schema:
        return type("TwinSchema", (ma.Schema,), members)()

    types.add(EventType("a.one", twin(a=ma.fields.Integer())))
    types.add(EventType("a.two", twin(a=ma.fields.Integer())))
    types.add(EventType("a.three", twin(a=ma.fields.String())))
    names = [name for name in spec.components.schemas if "Twin" in name]
    assert names == ["RESTHooks.data.Twin", "RESTHooks.data.Twin.2"]


@pytest.mark.parametrize("version", VERSIONS)
def test_any_class_name_makes_a_valid_component(version: str) -> None:
    spec, types = spec_of(version)
    for number, name in enumerate(("ÄpfelSchema", "Schema", "thinSchema", "_", "Ünïcode")):
        types.add(EventType(f"a.n{number}", type(name, (FirmSchema,), {})()))
    validate(json.loads(json.dumps(spec.to_dict())))


def test_a_schema_that_refers_to_a_later_one_is_described_when_that_is_there(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class EarlySchema(ma.Schema):
        later = ma.fields.Nested("LaterOfTheSameAppSchema")

    spec, types = spec_of()
    with caplog.at_level(logging.WARNING):
        types.add(EventType("a.early", EarlySchema()))
    assert "a.early" in caplog.text

    def data() -> Any:
        content = spec.to_dict()["webhooks"]["a.early"]["post"]["requestBody"]["content"]
        return content["application/json"]["examples"]["standard"]["value"]["data"]

    assert data() == {}
    validate(spec.to_dict())

    class LaterOfTheSameAppSchema(ma.Schema):
        name = ma.fields.String()

    types.add(EventType("a.later", LaterOfTheSameAppSchema()))
    assert data() == {"later": {"name": "text"}}
    validate(spec.to_dict())


def test_nothing_warns_and_nothing_is_shared_between_operations() -> None:
    spec, types = spec_of()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        registered(types)
    found = spec.to_dict()["webhooks"]
    one, other = found["person.update"]["post"], found["person.create"]["post"]
    assert one["responses"] == other["responses"]
    assert one["responses"] is not other["responses"]


# JSON Schema in the words of OpenAPI 3.0.


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": ["string", "null"]}, {"type": "string", "nullable": True}),
        ({"type": "null"}, {"enum": [None], "nullable": True}),
        ({"type": ["null"]}, {"enum": [None], "nullable": True}),
        (
            {"type": ["string", "integer", "null"]},
            {
                "allOf": [
                    {
                        "anyOf": [
                            {"type": "string", "nullable": True},
                            {"type": "integer", "nullable": True},
                        ]
                    }
                ]
            },
        ),
        ({"const": 1}, {"enum": [1]}),
        (
            {"type": "integer", "exclusiveMinimum": 3},
            {"type": "integer", "minimum": 3, "exclusiveMinimum": True},
        ),
        ({"examples": ["a", "b"]}, {"example": "a"}),
        ({"type": "array"}, {"type": "array", "items": {}}),
        ({"type": "array", "items": False}, {"type": "array", "items": {"not": {}}}),
        ({"$ref": "#/a", "description": "A."}, {"allOf": [{"$ref": "#/a"}], "description": "A."}),
        ({"$ref": "#/a"}, {"$ref": "#/a"}),
        ({"$schema": "x", "$comment": "y", "if": {}, "x-a": 1}, {"x-a": 1}),
        (
            {"properties": {"if": {"type": ["integer", "null"]}}},
            {"properties": {"if": {"type": "integer", "nullable": True}}},
        ),
    ],
)
def test_a_json_schema_is_said_in_the_words_of_3_0(
    schema: dict[str, Any], expected: dict[str, Any]
) -> None:
    before = json.dumps(schema)
    assert for_3_0(schema) == expected
    assert json.dumps(schema) == before


def test_both_say_the_same() -> None:
    data = {"id": 1, "name": "Ada", "email": None, "kind": None, "score": 3.5, "firm": None}
    documents = []
    for version in ("3.0.3", "3.1.0"):
        spec = APISpec("a", "1", version)
        reference = Components(spec).add("Contact", json_schema(ContactSchema()))
        document = json.loads(json.dumps(spec.to_dict()))
        documents.append(validator(document, reference))
    example = example_of(json_schema(ContactSchema()))
    good = [data, example, {**example, "firms": []}, {**example, "firm": {"boss": None}}]
    bad = [
        {**data, "id": "1"},
        {**data, "kind": "alien"},
        {**data, "score": 0},
        {**data, "score": 11},
        {**data, "firm": {"name": 1}},
        {**data, "firm": {"boss": {"name": ""}}},
        {**data, "extra": {"a": "b"}},
    ]
    for judge in documents:
        assert all(judge.is_valid(value) for value in good)
        assert not any(judge.is_valid(value) for value in bad)


def test_every_example_is_what_its_schema_allows(sqlite_url: str) -> None:
    with host(sqlite_url, config={"OPENAPI_VERSION": "3.1.0"}) as made:
        registered(made.event_types)
        webhooks.install(made.api.spec, made.event_types)
        document = document_of(made)
        checked = 0
        for media in _with_examples(document):
            judge = validator(document, media["schema"])
            several = [it["value"] for it in media.get("examples", {}).values()]
            for example in [*several, *([media["example"]] if "example" in media else [])]:
                judge.validate(example)
                checked += 1
        assert checked > 50


def _with_examples(part: Any) -> Any:
    if isinstance(part, list):
        for inner in part:
            yield from _with_examples(inner)
    elif isinstance(part, dict):
        if isinstance(part.get("schema"), dict) and {"example", "examples"} & part.keys():
            yield part
        for inner in part.values():
            yield from _with_examples(inner)
