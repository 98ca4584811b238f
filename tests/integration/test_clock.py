"""The time that due times and leases are told by, when this machine's clock is stepped."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from flask_resthooks import database
from flask_resthooks.database import Database
from flask_resthooks.models import utcnow

HOUR = dt.timedelta(hours=1)
MOMENT = dt.timedelta(seconds=10)


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch) -> Callable[[dt.timedelta], None]:
    def step(by: dt.timedelta) -> None:
        monkeypatch.setattr(database, "utcnow", lambda: utcnow() + by)

    return step


@pytest.mark.parametrize("by", [HOUR, -HOUR])
def test_a_clock_that_is_stepped_within_a_drain_is_not_noticed(
    database_url: str, step: Callable[[dt.timedelta], None], by: dt.timedelta
) -> None:
    engine = sa.create_engine(database_url)
    one = Database(engine)
    one.synchronise()
    step(by)
    assert abs(one.now() - utcnow()) < MOMENT
    before = one.now()
    assert one.now() >= before
    one.synchronise()
    right = utcnow() + by if one.sqlite else utcnow()  # SQLite has no clock of its own
    assert abs(one.now() - right) < MOMENT
    engine.dispose()


@pytest.mark.parametrize("by", [HOUR, -HOUR])
def test_it_is_told_once_that_the_clock_was_set_if_it_is_the_one_to_go_by(
    database_url: str, step: Callable[[dt.timedelta], None], by: dt.timedelta
) -> None:
    engine = sa.create_engine(database_url)
    one = Database(engine)
    assert not one.was_set()
    one.synchronise()
    assert not one.was_set()
    step(by)
    assert one.was_set() is one.sqlite
    assert not one.was_set()
    right = utcnow() + by if one.sqlite else utcnow()
    assert abs(one.now() - right) < MOMENT
    engine.dispose()


def test_before_the_first_drain_it_is_this_machines(
    database_url: str, step: Callable[[dt.timedelta], None]
) -> None:
    engine = sa.create_engine(database_url)
    step(HOUR)
    assert abs(Database(engine).now() - utcnow() - HOUR) < MOMENT
    engine.dispose()
