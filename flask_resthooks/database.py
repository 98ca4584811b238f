"""Truth: what PostgreSQL and SQLite do differently: transactions that write, and whose clock it is.

On PostgreSQL workers skip the rows that others have locked (`FOR UPDATE SKIP LOCKED`, which SQLite
does not know and SQLAlchemy leaves out there). On SQLite a transaction that writes takes the lock
of the one writer from its beginning.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import sqlalchemy as sa

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
        # SQLite's in memory: another thread would have another one, or none of its own.
        self.one_connection = isinstance(engine.pool, (sa.SingletonThreadPool, sa.StaticPool))
        self._clock = clock
        # SQLite's own way to wait for a lock is to sleep, and to look again: for whom it was held
        # by another thread of ours, it would be ever too late.
        self._writing = threading.Lock()
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
    def transaction(self, *, durable: bool = True) -> Iterator[sa.Connection]:
        """For writing; committed at the end, rolled back by an exception.

        :param durable: False lets PostgreSQL answer before it is on disk. Whatever is committed
            after it still comes after it; a crash may forget both, never this one alone.
        """
        try:
            with self._turn() as patience, self.connect() as connection, connection.begin():
                if self.sqlite:
                    _become_the_writer(connection, patience)
                elif not durable:
                    connection.exec_driver_sql("SET LOCAL synchronous_commit TO off")
                yield connection
        except sa.exc.StatementError as error:
            # It will be logged, and a receiver's answer may repeat the headers it was sent.
            error.hide_parameters = True
            raise

    @contextlib.contextmanager
    def _turn(self) -> Iterator[float]:
        """The turn of one of our threads to be SQLite's writer, and the seconds that are left to
        wait for others; who has waited for too long tries it once."""
        start = time.monotonic()
        mine = self.sqlite and self._writing.acquire(timeout=BUSY_TIMEOUT)
        try:
            yield max(BUSY_TIMEOUT - (time.monotonic() - start), 0.0)
        finally:
            if mine:
                self._writing.release()


def _become_the_writer(connection: sa.Connection, patience: float) -> None:
    """Take SQLite's write lock before the first read: a read that turns into a write fails at
    once, without waiting, if another has written in between."""
    raw: Any = connection.connection.dbapi_connection
    if raw.in_transaction:  # the app has its engines begin by themselves
        raw.rollback()
    _be_patient(connection, patience)
    if raw.in_transaction:  # PEP 249's way (`autocommit=False`): there always is a transaction
        raw.execute("DELETE FROM resthooks_delivery WHERE 0")
    else:
        try:
            raw.execute("BEGIN IMMEDIATE")
        except connection.dialect.loaded_dbapi.OperationalError as error:
            raise sa.exc.OperationalError("BEGIN IMMEDIATE", None, error) from error


def _be_patient(connection: sa.Connection, seconds: float = BUSY_TIMEOUT) -> None:
    """Wait for others' locks, longer than the app may have asked its connections to."""
    raw: Any = connection.connection.dbapi_connection
    raw.execute(f"PRAGMA busy_timeout={seconds * 1000:.0f}")
