"""Fixtures of the tests that use one of our rooms with the real things below it.

* `acme`: a host app with the API, once on SQLite and once on PostgreSQL; `quick` for what has
  nothing to do with the database. Both are made once and emptied before each test: who changes the
  app itself, or its tables, takes `fresh`; who needs other settings, `hosts`.
* `world`: a database with the pipeline's tables and a clock that stands still, on both.
* `capture_world`: a host app with tracked models, on both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from api_host import Host, Hosts, host
from capture_world import World as CaptureWorld
from capture_world import Worlds as CaptureWorlds
from servers import PostgresServer
from world import World


@pytest.fixture(scope="session")
def _sqlite_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with Hosts(f"sqlite:///{tmp_path_factory.mktemp('host')}/test.db") as hosts:
        yield hosts


@pytest.fixture(scope="session")
def _postgresql_hosts(postgres_server: PostgresServer) -> Iterator[Hosts]:
    with Hosts(postgres_server.create_database()) as hosts:
        yield hosts


def kept(request: pytest.FixtureRequest, what: str) -> Any:
    """What is made once for each database, whose server runs."""
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        server.start()
    return request.getfixturevalue(f"_{request.param}_{what}")


@pytest.fixture(params=["sqlite", "postgresql"])
def hosts(request: pytest.FixtureRequest) -> Hosts:
    hosts: Hosts = kept(request, "hosts")
    return hosts


@pytest.fixture
def acme(hosts: Hosts) -> Host:
    return hosts.one()


@pytest.fixture
def quick(_sqlite_hosts: Hosts) -> Host:
    return _sqlite_hosts.one()


@pytest.fixture
def fresh(sqlite_url: str) -> Iterator[Host]:
    with host(sqlite_url) as made:
        yield made


@pytest.fixture(scope="session")
def _sqlite_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(f"sqlite:///{tmp_path_factory.mktemp('world')}/test.db")
    yield made
    made.engine.dispose()


@pytest.fixture(scope="session")
def _postgresql_world(postgres_server: PostgresServer) -> Iterator[World]:
    made = World(postgres_server.create_database())
    yield made
    made.engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest) -> World:
    made: World = kept(request, "world")
    made.begin()
    return made


@pytest.fixture(scope="session")
def _sqlite_capture_worlds(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[CaptureWorlds]:
    with CaptureWorlds(f"sqlite:///{tmp_path_factory.mktemp('capture')}/test.db") as made:
        yield made


@pytest.fixture(scope="session")
def _postgresql_capture_worlds(postgres_server: PostgresServer) -> Iterator[CaptureWorlds]:
    with CaptureWorlds(postgres_server.create_database()) as made:
        yield made


@pytest.fixture(params=["sqlite", "postgresql"])
def capture_world(request: pytest.FixtureRequest) -> Iterator[CaptureWorld]:
    with kept(request, "capture_worlds").one() as made:
        yield made
