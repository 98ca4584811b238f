"""Engine: from a session's transaction to event rows.

    **changes of tracked records** ──► before-state, noted at first touch ──► commit ──► event rows

One transaction yields at most one event per record: the difference between what the database held
before the transaction first touched the record and what it holds at the commit. (Two, if it has got
another owner: a delete for the former, a create for the new one.) The before-state
is noted once, before the flush or the statement that changes it. What a savepoint's rollback takes
back needs no bookkeeping: the database itself holds the former state again, and no difference is
left. For the same reason it does no harm to note a record that is not changed in the end.

Not seen: raw SQL, statements on Core tables or inside a CTE, `bulk_save_objects` and its kin, what
the database does by itself to other records (`ON DELETE CASCADE`, triggers, what `OR REPLACE`
removes through another unique column), and changes of another record that a schema shows (a contact
is told when its account becomes another one, not when the account changes its name). A record with
another primary key is another record. `Capture.emit` is the way out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, orm

from . import bulk
from .assumed import DIALECTS
from .difference import (
    EXISTED,
    After,
    Before,
    Existed,
    difference,
    json_of,
)
from .errors import CaptureError
from .event_rows import EventRows, Row, event_row
from .event_types import EventTypes
from .links import Links
from .models import Tables, owner_id
from .notes import Notes
from .reader import READ_CHUNK, IdentityKey, PrimaryKey, ReadingSession, chunks
from .record_types import RecordType, RecordTypes, represent
from .representation import Found, Representation, Resource, owner_of, url_of

__all__ = ["Capture", "Resource"]

log = logging.getLogger(__name__)

WRITE_CHUNK = 500
"""Events that are written by one statement."""

DELETE_ATTEMPTS = 5
"""How often a bulk `delete` is taken back to look at records that others have just committed."""


class Capture:
    """Writes an event for every record of a tracked model that a transaction changed.

    :param wake: called after a transaction that wrote events was committed.
    """

    def __init__(self, tables: Tables, event_types: EventTypes, wake: Callable[[], None]) -> None:
        self._event = tables.event
        self._event_rows = EventRows(tables.event)
        self._event_types = event_types
        self._wake = wake
        self._record_types = RecordTypes()
        self._links = Links(self._record_types)

    def track(self, model: type, resource: Resource) -> None:
        """Make events of a model's records, and of its subclasses' unless these are tracked.

        :raises ConfigurationError: if the model is tracked already.
        """
        self._record_types.add(model, resource)
        event.listen(model, "before_update", self._before_update, propagate=True)
        event.listen(model, "before_delete", self._before_delete, propagate=True)
        event.listen(model, "after_insert", self._after_insert, propagate=True)

    def listen(self, target: Any) -> None:
        """Watch the sessions of a session class, `sessionmaker` or `scoped_session`."""
        if isinstance(target, orm.scoped_session):
            target = target.session_factory
        if isinstance(target, orm.sessionmaker):
            target = target.class_
        for name, listener in (
            ("before_flush", self._before_flush),
            ("after_flush_postexec", self._after_flush),
            ("do_orm_execute", self._on_execute),
            ("before_commit", self._before_commit),
            ("after_commit", self._after_commit),
            ("after_soft_rollback", self._after_rollback),
            ("after_transaction_end", self._after_end),
        ):
            if not event.contains(target, name, listener):
                event.listen(target, name, listener)

    def emit(
        self,
        session: Any,
        event_type: str,
        value: Any,
        owner: Any,
        *,
        resource: str | None = None,
        url: str | None = None,
    ) -> str:
        """Write an event in the session's transaction, with which it is rolled back.

        :param value: a mapping is sent as it is, anything else as the event type's schema shows it.
        :param owner: to whom it is told.
        :param resource: the record that it happened to, `contact:17`; found out for a tracked one.
        :param url: where that can be fetched; found out for a tracked one.
        :returns: the event's id.
        :raises UnknownEventType: if nobody registered that event type.
        :raises CaptureError: if the value cannot be represented, if the owner is None, and if the
            resource or the URL is no text that can be stored.
        """
        if isinstance(session, orm.scoped_session):
            session = session()
        registered = self._event_types[event_type]
        if owner is None:
            raise CaptureError(f"{event_type} needs an owner; None would be told to nobody")
        if not isinstance(value, Mapping):
            # So that it has its primary key and its defaults.
            session._autoflush()
            key, address = self._found(event_type, value)
            resource, url = resource or key, url or address
        row = event_row(
            event_type,
            owner_id(owner),
            resource,
            json_of(event_type, registered.schema, value),
            url=url,
            payload=registered.payload,
        )
        self._event_rows.write(self._connection(session), [row])
        self._notes(session).emitted.append(row["id"])
        return str(row["id"])

    def _found(self, event_type: str, value: Any) -> tuple[str | None, str | None]:
        """Key and URL of a record, if it is a tracked one."""
        record_type = self._record_types.of(type(value))
        identity = sa.inspect(value).identity if record_type else None
        if record_type is None or record_type.resource is None or identity is None:
            return None, None
        try:
            url = url_of(record_type.resource, value)
        except Exception as error:
            raise CaptureError(f"no {event_type} can be made: its URL: {error}") from error
        return record_type.name_of(record_type.resource, identity), url

    def _notes(self, session: orm.Session) -> Notes:
        notes: Notes | None = session.info.get(self)
        if notes is None:
            notes = session.info[self] = Notes(session, self._record_types)
        return notes

    # The first touch of a record.

    def _before_flush(self, session: orm.Session, context: Any, instances: Any) -> None:
        if not self._record_types:
            return
        notes = self._notes(session)
        changing: dict[RecordType, list[PrimaryKey]] = {}
        showing: dict[RecordType, list[PrimaryKey]] = {}
        for instance in session.dirty:
            record_type = self._record_types.of(type(instance))
            if record_type is None:
                continue
            state = sa.inspect(instance)
            if session.is_modified(instance, include_collections=False):
                changing.setdefault(record_type, []).append(state.identity)
            elif record_type.may_show(state.committed_state):
                showing.setdefault(record_type, []).append(state.identity)
        for instance in session.deleted:
            record_type = self._record_types.of(type(instance))
            if record_type is not None:
                changing.setdefault(record_type, []).append(sa.inspect(instance).identity)
        if changes := self._links.changes(session):
            for record_type, keys in changes.shown_by(notes.reader):
                showing.setdefault(record_type, []).extend(keys)
        if changing or showing:
            notes.changed = True
        # In one order everywhere: looking takes locks.
        for record_type in sorted(changing, key=lambda changed: changed.lock_order):
            notes.look(record_type, changing[record_type])
        for record_type, keys in showing.items():
            # Without a lock: a new contact must not make others wait for its account's row.
            notes.look(record_type, keys, lock=False)

    def _before_update(self, mapper: Any, connection: Any, target: Any) -> None:
        """Sees what only the flush itself finds out: foreign keys that follow a parent."""
        state = sa.inspect(target)
        changes = state.session.is_modified(target, include_collections=False)
        self._in_flush(state, mapper, changes)

    def _before_delete(self, mapper: Any, connection: Any, target: Any) -> None:
        """Sees what only the flush itself finds out: orphans."""
        self._in_flush(sa.inspect(target), mapper, True)

    def _in_flush(self, state: Any, mapper: orm.Mapper[Any], changes: bool) -> None:
        notes: Notes | None = state.session.info.get(self)
        record_type = self._record_types.of(state.class_)
        if notes is None or record_type is None:
            return
        notes.changed = True
        if changes and state.key not in notes.before:
            notes.look(record_type, [state.identity])
        key = mapper.identity_key_from_instance(state.object)
        if key != state.key:
            notes.made(record_type, key)

    def _after_insert(self, mapper: Any, connection: Any, target: Any) -> None:
        session: Any = orm.object_session(target)
        notes: Notes | None = session.info.get(self)
        record_type = self._record_types.of(type(target))
        if notes is not None and record_type is not None:
            notes.changed = True
            key = mapper.identity_key_from_instance(target)
            notes.keep(record_type, target)
            notes.made(record_type, key)

    def _on_execute(self, execution: orm.ORMExecuteState) -> sa.Result[Any] | None:
        if not bulk.is_bulk(execution) or isinstance(execution.session, ReadingSession):
            return None
        mapper = execution.bind_mapper
        record_type = None if mapper is None else self._record_types.family(mapper)
        if record_type is None:
            return None
        if execution.execution_options.get("autoflush", True):
            execution.session._autoflush()
        notes = self._notes(execution.session)
        notes.changed = True
        notes.lock(record_type)
        act = self._bulk_insert if execution.is_insert else self._bulk_change
        result = act(execution, notes, record_type)
        if notes.committing:
            self._write(execution.session, notes)
        return result

    def _bulk_insert(
        self, execution: orm.ORMExecuteState, notes: Notes, record_type: RecordType
    ) -> sa.Result[Any]:
        if bulk.overwrites(execution.statement):
            keys = bulk.rehearse(execution, record_type, notes.reader)
            notes.look(record_type, keys, sure=False)
        written, result = bulk.execute(execution, record_type)
        identity_key = record_type.mapper.identity_key_from_primary_key
        for key in written:
            notes.made(record_type, identity_key(key))
        return result

    def _bulk_change(
        self, execution: orm.ORMExecuteState, notes: Notes, record_type: RecordType
    ) -> sa.Result[Any]:
        keys = list(bulk.selected_keys(execution, record_type, notes.reader))
        notes.look(record_type, keys)
        if bulk.names_its_keys(execution, record_type):
            return execution.invoke_statement()
        if len(keys) > READ_CHUNK:
            # That took a while, in which others have gone on.
            notes.look(record_type, bulk.selected_keys(execution, record_type, notes.reader))
        if execution.is_delete and bulk.can_repeat(record_type, notes.reader):
            return self._bulk_delete(execution, notes, record_type)
        written, result = bulk.execute(execution, record_type)
        new_keys = bulk.changes_keys(execution, record_type)
        notes.met(record_type, written, new_keys=new_keys)
        return result

    def _bulk_delete(
        self, execution: orm.ORMExecuteState, notes: Notes, record_type: RecordType
    ) -> sa.Result[Any]:
        """Look at what others committed just before, too: it would be gone when it is deleted."""
        with bulk.savepoint(record_type, notes.reader) as savepoint:
            for _ in range(DELETE_ATTEMPTS):
                written, result = bulk.execute(execution, record_type)
                unknown = list(notes.unknown(record_type, written).values())
                if not unknown:
                    return result
                savepoint.undo()
                notes.look(record_type, unknown)
            written, result = bulk.execute(execution, record_type)
        unknown = list(notes.unknown(record_type, written).values())
        if unknown:
            log.warning("%d deleted records of %s are not told", len(unknown), record_type.mapper)
        return result

    # The end of the transaction.

    def _before_commit(self, session: orm.Session) -> None:
        if _ends_savepoint(session):
            return
        session.flush()
        notes = self._notes(session)
        notes.committing = True
        if notes.changed:
            self._write(session, notes)
        if notes.emitted and notes.rolled_back:
            notes.emitted = self._existing(session, notes.emitted)

    def _after_flush(self, session: orm.Session, context: Any) -> None:
        """Listeners that run later in the same commit may still change something."""
        notes = session.info.get(self)
        if notes is not None and notes.committing and notes.changed:
            self._write(session, notes)

    def _after_rollback(self, session: orm.Session, transaction: Any) -> None:
        notes = session.info.get(self)
        if notes is not None:
            notes.changed = notes.rolled_back = True

    def _after_commit(self, session: orm.Session) -> None:
        notes = session.info.get(self)
        if notes is not None and not session.in_nested_transaction():
            notes.committed = True

    def _after_end(self, session: orm.Session, transaction: orm.SessionTransaction) -> None:
        """Here, and not in `after_commit`, no connection is held any more."""
        if transaction.parent is not None:
            return
        notes = session.info.pop(self, None)
        if notes is None:
            return
        notes.close()
        if notes.committed and (notes.events or notes.emitted):
            try:
                self._wake()
            except Exception:
                log.exception("nobody was woken up; the sweep will find what was committed")

    # The event rows.

    def _write(self, session: orm.Session, notes: Notes) -> None:
        """Write all events of the transaction; instead of those that it wrote before, if any."""
        connection = self._connection(session)
        for ids_ in chunks(notes.written, WRITE_CHUNK):
            connection.execute(self._event.delete().where(self._event.c.id.in_(ids_)))
        notes.events = 0
        if (row := self._write_assumed(session, notes, connection)) is not None:
            notes.events = 1
            notes.written.append(row["id"])
            notes.changed = False
            return
        for rows in chunks(self._rows(notes), WRITE_CHUNK):
            self._event_rows.write(connection, rows)
            notes.events += len(rows)
            notes.written += [row["id"] for row in rows]
        notes.changed = False

    def _write_assumed(
        self, session: orm.Session, notes: Notes, connection: sa.Connection
    ) -> Row | None:
        """Write the event of the only record that was touched as the session has it, if that is
        what the database has; None if that is not known."""
        dialect = connection.dialect.name
        if len(notes.before) != 1 or dialect not in DIALECTS:
            return None
        ((key, (record_type, before)),) = notes.before.items()
        assumed = record_type.assumed
        if assumed is None or notes.reader.connection_for(record_type.mapper) is not connection:
            return None
        found = assumed.found(session, key, notes.made_values, new=before is None)
        parameters = None if found is None else assumed.parameters(found, dialect)
        if found is None or parameters is None:
            return None
        try:
            rows = difference(record_type, before, self._told(found, before))
        except CaptureError:  # what is read may be another thing
            return None
        if len(rows) == 1 and self._event_rows.write_if(connection, rows[0], assumed, parameters):
            return rows[0]
        return None

    def _rows(self, notes: Notes) -> Iterator[Row]:
        for chunk in chunks(list(notes.before.items()), READ_CHUNK):
            after = self._after(notes, chunk)
            for key, (record_type, before) in chunk:
                yield from difference(record_type, before, after.get(key))

    def _after(
        self, notes: Notes, chunk: list[tuple[IdentityKey, tuple[RecordType, Before]]]
    ) -> dict[IdentityKey, After]:
        """Those records of the chunk that exist now."""
        keys: dict[RecordType, list[PrimaryKey]] = {}
        for key, (record_type, _) in chunk:
            keys.setdefault(record_type, []).append(key[1])
        after: dict[IdentityKey, After] = {}
        for record_type in keys:
            for found in record_type.read(notes.reader, keys[record_type]):
                _, before = notes.before.get(found.key, (None, EXISTED))
                after[found.key] = self._told(found, before)
        return after

    def _told(self, found: Found, before: Before) -> After:
        record_type = self._record_types.of(found.class_)
        if record_type is None or record_type.resource is None or isinstance(before, Existed):
            return EXISTED
        resource = record_type.resource
        if ("create" if before is None else "update") in resource.verbs:
            return represent(record_type, resource, found)
        handed_over = isinstance(before, Representation) and (
            before.owner != owner_of(resource, found)
        )
        return represent(record_type, resource, found) if handed_over else EXISTED

    def _existing(self, session: orm.Session, event_ids: list[str]) -> list[str]:
        connection = self._connection(session)
        found: list[str] = []
        for ids_ in chunks(event_ids, READ_CHUNK):
            there = sa.select(self._event.c.id).where(self._event.c.id.in_(ids_))
            found += connection.scalars(there)
        return found

    def _connection(self, session: orm.Session) -> sa.Connection:
        """The session's own for the event table, which may be on another database."""
        return session.connection(bind_arguments={"clause": self._event_rows.insert})


def _ends_savepoint(session: orm.Session) -> bool:
    """Whether what is about to be committed is a savepoint, and not the transaction.

    A transaction can be committed while savepoints are open. Then, and only then, the outermost
    one is being worked on; SQLAlchemy says so nowhere else.
    """
    transaction = session.get_transaction()
    return session.in_nested_transaction() and getattr(transaction, "_current_fn", None) is None
