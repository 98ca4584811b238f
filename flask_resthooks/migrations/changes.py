"""Truth: what a step can change: a new table, a new column, a new index.

A step adds, and what it adds needs nothing of code that does not know it: a column is nullable or
has a constant default. So the tables can be changed first, while workers of the version before
still run, and PostgreSQL need not rewrite a row. Nothing here knows Alembic.

`like` is everywhere the app's metadata: what it says of schema and names of constraints counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy import schema as ddl
from sqlalchemy.ext.compiler import compiles

from ..schema import Found


@dataclass(frozen=True, slots=True)
class AddTable:
    """A table, with its indexes.

    :param items: makes its columns and indexes, new ones at each call.
    :param options: for `sa.Table`.
    """

    table: str
    items: Callable[[], Sequence[sa.schema.SchemaItem]]
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"the table {self.table}"

    def made(self, found: Found) -> bool:
        return self.table in found.columns

    def statements(self, like: sa.MetaData) -> Iterator[sa.Executable]:
        table = self.define(like)
        yield ddl.CreateTable(table)
        yield from map(ddl.CreateIndex, indexes_of(table))

    def lost(self, found: Found) -> list[AddColumn | AddIndex]:
        """What somebody has removed of the table, and can be added again."""
        table = self.define(sa.MetaData())
        columns = [
            AddColumn(self.table, lambda name=name: self._column(name))  # type: ignore[misc]
            for name in table.c.keys()  # noqa: SIM118  (a collection, not a dict)
            if name not in found.columns[self.table]
            and (table.c[name].nullable or table.c[name].server_default is not None)
        ]
        indexes = [
            AddIndex(
                self.table,
                str(index.name),
                [column.name for column in index.columns],
                _condition(index),
                bool(index.unique),
            )
            for index in indexes_of(table)
            if index.name not in found.indexes.get(self.table, ())
        ]
        return [*columns, *indexes]

    def _column(self, name: str) -> sa.Column[Any]:
        return next(
            item for item in self.items() if isinstance(item, sa.Column) and item.name == name
        )

    def define(self, like: sa.MetaData) -> sa.Table:
        return sa.Table(self.table, beside(like), *self.items(), **self.options)


@dataclass(frozen=True, slots=True)
class AddColumn:
    """A column of a table that an earlier step has made.

    :param make: makes the column, a new one at each call.
    """

    table: str
    make: Callable[[], sa.Column[Any]]

    def __post_init__(self) -> None:
        column = self.make()
        if not (column.nullable or column.server_default is not None):
            raise ValueError(f"{self}: rows that there are, and older code, have no value for it")

    def __str__(self) -> str:
        return f"the column {self.table}.{self.make().name}"

    def made(self, found: Found) -> bool:
        return self.make().name in found.columns.get(self.table, ())

    def statements(self, like: sa.MetaData) -> Iterator[sa.Executable]:
        table = sa.Table(self.table, beside(like), self.make())
        yield _AddColumn(table)


@dataclass(frozen=True, slots=True)
class AddIndex:
    """An index of a table that an earlier step has made, and that may be big.

    PostgreSQL builds it `CONCURRENTLY`: commits go on meanwhile. What is left of a build that was
    broken off is removed first: it has the name of an index, and is none.

    :param where: the condition of a partial index.
    """

    table: str
    name: str
    columns: Sequence[str]
    where: str | None = None
    unique: bool = False

    def __str__(self) -> str:
        return f"the index {self.name} of {self.table}"

    def made(self, found: Found) -> bool:
        return self.name in found.indexes.get(self.table, ())

    def statements(self, like: sa.MetaData) -> Iterator[sa.Executable]:
        index = sa.Index(self.name, *self.columns, unique=self.unique, **self.options())
        sa.Table(self.table, beside(like), *map(sa.Column, self.columns), index)
        yield ddl.DropIndex(index, if_exists=True)
        yield ddl.CreateIndex(index)

    def options(self) -> dict[str, Any]:
        """For `sa.Index`, or for Alembic's operation."""
        made: dict[str, Any] = {"postgresql_concurrently": True}
        if self.where is not None:
            made["sqlite_where"] = made["postgresql_where"] = sa.text(self.where)
        return made


Change = AddTable | AddColumn | AddIndex


class _AddColumn(ddl.ExecutableDDLElement):
    """`ALTER TABLE … ADD COLUMN`, which SQLAlchemy leaves to others.

    :param table: with that column alone.
    """

    inherit_cache = False

    def __init__(self, table: sa.Table) -> None:
        self.table = table


@compiles(_AddColumn)
def _add_column(element: _AddColumn, compiler: Any, **options: Any) -> str:
    (column,) = element.table.columns
    name = compiler.preparer.format_table(element.table)
    return f"ALTER TABLE {name} ADD COLUMN {compiler.get_column_specification(column)}"


def _condition(index: sa.Index) -> str | None:
    where = index.dialect_options["postgresql"]["where"]
    return None if where is None else str(where)


def beside(like: sa.MetaData) -> sa.MetaData:
    """Empty metadata of the same kind."""
    return sa.MetaData(schema=like.schema, naming_convention=like.naming_convention)


def indexes_of(table: sa.Table) -> list[sa.Index]:
    return sorted(table.indexes, key=lambda index: str(index.name))
