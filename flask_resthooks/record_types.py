"""Engine: how the records of each mapped class are read, and represented.

keys ──► **one statement for all of them** ──► `Found` ──► `Representation`
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import marshmallow as ma
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import sqlite
from sqlalchemy.orm.interfaces import ORMOption

from . import formats
from .assumed import Assumed
from .errors import ConfigurationError
from .plain import Plain
from .reader import (
    READ_CHUNK,
    Locking,
    PrimaryKey,
    Reader,
    among_keys,
    chunks,
    given_key,
    given_keys,
    one_key,
    without_and_with_lock,
)
from .representation import (
    RESOURCE_LENGTH,
    Found,
    Representation,
    Resource,
    capture_error,
    name_with_key,
    owner_of,
    url_of,
    watched_of,
)

NESTED_DEPTH = 4
UNLOADABLE = ("dynamic", "write_only")
"""Kinds of relationships that cannot be loaded for many records at once."""


class RecordType:
    """How the records of one mapped class are read.

    :param resource: None for a class that is not tracked (but has subclasses that are).
    """

    def __init__(self, mapper: orm.Mapper[Any], resource: Resource | None) -> None:
        self.mapper = mapper
        self.resource = resource
        # Their before-state matters only to these verbs.
        self.looks_back = resource is None or bool({"update", "delete"} & set(resource.verbs))
        keys = [mapper.get_property_by_column(column) for column in mapper.primary_key]
        self.key_names = [key.key for key in keys]
        self.key_attributes: list[Any] = [key.class_attribute for key in keys]
        # The note of a record that the transaction made; one for all.
        self.did_not_exist: tuple[RecordType, None] = (self, None)
        table: Any = mapper.primary_key[0].table
        self.lock_order: tuple[str, str] = (table.fullname, mapper.class_.__qualname__)
        self.write_nothing = str(
            sa.delete(table).where(sa.false()).compile(dialect=sqlite.dialect())
        )
        self._shown = None if resource is None else _shown_names(mapper, resource)
        self._shows_key = resource is not None and set(self.key_names) <= {
            field.attribute or name for name, field in resource.schema.dump_fields.items()
        }
        self.plain = None if resource is None else Plain.of(mapper, resource)
        self.assumed = Assumed.of(self.plain, resource)
        self._one = self._selects(one_key(self.key_attributes))
        self._several = self._selects(among_keys(self.key_attributes))

    def name_of(self, resource: Resource, primary_key: PrimaryKey) -> str:
        """`contact:17`; the parts of a composite key are joined by commas.

        With a hash for a key that the schema does not show, which nobody is to be told, and for one
        that is too long. The same record has the same name always.
        """
        name = name_with_key(resource, primary_key)
        if self._shows_key and len(name) <= RESOURCE_LENGTH:
            return name
        return f"{resource.name}:{hashlib.sha256(name.encode()).hexdigest()[:32]}"

    def may_show(self, names: Iterable[str]) -> bool:
        """Whether a change of one of these attributes can make an event."""
        return self._shown is None or not self._shown.isdisjoint(names)

    def _selects(self, matches: sa.ColumnElement[bool]) -> Locking:
        options = list(_options(self.mapper, self.resource)) if self.resource else []
        below = [mapper.class_ for mapper in self.mapper.self_and_descendants]
        if len(below) > 1 and self.mapper.polymorphic_on is not None:
            options.append(orm.selectin_polymorphic(self.mapper.class_, below[1:]))
        read = sa.select(self.mapper.class_).where(matches).options(*options)
        return without_and_with_lock(read, self.mapper.primary_key)

    def read(
        self, reader: Reader, keys: Iterable[PrimaryKey], *, lock: bool = False
    ) -> Iterator[Found]:
        """The records of those keys that exist; each is good until the next is asked for.

        :param lock: let nobody else change them until the transaction ends. They are locked in
            the order in which the unit of work updates: else two that meet wait for each other.
        """
        if lock:
            keys = self._sorted(keys)
        for chunk in chunks(keys, READ_CHUNK):
            if self.plain is not None and self.plain.holds():
                yield from self.plain.read(reader, chunk, lock)
                continue
            # A list of one costs SQLAlchemy much more than one.
            statements, parameters = (
                (self._one, given_key(chunk[0]))
                if len(chunk) == 1
                else (self._several, given_keys(chunk))
            )
            for instance in reader.session.scalars(statements[lock], parameters).unique():
                yield Found(sa.inspect(instance).identity_key, instance=instance)
            reader.session.expunge_all()

    def _sorted(self, keys: Iterable[PrimaryKey]) -> list[PrimaryKey]:
        keys = list(keys)
        functions = [column.type.sort_key_function for column in self.mapper.primary_key]

        def sort_key(key: PrimaryKey) -> PrimaryKey:
            pairs = zip(functions, key, strict=True)
            return tuple(function(value) if function else value for function, value in pairs)

        try:
            return sorted(keys, key=sort_key if any(functions) else None)
        except TypeError:
            # Given by a bulk statement, in several types: the unit of work would refuse them.
            return sorted(keys, key=repr)


def represent(record_type: RecordType, resource: Resource, found: Found) -> Representation:
    """A record as its resource shows it now.

    :raises CaptureError: if the schema or the owner callable raises, or shows what is not JSON.
    """
    owner = owner_of(resource, found)
    try:
        if record_type.plain is not None and found.values is not None:
            data = formats.to_json(record_type.plain.dump(found.values))
        else:
            data = formats.to_json(resource.schema.dump(found.instance, many=False))
        too_long = len(data) > formats.MAX_DATA
        return Representation(
            resource,
            record_type.name_of(resource, found.key[1]),
            owner,
            # Kept until the commit, for each record that a transaction touches.
            hashlib.sha256(data.encode()).hexdigest() if too_long else data,
            watched_of(resource, found),
            url_of(resource, found.instance),
            too_long,
        )
    except Exception as error:
        raise capture_error(resource, found, error) from error


class RecordTypes:
    """Which classes are tracked; decided once for each class."""

    def __init__(self) -> None:
        self._resources: dict[type, Resource] = {}
        self._types: dict[type, RecordType | None] = {}
        self._families: dict[type, RecordType | None] = {}

    def __len__(self) -> int:
        return len(self._resources)

    def add(self, model: type, resource: Resource) -> None:
        """Track a class and its subclasses, except those that are tracked themselves.

        :raises ConfigurationError: if it is tracked already.
        """
        tracked = self._resources.get(model)
        if tracked is not None:
            raise ConfigurationError(
                f"{model.__module__}.{model.__qualname__} is tracked as {tracked.name!r} already, "
                f"so it cannot be tracked as {resource.name!r}: one resource per model"
            )
        self._resources[model] = resource
        self._types.clear()
        self._families.clear()

    def tracked(self) -> list[RecordType]:
        """Of all tracked classes and their subclasses."""
        below = {
            mapper.class_: self.of(mapper.class_)
            for model in self._resources
            for mapper in orm.class_mapper(model).self_and_descendants
        }
        return [record_type for record_type in below.values() if record_type is not None]

    def of(self, class_: type) -> RecordType | None:
        """None if the class is not tracked."""
        try:
            return self._types[class_]
        except KeyError:
            bases = (base for base in class_.__mro__ if base in self._resources)
            base = next(bases, None)
            made = RecordType(orm.class_mapper(class_), self._resources[base]) if base else None
            self._types[class_] = made
            return made

    def family(self, mapper: orm.Mapper[Any]) -> RecordType | None:
        """The class with all its subclasses; None if none of them is tracked."""
        record_type = self.of(mapper.class_)
        if record_type is not None:
            return record_type
        if mapper.class_ not in self._families:
            tracked = any(self.of(below.class_) for below in mapper.self_and_descendants)
            self._families[mapper.class_] = RecordType(mapper, None) if tracked else None
        return self._families[mapper.class_]


def _shown_names(mapper: orm.Mapper[Any], resource: Resource) -> frozenset[str] | None:
    """The attributes that make events; None if that cannot be known."""
    if resource.watch is not None:
        return frozenset(resource.watch)
    names = set()
    for name, field in resource.schema.dump_fields.items():
        if isinstance(field, ma.fields.Method | ma.fields.Function):
            return None
        names.add((field.attribute or name).partition(".")[0])
    known = {*mapper.column_attrs.keys(), *mapper.relationships.keys()}
    return frozenset(names) if names <= known else None


def _options(mapper: orm.Mapper[Any], resource: Resource) -> Iterator[ORMOption]:
    """Load at once what would else be loaded for each record."""
    yield from _schema_options(mapper, resource.schema, NESTED_DEPTH)
    names = list(resource.watch or ())
    if isinstance(resource.owner, str):
        names.append(resource.owner.partition(".")[0])
    for name in names:
        yield from _attribute_options(mapper, name, None, 0)


def _schema_options(mapper: orm.Mapper[Any], schema: Any, depth: int) -> Iterator[ORMOption]:
    for name, field in schema.dump_fields.items():
        while isinstance(field, ma.fields.List):
            field = field.inner
        try:
            nested = field.schema if isinstance(field, ma.fields.Nested) else None
        except Exception:
            # A nested schema that cannot be made: `represent` says so, naming the resource.
            nested = None
        attribute = (field.attribute or name).partition(".")[0]
        yield from _attribute_options(mapper, attribute, nested, depth)


def _attribute_options(
    mapper: orm.Mapper[Any], name: str, nested: Any, depth: int
) -> Iterator[ORMOption]:
    shown = mapper.attrs.get(name)
    if isinstance(shown, orm.ColumnProperty) and shown.deferred:
        yield orm.undefer(shown.class_attribute)
    elif isinstance(shown, orm.RelationshipProperty) and shown.lazy not in UNLOADABLE:
        below = _schema_options(shown.mapper, nested, depth - 1) if nested and depth else ()
        yield orm.selectinload(shown.class_attribute).options(*below)
