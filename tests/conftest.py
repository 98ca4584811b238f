"""Fixtures for every test: real servers, started when the first test asks for one.

* `redis_url`: a Redis that runs and is empty; `redis_server` to stop, start, freeze and thaw it.
* `database_url`: an empty database, once SQLite and once PostgreSQL; `sqlite_url` and
  `postgresql_url` for one of them alone; `postgres_server` for the server.
* `inbox`: an HTTP receiver (`servers.Inbox`); `receiver` is another name for it.

And for every test, `log_guard`: one that logs a secret fails.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from log_guard import pytest_configure  # noqa: F401  (no test may log a secret)
from servers import Inbox, PostgresServer, RedisServer

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("house", deadline=None)
hypothesis.settings.load_profile("house")


def pytest_collection_finish() -> None:
    """What is imported by now stays: no collection of garbage need look at it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> Iterator[str]:
    redis_server.start()
    redis_server.client().flushall()
    yield redis_server.url
    redis_server.close_clients()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture
def postgresql_url(postgres_server: PostgresServer) -> Iterator[str]:
    postgres_server.start()
    url = postgres_server.lend_database()
    yield url
    postgres_server.start()
    postgres_server.take_back(url)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'test.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    with Inbox() as inbox:
        yield inbox


@pytest.fixture
def receiver(inbox: Inbox) -> Inbox:
    return inbox
