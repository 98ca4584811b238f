"""Engine: a record as its session has it, if the database holds the same.

What is told of a record is what the database holds of it, which costs a round trip to read: half of
what an event adds to a commit on PostgreSQL. Nearly always that is what the session has in memory.
So its event is written under the condition that it is, by the statement that writes it. The
database compares; where anything differs (a trigger, a column of another type than the model's, a
default), no row is written, and the record is read.

Only for values of which their text in JSON, and the type of their column, say all there is to know.
"""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Callable, Mapping
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


@dataclass(frozen=True)
class _Kind:
    """Values that come back as they were given.

    :param python: their type.
    :param columns: the types that a column may have in PostgreSQL for that, by name.
    :param text: what stands for one in JSON; None if it may come back as another one.
    """

    python: type
    columns: str
    text: Callable[[Any], Any]


_as_json = json.JSONEncoder(ensure_ascii=False).encode


def _as_it_is(value: Any) -> Any:
    return value


def _moment(value: dt.datetime) -> str | None:
    """As PostgreSQL writes it in JSON: without zeros at its end.

    In another zone than UTC, it would come back in the zone of whoever reads it.
    """
    if value.utcoffset():
        return None
    text = value.isoformat(timespec="microseconds")
    return f"{text[:19]}{text[19:26].rstrip('0').rstrip('.')}{text[26:]}"


_INTEGER = _Kind(int, "smallint,integer,bigint", _as_it_is)
_TEXT = _Kind(str, "text,character varying,character", _as_it_is)
_MOMENT = _Kind(dt.datetime, "timestamp without time zone,timestamp with time zone", _moment)

KINDS: Mapping[type, _Kind] = {
    sa.BigInteger: _INTEGER,
    sa.Boolean: _Kind(bool, "boolean", _as_it_is),
    sa.Date: _Kind(dt.date, "date", dt.date.isoformat),
    sa.DateTime: _MOMENT,
    sa.Integer: _INTEGER,
    sa.SmallInteger: _INTEGER,
    sa.String: _TEXT,
    sa.Text: _TEXT,
    sa.Unicode: _TEXT,
    sa.UnicodeText: _TEXT,
    sa.Uuid: _Kind(uuid.UUID, "uuid", str),
}
"""By the type of a column in its model. What is no such value, and no None, is read."""


def _kind(type_: Any) -> _Kind | None:
    if "postgresql" in type_._variant_mapping:  # another type there
        return None
    if isinstance(type_, sa.Uuid) and not (type_.native_uuid and type_.as_uuid):
        return None
    return KINDS.get(type(type_))


class Assumed:
    """What sessions have in memory of the records of one mapped class that is read as rows.

    `types`: those of the parameters that are a record's key.
    """

    def __init__(self, plain: Plain, kinds: list[_Kind]) -> None:
        self._plain = plain
        self._kinds = kinds
        keys, columns = plain.keys, [*plain.keys, *plain.columns.values()]
        self.types = {f"key_{n}": key.type for n, key in enumerate(keys)}
        there = sa.cast(sa.func.json_build_array(*columns), sa.Text)
        held = sa.and_(
            *[key == sa.bindparam(f"key_{n}", type_=key.type) for n, key in enumerate(keys)],
            there == sa.bindparam("assumed", type_=sa.Text),
            *[
                sa.cast(sa.func.pg_typeof(column), sa.Text)
                == sa.any_(sa.literal_column(f"'{{{kind.columns}}}'::text[]"))
                for column, kind in zip(columns, kinds, strict=True)
            ],
        )
        self.condition = sa.exists().where(held)
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

    def parameters(self, found: Found) -> dict[str, Any] | None:
        """Of `condition`; None if there is a value that may come back as another one."""
        assert found.values is not None
        key = found.key[1]
        given: list[Any] = []
        for value, kind in zip((*key, *found.values.values()), self._kinds, strict=True):
            if value is None:
                given.append(None)
            elif type(value) is not kind.python or (text := kind.text(value)) is None:
                return None
            else:
                given.append(text)
        assumed = _as_json(given)
        if len(assumed) > MOST_TEXT or not is_unicode(assumed):
            return None
        return {"assumed": assumed, **{f"key_{n}": value for n, value in enumerate(key)}}

    def tell(self, was_right: bool) -> None:
        """What came of it: an assumption that is never right costs a round trip, too."""
        self._spared = 0
        self._to_spare = 0 if was_right else min(2 * self._to_spare + 1, MOST_SPARED)
