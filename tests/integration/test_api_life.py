"""What an owner does with a subscription beside changing it: secrets, tests, recoveries."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
import sqlalchemy as sa
from api_host import URL, Host, host

from flask_resthooks import intents, settings, signing, vault
from flask_resthooks.models import utcnow


def row_of(acme: Host, subscription_id: str) -> dict[str, Any]:
    rows = acme.rows(acme.tables.subscription)
    return next(row for row in rows if row["id"] == subscription_id)


def change(acme: Host, subscription_id: str, **values: Any) -> None:
    table = acme.tables.subscription
    acme.execute(table.update().where(table.c.id == subscription_id).values(**values))


# Secrets.


def test_a_rotation_answers_with_the_new_secret_and_keeps_the_former_for_a_day(
    acme: Host,
) -> None:
    made = acme.subscribe()
    path = f"/subscriptions/{made['id']}/secret"
    answer = acme.call("POST", f"{path}/rotate")  # a body is not needed
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    new = answer.json["secret"]
    assert new != made["secret"]
    assert acme.call("GET", path).json == {"secret": new}
    [former] = row_of(acme, made["id"])["former_secrets"]
    assert former["secret"] == made["secret"]
    left = dt.datetime.fromisoformat(former["until"]) - utcnow()
    assert 86300 < left.total_seconds() <= 86400
    for shown in (acme.call("GET", f"/subscriptions/{made['id']}"), acme.call("GET", path)):
        assert made["secret"] not in shown.text


def test_without_an_overlap_the_former_secret_ends_at_once(quick: Host) -> None:
    made = quick.subscribe()
    path = f"/subscriptions/{made['id']}/secret/rotate"
    assert quick.call("POST", path, {"overlap": 0}).status_code == 200
    assert row_of(quick, made["id"])["former_secrets"] == []


def test_a_rotation_takes_a_secret_of_ones_own_and_another_kind(quick: Host) -> None:
    made = quick.subscribe()
    path = f"/subscriptions/{made['id']}/secret/rotate"
    own = signing.new_secret()
    assert quick.call("POST", path, {"secret": own}).json == {"secret": own}
    answer = quick.call("POST", path, {"signature": "v1a"}).json["secret"]
    assert answer.startswith("whpk_")
    assert quick.call("GET", f"/subscriptions/{made['id']}").json["signature"] == "v1a"
    private = signing.new_secret("v1a")
    shown = quick.call("POST", path, {"secret": private}).json["secret"]
    assert shown == signing.shown_secret(private)
    for body, field in (
        ({"secret": own}, "secret"),  # it is v1a now
        ({"overlap": -1}, "overlap"),
        ({"overlap": 604801}, "overlap"),
        ({"overlap": "60"}, "overlap"),
        ({"overlap": True}, "overlap"),
        ({"signature": "v2"}, "signature"),
        ({"secret": ""}, "secret"),
        ({"more": 1}, "more"),
    ):
        refused = quick.call("POST", path, body)
        assert (refused.status_code, list(refused.json["errors"])) == (422, [field]), body


def test_five_secrets_at_most_sign_at_once(quick: Host) -> None:
    made = quick.subscribe()
    path = f"/subscriptions/{made['id']}/secret/rotate"
    for _ in range(4):
        assert quick.call("POST", path, {"overlap": 60}).status_code == 200
    answer = quick.call("POST", path, {"overlap": 60})
    assert (answer.status_code, answer.json["error_code"]) == (409, "too_many_secrets")
    assert quick.call("POST", path, {"overlap": 0}).status_code == 200
    assert len(row_of(quick, made["id"])["former_secrets"]) == 4
    over = (utcnow() - dt.timedelta(seconds=1)).isoformat()
    change(quick, made["id"], former_secrets=[{"secret": "x", "until": over}] * 4)
    assert quick.call("POST", path, {"overlap": 60}).status_code == 200
    assert len(row_of(quick, made["id"])["former_secrets"]) == 1


def test_a_rotation_that_is_repeated_rotates_once(acme: Host) -> None:
    path = f"/subscriptions/{acme.subscribe()['id']}/secret/rotate"
    answers = [
        acme.call("POST", path, {}, headers={"Idempotency-Key": "one"}).json for _ in range(2)
    ]
    assert answers[0] == answers[1]


def test_secrets_and_headers_are_sealed_with_the_apps_key(sqlite_url: str) -> None:
    key = vault.make_key()
    with host(sqlite_url, settings=settings.Settings(encryption_keys=(key,))) as acme:
        made = acme.subscribe(headers={"Authorization": "Bearer abc"}, secret=OWN)
        row = row_of(acme, made["id"])
        assert row["secret"].startswith("fernet:")
        assert row["headers"].startswith("fernet:")
        assert acme.call("GET", f"/subscriptions/{made['id']}/secret").json == {"secret": OWN}
        shown = acme.call("GET", f"/subscriptions/{made['id']}")
        assert shown.json["header_names"] == ["Authorization"]
        assert "abc" not in shown.text
        # Headers are replaced as a whole; an empty object takes them away.
        changed = acme.call("PATCH", f"/subscriptions/{made['id']}", {"headers": {}})
        assert changed.json["header_names"] == []
        assert row_of(acme, made["id"])["headers"] is None


OWN = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="


# Tests of a receiver.


def test_a_ping_is_a_delivery_to_look_at(acme: Host) -> None:
    subscription = acme.subscribe()["id"]
    answer = acme.call("POST", f"/subscriptions/{subscription}/ping")
    assert answer.status_code == 202
    made = answer.json
    assert (made["kind"], made["event_type"], made["status"]) == (
        *("ping", "resthooks.ping", "pending"),
    )
    assert made["event_id"].startswith("tst_")
    assert answer.headers["Location"] == f"{acme.prefix}/deliveries/{made['id']}"
    assert acme.call("GET", f"/deliveries/{made['id']}").json == made
    listed = acme.call("GET", f"/subscriptions/{subscription}/deliveries").json["data"]
    assert [entry["id"] for entry in listed] == [made["id"]]


def test_a_ping_can_be_the_sample_of_an_event_type(quick: Host) -> None:
    subscription = quick.subscribe()["id"]
    path = f"/subscriptions/{subscription}/ping"
    assert quick.call("POST", path, {"event": "invoice.paid"}).json["event_type"] == "invoice.paid"
    for body, field in (({"event": "invoice.lost"}, "event"), ({"event": "contact.*"}, "event")):
        refused = quick.call("POST", path, body)
        assert (refused.status_code, list(refused.json["errors"])) == (422, [field])


@pytest.mark.parametrize(
    ("status", "code"),
    [("active", 202), ("inactive", 202), ("disabled", 202), ("pending", 409), ("expired", 409)],
)
def test_who_is_sent_a_ping(quick: Host, status: str, code: int) -> None:
    subscription = quick.subscribe()["id"]
    change(quick, subscription, status=status)
    assert quick.call("POST", f"/subscriptions/{subscription}/ping").status_code == code


# What was missed.


def test_a_recovery_is_accepted_and_shows_how_far_it_has_come(acme: Host) -> None:
    subscription = acme.subscribe()
    path = f"/subscriptions/{subscription['id']}/recover"
    answer = acme.call("POST", path, {"since": "2020-01-01T00:00:00Z"})
    assert answer.status_code == 202
    made = answer.json
    assert (made["status"], made["examined"], made["released"]) == ("pending", 0, 0)
    # Nobody missed what happened before they subscribed.
    assert made["since"] == subscription["created_at"]
    assert answer.headers["Location"] == f"{acme.prefix}{path}/{made['id']}"
    assert acme.call("GET", f"{path}/{made['id']}").json == made
    assert acme.call("GET", path).json["data"] == [made]
    again = acme.call("POST", path, {"since": "2020-01-01T00:00:00Z"})
    assert (again.status_code, again.json["error_code"]) == (409, "recovery_going_on")
    assert made["id"] in again.json["message"]


@pytest.mark.parametrize("body", [{}, {"since": "yesterday"}, {"since": None}, {"since": 1}])
def test_a_recovery_needs_a_time(quick: Host, body: dict[str, Any]) -> None:
    path = f"/subscriptions/{quick.subscribe()['id']}/recover"
    answer = quick.call("POST", path, body)
    assert (answer.status_code, list(answer.json["errors"])) == (422, ["since"])


@pytest.mark.parametrize("status", ["pending", "inactive", "disabled", "expired"])
def test_nothing_is_sent_again_to_who_gets_nothing(quick: Host, status: str) -> None:
    subscription = quick.subscribe()["id"]
    [delivery] = quick.deliveries(subscription, 1, status="failed", due_at=None)
    change(quick, subscription, status=status)
    for path, body in (
        (f"/subscriptions/{subscription}/recover", {"since": "2020-01-01T00:00:00Z"}),
        (f"/deliveries/{delivery}/resend", None),
    ):
        answer = quick.call("POST", path, body)
        assert (answer.status_code, answer.json["error_code"]) == (409, "subscription_not_active")


@pytest.mark.parametrize("status", ["failed", "cancelled", "delivered", "pending"])
def test_a_delivery_can_be_sent_again_whatever_became_of_it(acme: Host, status: str) -> None:
    subscription = acme.subscribe()["id"]
    late = utcnow() + dt.timedelta(days=1)
    [delivery] = acme.deliveries(
        subscription, 1, status=status, due_at=late, attempts=3, reason="x", finished_at=late
    )
    answer = acme.call("POST", f"/deliveries/{delivery}/resend")
    assert answer.status_code == 202
    assert (answer.json["status"], answer.json["reason"]) == ("pending", None)
    assert answer.json["attempts"] == 3
    [row] = acme.rows(acme.tables.delivery)
    assert row["attempts_before"] == 3
    assert row["due_at"] <= utcnow()


def test_what_is_being_sent_a_test_or_somebody_gones_is_not_sent_again(quick: Host) -> None:
    subscription = quick.subscribe()["id"]
    [sending] = quick.deliveries(subscription, 1, status="sending", lease="x" * 32)
    ping = quick.call("POST", f"/subscriptions/{subscription}/ping").json["id"]
    other = quick.subscribe()["id"]
    [orphan] = quick.deliveries(other, 1, status="failed", due_at=None)
    assert quick.call("DELETE", f"/subscriptions/{other}").status_code == 204
    for delivery in (sending, ping, orphan):
        answer = quick.call("POST", f"/deliveries/{delivery}/resend")
        assert (answer.status_code, answer.json["error_code"]) == (409, "not_resendable")
    [row] = [row for row in quick.rows(quick.tables.delivery) if row["id"] == sending]
    assert (row["status"], row["lease"]) == ("sending", "x" * 32)


def test_deliveries_are_filtered_by_type_and_time(acme: Host) -> None:
    subscription = acme.subscribe()["id"]
    path = f"/subscriptions/{subscription}/deliveries"
    made = acme.deliveries(subscription, 5)  # a second apart
    [other] = acme.deliveries(subscription, 1, event_type="invoice.paid")
    moments = [acme.call("GET", f"/deliveries/{one}").json["created_at"] for one in made]
    found = acme.call("GET", f"{path}?event_type=invoice.paid").json["data"]
    assert [entry["id"] for entry in found] == [other]
    found = acme.call("GET", f"{path}?event_type=contact.create&since={moments[3]}").json["data"]
    assert [entry["id"] for entry in found] == [made[4], made[3]]
    found = acme.call("GET", f"{path}?event_type=contact.create&until={moments[2]}").json["data"]
    assert [entry["id"] for entry in found] == [made[1], made[0]]


# Intent, from the API's side.


def asking(url: str, **options: Any) -> Any:
    return host(url, intent=intents.XHookSecret(), **options)


def test_a_new_subscription_waits_for_its_receiver(database_url: str) -> None:
    with asking(database_url) as acme:
        made = acme.subscribe()
        assert (made["status"], made["active"]) == ("pending", False)
        left = dt.datetime.fromisoformat(made["confirm_until"]) - utcnow()
        assert 86300 < left.total_seconds() <= 86400
        [delivery] = acme.rows(acme.tables.delivery)
        assert (delivery["kind"], delivery["event_type"]) == ("handshake", "resthooks.handshake")
        assert acme.woken == 1
        paused = acme.subscribe(active=False)
        assert (paused["status"], paused["confirm_until"]) == ("inactive", None)
        assert len(acme.rows(acme.tables.delivery)) == 1


def test_the_secret_confirms_in_header_or_body_and_nothing_else_does(database_url: str) -> None:
    with asking(database_url) as acme:
        made = acme.subscribe()
        path = f"/subscriptions/{made['id']}/confirm"
        secret = row_of(acme, made["id"])["intent_secret"]
        acme.owner = None  # the receiver is no user of the app
        for body in ({}, {"secret": "wrong"}, {"secret": secret[:-1]}, {"secret": secret.upper()}):
            answer = acme.call("POST", path, body)
            assert (answer.status_code, answer.json["error_code"]) == (403, "wrong_secret")
        assert acme.call("POST", path).status_code == 403
        other = acme.call("POST", path.replace(made["id"], "sub_" + "0" * 32), {"secret": secret})
        assert other.status_code == 404
        for _ in range(2):
            answer = acme.call("POST", path, {"secret": secret})
            assert (answer.status_code, answer.json) == (200, {"status": "active"})
        assert acme.call("POST", path, headers={"X-Hook-Secret": secret}).status_code == 200
        assert row_of(acme, made["id"])["confirmed_at"] is not None


def test_a_confirmation_that_comes_too_late_does_nothing(sqlite_url: str) -> None:
    with asking(sqlite_url) as acme:
        made = acme.subscribe()
        change(acme, made["id"], intent_until=utcnow())
        secret = row_of(acme, made["id"])["intent_secret"]
        answer = acme.call("POST", f"/subscriptions/{made['id']}/confirm", {"secret": secret})
        assert (answer.status_code, answer.json["error_code"]) == (409, "confirmation_expired")
        assert row_of(acme, made["id"])["status"] == "pending"


@pytest.mark.parametrize("status", ["inactive", "disabled", "expired"])
def test_a_confirmation_wakes_nobody_who_was_switched_off(sqlite_url: str, status: str) -> None:
    with asking(sqlite_url) as acme:
        made = acme.subscribe()
        change(acme, made["id"], status=status)
        secret = row_of(acme, made["id"])["intent_secret"]
        answer = acme.call("POST", f"/subscriptions/{made['id']}/confirm", {"secret": secret})
        assert (answer.status_code, answer.json["error_code"]) == (409, "not_pending")


def test_another_url_is_asked_anew_and_what_waits_for_the_former_is_cancelled(
    database_url: str,
) -> None:
    with asking(database_url) as acme:
        made = acme.subscribe()
        path = f"/subscriptions/{made['id']}"
        change(acme, made["id"], status="active", confirmed_at=utcnow())
        first = row_of(acme, made["id"])["intent_secret"]
        [waiting] = acme.deliveries(made["id"], 1)
        same = acme.call("PATCH", path, {"target_url": URL, "description": "x"})
        assert same.json["status"] == "active"
        moved = acme.call("PATCH", path, {"target_url": "https://other.example.com/"})
        assert moved.json["status"] == "pending"
        row = row_of(acme, made["id"])
        assert row["intent_secret"] != first
        assert (row["confirmed_at"], row["host"]) == (None, "other.example.com:443")
        statuses = {one["id"]: one["status"] for one in acme.rows(acme.tables.delivery)}
        assert statuses.pop(waiting) == "cancelled"
        assert sorted(statuses.values()) == ["cancelled", "pending"]


def test_an_app_can_ask_in_a_way_of_its_own(sqlite_url: str) -> None:
    class Telephone:
        def opening(self, handshake: intents.Handshake) -> intents.Opening:
            return intents.Opening(headers={"x-call": handshake.subscription_id})

        def judge(self, handshake: Any, status: int, headers: Any) -> intents.Verdict:
            return intents.Verdict(headers.get("allow") == "yes")

    with host(sqlite_url, intent=intents.Intents().add("telephone", Telephone())) as acme:
        assert acme.subscribe()["status"] == "pending"


def test_the_document_names_every_operation_once(quick: Host) -> None:
    document: Any = quick.client.get("/openapi.json").json
    names = [
        operation["operationId"]
        for path in document["paths"].values()
        for method, operation in path.items()
        if method != "parameters"
    ]
    assert len(names) == len(set(names)) >= 22


@pytest.mark.parametrize("status", ["active", "inactive", "disabled", "pending"])
def test_no_test_is_sent_to_who_has_not_shown_that_they_want_to_be_called(
    sqlite_url: str, status: str
) -> None:
    with asking(sqlite_url) as acme:
        made = acme.subscribe()
        change(acme, made["id"], status=status)
        answer = acme.call("POST", f"/subscriptions/{made['id']}/ping")
        assert (answer.status_code, answer.json["error_code"]) == (409, "subscription_not_testable")
        change(acme, made["id"], confirmed_at=utcnow())
        code = 409 if status == "pending" else 202
        assert acme.call("POST", f"/subscriptions/{made['id']}/ping").status_code == code


def test_a_receiver_is_not_asked_again_and_again(database_url: str) -> None:
    with asking(database_url) as acme:
        made = acme.subscribe()
        for number in range(5):
            changed = acme.call(
                "PATCH",
                f"/subscriptions/{made['id']}",
                {"active": True, "target_url": f"https://hooks.example.com/{number % 2}"},
            )
            assert changed.json["status"] == "pending"
        deliveries = acme.rows(acme.tables.delivery)
        waiting = [one for one in deliveries if one["status"] == "pending"]
        assert len(waiting) == 1
        assert sorted(one["status"] for one in deliveries) == ["cancelled"] * 5 + ["pending"]
        assert waiting[0]["due_at"] > utcnow() + dt.timedelta(seconds=5)


def test_a_confirmed_receiver_may_say_so_at_any_time(sqlite_url: str) -> None:
    with asking(sqlite_url) as acme:
        made = acme.subscribe()
        path = f"/subscriptions/{made['id']}/confirm"
        late = {"intent_secret": "s", "intent_until": utcnow(), "intent_tries": 99}
        change(acme, made["id"], status="active", **late)
        assert acme.call("POST", path, {"secret": "s"}).status_code == 200


def test_where_the_way_to_ask_is_another_a_secret_confirms_nothing(sqlite_url: str) -> None:
    """An app's own strategy asks for more than the secret: whoever has it could go around that."""
    with host(sqlite_url, intent=intents.Ping()) as acme:
        made = acme.subscribe()
        secret = row_of(acme, made["id"])["intent_secret"]
        answer = acme.call("POST", f"/subscriptions/{made['id']}/confirm", {"secret": secret})
        assert (answer.status_code, answer.json["error_code"]) == (409, "not_pending")
        assert row_of(acme, made["id"])["status"] == "pending"


