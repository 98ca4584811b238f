from __future__ import annotations

import datetime as dt
import email.utils
import itertools
import math
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_resthooks import retry, transport
from flask_resthooks.retry import (
    DEFAULT_SCHEDULE,
    FAULT_PAUSES,
    LONGEST_RETRY_AFTER,
    SILENCES,
    SILENT,
    THROTTLING,
    Decision,
    break_off,
    decide,
    decide_fault,
    failing_reason,
    is_over,
    is_silent,
    parse_retry_after,
    slow_down,
)

UTC = dt.timezone.utc
NOW = dt.datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
LIMIT = 3600.0
STATUSES = [None, *range(100, 600)]
TRIED_AGAIN = [
    status for status in STATUSES if status is None or not (200 <= status < 400 or status == 410)
]
SCHEDULES = st.lists(st.floats(0, 2592000), min_size=1, max_size=20)
CHANCES = st.floats(0, 1)
WAITS = st.none() | st.floats(0, LONGEST_RETRY_AFTER)
OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda m: dt.timezone(dt.timedelta(minutes=m)))
MOMENTS = st.datetimes(dt.datetime(1000, 1, 2), dt.datetime(9999, 12, 30), timezones=OFFSETS)


def after(
    status: int | None,
    attempts: int,
    *,
    jitter: float = 0.0,
    chance: float = 0.0,
    retry_after: float | None = None,
) -> Decision:
    return decide(
        status,
        attempts=attempts,
        schedule=DEFAULT_SCHEDULE,
        jitter=jitter,
        chance=chance,
        retry_after=retry_after,
        retry_after_limit=LIMIT,
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
    WAITS,
)
def test_a_decision_is_whole(
    status: int | None,
    attempts: int,
    schedule: list[float],
    jitter: float,
    chance: float,
    retry_after: float | None,
) -> None:
    decision = decide(
        status,
        attempts=attempts,
        schedule=schedule,
        jitter=jitter,
        chance=chance,
        retry_after=retry_after,
        retry_after_limit=LIMIT,
    )
    assert (decision.delay is not None) == (decision.status == "pending")
    assert (decision.reason is not None) == (decision.status == "failed")
    assert not decision.gone or decision.status == "failed"


@given(st.sampled_from(TRIED_AGAIN), SCHEDULES, st.floats(0, 1), CHANCES, st.data())
def test_jitter_only_lengthens_a_wait_and_by_no_more_than_its_part(
    status: int | None, schedule: list[float], jitter: float, chance: float, data: st.DataObject
) -> None:
    schedule = [*schedule, 60.0]
    attempts = data.draw(st.integers(1, len(schedule) - 1))
    decision = decide(
        status,
        attempts=attempts,
        schedule=schedule,
        jitter=jitter,
        chance=chance,
        retry_after_limit=LIMIT,
    )
    assert decision.delay is not None
    assert schedule[attempts] <= decision.delay <= schedule[attempts] * (1 + jitter)


@given(CHANCES, CHANCES)
def test_jitter_spreads_by_chance(one: float, other: float) -> None:
    waits = [after(500, 3, jitter=0.2, chance=chance).delay for chance in sorted([one, other])]
    assert waits == sorted(waits)  # type: ignore[type-var]
    assert after(500, 3, jitter=0.2, chance=0.5).delay == pytest.approx(1800 * 1.1)
    assert after(500, 3, jitter=0.0, chance=0.5).delay == 1800


@given(st.sampled_from(TRIED_AGAIN), SCHEDULES, WAITS)
def test_as_many_attempts_are_made_as_the_schedule_has_whatever_the_receiver_asks_for(
    status: int | None, schedule: list[float], retry_after: float | None
) -> None:
    for attempts in itertools.count(1):
        decision = decide(
            status,
            attempts=attempts,
            schedule=schedule,
            jitter=0.2,
            chance=0.5,
            retry_after=retry_after,
            retry_after_limit=LIMIT,
        )
        if decision.status != "pending":
            break
    assert decision.status == "failed"
    assert attempts == len(schedule)
    assert str(attempts) in (decision.reason or "")


