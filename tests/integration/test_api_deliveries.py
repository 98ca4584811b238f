"""Deliveries, attempts and event types over the API."""

from __future__ import annotations

from typing import Any

import pytest
from api_host import URL, Host, host


def pages(host: Host, path: str, **query: Any) -> list[list[dict[str, Any]]]:
    found = []
    while True:
        page = host.call("GET", path, query_string=query).json
        assert set(page) == {"data", "next_cursor"}
        found.append(page["data"])
        if page["next_cursor"] is None:
            return found
        query["cursor"] = page["next_cursor"]


def test_deliveries_are_listed_newest_first(acme: Host) -> None:
    made, other = acme.subscribe(), acme.subscribe()
    delivery_ids = acme.deliveries(made["id"], 5)
    acme.deliveries(other["id"], 2)
    found = pages(acme, f"/subscriptions/{made['id']}/deliveries", limit=2)
    assert [len(page) for page in found] == [2, 2, 1]
    assert [entry["id"] for page in found for entry in page] == delivery_ids[::-1]


def test_deliveries_can_be_filtered_by_their_status(acme: Host) -> None:
    made = acme.subscribe()
    acme.deliveries(made["id"], 3)
    failed = acme.deliveries(made["id"], 3, status="failed", due_at=None, reason="it is gone")
    path = f"/subscriptions/{made['id']}/deliveries"
    found = pages(acme, path, status="failed", limit=2)
    assert {entry["id"] for page in found for entry in page} == set(failed)
    answer = acme.call("GET", f"{path}?status=lost")
    assert (answer.status_code, list(answer.json["errors"])) == (422, ["status"])


def test_a_delivery_tells_all_about_itself_but_its_lease(acme: Host) -> None:
    made = acme.subscribe()
    [waiting] = acme.deliveries(made["id"], 1)
    [sending] = acme.deliveries(made["id"], 1, status="sending", lease="x" * 32)
    shown = acme.call("GET", f"/deliveries/{waiting}").json
    assert set(shown) == {
        *("id", "subscription_id", "event_id", "event_type", "resource", "status", "reason"),
        *("attempts", "next_attempt_at", "created_at", "finished_at", "kind"),
    }
    assert shown["next_attempt_at"] is not None
    assert acme.call("GET", f"/deliveries/{sending}").json["next_attempt_at"] is None


def test_attempts_are_listed_in_their_order(acme: Host) -> None:
    [delivery] = acme.deliveries(acme.subscribe()["id"], 1)
    attempts = acme.attempts(delivery, 5)
    found = pages(acme, f"/deliveries/{delivery}/attempts", limit=2)
    entries = [entry for page in found for entry in page]
    assert [entry["id"] for entry in entries] == attempts
    assert [entry["number"] for entry in entries] == [1, 2, 3, 4, 5]
    assert set(entries[0]) == {
        *("id", "number", "started_at", "duration", "status_code", "error", "detail"),
        *("response", "next_attempt_at", "request_id"),
    }


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=-1", "limit"),
        ("limit=1_0", "limit"),
        ("limit=", "limit"),
        ("limit=%D9%A3", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("limit=1&limit=2", "limit"),
        ("cursor=", "cursor"),
        ("cursor=%00", "cursor"),
        ("cursor=" + "A" * 21, "cursor"),
        ("cursor=" + "A" * 22 + "%0A", "cursor"),
        ("cursor=" + "A" * 21 + "B", "cursor"),
        ("limit=0&api_key=x", "limit"),
    ],
)
def test_a_bad_query_is_a_422_that_names_the_parameter(
    sqlite_url: str, query: str, field: str
) -> None:
    with host(sqlite_url) as acme:
        made = acme.subscribe()
        [delivery] = acme.deliveries(made["id"], 1)
        for path in (
            "/subscriptions",
            f"/subscriptions/{made['id']}/deliveries",
            f"/deliveries/{delivery}/attempts",
            "/event-types",
        ):
            answer = acme.call("GET", f"{path}?{query}")
            if answer.status_code != 200 or path != "/event-types":  # its cursors are others
                assert answer.status_code == 422
                assert list(answer.json["errors"]) == [field]


def test_parameters_that_are_not_ours_are_ignored(sqlite_url: str) -> None:
    """A host may know its callers by one (`?api_key=…`)."""
    others = "api_key=secret&colour=red&colour=blue&%00=%FF&data=1&limit%5B%5D=x"
    with host(sqlite_url) as acme:
        made = acme.subscribe()
        [delivery] = acme.deliveries(made["id"], 1)
        path = f"/subscriptions/{made['id']}"
        assert len(acme.call("GET", f"/subscriptions?limit=1&{others}").json["data"]) == 1
        for method, where, body, code in (
            ("GET", "/event-types", None, 200),
            ("GET", "/event-types/contact.create", None, 200),
            ("POST", "/subscriptions", {"target_url": URL, "event": "*"}, 201),
            ("GET", path, None, 200),
            ("PUT", path, {"target_url": URL, "event": "*"}, 200),
            ("PATCH", path, {"active": False}, 200),
            ("GET", f"{path}/secret", None, 200),
            ("GET", f"{path}/deliveries", None, 200),
            ("GET", f"/deliveries/{delivery}", None, 200),
            ("GET", f"/deliveries/{delivery}/attempts", None, 200),
            ("DELETE", path, None, 204),
        ):
            answer = acme.call(method, f"{where}?{others}", body)
            assert answer.status_code == code, (method, where, answer.text)


def test_a_parameter_of_another_route_is_ignored(sqlite_url: str) -> None:
    with host(sqlite_url) as acme:
        answer = acme.call("DELETE", f"/subscriptions/{acme.subscribe()['id']}?limit=0")
        assert answer.status_code == 204


def test_event_types_are_listed_by_name(sqlite_url: str) -> None:
    names = ("invoice.paid", "contact.update", "contact.create")
    with host(sqlite_url, names=names) as acme:
        found = pages(acme, "/event-types", limit=2)
        assert [entry["name"] for page in found for entry in page] == sorted(names)
        one = acme.call("GET", "/event-types/invoice.paid").json
        assert one.pop("schema")["type"] == "object"
        assert (one["name"], one["description"]) == ("invoice.paid", "It is invoice.paid.")
        assert acme.call("GET", "/event-types/invoice.lost").status_code == 404
