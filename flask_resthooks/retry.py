"""Ground: what a receiver's answer means, and when to try again. Pure.

Source: Standard Webhooks 1.0.0, "Deliverability and reliability", and the REST Hooks patterns:
2xx acknowledges, 3xx is neither followed nor retried, 410 ends the subscription, everything else
is tried again by a schedule; later, if the receiver asks for that (RFC 9110, "Retry-After"). Who
says that they are overwhelmed are left alone for a while, and who has failed for days is given up.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

DEFAULT_SCHEDULE = (0, 5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
"""Seconds before each attempt: ten attempts over 75 hours and more."""

GONE = "the receiver answered 410 Gone"

THROTTLING = frozenset({429, 502, 504})
"""The answers of a receiver that has too much to do (Standard Webhooks 1.0.0, "Deliverability and
reliability")."""

LONGEST_PAUSE = 30.0
"""Seconds for which a throttling receiver is left alone at most."""

SILENT = frozenset({"connect_timeout", "connection", "dns", "protocol", "timeout", "tls"})
"""How attempts end that got no answer, by what their receiver's host did or did not do."""

SILENCES = 5
"""After so many of them in a row, a host is left alone."""

FIRST_BREAK, LONGEST_BREAK = 5.0, 300.0
"""Seconds until it is tried again whether a silent host gives answers: the first time, and at
most."""

FAULT_PAUSES = (5.0, 60.0)
"""Seconds after which it is tried again to make a request of a delivery; after that it is
parked."""

LONGEST_RETRY_AFTER = 2.0**31
"""Seconds, 68 years: all that a greater `Retry-After` says (RFC 9111, section 1.2.2)."""

_UNITS = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))

