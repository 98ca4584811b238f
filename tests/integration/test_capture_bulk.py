"""Bulk statements, which the unit of work does not see, are told like everything else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from capture_world import World
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql, sqlite

ROWS = [{"id": 1, "owner_id": 1, "name": "a"}, {"id": 2, "owner_id": 1, "name": "b"}]
CREATES = [("contact.create", "contact:1", None), ("contact.create", "contact:2", None)]


@pytest.fixture
def world(capture_world: World) -> World:
    return capture_world


@pytest.fixture
def lines(world: World) -> list[Any]:
    """Three lines of one order, with amounts 1, 2 and 3."""
    lines = [world.Line(order_id=1, position=n, amount=n) for n in (1, 2, 3)]
    world.session.add_all(lines)
    world.session.commit()
    world.events()
    world.wakes = 0
    return lines


@pytest.fixture
def lonely(postgresql_url: str) -> Iterator[World]:
    """An app with a pool of one connection: there is no other to look with."""
    world = World(postgresql_url, engine={"pool_size": 1, "max_overflow": 0, "pool_timeout": 1})
    yield world
    world.close()


def commit_just_before(world: World, statement: str) -> None:
    """Another one inserts a line before the first statement with that in it is executed."""
    elsewhere = sa.create_engine(world.engine.url, poolclass=sa.NullPool)
    done: list[str] = []

    def commit_another(*args: Any) -> None:
        if statement in args[2] and not done:
            done.append(args[2])
            with elsewhere.begin() as connection:
                connection.execute(
                    sa.insert(world.Line.__table__).values(order_id=1, position=9, amount=7)
                )

    world.listen(world.engine, "before_cursor_execute", commit_another)


def upsert(world: World, model: Any) -> Any:
    dialect: Any = {"sqlite": sqlite, "postgresql": postgresql}[world.engine.dialect.name]
    return dialect.insert(model)


def seen(result: Any) -> dict[str, Any]:
    """What a caller can see of a result."""
    facts: dict[str, Any] = {}
    for name in ("rowcount", "returns_rows", "is_insert", "lastrowid"):
        facts[name] = getattr(result, name, None)
    if not facts["is_insert"]:
        # What a connection of SQLite's inserted last, whenever that was.
        facts["lastrowid"] = None
    elif facts["lastrowid"] is None:
        # How many rows psycopg inserted is unknown (-1) without capture, and known with it.
        del facts["rowcount"]
    try:
        facts["keys"] = list(result.keys())
        facts["rows"] = [tuple(getattr(item, "name", item) for item in row) for row in result.all()]
        if not facts["rows"]:
            # An UPDATE or DELETE that the ORM made to return keys for itself seems to return rows.
            facts |= {"returns_rows": False, "keys": [], "rows": []}
    except sa.exc.ResourceClosedError:
        facts |= {"returns_rows": False, "keys": [], "rows": []}
    return facts


def as_without(
    world: World, execute: Callable[[orm.Session], Any], told: list[tuple[str, str | None, Any]]
) -> None:
    """The caller sees what it would see without capture, and the events are those."""
    with orm.Session(world.engine) as plain:
        expected = execute(plain)
    actual = execute(world.session())
    assert actual == expected
    world.session.commit()
    assert world.told() == told
    assert world.wakes == 1


class TestInsert:
    def test_parameters_in_a_list(self, world: World) -> None:
        as_without(
            world, lambda session: seen(session.execute(sa.insert(world.Contact), ROWS)), CREATES
        )

    def test_parameters_in_a_dictionary(self, world: World) -> None:
        as_without(
            world,
            lambda session: seen(session.execute(sa.insert(world.Contact), ROWS[0])),
            CREATES[:1],
        )

    def test_parameters_of_different_shapes(self, world: World) -> None:
        rows = [*ROWS, {"id": 3, "owner_id": 1}, {"id": 4, "name": "x"}]
        as_without(
            world,
            lambda session: seen(session.execute(sa.insert(world.Contact), rows)),
            [*CREATES, ("contact.create", "contact:3", None)],
        )

    def test_one_row_of_values(self, world: World) -> None:
        def execute(session: orm.Session) -> Any:
            result: Any = session.execute(sa.insert(world.Contact).values(ROWS[0]))
            return seen(result), tuple(result.inserted_primary_key)

        as_without(world, execute, CREATES[:1])

    def test_several_rows_of_values(self, world: World) -> None:
        as_without(
            world,
            lambda session: seen(session.execute(sa.insert(world.Contact).values(ROWS))),
            CREATES,
        )

    def test_keys_that_the_database_makes(self, world: World) -> None:
        world.session.execute(sa.insert(world.Contact).values(owner_id=1, name="a"))
        world.session.execute(sa.insert(world.Contact), [{"owner_id": 1, "name": "b"}] * 2)
        world.session.commit()
        assert [event.data["full_name"] for event in world.events()] == ["a", "b", "b"]

    def test_from_a_select(self, world: World) -> None:
        world.session.add_all([world.Log(id=1, text="a"), world.Log(id=2, text="b")])
        world.session.commit()
        statement = sa.insert(world.Contact).from_select(
            ["id", "owner_id", "name"], sa.select(world.Log.id, sa.literal(1), world.Log.text)
        )
        as_without(world, lambda session: seen(session.execute(statement)), CREATES)

    @pytest.mark.parametrize("style", ["list", "values"])
    @pytest.mark.parametrize("returning", ["columns", "record", "key", "mixed", "expression"])
    def test_returning(self, world: World, style: str, returning: str) -> None:
        contact = world.Contact
        columns: dict[str, tuple[Any, ...]] = {
            "columns": (contact.name, contact.status),
            "record": (contact,),
            "key": (contact.id,),
            "mixed": (contact.name, contact, contact.id),
            "expression": ((contact.name + "!").label("loud"),),
        }
        statement = sa.insert(contact).returning(*columns[returning])

        def execute(session: orm.Session) -> Any:
            if style == "list":
                return seen(session.execute(statement, ROWS))
            return seen(session.execute(statement.values(ROWS)))

        as_without(world, execute, CREATES)

    def test_returning_scalars_in_the_order_of_the_parameters(self, world: World) -> None:
        statement = sa.insert(world.Contact).returning(world.Contact, sort_by_parameter_order=True)

        def execute(session: orm.Session) -> Any:
            return [contact.name for contact in session.scalars(statement, ROWS)]

        as_without(world, execute, CREATES)

    def test_a_scalar(self, world: World) -> None:
        statement = sa.insert(world.Contact).returning(world.Contact.name)
        as_without(world, lambda session: session.scalar(statement, ROWS[:1]), CREATES[:1])

    def test_records_that_are_returned_are_the_sessions_own(self, world: World) -> None:
        statement = sa.insert(world.Contact).returning(world.Contact)
        first, _ = world.session.scalars(statement, ROWS)
        assert first in world.session
        first.name = "Grace"
        world.session.commit()
        assert [event.data["full_name"] for event in world.events()] == ["Grace", "b"]

    def test_returning_a_star(self, world: World) -> None:
        star: Any = sa.text("*")
        insert = sa.insert(world.Line).values(order_id=1, position=2, amount=3).returning(star)
        update = sa.update(world.Line).values(amount=4).returning(star)
        assert world.session.execute(insert).all() == [(1, 2, 3)]
        assert world.session.execute(update).all() == [(1, 2, 4)]
        world.session.commit()
        [event] = world.events()
        assert (event.resource, event.data["amount"]) == ("line:1,2", 4)

    def test_a_thousand_rows_are_not_read_one_by_one(self, world: World) -> None:
        statements: list[str] = []
        world.listen(
            world.engine, "before_cursor_execute", lambda *args: statements.append(args[2])
        )
        rows = [{"owner_id": 1, "name": f"c{n}"} for n in range(1000)]
        world.session.execute(sa.insert(world.Contact), rows)
        world.session.execute(sa.update(world.Contact).values(score=5))
        world.session.commit()
        world.session.execute(sa.update(world.Contact).values(score=6))
        world.session.commit()
        world.session.execute(sa.delete(world.Contact))
        world.session.commit()
        types = [event.type for event in world.events()]
        assert types == [
            f"contact.{verb}" for verb in ("create", "update", "delete") for _ in range(1000)
        ]
        assert len(statements) < 150

    def test_rolled_back_with_a_savepoint(self, world: World) -> None:
        savepoint = world.session.begin_nested()
        world.session.execute(sa.insert(world.Contact), ROWS)
        savepoint.rollback()
        world.session.commit()
        assert world.told() == []

    def test_a_composite_key(self, world: World) -> None:
        world.session.execute(
            sa.insert(world.Line), [{"order_id": 1, "position": n, "amount": n} for n in (1, 2)]
        )
        world.session.commit()
        assert [told[1] for told in world.told()] == ["line:1,1", "line:1,2"]

    def test_a_statement_that_fails_leaves_nothing(self, world: World) -> None:
        with pytest.raises(sa.exc.IntegrityError), world.session.begin_nested():
            world.session.execute(sa.insert(world.Contact), [ROWS[0], ROWS[0]])
        world.session.commit()
        assert world.told() == []


class TestUpsert:
    @pytest.mark.parametrize("style", ["list", "values"])
    @pytest.mark.parametrize("returning", [False, True])
    def test_what_exists_is_updated_and_the_rest_made(
        self, world: World, style: str, returning: bool
    ) -> None:
        world.contact(id=7, name="Ada", email="a@example.com")
        statement = upsert(world, world.Contact)
        statement = statement.on_conflict_do_update(
            index_elements=["email"],
            set_={"name": statement.excluded.name, "version": world.Contact.version},
        )
        if returning:
            statement = statement.returning(world.Contact.name)
        rows = [
            {"id": 7, "owner_id": 1, "name": "Grace", "email": "a@example.com"},
            {"id": 8, "owner_id": 1, "name": "Edith", "email": "b@example.com"},
        ]

        def execute(session: orm.Session) -> Any:
            if style == "list":
                return seen(session.execute(statement, rows))
            return seen(session.execute(statement.values(rows)))

        as_without(
            world,
            execute,
            [
                ("contact.create", "contact:8", None),
                ("contact.update", "contact:7", {"full_name": "Ada", "shout": "ADA"}),
            ],
        )

    def test_a_row_that_stays_as_it_is_is_not_told(self, world: World) -> None:
        world.contact(email="a@example.com")
        statement = upsert(world, world.Contact).values(owner_id=1, email="a@example.com")
        world.session.execute(
            statement.on_conflict_do_update(
                index_elements=["email"], set_={"secret": "hush", "version": world.Contact.version}
            )
        )
        world.session.commit()
        assert world.told() == []

    def test_where_only_creates_are_told_new_rows_are(self, world: World) -> None:
        world.retrack(world.Line, verbs=("create",))
        world.session.add(world.Line(order_id=1, position=1, amount=1))
        world.session.commit()
        world.events()
        statement = upsert(world, world.Line).values(
            [{"order_id": 1, "position": n, "amount": 5} for n in (1, 2)]
        )
        world.session.execute(
            statement.on_conflict_do_update(
                index_elements=["order_id", "position"], set_={"amount": statement.excluded.amount}
            )
        )
        world.session.commit()
        assert world.told() == [("line.create", "line:1,2", None)]

    @pytest.mark.parametrize("returning", [False, True])
    def test_do_nothing_tells_of_the_new_rows_alone(self, world: World, returning: bool) -> None:
        world.contact(id=7, email="a@example.com")
        statement = upsert(world, world.Contact).on_conflict_do_nothing()
        if returning:
            statement = statement.returning(world.Contact.name)
        rows = [
            {"id": 7, "owner_id": 1, "name": "Grace", "email": "a@example.com"},
            {"id": 8, "owner_id": 1, "name": "Edith", "email": "b@example.com"},
        ]
        as_without(
            world,
            lambda session: seen(session.execute(statement.values(rows))),
            [("contact.create", "contact:8", None)],
        )

    def test_a_conflict_with_what_is_pending_in_the_session(self, world: World) -> None:
        world.session.add(world.Contact(owner_id=1, name="Ada", email="a@example.com"))
        statement = upsert(world, world.Contact).values(
            owner_id=1, name="Grace", email="a@example.com"
        )
        world.session.execute(
            statement.on_conflict_do_update(
                index_elements=["email"], set_={"name": statement.excluded.name}
            )
        )
        world.session.commit()
        [event] = world.events()
        assert (event.type, event.data["full_name"]) == ("contact.create", "Grace")

    def test_insert_or_replace(self, sqlite_url: str) -> None:
        world = World(sqlite_url)
        world.session.add(world.Line(order_id=1, position=1, amount=1))
        world.session.commit()
        world.events()
        world.session.execute(
            sa.insert(world.Line)
            .prefix_with("OR REPLACE")
            .values([{"order_id": 1, "position": n, "amount": 5} for n in (1, 2)])
        )
        world.session.commit()
        assert world.told() == [
            ("line.create", "line:1,2", None),
            ("line.update", "line:1,1", {"amount": 1}),
        ]
        world.close()


SYNCHRONIZE: list[Any] = ["auto", "evaluate", "fetch", False]


class TestUpdate:
    @pytest.mark.parametrize("synchronize", SYNCHRONIZE)
    @pytest.mark.parametrize("returning", [False, True])
    def test_where(self, world: World, lines: list[Any], synchronize: Any, returning: bool) -> None:
        line = world.Line
        statement = sa.update(line).where(line.amount >= 2).values(amount=line.amount * 10)
        if returning:
            statement = statement.returning(line.amount, line.position)

        def execute(session: orm.Session) -> Any:
            loaded = session.scalars(sa.select(line).order_by(line.position)).all()
            result = session.execute(
                statement, execution_options={"synchronize_session": synchronize}
            )
            return seen(result), [one.amount for one in loaded]

        as_without(
            world,
            execute,
            [
                ("line.update", "line:1,2", {"amount": 2}),
                ("line.update", "line:1,3", {"amount": 3}),
            ],
        )

    def test_everything(self, world: World, lines: list[Any]) -> None:
        world.session.execute(sa.update(world.Line).values(amount=2))
        world.session.commit()
        assert [told[1] for told in world.told()] == ["line:1,1", "line:1,3"]

    def test_by_primary_key_for_a_list_of_parameters(self, world: World, lines: list[Any]) -> None:
        rows = [{"order_id": 1, "position": n, "amount": 9} for n in (1, 3)]
        as_without(
            world,
            lambda session: seen(session.execute(sa.update(world.Line), rows)),
            [
                ("line.update", "line:1,1", {"amount": 1}),
                ("line.update", "line:1,3", {"amount": 3}),
            ],
        )

    @pytest.mark.parametrize("returning", [False, True])
    def test_by_primary_key_for_no_parameters_at_all(
        self, world: World, lines: list[Any], returning: bool
    ) -> None:
        statement: Any = sa.update(world.Line)
        if returning:
            statement = statement.returning(world.Line.amount)
        world.session.execute(statement, [])
        world.session.commit()
        assert world.told() == []

    def test_bound_parameters(self, world: World, lines: list[Any]) -> None:
        statement = (
            sa.update(world.Line)
            .where(world.Line.position == sa.bindparam("at"))
            .values(amount=sa.bindparam("to"))
        )
        as_without(
            world,
            lambda session: seen(
                session.execute(
                    statement, {"at": 2, "to": 5}, execution_options={"synchronize_session": False}
                )
            ),
            [("line.update", "line:1,2", {"amount": 2})],
        )

    def test_from_another_table(self, world: World, lines: list[Any]) -> None:
        world.session.add(world.Log(id=3))
        world.session.commit()
        statement = (
            sa.update(world.Line).where(world.Line.position == world.Log.id).values(amount=0)
        )
        as_without(
            world,
            lambda session: seen(session.execute(statement)),
            [("line.update", "line:1,3", {"amount": 3})],
        )

    def test_a_subquery(self, world: World, lines: list[Any]) -> None:
        highest = sa.select(sa.func.max(world.Line.position)).scalar_subquery()
        world.session.execute(
            sa.update(world.Line).where(world.Line.position == highest).values(amount=0)
        )
        world.session.commit()
        assert world.told() == [("line.update", "line:1,3", {"amount": 3})]

    def test_an_alias(self, world: World, lines: list[Any]) -> None:
        alias = orm.aliased(world.Line)
        world.session.execute(
            sa.update(alias).where(alias.position == 2).values(amount=0),
            execution_options={"synchronize_session": False},
        )
        world.session.commit()
        assert world.told() == [("line.update", "line:1,2", {"amount": 2})]

    def test_pending_changes_are_flushed_first(self, world: World, lines: list[Any]) -> None:
        lines[0].amount = 50
        world.session.add(world.Line(order_id=1, position=4, amount=50))
        world.session.execute(
            sa.update(world.Line).where(world.Line.amount == 50).values(amount=60)
        )
        world.session.commit()
        create, update = sorted(world.events(), key=lambda event: event.type)
        assert (create.data["amount"], create.resource) == (60, "line:1,4")
        assert (update.data["amount"], update.previous) == (60, {"amount": 1})

    def test_what_is_pending_decides_whom_the_statement_touches(
        self, world: World, lines: list[Any]
    ) -> None:
        world.session.add(world.Log(id=2))
        highest = sa.select(sa.func.max(world.Log.id)).scalar_subquery()
        world.session.execute(
            sa.update(world.Line).where(world.Line.position == highest).values(amount=0)
        )
        world.session.commit()
        assert world.told() == [("line.update", "line:1,2", {"amount": 2})]

    @pytest.mark.parametrize("returning", [False, True])
    @pytest.mark.parametrize("synchronize", SYNCHRONIZE)
    def test_what_others_commit_just_before_is_told_without_what_it_was(
        self, lonely: World, returning: bool, synchronize: Any
    ) -> None:
        commit_just_before(lonely, "UPDATE line")
        statement = sa.update(lonely.Line).values(amount=lonely.Line.amount + 1)
        if returning:
            statement = statement.returning(lonely.Line.amount)
        result = lonely.session.execute(
            statement, execution_options={"synchronize_session": synchronize}
        )
        assert result.scalars().all() == [8] if returning else result.rowcount == 1
        lonely.session.commit()
        [event] = lonely.events()
        assert (event.type, event.resource) == ("line.update", "line:1,9")
        assert (event.data["amount"], event.previous) == (8, None)

    def test_what_others_commit_just_before_can_be_deleted_then(self, lonely: World) -> None:
        commit_just_before(lonely, "UPDATE line")
        lonely.session.execute(sa.update(lonely.Line).values(amount=8))
        lonely.session.execute(sa.delete(lonely.Line))
        lonely.session.commit()
        assert lonely.told() == [("line.delete", "line:1,9", None)]

    def test_what_others_commit_while_many_are_looked_at_is_told(self, lonely: World) -> None:
        rows = [{"order_id": 2, "position": n, "amount": n} for n in range(501)]
        lonely.session.execute(sa.insert(lonely.Line), rows)
        lonely.session.commit()
        lonely.events()
        commit_just_before(lonely, "FOR NO KEY UPDATE")
        lonely.session.execute(sa.update(lonely.Line).values(amount=1))
        lonely.session.commit()
        assert ("line.update", "line:1,9", {"amount": 7}) in lonely.told()

    def test_changed_and_restored_makes_nothing(self, world: World, lines: list[Any]) -> None:
        for change in (1, -1):
            world.session.execute(sa.update(world.Line).values(amount=world.Line.amount + change))
        world.session.commit()
        assert world.told() == []

    def test_the_legacy_query(self, world: World, lines: list[Any]) -> None:
        query = world.session.query(world.Line).filter(world.Line.amount > 1)
        assert query.update({"amount": 9}) == 2
        world.session.commit()
        assert len(world.told()) == 2
        assert world.session.query(world.Line).filter_by(position=1).delete() == 1
        world.session.commit()
        assert world.told() == [("line.delete", "line:1,1", None)]

    def test_a_new_primary_key_is_another_record(self, world: World, lines: list[Any]) -> None:
        world.session.execute(
            sa.update(world.Line).where(world.Line.position == 3).values(position=7)
        )
        world.session.commit()
        assert world.told() == [
            ("line.create", "line:1,7", None),
            ("line.delete", "line:1,3", None),
        ]

    def test_a_new_primary_key_takes_no_second_connection(self, lonely: World) -> None:
        lonely.session.add(lonely.Line(order_id=1, position=3, amount=3))
        lonely.session.commit()
        lonely.events()
        lonely.session.execute(sa.update(lonely.Line).values(position=7))
        lonely.session.commit()
        assert lonely.told() == [
            ("line.create", "line:1,7", None),
            ("line.delete", "line:1,3", None),
        ]

    def test_a_hosts_own_criteria_are_kept(self, world: World, lines: list[Any]) -> None:
        only = orm.with_loader_criteria(world.Line, world.Line.position == 1)
        world.session.execute(sa.update(world.Line).values(amount=9).options(only))
        world.session.commit()
        assert world.told() == [("line.update", "line:1,1", {"amount": 1})]


class TestDelete:
    @pytest.mark.parametrize("synchronize", SYNCHRONIZE)
    @pytest.mark.parametrize("returning", [False, True])
    def test_where(self, world: World, lines: list[Any], synchronize: Any, returning: bool) -> None:
        line = world.Line
        statement = sa.delete(line).where(line.amount >= 2)
        if returning:
            statement = statement.returning(line.amount)

        def execute(session: orm.Session) -> Any:
            return seen(
                session.execute(statement, execution_options={"synchronize_session": synchronize})
            )

        with orm.Session(world.engine) as plain:
            expected = execute(plain)
        world.session.expunge_all()
        assert execute(world.session()) == expected
        world.session.commit()
        two, three = world.events()
        assert (two.type, two.resource, two.data["amount"]) == ("line.delete", "line:1,2", 2)
        assert three.data["amount"] == 3

    @pytest.mark.parametrize("returning", [False, True])
    @pytest.mark.parametrize("synchronize", SYNCHRONIZE)
    def test_what_others_commit_just_before_is_told(
        self, lonely: World, returning: bool, synchronize: Any
    ) -> None:
        own = lonely.Line(order_id=1, position=1, amount=1)
        lonely.session.add(own)
        lonely.session.commit()
        lonely.events()
        lonely.session.refresh(own)
        commit_just_before(lonely, "DELETE FROM line")
        statement = sa.delete(lonely.Line)
        if returning:
            statement = statement.returning(lonely.Line.amount)
        result = lonely.session.execute(
            statement, execution_options={"synchronize_session": synchronize}
        )
        if returning:
            assert sorted(result.scalars().all()) == [1, 7]
        else:
            assert result.rowcount == 2
        assert (own in lonely.session) is (synchronize is False)
        lonely.session.commit()
        one, nine = lonely.events()
        assert (one.type, one.data["amount"]) == ("line.delete", 1)
        assert (nine.type, nine.data["amount"]) == ("line.delete", 7)

    def test_a_savepoint_of_the_hosts_outlives_the_statement(
        self, world: World, lines: list[Any]
    ) -> None:
        world.session.execute(sa.delete(world.Line).where(world.Line.position == 1))
        savepoint = world.session.begin_nested()
        world.session.execute(sa.delete(world.Line))
        savepoint.rollback()
        world.session.commit()
        assert world.told() == [("line.delete", "line:1,1", None)]

    def test_a_delete_in_autocommit_is_let_through(self, postgresql_url: str) -> None:
        world = World(postgresql_url, engine={"isolation_level": "AUTOCOMMIT"})
        world.session.add(world.Line(order_id=1, position=1, amount=1))
        world.session.commit()
        world.events()
        world.session.execute(sa.delete(world.Line))
        world.session.commit()
        assert world.told() == [("line.delete", "line:1,1", None)]
        world.close()

    def test_deleted_and_inserted_again_makes_an_update(
        self, world: World, lines: list[Any]
    ) -> None:
        world.session.execute(sa.delete(world.Line))
        world.session.execute(
            sa.insert(world.Line), [{"order_id": 1, "position": n, "amount": 2} for n in (1, 2)]
        )
        world.session.commit()
        assert world.told() == [
            ("line.delete", "line:1,3", None),
            ("line.update", "line:1,1", {"amount": 1}),
        ]

    def test_in_a_savepoint_that_rolls_back(self, world: World, lines: list[Any]) -> None:
        savepoint = world.session.begin_nested()
        world.session.execute(sa.delete(world.Line))
        savepoint.rollback()
        world.session.commit()
        assert world.told() == []
