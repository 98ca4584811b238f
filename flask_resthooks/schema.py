"""Truth: whether a database has the tables that this version of the package works on.

What is there is looked at: tables, columns, indexes. No version is noted anywhere, for whoever
made the tables (`create_all`, Alembic's autogenerate, our own commands) would have to note it.
What is there beyond that does no harm, as after going back to an older version of the package;
but for a column which must have a value that only a newer version knows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from ._version import __version__
from .errors import SchemaMismatch
from .models import Tables

PREFIX = "resthooks_"

_INVALID = """
SELECT index.relname
  FROM pg_catalog.pg_index
  JOIN pg_catalog.pg_class AS index ON index.oid = indexrelid
  JOIN pg_catalog.pg_namespace AS schema ON schema.oid = index.relnamespace
 WHERE NOT indisvalid AND schema.nspname = :schema
"""

# PostgreSQL's codes for a table and a column that are not there; SQLite has words only.
_UNDEFINED = ("42P01", "42703")
_NOT_THERE = ("no such table", "no such column", "has no column named")


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """What there is of our tables in a database, by the tables' names.

    :param required: those of the columns that every new row must have a value for.
    :param indexes: without those whose build was broken off.
    """

    columns: Mapping[str, Collection[str]]
    required: Mapping[str, Collection[str]]
    indexes: Mapping[str, Collection[str]]

    @classmethod
    def read(cls, connection: sa.Connection, schema: str | None) -> Found:
        inspector = sa.inspect(connection)
        names = [name for name in inspector.get_table_names(schema) if name.startswith(PREFIX)]
        if not names:
            return cls({}, {}, {})
        broken: set[str] = set()
        if connection.dialect.name == "postgresql":
            where = {"schema": schema or inspector.default_schema_name}
            broken.update(connection.scalars(sa.text(_INVALID), where))
        columns = inspector.get_multi_columns(schema, filter_names=names)
        indexes = inspector.get_multi_indexes(schema, filter_names=names)
        return cls(
            {table: [str(each["name"]) for each in some] for (_, table), some in columns.items()},
            {
                table: [str(each["name"]) for each in some if _required(each)]
                for (_, table), some in columns.items()
            },
            {
                table: [str(each["name"]) for each in some if each["name"] not in broken]
                for (_, table), some in indexes.items()
            },
        )


def check_schema(
    engine: sa.Engine, tables: Tables, extensions: Mapping[str, Any], advice: str | None = None
) -> None:
    """See that the tables are those that this version works on.

    :param extensions: the app's; they tell which commands it has.
    :param advice: what to do if something is missing; None: `remedy`.
    :raises SchemaMismatch: it says what is missing, and what is to be run.
    """
    with engine.connect() as connection:
        found = Found.read(connection, tables.event.schema)
    ours = [getattr(tables, each.name) for each in dataclasses.fields(tables)]
    lacking = list(_lacking(found, ours))
    if lacking:
        raise SchemaMismatch(
            f"the database does not fit flask_resthooks {__version__}: it lacks "
            f"{', '.join(lacking)}; {advice or remedy(extensions)}"
        )
    strange = [
        f"{table.name}.{name}"
        for table in ours
        for name in found.required[table.name]
        if name not in table.c
    ]
    if strange:
        raise SchemaMismatch(
            f"the database does not fit flask_resthooks {__version__}: it wants a value for "
            f"{', '.join(strange)}, which a newer version of the package has to give"
        )


def remedy(extensions: Mapping[str, Any]) -> str:
    """What to run when something is missing."""
    if "migrate" in extensions:
        return (
            "run `flask db upgrade`; if no revision adds it yet, `flask resthooks revision` "
            "writes one"
        )
    return "run `flask resthooks upgrade`"


def explain_errors(engine: sa.Engine, extensions: Mapping[str, Any]) -> None:
    """Have errors of this engine say so if it is our tables that do not fit.

    For the app's own processes: there nothing is checked beforehand, and no query is spent on it.
    """

    @sa.event.listens_for(engine, "handle_error")
    def explain(context: sa.ExceptionContext) -> None:
        error = context.sqlalchemy_exception
        ours = error is not None and PREFIX in (context.statement or "")
        if ours and isinstance(error, sa.exc.StatementError) and _is_undefined(error.orig):
            error.add_detail(
                f"flask_resthooks {__version__} needs what the database lacks: {remedy(extensions)}"
            )


def _lacking(found: Found, tables: Collection[sa.Table]) -> Iterator[str]:
    for table in tables:
        if table.name not in found.columns:
            yield f"the table {table.name}"
            continue
        for column in table.columns:
            if column.name not in found.columns[table.name]:
                yield f"the column {table.name}.{column.name}"
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            if index.name not in found.indexes.get(table.name, ()):
                yield f"the index {index.name}"


def _required(column: Mapping[str, Any]) -> bool:
    given = column["default"] is not None or column.get("computed") or column.get("identity")
    return not (column["nullable"] or given)


def _is_undefined(error: BaseException | None) -> bool:
    code = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    return code in _UNDEFINED if code else any(words in str(error) for words in _NOT_THERE)