def test_one_attempt_is_not_many() -> None:
    reasons = [
        decide(
            500,
            attempts=attempts,
            schedule=DEFAULT_SCHEDULE[:attempts],
            jitter=0.2,
            chance=0.5,
            retry_after_limit=LIMIT,
        ).reason
        for attempts in (1, 2)
    ]
    assert reasons == ["gave up after 1 attempt", "gave up after 2 attempts"]


def test_attempts_beyond_the_schedule_are_the_last() -> None:
    """A schedule may have been shortened while deliveries were on their way."""
    assert after(500, 1000).status == "failed"


def test_the_default_schedule_starts_at_once_and_tries_ten_times_over_75_hours() -> None:
    assert DEFAULT_SCHEDULE[0] == 0
    assert len(DEFAULT_SCHEDULE) >= 10
    waits = [after(None, attempts).delay for attempts in range(1, len(DEFAULT_SCHEDULE))]
    assert sum(wait or 0 for wait in waits) >= 75 * 3600


def test_the_default_schedule_is_the_standards() -> None:
    """Standard Webhooks 1.0.0, "Deliverability and reliability"."""
    hours = [hour * 3600 for hour in (2, 5, 10, 14, 20, 24)]
    assert list(DEFAULT_SCHEDULE) == [0, 5, 5 * 60, 30 * 60, *hours]


def test_the_default_schedule_waits_longer_each_time() -> None:
    assert list(DEFAULT_SCHEDULE) == sorted(set(DEFAULT_SCHEDULE))


# Retry-After: what it asks for.


@given(
    st.sampled_from(TRIED_AGAIN),
    SCHEDULES,
    CHANCES,
    st.floats(0, 2**31),
    st.floats(0, 1e6),
    st.data(),
)
def test_a_receiver_may_ask_for_a_longer_wait_within_the_limit_and_for_no_shorter_one(
    status: int | None,
    schedule: list[float],
    chance: float,
    retry_after: float,
    limit: float,
    data: st.DataObject,
) -> None:
    schedule = [*schedule, 60.0]
    attempts = data.draw(st.integers(1, len(schedule) - 1))
    scheduled, asked = [
        decide(
            status,
            attempts=attempts,
            schedule=schedule,
            jitter=0.2,
            chance=chance,
            retry_after=wish,
            retry_after_limit=limit,
        ).delay
        for wish in (None, retry_after)
    ]
    assert scheduled is not None and asked is not None
    assert asked >= scheduled
    assert asked >= min(retry_after, limit)
    assert asked in (scheduled, retry_after, limit)


def test_a_wait_that_was_asked_for_is_exact() -> None:
    assert after(503, 1, jitter=0.2, chance=0.9, retry_after=120.0).delay == 120
    assert after(503, 1, jitter=0.2, chance=0.9, retry_after=5.5).delay == pytest.approx(5 * 1.18)
    assert after(503, 1, retry_after=86400.0).delay == LIMIT
    assert after(503, 1, retry_after=0.0).delay == 5
    assert after(None, 1, retry_after=10.0).delay == 10


@pytest.mark.parametrize("status", [200, 204, 301, 307, 410])
def test_what_is_not_tried_again_is_not_for_the_asking(status: int) -> None:
    assert after(status, 1, retry_after=60.0) == after(status, 1)


# Retry-After: how it is read.


@given(st.integers(0, 2**31), st.sampled_from(["", "0", "000"]), st.sampled_from(["", " ", "\t "]))
def test_seconds_are_read(seconds: int, zeros: str, blank: str) -> None:
    assert parse_retry_after(f"{blank}{zeros}{seconds}{blank}", NOW) == seconds


@given(st.integers(2**31, 10**30) | st.integers(1, 10_000).map(lambda n: 10**n + 2**32))
def test_more_seconds_than_anybody_can_wait_are_bounded(seconds: int) -> None:
    with_many_digits = f"{seconds:x}".translate(str.maketrans("abcdef", "123456"))
    for text in (with_many_digits.rjust(12, "9"), "9" * 60_000, "0" * 60_000 + "9" * 11):
        assert parse_retry_after(text, NOW) == LONGEST_RETRY_AFTER
    assert parse_retry_after("0" * 60_000 + "7", NOW) == 7
    assert LONGEST_RETRY_AFTER == 2_147_483_648


