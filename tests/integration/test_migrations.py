"""From the first released schema to this one: the steps, what sees that they are missing, and
what takes them."""

from __future__ import annotations

import logging
import pickle
import threading
import time
from collections.abc import Iterator
from typing import Any

import flask
import pytest
import rq
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from flask_sqlalchemy import SQLAlchemy
from migrate_host import TO_COME
from servers import PostgresServer

from flask_resthooks import RESTHooks, jobs, models
from flask_resthooks.errors import SchemaMismatch
from flask_resthooks.migrations import STEPS, AddColumn, AddIndex, missing, upgrading
from flask_resthooks.schema import Found, check_schema

CONVENTION = {
    "uq": "%(table_name)s_%(column_0_name)s_uq",
    "pk": "%(table_name)s_pk",
}
"""Of an app: it names constraints, ours too, and no indexes."""


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    made = sa.create_engine(database_url)
    yield made
    made.dispose()


@pytest.fixture
def postgresql(postgresql_url: str) -> Iterator[sa.Engine]:
    made = sa.create_engine(postgresql_url)
    yield made
    made.dispose()


def metadata(**options: Any) -> sa.MetaData:
    made = sa.MetaData(**options)
    models.define(made)
    return made


def upgraded(engine: sa.Engine, like: sa.MetaData, *steps: Any) -> list[str]:
    """What was done, by name."""
    return [str(change) for change in upgrading.upgrade(engine, like, *steps)]


def found(engine: sa.Engine) -> Found:
    with engine.connect() as connection:
        return Found.read(connection, None)


def shape(engine: sa.Engine, schema: str | None = None) -> dict[str, Any]:
    """Everything that reflection tells, but for the order of the columns."""
    look = sa.inspect(engine)
    return {
        table: {
            "columns": {each["name"]: _words(each) for each in look.get_columns(table, schema)},
            "indexes": {each["name"]: _words(each) for each in look.get_indexes(table, schema)},
            "unique": look.get_unique_constraints(table, schema),
            "key": look.get_pk_constraint(table, schema),
            "options": look.get_table_options(table, schema),
        }
        for table in look.get_table_names(schema)
    }


def _words(facts: Any) -> dict[str, str]:
    options = {name: str(value) for name, value in facts.get("dialect_options", {}).items()}
    return {name: str(value) for name, value in {**facts, "dialect_options": options}.items()}


@pytest.mark.parametrize(
    "options", [{}, {"naming_convention": CONVENTION}], ids=["plain", "convention"]
)
def test_all_steps_lead_to_what_the_models_say(
    engine: sa.Engine, options: Any, postgres_server: PostgresServer, tmp_path: Any
) -> None:
    models_say = metadata(**options)
    done = upgraded(engine, models_say)
    assert len(done) == len({*done}) == sum(map(len, STEPS))
    sqlite = engine.dialect.name == "sqlite"
    url = f"sqlite:///{tmp_path}/other.db" if sqlite else postgres_server.create_database()
    other = sa.create_engine(url)
    models_say.create_all(other)
    assert shape(engine) == shape(other)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, models_say) == []
    if sqlite:
        numbered = "SELECT name FROM sqlite_master WHERE sql LIKE '%AUTOINCREMENT%'"
        with engine.connect() as connection:
            assert connection.exec_driver_sql(numbered).scalars().all() == ["resthooks_event"]
    other.dispose()
    if not sqlite:
        postgres_server.drop_database(url)
    assert upgraded(engine, models_say) == []


def test_the_tables_may_be_in_a_schema(postgresql: sa.Engine) -> None:
    like = sa.MetaData(schema="hooks")
    tables = models.define(like)
    with postgresql.begin() as connection:
        connection.execute(sa.schema.CreateSchema("hooks"))
    upgraded(postgresql, like, STEPS[:1])
    with pytest.raises(SchemaMismatch, match=r"it lacks the column resthooks_delivery\.faults"):
        check_schema(postgresql, tables, {})
    assert upgraded(postgresql, like) == [str(change) for change in STEPS[1]]
    check_schema(postgresql, tables, {})
    assert shape(postgresql) == {}


