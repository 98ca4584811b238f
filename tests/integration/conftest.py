"""Fixtures of the tests that use one of our rooms with the real things below it.

* `acme`: a host app with the API, once on SQLite and once on PostgreSQL; `quick` for what has
  nothing to do with the database.
* `world`: a database with the pipeline's tables and a clock that stands still, likewise on both.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from api_host import Host, host
from world import World


@pytest.fixture
def acme(database_url: str) -> Iterator[Host]:
    with host(database_url) as made:
        yield made


@pytest.fixture
def quick(sqlite_url: str) -> Iterator[Host]:
    with host(sqlite_url) as made:
        yield made


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    made = World(database_url)
    yield made
    made.engine.dispose()