FORMS = ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y"]


def in_form(moment: dt.datetime, form: int) -> str:
    moment = moment.astimezone(UTC)
    text = moment.strftime(FORMS[form].replace("%Y", f"{moment.year:04d}"))
    if form == 2 and moment.day < 10:  # asctime puts a blank where the others put a zero
        text = text[:8] + " " + text[9:]
    return text


@pytest.mark.parametrize(
    "value",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "sun, 06 nov 1994 08:49:37 gmt",
    ],
)
def test_the_forms_of_a_date_are_those_of_the_rfc(value: str) -> None:
    """The examples of RFC 9110, section 5.6.7."""
    before = dt.datetime(1994, 11, 6, 8, 49, 0, tzinfo=UTC)
    assert parse_retry_after(value, before) == 37
    assert parse_retry_after(value, NOW) == 0


@given(MOMENTS, MOMENTS)
def test_a_date_is_read_as_the_seconds_up_to_it(now: dt.datetime, moment: dt.datetime) -> None:
    moment = moment.replace(microsecond=0)
    expected = min(max((moment - now).total_seconds(), 0), LONGEST_RETRY_AFTER)
    assert parse_retry_after(in_form(moment, 0), now) == expected
    assert parse_retry_after(in_form(moment, 2), now) == expected
    fixed = email.utils.format_datetime(moment.astimezone(UTC), usegmt=True)
    assert parse_retry_after(fixed, now) == expected


@given(
    st.datetimes(dt.datetime(1970, 1, 1), dt.datetime(2300, 1, 1)).map(
        lambda moment: moment.replace(tzinfo=UTC)
    ),
    st.integers(-49 * 365 * 86400, 49 * 365 * 86400),
)
def test_a_year_of_two_digits_is_the_one_within_fifty_years(now: dt.datetime, away: int) -> None:
    moment = (now + dt.timedelta(seconds=away)).replace(microsecond=0)
    expected = max((moment - now).total_seconds(), 0)
    assert parse_retry_after(in_form(moment, 1), now) == expected


@pytest.mark.parametrize(
    ("value", "now", "expected"),
    [
        # Exactly 50 years ahead is not more than 50 years; a second later it is the past.
        ("Monday, 06-May-74 07:08:09 GMT", NOW, 18262 * 86400),
        ("Monday, 06-May-74 07:08:10 GMT", NOW, 0),
        ("Saturday, 01-Jan-00 00:00:00 GMT", dt.datetime(2099, 12, 31, 23, 59, tzinfo=UTC), 60),
        ("Friday, 31-Dec-99 23:59:59 GMT", dt.datetime(2100, 1, 1, tzinfo=UTC), 0),
        # 2100 has no such day, 2000 has.
        ("Tuesday, 29-Feb-00 00:00:00 GMT", dt.datetime(2090, 1, 1, tzinfo=UTC), 0),
        ("Friday, 31-Dec-99 23:59:59 GMT", dt.datetime(9990, 1, 1, tzinfo=UTC), 315532799),
        ("Thursday, 01-Jan-05 00:00:00 GMT", dt.datetime(7104, 12, 31, 23, 59, tzinfo=UTC), 60),
        ("Thursday, 01-Jan-05 00:00:00 GMT", dt.datetime(7060, 1, 1, tzinfo=UTC), 16436 * 86400),
        # 1996 had such a day.
        ("Thursday, 29-Feb-96 00:00:00 GMT", NOW, 0),
    ],
)
def test_the_century_is_found(value: str, now: dt.datetime, expected: float) -> None:
    assert parse_retry_after(value, now) == expected


def test_a_leap_second_is_the_second_before() -> None:
    now = dt.datetime(2016, 12, 31, 23, 59, tzinfo=UTC)
    assert parse_retry_after("Sat, 31 Dec 2016 23:59:60 GMT", now) == 59


