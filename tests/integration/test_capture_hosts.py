"""Hosts of many kinds: two-phase, several databases, session classes, dataclasses, much data."""

from __future__ import annotations

import gc
import json
import random
import re
import tracemalloc
from collections.abc import Iterator
from typing import Any

import flask_sqlalchemy.session
import marshmallow as ma
import pytest
import sqlalchemy as sa
from capture_world import World
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import orm
from sqlalchemy.dialects import sqlite

from flask_resthooks import models
from flask_resthooks.capture import Capture, Resource
from flask_resthooks.event_types import EventTypes
from flask_resthooks.reader import Reader


class NameSchema(ma.Schema):
    id = ma.fields.Integer()
    name = ma.fields.String()


class TextSchema(ma.Schema):
    id = ma.fields.String()


class Plain:
    """Capture without Flask, on a session and an engine as SQLAlchemy makes them by default."""

    def __init__(self, url: str, base: Any = None, **session: Any) -> None:
        self.engine = sa.create_engine(url)
        self.Base: Any = base or orm.declarative_base()
        self.tables = models.define(self.Base.metadata)
        self.wakes = 0
        self.capture = Capture(self.tables, EventTypes(), self.wake)
        self.sessions: Any = orm.sessionmaker(self.engine, **session)
        self.capture.listen(self.sessions)

    def wake(self) -> None:
        self.wakes += 1

    def track(self, model: Any, name: str = "thing", schema: Any = None) -> None:
        self.capture.track(model, Resource(name, schema or NameSchema(), lambda record: 1))
        self.Base.metadata.create_all(self.engine)

    def told(self) -> list[Any]:
        event = self.tables.event
        with self.engine.begin() as connection:
            rows = connection.execute(event.select().order_by(event.c.sequence)).all()
            connection.execute(event.delete())
        return [
            (row.type, json.loads(row.data), row.previous and json.loads(row.previous))
            for row in rows
        ]


@pytest.fixture
def plain(database_url: str) -> Iterator[Plain]:
    plain = Plain(database_url)
    yield plain
    plain.engine.dispose()


def thing(plain: Plain, schema: Any = None, **columns: Any) -> Any:
    values = {
        "__tablename__": "thing",
        "id": sa.Column(sa.Integer, primary_key=True),
        "name": sa.Column(sa.String(50), unique=True),
        **columns,
    }
    model = type("Thing", (plain.Base,), values)
    plain.track(model, schema=schema)
    return model


class TestDriverDefaults:
    """Also with pysqlite's own, late beginning of transactions."""

    def test_the_whole_life_of_a_record(self, plain: Plain) -> None:
        model = thing(plain)
        with plain.sessions() as session:
            record = model(name="a")
            session.add(record)
            session.commit()
            record.name = "b"
            session.commit()
            record.name = "c"
            session.flush()
            session.rollback()
            session.delete(record)
            session.commit()
        assert plain.told() == [
            ("thing.create", {"id": 1, "name": "a"}, None),
            ("thing.update", {"id": 1, "name": "b"}, {"name": "a"}),
            ("thing.delete", {"id": 1, "name": "b"}, None),
        ]
        assert plain.wakes == 3

    def test_bulk_statements_and_upserts(self, plain: Plain) -> None:
        model = thing(plain)
        dialect: Any = sqlite if plain.engine.dialect.name == "sqlite" else sa.dialects.postgresql
        upsert = dialect.insert(model).values([{"name": "a"}, {"name": "b"}])
        upsert = upsert.on_conflict_do_update(
            index_elements=["name"], set_={"name": upsert.excluded.name + "!"}
        )
        with plain.sessions() as session:
            session.execute(sa.insert(model), [{"id": 5, "name": "a"}])
            session.commit()
            session.execute(upsert)
            session.rollback()
            assert session.scalars(sa.select(model.name)).all() == ["a"]
            session.execute(upsert)
            session.commit()
            session.execute(sa.update(model).values(name=model.name + "?"))
            session.execute(sa.delete(model))
            session.commit()
        told = plain.told()
        assert [event[0] for event in told] == [
            "thing.create",
            "thing.update",
            "thing.create",
            "thing.delete",
            "thing.delete",
        ]
        assert told[1][1:] == ({"id": 5, "name": "a!"}, {"name": "a"})

    def test_a_change_does_not_wait_for_a_reader(self, plain: Plain) -> None:
        model = thing(plain)
        with plain.sessions() as session, plain.sessions() as other:
            session.add(model(name="a"))
            session.commit()
            assert other.get(model, 1).name == "a"
            other.rollback()
            session.get(model, 1).name = "b"
            session.commit()
        assert len(plain.told()) == 2


