"""What becomes of a subscription's status when its owner changes it."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from flask_resthooks.api.errors import APIError
from flask_resthooks.api.statuses import changed, first_status

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)
LATER, EARLIER = NOW + dt.timedelta(days=1), NOW - dt.timedelta(days=1)
STATUSES = ("pending", "active", "inactive", "disabled", "expired")


def row(status: str, **values: Any) -> dict[str, Any]:
    base = {
        "status": status,
        "target_url": "https://a.example.com/",
        "expires_at": EARLIER if status == "expired" else None,
        "confirmed_at": None,
    }
    return base | values


def status_after(before: dict[str, Any], values: dict[str, Any], *, asks: bool) -> str:
    made = changed(before, values, asks=asks, now=NOW)
    assert "active" not in made
    return str(made.get("status", before["status"]))


@pytest.mark.parametrize("asks", [True, False])
def test_a_new_one_is_active_unless_its_receiver_is_asked_or_it_is_paused(asks: bool) -> None:
    assert first_status(True, asks=asks) == ("pending" if asks else "active")
    assert first_status(False, asks=asks) == "inactive"


@pytest.mark.parametrize("asks", [True, False])
@pytest.mark.parametrize("status", STATUSES)
def test_what_says_nothing_of_it_leaves_it_alone(status: str, asks: bool) -> None:
    assert changed(row(status), {"description": "x"}, asks=asks, now=NOW) == {}


@pytest.mark.parametrize("asks", [True, False])
@pytest.mark.parametrize("status", STATUSES)
def test_false_pauses_whatever_it_was(status: str, asks: bool) -> None:
    assert status_after(row(status), {"active": False}, asks=asks) == "inactive"


@pytest.mark.parametrize("status", ["pending", "active", "inactive", "disabled"])
def test_true_resumes_and_asks_the_receiver_unless_it_has_confirmed(status: str) -> None:
    confirmed = row(status, confirmed_at=EARLIER)
    assert status_after(row(status), {"active": True}, asks=False) == "active"
    assert status_after(confirmed, {"active": True}, asks=True) == "active"
    asked = "active" if status == "active" else "pending"
    assert status_after(row(status), {"active": True}, asks=True) == asked


def test_what_begins_again_has_failed_at_nothing() -> None:
    made = changed(row("disabled"), {"active": True}, asks=False, now=NOW)
    assert made["failing_since"] is made["turn_at"] is made["disabled_reason"] is None


def test_an_active_one_stays_as_it_is_when_it_is_to_be_active() -> None:
    assert changed(row("active"), {"active": True}, asks=True, now=NOW) == {}


@pytest.mark.parametrize(
    ("status", "asks", "then"),
    [
        ("active", True, "pending"),
        ("pending", True, "pending"),
        ("inactive", True, "inactive"),
        ("disabled", True, "disabled"),
        ("active", False, "active"),
        ("inactive", False, "inactive"),
    ],
)
def test_another_url_is_somebody_else_perhaps(status: str, asks: bool, then: str) -> None:
    before = row(status, confirmed_at=EARLIER)
    values = {"target_url": "https://b.example.com:8443/"}
    assert status_after(before, values, asks=asks) == then
    made = changed(before, values, asks=asks, now=NOW)
    assert made["host"] == "b.example.com:8443"
    assert made["confirmed_at"] is made["rate"] is made["turn_at"] is None


def test_the_same_url_again_is_no_change() -> None:
    before = row("active", confirmed_at=EARLIER)
    assert changed(before, {"target_url": before["target_url"]}, asks=True, now=NOW) == {}


@pytest.mark.parametrize("expires_at", [None, LATER])
@pytest.mark.parametrize("more", [{}, {"active": True}])
def test_an_expired_one_that_is_prolonged_goes_on(expires_at: Any, more: dict[str, Any]) -> None:
    values = {"expires_at": expires_at, **more}
    assert status_after(row("expired"), values, asks=False) == "active"
    assert status_after(row("expired"), values, asks=True) == "pending"
    assert status_after(row("expired", confirmed_at=EARLIER), values, asks=True) == "active"


def test_an_expired_one_cannot_be_active_before_its_end_is_put_off() -> None:
    with pytest.raises(APIError) as caught:
        changed(row("expired"), {"active": True}, asks=False, now=NOW)
    assert (caught.value.code, list(caught.value.errors)) == (422, ["active"])
    with pytest.raises(APIError):  # its time is over, though nobody has said so yet
        changed(row("inactive", expires_at=NOW), {"active": True}, asks=False, now=NOW)
    paused = changed(row("expired"), {"active": False, "expires_at": None}, asks=False, now=NOW)
    assert paused["status"] == "inactive"