def test_a_handshake_that_waits_is_replaced_at_its_time_and_not_put_off(sqlite_url: str) -> None:
    with asking(sqlite_url) as acme:
        made = acme.subscribe()
        path = f"/subscriptions/{made['id']}"
        due = []
        for _ in range(4):
            acme.call("PATCH", path, {"active": True})
            waiting = [one for one in acme.rows(acme.tables.delivery) if one["status"] == "pending"]
            due.append(waiting[-1]["due_at"])
        assert max(due) - min(due) < dt.timedelta(seconds=1)


def test_a_replacement_that_says_nothing_of_it_asks_no_pending_receiver_anew(
    sqlite_url: str,
) -> None:
    with asking(sqlite_url) as acme:
        made = acme.subscribe()
        secret = row_of(acme, made["id"])["intent_secret"]
        path = f"/subscriptions/{made['id']}"
        answer = acme.call("PUT", path, {"target_url": URL, "events": ["invoice.paid"]})
        assert answer.json["status"] == "pending"
        assert row_of(acme, made["id"])["intent_secret"] == secret
        change(acme, made["id"], status="inactive", confirmed_at=utcnow())
        answer = acme.call("PUT", path, {"target_url": URL, "events": ["invoice.paid"]})
        assert answer.json["status"] == "active"