class TestTwoPhase:
    @pytest.fixture
    def plain(self, postgresql_url: str) -> Iterator[Plain]:
        plain = Plain(postgresql_url, twophase=True)
        yield plain
        plain.engine.dispose()

    @pytest.mark.parametrize("prepare", [False, True])
    def test_events_are_prepared_with_the_rest(self, plain: Plain, prepare: bool) -> None:
        model = thing(plain)
        with plain.sessions() as session:
            record = model(name="a")
            session.add(record)
            if prepare:
                session.prepare()
                assert plain.wakes == 0
            session.commit()
            record.name = "b"
            session.commit()
        assert plain.told() == [
            ("thing.create", {"id": 1, "name": "a"}, None),
            ("thing.update", {"id": 1, "name": "b"}, {"name": "a"}),
        ]
        assert plain.wakes == 2

    def test_a_rollback_after_prepare_leaves_nothing(self, plain: Plain) -> None:
        model = thing(plain)
        with plain.sessions() as session:
            session.add(model(name="a"))
            session.prepare()
            session.rollback()
        assert plain.told() == []
        assert plain.wakes == 0


class TestSeveralDatabases:
    def test_records_elsewhere_are_told_where_the_events_are(
        self, database_url: str, tmp_path: Any
    ) -> None:
        world = World(database_url, binds={"other": f"sqlite:///{tmp_path}/other.db"})
        db: Any = world.db

        class Elsewhere(db.Model):
            __bind_key__ = "other"
            id = sa.Column(sa.Integer, primary_key=True)
            name = sa.Column(sa.String(50))

        db.create_all()
        world.track(Elsewhere, "elsewhere", NameSchema(), lambda record: 1)
        record = Elsewhere(name="a")
        world.session.add_all([record, world.Contact(owner_id=1)])
        world.session.commit()
        record.name = "b"
        world.session.commit()
        world.session.execute(sa.update(Elsewhere).values(name="c"))
        world.session.execute(sa.insert(Elsewhere), [{"id": 2, "name": "d"}])
        world.session.commit()
        assert world.told() == [
            ("contact.create", "contact:1", None),
            ("elsewhere.create", "elsewhere:1", None),
            ("elsewhere.create", "elsewhere:2", None),
            ("elsewhere.update", "elsewhere:1", {"name": "a"}),
            ("elsewhere.update", "elsewhere:1", {"name": "b"}),
        ]
        world.close()

    def test_a_session_that_reads_elsewhere_is_read_where_it_writes(self, tmp_path: Any) -> None:
        plain = Plain(f"sqlite:///{tmp_path}/leader.db")
        follower = sa.create_engine(f"sqlite:///{tmp_path}/follower.db")

        class Routing(orm.Session):
            def get_bind(self, mapper: Any = None, clause: Any = None, **options: Any) -> Any:
                if self._flushing or isinstance(clause, sa.Update | sa.Delete | sa.Insert):
                    return plain.engine
                return follower

        model = thing(plain)
        sessions = orm.sessionmaker(class_=Routing)
        plain.capture.listen(sessions)
        with sessions() as session:
            record = model(id=1, name="a")
            session.add(record)
            session.commit()
            session.execute(sa.update(model).values(name="b").where(model.id == 1))
            session.commit()
        assert [event[0] for event in plain.told()] == ["thing.create", "thing.update"]
        plain.engine.dispose()
        follower.dispose()


