"""The routes of event types: who sees which, their schemas, and samples of their hooks."""

from __future__ import annotations

import datetime as dt
import json
import logging
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import flask
import jsonschema_rs
import marshmallow as ma
import pytest
import sqlalchemy as sa
from emptying import empty
from flask_sqlalchemy import SQLAlchemy
from servers import PostgresServer
from sqlalchemy import orm

from flask_resthooks import RESTHooks, formats, ids, models, records
from flask_resthooks.api import sampling

PREFIX = "/api/v1"


class TagSchema(ma.Schema):
    name = ma.fields.String()


class ContactSchema(ma.Schema):
    id = ma.fields.Integer(dump_only=True)
    full_name = ma.fields.String(attribute="name", metadata={"example": "Ada Lovelace"})
    email = ma.fields.Email()
    created_at = ma.fields.NaiveDateTime()
    tags = ma.fields.List(ma.fields.Pluck(TagSchema, "name"))


class NameSchema(ma.Schema):
    id = ma.fields.Integer()
    name = ma.fields.String()


class UnspeakableSchema(NameSchema):
    loud = ma.fields.Function(lambda thing: thing.name.upper())


class GUID(sa.types.TypeDecorator[uuid.UUID]):
    """A type as many apps have one: a UUID where the database knows them, else text."""

    impl = sa.CHAR
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        native = dialect.name == "postgresql"
        return dialect.type_descriptor(sa.Uuid(as_uuid=False) if native else sa.CHAR(32))

    def process_bind_param(self, value: Any, dialect: Any) -> str | None:
        if value is None:
            return None
        value = value if isinstance(value, uuid.UUID) else uuid.UUID(value)
        return str(value) if dialect.name == "postgresql" else str(value.hex)

    def process_result_value(self, value: Any, dialect: Any) -> uuid.UUID | None:
        return None if value is None else uuid.UUID(value)


class Picky(sa.types.TypeDecorator[str]):
    impl = sa.String
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        if value is not None and not value.startswith("own-"):
            raise ValueError("no owner of mine")
        return value


class Shop:
    """An app with models of all kinds, and its client."""

    def __init__(self, url: str, *, with_models: bool = True, **config: Any) -> None:
        self.owner: str | None = "1"
        self.app = flask.Flask("shop")
        self.app.config.update(
            SQLALCHEMY_DATABASE_URI=url,
            TESTING=True,
            RESTHOOKS_REDIS_URL="redis://127.0.0.1:1/0",
            **config,
        )
        self.db: Any = SQLAlchemy()
        self.hooks = RESTHooks(self.db)
        self.hooks.owner_loader(lambda: self.owner)
        if with_models:
            self._models()
        self.db.init_app(self.app)
        self.hooks.init_app(self.app)
        self.app.extensions["resthooks"].wakeups.wake = lambda: None  # nothing is sent here
        with self.app.app_context():
            self.db.create_all()
        self._shape = self._seen_from_outside()

    def __enter__(self) -> Shop:
        self.owner = "1"
        self.context = self.app.app_context()
        self.context.push()
        empty(self.db.engine, self.db.metadata.sorted_tables)
        return self

    def __exit__(self, *error: object) -> None:
        self.db.session.remove()
        self.context.pop()

    @property
    def is_as_new(self) -> bool:
        """Whether no test has added something to it."""
        return self._shape == self._seen_from_outside()

    def close(self) -> None:
        with self.app.app_context():
            self.db.drop_all()
            for engine in self.db.engines.values():
                engine.dispose()

    def _seen_from_outside(self) -> Any:
        app = self.app
        functions = (app.before_request_funcs, app.after_request_funcs)
        tables = sorted(self.db.metadata.tables)
        return list(self.hooks.event_types), tables, repr(functions)

    def _models(self) -> None:
        db, hooks = self.db, self.hooks

        class Tag(db.Model):
            id = sa.Column(sa.Integer, primary_key=True)
            contact_id = sa.Column(sa.ForeignKey("contact.id"))
            name = sa.Column(sa.String(20))

        @hooks.resource(
            "contact",
            schema=ContactSchema,
            owner="account_id",
            url=lambda contact: f"https://crm.example.com/contacts/{contact.id}",
            version="2024-05",
            description="A contact of the CRM",
        )
        class Contact(db.Model):
            id = sa.Column(sa.Integer, primary_key=True)
            account_id = sa.Column(sa.Integer, index=True)
            name = sa.Column(sa.String(50))
            email = sa.Column(sa.String(50))
            secret = sa.Column(sa.String(50))
            created_at = sa.Column(sa.DateTime, server_default=sa.func.now())
            tags = orm.relationship(Tag, order_by=Tag.id)

        self.Contact, self.Tag = Contact, Tag

    def model(self, table: str, type_: Any, schema: Any = NameSchema, **options: Any) -> Any:
        """Another tracked model, whose owner is of that type."""

        columns = {
            "__tablename__": table,
            "id": sa.Column(sa.Integer, primary_key=True),
            "owner": sa.Column(type_),
            "name": sa.Column(sa.String(50)),
        }
        Thing = type(table.title(), (self.db.Model,), columns)
        self.hooks.resource(table, schema=schema, **{"owner": "owner", **options})(Thing)
        self.db.create_all()
        return Thing

    def add(self, *instances: Any) -> None:
        self.db.session.add_all(instances)
        self.db.session.commit()

    def insert(self, model: Any, *rows: dict[str, Any]) -> None:
        """Without anybody noticing."""
        self.db.session.execute(model.__table__.insert(), list(rows))
        self.db.session.commit()

    def get(self, path: str) -> Any:
        self.db.session.remove()
        return self.app.test_client().get(f"{PREFIX}/event-types{path}")

    def sample(self, name: str, query: str = "") -> list[Any]:
        answer = self.get(f"/{name}/sample{query}")
        assert answer.status_code == 200, answer.json
        assert answer.content_type == "application/json"
        assert isinstance(answer.json, list)
        return answer.json

    def events(self) -> list[Any]:
        """The rows, newest first."""
        table = self.hooks.tables.event
        with self.db.engine.connect() as connection:
            return list(connection.execute(sa.select(table).order_by(table.c.sequence.desc())))

    def forget(self) -> None:
        """As if nothing had been noticed."""
        with self.db.engine.begin() as connection:
            connection.execute(self.hooks.tables.event.delete())


