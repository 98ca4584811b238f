"""Whose turn it is to write, and what is done that readers and a writer work at the same time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from world import World

from flask_resthooks.database import Database


def test_threads_of_one_process_do_not_sleep_for_sqlites_lock(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They wait for each other: SQLite, which would sleep, is not even asked."""
    monkeypatch.setattr("flask_resthooks.database._be_patient", no_patience)
    database = Database(world.engine)
    inside, release = threading.Event(), threading.Event()
    order: list[str] = []

    def first() -> None:
        with database.transaction() as connection:
            connection.execute(world.tables.host.delete())
            inside.set()
            release.wait(5)
            order.append("first")

    def second() -> None:
        with database.transaction():
            order.append("second")

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert inside.wait(5)
    threads[1].start()
    time.sleep(0.1)
    release.set()
    for thread in threads:
        thread.join(10)
    # On PostgreSQL they need not wait for each other at all.
    assert order == ["first", "second"] if database.sqlite else len(order) == 2


def no_patience(connection: sa.Connection, seconds: float = 0.0) -> None:
    connection.connection.dbapi_connection.execute("PRAGMA busy_timeout=0")  # type: ignore[union-attr]


def test_nobody_waits_for_sqlites_lock_twice(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flask_resthooks.database.BUSY_TIMEOUT", 0.3)
    database = Database(world.engine)
    if not database.sqlite:
        return
    with world.engine.connect() as other:
        other.exec_driver_sql("BEGIN IMMEDIATE")
        took: list[float] = []

        def write() -> None:
            start = time.monotonic()
            with pytest.raises(sa.exc.OperationalError), database.transaction():
                pass
            took.append(time.monotonic() - start)

        threads = [threading.Thread(target=write) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        other.rollback()
    assert len(took) == 4
    assert max(took) < 2 * 0.3 + 0.5


class TestTheWriteAheadLog:
    """The switch to it needs a moment without a writer, and SQLite itself does not wait for one."""

    @pytest.fixture
    def engine(self, tmp_path: Path) -> Iterator[sa.Engine]:
        engine = sa.create_engine(f"sqlite:///{tmp_path / 'rollback.db'}")
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE thing (id INTEGER)")
        yield engine
        engine.dispose()

    @staticmethod
    def mode(engine: sa.Engine) -> str:
        with engine.connect() as connection:
            connection.exec_driver_sql("SELECT * FROM thing").all()  # looks at the file
            return str(connection.exec_driver_sql("PRAGMA journal_mode").scalar())

    def test_the_switch_waits_for_a_writer(
        self, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("flask_resthooks.database.SWITCH_TIMEOUT", 20.0)
        with engine.connect() as writer:
            writer.exec_driver_sql("BEGIN IMMEDIATE")
            worker = threading.Thread(target=Database(engine).prepare)
            worker.start()
            worker.join(0.3)
            assert worker.is_alive(), "it did not wait"
            writer.rollback()
            worker.join(20)
        assert self.mode(engine) == "wal"

    def test_what_does_not_end_is_waited_for_no_longer_than_it_is_worth(
        self, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr("flask_resthooks.database.SWITCH_TIMEOUT", 0.1)
        caplog.set_level("INFO")
        with engine.connect() as writer:
            writer.exec_driver_sql("BEGIN IMMEDIATE")
            Database(engine).prepare()
            writer.rollback()
        assert "could not switch to write-ahead logging now (database is locked)" in caplog.text
        assert self.mode(engine) == "delete"
        Database(engine).prepare()
        assert self.mode(engine) == "wal"

    def test_an_app_that_begins_its_transactions_itself_gets_it_too(
        self, engine: sa.Engine
    ) -> None:
        """As SQLAlchemy advises, for savepoints."""

        @sa.event.listens_for(engine, "connect")
        def leave_it_to_us(connection: Any, record: Any) -> None:
            connection.isolation_level = None

        @sa.event.listens_for(engine, "begin")
        def begin(connection: sa.Connection) -> None:
            connection.exec_driver_sql("BEGIN")

        engine.dispose()
        Database(engine).prepare()
        assert self.mode(engine) == "wal"

    def test_another_refusal_is_not_asked_for_again(
        self, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr("flask_resthooks.database.SWITCH_TIMEOUT", 600.0)
        caplog.set_level("INFO")
        file = f"sqlite:///file:{engine.url.database}?mode=ro&uri=true"
        reading = sa.create_engine(file)
        Database(reading).prepare()
        reading.dispose()
        assert "(attempt to write a readonly database)" in caplog.text

    def test_the_apps_connection_is_as_patient_as_before(self, tmp_path: Path) -> None:
        engine = sa.create_engine(
            f"sqlite:///{tmp_path / 'test.db'}", connect_args={"timeout": 30}, pool_size=1
        )
        Database(engine).prepare()
        with engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 30_000
        engine.dispose()
