"""A record whose event is written as the session has it: only if the database has the same."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import marshmallow as ma
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from marshmallow import fields
from sqlalchemy import orm

from flask_resthooks import models
from flask_resthooks.assumed import MOST_SPARED, Assumed, is_refusal
from flask_resthooks.capture import Capture, Resource
from flask_resthooks.errors import CaptureError
from flask_resthooks.event_rows import _ByDialect
from flask_resthooks.event_types import EventType, EventTypes
from flask_resthooks.plain import Plain

UTC = dt.timezone.utc


class Base(orm.DeclarativeBase):
    pass


TABLES = models.define(Base.metadata)


class Thing(Base):
    __tablename__ = "thing"

    id = sa.Column(sa.Integer, primary_key=True)
    owner = sa.Column(sa.String(20), nullable=False, default="1")
    name = sa.Column(sa.String(40))
    text = sa.Column(sa.Text)
    done = sa.Column(sa.Boolean)
    number = sa.Column(sa.BigInteger)
    day = sa.Column(sa.Date)
    naive = sa.Column(sa.DateTime)
    aware = sa.Column(sa.DateTime(timezone=True))
    made = sa.Column(sa.DateTime(timezone=True), server_default=sa.func.now())
    key = sa.Column(sa.Uuid)
    raw = sa.Column(sa.Integer)


class ThingSchema(ma.Schema):
    id = fields.Integer()
    name = fields.String()
    text = fields.Raw()
    done = fields.Boolean()
    number = fields.Integer()
    day = fields.Date()
    naive = fields.DateTime()
    aware = fields.DateTime()
    made = fields.Raw()
    key = fields.UUID()
    raw = fields.Raw()


class Host:
    """An app's models and sessions on one database, and what was told of them."""

    def __init__(self, url: str, schema: ma.Schema) -> None:
        self.engine = sa.create_engine(url)
        Base.metadata.create_all(self.engine)
        types = EventTypes()
        for verb in ("create", "update", "delete"):
            types.add(EventType(f"thing.{verb}", schema))
        self.capture = Capture(TABLES, types, lambda: None)
        self.capture.track(Thing, Resource("thing", schema, "owner"))
        self.sessions = orm.sessionmaker(self.engine)
        self.capture.listen(self.sessions)
        self.statements: list[str] = []
        sa.event.listen(self.engine, "before_cursor_execute", self._note)

    def _note(self, connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        self.statements.append(statement)

    @property
    def assumed(self) -> Assumed | None:
        record_type = self.capture._record_types.of(Thing)
        return None if record_type is None else record_type.assumed

    @contextmanager
    def commit(self) -> Iterator[Any]:
        """A transaction, whose statements are noted."""
        self.statements.clear()
        with self.sessions.begin() as session:
            yield session

    def data(self) -> list[dict[str, Any]]:
        """Of the events there are, in their order."""
        event = TABLES.event
        with self.engine.connect() as connection:
            texts = connection.scalars(sa.select(event.c.data).order_by(event.c.sequence))
            return [json.loads(text) for text in texts]

    def execute(self, statement: str) -> None:
        with self.engine.begin() as connection:
            connection.exec_driver_sql(statement)

    def reads(self) -> int:
        """How often the last transaction has read a record."""
        return sum(text.startswith("SELECT") and "FROM thing" in text for text in self.statements)


_KEPT: list[Capture] = []
"""SQLAlchemy knows listeners by their address: another one's must not be that of a former one."""


@contextmanager
def host_of(url: str, schema: ma.Schema | None = None) -> Iterator[Host]:
    made = Host(url, schema or ThingSchema())
    _KEPT.append(made.capture)
    try:
        yield made
    finally:
        made.engine.dispose()
        for name in ("before_update", "before_delete", "after_insert"):
            for listener in (made.capture._before_update, made.capture._before_delete):
                if sa.event.contains(Thing, name, listener):
                    sa.event.remove(Thing, name, listener)
            if sa.event.contains(Thing, name, made.capture._after_insert):
                sa.event.remove(Thing, name, made.capture._after_insert)


@pytest.fixture
def host(database_url: str) -> Iterator[Host]:
    with host_of(database_url) as made:
        yield made


@pytest.fixture
def on_postgresql(postgresql_url: str) -> Iterator[Host]:
    with host_of(postgresql_url) as made:
        yield made


@pytest.fixture
def on_sqlite(sqlite_url: str) -> Iterator[Host]:
    with host_of(sqlite_url) as made:
        yield made


def test_what_the_session_has_is_not_read(host: Host) -> None:
    with host.commit() as session:
        session.add(Thing(name="Ada", done=True))
    assert host.reads() == 0
    assert len(host.statements) == 2
    with host.commit() as session:
        thing = session.scalars(sa.select(Thing)).one()
        thing.name = "Bob"
    assert host.reads() == 2  # the app's own, and how it was before
    created, updated = host.data()
    assert created["name"] == "Ada"
    assert updated == created | {"name": "Bob"}
    assert dt.datetime.fromisoformat(created["made"].replace("Z", "+00:00")).tzinfo is not None


def test_what_a_session_forgets_is_loaded_anew(host: Host) -> None:
    with host.commit() as session:
        session.add(Thing(name="Ada"))
        session.flush()
        assert len(session.identity_map) == 0
        session.execute(sa.text("UPDATE thing SET name = 'Bob'"))
        assert session.scalars(sa.select(Thing)).one().name == "Bob"
    assert [data["name"] for data in host.data()] == ["Bob"]


def test_what_is_not_loaded_is_read(host: Host) -> None:
    with host.commit() as session:
        session.add(Thing(id=7, name="Ada", text="long"))
    with host.commit() as session:
        thing = session.get_one(Thing, 7, options=[orm.defer(Thing.text)])
        thing.name = "Bob"
    assert host.reads() == 3
    assert [(data["name"], data["text"]) for data in host.data()] == [
        ("Ada", "long"),
        ("Bob", "long"),
    ]


def test_of_many_records_none_is_kept_alive(host: Host) -> None:
    with host.commit() as session:
        for _ in range(3):
            session.add_all(Thing(name="Ada") for _ in range(2))
            session.flush()
        assert len(session.identity_map) == 0
    assert len(host.data()) == 6
    assert host.reads() == 1


TRIGGER = """
CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.name := upper(NEW.name); RETURN NEW; END $$;
CREATE TRIGGER shout BEFORE INSERT OR UPDATE ON thing FOR EACH ROW EXECUTE FUNCTION shout()
"""


@pytest.mark.parametrize(
    ("change", "given", "told", "reads"),
    [
        (TRIGGER, {"name": "Ada"}, {"name": "ADA"}, 1),
        ("ALTER TABLE thing ALTER name TYPE char(5)", {"name": "Ada"}, {"name": "Ada  "}, 1),
        ("ALTER TABLE thing ALTER number TYPE numeric(9, 2)", {"number": 5}, {"number": 5}, 1),
        ("ALTER TABLE thing ALTER raw TYPE numeric(9, 0)", {"raw": 5}, {"raw": "5"}, 1),
        ("ALTER TABLE thing ALTER raw TYPE float8", {"raw": 5}, {"raw": 5.0}, 1),
        ("ALTER TABLE thing ALTER name SET DEFAULT 'none'", {}, {"name": None}, 0),
        ("ALTER TABLE thing ALTER naive TYPE timestamp(0)",
         {"naive": dt.datetime(2026, 1, 2, 3, 4, 5, 600_000)}, {"naive": "2026-01-02T03:04:06"}, 1),
        ("ALTER TABLE thing ALTER key TYPE text", {"key": uuid.UUID(int=7)},
         {"key": str(uuid.UUID(int=7))}, 1),
    ],
)  # fmt: skip
def test_what_the_database_makes_of_it_is_told(
    on_postgresql: Host, change: str, given: dict[str, Any], told: dict[str, Any], reads: int
) -> None:
    on_postgresql.execute(change)
    _add(on_postgresql, given)
    assert on_postgresql.reads() == reads
    (data,) = on_postgresql.data()
    assert json.dumps({name: data[name] for name in told}) == json.dumps(told)


def _add(host: Host, given: dict[str, Any]) -> None:
    with host.commit() as session:
        session.add(Thing(**given))


CLEAN = TRIGGER.replace("upper(NEW.name)", "'5'")


def test_what_cannot_be_shown_in_memory_may_be_shown_as_it_is_stored(postgresql_url: str) -> None:
    schema = ma.Schema.from_dict({"id": fields.Integer(), "name": fields.Integer()})()
    with host_of(postgresql_url, schema) as host:
        host.execute(CLEAN)
        _add(host, {"name": "five"})
        assert [data["name"] for data in host.data()] == [5]


def test_a_driver_that_does_not_count_makes_no_second_event(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = _ByDialect.execute
    monkeypatch.setattr(_ByDialect, "execute", lambda *given: min(execute(*given), -1))
    _add(host, {"name": "Ada"})
    assert [data["name"] for data in host.data()] == ["Ada"]
    assert host.reads() == 1


def test_what_a_statement_has_changed_behind_the_session_is_told(host: Host) -> None:
    with host.commit() as session:
        session.add(thing := Thing(name="Ada"))
        session.flush()
        session.execute(sa.text("UPDATE thing SET name = 'Bob'"))
        thing.text = "unlike before"
    assert [data["name"] for data in host.data()] == ["Bob"]
    assert host.reads() == 1


def test_what_was_rolled_back_to_a_savepoint_is_told_as_it_is(host: Host) -> None:
    with host.commit() as session:
        session.add(thing := Thing(name="Ada"))
        session.flush()
        savepoint = session.begin_nested()
        thing.name = "Bob"
        session.flush()
        savepoint.rollback()
    assert [data["name"] for data in host.data()] == ["Ada"]
    with host.commit() as session:
        savepoint = session.begin_nested()
        session.add(Thing(name="nobody"))
        session.flush()
        savepoint.rollback()
    assert len(host.data()) == 1


def test_values_of_unusual_types_are_read(host: Host) -> None:
    class Loud(str):
        pass

    with host.commit() as session:
        session.add(Thing(name=Loud("Ada")))
    assert host.reads() == 1
    assert host.data()[0]["name"] == "Ada"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"day": "2026-01-02"}, {"day": "2026-01-02"}),
        ({"naive": "2026-01-02 03:04"}, {"naive": "2026-01-02T03:04:00"}),
        ({"naive": dt.date(2026, 1, 2)}, {"naive": "2026-01-02T00:00:00"}),
        ({"key": str(uuid.UUID(int=7))}, {"key": str(uuid.UUID(int=7))}),
        ({"text": 70_000 * "x"}, {"text": 70_000 * "x"}),
    ],
)
def test_what_the_database_takes_is_told_whatever_the_app_gave(
    on_postgresql: Host, given: dict[str, Any], told: dict[str, Any]
) -> None:
    _add(on_postgresql, given)
    assert on_postgresql.reads() == 1
    (data,) = on_postgresql.data()
    assert {name: data[name] for name in told} == told