def test_columns_and_indexes_are_added_to_tables_with_rows(engine: sa.Engine) -> None:
    like = metadata()
    upgraded(engine, like)
    add = "INSERT INTO resthooks_host (host, turn_at, strikes) VALUES ('a', '2026-01-01', 1)"
    with engine.begin() as connection:
        connection.exec_driver_sql(add)
    steps = (*STEPS, TO_COME)
    assert upgraded(engine, like, steps) == [
        "the column resthooks_host.note",
        "the index resthooks_delivery_new of resthooks_delivery",
        "the index resthooks_event_new of resthooks_event",
    ]
    assert missing(found(engine), steps) == []
    with engine.connect() as connection:
        note = connection.exec_driver_sql("SELECT note FROM resthooks_host").scalar()
    assert note == "a:b 100%"
    indexes = {each["name"]: each for each in sa.inspect(engine).get_indexes("resthooks_delivery")}
    options = indexes["resthooks_delivery_new"]["dialect_options"]
    assert "failed" in str(options[f"{engine.dialect.name}_where"])
    # More than the code knows is what it finds after it has gone back to an older version.
    check_schema(engine, models.define(like), {})


def test_an_index_whose_build_was_broken_off_is_built_again(postgresql: sa.Engine) -> None:
    like = metadata()
    upgraded(postgresql, like)
    row = "INSERT INTO resthooks_host (host, turn_at, strikes) VALUES (%s, now(), 1)"
    autocommit = postgresql.execution_options(isolation_level="AUTOCOMMIT")
    build = "CREATE UNIQUE INDEX CONCURRENTLY resthooks_host_new ON resthooks_host (strikes)"
    with autocommit.connect() as connection:
        for host in ("a", "b"):
            connection.exec_driver_sql(row, (host,))
        with pytest.raises(sa.exc.IntegrityError):
            connection.exec_driver_sql(build)
    assert "resthooks_host_new" in {
        each["name"] for each in sa.inspect(postgresql).get_indexes("resthooks_host")
    }
    step = (AddIndex("resthooks_host", "resthooks_host_new", ("strikes",)),)
    assert upgraded(postgresql, like, (*STEPS, step)) == [
        "the index resthooks_host_new of resthooks_host"
    ]
    assert "resthooks_host_new" in found(postgresql).indexes["resthooks_host"]


def test_a_change_that_waits_for_its_lock_does_not_hold_up_commits(
    postgresql: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upgrading, "LOCK_TIMEOUT", 0.2)
    monkeypatch.setattr(upgrading, "LOCK_PAUSE", 0.1)
    like = metadata()
    upgraded(postgresql, like, STEPS[:1])
    done: list[str] = []
    upgrade = threading.Thread(target=lambda: done.extend(upgraded(postgresql, like)))
    longest = 0.0
    with postgresql.connect() as reader:
        reader.exec_driver_sql("SELECT count(*) FROM resthooks_host")
        upgrade.start()
        for number in range(20):
            began = time.monotonic()
            with postgresql.begin() as connection:
                connection.exec_driver_sql(
                    "INSERT INTO resthooks_host (host, turn_at, strikes) VALUES (%s, now(), 1)",
                    (str(number),),
                )
            longest = max(longest, time.monotonic() - began)
            time.sleep(0.05)
        assert done == []
    upgrade.join(20)
    assert done == [str(change) for change in STEPS[1]]
    assert longest < 1.5  # 0.2, and this machine may be busy

    monkeypatch.setattr(upgrading, "LOCK_TRIES", 2)
    with postgresql.connect() as reader:
        reader.exec_driver_sql("SELECT count(*) FROM resthooks_host")
        with pytest.raises(SchemaMismatch, match=r"resthooks_host\.note cannot be added"):
            upgraded(postgresql, like, (*STEPS, TO_COME))


def test_upgrades_that_run_at_once_take_turns(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upgrading, "LOCK_PAUSE", 0.05)
    like = metadata()
    together = threading.Barrier(3)
    done: list[str] = []
    failures: list[Exception] = []

    def run() -> None:
        together.wait()
        try:
            done.extend(upgraded(engine, like, (*STEPS, TO_COME)))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sorted(done) == sorted(str(change) for step in (*STEPS, TO_COME) for change in step)


