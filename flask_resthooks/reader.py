"""Engine: what another session's transaction sees, read on that one's connections, by its keys."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

PrimaryKey = tuple[Any, ...]
IdentityKey = tuple[Any, ...]
"""SQLAlchemy's: class, primary key, token."""

READ_CHUNK = 500
"""Records that are read by one statement: so many parameters are allowed everywhere."""


class ReadingSession(orm.Session):
    """A session on the connections of another one."""

    def __init__(self, connection_of: Callable[..., sa.Connection] | None = None) -> None:
        # The transaction is the host's: closing this must neither commit nor roll it back.
        super().__init__(autoflush=False, join_transaction_mode="rollback_only")
        self._connection_of = connection_of

    def get_bind(self, mapper: Any = None, *, clause: Any = None, **options: Any) -> Any:
        """The host's connection, whatever is asked of this session."""
        assert self._connection_of is not None, "this session only tells who listens"
        return self._connection_of(mapper, clause)


@functools.lru_cache(maxsize=256)
def _write_to(table: Any) -> sa.Update:
    """What an app's own choice of a database may ask for: a statement that writes."""
    update: sa.Update = table.update()
    return update


class Reader:
    """Reads what another session's transaction sees, on that one's connections."""

    def __init__(self, host: orm.Session) -> None:
        self._host = host
        self._connections: dict[orm.Mapper[Any], sa.Connection] = {}
        self._session: ReadingSession | None = None

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        if self._session is not None:
            self._session.close()

    @property
    def session(self) -> ReadingSession:
        """For what needs the ORM; made when it is needed."""
        if self._session is None:
            self._session = ReadingSession(self._connection_of)
        return self._session

    def connection_for(self, mapper: orm.Mapper[Any]) -> sa.Connection:
        """The host's connection for writing that mapper's records: its transaction is on that."""
        connection = self._connections.get(mapper)
        if connection is None:
            connection = self._connections[mapper] = self.enlist(mapper)
        return connection

    def enlist(self, mapper: orm.Mapper[Any]) -> sa.Connection:
        """The same, with the host's savepoints: it makes them when it is asked for a connection."""
        return self._host.connection(
            bind_arguments={"mapper": mapper, "clause": _write_to(mapper.primary_key[0].table)}
        )

    def _connection_of(self, mapper: Any, clause: Any) -> sa.Connection:
        if mapper is None:
            return self._host.connection(bind_arguments={"clause": clause})
        return self.connection_for(sa.inspect(mapper))


_idle = ReadingSession()


def reading_is_watched() -> bool:
    """Whether somebody listens to what every session executes or loads, and may change it."""
    listeners = _idle.dispatch
    return bool(listeners.do_orm_execute or listeners.loaded_as_persistent)


Locking = dict[bool, sa.Select[Any]]
"""The statement that reads, without a lock and with it."""


def without_and_with_lock(
    read: sa.Select[Any], primary_key: Sequence[sa.ColumnElement[Any]]
) -> Locking:
    """A statement, and the same with the lock that a change will take.

    What is read with it stays true until then.
    """
    table: Any = primary_key[0].table
    ordered = read.order_by(*map(_in_pythons_order, primary_key))
    return {False: read, True: ordered.with_for_update(key_share=True, of=table)}


def _in_pythons_order(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """For PostgreSQL: by code point, where a text's order is its collation's."""
    if isinstance(column.type, sa.String) and not isinstance(column.type, sa.Enum):
        return column.collate("C")
    return column


def one_key(columns: Sequence[Any]) -> sa.ColumnElement[bool]:
    """Whether these columns are one key; see `given_key`."""
    return sa.and_(*[column == sa.bindparam(f"key_{n}") for n, column in enumerate(columns)])


def given_key(key: PrimaryKey) -> dict[str, Any]:
    """The parameters of a statement with `one_key`."""
    return {f"key_{n}": value for n, value in enumerate(key)}


def among_keys(columns: Sequence[Any]) -> sa.ColumnElement[bool]:
    """Whether these columns are one of several keys; see `given_keys`."""
    several: Any = sa.bindparam("keys", expanding=True)
    first, *rest = columns
    return sa.tuple_(first, *rest).in_(several) if rest else first.in_(several)


def given_keys(keys: Sequence[PrimaryKey]) -> dict[str, Any]:
    """The parameters of a statement with `among_keys`, for some keys (not none)."""
    return {"keys": [key[0] for key in keys] if len(keys[0]) == 1 else keys}


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