LOUD = """
CREATE TRIGGER loud AFTER INSERT ON thing BEGIN
    UPDATE thing SET name = upper(NEW.name) WHERE id = NEW.id;
END
"""


@pytest.mark.parametrize(
    ("change", "given", "told", "reads"),
    [
        (LOUD, {"name": "Ada"}, {"name": "ADA"}, 1),
        (LOUD.replace("upper(NEW.name)", "5"), {"name": "Ada"}, {"name": "5"}, 1),
        (LOUD.replace("name = upper(NEW.name)", "raw = '5.0'"), {"raw": 5}, {"raw": 5}, 0),
        (LOUD.replace("name = upper(NEW.name)", "raw = 5.5"), {"raw": 5}, {"raw": 5.5}, 1),
        (LOUD.replace("name = upper(NEW.name)", "raw = 'five'"), {"raw": 5}, {"raw": "five"}, 1),
        (LOUD.replace("upper(NEW.name)", "NULL"), {"name": "Ada"}, {"name": None}, 1),
        (LOUD.replace("name = upper(NEW.name)", "done = 0"), {"done": True}, {"done": False}, 1),
        ("", {"naive": dt.datetime(2026, 1, 2)}, {"naive": "2026-01-02T00:00:00"}, 0),
        ("", {"naive": dt.date(2026, 1, 2)}, {"naive": "2026-01-02T00:00:00"}, 1),
        ("", {"aware": dt.datetime(2026, 1, 2, tzinfo=UTC)}, {"aware": "2026-01-02T00:00:00"}, 1),
        ("", {"text": 70_000 * "x"}, {"text": 70_000 * "x"}, 1),
    ],
)
def test_what_sqlite_makes_of_it_is_told(
    on_sqlite: Host, change: str, given: dict[str, Any], told: dict[str, Any], reads: int
) -> None:
    if change:
        on_sqlite.execute(change)
    _add(on_sqlite, given)
    assert on_sqlite.reads() == reads
    (data,) = on_sqlite.data()
    assert json.dumps({name: data[name] for name in told}) == json.dumps(told)


