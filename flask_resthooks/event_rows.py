"""Engine: rows of the event table: made, and written by one statement for many.

difference, or what is emitted ──► **event rows** ──► the outbox
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from . import formats, ids
from .assumed import Assumed, as_read, is_refusal
from .errors import CaptureError
from .models import EVENT, OWNER_LENGTH, utcnow
from .representation import RESOURCE_LENGTH
from .texts import is_unicode

Row = dict[str, Any]

NAMES = ["id", "kind", "type", "owner", "resource", "url", "created_at", "data", "previous"]
"""The columns of a row that are written."""

MAX_TOGETHER = 4_194_304
"""Characters of data that are sent to PostgreSQL as one parameter."""


class EventRows:
    """Writes rows of one event table."""

    def __init__(self, table: sa.Table) -> None:
        # Nobody asks for the sequence that a row got.
        self.insert = table.insert().inline()
        self._together = _together(table)
        self._types = {name: table.c[name].type for name in NAMES}
        self._prepared = _ByDialect(self.insert, self._types)
        self._conditional: weakref.WeakKeyDictionary[Assumed, dict[str, _ByDialect]] = (
            weakref.WeakKeyDictionary()
        )

    def write(self, connection: sa.Connection, rows: list[Row]) -> None:
        """Write some rows (not none), in their order."""
        if len(rows) > 1 and connection.dialect.name == "postgresql":
            size = sum(len(row["data"]) + len(row["previous"] or "") for row in rows)
            if size <= MAX_TOGETHER:
                # Of a statement for each row, PostgreSQL and its driver make twice the work.
                connection.execute(self._together, {"rows": json.dumps(rows, default=str)})
                return
        if _needs_statements(connection):
            connection.execute(self.insert, rows)
            return
        self._prepared.execute(connection, rows)

    def write_if(
        self, connection: sa.Connection, row: Row, assumed: Assumed, parameters: dict[str, Any]
    ) -> bool:
        """Write a row if the database holds of its record what was assumed; whether it was written.

        :param connection: to one of `assumed.DIALECTS`.
        :param parameters: of `assumed`, for that dialect.
        """
        if _needs_statements(connection) or not as_read(connection):
            return False
        dialect = connection.dialect.name
        of_assumed = self._conditional.setdefault(assumed, {})
        prepared = of_assumed.get(dialect)
        if prepared is None:
            prepared = of_assumed[dialect] = self._under(assumed, dialect)
        values = {f"event_{name}": row[name] for name in NAMES}
        try:
            count = prepared.execute(connection, [{**parameters, **values}])
        except sa.exc.OperationalError as error:
            if not is_refusal(error):
                raise
            count = 0
        if count not in (0, 1):  # a driver that does not say: it may be there
            table = self.insert.table
            connection.execute(table.delete().where(table.c.id == row["id"]))
        assumed.tell(count == 1)
        return count == 1

    def _under(self, assumed: Assumed, dialect: str) -> _ByDialect:
        """The `insert` under a condition."""
        given = [sa.bindparam(f"event_{name}", type_=self._types[name]) for name in NAMES]
        chosen = sa.select(*given).where(assumed.conditions[dialect])
        insert = self.insert.from_select(NAMES, chosen, include_defaults=False)
        types = {f"event_{name}": type_ for name, type_ in self._types.items()} | assumed.types
        return _ByDialect(insert, types)


def _needs_statements(connection: sa.Connection) -> bool:
    """Whether somebody listens to the statements themselves, and not to their text only, or has
    them name other schemas."""
    listeners: Any = connection.dispatch
    return bool(
        listeners.before_execute
        or listeners.after_execute
        or connection.get_execution_options().get("schema_translate_map")
    )


class _ByDialect:
    """An `insert`, compiled once for each dialect.

    :param types: of those parameters whose values may have to be translated.
    """

    def __init__(self, insert: sa.Insert, types: Mapping[str, sa.types.TypeEngine[Any]]) -> None:
        self._insert = insert
        self._types = types
        self._prepared: weakref.WeakKeyDictionary[sa.Dialect, _Prepared] = (
            weakref.WeakKeyDictionary()
        )

    def execute(self, connection: sa.Connection, rows: list[Row]) -> int:
        """How many rows of the database it was."""
        prepared = self._prepared.get(connection.dialect)
        if prepared is None:
            prepared = _Prepared(self._insert, self._types, connection.dialect)
            self._prepared[connection.dialect] = prepared
        return prepared.execute(connection, rows)


class _Prepared:
    """An `insert` that was compiled once: SQLAlchemy's part of one row is as much as SQLite's.

    It refers to nothing of the dialect that it is for: it is kept for as long as that is.
    """

    def __init__(
        self,
        insert: sa.Insert,
        types: Mapping[str, sa.types.TypeEngine[Any]],
        dialect: sa.Dialect,
    ) -> None:
        compiled: Any = insert.compile(dialect=dialect, column_keys=NAMES)
        self._text = str(compiled)
        order: list[str] | None = compiled.positiontup
        self._order = None if order is None else [*order]
        self._processed = [
            (name, type_) for name, type_ in types.items() if _processor(type_, dialect) is not None
        ]

    def execute(self, connection: sa.Connection, rows: list[Row]) -> int:
        processors: list[tuple[str, Any]] = [
            (name, _processor(type_, connection.dialect)) for name, type_ in self._processed
        ]
        given: list[Any] = [self._given(row, processors) for row in rows]
        made = connection.exec_driver_sql(self._text, given if len(given) > 1 else given[0])
        return made.rowcount

    def _given(self, row: Row, processors: list[tuple[str, Any]]) -> Any:
        given = row.copy()
        for name, process in processors:
            given[name] = process(given[name])
        return given if self._order is None else tuple([given[name] for name in self._order])


def _processor(type_: sa.types.TypeEngine[Any], dialect: sa.Dialect) -> Callable[[Any], Any] | None:
    return type_.dialect_impl(dialect).bind_processor(dialect)


def _together(table: sa.Table) -> sa.Insert:
    """For PostgreSQL: all rows as one JSON text, whose order is that of the sequences."""
    types: dict[str, Any] = {"created_at": sa.DateTime(timezone=True)}
    columns = [sa.column(name, types.get(name, sa.Text())) for name in NAMES]
    rows = sa.cast(sa.bindparam("rows", type_=sa.Text()), postgresql.JSON)
    read = sa.func.json_to_recordset(rows).table_valued(*columns).render_derived(with_types=True)
    return table.insert().inline().from_select(NAMES, sa.select(*read.c), include_defaults=False)


def event_row(
    event_type: str,
    owner: str,
    resource: str | None,
    data: str,
    previous: str | None = None,
    *,
    url: str | None = None,
    payload: str = formats.FULL,
) -> Row:
    """A row of the event table; its sequence is made by the database.

    :param payload: of the event type. What a thin one does not tell is not even stored; and of more
        than `formats.MAX_DATA`, nobody could be told, and few databases would take it.
    :raises CaptureError: if a database would not take it: in the app's own words, and not in those
        of a driver in the middle of its commit.
    """
    _check_text(event_type, "owner", owner, OWNER_LENGTH)
    if resource is not None:
        _check_text(event_type, "resource", resource, RESOURCE_LENGTH)
    if url is not None:
        _check_text(event_type, "URL", url, None)
    if payload == formats.THIN or len(data) + len(previous or "") > formats.MAX_DATA:
        data, previous = formats.thin(resource, url), None
    return {
        "id": ids.new(ids.EVENT),
        "kind": EVENT,
        "type": event_type,
        "owner": owner,
        "resource": resource,
        "url": url,
        "created_at": utcnow(),
        "data": data,
        "previous": previous,
    }


def _check_text(event_type: str, what: str, text: Any, longest: int | None) -> None:
    if not isinstance(text, str):
        wrong = f"is no text but a {type(text).__name__}"
    elif longest is not None and len(text) > longest:
        wrong = f"has {len(text)} characters; {longest} are allowed"
    elif "\0" in text or not is_unicode(text):
        wrong = f"holds a NUL or half of a surrogate pair: {text[:100]!r}"
    else:
        return
    raise CaptureError(f"no {event_type} can be made: its {what} {wrong}")