class TestSessions:
    def test_a_session_class_of_the_hosts_own(self, database_url: str) -> None:
        class Own(flask_sqlalchemy.session.Session):
            pass

        world = World(database_url, class_=Own)
        assert isinstance(world.session(), Own)
        world.session.add(world.Contact(owner_id=1))
        world.session.commit()
        assert world.told() == [("contact.create", "contact:1", None)]
        world.close()

    def test_listening_to_every_session_there_is(self, plain: Plain) -> None:
        model = thing(plain)

        class Every(orm.Session):
            pass

        plain.capture.listen(Every)
        with Every(plain.engine) as session:
            session.add(model(name="a"))
            session.execute(sa.update(model).values(name="b"))
            session.commit()
        assert plain.told() == [("thing.create", {"id": 1, "name": "b"}, None)]

    def test_a_session_without_autoflush(self, database_url: str) -> None:
        world = World(database_url, autoflush=False)
        contact = world.contact()
        contact.name = "Grace"
        world.session.execute(sa.update(world.Contact).values(score=7))
        assert sa.inspect(contact).modified
        world.session.commit()
        [event] = world.events()
        assert (event.data["full_name"], event.data["score"]) == ("Grace", 7)
        world.close()

    def test_a_session_in_a_transaction_of_a_connection(self, plain: Plain) -> None:
        model = thing(plain)
        with plain.engine.connect() as connection, connection.begin() as outer:
            with plain.sessions(bind=connection) as session:
                record = model(name="a")
                session.add(record)
                session.commit()
                record.name = "b"
                session.commit()
            count = sa.select(sa.func.count()).select_from(plain.tables.event)
            assert connection.scalar(count) == 2
            outer.rollback()
        assert plain.told() == []


class TestModels:
    def test_dataclasses(self, database_url: str) -> None:
        class Base(orm.MappedAsDataclass, orm.DeclarativeBase):
            pass

        plain = Plain(database_url, base=Base)

        class Thing(Base):
            __tablename__ = "thing"
            id: orm.Mapped[int] = orm.mapped_column(primary_key=True, init=False)
            name: orm.Mapped[str]

        plain.track(Thing)
        with plain.sessions() as session:
            record = Thing(name="a")
            session.add(record)
            session.commit()
            record.name = "b"
            session.commit()
            session.delete(record)
            session.commit()
        assert [event[0] for event in plain.told()] == [
            "thing.create",
            "thing.update",
            "thing.delete",
        ]
        plain.engine.dispose()

    def test_columns_that_are_deferred_or_named_otherwise(self, plain: Plain) -> None:
        class Schema(NameSchema):
            text = ma.fields.String()
            twice = ma.fields.Integer()

        model = thing(
            plain,
            Schema(),
            text=orm.deferred(sa.Column("long_text", sa.Text)),
            twice=orm.column_property(sa.literal_column("2 * id")),
        )
        with plain.sessions() as session:
            session.execute(sa.insert(model), [{"name": "a", "text": "x"}])
            session.commit()
            session.get(model, 1).text = "y"
            session.commit()
        assert plain.told()[1] == (
            "thing.update",
            {"id": 1, "name": "a", "text": "y", "twice": 2},
            {"text": "x"},
        )

    def test_a_key_that_is_too_long_is_hashed(self, plain: Plain) -> None:
        model = thing(plain, TextSchema(), id=sa.Column(sa.String(300), primary_key=True))
        with plain.sessions() as session:
            session.add(model(id="x" * 300, name="a"))
            session.commit()
            resource = session.scalar(sa.select(plain.tables.event.c.resource))
        assert re.fullmatch("thing:[0-9a-f]{32}", resource)

    def test_joined_eager_loading_and_locks_go_together(self, plain: Plain) -> None:
        class Part(plain.Base):  # type: ignore[name-defined,misc]
            __tablename__ = "part"
            id = sa.Column(sa.Integer, primary_key=True)
            thing_id = sa.Column(sa.ForeignKey("thing.id"))

        model = thing(plain, parts=orm.relationship(Part, lazy="joined"))
        with plain.sessions() as session:
            session.add(model(name="a", parts=[Part(), Part()]))
            session.commit()
            session.scalars(sa.select(model)).unique().one().name = "b"
            session.commit()
        assert [event[0] for event in plain.told()] == ["thing.create", "thing.update"]

    def test_a_new_child_does_not_wait_for_its_parents_row(self, postgresql_url: str) -> None:
        world = World(postgresql_url)
        account = world.Account(name="Acme")
        world.session.add(account)
        world.session.commit()
        with world.session.session_factory() as other:
            other.add(world.Contact(owner_id=1, account=other.get(world.Account, 1)))
            other.flush()
            world.session.execute(sa.text("SET lock_timeout = '2s'"))
            account.name = "Bolt"
            world.session.commit()
            other.commit()
        assert len(world.told()) >= 2
        world.close()

    def test_a_mutable_value_changed_in_place(self, plain: Plain) -> None:
        from sqlalchemy.ext.mutable import MutableDict

        class Schema(ma.Schema):
            facts = ma.fields.Raw()

        model = thing(plain, Schema(), facts=sa.Column(MutableDict.as_mutable(sa.JSON)))
        with plain.sessions() as session:
            record = model(facts={"a": 1})
            session.add(record)
            session.commit()
            record.facts["a"] = 2
            session.commit()
        assert plain.told()[1] == ("thing.update", {"facts": {"a": 2}}, {"facts": {"a": 1}})


