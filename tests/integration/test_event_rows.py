"""Rows of the event table, few and many, as both databases hold them."""

from __future__ import annotations

import datetime as dt
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from flask_resthooks import event_rows, formats, models
from flask_resthooks.event_rows import EventRows, Row, event_row


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def table(engine: sa.Engine) -> sa.Table:
    metadata = sa.MetaData()
    tables = models.define(metadata)
    tables.event.create(engine)
    return tables.event


def rows(count: int) -> list[Row]:
    odd = 'ä"\\%(x)s :y ?\n\U0001f600\x7f'
    return [
        event_row(
            f"thing.{number}",
            odd if number % 2 else str(number),
            None if number % 3 else f"{odd}:{number}",
            formats.to_json({"odd": odd, "nul": "\0", "number": number}),
            None if number % 2 else formats.to_json({"odd": odd}),
            url=None if number % 5 else f"https://example.com/{odd}",
        )
        for number in range(count)
    ]


def held(connection: sa.Connection, table: sa.Table) -> list[dict[str, Any]]:
    columns = [table.c[name] for name in event_rows.NAMES]
    found = connection.execute(sa.select(*columns).order_by(table.c.sequence))
    return [dict(row) for row in found.mappings()]


@pytest.mark.parametrize("count", [1, 2, 500])
@pytest.mark.parametrize("together", [0, event_rows.MAX_TOGETHER])
def test_rows_are_held_as_they_were_made_and_in_their_order(
    engine: sa.Engine,
    table: sa.Table,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    together: int,
) -> None:
    monkeypatch.setattr(event_rows, "MAX_TOGETHER", together)
    made = rows(count)
    with engine.connect() as connection:
        EventRows(table).write(connection, made)
        assert held(connection, table) == made


def test_times_are_held_to_the_microsecond(engine: sa.Engine, table: sa.Table) -> None:
    made = rows(4)
    zone = dt.timezone(dt.timedelta(hours=2))
    for row, moment in zip(
        made,
        (
            dt.datetime(2026, 1, 1, 12, tzinfo=dt.timezone.utc),
            dt.datetime(2026, 1, 1, 12, 0, 0, 1, tzinfo=dt.timezone.utc),
            dt.datetime(2026, 1, 1, 12, 0, 0, 999_999, tzinfo=zone),
            dt.datetime(9998, 12, 31, tzinfo=dt.timezone.utc),
        ),
        strict=True,
    ):
        row["created_at"] = moment
    with engine.connect() as connection:
        EventRows(table).write(connection, made[:1])
        EventRows(table).write(connection, made[1:])
        assert held(connection, table) == made


@pytest.mark.parametrize("count", [1, 3])
def test_a_schema_that_is_translated_is_written_to(
    engine: sa.Engine, table: sa.Table, count: int
) -> None:
    sqlite = engine.dialect.name == "sqlite"
    made = rows(count)
    written = EventRows(table)
    with engine.connect() as connection:
        attach = "ATTACH ':memory:' AS other" if sqlite else "CREATE SCHEMA other"
        connection.exec_driver_sql(attach)
        elsewhere = connection.execution_options(schema_translate_map={None: "other"})
        table.create(elsewhere)
        written.write(elsewhere, made)
        assert held(elsewhere, table) == made
        connection.rollback()


@pytest.mark.parametrize("name", ["before_execute", "after_execute"])
@pytest.mark.parametrize("count", [1, 3])
def test_who_listens_to_statements_is_heard(
    engine: sa.Engine, table: sa.Table, name: str, count: int
) -> None:
    seen: list[str] = []

    def listen(connection: Any, statement: Any, *more: Any) -> None:
        seen.append(type(statement).__name__)

    made, written = rows(count), EventRows(table)
    with engine.connect() as connection:
        sa.event.listen(engine, name, listen)
        written.write(connection, made)
        assert seen == ["Insert"]
        sa.event.remove(engine, name, listen)
        assert held(connection, table) == made


def test_an_engine_that_is_used_no_more_is_not_kept() -> None:
    table = models.define(sa.MetaData()).event
    written = EventRows(table)

    def use() -> weakref.ref[sa.Dialect]:
        engine = sa.create_engine("sqlite://")
        table.create(engine)
        with engine.begin() as connection:
            written.write(connection, rows(1))
        engine.dispose()
        return weakref.ref(engine.dialect)

    used = use()
    gc.collect()
    assert used() is None
