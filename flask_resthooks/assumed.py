"""Engine: a record as its session has it, if the database holds the same.

What is told of a record is what the database holds of it, which costs a round trip to read: half of
what an event adds to a commit on PostgreSQL. Nearly always that is what the session has in memory.
So its event is written under the condition that it is, by the statement that writes it. The
database compares; where anything differs (a trigger, a type that is not the model's, a default),
no row is written, and the record is read.

Only for values whose text in JSON says all there is to know of them, type and all.
"""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from .plain import Plain
from .reader import IdentityKey
from .representation import Found

MOST_COLUMNS = 90
"""PostgreSQL's functions take 100 arguments."""

MOST_SPARED = 1024
"""Records of a kind that are read without an attempt, once attempts have failed again and again."""


def _as_it_is(value: Any) -> Any:
    return value


def _iso(value: dt.datetime) -> str:
    """As PostgreSQL writes it in JSON: without zeros at its end."""
    text = value.isoformat(timespec="microseconds")
    return f"{text[:19]}{text[19:26].rstrip('0').rstrip('.')}{text[26:]}"


_INTEGER: Mapping[type, Callable[[Any], Any]] = {int: _as_it_is}
_TEXT: Mapping[type, Callable[[Any], Any]] = {str: _as_it_is}

TYPES: Mapping[type, Mapping[type, Callable[[Any], Any]]] = {
    sa.BigInteger: _INTEGER,
    sa.Boolean: {bool: _as_it_is},
    sa.Date: {dt.date: dt.date.isoformat},
    sa.DateTime: {dt.datetime: _iso},
    sa.Integer: _INTEGER,
    sa.SmallInteger: _INTEGER,
    sa.String: _TEXT,
    sa.Text: _TEXT,
    sa.Unicode: _TEXT,
    sa.UnicodeText: _TEXT,
    sa.Uuid: {uuid.UUID: str},
}
"""Types of columns, each with the types of values that it gives back as they were given, and how
these are written in JSON. What is no such value, and no None, is read."""


class Assumed:
    """What sessions have in memory of the records of one mapped class that is read as rows."""

    def __init__(self, plain: Plain) -> None:
        self._plain = plain
        keys, columns = plain.keys, plain.columns
        self._texts = [TYPES[type(column.type)] for column in (*keys, *columns.values())]
        there = sa.cast(sa.func.json_build_array(*keys, *columns.values()), sa.Text)
        self.condition = sa.and_(
            *[key == sa.bindparam(f"key_{n}", type_=key.type) for n, key in enumerate(keys)],
            there == sa.bindparam("assumed", type_=sa.Text),
        )
        self._spared = 0
        self._to_spare = 0

    @classmethod
    def of(cls, plain: Plain | None) -> Assumed | None:
        """None if a value may come back as another one, or be shown as another one."""
        if plain is None or plain.shows_zones:
            return None
        columns = [*plain.keys, *plain.columns.values()]
        if len(columns) > MOST_COLUMNS or any(type(one.type) not in TYPES for one in columns):
            return None
        return cls(plain)

    def found(self, session: orm.Session, key: IdentityKey) -> Found | None:
        """A record as the session has it; None if it has to be read."""
        if self._spared < self._to_spare or not self._plain.holds():
            self._spared += 1
            return None
        instance = session.identity_map.get(key)
        if instance is None:
            return None
        state = sa.inspect(instance)
        held, names = state.dict, self._plain.columns
        if not state.expired_attributes.isdisjoint(names):
            return None
        return Found(key, {name: held.get(name) for name in names})  # what was not set is NULL

    def parameters(self, found: Found) -> dict[str, Any] | None:
        """Of `condition`; None if there is a value that may come back as another one."""
        assert found.values is not None
        key = found.key[1]
        given: list[Any] = []
        for value, texts in zip((*key, *found.values.values()), self._texts, strict=True):
            if value is None:
                given.append(None)
                continue
            text = texts.get(type(value))
            if text is None:
                return None
            given.append(text(value))
        parameters = {f"key_{n}": value for n, value in enumerate(key)}
        parameters["assumed"] = json.dumps(given, ensure_ascii=False)
        return parameters

    def tell(self, was_right: bool) -> None:
        """What came of it: an assumption that is never right costs a round trip, too."""
        self._spared = 0
        self._to_spare = 0 if was_right else min(2 * self._to_spare + 1, MOST_SPARED)