@pytest.mark.parametrize("limit", ["SQLITE_LIMIT_FUNCTION_ARG", "SQLITE_LIMIT_EXPR_DEPTH"])
@pytest.mark.skipif(sys.version_info < (3, 11), reason="limits cannot be set")
def test_a_statement_that_sqlite_does_not_take_fails_no_commit(on_sqlite: Host, limit: str) -> None:
    def lower(connection: Any, record: Any) -> None:
        connection.setlimit(getattr(sqlite3, limit), 8)

    sa.event.listen(on_sqlite.engine, "connect", lower)
    on_sqlite.engine.dispose()
    with on_sqlite.commit() as session:
        session.add_all([Thing(name="Ada")])
    assert on_sqlite.reads() == 1, on_sqlite.statements
    assert [data["name"] for data in on_sqlite.data()] == ["Ada"]


def test_a_lock_is_no_refusal() -> None:
    error = sa.exc.OperationalError("", None, sqlite3.OperationalError("database is locked"))
    assert not is_refusal(error)


def test_what_sqlite_makes_of_a_generated_column_is_told(on_sqlite: Host) -> None:
    on_sqlite.execute("ALTER TABLE thing RENAME COLUMN text TO typed")
    on_sqlite.execute("ALTER TABLE thing ADD text TEXT AS (json_quote(name)) VIRTUAL")
    on_sqlite.execute("INSERT INTO thing (id, owner, name) VALUES (7, '1', 'x')")
    with on_sqlite.commit() as session:
        session.get_one(Thing, 7).name = '"x"'
    assert on_sqlite.data()[0]["text"] == json.dumps('"x"')