def test_the_zone_of_now_makes_no_difference() -> None:
    tokyo = NOW.astimezone(dt.timezone(dt.timedelta(hours=9)))
    for form in range(3):
        text = in_form(NOW + dt.timedelta(seconds=90), form)
        assert parse_retry_after(text, tokyo) == parse_retry_after(text, NOW) == 90


@pytest.mark.parametrize(
    "value",
    [
        *(None, "", " ", "-1", "+1", "1.5", "1e3", "0x10", "1 2", "1,2", "5s", "\u0661", "\u00b2"),
        *(
            "X5",
            "5X",
            "X5X",
            "\uff11\uff12",
            "1_000",
            "nan",
            "inf",
            "soon",
            "120\n",
            "\n120",
            "\0",
            "120;",
            "\xa05",
        ),
        *("Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 UTC", "06 Nov 1994 08:49:37 GMT"),
        *("Sun, 6 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 94 08:49:37 GMT", "1994-11-06T08:49:37Z"),
        *("Sun, 31 Feb 2024 08:49:37 GMT", "Sun, 00 Nov 1994 08:49:37 GMT"),
        *("Sun, 06 Nov 1994 24:49:37 GMT", "Sun, 06 Nov 1994 08:60:37 GMT"),
        *("Sun, 06 Nov 1994 08:49:61 GMT", "Sun, 06 Nov 0000 08:49:37 GMT"),
        *("Sun, 06 Nov 19940 08:49:37 GMT", "Sun, 06 Foo 1994 08:49:37 GMT"),
        *("Xyz, 06 Nov 1994 08:49:37 GMT", "Sunday, 31-Feb-94 08:49:37 GMT"),
        *("Sunday, 06-Nov-1994 08:49:37 GMT", "Sun, 06-Nov-94 08:49:37 GMT"),
        *("Sun Nov 6 08:49:37 1994", "Sun Nov  6 08:49:37 1994 GMT", "Sun Nov 31 08:49:37 1994"),
        # Letters that are an s or a k to those who ignore case in all of Unicode.
        *("\u017fun, 06 Nov 2094 08:49:37 GMT", "Sun, 06 \u017fep 2094 08:49:37 GMT"),
        *("Sun, 0\u0666 Nov 2094 08:49:37 GMT", "Sun, 06 Nov 2094 08:49:37 GMT\n"),
    ],
)
def test_anything_else_asks_for_nothing(value: str | None) -> None:
    assert parse_retry_after(value, NOW) is None


@given(
    st.text(max_size=40)
    | st.from_regex(
        r"(Sun, )?[0-9]{1,2}[ -][A-Z][a-z]{2}[ -][0-9]{1,5} [0-9]{2}:[0-9]{2}:[0-9]{2}( GMT)?"
    )
    | st.from_regex(r"Sunday, [0-9]{2}-(Jan|Feb)-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT")
    | st.from_regex(r"Sun (Jan|Feb) [0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2} [0-9]{4}"),
    MOMENTS
    | st.just(dt.datetime.max.replace(tzinfo=UTC))
    | st.just(dt.datetime.min.replace(tzinfo=UTC)),
)
def test_nothing_that_a_receiver_sends_raises(value: str, now: dt.datetime) -> None:
    seconds = parse_retry_after(value, now)
    assert seconds is None or 0 <= seconds <= LONGEST_RETRY_AFTER
    assert seconds is None or math.isfinite(seconds)


# Slowing down.


def test_a_receiver_that_throttles_is_left_alone_longer_each_time_up_to_half_a_minute() -> None:
    for status in THROTTLING:
        assert [slow_down(status, strikes) for strikes in range(8)] == [1, 2, 4, 8, 16, 30, 30, 30]
        assert slow_down(status, 10**9) == 30
        assert slow_down(status, -1) == 1


def test_only_429_502_and_504_throttle() -> None:
    throttling = [status for status in STATUSES if slow_down(status, 3)]
    assert throttling == [429, 502, 504] == sorted(THROTTLING)


# Failing for too long.


