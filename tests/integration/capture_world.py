"""A small app with tracked models, as a host would write it, and what capture made of it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import marshmallow as ma
import sqlalchemy as sa
from emptying import empty
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import orm

from flask_resthooks import models
from flask_resthooks.capture import Capture, Resource
from flask_resthooks.event_types import EventType, EventTypes


class TagSchema(ma.Schema):
    name = ma.fields.String()


class AccountSchema(ma.Schema):
    id = ma.fields.Integer()
    name = ma.fields.String()
    contacts = ma.fields.Pluck(lambda: ContactSchema(), "full_name", many=True)


class ContactSchema(ma.Schema):
    id = ma.fields.Integer()
    full_name = ma.fields.String(attribute="name")
    email = ma.fields.String(data_key="emailAddress")
    status = ma.fields.String()
    score = ma.fields.Integer()
    double_score = ma.fields.Integer()
    version = ma.fields.Integer()
    shout = ma.fields.Method("get_shout")
    tags = ma.fields.Pluck(TagSchema, "name", many=True)
    account = ma.fields.Pluck(AccountSchema, "name")

    def get_shout(self, contact: Any) -> str:
        if contact.name == "unspeakable":
            raise ValueError("I will not say that")
        return str(contact.name).upper()


class LineSchema(ma.Schema):
    order_id = ma.fields.Integer()
    position = ma.fields.Integer()
    amount = ma.fields.Integer()


class PersonSchema(ma.Schema):
    id = ma.fields.Integer()
    type = ma.fields.String()
    name = ma.fields.String()


class EngineerSchema(PersonSchema):
    language = ma.fields.String()


class VehicleSchema(ma.Schema):
    id = ma.fields.Integer()
    kind = ma.fields.String()
    wheels = ma.fields.Integer()


class NoteSchema(ma.Schema):
    id = ma.fields.Integer()
    text = ma.fields.String()


class ItemSchema(ma.Schema):
    id = ma.fields.Integer()
    name = ma.fields.String()


@dataclass(frozen=True)
class Event:
    type: str
    owner: str
    resource: str | None
    data: Any
    previous: Any


class World:
    """An app, its database, and the events that were committed.

    It serves one test after the other, each from `begin` to `end`, until one has `changed` it.
    """

    def __init__(
        self,
        url: str,
        *,
        binds: dict[str, str] | None = None,
        versioned: bool = True,
        engine: dict[str, Any] | None = None,
        **session: Any,
    ) -> None:
        self._versioned = versioned
        self.app = Flask("host")
        self.app.config["SQLALCHEMY_DATABASE_URI"] = url
        self.app.config["SQLALCHEMY_BINDS"] = binds or {}
        self.app.config["SQLALCHEMY_ENGINE_OPTIONS"] = engine or {}
        self.db = SQLAlchemy(session_options=session)
        self.db.init_app(self.app)
        self.tables = models.define(self.db.metadata)
        self.event_types = EventTypes()
        self.wakes = 0
        self.capture = Capture(self.tables, self.event_types, self.wake)
        self._models()
        self.capture.listen(self.db.session)
        self.context = self.app.app_context()
        self.context.push()
        self._listeners: list[Any] = []
        self.engine = self.db.engine
        self.engines = list(self.db.engines.values())
        if self.engine.dialect.name == "sqlite":
            for engine in self.engines:
                begin_truly(engine)
        self.db.create_all()
        self.session: Any = self.db.session
        self._seen = 0
        self.changed = False

    def begin(self) -> None:
        """As when it was made: nothing has happened yet."""
        self.context = self.app.app_context()
        self.context.push()
        empty(self.engine, self.db.metadata.sorted_tables)
        self._seen = self.wakes = 0

    def end(self) -> None:
        """What `begin` began."""
        while self._listeners:
            sa.event.remove(*self._listeners.pop())
        self.db.session.remove()
        self.context.pop()

    def close(self) -> None:
        self.end()
        for engine in self.engines:
            engine.dispose()

    def wake(self) -> None:
        self.wakes += 1

    def listen(self, target: Any, name: str, listener: Any) -> None:
        """An event listener, until `end`."""
        sa.event.listen(target, name, listener)
        self._listeners.append((target, name, listener))

    def track(self, model: type, name: str, schema: ma.Schema, owner: Any, **options: Any) -> None:
        self.changed = True
        for verb in ("create", "update", "delete"):
            if f"{name}.{verb}" not in self.event_types:
                self.event_types.add(EventType(f"{name}.{verb}", schema))
        self.capture.track(model, Resource(name, schema, owner, **options))

    def retrack(self, model: type, **changes: Any) -> None:
        """Track a model otherwise, which an app cannot."""
        self.changed = True
        resource = self.capture._record_types._resources.pop(model)
        self.capture.track(model, dataclasses.replace(resource, **changes))

    def events(self) -> list[Event]:
        """What was committed since the last call, seen from another connection."""
        event = self.tables.event
        statement = event.select().where(event.c.sequence > self._seen).order_by(event.c.sequence)
        with self.engine.connect() as connection:
            rows = connection.execute(statement).all()
        self._seen = max([self._seen, *(row.sequence for row in rows)])
        return [
            Event(
                row.type,
                row.owner,
                row.resource,
                json.loads(row.data),
                None if row.previous is None else json.loads(row.previous),
            )
            for row in rows
        ]

    def told(self) -> list[tuple[str, str | None, Any]]:
        """Type, resource and previous, in the order of the types and resources."""
        found = [(event.type, event.resource, event.previous) for event in self.events()]
        return sorted(found, key=lambda event: (event[0], str(event[1])))

    def contact(self, **values: Any) -> Any:
        """A committed contact whose event has been read."""
        contact = self.Contact(**({"owner_id": 1, "name": "Ada"} | values))
        self.session.add(contact)
        self.session.commit()
        self.events()
        self.wakes = 0
        return contact

    def _models(self) -> None:
        db: Any = self.db

        class Account(db.Model):
            id = sa.Column(sa.Integer, primary_key=True)
            name = sa.Column(sa.String(50))
            contacts = orm.relationship("Contact", back_populates="account")

        contact_tag = db.Table(
            "contact_tag",
            sa.Column("contact_id", sa.ForeignKey("contact.id"), primary_key=True),
            sa.Column("tag_id", sa.ForeignKey("tag.id"), primary_key=True),
        )

        class Tag(db.Model):
            id = sa.Column(sa.Integer, primary_key=True)
            name = sa.Column(sa.String(50))
            contacts = orm.relationship("Contact", contact_tag, back_populates="tags")

        # Makes a difference of every UPDATE.
        onupdate = sa.text("version + 1") if self._versioned else None

        class Contact(db.Model):
            id = sa.Column(sa.Integer, primary_key=True)
            owner_id = sa.Column(sa.Integer)
            account_id = sa.Column(sa.ForeignKey("account.id"))
            name = sa.Column(sa.String(50))
            email = sa.Column(sa.String(50), unique=True)
            secret = sa.Column(sa.String(50))
            status = sa.Column(sa.String(10), server_default="new")
            score = sa.Column(sa.Integer, default=1)
            double_score = sa.Column(sa.Integer, sa.Computed("score * 2", persisted=True))
            version = sa.Column(sa.Integer, default=1, onupdate=onupdate)
            tags = orm.relationship(Tag, contact_tag, back_populates="contacts")
            account = orm.relationship(Account, back_populates="contacts")

        class Line(db.Model):
            order_id = sa.Column(sa.Integer, primary_key=True)
            position = sa.Column(sa.Integer, primary_key=True)
            amount = sa.Column(sa.Integer)

        class Person(db.Model):
            id = sa.Column(sa.Integer, primary_key=True)
            type = sa.Column(sa.String(20))
            name = sa.Column(sa.String(50))
            __mapper_args__: ClassVar[Any] = {
                "polymorphic_on": "type",
                "polymorphic_identity": "person",
            }

        class Engineer(Person):
            id = sa.Column(sa.ForeignKey("person.id"), primary_key=True)
            language = sa.Column(sa.String(50))
            __mapper_args__: ClassVar[Any] = {"polymorphic_identity": "engineer"}

        class Manager(Person):
            id = sa.Column(sa.ForeignKey("person.id"), primary_key=True)
            budget = sa.Column(sa.Integer)
            __mapper_args__: ClassVar[Any] = {"polymorphic_identity": "manager"}

        class Vehicle(db.Model):
            id = sa.Column(sa.Integer, primary_key=True)
            kind = sa.Column(sa.String(20))
            wheels = sa.Column(sa.Integer)
            __mapper_args__: ClassVar[Any] = {
                "polymorphic_on": "kind",
                "polymorphic_identity": "vehicle",
            }

        class Car(Vehicle):
            __mapper_args__: ClassVar[Any] = {"polymorphic_identity": "car"}

        class Bicycle(Vehicle):
            __mapper_args__: ClassVar[Any] = {"polymorphic_identity": "bicycle"}

        class Log(db.Model):
            id = sa.Column(sa.Integer, primary_key=True)
            text = sa.Column(sa.String(50))

        class Box(db.Model):
            id = sa.Column(sa.Integer, primary_key=True)
            items = orm.relationship("Item", cascade="all, delete-orphan")

        class Item(db.Model):
            id = sa.Column(sa.Integer, primary_key=True)
            name = sa.Column(sa.String(50))
            box_id = sa.Column(sa.ForeignKey("box.id"))

        self.Account, self.Tag, self.Contact, self.Line = Account, Tag, Contact, Line
        self.Person, self.Engineer, self.Manager = Person, Engineer, Manager
        self.Vehicle, self.Car, self.Bicycle = Vehicle, Car, Bicycle
        self.Log, self.Box, self.Item = Log, Box, Item
        self.contact_tag = contact_tag
        self.track(Account, "account", AccountSchema(), "id")
        self.track(Contact, "contact", ContactSchema(), "owner_id")
        self.track(Line, "line", LineSchema(), "order_id")
        self.track(Person, "person", PersonSchema(), lambda person: 1)
        self.track(Engineer, "engineer", EngineerSchema(), lambda person: 1)
        self.track(Car, "car", VehicleSchema(), lambda car: 1)
        self.track(Item, "item", ItemSchema(), lambda item: 1)


class Worlds:
    """Worlds of one database, one after the other: another one only if the last was changed."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._world: World | None = None

    def __enter__(self) -> Worlds:
        return self

    def __exit__(self, *error: object) -> None:
        if self._world is not None:
            for engine in self._world.engines:
                engine.dispose()

    @contextmanager
    def one(self) -> Iterator[World]:
        if self._world is None:
            self._world = World(self._url)
            self._world.end()
        world = self._world
        world.begin()
        try:
            yield world
        finally:
            world.end()
            if world.changed:
                self.__exit__()
                self._world = None


def begin_truly(engine: sa.Engine) -> None:
    """SQLAlchemy's own recipe for savepoints on SQLite: pysqlite begins too late by itself."""

    @sa.event.listens_for(engine, "connect")
    def connect(connection: Any, record: Any) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=OFF")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN")