_SECONDS = re.compile(r"[0-9]+")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = rf"(?P<month>{'|'.join(_MONTHS)})"
_TIME = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_WEEKDAY = r"(?:mon|tue|wed|thu|fri|sat|sun)"
_HTTP_DATES = [
    re.compile(form, re.IGNORECASE | re.ASCII)
    for form in (
        rf"{_WEEKDAY}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT",
        # The obsolete forms: RFC 850's, and that of C's asctime.
        rf"(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day), (?P<day>[0-9]{{2}})-{_MONTH}"
        rf"-(?P<year>[0-9]{{2}}) {_TIME} GMT",
        rf"{_WEEKDAY} {_MONTH} (?P<day>[0-9]{{2}}| [0-9]) {_TIME} (?P<year>[0-9]{{4}})",
    )
]


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a delivery after an attempt.

    :param status: `delivered`, `failed` (given up) or `pending` (to be tried again).
    :param delay: seconds until the next attempt; only when `pending`.
    :param reason: why it was given up; only when `failed`.
    :param gone: the receiver wants no more: its subscription is to be disabled.
    """

    status: Literal["delivered", "failed", "pending"]
    delay: float | None = None
    reason: str | None = None
    gone: bool = False


_DELIVERED = Decision("delivered")


def decide(
    status: int | None,
    *,
    attempts: int,
    schedule: Sequence[float],
    jitter: float,
    chance: float,
    retry_after: float | None = None,
    retry_after_limit: float,
) -> Decision:
    """Decide about a delivery after an attempt.

    A 2xx status acknowledges even when the answer's body never came to its end.

    A receiver can ask for a longer wait than the schedule's, and not for a shorter one. What it
    asks for is not lengthened by jitter: there is a bound on what is in flight, so that what falls
    due at once is not sent at once.

    :param status: HTTP status of the answer, or None if there was none.
    :param attempts: how many attempts were made since the schedule began, this one included.
    :param schedule: seconds before each attempt, the first one included.
    :param jitter: by which part a wait may be lengthened; never shortened.
    :param chance: a random number from 0 up to 1.
    :param retry_after: seconds, of `parse_retry_after`; None if the receiver asked for nothing.
    :param retry_after_limit: how many of these seconds are granted.
    """
    if status is not None:
        if 200 <= status < 300:
            return _DELIVERED
        if 300 <= status < 400:
            return Decision("failed", reason=f"the receiver answered {status}: not followed")
        if status == 410:
            return Decision("failed", reason=GONE, gone=True)
    if attempts >= len(schedule):
        tries = "1 attempt" if attempts == 1 else f"{attempts} attempts"
        return Decision("failed", reason=f"gave up after {tries}")
    delay = schedule[attempts] * (1 + jitter * chance)
    if retry_after is not None:
        delay = max(delay, min(retry_after, retry_after_limit))
    return Decision("pending", delay=delay)


def parse_retry_after(value: str | None, now: dt.datetime) -> float | None:
    """The seconds for which a `Retry-After` asks to wait (RFC 9110, section 10.2.3).

    :param value: of the header: a number of seconds, or a time in one of the three forms of
        HTTP-date (section 5.6.7).
    :param now: the time, aware of its zone, at which the answer came.
    :returns: 0 for a time that has passed; `LONGEST_RETRY_AFTER` at most; None if the header is
        absent, or is none.
    """
    value = (value or "").strip(" \t")
    if not value:
        return None
    if _SECONDS.fullmatch(value):
        digits = value.lstrip("0")
        # A header has room for more digits than `int` or `float` take.
        seconds = float(digits or 0) if len(digits) <= 10 else LONGEST_RETRY_AFTER
        return min(seconds, LONGEST_RETRY_AFTER)
    moment = _http_date(value, now)
    if moment is None:
        return None
    return min(max((moment - now).total_seconds(), 0.0), LONGEST_RETRY_AFTER)


def slow_down(status: int | None, strikes: int) -> float:
    """For how many seconds a receiver's host is left alone after an answer.

    1, 2, 4 and so on, up to `LONGEST_PAUSE`; 0 if the status is not one of `THROTTLING`.

    :param strikes: how many throttling answers in a row came from it before this one.
    """
    if status not in THROTTLING:
        return 0.0
    return min(2.0 ** min(max(strikes, 0), 10), LONGEST_PAUSE)


def is_silent(silences: int | None) -> bool:
    """Whether a host has given no answer so often that it is left alone.

    :param silences: how many attempts in a row got none.
    """
    return (silences or 0) >= SILENCES


def break_off(strikes: int) -> float:
    """For how many seconds a silent host is left alone: 5, 10, 20 and so on, up to
    `LONGEST_BREAK`.

    :param strikes: how many breaks came before this one, without a success since.
    """
    return min(FIRST_BREAK * 2.0 ** min(max(strikes, 0), 10), LONGEST_BREAK)


def decide_fault(faults: int, detail: str) -> Decision:
    """Decide about a delivery of which no request can be made, by no fault of its receiver.

    Another version of the app may be able to; but not for ever, and not by the receiver's
    schedule.

    :param faults: how often it has failed like this, this time included.
    :param detail: what is wrong.
    """
    if faults <= len(FAULT_PAUSES):
        return Decision("pending", delay=FAULT_PAUSES[max(faults, 1) - 1])
    return Decision("failed", reason=f"parked after {faults} tries: {detail}")


def is_over(failing_since: dt.datetime | None, now: dt.datetime, limit: float) -> bool:
    """Whether a subscription has failed without a break for longer than it may.

    :param failing_since: when the first attempt failed after the last success; None if the last
        one did not fail.
    :param limit: seconds; 0 for any time.
    """
    if failing_since is None or not limit:
        return False
    return (now - failing_since).total_seconds() > limit


def failing_reason(failing_since: dt.datetime, now: dt.datetime) -> str:
    """Why a subscription for which `is_over` is true is disabled, for its owner."""
    since = failing_since.astimezone(dt.timezone.utc).replace(microsecond=0, tzinfo=None)
    return (
        f"every attempt since {since.isoformat()}Z has failed, for "
        f"{_spelt((now - failing_since).total_seconds())}"
    )


def _spelt(seconds: float) -> str:
    """A duration by its greatest unit and the next one: `5 days 2 hours`."""
    left = max(int(seconds), 0)
    sizes = [size for _, size in _UNITS]
    first = next((at for at, size in enumerate(sizes) if left >= size), len(sizes) - 1)
    words: list[str] = []
    for name, size in _UNITS[first : first + 2]:
        count, left = divmod(left, size)
        if count or not words:
            words.append(f"{count} {name}{'' if count == 1 else 's'}")
    return " ".join(words)


def _http_date(value: str, now: dt.datetime) -> dt.datetime | None:
    """The moment that an HTTP-date names; None if it is none."""
    parts = next(filter(None, (form.fullmatch(value) for form in _HTTP_DATES)), None)
    if parts is None:
        return None
    month = _MONTHS.index(parts["month"].lower()) + 1
    day, hour, minute = int(parts["day"]), int(parts["hour"]), int(parts["minute"])
    second = 59 if parts["second"] == "60" else int(parts["second"])  # a leap second
    years = [int(parts["year"])]
    if len(parts["year"]) == 2:
        # The latest year of those digits that is not more than 50 years ahead.
        century = now.year // 100 * 100
        years = [century + years[0] + more for more in (100, 0, -100)]
    for year in years:
        try:
            moment = dt.datetime(year, month, day, hour, minute, second, tzinfo=dt.timezone.utc)
        except ValueError:  # no such day or time
            continue
        if len(years) == 1 or not _more_than_50_years_ahead(moment, now):
            return moment
    return None


def _more_than_50_years_ahead(moment: dt.datetime, now: dt.datetime) -> bool:
    now = now.astimezone(dt.timezone.utc)
    return (moment.year - 50, moment.timetuple()[1:6]) > (now.year, now.timetuple()[1:6])
