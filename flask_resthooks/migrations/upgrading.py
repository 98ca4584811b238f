"""Truth: takes the steps that a database lacks, directly, for apps that do not use Alembic.

Each change is a transaction of its own, and is done only if it is not done yet: what is broken off
is gone on with by the next try. On PostgreSQL no commit of the app waits long: a lock that cannot
be had soon is let go of and tried again, for everybody else would queue behind whoever waits for
it; and indexes are built beside commits.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from ..database import check_dialect
from ..errors import SchemaMismatch
from ..schema import Found
from . import STEPS, AddIndex, Change, missing

LOCK_TIMEOUT = 2.0
"""Seconds that commits may have to wait behind a change that waits for its lock."""

LOCK_TRIES = 20

LOCK_PAUSE = 1.0
"""Seconds between two tries."""

_NO_LOCK = ("55P03", "40P01")
"""PostgreSQL's codes for a lock that was not had in time, and for a deadlock."""

_KEY = 0x72657374686F6F6B
"""Of the advisory lock: upgrades of several machines take turns."""


def upgrade(
    engine: sa.Engine, like: sa.MetaData, steps: Sequence[Sequence[Change]] = STEPS
) -> Iterator[Change]:
    """Take the steps that the database lacks; yields each change when it is done.

    :param like: the app's metadata.
    :raises SchemaMismatch: if a lock could not be had. What was done until then stays.
    """
    check_dialect(engine.dialect.name)
    with _alone(engine):
        with engine.connect() as connection:
            todo = missing(Found.read(connection, like.schema), steps)
        for change in todo:
            if _patiently(engine, change, like):
                yield change


def _patiently(engine: sa.Engine, change: Change, like: sa.MetaData) -> bool:
    for _ in range(LOCK_TRIES):
        try:
            return _make(engine, change, like)
        except sa.exc.DBAPIError as error:
            code = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
            if code not in _NO_LOCK:
                raise
        time.sleep(LOCK_PAUSE)
    raise SchemaMismatch(
        f"{change} cannot be added: long transactions hold the table's lock again and again "
        f"({LOCK_TRIES} tries of {LOCK_TIMEOUT:g} seconds); run it again when they are over"
    )


def _make(engine: sa.Engine, change: Change, like: sa.MetaData) -> bool:
    """Whether there was anything to do."""
    sqlite = engine.dialect.name == "sqlite"
    with engine.connect() as connection:
        if not sqlite:
            if isinstance(change, AddIndex):
                connection.execution_options(isolation_level="AUTOCOMMIT")
                connection.detach()  # what is set for the session ends with it
                connection.exec_driver_sql("SET statement_timeout = 0")
            else:
                wait = f"SET LOCAL lock_timeout = {LOCK_TIMEOUT * 1000:.0f}"
                connection.exec_driver_sql(wait)
        else:
            connection.begin()
            raw: Any = connection.connection.dbapi_connection
            if not raw.in_transaction:
                raw.execute("BEGIN IMMEDIATE")
        if change.made(Found.read(connection, like.schema)):
            return False
        for statement in change.statements(like):
            connection.execute(statement)
        connection.commit()
    return True


@contextlib.contextmanager
def _alone(engine: sa.Engine) -> Iterator[None]:
    if engine.dialect.name == "sqlite":  # it has one writer
        yield
        return
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.detach()  # the lock goes with the connection
        # Not waited for inside of PostgreSQL: an index that is built beside transactions waits for
        # all that have begun before, that one included.
        while not connection.scalar(sa.select(sa.func.pg_try_advisory_lock(_KEY))):
            time.sleep(LOCK_PAUSE)
        yield