def test_texts_that_utf_16_loses_are_read(sqlite_url: str) -> None:
    with host_of(sqlite_url) as host:
        _add(host, {"name": "\ufffe"})
        assert host.reads() == 1


def test_what_the_driver_makes_of_a_text_is_told(on_sqlite: Host) -> None:
    def latin(connection: Any, record: Any) -> None:
        connection.text_factory = lambda text: text.decode("latin-1")

    sa.event.listen(on_sqlite.engine, "connect", latin)
    on_sqlite.engine.dispose()
    _add(on_sqlite, {"name": "\xe9"})
    with on_sqlite.engine.connect() as connection:
        connection.connection.dbapi_connection.text_factory = str  # type: ignore[union-attr]
        (text,) = connection.scalars(sa.select(TABLES.event.c.data))
    assert json.loads(text)["name"] == "\xc3\xa9"


def test_a_drivers_own_converters_are_heeded(
    on_sqlite: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sqlite3.converters, "VARCHAR", bytes.decode)  # type: ignore[attr-defined]
    _add(on_sqlite, {"name": "Ada"})
    assert on_sqlite.reads() == 1


def test_a_blob_in_the_place_of_a_text_is_no_error(on_sqlite: Host) -> None:
    on_sqlite.execute(LOUD.replace("name = upper(NEW.name)", "text = x'41'"))
    with pytest.raises(CaptureError, match="bytes"):  # what reading it comes to
        _add(on_sqlite, {"text": "A"})


def test_a_time_in_another_zone_is_read(on_postgresql: Host) -> None:
    name = on_postgresql.engine.url.database
    on_postgresql.execute(f"ALTER DATABASE {name} SET timezone = 'Asia/Tokyo'")
    on_postgresql.engine.dispose()
    moment = dt.datetime(2026, 1, 2, 3, tzinfo=UTC)
    for same in (moment, moment.astimezone(dt.timezone(dt.timedelta(hours=9)))):
        assert on_postgresql.assumed is not None
        on_postgresql.assumed._to_spare = 0
        _add(on_postgresql, {"aware": same})
        assert on_postgresql.reads() == 1
    assert [data["aware"] for data in on_postgresql.data()] == 2 * ["2026-01-02T12:00:00+09:00"]


def test_who_is_never_right_soon_stops_to_assume(on_postgresql: Host) -> None:
    on_postgresql.execute(TRIGGER)
    tried: list[int] = []
    for number in range(30):
        _add(on_postgresql, {"name": "Ada"})
        assert on_postgresql.reads() == 1
        if len(on_postgresql.statements) > 3:  # beside the two inserts and the read
            tried.append(number)
    assert tried == [0, 2, 6, 14]
    assumed = on_postgresql.assumed
    assert assumed is not None
    for _ in range(20):
        assumed.tell(False)
    assert assumed._to_spare == MOST_SPARED
    assumed._to_spare = 0
    on_postgresql.execute("DROP TRIGGER shout ON thing")
    for _ in range(2):
        _add(on_postgresql, {"name": "Bob"})
        assert on_postgresql.reads() == 0
    assert [data["name"] for data in on_postgresql.data()] == 30 * ["ADA"] + 2 * ["Bob"]


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
NUMBERS = st.integers(-(2**63), 2**63 - 1)
MOMENTS = st.datetimes(dt.datetime(2, 1, 2), dt.datetime(9998, 1, 1))
VALUES = st.fixed_dictionaries(
    {},
    optional={
        "name": TEXTS,
        "text": TEXTS,
        "done": st.booleans(),
        "number": NUMBERS,
        "day": st.dates(dt.date(2, 1, 1)),
        "naive": MOMENTS,
        "aware": st.datetimes(
            dt.datetime(2, 1, 3), dt.datetime(9998, 1, 1), timezones=st.just(UTC)
        ),
        "key": st.uuids(),
    },
)


