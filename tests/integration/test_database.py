"""Whose turn it is to write, and what is done that readers and a writer work at the same time."""

from __future__ import annotations

import threading
import time
from pathlib import Path

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
    def engine(self, tmp_path: Path) -> sa.Engine:
        engine = sa.create_engine(f"sqlite:///{tmp_path / 'rollback.db'}")
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE thing (id INTEGER)")
        return engine

    @staticmethod
    def mode(engine: sa.Engine) -> str:
        with engine.connect() as connection:
            connection.exec_driver_sql("SELECT * FROM thing").all()  # looks at the file
            return str(connection.exec_driver_sql("PRAGMA journal_mode").scalar())

    @pytest.mark.parametrize("begin", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
    def test_the_switch_waits_for_a_transaction_to_end(self, engine: sa.Engine, begin: str) -> None:
        with engine.connect() as writer:
            writer.exec_driver_sql(begin)
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
        assert "could not switch to write-ahead logging" in caplog.text
        assert self.mode(engine) == "delete"
        Database(engine).prepare()
        assert self.mode(engine) == "wal"
