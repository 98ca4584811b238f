"""Engine: what an owner has: the newest events of a type, and the newest records of a resource.

GET …/sample ──► **what there is of the owner's** ──► a sample of the hook

Nothing is written, and the host's session stays as it was, not even flushed: all is read by another
session on its connection, as capture reads.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Collection, Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from . import formats
from .errors import CaptureError
from .models import EVENT, Tables
from .outbox.claiming import event_columns
from .reader import Reader
from .record_types import RecordType, represent
from .representation import Representation, Resource

log = logging.getLogger(__name__)

LOOKED_AT = 500
"""Of so many of an owner's newest events those of one type are found. Who looks for a type that is
rare must not read an owner's whole history."""


def newest_events(
    session: orm.Session, tables: Tables, owner: str, event_type: str, limit: int
) -> list[formats.Event]:
    """An owner's newest events of a type, newest first: those among the last `LOOKED_AT`."""
    event = tables.event
    last = (
        sa.select(event.c.id, event.c.kind, event.c.type)
        .where(event.c.owner == owner)
        .order_by(event.c.id.desc())
        .limit(LOOKED_AT)
        .subquery("last")
    )
    found = (
        sa.select(*event_columns(tables))
        .join(last, last.c.id == event.c.id)
        .where(last.c.type == event_type, last.c.kind == EVENT)
        # Ids of one millisecond are in no order.
        .order_by(event.c.sequence.desc())
        .limit(limit)
    )
    with Reader(session) as reader:
        return [formats.Event(*row) for row in reader.session.execute(found)]


def newest_records(
    session: orm.Session,
    model: type,
    resource: Resource,
    owner: str,
    limit: int,
    *,
    tracked: Collection[type] = (),
) -> list[Representation]:
    """An owner's newest records of a resource, represented, in the order of descending keys.

    None if the owner of a record is not simply a column of its own: who that is would have to be
    asked of each record. One that cannot be represented is passed over, with a word in the log.

    :param tracked: classes that have a resource of their own: subclasses of `model` among them, and
        what is below these, are left out.
    """
    record_type = RecordType(orm.class_mapper(model), resource)
    with Reader(session) as reader:
        condition = _belongs_to(record_type, owner, reader)
        if condition is None:
            return []
        mappers = _mappers(record_type.mapper, tracked)
        # Of this very class, not of the one that it may have them from.
        attributes = [getattr(model, name) for name in record_type.key_names]
        keys = (
            sa.select(*attributes)
            .where(condition, *_only(record_type.mapper, mappers))
            .order_by(*[attribute.desc() for attribute in attributes])
            .limit(limit)
        )
        try:
            found = [tuple(row) for row in reader.session.execute(keys)]
        except sa.exc.DBAPIError:
            raise
        except sa.exc.StatementError:
            return []  # a type of the app's own does not take that for an owner
        read = dict(_represented(record_type, resource, reader, found))
    # What the database holds for equal, such as texts in another case, need not be the owner's.
    mine = (read[key] for key in found if key in read)
    return [representation for representation in mine if representation.owner == owner]


def _represented(
    record_type: RecordType, resource: Resource, reader: Reader, keys: list[tuple[Any, ...]]
) -> Iterator[tuple[tuple[Any, ...], Representation]]:
    if not keys:
        return
    for found in record_type.read(reader, keys):
        try:
            yield found.key[1], represent(record_type, resource, found)
        except CaptureError as error:
            if isinstance(error.__cause__, sa.exc.SQLAlchemyError):
                raise  # the transaction may be broken: what comes next would hide the cause
            log.warning("no sample: %s", error)


def _mappers(mapper: orm.Mapper[Any], tracked: Collection[type]) -> list[orm.Mapper[Any]]:
    """Of the class and those below it that have no resource of their own."""
    return [
        below
        for below in mapper.self_and_descendants
        if next((base for base in below.class_.__mro__ if base in tracked), mapper.class_)
        is mapper.class_
    ]


def _only(
    mapper: orm.Mapper[Any], mappers: list[orm.Mapper[Any]]
) -> Iterator[sa.ColumnElement[bool]]:
    if mapper.polymorphic_on is not None and len(mappers) < len(list(mapper.self_and_descendants)):
        yield mapper.polymorphic_on.in_([below.polymorphic_identity for below in mappers])


def _belongs_to(
    record_type: RecordType, owner: str, reader: Reader
) -> sa.ColumnElement[bool] | None:
    """Whether a record is the owner's; None if there is no condition, or nothing can meet it."""
    resource = record_type.resource
    name = resource.owner if resource and isinstance(resource.owner, str) else ""
    attribute = record_type.mapper.column_attrs.get(name)
    column = attribute.columns[0] if attribute is not None else None
    if attribute is None or not isinstance(column, sa.Column):
        return None
    try:
        value = _as_column(column.type, owner, reader.connection_for(record_type.mapper).dialect)
    except ValueError:
        return None
    equal: sa.ColumnElement[bool] = getattr(record_type.mapper.class_, name) == value
    return equal


def _as_column(type_: sa.types.TypeEngine[Any], owner: str, dialect: sa.Dialect) -> Any:
    """The value of a column whose text is the owner's id.

    :raises ValueError: if there is none. That is judged here, for a database that is given what it
        cannot read ends the transaction.
    """
    stored: Any = type_.dialect_impl(dialect)
    decorated = isinstance(type_, sa.types.TypeDecorator)
    if decorated:
        stored = stored.impl_instance
    value: Any
    if isinstance(stored, sa.Uuid):
        value = uuid.UUID(owner)
    elif isinstance(stored, sa.Integer):
        value = int(owner)
        bits = _bits(stored, dialect)
        if not -(1 << bits) <= value < 1 << bits:
            raise ValueError
    elif isinstance(stored, sa.String) and not isinstance(stored, sa.Enum):
        value = owner
    else:
        raise ValueError
    if str(value) != owner:
        raise ValueError
    as_text = isinstance(stored, sa.Uuid) and (decorated or not stored.as_uuid)
    return owner if as_text else value


def _bits(stored: sa.Integer, dialect: sa.Dialect) -> int:
    """Of a whole number, beside its sign."""
    if dialect.name == "sqlite" or isinstance(stored, sa.BigInteger):
        return 63
    return 15 if isinstance(stored, sa.SmallInteger) else 31