@given(first=VALUES, then=VALUES)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_told_is_what_would_be_read(
    host: Host, first: dict[str, Any], then: dict[str, Any]
) -> None:
    """To the byte, for all that a record of these types can hold."""
    on_sqlite = host.engine.dialect.name == "sqlite"  # stores times without their zones
    made = dt.datetime(2026, 1, 1, tzinfo=None if on_sqlite else UTC)
    texts: list[list[str]] = []
    read = 0
    assumed = host.assumed
    assert assumed is not None
    for spared in (0, 10**9):
        assumed._spared, assumed._to_spare = 0, spared
        with host.engine.begin() as connection:
            connection.execute(TABLES.event.delete())
            connection.exec_driver_sql("DELETE FROM thing")
        with host.commit() as session:
            session.add(Thing(id=7, made=made, **first))
        if not spared:
            read = host.reads()
        with host.commit() as session:
            thing = session.get_one(Thing, 7)
            for name, value in then.items():
                setattr(thing, name, value)
        event = TABLES.event
        with host.engine.connect() as connection:
            found = connection.execute(
                sa.select(event.c.data, event.c.previous).order_by(event.c.sequence)
            )
            texts.append([str(tuple(row)) for row in found])
    assert texts[0] == texts[1]
    told_anew = on_sqlite and first.get("aware") is not None
    assert read == told_anew, "it was not assumed"


def test_kinds_of_columns_that_are_never_assumed() -> None:
    class Other(orm.DeclarativeBase):
        pass

    class Odd(Other):
        __tablename__ = "odd"
        id = sa.Column(sa.Integer, primary_key=True)
        owner = sa.Column(sa.String(20))
        price = sa.Column(sa.Numeric(9, 2))
        size = sa.Column(sa.Float)
        at = sa.Column(sa.DateTime)

    mapper = sa.inspect(Odd)
    for shown, may_be in (
        ({"id": fields.Integer()}, True),
        ({"price": fields.Decimal()}, False),
        ({"size": fields.Float()}, False),
        ({"at": fields.DateTime(format="%H:%M")}, True),
        ({"at": fields.DateTime(format="%H:%M %Z")}, False),
    ):
        resource = Resource("odd", ma.Schema.from_dict(shown)(), "owner")
        plain = Plain.of(mapper, resource)
        assert plain is not None
        assert (Assumed.of(plain, resource) is not None) == may_be, shown
    watching = Resource(
        "odd", ma.Schema.from_dict({"id": fields.Integer()})(), "owner", watch=["at"]
    )
    assert Assumed.of(Plain.of(mapper, watching), watching) is None
    assert Assumed.of(None, resource) is None


class Loud(sa.types.TypeDecorator[str]):
    impl = sa.String
    cache_ok = True

    def process_result_value(self, value: str | None, dialect: Any) -> str | None:
        return value and value.upper()


@pytest.mark.parametrize(
    ("type_", "may_be"),
    [
        (sa.String(9), True),
        (sa.BigInteger().with_variant(sa.Integer(), "sqlite"), True),
        (sa.String().with_variant(Loud(), "postgresql"), False),
        (Loud(), False),
        (sa.Uuid(), True),
        (sa.Uuid(native_uuid=False), False),
        (sa.Uuid(as_uuid=False), False),
        (sa.Enum("a", "b"), False),
        (sa.LargeBinary(), False),
    ],
)
def test_types_of_columns_that_may_be_assumed(type_: Any, may_be: bool) -> None:
    class Other(orm.DeclarativeBase):
        pass

    odd = type(
        "Odd",
        (Other,),
        {
            "__tablename__": "odd",
            "id": sa.Column(sa.Integer, primary_key=True),
            "value": sa.Column(type_),
            "owner": sa.Column(sa.String(20)),
        },
    )
    resource = Resource("odd", ma.Schema.from_dict({"value": fields.Raw()})(), "owner")
    plain = Plain.of(sa.inspect(odd), resource)
    assert plain is not None
    assert (Assumed.of(plain, resource) is not None) == may_be