def test_a_change_of_nothing_changes_nothing(quick: Host) -> None:
    made = quick.subscribe()
    path = f"/subscriptions/{made['id']}"
    before = quick.call("GET", path)
    assert quick.call("PATCH", path, {}).json == before.json
    assert quick.call("GET", path).headers["ETag"] == before.headers["ETag"]


def test_one_that_was_paused_stays_so_when_its_time_is_over(acme: Host) -> None:
    made = acme.subscribe(active=False, expires_at="2099-01-01T00:00:00Z")
    change(acme, made["id"], expires_at=utcnow())
    path = f"/subscriptions/{made['id']}"
    assert acme.call("GET", path).json["status"] == "inactive"
    assert acme.call("PATCH", path, {"expires_at": None}).json["status"] == "inactive"


def test_what_the_database_refuses_does_not_put_secrets_into_the_log(
    fresh: Host, caplog: pytest.LogCaptureFixture
) -> None:
    fresh.app.config["PROPAGATE_EXCEPTIONS"] = False
    fresh.app.config["TESTING"] = False
    table = fresh.tables.subscription_event
    fresh.execute(sa.DDL(f"DROP TABLE {table.name}"))
    trigger = f"CREATE TRIGGER no BEFORE INSERT ON {fresh.tables.subscription.name} "
    fresh.execute(sa.DDL(f"{trigger} BEGIN SELECT RAISE(FAIL, 'no'); END"))
    secret = signing.new_secret()
    body = {
        **{"target_url": URL, "events": ["*"], "secret": secret},
        "headers": {"Authorization": "Bearer hush"},
    }
    answer = fresh.call("POST", "/subscriptions", body)
    assert answer.status_code == 500
    assert "INSERT INTO" in caplog.text
    assert secret not in caplog.text
    assert "hush" not in caplog.text


