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

SWITCH_TIMEOUT = 1.0
"""Seconds that the switch to SQLite's write-ahead log waits for a moment without a writer."""

SWITCH_PAUSE = 0.01
"""Seconds between two tries of it."""

BY_INDEX = sa.text(
    "SELECT set_config('enable_seqscan', 'off', true), set_config('enable_sort', 'off', true),"
    " set_config('jit', 'off', true)"
)
"""Makes PostgreSQL go by indexes, and in their order, until the end of a transaction, and compile
no plan.

What it takes for cheapest rests on what the tables were like when it last looked, and a prepared
statement stays with that. Of a table of ten rows it is to read all; done so for each of 10,000
rows, that is quadratic."""

SET_BY = 5.0
"""Seconds by which a clock that was set differs at least from one that goes on by itself."""


UNREADABLE = (ValueError, TypeError, LookupError, ArithmeticError)
"""What reading a damaged value raises."""


class DamagedText(ValueError):
    """SQLite holds a text that is none in UTF-8. Which one is not said: it may be a secret."""


def is_damaged_text(error: BaseException) -> bool:
    """Whether that is what the driver means, whose message repeats the text."""
    return isinstance(error, sa.exc.OperationalError) and "to UTF-8" in str(error.orig)


MAY_BE_UNREADABLE = (*UNREADABLE, sa.exc.OperationalError)
"""What is caught where a damaged value is to be passed over; see `let_trouble_out`."""


def let_trouble_out(error: Exception) -> None:
    """Raise it again if it is no damaged value but the database's own trouble."""
    if isinstance(error, sa.exc.OperationalError) and not is_damaged_text(error):
        raise error


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
            refused = _switch_to_wal(connection)
        if refused:  # slower without, not wrong
            log.info("SQLite could not switch to write-ahead logging now (%s)", refused)

    @contextlib.contextmanager
    def connect(self) -> Iterator[sa.Connection]:
        """For reading."""
        with _showing_nothing(), self._engine.connect() as connection:
            if not self.sqlite:
                connection.execute(BY_INDEX)
            yield connection

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """For writing; committed at the end, rolled back by an exception."""
        with (
            _showing_nothing(),
            self._turn() as patience,
            self._engine.connect() as connection,
            connection.begin(),
        ):
            if self.sqlite:
                _become_the_writer(connection, patience)
            else:
                connection.execute(BY_INDEX)
            yield connection

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


@contextlib.contextmanager
def _showing_nothing() -> Iterator[None]:
    """What a statement fails with will be logged: without its parameters, for a receiver's answer
    may repeat the headers it was sent, and without a text that could not be read."""
    try:
        yield
    except sa.exc.StatementError as error:
        if is_damaged_text(error):
            raise DamagedText("a text in the database is no UTF-8") from None
        error.hide_parameters = True
        raise


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


def _switch_to_wal(connection: sa.Connection) -> Exception | None:
    """Whatever its patience, SQLite itself does not wait for a writer there.

    :returns: why it was refused.
    """
    raw: Any = connection.connection.dbapi_connection
    (patience,) = raw.execute("PRAGMA busy_timeout").fetchone()  # as the app has set it
    until = time.monotonic() + SWITCH_TIMEOUT
    try:
        while True:
            _be_patient(connection, max(until - time.monotonic(), 0.0))
            try:
                raw.execute("PRAGMA journal_mode=WAL").fetchone()
                return None
            except connection.dialect.loaded_dbapi.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() >= until:
                    return error
            time.sleep(SWITCH_PAUSE)
    finally:
        raw.execute(f"PRAGMA busy_timeout={patience}")


def _be_patient(connection: sa.Connection, seconds: float = BUSY_TIMEOUT) -> None:
    """Wait for others' locks, longer than the app may have asked its connections to."""
    raw: Any = connection.connection.dbapi_connection
    raw.execute(f"PRAGMA busy_timeout={seconds * 1000:.0f}")
