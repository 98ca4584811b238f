"""Truth: what PostgreSQL and SQLite do differently: transactions that write, and whose clock it is.

On PostgreSQL workers skip the rows that others have locked (`FOR UPDATE SKIP LOCKED`, which SQLite
does not know and SQLAlchemy leaves out there). On SQLite a transaction that writes takes the lock
of the one writer from its beginning.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from .errors import ConfigurationError
from .models import utcnow

log = logging.getLogger(__name__)

DIALECTS = ("sqlite", "postgresql")

BUSY_TIMEOUT = 8.0
"""Seconds that a transaction of ours waits for another one of SQLite's to end; less than what a
lease leaves for settling (`settings.LEASE_MARGIN`)."""

SET_BY = 5.0
"""Seconds by which a clock that was set differs at least from one that goes on by itself."""


def check_dialect(name: str) -> None:
    """:raises ConfigurationError: if it is no database that we work on."""
    if name not in DIALECTS:
        raise ConfigurationError(
            f"flask_resthooks works on {' and '.join(DIALECTS)}, not on {name}"
        )


class Database:
    """Connections to one database.

    :param engine: the app's.
    :param clock: tells the time, aware; None: the database's own clock (see `synchronise`).
    :raises ConfigurationError: if it is no database that we work on.
    """

    def __init__(self, engine: sa.Engine, clock: Callable[[], dt.datetime] | None = None) -> None:
        check_dialect(engine.dialect.name)
        self.sqlite = engine.dialect.name == "sqlite"
        # The app may have chosen another level; a claim needs to see what others have committed.
        self._engine = (
            engine if self.sqlite else engine.execution_options(isolation_level="READ COMMITTED")
        )
        self._clock = clock
        # The time at a moment of `time.monotonic`.
        self._known: tuple[dt.datetime, float] | None = None

    def now(self) -> dt.datetime:
        """The time, aware."""
        if self._clock is not None:
            return self._clock()
        if self._known is None:
            return utcnow()
        known, at = self._known
        return known + dt.timedelta(seconds=time.monotonic() - at)

    def synchronise(self) -> None:
        """Tell the time by the database: workers on several machines must agree about leases.

        From then on, until the next time, it goes on by itself: when this machine's clock is
        stepped meanwhile, no lease ends too soon, and nothing falls due an hour late.
        """
        if self._clock is not None:
            return
        if self.sqlite:
            self._known = utcnow(), time.monotonic()
            return
        with self.connect() as connection:
            before = time.monotonic()
            theirs: dt.datetime | None = connection.scalar(sa.func.clock_timestamp())
            half = (time.monotonic() - before) / 2
        if theirs is not None:
            self._known = theirs, before + half

    def was_set(self) -> bool:
        """Whether the clock that we tell the time by was set since `synchronise`. Once: from then
        on, the time is the new one."""
        if not self.sqlite or self._known is None:
            return False
        if abs((utcnow() - self.now()).total_seconds()) <= SET_BY:
            return False
        self.synchronise()
        return True

    def prepare(self) -> None:
        """Make SQLite let readers and a writer work at the same time (write-ahead log)."""
        if not self.sqlite:
            return
        with self.connect() as connection:
            _be_patient(connection)
            try:
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            except sa.exc.OperationalError as error:
                # Needs a moment without any other connection at work. Slower without, not wrong.
                log.info("SQLite could not switch to write-ahead logging now (%s)", error.orig)

    def connect(self) -> sa.Connection:
        """For reading."""
        return self._engine.connect()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """For writing; committed at the end, rolled back by an exception."""
        try:
            with self.connect() as connection, connection.begin():
                if self.sqlite:
                    _become_the_writer(connection)
                yield connection
        except sa.exc.StatementError as error:
            # It will be logged, and a receiver's answer may repeat the headers it was sent.
            error.hide_parameters = True
            raise


class bytes_of(FunctionElement[int]):
    """How many bytes a column of texts in ASCII holds, without reading them, where possible."""

    type = sa.Integer()
    inherit_cache = True


@compiles(bytes_of)
def _octet_length(element: bytes_of, compiler: Any, **options: Any) -> str:
    return f"octet_length({compiler.process(element.clauses, **options)})"


@compiles(bytes_of, "sqlite")  # which knows the other one since 3.43 only
def _length(element: bytes_of, compiler: Any, **options: Any) -> str:
    return f"length({compiler.process(element.clauses, **options)})"


def among(column: sa.Column[Any], values: Collection[Any]) -> sa.ColumnElement[bool]:
    """`column IN (values)`, for 1, 2, 4, 8… values, the last one repeated.

    Databases and their drivers keep what they have prepared by the statement's text: so there are
    few of them, and their memory does not grow with every new number of values.
    """
    some = list(values)
    size = 1 << (len(some) - 1).bit_length() if some else 0
    return column.in_(some + some[-1:] * (size - len(some)))


def _become_the_writer(connection: sa.Connection) -> None:
    """Take SQLite's write lock before the first read: a read that turns into a write fails at
    once, without waiting, if another has written in between."""
    raw: Any = connection.connection.dbapi_connection
    if raw.in_transaction:  # the app has its engines begin by themselves
        raw.rollback()
    _be_patient(connection)
    if raw.in_transaction:  # PEP 249's way (`autocommit=False`): there always is a transaction
        raw.execute("DELETE FROM resthooks_delivery WHERE 0")
    else:
        raw.execute("BEGIN IMMEDIATE")


def _be_patient(connection: sa.Connection) -> None:
    """Wait for others' locks, longer than the app may have asked its connections to."""
    raw: Any = connection.connection.dbapi_connection
    raw.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT * 1000:.0f}")
