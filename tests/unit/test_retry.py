from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_resthooks import retry
from flask_resthooks.retry import DEFAULT_SCHEDULE, Decision, decide

STATUSES = [None, *range(100, 600)]
TRIED_AGAIN = [
    status for status in STATUSES if status is None or not (200 <= status < 400 or status == 410)
]
SCHEDULES = st.lists(st.floats(0, 2592000), min_size=1, max_size=20)
CHANCES = st.floats(0, 1)


def after(
    status: int | None, attempts: int, *, jitter: float = 0.0, chance: float = 0.0
) -> Decision:
    return decide(
        status, attempts=attempts, schedule=DEFAULT_SCHEDULE, jitter=jitter, chance=chance
    )


@pytest.mark.parametrize("attempts", range(1, len(DEFAULT_SCHEDULE) + 3))
def test_every_answer_has_its_meaning(attempts: int) -> None:
    for status in STATUSES:
        decision = after(status, attempts)
        if status is not None and 200 <= status < 300:
            assert decision == Decision("delivered")
        elif status is not None and 300 <= status < 400:
            assert decision.status == "failed"
            assert str(status) in (decision.reason or "")
            assert not decision.gone
        elif status == 410:
            assert decision == Decision("failed", reason=retry.GONE, gone=True)
        elif attempts < len(DEFAULT_SCHEDULE):
            assert decision == Decision("pending", delay=DEFAULT_SCHEDULE[attempts])
        else:
            assert decision == Decision("failed", reason=f"gave up after {attempts} attempts")


def test_gone_is_410_and_nothing_else() -> None:
    gone = [status for status in STATUSES if after(status, 1).gone]
    assert gone == [410]
    assert "410" in retry.GONE


@given(
    st.none() | st.integers(100, 599),
    st.integers(1, 30),
    SCHEDULES,
    st.floats(0, 1),
    CHANCES,
)
def test_a_decision_is_whole(
    status: int | None, attempts: int, schedule: list[float], jitter: float, chance: float
) -> None:
    decision = decide(status, attempts=attempts, schedule=schedule, jitter=jitter, chance=chance)
    assert (decision.delay is not None) == (decision.status == "pending")
    assert (decision.reason is not None) == (decision.status == "failed")
    assert not decision.gone or decision.status == "failed"


@given(st.sampled_from(TRIED_AGAIN), SCHEDULES, st.floats(0, 1), CHANCES, st.data())
def test_jitter_only_lengthens_a_wait_and_by_no_more_than_its_part(
    status: int | None, schedule: list[float], jitter: float, chance: float, data: st.DataObject
) -> None:
    schedule = [*schedule, 60.0]
    attempts = data.draw(st.integers(1, len(schedule) - 1))
    decision = decide(status, attempts=attempts, schedule=schedule, jitter=jitter, chance=chance)
    assert decision.delay is not None
    assert schedule[attempts] <= decision.delay <= schedule[attempts] * (1 + jitter)


@given(CHANCES, CHANCES)
def test_jitter_spreads_by_chance(one: float, other: float) -> None:
    waits = [after(500, 3, jitter=0.2, chance=chance).delay for chance in sorted([one, other])]
    assert waits == sorted(waits)  # type: ignore[type-var]
    assert after(500, 3, jitter=0.2, chance=0.5).delay == pytest.approx(1800 * 1.1)
    assert after(500, 3, jitter=0.0, chance=0.5).delay == 1800


@given(st.sampled_from(TRIED_AGAIN), SCHEDULES)
def test_as_many_attempts_are_made_as_the_schedule_has(
    status: int | None, schedule: list[float]
) -> None:
    for attempts in itertools.count(1):
        decision = decide(status, attempts=attempts, schedule=schedule, jitter=0.2, chance=0.5)
        if decision.status != "pending":
            break
    assert decision.status == "failed"
    assert attempts == len(schedule)
    assert str(attempts) in (decision.reason or "")


def test_attempts_beyond_the_schedule_are_the_last() -> None:
    """A schedule may have been shortened while deliveries were on their way."""
    assert after(500, 1000).status == "failed"


def test_the_default_schedule_starts_at_once_and_tries_ten_times_over_75_hours() -> None:
    assert DEFAULT_SCHEDULE[0] == 0
    assert len(DEFAULT_SCHEDULE) >= 10
    waits = [after(None, attempts).delay for attempts in range(1, len(DEFAULT_SCHEDULE))]
    assert sum(wait or 0 for wait in waits) >= 75 * 3600


def test_the_default_schedule_waits_longer_each_time() -> None:
    assert list(DEFAULT_SCHEDULE) == sorted(set(DEFAULT_SCHEDULE))
