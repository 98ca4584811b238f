"""Engine: a record as its schema shows it, read from the database as the transaction sees it.

    commit ──► `capture` notes who was touched ──► **before and after, represented** ──► event row

Both are read by a second session on the first one's connection (`Reader`). What is compared and
sent is therefore what the database holds: server defaults, computed columns and coerced types
included. The host's session is left as it was: nothing is refreshed, expired or kept alive.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import marshmallow as ma
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import sqlite
from sqlalchemy.orm.interfaces import ORMOption

from . import formats
from .errors import CaptureError, ConfigurationError
from .models import owner_id

PrimaryKey = tuple[Any, ...]
IdentityKey = tuple[Any, ...]
"""SQLAlchemy's: class, primary key, token."""

READ_CHUNK = 500
"""Records that are read by one statement: so many parameters are allowed everywhere."""

RESOURCE_LENGTH = 255
NESTED_DEPTH = 4
UNLOADABLE = ("dynamic", "write_only")
"""Kinds of relationships that cannot be loaded for many records at once."""


@dataclass(frozen=True, slots=True)
class Resource:
    """What is told of a model's records, and to whom.

    :param name: `contact`; its event types are `contact.create`, `.update` and `.delete`.
    :param schema: a marshmallow schema instance; what it dumps is an event's `data`.
    :param owner: the attribute (dotted: `account.id`) or the callable that names a record's owner;
        None names nobody, and then nobody is told.
    :param verbs: those that make events.
    :param url: where a record can be fetched.
    :param watch: attributes; an update makes an event only if one of them changed. None: whatever
        the schema shows.
    :param payload: `full`, or `thin`: then nothing but the record's key and URL is ever told.
    """

    name: str
    schema: Any
    owner: str | Callable[[Any], Any]
    verbs: tuple[str, ...] = ("create", "update", "delete")
    url: Callable[[Any], str] | None = None
    watch: tuple[str, ...] | None = None
    payload: str = formats.FULL


@dataclass(frozen=True, slots=True)
class Representation:
    """A record at one moment.

    :param key: `contact:17`; see `RecordType.name_of`.
    :param owner: None if nobody is to be told.
    :param data: JSON text; if it is too long to be told, its hash, which tells whether it changed.
    :param watched: the values of `Resource.watch`.
    :param url: where it can be fetched; None if nobody said.
    """

    resource: Resource
    key: str
    owner: str | None
    data: str
    watched: tuple[Any, ...]
    url: str | None = None
    too_long: bool = False


def represent(record_type: RecordType, resource: Resource, instance: Any) -> Representation:
    """A record as its resource shows it now.

    :raises CaptureError: if the schema or the owner callable raises, or shows what is not JSON.
    """
    identity = sa.inspect(instance).identity
    owner = owner_of(resource, instance)
    try:
        data = formats.to_json(resource.schema.dump(instance, many=False))
        too_long = len(data) > formats.MAX_DATA
        return Representation(
            resource,
            record_type.name_of(resource, identity),
            owner,
            # Kept until the commit, for each record that a transaction touches.
            hashlib.sha256(data.encode()).hexdigest() if too_long else data,
            tuple(_comparable(getattr(instance, name)) for name in resource.watch or ()),
            url_of(resource, instance),
            too_long,
        )
    except Exception as error:
        raise _capture_error(resource, instance, error) from error


def owner_of(resource: Resource, instance: Any) -> str | None:
    """To whom a record's events are told; None: to nobody.

    :raises CaptureError: if that cannot be found out.
    """
    try:
        return _owner_of(resource, instance)
    except Exception as error:
        raise _capture_error(resource, instance, error) from error


def url_of(resource: Resource, instance: Any) -> str | None:
    """Where a record can be fetched; None if nobody said."""
    url = None if resource.url is None else resource.url(instance)
    return None if url is None else str(url)


def _capture_error(resource: Resource, instance: Any, error: Exception) -> CaptureError:
    # For the app's own log, so with the key even if the schema does not show it.
    return CaptureError(
        f"no event can be made from {_name_with_key(resource, sa.inspect(instance).identity)} "
        f"(resource {resource.name!r}): {type(error).__name__}: {error}"
    )


def _name_with_key(resource: Resource, primary_key: PrimaryKey) -> str:
    return f"{resource.name}:{','.join(map(str, primary_key))}"


def _owner_of(resource: Resource, instance: Any) -> str | None:
    owner = instance
    if callable(resource.owner):
        owner = resource.owner(instance)
    else:
        for name in resource.owner.split("."):
            if owner is None:
                break
            owner = getattr(owner, name)
    return None if owner is None else owner_id(owner)


def _comparable(value: Any) -> Any:
    """Records of two sessions are equal if they have the same identity."""
    if isinstance(value, list | tuple | set | frozenset):
        return [_comparable(item) for item in value]
    state = sa.inspect(value, raiseerr=False)
    return (state.mapper, state.identity) if isinstance(state, orm.InstanceState) else value


