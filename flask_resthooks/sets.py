"""Truth: many values, and many rows, in one statement, and in one answer.

The statement's text is the same for any number of them: SQLAlchemy, the driver and the database
each prepare it once. A list of 500 parameters takes longer to build and to parse than the rows to
find.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

MOST_PARAMETERS = 900
"""Of one statement; SQLite's builds allow 999 at least."""


def among(column: sa.Column[Any], values: Collection[Any]) -> sa.ColumnElement[bool]:
    """`column IN (values)`, with all values in one parameter."""
    given = sa.bindparam(None, list(values), _Several(column.type), unique=True)
    return _among(column, given)


class _Several(sa.types.TypeDecorator[Any]):
    """Values of one type: an array for PostgreSQL, a JSON text for SQLite."""

    impl = sa.types.NullType
    cache_ok = True

    def __init__(self, item: sa.types.TypeEngine[Any]) -> None:
        super().__init__()
        self.item = item

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        several = sa.Text() if dialect.name == "sqlite" else sa.ARRAY(self.item)
        return dialect.type_descriptor(several)

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:
        return json.dumps(value) if dialect.name == "sqlite" else value


class _among(FunctionElement[bool]):
    type = sa.Boolean()
    inherit_cache = True
    # Else SQLAlchemy makes `… IN (…) = 1` of it, for which SQLite takes no index.
    _is_implicitly_boolean = True


@compiles(_among)
def _equals_any(element: _among, compiler: Any, **options: Any) -> str:
    column, values = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{column} = ANY ({values})"


@compiles(_among, "sqlite")
def _in_json(element: _among, compiler: Any, **options: Any) -> str:
    column, values = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({values}))"


def insert_rows(
    connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Insert rows that all have the same columns: many of them with one statement.

    A statement for each would cost PostgreSQL, which gets an array per column, more than the row.
    With SQLite, Python lets other threads go on at each, and then waits until it may go on itself.
    """
    names = list(rows[0])
    types = [table.c[name].type for name in names]
    if connection.dialect.name == "sqlite":
        _insert_into_sqlite(connection, table, names, types, rows)
        return
    arrays = [
        sa.bindparam(name, type_=_Several(type_)) for name, type_ in zip(names, types, strict=True)
    ]
    unnested = sa.func.unnest(*arrays).table_valued(*names, name="given").render_derived()
    some = sa.select(*[unnested.c[name] for name in names])
    given = {name: [row[name] for row in rows] for name in names}
    connection.execute(table.insert().from_select(names, some, include_defaults=False), given)


def _insert_into_sqlite(
    connection: sa.Connection,
    table: sa.Table,
    names: Sequence[str],
    types: Sequence[sa.types.TypeEngine[Any]],
    rows: Sequence[Mapping[str, Any]],
) -> None:
    binds = [type_.dialect_impl(connection.dialect) for type_ in types]
    makers = [bind.bind_processor(connection.dialect) for bind in binds]
    columns = list(zip(names, makers, strict=True))
    at_once = MOST_PARAMETERS // len(names)
    begin = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES "
    marks = f"({', '.join('?' * len(names))})"
    for start in range(0, len(rows), at_once):
        some = rows[start : start + at_once]
        values = [make(row[name]) if make else row[name] for row in some for name, make in columns]
        connection.exec_driver_sql(begin + ", ".join([marks] * len(some)), tuple(values))


def rows_of(connection: sa.Connection, select: sa.Select[Any]) -> Sequence[Sequence[Any]]:
    """The rows that a SELECT finds, of texts, whole numbers, truth values and times.

    Of SQLite they come in one piece: at each row, Python lets other threads go on, and then waits
    until it may go on itself. That piece is several times as long as the rows: for short ones.

    :param connection: with SQLite, in a transaction.
    :param select: columns of different names.
    :raises ValueError: and whatever else the columns' types raise for a value that they cannot
        read.
    """
    if connection.dialect.name != "sqlite":
        return connection.execute(select).all()
    inner = select.subquery()
    piece = sa.func.json_group_array(sa.func.json_array(*inner.c))
    # A newer SQLite takes some of them for JSON.
    blobs = sa.func.max(sa.or_(*[sa.func.typeof(column) == "blob" for column in inner.c]))
    try:
        text, damaged = connection.execute(sa.select(piece, blobs)).one()
        rows: list[list[Any]] = [] if damaged else json.loads(text or "[]")
    except (sa.exc.DBAPIError, ValueError):  # a damaged value has no place in JSON
        raw: Any = connection.connection.dbapi_connection
        if not raw.in_transaction:  # no such thing: SQLite has given it all up
            raise
        damaged = True
    if damaged:
        return connection.execute(select).all()
    for place, column in enumerate(inner.c):
        type_ = column.type.dialect_impl(connection.dialect)
        read = type_.result_processor(connection.dialect, None)
        if read is not None:
            for row in rows:
                row[place] = read(row[place])
    return rows


class bytes_of(FunctionElement[int]):
    """How many bytes a column of texts in ASCII holds, without reading them, where possible."""

    type = sa.Integer()
    inherit_cache = True


@compiles(bytes_of)
def _octet_length(element: bytes_of, compiler: Any, **options: Any) -> str:
    return f"octet_length({compiler.process(element.clauses, **options)})"


@compiles(bytes_of, "sqlite")  # which knows the other one since 3.43 only
def _length(element: bytes_of, compiler: Any, **options: Any) -> str:
    return f"length({compiler.process(element.clauses, **options)})"
