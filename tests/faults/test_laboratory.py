"""The short form of `make faults`: a round or two of every fault, families sharing a bench."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.fault import Fault
from tests.faults.laboratory import FAULTS, Laboratory, Result, named, of_family

Do = Callable[..., Result]


@pytest.fixture
def campaign(request: pytest.FixtureRequest, redis_server: Any) -> Do:
    """Run faults on the servers of the other tests; nothing may be lost, phantom or too much."""

    def postgres() -> Any:
        return request.getfixturevalue("postgres_server")

    def run(faults: list[Fault], database: str, rounds: int | None = None) -> Result:
        result = Laboratory(redis_server, postgres).campaign(
            faults, database, rounds=rounds or len(faults), short=True, name="short"
        )
        assert not result.failures, "\n".join(result.failures)
        assert result.lost == result.phantom == 0
        assert result.duplicates <= result.allowed
        assert result.deliveries > 20 * result.rounds
        return result

    return run


@pytest.mark.timeout(300)  # two leases, on however slow a machine
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_workers_that_are_killed_or_suspended_anywhere_lose_nothing(
    campaign: Do, database: str
) -> None:
    suspended = of_family("suspension", database)
    result = campaign([*suspended, *of_family("kills", database)], database)
    assert result.duplicates, "a kill between POST and settle has to show"


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_two_workers_share_the_work_and_send_nothing_twice(campaign: Do, database: str) -> None:
    assert campaign([named("two workers")], database, 3).duplicates == 0


def test_a_web_process_that_is_killed_while_it_commits_loses_and_invents_nothing(
    campaign: Do,
) -> None:
    assert campaign(of_family("web", "postgresql"), "postgresql").duplicates == 0


def test_whatever_happens_to_redis_costs_nothing(campaign: Do) -> None:
    assert campaign(of_family("redis", "sqlite"), "sqlite").duplicates == 0


def test_receivers_that_break_off_get_it_again(campaign: Do) -> None:
    result = campaign(of_family("receivers", "sqlite"), "sqlite")
    assert 0 < result.duplicates == result.allowed


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_clock_that_is_stepped_by_an_hour_costs_nothing(campaign: Do, database: str) -> None:
    assert campaign(of_family("clock", database), database).duplicates == 0


def test_a_postgresql_that_breaks_loses_nothing(campaign: Do) -> None:
    faults = [fault for fault in of_family("postgresql", "postgresql") if not fault.config]
    campaign(faults, "postgresql")


@pytest.mark.parametrize(
    "name", ["PostgreSQL serialization failures", "PostgreSQL statement_timeout"]
)
def test_statements_that_postgresql_refuses_lose_nothing(campaign: Do, name: str) -> None:
    campaign([named(name)], "postgresql")


def test_an_sqlite_that_is_locked_or_out_of_room_loses_nothing(campaign: Do) -> None:
    campaign(of_family("sqlite", "sqlite"), "sqlite")


def test_every_fault_is_in_one_of_these_families() -> None:
    families = {
        *("none", "kills", "suspension", "web", "redis", "receivers", "clock"),
        *("postgresql", "sqlite"),
    }
    assert {fault.family for fault in FAULTS} == families
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