class Reader(orm.Session):
    """A session that reads what another session's transaction sees, on that one's connections."""

    def __init__(self, host: orm.Session) -> None:
        # The transaction is the host's: closing the reader must neither commit nor roll it back.
        super().__init__(autoflush=False, join_transaction_mode="rollback_only")
        self._host = host
        self._connections: dict[orm.Mapper[Any], sa.Connection] = {}

    def get_bind(self, mapper: Any = None, *, clause: Any = None, **options: Any) -> Any:
        """The host's connection, whatever is asked of the reader."""
        if mapper is None:
            return self._host.connection(bind_arguments={"clause": clause})
        return self.connection_for(sa.inspect(mapper))

    def connection_for(self, mapper: orm.Mapper[Any]) -> sa.Connection:
        """The host's connection for writing that mapper's records: its transaction is on that."""
        connection = self._connections.get(mapper)
        if connection is None:
            connection = self._connections[mapper] = self.enlist(mapper)
        return connection

    def enlist(self, mapper: orm.Mapper[Any]) -> sa.Connection:
        """The same, with the host's savepoints: it makes them when it is asked for a connection."""
        write = mapper.primary_key[0].table.update()
        return self._host.connection(bind_arguments={"mapper": mapper, "clause": write})


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
        self._several = self._selects(among_keys(self.key_attributes))
        # Much cheaper for SQLAlchemy than a list of one.
        self._one = self._selects(
            sa.and_(*[key == sa.bindparam(f"key_{n}") for n, key in enumerate(self.key_attributes)])
        )

    def name_of(self, resource: Resource, primary_key: PrimaryKey) -> str:
        """`contact:17`; the parts of a composite key are joined by commas.

        With a hash for a key that the schema does not show, which nobody is to be told, and for one
        that is too long. The same record has the same name always.
        """
        name = _name_with_key(resource, primary_key)
        if self._shows_key and len(name) <= RESOURCE_LENGTH:
            return name
        return f"{resource.name}:{hashlib.sha256(name.encode()).hexdigest()[:32]}"

    def may_show(self, names: Iterable[str]) -> bool:
        """Whether a change of one of these attributes can make an event."""
        return self._shown is None or not self._shown.isdisjoint(names)

    def _selects(self, matches: sa.ColumnElement[bool]) -> dict[bool, sa.Select[Any]]:
        """The statement that reads, without a lock and with it."""
        options = list(_options(self.mapper, self.resource)) if self.resource else []
        below = [mapper.class_ for mapper in self.mapper.self_and_descendants]
        if len(below) > 1 and self.mapper.polymorphic_on is not None:
            options.append(orm.selectin_polymorphic(self.mapper.class_, below[1:]))
        read = sa.select(self.mapper.class_).where(matches).options(*options)
        # The lock that the change will take: what is read stays true until then.
        table: Any = self.mapper.primary_key[0].table
        ordered = read.order_by(*map(_in_pythons_order, self.mapper.primary_key))
        return {False: read, True: ordered.with_for_update(key_share=True, of=table)}

    def read(
        self, reader: orm.Session, keys: Iterable[PrimaryKey], *, lock: bool = False
    ) -> Iterator[Any]:
        """The instances of those keys that exist; each is good until the next is asked for.

        :param lock: let nobody else change them until the transaction ends. They are locked in
            the order in which the unit of work updates: else two that meet wait for each other.
        """
        if lock:
            keys = self._sorted(keys)
        for chunk in chunks(keys, READ_CHUNK):
            parameters: dict[str, Any]
            if len(chunk) == 1:
                statement = self._one[lock]
                parameters = {f"key_{n}": value for n, value in enumerate(chunk[0])}
            else:
                statement = self._several[lock]
                parameters = given_keys(chunk)
            yield from reader.scalars(statement, parameters).unique()
            reader.expunge_all()

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


def among_keys(columns: Sequence[Any]) -> sa.ColumnElement[bool]:
    """Whether these columns are one of several keys; see `given_keys`."""
    several: Any = sa.bindparam("keys", expanding=True)
    first, *rest = columns
    return sa.tuple_(first, *rest).in_(several) if rest else first.in_(several)


def given_keys(keys: Sequence[PrimaryKey]) -> dict[str, Any]:
    """The parameters of a statement with `among_keys`, for some keys (not none)."""
    return {"keys": [key[0] for key in keys] if len(keys[0]) == 1 else keys}


def _in_pythons_order(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """For PostgreSQL: by code point, where a text's order is its collation's."""
    if isinstance(column.type, sa.String) and not isinstance(column.type, sa.Enum):
        return column.collate("C")
    return column


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


def chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of up to `size` items."""
    chunk: list[Any] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