def test_a_column_that_older_code_cannot_fill_is_refused_as_a_step() -> None:
    with pytest.raises(ValueError, match=r"the column resthooks_host\.must"):
        AddColumn("resthooks_host", lambda: sa.Column("must", sa.Integer, nullable=False))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ("DROP TABLE resthooks_answer", "it lacks the table resthooks_answer;"),
        (
            "ALTER TABLE resthooks_delivery DROP COLUMN faults",
            "it lacks the column resthooks_delivery.faults;",
        ),
        ("DROP INDEX resthooks_delivery_due", "it lacks the index resthooks_delivery_due;"),
        (
            "ALTER TABLE resthooks_host RENAME COLUMN strikes TO hits",
            "it lacks the column resthooks_host.strikes;",
        ),
        (
            "ALTER TABLE resthooks_log ADD COLUMN more INTEGER NOT NULL",
            "it wants a value for resthooks_log.more, which a newer version",
        ),
        ("ALTER TABLE resthooks_log ADD COLUMN more INTEGER NOT NULL DEFAULT 1", None),
        ("CREATE INDEX resthooks_more ON resthooks_log (last_position)", None),
    ],
)
def test_what_does_not_fit_is_named(engine: sa.Engine, spoil: str, said: str | None) -> None:
    if engine.dialect.name == "sqlite" and "NOT NULL" in spoil and "DEFAULT" not in spoil:
        spoil = "DROP TABLE resthooks_log"
        with engine.begin() as connection:
            connection.exec_driver_sql(
                "CREATE TABLE x (id INTEGER PRIMARY KEY, last_position INTEGER, more INT NOT NULL)"
            )
        spoil_too = "ALTER TABLE x RENAME TO resthooks_log"
    else:
        spoil_too = "SELECT 1"
    like = sa.MetaData()
    tables = models.define(like)
    like.create_all(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql(spoil)
        connection.exec_driver_sql(spoil_too)
    if said is None:
        check_schema(engine, tables, {})
        return
    with pytest.raises(SchemaMismatch) as raised:
        check_schema(engine, tables, {})
    assert said in str(raised.value)


def test_the_error_names_the_command_that_the_app_has(sqlite_url: str) -> None:
    engine = sa.create_engine(sqlite_url)
    tables = models.define(sa.MetaData())
    with pytest.raises(SchemaMismatch, match=r"run `flask resthooks upgrade`$"):
        check_schema(engine, tables, {})
    with pytest.raises(SchemaMismatch, match="run `flask db upgrade`; if no revision"):
        check_schema(engine, tables, {"migrate": object()})
    engine.dispose()


def test_the_type_of_times_can_be_pickled_and_copied() -> None:
    table = sa.Table("t", sa.MetaData(), sa.Column("at", models.UTCDateTime))
    again = pickle.loads(pickle.dumps(table))
    assert isinstance(again.c.at.type, models.UTCDateTime)
    assert isinstance(table.to_metadata(sa.MetaData()).c.at.type, models.UTCDateTime)


class App:
    """An app whose tables are of the first schema."""

    def __init__(self, url: str, redis_url: str, steps: Any = STEPS[:1]) -> None:
        self.db = SQLAlchemy()
        self.hooks = RESTHooks(self.db)
        self.hooks.owner_loader(lambda: "1")
        self.hooks.event_type("thing.done")
        self.app = flask.Flask("old")
        self.app.config.update(SQLALCHEMY_DATABASE_URI=url, RESTHOOKS_REDIS_URL=redis_url)
        self.db.init_app(self.app)
        self.hooks.init_app(self.app)
        with self.app.app_context():
            self.engine = self.db.engine
        upgraded(self.engine, self.db.metadata, steps)

    def command(self, *words: str) -> Any:
        return self.app.test_cli_runner().invoke(args=["resthooks", *words])


@pytest.fixture
def old(database_url: str, redis_url: str) -> Iterator[App]:
    made = App(database_url, redis_url)
    yield made
    made.engine.dispose()


def test_a_worker_does_not_start_until_the_tables_fit(old: App) -> None:
    for _ in range(2):
        refused = old.command("worker", "--burst")
        assert refused.exit_code == 1
        (line,) = refused.output.splitlines()
        assert "it lacks the column resthooks_delivery.faults, the column resthooks_host" in line
        assert line.endswith("run `flask resthooks upgrade`")
    upgraded = old.command("upgrade")
    assert upgraded.exit_code == 0, upgraded.output
    assert upgraded.output.splitlines() == [
        "added the column resthooks_host.silences",
        "added the column resthooks_delivery.faults",
    ]
    assert old.command("upgrade").output == "there is nothing to add\n"


def test_what_somebody_has_removed_of_the_first_tables_is_added_again(old: App) -> None:
    with old.engine.begin() as connection:
        connection.exec_driver_sql("DROP INDEX resthooks_delivery_due")
        connection.exec_driver_sql("ALTER TABLE resthooks_attempt DROP COLUMN request_id")
    upgraded = old.command("upgrade")
    assert upgraded.exit_code == 0, upgraded.output
    assert set(upgraded.output.splitlines()) == {
        "added the index resthooks_delivery_due of resthooks_delivery",
        "added the column resthooks_attempt.request_id",
        "added the column resthooks_host.silences",
        "added the column resthooks_delivery.faults",
    }
    (again,) = [
        index
        for index in sa.inspect(old.engine).get_indexes("resthooks_delivery")
        if index["name"] == "resthooks_delivery_due"
    ]
    assert again["column_names"] == ["due_at"]
    assert [where for key, where in again["dialect_options"].items() if key.endswith("_where")]


def test_an_app_with_flask_migrate_is_told_to_use_it(old: App) -> None:
    old.app.extensions["migrate"] = object()
    told = old.command("upgrade")
    assert told.exit_code == 1 and "flask resthooks revision" in told.output
    assert old.command("upgrade", "--without-revision").exit_code == 0


def test_pruning_tables_that_do_not_fit_is_refused(old: App) -> None:
    told = old.command("prune", "--older-than", "5")
    assert told.exit_code == 1 and "run `flask resthooks upgrade`" in told.output


def test_tables_older_than_any_release_are_told_from_old_ones(old: App) -> None:
    with old.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE resthooks_delivery DROP COLUMN booked")
    told = old.command("upgrade")
    assert told.exit_code == 1
    assert (
        "it lacks the column resthooks_delivery.booked; no step can add that again" in told.output
    )


def test_a_job_of_a_plain_rq_worker_says_it_once_and_goes_on_after_the_upgrade(
    old: App, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("_plants", "_runners"):
        monkeypatch.setattr(jobs, name, {})
    monkeypatch.setattr(jobs, "_load", lambda queue: plant)
    plant = old.app.extensions["resthooks"].plant
    queue = rq.Queue("resthooks", connection=plant.wakeups.client)
    with old.app.app_context():
        for _ in range(5):
            old.hooks.emit("thing.done", {}, owner="1")
            old.db.session.commit()
            assert plant.wakeups.wait(20)
            _run_jobs(queue)
    (said,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert said.getMessage().startswith("no hooks are sent: the database does not fit")
    assert queue.failed_job_registry.count == 0
    assert queue.scheduled_job_registry.count == 1  # the next sweep
    upgraded(old.engine, old.db.metadata)
    plant.wakeups.insist()  # as the sweep does
    _run_jobs(queue)
    for runner in jobs._runners.values():
        runner.close()
    with old.engine.connect() as connection:
        marks = connection.scalars(sa.select(old.hooks.tables.event.c.fanned_out_at)).all()
    assert len(marks) == 5 and None not in marks


def _run_jobs(queue: rq.Queue) -> None:
    while queue.count:
        jobs.drain(queue.name)
        queue.pop_job_id()


def test_an_app_whose_tables_do_not_fit_is_told_by_its_own_errors(
    database_url: str, redis_url: str
) -> None:
    new = App(database_url, redis_url, ())
    words = r"flask_resthooks \S+ needs what the database lacks: run `flask resthooks upgrade`"
    with new.app.app_context():
        with pytest.raises(sa.exc.DBAPIError, match=words):
            new.hooks.emit("thing.done", {}, owner="1")
        new.db.session.rollback()
        # Others' tables are others' business.
        with pytest.raises(sa.exc.DBAPIError) as raised:
            new.db.session.execute(sa.text("SELECT 1 FROM nothing"))
        assert "flask_resthooks" not in str(raised.value)
        new.db.session.remove()
    new.engine.dispose()
