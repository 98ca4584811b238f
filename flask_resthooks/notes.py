"""Engine: what is known of one transaction, above all how records were before it touched them.

change of a record ──► **before-state, noted at first touch** ──► commit ──► event row
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import orm

from .difference import EXISTED, Before, Existed, Met, before_of
from .reader import IdentityKey, PrimaryKey, Reader
from .record_types import RecordType, RecordTypes


class Notes:
    """Of one transaction of one session."""

    def __init__(self, session: orm.Session, record_types: RecordTypes) -> None:
        self._session = session
        self._record_types = record_types
        self._reader: Reader | None = None
        self._locked: set[RecordType] = set()
        # The before-state of each record that was touched, in the order of the first touches.
        self.before: dict[IdentityKey, tuple[RecordType, Before]] = {}
        # The values of the only record that was made: a session may forget it (see `assumed`).
        self.made_values: dict[str, Any] | None = None
        # Whether there may be more to tell than was written.
        self.changed = False
        # Once the commit has begun, what is changed still is written at once.
        self.committing = False
        self.committed = False
        # Ids of all rows that commits of this transaction wrote, those taken back included.
        self.written: list[str] = []
        # How many of them are there now.
        self.events = 0
        # Ids of the rows that `emit` wrote.
        self.emitted: list[str] = []
        self.rolled_back = False

    @property
    def reader(self) -> Reader:
        """Sees what the transaction sees."""
        if self._reader is None:
            self._reader = Reader(self._session)
        return self._reader

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()

    def keep(self, record_type: RecordType, instance: Any) -> None:
        """Keep the values of a record that is made, if it is the first one."""
        assumed = None if self.before else record_type.assumed
        self.made_values = None if assumed is None else assumed.values(instance, new=True)

    def made(self, record_type: RecordType, key: IdentityKey) -> None:
        """A record did not exist before, unless it is known to have existed."""
        self.before.setdefault(key, record_type.did_not_exist)

    def look(
        self,
        record_type: RecordType,
        keys: Iterable[PrimaryKey],
        *,
        lock: bool = True,
        sure: bool = True,
    ) -> None:
        """Note the before-state of records that are about to be touched.

        :param lock: let nobody else change them until the transaction ends.
        :param sure: whether they are known to exist.
        """
        unknown = self.unknown(record_type, keys)
        if sure and not record_type.looks_back:
            self.before.update(dict.fromkeys(unknown, (record_type, EXISTED)))
        elif unknown:
            self.lock(record_type)
            self._note(record_type, unknown, lock and not self.alone(record_type))

    def met(self, record_type: RecordType, keys: Iterable[PrimaryKey], *, new_keys: bool) -> None:
        """Note records that a statement changed though nobody had looked at them.

        :param new_keys: whether the statement gives records other keys. Then it made those that
            were not known; else others committed them between the look and the statement.
        """
        unknown = self.unknown(record_type, keys)
        if new_keys or self.alone(record_type):
            self.before.update(dict.fromkeys(unknown, record_type.did_not_exist))
            return
        for found in record_type.read(self.reader, list(unknown.values())):
            of_found = self._record_types.of(found.class_)
            if of_found is not None:
                then = before_of(of_found, found)
                before = then if isinstance(then, Existed) else Met(then)
                self.before[found.key] = (of_found, before)

    def lock(self, record_type: RecordType) -> None:
        """On SQLite: become the writer first, so that nobody writes between look and change."""
        if record_type in self._locked:
            return
        self._locked.add(record_type)
        if self.alone(record_type):
            connection = self.reader.connection_for(record_type.mapper)
            connection.exec_driver_sql(record_type.write_nothing)

    def alone(self, record_type: RecordType) -> bool:
        """Whether there is one writer at a time: SQLite, which has no locks of rows."""
        return self.reader.connection_for(record_type.mapper).dialect.name == "sqlite"

    def unknown(
        self, record_type: RecordType, keys: Iterable[PrimaryKey]
    ) -> dict[IdentityKey, PrimaryKey]:
        """Those of the keys whose before-state is not noted."""
        identity_key = record_type.mapper.identity_key_from_primary_key
        wanted = {identity_key(key): key for key in keys}
        return {key: wanted[key] for key in wanted if key not in self.before}

    def _note(
        self,
        record_type: RecordType,
        unknown: dict[IdentityKey, PrimaryKey],
        lock: bool,
    ) -> None:
        for found in record_type.read(self.reader, list(unknown.values()), lock=lock):
            unknown.pop(found.key, None)
            of_found = self._record_types.of(found.class_)
            if of_found is not None:
                self.before.setdefault(found.key, (of_found, before_of(of_found, found)))
        for key in unknown:
            self.made(record_type, key)
