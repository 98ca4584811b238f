"""Engine: records that nothing but columns is shown of, read without the ORM.

A row of their table is all that there is to know of them: no relationship, no property, no callable
and no hook of a schema that could ask for more. To read it as such takes a third of what an
instance takes, and what is shown of it is the same, for the same fields make it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import marshmallow as ma
import sqlalchemy as sa
from marshmallow import fields
from sqlalchemy import orm

from . import sets
from .reader import (
    PrimaryKey,
    Reader,
    among_keys,
    given_key,
    given_keys,
    one_key,
    reading_is_watched,
    without_and_with_lock,
)
from .representation import Found, Resource

FIELDS = {
    fields.AwareDateTime,
    fields.Boolean,
    fields.Date,
    fields.DateTime,
    fields.Decimal,
    fields.Email,
    fields.Enum,
    fields.Float,
    fields.Integer,
    fields.NaiveDateTime,
    fields.Raw,
    fields.String,
    fields.Time,
    fields.TimeDelta,
    fields.URL,
    fields.UUID,
}
"""Kinds of fields that ask for nothing but their value. A subclass may ask for anything."""

NUMBERS = {sa.BigInteger, sa.Integer, sa.SmallInteger}
"""Types of keys that can be given as one parameter, if the database is one of `ARRAYS`."""

ARRAYS = ("postgresql", "sqlite")
"""The databases for which `sets.among` has words."""

GETTING = ("serialize", "get_value", "_serialize")
"""What of a field makes what it shows."""

DUMPING = ("dump", "_serialize", "get_attribute", "dict_class", "_invoke_dump_processors")
"""What of a schema makes what it shows."""


class Plain:
    """How the records of one mapped class are read and shown without the ORM.

    `keys`: the columns of the primary key; `columns`: those of the attributes that are shown,
    watched, or name the owner; `shows_zones`: the name of a time's zone is shown, which is that of
    whoever read it.
    """

    def __init__(self, mapper: orm.Mapper[Any], resource: Resource, names: list[str]) -> None:
        self._mapper = mapper
        self._identity_key = mapper.identity_key_from_primary_key
        self.keys: list[Any] = list(mapper.primary_key)
        self.columns: dict[str, Any] = {
            name: mapper.column_attrs[name].columns[0] for name in names
        }
        keys = self.keys
        read = sa.select(*keys, *self.columns.values())
        self._one = without_and_with_lock(read.where(one_key(keys)), keys)
        self._several = without_and_with_lock(read.where(among_keys(keys)), keys)
        self._read = without_and_with_lock(read, keys)
        self._number = keys[0] if len(keys) == 1 and type(keys[0].type) in NUMBERS else None
        self._schema: ma.Schema = resource.schema
        self._dump_fields = self._schema.dump_fields
        self._fields = _fingerprint(self._schema)
        self.shows_zones = any(
            isinstance(field, fields.DateTime) and "%Z" in str(field.format)
            for field in self._dump_fields.values()
        )
        self._shown: list[tuple[str, str, str, Any, Callable[..., Any]]] = [
            (
                name if data_key is None else data_key,
                name,
                name if attribute is None else attribute,
                field,
                field._serialize,
            )
            for name, data_key, attribute, field in self._fields
        ]

    @classmethod
    def of(cls, mapper: orm.Mapper[Any], resource: Resource) -> Plain | None:
        """None if there may be more to know of a record than a row."""
        names = _names(resource)
        if names is None or not _is_plain(mapper):
            return None
        attributes = [mapper.column_attrs.get(name) for name in names]
        if not all(
            attribute is not None
            and len(attribute.columns) == 1
            and isinstance(attribute.columns[0], sa.Column)
            and attribute.columns[0].table is mapper.local_table
            and type(attribute.class_attribute) is orm.InstrumentedAttribute
            for attribute in attributes
        ):
            return None
        return cls(mapper, resource, names)

    def holds(self) -> bool:
        """Whether nobody listens to what the ORM would do; who does may have it changed.

        Nor has the schema other fields than it had: what it shows now decides.
        """
        if self._schema.dump_fields is not self._dump_fields:
            return False
        if _fingerprint(self._schema) != self._fields:
            return False
        listeners: Any = self._mapper.class_manager.dispatch
        return not (listeners.load or listeners.refresh or reading_is_watched())

    def read(self, reader: Reader, keys: list[PrimaryKey], lock: bool) -> Iterator[Found]:
        """The records of those keys that exist; see `RecordType.read`."""
        connection = reader.connection_for(self._mapper)
        if len(keys) == 1:
            rows = connection.execute(self._one[lock], given_key(keys[0]))
        elif (
            self._number is not None
            and connection.dialect.name in ARRAYS
            and all(type(key[0]) is int for key in keys)
        ):
            numbers = sets.among(self._number, [key[0] for key in keys])
            rows = connection.execute(self._read[lock].where(numbers))
        else:
            rows = connection.execute(self._several[lock], given_keys(keys))
        width, names, identity_key = len(self.keys), self.columns, self._identity_key
        for row in rows.all():
            yield Found(identity_key(row[:width]), dict(zip(names, row[width:], strict=True)))

    def dump(self, values: dict[str, Any]) -> dict[str, Any]:
        """What the schema's own `dump` makes of a record."""
        shown = {}
        for key, name, attribute, field, serialize in self._shown:
            value = values[attribute]
            if value is ma.missing:
                default = field.dump_default
                value = default() if callable(default) else default
                if value is ma.missing:
                    continue
            shown[key] = serialize(value, name, values)
        return shown


def _fingerprint(schema: ma.Schema) -> list[tuple[str, str | None, str | None, Any]]:
    """What a schema shows: other fields, or the same under other names, are another one."""
    return [
        (name, field.data_key, field.attribute, field) for name, field in schema.dump_fields.items()
    ]


def _is_plain_field(field: Any) -> bool:
    """Whether a field asks for nothing but its value."""
    return (
        type(field) in FIELDS
        and not any(name in vars(field) for name in GETTING)
        and (type(field) is not fields.Enum or _is_plain_field(field.field))
    )


def _attribute(name: str, field: Any) -> str:
    attribute: str | None = field.attribute
    return name if attribute is None else attribute


def _names(resource: Resource) -> list[str] | None:
    """The attributes that are shown, watched, or name the owner; None if there may be more."""
    schema = resource.schema
    plain = (
        isinstance(schema, ma.Schema)
        and not any(getattr(type(schema), name) is not getattr(ma.Schema, name) for name in DUMPING)
        and not any(name in vars(schema) for name in DUMPING)
        and not any(schema._hooks.get(hook) for hook in ("pre_dump", "post_dump"))
        and all(map(_is_plain_field, schema.dump_fields.values()))
        and isinstance(resource.owner, str)
        and resource.url is None
    )
    if not plain:
        return None
    shown = [_attribute(name, field) for name, field in schema.dump_fields.items()]
    return list(dict.fromkeys([*shown, *(resource.watch or ()), str(resource.owner)]))


def _is_plain(mapper: orm.Mapper[Any]) -> bool:
    """Whether a record is a row of one table, and its attributes are what is in its columns."""
    class_ = mapper.class_
    return (
        isinstance(mapper.local_table, sa.Table)
        and mapper.persist_selectable is mapper.local_table
        and mapper.inherits is None
        and mapper.polymorphic_on is None
        and len(list(mapper.self_and_descendants)) == 1
        and getattr(class_, "__getattribute__") is object.__getattribute__  # noqa: B009
        and not hasattr(class_, "__getitem__")
    )
