"""Many values, and many rows, in one statement, on both databases."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
import sqlalchemy as sa
from world import World

from flask_resthooks import ids
from flask_resthooks.database import Database
from flask_resthooks.outbox import EVERYBODY
from flask_resthooks.sets import among, insert_rows, rows_of

ODD = ["", "a", "it's", 'a"b', "a,b", "{a}", "ü€\U0001f600", "NULL", "a\\b", "%s", "?", "[1]"]


def found(world: World, values: list[Any]) -> list[str]:
    host = world.tables.host.c.host
    with world.engine.connect() as connection:
        return sorted(connection.scalars(sa.select(host).where(among(host, values))))


@pytest.fixture
def hosts(world: World) -> list[str]:
    rows = [{"host": host, "turn_at": world.now, "strikes": 0} for host in [*ODD, "other"]]
    with world.engine.begin() as connection:
        insert_rows(connection, world.tables.host, rows)
    return ODD


def test_what_is_among_the_values_is_found(world: World, hosts: list[str]) -> None:
    assert found(world, hosts) == sorted(hosts)
    for host in hosts:
        assert found(world, [host]) == [host]
    assert found(world, []) == []
    assert found(world, ["a", "a", "b"]) == ["a"]
    assert found(world, [f"host {n}" for n in range(10_000)]) == []


def test_one_statement_text_serves_any_number_of_values(world: World, hosts: list[str]) -> None:
    texts: set[str] = set()

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        texts.add(statement)

    sa.event.listen(world.engine, "before_cursor_execute", note)
    for count in (0, 1, 3, 700):
        found(world, [f"host {n}" for n in range(count)])
    sa.event.remove(world.engine, "before_cursor_execute", note)
    assert len(texts) == 1


def test_numbers_are_found_by_an_index(world: World) -> None:
    world.happen(count=300)
    sequence = world.tables.event.c.sequence
    with world.engine.connect() as connection:
        first, second = connection.scalars(sa.select(sequence).order_by(sequence).limit(2))
        some = sa.select(sequence).where(among(sequence, [second, first, 10**12]))
        assert sorted(connection.scalars(some)) == [first, second]
        if connection.dialect.name != "sqlite":
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        explain = "EXPLAIN " + ("QUERY PLAN " if connection.dialect.name == "sqlite" else "")
        texts: list[str] = []

        def note(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
            texts.append(statement)
            cursor.execute(explain + statement, parameters)
            texts.append(str(cursor.fetchall()))

        sa.event.listen(connection, "before_cursor_execute", note)
        connection.execute(some)
        sa.event.remove(connection, "before_cursor_execute", note)
        assert "SEARCH" in texts[1] or "Index" in texts[1], texts


def test_rows_come_back_as_they_were_inserted(world: World) -> None:
    rows = [
        {
            "id": ids.new(ids.ATTEMPT),
            "delivery_id": ids.new(ids.DELIVERY),
            "number": number,
            "started_at": world.now,
            "duration": 0.25 * number,
            "status_code": 200 if number % 2 else None,
            "error": None,
            "detail": '{it\'s, "so"}' if number % 3 else None,
            "response": "ü\\" * number,
            "request_id": None,
            "next_at": world.now if number == 2 else None,
        }
        for number in range(1, 6)
    ]
    with world.engine.begin() as connection:
        insert_rows(connection, world.tables.attempt, rows)
    assert (
        sorted((dict(row._mapping) for row in world.attempts()), key=lambda r: r["number"]) == rows
    )


def both(world: World, select: sa.Select[Any]) -> list[tuple[Any, ...]]:
    """What a SELECT finds, which is the same in whatever way it is read."""
    with world.engine.connect() as connection:
        found = [tuple(row) for row in rows_of(connection, select)]
        assert found == [tuple(row) for row in connection.execute(select)]
    return found


def test_rows_in_one_piece_are_what_they_are_one_by_one(world: World) -> None:
    world.subscribe("*")
    events = world.happen(count=50)
    world.outbox.fan_out(100, 7.0, EVERYBODY)
    event, delivery = world.tables.event, world.tables.delivery
    some = sa.select(event).order_by(event.c.sequence.desc()).limit(20)
    assert [row[1] for row in both(world, some)] == events[:-21:-1]
    columns = delivery.c.id, delivery.c.due_at, delivery.c.booked, delivery.c.attempts
    found = both(world, sa.select(*columns).order_by(delivery.c.id))
    assert len(found) == 50
    assert {row[1:] for row in found} == {(world.now + dt.timedelta(seconds=7), False, 0)}
    assert both(world, sa.select(event.c.id).where(event.c.id == "none")) == []


@pytest.mark.parametrize("odd", [*ODD, '{"a":"\\u00e9\\n"}', "\x01\x1f\x7f\u2028", "1", "null"])
def test_texts_in_one_piece_stay_as_they_are(world: World, odd: str) -> None:
    world.happen()
    event = world.tables.event
    with world.engine.begin() as connection:
        connection.execute(event.update().values(data=odd, resource=odd[:10]))
    assert both(world, sa.select(event.c.data, event.c.resource)) == [(odd, odd[:10])]


@pytest.mark.parametrize("damaged", ["x'00ff'", "cast(x'ff41' AS text)", "9e999", "-9e999", "1.5"])
def test_what_has_no_place_in_json_is_read_all_the_same(world: World, damaged: str) -> None:
    if world.engine.dialect.name != "sqlite":
        pytest.skip("a column of PostgreSQL's holds nothing but its type")
    world.happen(count=2)
    event = world.tables.event
    with world.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE resthooks_event SET kind = {damaged}")
    select = sa.select(event.c.kind)
    with Database(world.engine).transaction() as connection:
        try:
            rows = [tuple(row) for row in connection.execute(select)]
        except sa.exc.OperationalError:  # no text in UTF-8
            with pytest.raises(sa.exc.OperationalError):
                rows_of(connection, select)
        else:
            assert [tuple(row) for row in rows_of(connection, select)] == rows


def test_a_transaction_that_sqlite_has_given_up_is_not_gone_on_with(world: World) -> None:
    if world.engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL says so itself")
    world.happen()
    event = world.tables.event
    with Database(world.engine).transaction() as connection:
        connection.execute(event.update().values(kind=sa.text("x'00ff'")))
        raw: Any = connection.connection.dbapi_connection
        raw.rollback()
        with world.engine.begin() as other:
            other.execute(event.update().values(kind=sa.text("x'00ff'")))
        with pytest.raises(sa.exc.OperationalError):
            rows_of(connection, sa.select(event.c.kind))