@given(MOMENTS, st.floats(0, 1e8), st.floats(0, 1e8, exclude_min=True))
def test_it_is_over_after_the_limit_and_not_before(
    now: dt.datetime, seconds: float, limit: float
) -> None:
    now = max(now, dt.datetime(1010, 1, 1, tzinfo=UTC))
    since = now - dt.timedelta(seconds=seconds)
    assert is_over(since, now, limit) == ((now - since).total_seconds() > limit)


def test_what_does_not_fail_is_not_over() -> None:
    assert not is_over(None, NOW, 1)
    assert not is_over(NOW, NOW, 1)
    assert not is_over(NOW + dt.timedelta(seconds=5), NOW, 1)
    days = 5 * 86400
    assert not is_over(NOW - dt.timedelta(days=5), NOW, days)
    assert is_over(NOW - dt.timedelta(days=5, microseconds=1), NOW, days)


def test_without_a_limit_it_is_never_over() -> None:
    assert not is_over(NOW - dt.timedelta(days=4000), NOW, 0)


@pytest.mark.parametrize(
    ("ago", "spelt"),
    [
        (dt.timedelta(days=5, hours=2, minutes=59), "5 days 2 hours"),
        (dt.timedelta(days=5), "5 days"),
        (dt.timedelta(days=1, hours=1), "1 day 1 hour"),
        (dt.timedelta(days=400, minutes=3), "400 days"),
        (dt.timedelta(hours=7, minutes=1, seconds=1), "7 hours 1 minute"),
        (dt.timedelta(minutes=1), "1 minute"),
        (dt.timedelta(seconds=61), "1 minute 1 second"),
        (dt.timedelta(seconds=2.9), "2 seconds"),
        (dt.timedelta(), "0 seconds"),
        (dt.timedelta(seconds=-5), "0 seconds"),
    ],
)
def test_the_reason_says_since_when_and_for_how_long(ago: dt.timedelta, spelt: str) -> None:
    now = NOW + dt.timedelta(microseconds=123)
    since = now - ago
    reason = failing_reason(since, now)
    told = since.replace(microsecond=0, tzinfo=None).isoformat()
    assert reason == f"every attempt since {told}Z has failed, for {spelt}"
    elsewhere = since.astimezone(dt.timezone(dt.timedelta(hours=-7)))
    assert failing_reason(elsewhere, now) == reason


def test_a_host_is_silent_after_five_attempts_in_a_row_without_an_answer() -> None:
    assert [is_silent(count) for count in (None, 0, 1, 4, 5, 6, 1000)] == [False] * 4 + [True] * 3
    assert SILENCES == 5


def test_only_what_its_host_did_not_do_makes_it_silent() -> None:
    ours = {"address_refused", "internal", "not_started", "proxy"}
    assert set(transport.ERRORS) - ours == SILENT


def test_a_silent_host_is_left_alone_for_ever_longer_up_to_five_minutes() -> None:
    pauses = [break_off(strikes) for strikes in range(10)]
    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300, 300, 300]
    assert break_off(-1) == 5
    assert break_off(10**9) == 300


def test_what_cannot_be_made_is_parked_after_three_tries() -> None:
    assert decide_fault(1, "bad") == Decision("pending", delay=5.0)
    assert decide_fault(2, "bad") == Decision("pending", delay=60.0)
    assert decide_fault(3, "bad") == Decision("failed", reason="parked after 3 tries: bad")
    assert decide_fault(4, "worse") == Decision("failed", reason="parked after 4 tries: worse")
    assert FAULT_PAUSES == (5.0, 60.0)


@pytest.fixture
def far_from_greenwich(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "XYZ-12")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("far_from_greenwich")
def test_the_zone_of_the_machine_makes_no_difference() -> None:
    ahead = "Monday, 06-May-74 07:08:09 GMT"
    assert parse_retry_after(ahead, NOW) == 18262 * 86400
    assert parse_retry_after("Monday, 06-May-74 07:08:10 GMT", NOW) == 0
    reason = failing_reason(NOW - dt.timedelta(days=5), NOW)
    assert reason == "every attempt since 2024-05-01T07:08:09Z has failed, for 5 days"
