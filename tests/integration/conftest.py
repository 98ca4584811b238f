"""Fixtures of the tests that use one of our rooms with the real things below it.

* `acme`: a host app with the API, once on SQLite and once on PostgreSQL; `quick` for what has
  nothing to do with the database. Both are made once and emptied before each test: who changes the
  app itself, or its tables, takes `fresh`.
* `world`: a database with the pipeline's tables and a clock that stands still, on both.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from api_host import Host, host
from servers import PostgresServer
from world import World


@pytest.fixture(scope="session")
def _sqlite_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with host(f"sqlite:///{tmp_path_factory.mktemp('host')}/test.db") as made:
        yield made


@pytest.fixture(scope="session")
def _postgresql_host(postgres_server: PostgresServer) -> Iterator[Host]:
    with host(postgres_server.create_database()) as made:
        yield made


def emptied(made: Host) -> Host:
    made.owner, made.woken = "acme", 0
    tables = made.db.metadata.sorted_tables
    with made.app.app_context():
        made.db.session.remove()
        made.db.engine.dispose()  # the server may have been another one meanwhile
        with made.db.engine.begin() as connection:
            if connection.dialect.name == "sqlite":
                for table in tables:
                    connection.execute(table.delete())
            else:
                names = ", ".join(table.name for table in tables)
                connection.execute(sa.text(f"TRUNCATE {names} RESTART IDENTITY"))
    return made


@pytest.fixture(params=["sqlite", "postgresql"])
def acme(request: pytest.FixtureRequest) -> Host:
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        server.start()
    made: Host = request.getfixturevalue(f"_{request.param}_host")
    return emptied(made)


@pytest.fixture
def quick(_sqlite_host: Host) -> Host:
    return emptied(_sqlite_host)


@pytest.fixture
def fresh(sqlite_url: str) -> Iterator[Host]:
    with host(sqlite_url) as made:
        yield made


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    made = World(database_url)
    yield made
    made.engine.dispose()
