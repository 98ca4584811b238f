"""Records that are read without the ORM: what is shown of them, and which those are."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import uuid
from typing import Any
from unittest import mock

import marshmallow as ma
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from marshmallow import fields
from sqlalchemy import orm

from flask_resthooks import formats
from flask_resthooks.plain import FIELDS, Plain
from flask_resthooks.reader import reading_is_watched
from flask_resthooks.representation import Resource


class Base(orm.DeclarativeBase):
    pass


class Colour(enum.Enum):
    RED = "r"
    BLUE = "b"


class Thing(Base):
    __tablename__ = "thing"

    id = sa.Column(sa.Integer, primary_key=True)
    name = sa.Column(sa.String(20))
    lower = orm.column_property(sa.func.lower(name))
    parent_id = sa.Column(sa.Integer, sa.ForeignKey("thing.id"))
    parent = orm.relationship("Thing", remote_side=[id])

    @property
    def loud(self) -> str:
        return f"{self.name}!"


class Animal(Base):
    __tablename__ = "animal"

    id = sa.Column(sa.Integer, primary_key=True)
    kind = sa.Column(sa.String(20))
    __mapper_args__ = {"polymorphic_on": kind, "polymorphic_identity": "animal"}  # noqa: RUF012


class Own(Base):
    __tablename__ = "own"

    id = sa.Column(sa.Integer, primary_key=True)

    def __getitem__(self, name: str) -> str:
        return "mine"


MOMENTS = st.datetimes()
AWARE = st.datetimes(timezones=st.just(dt.timezone.utc))
NUMBERS = st.integers(-(10**12), 10**12)
DECIMALS = st.decimals(-(10**6), 10**6, allow_nan=False, places=3)
VALUES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (fields.AwareDateTime(), AWARE),
    (fields.Boolean(), st.booleans() | NUMBERS),
    (fields.Date(), st.dates()),
    (fields.DateTime(), MOMENTS | AWARE),
    (fields.DateTime(format="%d.%m.%Y"), MOMENTS),
    (fields.DateTime(format="timestamp"), AWARE),
    (fields.Decimal(), DECIMALS | NUMBERS),
    (fields.Decimal(as_string=True, places=1), DECIMALS),
    (fields.Email(), st.text(max_size=9)),
    (fields.Enum(Colour), st.sampled_from(Colour)),
    (fields.Enum(Colour, by_value=True), st.sampled_from(Colour)),
    (fields.Float(), st.floats(allow_nan=False, allow_infinity=False)),
    (fields.Integer(), NUMBERS | st.floats(-1e6, 1e6)),
    (fields.Integer(as_string=True), NUMBERS),
    (fields.NaiveDateTime(), MOMENTS),
    (fields.Raw(), st.recursive(NUMBERS | st.text(), st.lists, max_leaves=3)),
    (fields.String(), st.text(max_size=9) | NUMBERS | st.binary(max_size=3)),
    (fields.Time(), st.times()),
    (fields.TimeDelta(), st.timedeltas(dt.timedelta(-9), dt.timedelta(9))),
    (fields.URL(), st.text(max_size=9)),
    (fields.UUID(), st.uuids() | st.text(max_size=9)),
]


def plain_of(schema: Any, model: type = Thing, **options: Any) -> Plain | None:
    resource = Resource("thing", schema, options.pop("owner", "id"), **options)
    return Plain.of(orm.class_mapper(model), resource)


def test_all_kinds_of_fields_are_tried() -> None:
    assert {type(field) for field, _ in VALUES} == FIELDS


@pytest.mark.parametrize(("field", "values"), VALUES, ids=lambda value: type(value).__name__)
@settings(max_examples=40)
@given(data=st.data())
def test_what_is_shown_is_what_the_schema_shows(field: Any, values: Any, data: Any) -> None:
    class Schema(ma.Schema):
        shown = field
        called = fields.String(attribute="name", data_key="anders")
        hidden = fields.Raw(load_only=True)

    field.attribute = "id"
    schema = Schema()
    plain = plain_of(schema)
    assert plain is not None
    thing = {
        "id": data.draw(st.none() | values),
        "name": data.draw(st.none() | st.text(max_size=9)),
    }
    assert outcome(lambda: plain.dump(thing)) == outcome(lambda: schema.dump(Thing(**thing)))


def outcome(dump: Any) -> Any:
    """JSON text, or the error."""
    try:
        return formats.to_json(dump())
    except Exception as error:
        return type(error), str(error)


class Simple(ma.Schema):
    id = fields.Integer()


class Renamed(Simple):
    note = fields.Raw(attribute="name")


@pytest.mark.parametrize("schema", [Simple(), Renamed(), Simple(many=True), Renamed(only=["id"])])
def test_a_row_is_enough(schema: Any) -> None:
    assert plain_of(schema, watch=("name",)) is not None


class Hooked(Simple):
    @ma.post_dump
    def add(self, data: Any, **options: Any) -> Any:
        return {**data, "more": True}


class Prepared(Simple):
    @ma.pre_dump
    def swap(self, thing: Any, **options: Any) -> Any:
        return thing.parent


class Getting(Simple):
    def get_attribute(self, obj: Any, attr: str, default: Any) -> Any:
        return obj.parent


class Dumping(Simple):
    def dump(self, obj: Any, **options: Any) -> Any:
        return {"id": str(obj)}


class Calling(Simple):
    loud = fields.Function(lambda thing: thing.loud)


class Asking(Simple):
    loud = fields.String()


class Computed(Simple):
    lower = fields.String()


class Related(Simple):
    parent = fields.Nested(Simple)


class Dotted(Simple):
    name = fields.String(attribute="parent.name")


class Shout(fields.String):
    def _serialize(self, value: Any, attr: Any, obj: Any, **options: Any) -> Any:
        return f"{obj.loud} {value}"


class Subclassed(Simple):
    name = Shout()


class Valued(Shout):
    def _serialize(self, value: Any, attr: Any, obj: Any, **options: Any) -> Any:
        return value if obj is None else super()._serialize(value, attr, obj, **options)


class ByItsOwn(Simple):
    name = fields.Enum(Colour, by_value=Valued())


class Absent(Simple):
    nowhere = fields.String(dump_default="here")


PATCHED = Simple()
PATCHED.dump = lambda thing, **options: {"id": str(thing)}  # type: ignore[method-assign]


@pytest.mark.parametrize(
    "schema",
    [
        *(
            kind()
            for kind in (
                *(Hooked, Prepared, Getting, Dumping, Calling, Asking, Computed, Related),
                *(Dotted, Subclassed, ByItsOwn, Absent),
            )
        ),
        PATCHED,
    ],
    ids=lambda schema: type(schema).__name__,
)
def test_a_schema_that_may_ask_for_more_than_a_row_gets_an_instance(schema: Any) -> None:
    assert plain_of(schema) is None


@pytest.mark.parametrize("name", ["serialize", "get_value", "_serialize"])
def test_a_field_that_was_given_its_own_way_gets_an_instance(name: str) -> None:
    schema = Simple()
    setattr(schema.fields["id"], name, lambda *given, **options: "own")
    assert plain_of(schema) is None


class Pair(Simple):
    name = fields.String()


def take_away(schema: ma.Schema) -> None:
    schema.dump_fields.pop("name")


def leave_out(schema: ma.Schema) -> None:
    schema.exclude = {"name"}
    schema._init_fields()


def rename(schema: ma.Schema) -> None:
    schema.fields["name"].data_key = "anders"


def point_elsewhere(schema: ma.Schema) -> None:
    schema.fields["name"].attribute = "loud"


def exchange(schema: ma.Schema) -> None:
    schema.dump_fields["name"] = Shout()


@pytest.mark.parametrize("change", [take_away, leave_out, rename, point_elsewhere, exchange])
def test_a_schema_that_was_changed_is_asked_itself(change: Any) -> None:
    schema = Pair()
    plain = plain_of(schema)
    assert plain is not None
    assert plain.holds()
    change(schema)
    assert not plain.holds()


def test_a_value_that_is_missing_is_shown_as_the_schema_shows_it() -> None:
    class Schema(ma.Schema):
        id = fields.Integer()
        name = fields.String()
        given = fields.String(attribute="name", dump_default="none", dump_only=True)
        made = fields.String(attribute="name", dump_default=lambda: "made", dump_only=True)

    plain = plain_of(Schema())
    assert plain is not None
    values = {"id": 1, "name": ma.missing}
    assert plain.dump(values) == Schema().dump(values)
    assert plain.dump(values) == {"id": 1, "given": "none", "made": "made"}


@pytest.mark.parametrize(
    ("dialect", "one_parameter"), [("postgresql", True), ("sqlite", True), ("mysql", False)]
)
def test_keys_are_one_parameter_where_the_database_has_words_for_it(
    dialect: str, one_parameter: bool
) -> None:
    plain = plain_of(Simple())
    assert plain is not None
    connection, reader = mock.Mock(), mock.Mock()
    connection.dialect.name = dialect
    connection.execute.return_value.all.return_value = []
    reader.connection_for.return_value = connection
    assert list(plain.read(reader, [(1,), (2,)], False)) == []
    given = connection.execute.call_args.args[1:]
    assert given == (() if one_parameter else ({"keys": [1, 2]},))


@pytest.mark.parametrize(
    "options",
    [
        {"owner": lambda thing: thing.id},
        {"owner": "parent.id"},
        {"owner": "loud"},
        {"url": lambda thing: f"/things/{thing.id}"},
        {"watch": ("loud",)},
    ],
    ids=lambda options: "-".join(options),
)
def test_a_resource_that_may_ask_for_more_than_a_row_gets_an_instance(options: Any) -> None:
    assert plain_of(Simple(), **options) is None


@pytest.mark.parametrize("model", [Animal, Own])
def test_a_model_whose_records_are_more_than_a_row_gets_an_instance(model: type) -> None:
    assert plain_of(Simple(), model) is None


@pytest.mark.parametrize("name", ["load", "refresh"])
def test_who_listens_to_loads_is_heard(name: str) -> None:
    class Other(orm.DeclarativeBase):
        pass

    class Heard(Other):
        __tablename__ = "heard"
        id = sa.Column(sa.Integer, primary_key=True)

    plain = plain_of(Simple(), Heard)
    assert plain is not None
    assert plain.holds()
    sa.event.listen(Heard, name, lambda *seen: None)
    assert not plain.holds()


@pytest.mark.parametrize("name", ["do_orm_execute", "loaded_as_persistent"])
def test_who_listens_to_all_sessions_is_heard(name: str) -> None:
    def listen(*seen: Any) -> None:
        pass

    assert not reading_is_watched()
    sa.event.listen(orm.Session, name, listen)
    try:
        assert reading_is_watched()
    finally:
        sa.event.remove(orm.Session, name, listen)
    assert not reading_is_watched()


def test_values_of_python_that_are_none_of_json_stay_equal() -> None:
    class Schema(ma.Schema):
        id = fields.Raw()
        name = fields.Raw()

    plain = plain_of(Schema())
    assert plain is not None
    odd = {"id": uuid.UUID(int=7), "name": decimal.Decimal("1.10")}
    assert plain.dump(odd) == Schema().dump(odd)