class TestLocks:
    def test_many_records_are_locked_in_the_order_of_their_keys(self, postgresql_url: str) -> None:
        """As the unit of work updates them: whoever locks in another order waits in a circle."""
        world = World(postgresql_url)
        rows = [{"id": number, "owner_id": 1, "name": "a"} for number in range(1, 1301)]
        world.session.execute(sa.insert(world.Contact), rows)
        world.session.commit()
        contacts = world.session.scalars(sa.select(world.Contact)).all()
        random.Random(7).shuffle(contacts)
        for contact in contacts:
            contact.name = "b"
        locked: list[Any] = []

        @sa.event.listens_for(world.engine, "before_cursor_execute")
        def note(connection: Any, cursor: Any, statement: str, parameters: Any, *rest: Any) -> None:
            if "FOR NO KEY UPDATE" in statement:
                locked.extend(parameters.values())

        world.session.flush()
        assert locked == list(range(1, 1301))
        world.session.rollback()
        world.close()

    def test_texts_are_locked_in_pythons_order_whatever_the_collation(
        self, postgresql_url: str
    ) -> None:
        plain = Plain(postgresql_url)
        model = thing(plain, TextSchema(), id=sa.Column(sa.String(20), primary_key=True))
        keys = ["a", "B", "ä", "_", "b", "A", "é", "Z"]
        with plain.sessions() as session:
            session.add_all([model(id=key, name=key) for key in keys])
            session.commit()
            record_type = plain.capture._record_types.of(model)
            assert record_type is not None
            read = record_type.read(Reader(session), [(key,) for key in keys], lock=True)
            assert [found.key[1][0] for found in read] == sorted(keys)
            # The database's own order depends on its collation.
            assert 'COLLATE "C"' in str(record_type._several[True])
        plain.engine.dispose()


class TestMuch:
    def test_what_is_held_for_many_new_records_is_small(self, sqlite_url: str) -> None:
        plain = Plain(sqlite_url)
        model = thing(plain)
        with plain.sessions() as session:
            session.execute(sa.insert(model), [{"name": "warm"}])
            session.commit()
            gc.collect()
            tracemalloc.start()
            for start in range(0, 10_000, 1000):
                session.execute(
                    sa.insert(model), [{"name": str(start + number)} for number in range(1000)]
                )
            gc.collect()
            held, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            session.commit()
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        # Other threads of this process allocate a little, too.
        assert held / 10_000 < 500
        assert peak - held < 5_000_000
        with plain.engine.connect() as connection:
            count = sa.select(sa.func.count()).select_from(plain.tables.event)
            assert connection.scalar(count) == 10_001
        plain.engine.dispose()


def test_an_app_as_its_host_writes_it(tmp_path: Any) -> None:
    app = Flask("host")
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path}/app.db"
    db: Any = SQLAlchemy()
    tables = models.define(db.metadata)
    capture = Capture(tables, EventTypes(), lambda: None)
    capture.listen(db.session)

    class Thing(db.Model):
        id = sa.Column(sa.Integer, primary_key=True)
        name = sa.Column(sa.String(50))

    capture.track(Thing, Resource("thing", NameSchema(), "name"))
    db.init_app(app)

    @app.post("/<name>")
    def create(name: str) -> str:
        db.session.add(Thing(name=name))
        db.session.commit()
        return name

    with app.app_context():
        db.create_all()
    for name in ("a", "b"):
        assert app.test_client().post(f"/{name}").status_code == 200
    with app.app_context():
        assert db.session.scalars(sa.select(tables.event.c.owner)).all() == ["a", "b"]
        db.engine.dispose()
