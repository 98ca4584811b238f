"""Subscriptions over the API."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import threading
import time
from typing import Any

import pytest
import sqlalchemy as sa
from api_host import URL, Host, host, resolver

from flask_resthooks import signing
from flask_resthooks.models import utcnow
from flask_resthooks.settings import Settings

FIELDS = {
    *("id", "target_url", "events", "status", "active", "description", "metadata", "format"),
    *("payload", "expires_at", "created_at", "updated_at", "disabled_reason", "signature"),
    *("header_names", "rate", "expiry_notice", "confirm_until"),
}


def later(**after: Any) -> str:
    return (utcnow() + dt.timedelta(**after)).isoformat()


def patterns(host: Host) -> set[tuple[str, str]]:
    return {(row["owner"], row["pattern"]) for row in host.rows(host.tables.subscription_event)}


def test_a_create_answers_with_all_fields_and_the_secret(acme: Host) -> None:
    answer = acme.call("POST", "/subscriptions", {"target_url": URL, "event": "contact.create"})
    assert answer.status_code == 201
    made = answer.json
    assert set(made) == FIELDS | {"secret"}
    assert made["id"].startswith("sub_")
    assert made["events"] == ["contact.create"]
    assert (made["status"], made["active"]) == ("active", True)
    assert (made["description"], made["metadata"]) == ("", {})
    assert (made["format"], made["payload"]) == ("standard", "full")
    assert made["expires_at"] is None and made["disabled_reason"] is None
    assert made["created_at"] == made["updated_at"] and made["created_at"].endswith("Z")
    signing.key_of(made["secret"])
    assert answer.headers["Location"] == f"/api/v1/subscriptions/{made['id']}"
    assert answer.headers["Cache-Control"] == "no-store"
    assert patterns(acme) == {("acme", "contact.create")}


def test_the_secret_is_shown_at_its_own_route_and_nowhere_else(acme: Host) -> None:
    made = acme.subscribe()
    path = f"/subscriptions/{made['id']}"
    secret = acme.call("GET", f"{path}/secret")
    assert secret.json == {"secret": made["secret"]}
    assert secret.headers["Cache-Control"] == "no-store"
    for answer in (
        acme.call("GET", path),
        acme.call("GET", "/subscriptions"),
        acme.call("PATCH", path, {"description": "x"}),
        acme.call("PUT", path, {"target_url": URL, "event": "*"}),
    ):
        assert answer.status_code == 200
        assert "whsec_" not in answer.text


def test_a_secret_of_the_callers_own_is_taken(acme: Host) -> None:
    secret = "whsec_" + base64.b64encode(bytes(range(24))).decode()
    assert acme.subscribe(secret=secret)["secret"] == secret


def test_everything_that_is_given_is_kept(acme: Host) -> None:
    until = later(days=3)
    made = acme.subscribe(
        events=["contact.*", "contact.create", "invoice.paid"],
        active=False,
        description="für Menschen 🙂",
        metadata={"team": "marketing"},
        format="standard",
        payload="full",
        expires_at=until,
    )
    shown = acme.call("GET", f"/subscriptions/{made['id']}").json
    assert {**shown, "secret": made["secret"]} == made
    assert shown["events"] == ["contact.*", "contact.create", "invoice.paid"]
    assert (shown["status"], shown["active"]) == ("inactive", False)
    assert shown["description"] == "für Menschen 🙂"
    assert shown["metadata"] == {"team": "marketing"}
    assert dt.datetime.fromisoformat(shown["expires_at"][:-1] + "+00:00") == (
        dt.datetime.fromisoformat(until)
    )
    assert patterns(acme) == {("acme", "contact.*"), ("acme", "invoice.paid")}


def test_a_patch_changes_what_it_names_and_nothing_else(acme: Host) -> None:
    made = acme.subscribe(description="old", metadata={"a": "b"})
    path = f"/subscriptions/{made['id']}"
    changed = acme.call("PATCH", path, {"event": "invoice.*", "description": "new"}).json
    assert changed["events"] == ["invoice.*"]
    assert changed["description"] == "new"
    assert changed["metadata"] == {"a": "b"}
    assert changed["target_url"] == URL
    assert changed["updated_at"] > made["updated_at"]
    assert changed["created_at"] == made["created_at"]
    assert acme.call("GET", path).json == changed
    assert patterns(acme) == {("acme", "invoice.*")}


def test_a_put_takes_the_rest_back_to_its_defaults_but_keeps_the_secret(acme: Host) -> None:
    made = acme.subscribe(
        description="old", metadata={"a": "b"}, expires_at=later(days=1), active=False
    )
    path = f"/subscriptions/{made['id']}"
    put = acme.call("PUT", path, {"target_url": "https://other.example.com/", "events": ["*"]})
    assert put.status_code == 200
    assert put.json["target_url"] == "https://other.example.com/"
    assert (put.json["description"], put.json["metadata"]) == ("", {})
    assert put.json["expires_at"] is None
    assert (put.json["status"], put.json["active"]) == ("active", True)
    assert put.json["id"] == made["id"] and put.json["created_at"] == made["created_at"]
    assert acme.call("GET", f"{path}/secret").json["secret"] == made["secret"]


def test_active_pauses_and_resumes(acme: Host) -> None:
    made = acme.subscribe()
    path = f"/subscriptions/{made['id']}"
    paused = acme.call("PATCH", path, {"active": False}).json
    assert (paused["status"], paused["active"]) == ("inactive", False)
    resumed = acme.call("PATCH", path, {"active": True}).json
    assert (resumed["status"], resumed["active"]) == ("active", True)


def test_a_disabled_one_says_why_until_it_is_made_active_again(acme: Host) -> None:
    made = acme.subscribe()
    acme.execute(
        acme.tables.subscription.update().values(status="disabled", disabled_reason="it is gone")
    )
    path = f"/subscriptions/{made['id']}"
    shown = acme.call("PATCH", path, {"description": "still"}).json
    assert (shown["status"], shown["active"]) == ("disabled", False)
    assert shown["disabled_reason"] == "it is gone"
    shown = acme.call("PATCH", path, {"active": True}).json
    assert (shown["status"], shown["disabled_reason"]) == ("active", None)


def test_one_whose_time_is_over_is_shown_as_expired(acme: Host) -> None:
    made = acme.subscribe(expires_at=later(days=1))
    acme.execute(
        acme.tables.subscription.update().values(expires_at=utcnow() - dt.timedelta(seconds=1))
    )
    path = f"/subscriptions/{made['id']}"
    shown = acme.call("GET", path).json
    assert (shown["status"], shown["active"]) == ("expired", False)
    shown = acme.call("PATCH", path, {"expires_at": None}).json
    assert (shown["status"], shown["active"]) == ("active", True)


def test_a_delete_cancels_what_waits_and_leaves_the_history_to_its_owner(
    acme: Host,
) -> None:
    made, other = acme.subscribe(), acme.subscribe()
    [pending] = acme.deliveries(made["id"], 1)
    [sending] = acme.deliveries(made["id"], 1, status="sending", lease="x" * 32)
    [done] = acme.deliveries(made["id"], 1, status="delivered", due_at=None)
    [kept] = acme.deliveries(other["id"], 1)
    path = f"/subscriptions/{made['id']}"
    answer = acme.call("DELETE", path)
    assert (answer.status_code, answer.data) == (204, b"")
    for method in ("GET", "DELETE"):
        assert acme.call(method, path).status_code == 404
    assert acme.call("GET", f"{path}/deliveries").status_code == 404
    shown = acme.call("GET", f"/deliveries/{pending}").json
    assert (shown["status"], shown["next_attempt_at"]) == ("cancelled", None)
    assert shown["reason"] == "the subscription was deleted"
    assert shown["finished_at"] is not None
    # Its worker writes down what comes of it.
    assert acme.call("GET", f"/deliveries/{sending}").json["status"] == "sending"
    assert acme.call("GET", f"/deliveries/{done}").json["status"] == "delivered"
    assert acme.call("GET", f"/deliveries/{kept}").json["status"] == "pending"
    assert [row["subscription_id"] for row in acme.rows(acme.tables.subscription_event)] == [
        other["id"]
    ]


def test_what_is_somebody_elses_is_not_there(acme: Host) -> None:
    made = acme.subscribe()
    [delivery] = acme.deliveries(made["id"], 1)
    acme.owner = "rival"
    path = f"/subscriptions/{made['id']}"
    for method, where, body in (
        ("GET", path, None),
        ("PUT", path, {"target_url": URL, "event": "*"}),
        ("PATCH", path, {"active": False}),
        ("DELETE", path, None),
        ("GET", f"{path}/secret", None),
        ("GET", f"{path}/deliveries", None),
        ("GET", f"/deliveries/{delivery}", None),
        ("GET", f"/deliveries/{delivery}/attempts", None),
    ):
        answer = acme.call(method, where, body)
        assert (answer.status_code, answer.json["error_code"]) == (404, "not_found"), where
    assert acme.call("GET", "/subscriptions").json == {"data": [], "next_cursor": None}
    acme.owner = "acme"
    assert acme.call("GET", path).json["active"] is True
    assert acme.call("GET", f"/deliveries/{delivery}").json["status"] == "pending"


def test_the_list_is_newest_first_in_pages(acme: Host) -> None:
    made = []
    for _ in range(7):
        made.append(acme.subscribe()["id"])
        time.sleep(0.002)
    seen: list[str] = []
    cursor: dict[str, str] = {}
    for size in (3, 3, 1):
        page = acme.call("GET", "/subscriptions", query_string={"limit": 3, **cursor}).json
        assert len(page["data"]) == size
        seen += [entry["id"] for entry in page["data"]]
        cursor = {"cursor": page["next_cursor"]}
    assert cursor == {"cursor": None}
    assert seen == made[::-1]
    assert acme.call("GET", "/subscriptions?limit=7").json["next_cursor"] is None


def test_two_changes_at_once_are_both_kept(acme: Host) -> None:
    path = f"/subscriptions/{acme.subscribe()['id']}"
    failures: list[Any] = []

    def change(field: str) -> None:
        for number in range(10):
            body = {field: str(number) if field == "description" else {"n": str(number)}}
            answer = acme.call("PATCH", path, {**body, "events": ["contact.*", "invoice.*"]})
            if answer.status_code != 200:
                failures.append(answer.json)

    threads = [
        threading.Thread(target=change, args=(field,)) for field in ("description", "metadata")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    shown = acme.call("GET", path).json
    assert (shown["description"], shown["metadata"]) == ("9", {"n": "9"})
    assert patterns(acme) == {("acme", "contact.*"), ("acme", "invoice.*")}


def test_a_delete_that_meets_a_worker_the_other_way_round_succeeds(postgresql_url: str) -> None:
    with host(postgresql_url) as acme:
        made = acme.subscribe()
        acme.deliveries(made["id"], 1)
        locked = threading.Event()

        def settle() -> None:
            with acme.app.app_context(), acme.db.engine.begin() as connection:
                connection.execute(acme.tables.delivery.update().values(status="failed"))
                locked.set()
                time.sleep(0.5)
                with contextlib.suppress(sa.exc.OperationalError):  # or it is the victim
                    connection.execute(acme.tables.subscription.update().values(status="disabled"))

        worker = threading.Thread(target=settle)
        worker.start()
        locked.wait()
        answer = acme.call("DELETE", f"/subscriptions/{made['id']}")
        worker.join()
        assert answer.status_code == 204
        assert acme.rows(acme.tables.subscription) == []
        # The worker's, or ours if the worker was the victim.
        assert acme.rows(acme.tables.delivery)[0]["status"] in ("failed", "cancelled")


REFUSED_URLS = [
    ("https://127.0.0.1/", "loopback"),
    ("https://localhost/", "local network"),
    ("https://169.254.169.254/latest/meta-data", "link-local"),
    ("https://[::1]/", "loopback"),
    ("https://0x7f.1/", "loopback"),
    ("http://hooks.example.com/", "only https is allowed"),
    ("ftp://hooks.example.com/", "only https is allowed"),
    ("https://me:secret@hooks.example.com/", "user name or password"),
    ("https://hooks.example.com:0/", "port"),
    ("hooks.example.com", "absolute URL"),
    ("", "absolute URL"),
    ("https://hooks.example.com/\0", "must be percent-encoded"),
    ("https://hooks.example.com/\ud800", "must be percent-encoded"),
    ("https://inside.example.com/", "resolves to an address that is not public"),
]


@pytest.mark.parametrize(("url", "reason"), REFUSED_URLS, ids=lambda text: ascii(text))
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_a_target_url_that_may_not_be_called_is_refused_by_name(
    quick: Host, method: str, url: str, reason: str
) -> None:
    path = "/subscriptions" if method == "POST" else f"/subscriptions/{quick.subscribe()['id']}"
    body = {"target_url": url} if method == "PATCH" else {"target_url": url, "event": "*"}
    answer = quick.call(method, path, body)
    assert answer.status_code == 422
    assert list(answer.json["errors"]) == ["target_url"]
    assert reason in answer.json["errors"]["target_url"][0]


def test_nothing_of_the_network_inside_is_told_but_to_the_log(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(allowed_networks=("172.20.0.0/16",))
    with host(sqlite_url, settings=settings) as made:
        path = f"/subscriptions/{made.subscribe()['id']}"
        for target in ("https://inside.example.com/", "https://localhost/", "https://10.9.8.7/"):
            caplog.clear()
            for answer in (
                made.call("POST", "/subscriptions", {"target_url": target, "event": "*"}),
                made.call("PATCH", path, {"target_url": target}),
            ):
                assert answer.status_code == 422
                assert "172.20" not in answer.text and "10.1.2.3" not in answer.text
            assert "172.20.0.0/16" in caplog.text
            assert ("10.1.2.3" in caplog.text) == ("inside" in target)


def test_a_target_url_may_have_2048_characters_and_no_more(acme: Host) -> None:
    longest = URL + "/" + "x" * (2048 - len(URL) - 1)
    assert acme.subscribe(target_url=longest)["target_url"] == longest
    answer = acme.call("POST", "/subscriptions", {"target_url": longest + "x", "event": "*"})
    assert list(answer.json["errors"]) == ["target_url"]


def test_a_name_that_cannot_be_resolved_is_accepted_for_now(quick: Host) -> None:
    quick.subscribe(target_url="https://nowhere.example.com/")


def test_a_resolver_that_is_slow_holds_nobody_up(sqlite_url: str) -> None:
    done = threading.Event()

    def slow(*args: Any, **options: Any) -> Any:
        done.wait(10)
        return resolver("inside.example.com", 443)

    with host(sqlite_url, resolver=slow) as made:
        before = time.monotonic()
        made.subscribe()
        assert 1 < time.monotonic() - before < 3
        done.set()


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_no_connection_is_held_while_a_name_is_resolved(database_url: str, method: str) -> None:
    pools: list[Any] = []
    held: list[int] = []

    def counting(*args: Any, **options: Any) -> Any:
        held.extend(pool.checkedout() for pool in pools)
        return resolver(*args, **options)

    with host(database_url, resolver=counting) as made:
        with made.app.app_context():
            pools.append(made.db.engine.pool)
        path = "/subscriptions" if method == "POST" else f"/subscriptions/{made.subscribe()['id']}"
        held.clear()
        answer = made.call(method, path, {"target_url": URL, "event": "*"})
        assert answer.status_code < 300
        assert held == [0]


def test_what_is_not_there_is_a_404_whatever_was_sent_to_it(acme: Host) -> None:
    body = {"target_url": "https://inside.example.com/", "event": "contact.lost"}
    theirs = acme.subscribe()["id"]
    acme.owner = "rival"
    for subscription_id in ("x", "sub_" + "0" * 32, theirs):
        for method in ("PUT", "PATCH"):
            answer = acme.call(method, f"/subscriptions/{subscription_id}", body)
            assert (answer.status_code, answer.json["error_code"]) == (404, "not_found")


def test_what_the_settings_allow_is_accepted(sqlite_url: str) -> None:
    settings = Settings(require_https=False, allowed_networks=("127.0.0.0/8",))
    with host(sqlite_url, settings=settings) as made:
        assert made.subscribe(target_url="http://127.0.0.1:8000/hook")["status"] == "active"


@pytest.mark.parametrize("field", ["event", "events"])
def test_an_unknown_event_type_is_refused_with_a_list_of_the_known(quick: Host, field: str) -> None:
    for name in ("contact.created", "kontakt.*", "contact*", "**", "", "*.create"):
        value = name if field == "event" else ["contact.create", name]
        answer = quick.call("POST", "/subscriptions", {"target_url": URL, field: value})
        assert answer.status_code == 422
        [message] = answer.json["errors"][field]
        assert repr(name) in message
        assert "contact.create, contact.update, contact.delete, invoice.paid" in message


SECRET_OF_23 = "whsec_" + base64.b64encode(bytes(23)).decode()
FINE = {"target_url": URL, "event": "*"}
INVALID: list[tuple[dict[str, Any], str]] = [
    ({"event": "*"}, "target_url"),
    ({"target_url": 1, "event": "*"}, "target_url"),
    ({"target_url": None, "event": "*"}, "target_url"),
    ({"target_url": URL}, "events"),
    ({"target_url": URL, "events": []}, "events"),
    ({"target_url": URL, "events": ["*"], "event": "*"}, "events"),
    ({"target_url": URL, "events": "contact.create"}, "events"),
    ({"target_url": URL, "events": {"contact.create": 1}}, "events"),
    ({"target_url": URL, "events": [1]}, "events"),
    ({"target_url": URL, "events": ["\0"]}, "events"),
    ({"target_url": URL, "events": ["*"] * 101}, "events"),
    ({"target_url": URL, "event": ["*"]}, "event"),
    ({"target_url": URL, "event": "x" * 103}, "event"),
    ({**FINE, "active": "true"}, "active"),
    ({**FINE, "active": 1}, "active"),
    ({**FINE, "active": None}, "active"),
    ({**FINE, "description": None}, "description"),
    ({**FINE, "description": "x" * 1001}, "description"),
    ({**FINE, "description": "\0"}, "description"),
    ({**FINE, "description": "\ud800"}, "description"),
    ({**FINE, "metadata": []}, "metadata"),
    ({**FINE, "metadata": None}, "metadata"),
    ({**FINE, "metadata": {"a": 1}}, "metadata"),
    ({**FINE, "metadata": {"a": {"b": "c"}}}, "metadata"),
    ({**FINE, "metadata": {"": "x"}}, "metadata"),
    ({**FINE, "metadata": {"x" * 41: "x"}}, "metadata"),
    ({**FINE, "metadata": {"a": "x" * 501}}, "metadata"),
    ({**FINE, "metadata": {"a": "\0"}}, "metadata"),
    ({**FINE, "metadata": {"\0": "a"}}, "metadata"),
    ({**FINE, "metadata": {"\udfff": "a"}}, "metadata"),
    ({**FINE, "metadata": {str(n): "x" for n in range(51)}}, "metadata"),
    ({**FINE, "format": "xml"}, "format"),
    ({**FINE, "format": ["standard"]}, "format"),
    ({**FINE, "payload": "huge"}, "payload"),
    ({**FINE, "expires_at": "2001-01-01T00:00:00Z"}, "expires_at"),
    ({**FINE, "expires_at": "2099-01-01T00:00:00"}, "expires_at"),
    ({**FINE, "expires_at": "2099-01-01"}, "expires_at"),
    ({**FINE, "expires_at": "2099-02-30T00:00:00Z"}, "expires_at"),
    ({**FINE, "expires_at": "9999-12-31T23:59:59-23:59"}, "expires_at"),
    ({**FINE, "expires_at": "9999-12-31T23:59:59Z"}, "expires_at"),
    ({**FINE, "expires_at": "9000-01-01T00:00:00Z"}, "expires_at"),
    ({**FINE, "expires_at": "8999-12-31T23:59:59-00:01"}, "expires_at"),
    ({**FINE, "expires_at": 4102444800}, "expires_at"),
    ({**FINE, "secret": "secret"}, "secret"),
    ({**FINE, "secret": SECRET_OF_23}, "secret"),
    ({**FINE, "secret": None}, "secret"),
    ({**FINE, "secret": "whsec_\ud800"}, "secret"),
    ({**FINE, "id": "sub_1"}, "id"),
    ({**FINE, "status": "active"}, "status"),
    ({**FINE, "secret": ""}, "secret"),
    ({**FINE, "signature": "v2"}, "signature"),
    ({**FINE, "signature": "v1a", "secret": signing.new_secret()}, "secret"),
    ({**FINE, "headers": []}, "headers"),
    ({**FINE, "headers": {"Host": "x"}}, "headers"),
    ({**FINE, "headers": {"X-Team": "a\r\nHost: x"}}, "headers"),
    ({**FINE, "headers": {"webhook-id": "x"}}, "headers"),
    ({**FINE, "headers": {"X-Team": 1}}, "headers"),
    ({**FINE, "headers": {f"X-{number}": "x" for number in range(21)}}, "headers"),
    ({**FINE, "header_names": ["X-Team"]}, "header_names"),
    ({**FINE, "expiry_notice": "yes"}, "expiry_notice"),
    ({**FINE, "format": "xml"}, "format"),
    ({**FINE, "payload": "skinny"}, "payload"),
    ({**FINE, "x" * 500: 1}, "x" * 100 + "…"),
    ({**FINE, "\ud800": 1}, "?"),
]


@pytest.mark.parametrize(("body", "field"), INVALID, ids=lambda value: ascii(value)[:80])
def test_what_is_not_valid_is_a_422_that_names_the_field(
    quick: Host, body: dict[str, Any], field: str
) -> None:
    answer = quick.call("POST", "/subscriptions", body)
    assert answer.status_code == 422
    assert answer.json["error_code"] == "validation_error"
    assert list(answer.json["errors"]) == [field]
    messages = answer.json["errors"][field]
    assert messages and all(isinstance(message, str) for message in messages)
    assert quick.rows(quick.tables.subscription) == []


def test_a_put_and_a_patch_do_not_take_a_secret(quick: Host) -> None:
    made = quick.subscribe()
    for method in ("PUT", "PATCH"):
        answer = quick.call(
            method, f"/subscriptions/{made['id']}", {**FINE, "secret": made["secret"]}
        )
        assert list(answer.json["errors"]) == ["secret"]


def test_metadata_may_be_as_large_as_is_said(acme: Host) -> None:
    metadata = {f"{number:040}": "🙂" * 500 for number in range(50)}
    assert acme.subscribe(metadata=metadata)["metadata"] == metadata


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2099-12-31t23:59:60z", "2099-12-31T23:59:59Z"),
        ("2099-01-01T02:00:00.123456789+02:00", "2099-01-01T00:00:00.123456Z"),
    ],
)
def test_times_are_taken_as_rfc_3339_has_them(acme: Host, text: str, shown: str) -> None:
    assert acme.subscribe(expires_at=text)["expires_at"] == shown


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago", "Europe/Berlin"])
def test_the_latest_time_that_is_taken_can_be_read_in_every_zone_of_a_session(
    postgresql_url: str, zone: str
) -> None:
    name = sa.engine.make_url(postgresql_url).database
    engine = sa.create_engine(postgresql_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"ALTER DATABASE {name} SET timezone = '{zone}'"))
    engine.dispose()
    with host(postgresql_url) as acme:
        for bad in ("9999-12-31T23:59:59Z", "9000-01-01T00:00:00Z"):
            body = {"target_url": URL, "event": "*", "expires_at": bad}
            answer = acme.call("POST", "/subscriptions", body)
            assert answer.status_code == 422
            assert answer.json["errors"] == {"expires_at": ["Must be before 9000-01-01T00:00:00Z."]}
        latest = "8999-12-31T23:59:59.999999Z"
        made = acme.subscribe(expires_at=latest)
        assert made["expires_at"] == latest
        path = f"/subscriptions/{made['id']}"
        assert acme.call("GET", path).json["expires_at"] == latest
        [listed] = acme.call("GET", "/subscriptions").json["data"]
        assert (listed["expires_at"], listed["status"]) == (latest, "active")
        assert acme.call("PATCH", path, {"description": "x"}).json["expires_at"] == latest


def test_a_trailing_slash_is_accepted_everywhere(quick: Host) -> None:
    made = quick.subscribe()
    [delivery] = quick.deliveries(made["id"], 1)
    assert quick.call("POST", "/subscriptions/", FINE).status_code == 201
    for path in (
        "/subscriptions",
        f"/subscriptions/{made['id']}",
        f"/subscriptions/{made['id']}/secret",
        f"/subscriptions/{made['id']}/deliveries",
        f"/deliveries/{delivery}",
        f"/deliveries/{delivery}/attempts",
        "/event-types",
        "/event-types/contact.create",
    ):
        assert quick.call("GET", path).status_code == 200
        assert quick.call("GET", path + "/").status_code == 200
    assert quick.call("DELETE", f"/subscriptions/{made['id']}/").status_code == 204


@pytest.mark.parametrize("bad", ["x", "sub_", "%00", "%F0%9F", "sub_" + "g" * 32, "x" * 5000])
def test_an_id_that_cannot_be_one_is_not_there(acme: Host, bad: str) -> None:
    for path in (f"/subscriptions/{bad}", f"/deliveries/{bad}", f"/event-types/{bad}"):
        answer = acme.call("GET", path)
        assert (answer.status_code, answer.json["error_code"]) == (404, "not_found")


def test_a_machine_without_room_for_another_thread_takes_a_name_for_a_slow_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from flask_resthooks.api import targets
    from flask_resthooks.guard import Guard

    check = targets.TargetCheck(Guard(resolver=resolver))

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refuse)
        for _ in range(targets.MAX_RESOLVING + 1):
            assert check.objection("https://inside.example.com/") is None
    # None of these takes up room.
    assert "inside.example.com" in str(check.objection("https://inside.example.com/"))