class Shops:
    """Shops of one database, one after the other: another one only if the last is not as new."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._shop: Shop | None = None

    def one(self) -> Shop:
        if self._shop is not None and not self._shop.is_as_new:
            self.close()
        self._shop = self._shop or Shop(self._url)
        return self._shop

    def close(self) -> None:
        if self._shop is not None:
            self._shop.close()
        self._shop = None


@pytest.fixture(scope="module")
def _sqlite_shops(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shops]:
    shops = Shops(f"sqlite:///{tmp_path_factory.mktemp('shop')}/test.db")
    yield shops
    shops.close()


@pytest.fixture(scope="module")
def _postgresql_shops(postgres_server: PostgresServer) -> Iterator[Shops]:
    postgres_server.start()
    url = postgres_server.lend_database()
    shops = Shops(url)
    yield shops
    postgres_server.start()
    shops.close()
    postgres_server.take_back(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def shop(request: pytest.FixtureRequest) -> Iterator[Shop]:
    with request.getfixturevalue(f"_{request.param}_shops").one() as made:
        yield made


@pytest.fixture
def small_shop(_sqlite_shops: Shops) -> Iterator[Shop]:
    with _sqlite_shops.one() as made:
        yield made


# Who sees which.


def test_an_event_type_is_shown_with_all_that_is_to_be_known(small_shop: Shop) -> None:
    small_shop.hooks.event_type("invoice.paid", description="Paid.", deprecated=True)
    small_shop.hooks.event_type("invoice.void", payload="thin", version="v3")
    assert small_shop.get("").json == {
        "data": [
            {
                "name": f"contact.{verb}",
                "description": f"A contact of the CRM was {happened}.",
                "version": "2024-05",
                "deprecated": False,
                "payload": "full",
            }
            for verb, happened in (
                ("create", "created"),
                ("delete", "deleted"),
                ("update", "changed"),
            )
        ]
        + [
            {
                "name": "invoice.paid",
                "description": "Paid.",
                "version": "1",
                "deprecated": True,
                "payload": "full",
            },
            {
                "name": "invoice.void",
                "description": "",
                "version": "v3",
                "deprecated": False,
                "payload": "thin",
            },
        ],
        "next_cursor": None,
    }
    one = small_shop.get("/invoice.void").json
    assert one.pop("schema")["properties"].keys() == {"resource", "url"}
    assert one == small_shop.get("").json["data"][-1]


def hidden(shop: Shop) -> None:
    def broken(owner: str) -> bool:
        raise RuntimeError("who?")

    shop.hooks.event_type("beta.one", visible_to=lambda owner: owner == "1")
    shop.hooks.event_type("beta.two", visible_to=lambda owner: owner == "2")
    shop.hooks.event_type("beta.none", public=False)
    shop.hooks.event_type("beta.broken", visible_to=broken)


@pytest.mark.parametrize(("owner", "seen"), [("1", "beta.one"), ("2", "beta.two"), ("3", None)])
def test_only_what_the_caller_sees_is_listed(
    small_shop: Shop, owner: str, seen: str | None
) -> None:
    hidden(small_shop)
    small_shop.owner = owner
    listed = [entry["name"] for entry in small_shop.get("").json["data"]]
    assert [name for name in listed if name.startswith("beta.")] == ([seen] if seen else [])


@pytest.mark.parametrize("rest", ["", "/sample"])
def test_what_the_caller_does_not_see_is_not_there(small_shop: Shop, rest: str) -> None:
    hidden(small_shop)

    def answer(name: str) -> Any:
        given = small_shop.get(f"/{name}{rest}")
        headers = {key: it for key, it in given.headers.items() if key != "X-Request-Id"}
        return given.status_code, {**given.json, "request_id": ""}, headers

    unknown = answer("nothing.there")
    assert unknown[0] == 404
    for name in ("beta.two", "beta.none", "beta.broken", "resthooks.ping", "contact", "*"):
        assert answer(name) == unknown
    assert small_shop.get(f"/beta.one{rest}").status_code == 200


def test_pages_count_only_what_is_seen(small_shop: Shop) -> None:
    for number in range(30):
        sees = None if number % 3 else (lambda owner: False)
        small_shop.hooks.event_type(f"thing.n{number:02}", visible_to=sees)
    seen: list[str] = []
    path = "?limit=4"
    for _ in range(20):
        page = small_shop.get(path).json
        assert len(page["data"]) == 4 or page["next_cursor"] is None
        seen += [entry["name"] for entry in page["data"]]
        if page["next_cursor"] is None:
            break
        path = f"?limit=4&cursor={page['next_cursor']}"
    assert seen == sorted(seen)
    assert [name for name in seen if name.startswith("thing.")] == [
        f"thing.n{number:02}" for number in range(30) if number % 3
    ]


@pytest.mark.parametrize("path", ["", "/contact.create", "/contact.create/sample"])
def test_nobody_sees_anything(small_shop: Shop, path: str) -> None:
    small_shop.owner = None
    assert small_shop.get(path).status_code == 401


# Samples of records.


def test_samples_are_the_owners_newest_records(shop: Shop) -> None:
    Contact = shop.Contact
    for number in range(1, 6):
        shop.add(Contact(account_id=1, name=f"mine {number}", email="a@b.de", secret="hidden"))
        shop.add(Contact(account_id=2, name=f"theirs {number}", secret="hidden"))
    shop.add(shop.Tag(contact_id=9, name="good"), shop.Tag(contact_id=9, name="old"))
    found = shop.sample("contact.create")
    assert [it["data"]["full_name"] for it in found] == ["mine 5", "mine 4", "mine 3"]
    assert [it["data"]["id"] for it in found] == [9, 7, 5]
    assert found[0]["data"]["tags"] == ["good", "old"]
    assert "hidden" not in json.dumps(found)
    shop.owner = "2"
    assert [it["data"]["id"] for it in shop.sample("contact.create")] == [10, 8, 6]


@pytest.mark.parametrize("verb", ["create", "update", "delete"])
def test_a_sample_has_the_shape_of_the_hook(shop: Shop, verb: str) -> None:
    contact = shop.Contact(account_id=1, name="Ada", email="ada@example.com")
    shop.add(contact)
    contact.name = "Ada L."
    shop.add(contact)
    if verb == "delete":
        shop.db.session.delete(contact)
        shop.db.session.commit()
    [row, *_] = [row for row in shop.events() if row.type == f"contact.{verb}"]
    event = formats.Event(
        row.id, row.type, row.created_at, row.sequence, row.data, row.previous, row.resource
    )
    hook = json.loads(formats.body(event))
    made_up = []
    if verb != "delete":
        shop.forget()
        made_up = shop.sample(f"contact.{verb}")
        assert made_up[0]["data"] == {**hook["data"], "full_name": "Ada L."}
    shop.owner = "nobody"
    made_up += shop.sample(f"contact.{verb}")
    schema = shop.get(f"/contact.{verb}").json["schema"]
    for sample in made_up:
        assert list(sample) == list(hook)
        assert list(sample["data"]) == list(hook["data"])
        assert ids.is_id(ids.EVENT, sample["id"])
        assert sample["type"] == hook["type"]
        assert sample["sequence"] == 0
        at = dt.datetime.fromisoformat(sample["timestamp"].replace("Z", "+00:00"))
        assert abs(models.utcnow() - at) < dt.timedelta(minutes=5)
        jsonschema_rs.Draft202012Validator(schema, validate_formats=True).validate(sample["data"])
        if verb == "update":
            [(name, former)] = sample["previous"].items()
            assert former != sample["data"][name]


def test_a_sample_of_a_record_is_the_same_from_call_to_call(shop: Shop) -> None:
    shop.insert(shop.Contact, *({"account_id": 1, "name": str(number)} for number in range(4)))
    calls = [shop.sample("contact.create") for _ in range(3)]
    assert [[it["id"] for it in call] for call in calls] == [[it["id"] for it in calls[0]]] * 3
    assert len({it["id"] for it in calls[0]}) == 3
    assert {it["id"] for it in shop.sample("contact.update")}.isdisjoint(
        it["id"] for it in calls[0]
    )
    stamps = [it["timestamp"] for it in calls[0]]
    assert stamps == sorted(stamps, reverse=True)


def test_records_are_shown_as_they_are_now(shop: Shop) -> None:
    contact = shop.Contact(account_id=1, name="then")
    shop.add(contact)
    shop.insert(shop.Contact, {"account_id": 1, "name": "unnoticed"})
    contact.name = "now"
    shop.add(contact)
    names = [it["data"]["full_name"] for it in shop.sample("contact.create")]
    assert names == ["unnoticed", "now"]


def test_a_record_that_was_handed_over_is_no_sample_of_its_former_owner(shop: Shop) -> None:
    contact, other = shop.Contact(account_id=1, name="given"), shop.Contact(account_id=1, name="b")
    shop.add(contact, other)
    contact.account_id = 2
    shop.add(contact)
    assert [it["data"]["full_name"] for it in shop.sample("contact.create")] == ["b"]
    shop.owner = "2"
    assert [it["data"]["full_name"] for it in shop.sample("contact.create")] == ["given"]


UUID = uuid.UUID("0b9e7f6a-2f0b-4c58-9d0a-6a3f1c5e8d27")
FAR = 2**40


OWNERS = [
    (sa.Integer(), 7, ["007", "+7", " 7", "7 ", "7.0", "seven", "\u0667", "-7", str(FAR)]),
    (sa.Integer(), -7, ["7", str(2**70), f"-{2**63 + 1}", "1" * 250]),
    (sa.SmallInteger(), 7, [str(2**15), str(-(2**15) - 1)]),
    (sa.BigInteger(), FAR, [str(2**63), str(-(2**63) - 1), str(FAR + 1)]),
    (sa.String(40), "acme", ["Acme", "acme ", "7", "'; --"]),
    (sa.String(40), "7", ["07"]),
    (sa.Text(), "é", ["e"]),
    (sa.Uuid(), UUID, [UUID.hex, str(UUID).upper(), "acme", "{" + str(UUID) + "}"]),
    (sa.Uuid(as_uuid=False), str(UUID), [UUID.hex, "acme"]),
    (GUID(), UUID, [UUID.hex, "acme", str(uuid.uuid4()), "7"]),
    (Picky(40), "own-1", ["acme", "own-2"]),
]


def test_the_owner_is_found_whatever_the_type_of_its_column(shop: Shop) -> None:
    for number, (type_, owner, strangers) in enumerate(OWNERS):
        name = f"thing_{number}"
        shop.insert(shop.model(name, type_), {"owner": owner, "name": "mine"})
        shop.owner = str(owner)
        assert [it["data"]["name"] for it in shop.sample(f"{name}.create")] == ["mine"], type_
        for stranger in strangers:
            shop.owner = stranger
            [made_up] = shop.sample(f"{name}.create")
            assert made_up["data"] == {"id": 1, "name": "text"}, (type_, stranger)


STRANGE_OWNERS = [
    (sa.Enum("a", "b", name="kind"), "a", "a"),
    (sa.Numeric(10, 2), 7, "7.00"),
    (sa.Boolean(), True, "True"),
    (sa.Date(), dt.date(2024, 5, 6), "2024-05-06"),
]


def test_an_owner_of_a_strange_type_is_known_by_the_events_alone(shop: Shop) -> None:
    for number, (type_, value, text) in enumerate(STRANGE_OWNERS):
        name = f"thing_{number}"
        Thing = shop.model(name, type_)
        shop.insert(Thing, {"owner": value, "name": "unnoticed"})
        shop.owner = text
        assert shop.sample(f"{name}.create")[0]["data"]["name"] == "text", type_
        shop.add(Thing(owner=value, name="noticed"))
        assert [it["data"]["name"] for it in shop.sample(f"{name}.create")] == ["noticed"], type_
        shop.owner = "what the type does not know"
        assert shop.sample(f"{name}.create")[0]["data"]["name"] == "text", type_


def test_what_a_database_holds_for_the_same_owner_need_not_be_it(sqlite_url: str) -> None:
    shop = Shop(sqlite_url)
    with shop:
        Thing = shop.model("thing", sa.String(20, collation="NOCASE"))
        shop.insert(Thing, {"owner": "ACME", "name": "theirs"}, {"owner": "acme", "name": "mine"})
        shop.owner = "acme"
        assert [it["data"]["name"] for it in shop.sample("thing.create")] == ["mine"]


@pytest.mark.parametrize("owner", [lambda thing: thing.owner, "boss.owner", "property"])
def test_an_owner_that_is_no_column_is_known_by_the_events_alone(shop: Shop, owner: Any) -> None:
    class Thing(shop.db.Model):
        id = sa.Column(sa.Integer, primary_key=True)
        owner = sa.Column(sa.Integer)
        name = sa.Column(sa.String(50))

        @property
        def boss(self) -> Any:
            return self

        @property
        def property(self) -> Any:
            return self.owner

    shop.hooks.resource("thing", schema=NameSchema, owner=owner)(Thing)
    shop.db.create_all()
    shop.insert(Thing, {"owner": 1, "name": "unnoticed"})
    assert shop.sample("thing.create")[0]["data"]["name"] == "text"
    shop.add(Thing(owner=1, name="noticed"))
    assert [it["data"]["name"] for it in shop.sample("thing.create")] == ["noticed"]


def test_the_newest_of_a_composite_key_have_the_greatest(shop: Shop) -> None:
    class LineSchema(ma.Schema):
        order_id = ma.fields.Integer()
        position = ma.fields.Integer()

    @shop.hooks.resource("line", schema=LineSchema, owner="owner")
    class Line(shop.db.Model):
        order_id = sa.Column(sa.Integer, primary_key=True)
        position = sa.Column(sa.Integer, primary_key=True)
        owner = sa.Column(sa.Integer)

    shop.db.create_all()
    keys = [(1, 1), (1, 2), (2, 1), (2, 2), (2, 3)]
    shop.insert(Line, *({"order_id": a, "position": b, "owner": 1} for a, b in keys))
    found = shop.sample("line.create")
    assert [(it["data"]["order_id"], it["data"]["position"]) for it in found] == [
        (2, 3),
        (2, 2),
        (2, 1),
    ]


@pytest.mark.parametrize("joined", [True, False])
def test_records_of_a_subclass_are_samples_of_whatever_tells_of_them(
    shop: Shop, joined: bool
) -> None:
    class Person(shop.db.Model):
        id = sa.Column(sa.Integer, primary_key=True)
        owner = sa.Column(sa.Integer)
        kind = sa.Column(sa.String(20))
        name = sa.Column(sa.String(50))
        __mapper_args__: ClassVar[Any] = {
            "polymorphic_on": "kind",
            "polymorphic_identity": "person",
        }

    def below(kind: str, base: Any = Person) -> Any:
        members: dict[str, Any] = {"__mapper_args__": {"polymorphic_identity": kind}}
        if joined:
            members["id"] = sa.Column(sa.ForeignKey(base.id), primary_key=True)
        else:
            members["__tablename__"] = None
        return type(kind.title(), (base,), members)

    Engineer = below("engineer")
    Chief = below("chief", Engineer)
    Manager = below("manager")
    shop.hooks.resource("person", schema=NameSchema, owner="owner")(Person)
    shop.hooks.resource("engineer", schema=NameSchema, owner="owner")(Engineer)
    shop.db.create_all()
    for number in range(2):
        for model in (Person, Manager, Chief, Engineer):
            shop.add(model(owner=1, name=f"{model.__name__} {number}"))
    shop.forget()

    def names(event_type: str) -> list[str]:
        return [it["data"]["name"] for it in shop.sample(event_type)]

    assert names("person.create") == ["Manager 1", "Person 1", "Manager 0"]
    assert names("engineer.create") == ["Engineer 1", "Chief 1", "Engineer 0"]


def test_a_record_that_cannot_be_represented_is_passed_over(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    Thing = shop.model("thing", sa.Integer(), schema=UnspeakableSchema)
    shop.insert(Thing, {"owner": 1, "name": "a"}, {"owner": 1, "name": None})
    with caplog.at_level(logging.WARNING):
        assert [it["data"]["name"] for it in shop.sample("thing.create")] == ["a"]
    assert "thing:2" in caplog.text
    shop.insert(Thing, {"owner": 2, "name": None})
    shop.owner = "2"
    assert [it["data"]["name"] for it in shop.sample("thing.create")] == ["text"]


def test_a_key_that_the_schema_hides_is_hidden_in_samples(shop: Shop) -> None:
    class Nameless(ma.Schema):
        name = ma.fields.String()

    Thing = shop.model("thing", sa.Integer(), schema=Nameless)
    shop.insert(Thing, {"id": 987654, "owner": 1, "name": "a"})
    for query in ("?format=cloudevents", "?payload=thin"):
        assert "987654" not in json.dumps(shop.sample("thing.create", query))


# Samples of events.


def test_an_update_is_shown_with_what_was_before(shop: Shop) -> None:
    contact = shop.Contact(account_id=1, name="one", secret="hidden")
    shop.add(contact)
    for name in ("two", "three", "four", "five"):
        contact.name = name
        shop.add(contact)
    found = shop.sample("contact.update")
    assert [(it["previous"], it["data"]["full_name"]) for it in found] == [
        ({"full_name": "four"}, "five"),
        ({"full_name": "three"}, "four"),
        ({"full_name": "two"}, "three"),
    ]
    rows = shop.events()[:3]
    assert [(it["id"], it["sequence"]) for it in found] == [(it.id, it.sequence) for it in rows]


def test_what_was_before_is_made_up_for_a_record_that_nobody_changed(shop: Shop) -> None:
    shop.insert(shop.Contact, {"account_id": 1, "name": "Bob"}, {"account_id": 1, "name": None})
    empty, named = shop.sample("contact.update")
    assert named["previous"] == {"full_name": "Ada Lovelace"}
    assert empty["previous"] == {"full_name": "Ada Lovelace"}
    shop.insert(shop.Contact, {"account_id": 1, "name": "Ada Lovelace"})
    assert shop.sample("contact.update")[0]["previous"] == {"full_name": None}


def test_a_delete_shows_what_is_gone_rather_than_what_is_there(shop: Shop) -> None:
    shop.add(shop.Contact(account_id=1, name="there"))
    assert [it["data"]["full_name"] for it in shop.sample("contact.delete")] == ["there"]
    contact = shop.Contact(account_id=1, name="gone")
    shop.add(contact)
    shop.db.session.delete(contact)
    shop.db.session.commit()
    assert [it["data"]["full_name"] for it in shop.sample("contact.delete")] == ["gone"]


def test_what_is_emitted_is_shown_as_it_was_emitted(shop: Shop) -> None:
    shop.hooks.event_type("report.ready")
    for owner, number in ((1, 1), (2, 2), (1, 3), (1, 4), (1, 5)):
        shop.hooks.emit("report.ready", {"number": number}, owner=owner, resource=f"r:{number}")
        shop.db.session.commit()
    found = shop.sample("report.ready")
    assert [it["data"] for it in found] == [{"number": 5}, {"number": 4}, {"number": 3}]
    assert "previous" not in found[0]


def test_tests_and_notices_are_no_samples(shop: Shop) -> None:
    shop.hooks.event_type("report.ready")
    table = shop.hooks.tables.event
    with shop.db.engine.begin() as connection:
        for kind in models.KINDS:
            connection.execute(
                table.insert().values(
                    id=ids.new(ids.EVENT),
                    kind=kind,
                    type="report.ready",
                    owner="1",
                    created_at=models.utcnow(),
                    data=json.dumps({"kind": kind}),
                )
            )
    assert [it["data"] for it in shop.sample("report.ready")] == [{"kind": "event"}]


def test_no_sample_shows_what_the_schema_does_not_show_any_more(shop: Shop) -> None:
    shop.hooks.event_type("report.ready", schema=NameSchema)
    for data in ({"id": 1, "name": "a", "secret": "hidden"}, {"id": 2, "name": "b"}):
        shop.hooks.emit("report.ready", data, owner=1)
        shop.db.session.commit()
    assert [it["data"] for it in shop.sample("report.ready")] == [{"id": 2, "name": "b"}]
    shop.add(shop.Contact(account_id=1, name="Ada"))
    for column in ("data", "previous"):
        shop.forget()
        contact = shop.db.session.get(shop.Contact, 1)
        contact.name += "!"
        name = contact.name
        shop.add(contact)
        table = shop.hooks.tables.event
        with shop.db.engine.begin() as connection:
            connection.execute(table.update().values({column: '{"secret":"hidden"}'}))
        [found] = shop.sample("contact.update")
        assert "hidden" not in json.dumps(found)
        assert found["data"]["full_name"] == name


def test_a_type_that_is_rare_does_not_scan_what_an_owner_ever_had(shop: Shop) -> None:
    shop.hooks.event_type("rare.one")
    shop.hooks.event_type("common.one")
    table = shop.hooks.tables.event

    def put(type_: str, count: int, start: int) -> None:
        now = models.utcnow()
        rows = [
            {
                "id": ids.new(ids.EVENT, at=1_700_000_000 + start + number),
                "type": type_,
                "owner": "1",
                "created_at": now,
                "data": '{"real":true}',
            }
            for number in range(count)
        ]
        with shop.db.engine.begin() as connection:
            connection.execute(table.insert(), rows)

    put("rare.one", 1, 0)
    put("common.one", records.LOOKED_AT - 1, 10)
    assert shop.sample("rare.one")[0]["data"] == {"real": True}
    put("common.one", 1, 10_000)
    assert shop.sample("rare.one")[0]["data"] == {}
    assert len(shop.sample("common.one")) == 3


# Samples that are made up.


def test_without_anything_of_the_owners_there_is_one_of_the_schemas_examples(shop: Shop) -> None:
    shop.add(shop.Contact(account_id=2, name="theirs"))
    for verb in ("create", "update", "delete"):
        [found] = shop.sample(f"contact.{verb}")
        assert found["data"] == {
            "id": 1,
            "full_name": "Ada Lovelace",
            "email": "ada@example.com",
            "created_at": "2026-01-15T09:30:00",
            "tags": ["text"],
        }
        assert found["id"] == shop.sample(f"contact.{verb}")[0]["id"]


def test_without_a_schema_there_is_an_empty_object(small_shop: Shop) -> None:
    small_shop.hooks.event_type("report.ready")
    small_shop.hooks.event_type("report.update")
    [found] = small_shop.sample("report.ready")
    assert found["data"] == {}
    assert "previous" not in found
    assert "previous" not in small_shop.sample("report.update")[0]


# Formats and payloads.


@pytest.mark.parametrize("format_", [None, *formats.NAMES])
@pytest.mark.parametrize("payload", [None, *formats.PAYLOADS])
@pytest.mark.parametrize("event_type", ["contact.create", "contact.update"])
def test_a_sample_is_in_the_format_and_payload_that_are_asked_for(
    small_shop: Shop, format_: str | None, payload: str | None, event_type: str
) -> None:
    small_shop.add(small_shop.Contact(account_id=1, name="Ada"))
    asked = {"format": format_, "payload": payload}
    query = "&".join(f"{name}={value}" for name, value in asked.items() if value)
    [found] = small_shop.sample(event_type, f"?{query}")
    context = flask.current_app.extensions["resthooks"]
    [event] = sample_events(small_shop, event_type)
    recipient = formats.Recipient(
        found["hook"]["id"] if format_ == "resthooks" else "",
        found["hook"]["target"] if format_ == "resthooks" else "",
        format=format_ or "standard",
        payload=payload or "full",
    )
    expected = json.loads(formats.body(event, recipient, source=context.settings.source))

    def without_time(body: Any) -> Any:
        times = ("timestamp", "time")
        body = {name: value for name, value in body.items() if name not in times}
        if "hook" in body:
            body["hook"] = without_time(body["hook"])
        return body

    assert without_time(found) == without_time(expected)
    assert list(found) == list(expected)


def sample_events(shop: Shop, name: str, limit: int = 3) -> list[formats.Event]:
    """What others are given to send."""
    view = shop.app.view_functions["resthooks.EventTypeSample"]
    context = view.view_class.context  # type: ignore[attr-defined]
    assert shop.owner is not None
    return sampling.samples(context, shop.owner, shop.hooks.event_types[name], limit)


@pytest.mark.parametrize("default", formats.NAMES)
def test_the_apps_own_format_is_the_default(sqlite_url: str, default: str) -> None:
    shop = Shop(sqlite_url, RESTHOOKS_FORMAT=default)
    with shop:
        asked = shop.sample("contact.create", f"?format={default}")
        assert shop.sample("contact.create")[0].keys() == asked[0].keys()


@pytest.mark.parametrize("query", ["?format=", "?format=xml", "?payload=", "?payload=none"])
def test_an_unknown_format_or_payload_is_refused(small_shop: Shop, query: str) -> None:
    answer = small_shop.get(f"/contact.create/sample{query}")
    assert (answer.status_code, answer.json["error_code"]) == (422, "validation_error")


@pytest.mark.parametrize("query", ["", "?payload=full", "?format=bare&payload=full"])
def test_a_thin_type_tells_of_resource_and_url_alone(shop: Shop, query: str) -> None:
    Thing = shop.model(
        "thing", sa.Integer(), payload="thin", url=lambda thing: f"https://a.example/{thing.id}"
    )

    def data(name: str) -> list[Any]:
        found = shop.sample(name, query)
        assert not any("previous" in it for it in found)
        return found if "bare" in query else [it["data"] for it in found]

    assert data("thing.update") == [{"resource": "thing:1", "url": None}]
    shop.insert(Thing, {"owner": 1, "name": "hidden"})
    expected = [{"resource": "thing:1", "url": "https://a.example/1"}]
    assert data("thing.create") == data("thing.update") == expected
    thing = shop.db.session.get(Thing, 1)
    thing.name = "other"
    shop.db.session.commit()
    assert data("thing.update") == expected
    for event in sample_events(shop, "thing.update"):
        assert "other" not in event.data
        assert event.previous is None
    schema = shop.get("/thing.update").json["schema"]
    jsonschema_rs.Draft202012Validator(schema).validate(expected[0])


def test_an_event_of_the_time_before_a_type_became_thin_is_thin(shop: Shop) -> None:
    shop.hooks.event_type("report.ready", payload="thin")
    table = shop.hooks.tables.event
    with shop.db.engine.begin() as connection:
        connection.execute(
            table.insert().values(
                id=ids.new(ids.EVENT),
                type="report.ready",
                owner="1",
                created_at=models.utcnow(),
                resource="report:1",
                data='{"secret":1}',
                previous='{"secret":2}',
            )
        )
    [found] = shop.sample("report.ready")
    assert found["data"] == {"resource": "report:1", "url": None}
    assert "previous" not in found


def test_others_get_as_many_as_they_ask_for(small_shop: Shop) -> None:
    for number in range(5):
        small_shop.add(small_shop.Contact(account_id=1, name=str(number)))
    for limit in (1, 2, 4):
        assert len(sample_events(small_shop, "contact.create", limit)) == limit
    [event] = sample_events(small_shop, "contact.create", 1)
    assert json.loads(event.data)["full_name"] == "4"
    assert event.url == "https://crm.example.com/contacts/5"
    assert (event.resource, event.kind) == ("contact:5", "event")


# A sample changes nothing.


def test_a_sample_only_reads_and_leaves_the_session_as_it_was(shop: Shop) -> None:
    Contact = shop.Contact
    shop.add(Contact(account_id=1, name="Ada"), shop.Tag(contact_id=1, name="good"))
    before = [tuple(row) for row in shop.events()]
    statements: list[str] = []
    looked: list[Any] = []

    @shop.app.before_request
    def host_has_something_pending() -> None:
        session = shop.db.session()
        known = session.get(Contact, 1)
        known.email = "changed@example.com"
        # It could not be flushed.
        session.add(Contact(id=1, account_id=1))
        statements.clear()

    @shop.app.after_request
    def look(response: flask.Response) -> flask.Response:
        session = shop.db.session()
        looked.append((len(session.new), len(session.dirty), len(session.identity_map)))
        return response

    @sa.event.listens_for(shop.db.engine, "before_cursor_execute")
    def spy(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        statements.append(statement)

    for name in ("contact.create", "contact.update", "contact.delete"):
        [found] = shop.sample(name)
        assert found["data"]["email"] is None
        assert looked.pop() == (1, 1, 1)
        assert statements
        assert all(statement.lstrip().upper().startswith("SELECT") for statement in statements)
        assert not any("FOR " in statement.upper() for statement in statements)
        assert len(statements) <= 5
    shop.db.session.remove()
    assert [tuple(row) for row in shop.events()] == before


def test_a_head_is_answered_like_a_get(small_shop: Shop) -> None:
    small_shop.add(small_shop.Contact(account_id=1, name="Ada"))
    answer = small_shop.app.test_client().head(f"{PREFIX}/event-types/contact.create/sample")
    assert (answer.status_code, answer.data) == (200, b"")


# The page about all this.

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "describe-event-types.md"


def test_the_page_shows_what_there_is(sqlite_url: str) -> None:
    text = PAGE.read_text()
    shop = Shop(sqlite_url, with_models=False)
    with shop:
        names: dict[str, Any] = {
            "db": shop.db,
            "hooks": shop.hooks,
            "Schema": ma.Schema,
            "fields": ma.fields,
        }
        for block in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            exec(compile(block, PAGE.name, "exec"), names)
        shop.db.create_all()
        shown = [json.loads(it) for it in re.findall(r"^```json\n(.*?)^```", text, re.M | re.S)]
        schema, sample = shown
        assert shop.get("/contact.create").json == schema
        [made_up] = shop.sample("contact.create")
        assert {**made_up, "timestamp": sample[0]["timestamp"]} == sample[0]
        names["finish"](17, 1)
        [thin] = shop.sample("report.ready")
        assert f"`{json.dumps(thin['data'])}`" in text
        assert shop.get("/contact.merged").json["deprecated"] is True
        assert shop.get("/contact.score").status_code == 404
        shop.owner = "17"
        assert shop.get("/contact.score").status_code == 200
        assert shop.get("/contact.audit").status_code == 404
        assert f"the last {records.LOOKED_AT} of" in text