def test_without_its_key_the_api_says_so_and_keeps_nothing_readable(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    key = vault.make_key()
    with host(database_url, settings=settings.Settings(encryption_keys=(key,))) as acme:
        made = acme.subscribe()
    from flask_resthooks.database import Database
    from flask_resthooks.sealing import check_seals

    hosts: list[Host] = []

    def check() -> None:
        with hosts[0].app.app_context():
            check_seals(Database(hosts[0].db.engine), hosts[0].tables, vault.Vault())

    with host(database_url, check_seals=check) as acme:
        hosts.append(acme)
        body = {"target_url": URL, "events": ["*"]}
        path = f"/subscriptions/{made['id']}/secret"
        headers = {"headers": {"Authorization": "Bearer hush"}}
        for answer in (
            acme.call("PATCH", f"/subscriptions/{made['id']}", headers),
            acme.call("PUT", f"/subscriptions/{made['id']}", body | headers),
            acme.call("POST", "/subscriptions", body),
            acme.call("GET", path),
            acme.call("POST", f"{path}/rotate"),
        ):
            assert (answer.status_code, answer.json["error_code"]) == (503, "key_missing")
            assert "RESTHOOKS" not in answer.text
        assert "RESTHOOKS_ENCRYPTION_KEYS" in caplog.text
        assert len(acme.rows(acme.tables.subscription)) == 1
