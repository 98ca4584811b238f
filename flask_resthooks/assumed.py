"""Engine: a record as its session has it, if the database holds the same.

What is told of a record is what the database holds of it. To read it is half of what an event adds
to a commit: on PostgreSQL a round trip, on SQLite a statement. Nearly always it is what the session
has in memory. So its event is written under the condition that it is, by the statement that writes
it. The database compares; where anything differs (a trigger, a column of another type than the
model's, a default), no row is written, and the record is read.

Only for values of which their text in JSON, and the type of their column, say all there is to know.
"""

from __future__ import annotations

import datetime as dt
import json
import operator
import sqlite3
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from .plain import Plain
from .reader import IdentityKey
from .representation import Found, Resource
from .texts import is_unicode

MOST_COLUMNS = 90
"""PostgreSQL's functions take 100 arguments."""

MOST_TEXT = 65_536
"""Characters of a record that are sent to be compared: to read a longer one costs no more."""

MOST_SPARED = 1024
"""Records of a kind that are read without an attempt, once attempts have failed again and again."""


def _as_it_is(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class _Held:
    """How a database holds the values of a kind.

    :param types: that it may have there, by the database's names: those of the column (PostgreSQL),
        or of the value itself (SQLite).
    :param text: what stands for one in JSON; None if it may come back as another one.
    :param compared: what is compared with that, of a column.
    """

    types: str
    text: Callable[[Any], Any]
    compared: Callable[[Any], Any] = _as_it_is


@dataclass(frozen=True)
class _Kind:
    """Values that come back as they were given.

    :param python: their type.
    """

    python: type
    postgresql: _Held
    sqlite: _Held


def _moment(value: dt.datetime) -> str | None:
    """As PostgreSQL writes it in JSON: without zeros at its end.

    In another zone than UTC, it would come back in the zone of whoever reads it.
    """
    if value.utcoffset():
        return None
    text = value.isoformat(timespec="microseconds")
    return f"{text[:19]}{text[19:26].rstrip('0').rstrip('.')}{text[26:]}"


def _stored_moment(value: dt.datetime) -> str | None:
    """As SQLAlchemy stores it in SQLite, without its zone."""
    return value.isoformat(" ", "microseconds") if value.tzinfo is None else None


def _stored_text(value: str) -> str | None:
    """In a database in UTF-16, SQLite may read these two characters as others."""
    return None if "\ufffe" in value or "\uffff" in value else value


def _as_text(column: Any, end: str = "") -> Any:
    """As no more than that: of a generated column, SQLite remembers that it is JSON."""
    return sa.type_coerce(column, sa.Text).concat(sa.literal_column(f"'{end}'"))


def _with_fraction(column: Any) -> Any:
    """SQLite's own `CURRENT_TIMESTAMP` has none."""
    is_short = sa.func.length(column) == sa.literal_column("19")
    return sa.case((is_short, _as_text(column, ".000000")), else_=_as_text(column))


_INTEGER = _Kind(int, _Held("smallint,integer,bigint", _as_it_is), _Held("integer", _as_it_is))
_TEXT = _Kind(
    str,
    _Held("text,character varying,character", _as_it_is),
    _Held("text", _stored_text, _as_text),
)
_MOMENT = _Kind(
    dt.datetime,
    _Held("timestamp without time zone,timestamp with time zone", _moment),
    _Held("text", _stored_moment, _with_fraction),
)

KINDS: Mapping[type, _Kind] = {
    sa.BigInteger: _INTEGER,
    sa.Boolean: _Kind(bool, _Held("boolean", _as_it_is), _Held("integer", int)),
    sa.Date: _Kind(
        dt.date,
        _Held("date", dt.date.isoformat),
        _Held("text", dt.date.isoformat, _as_text),
    ),
    sa.DateTime: _MOMENT,
    sa.Integer: _INTEGER,
    sa.SmallInteger: _INTEGER,
    sa.String: _TEXT,
    sa.Text: _TEXT,
    sa.Unicode: _TEXT,
    sa.UnicodeText: _TEXT,
    sa.Uuid: _Kind(
        uuid.UUID, _Held("uuid", str), _Held("text", operator.attrgetter("hex"), _as_text)
    ),
}
"""By the type of a column in its model. What is no such value, and no None, is read."""

DIALECTS: Mapping[str, Callable[[Any], str]] = {
    "postgresql": json.JSONEncoder(ensure_ascii=False).encode,
    "sqlite": json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode,
}
"""Databases that compare, and JSON as each of them writes it."""


def _kind(type_: Any) -> _Kind | None:
    if isinstance(type_, sa.Uuid) and not (type_.native_uuid and type_.as_uuid):
        return None
    kind = KINDS.get(type(type_))
    there = [type_._variant_mapping[name] for name in DIALECTS if name in type_._variant_mapping]
    return kind if all(_kind(variant) is kind for variant in there) else None


class Assumed:
    """What sessions have in memory of the records of one mapped class that is read as rows.

    `types`: those of the parameters that are a record's key. `conditions`: whether the database
    holds what was assumed, by the name of its dialect.
    """

    def __init__(self, plain: Plain, kinds: list[_Kind]) -> None:
        self._plain = plain
        self._kinds = kinds
        keys, columns = plain.keys, [*plain.keys, *plain.columns.values()]
        self.types = {f"key_{n}": key.type for n, key in enumerate(keys)}
        is_it = sa.and_(
            *[key == sa.bindparam(f"key_{n}", type_=key.type) for n, key in enumerate(keys)]
        )
        compared = {"postgresql": _on_postgresql, "sqlite": _on_sqlite}
        self._held = {name: [getattr(kind, name) for kind in kinds] for name in compared}
        self.conditions = {
            name: sa.exists().where(is_it, compare(columns, self._held[name]))
            for name, compare in compared.items()
        }
        self._spared = 0
        self._to_spare = 0

    @classmethod
    def of(cls, plain: Plain | None, resource: Resource | None) -> Assumed | None:
        """None if a value may come back as another one, or be shown as another one."""
        if plain is None or resource is None or plain.shows_zones:
            return None
        kinds = [_kind(column.type) for column in (*plain.keys, *plain.columns.values())]
        known = [kind for kind in kinds if kind is not None]
        if len(kinds) > MOST_COLUMNS or len(known) < len(kinds):
            return None
        watched = [plain.columns[name] for name in resource.watch or ()]
        if any(isinstance(column.type, sa.DateTime) for column in watched):
            return None  # in the hour that comes twice, no two zones have equal times
        return cls(plain, known)

    def values(self, instance: Any, *, new: bool) -> dict[str, Any] | None:
        """What a session has of a record's columns; None if that is not all.

        :param new: the transaction has made it: what was not set is NULL.
        """
        state = sa.inspect(instance)
        held, names = state.dict, self._plain.columns
        if not state.expired_attributes.isdisjoint(names):
            return None
        if not new and not held.keys() >= names.keys():
            return None
        return {name: held.get(name) for name in names}

    def found(
        self, session: orm.Session, key: IdentityKey, made: dict[str, Any] | None, *, new: bool
    ) -> Found | None:
        """A record as its session has it; None if it has to be read.

        :param made: its values when it was made, if the session has forgotten it since.
        """
        if self._spared < self._to_spare or not self._plain.holds():
            self._spared += 1
            return None
        instance = session.identity_map.get(key)
        values = made if instance is None else self.values(instance, new=new)
        return None if values is None else Found(key, values)

    def parameters(self, found: Found, dialect: str) -> dict[str, Any] | None:
        """Of the condition for that dialect; None if there is a value that may come back as
        another one."""
        assert found.values is not None
        key = found.key[1]
        given: list[Any] = []
        values = (*key, *found.values.values())
        for value, kind, held in zip(values, self._kinds, self._held[dialect], strict=True):
            if value is None:
                given.append(None)
            elif type(value) is not kind.python or (text := held.text(value)) is None:
                return None
            else:
                given.append(text)
        assumed = DIALECTS[dialect](given)
        if len(assumed) > MOST_TEXT or not is_unicode(assumed):
            return None
        return {"assumed": assumed, **{f"key_{n}": value for n, value in enumerate(key)}}

    def tell(self, was_right: bool) -> None:
        """What came of it: an assumption that is never right costs a round trip, too."""
        self._spared = 0
        self._to_spare = 0 if was_right else min(2 * self._to_spare + 1, MOST_SPARED)


_CONVERTERS = {"DATE", "TIMESTAMP"}
"""Python's own, of what is read from SQLite; those that SQLAlchemy's own types live with."""

_REFUSALS = ("too many arguments", "Expression tree", "no such function", "stack overflow")
"""What SQLite says of a statement that it does not take, where its limits were lowered."""


def as_read(connection: sa.Connection) -> bool:
    """Whether the driver gives back a text as it is stored: an app may have told it otherwise."""
    if connection.dialect.name != "sqlite":
        return True
    driver: Any = connection.connection.dbapi_connection
    converters = getattr(sqlite3, "converters", _CONVERTERS)
    return getattr(driver, "text_factory", str) is str and _CONVERTERS.issuperset(converters)


def is_refusal(error: sa.exc.OperationalError) -> bool:
    """Whether it is the statement that the database does not take; then nothing has happened."""
    return any(words in str(error.orig) for words in _REFUSALS)


_ASSUMED = sa.bindparam("assumed", type_=sa.Text)


def _on_postgresql(columns: Sequence[Any], held: Sequence[_Held]) -> sa.ColumnElement[bool]:
    return sa.and_(
        sa.cast(sa.func.json_build_array(*columns), sa.Text) == _ASSUMED,
        *[
            sa.cast(sa.func.pg_typeof(column), sa.Text)
            == sa.any_(sa.literal_column(f"'{{{one.types}}}'::text[]"))
            for column, one in zip(columns, held, strict=True)
        ],
    )


def _on_sqlite(columns: Sequence[Any], held: Sequence[_Held]) -> sa.ColumnElement[bool]:
    """In this order: JSON has no place for a value that is a blob."""
    pairs = list(zip(columns, held, strict=True))
    of_these_types = [
        sa.func.typeof(column).in_(sa.literal_column(f"'{name}'") for name in (one.types, "null"))
        for column, one in pairs
    ]
    as_json = sa.func.json_array(*[one.compared(column) for column, one in pairs])
    there = sa.case((sa.and_(*of_these_types), as_json))
    return there == _ASSUMED
