"""How many subscriptions an owner may have, and whether two of them may be alike."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from api_host import URL, Host, Hosts, host

from flask_resthooks.api import limits
from flask_resthooks.api.rows import write
from flask_resthooks.settings import Settings

BODY = {"target_url": URL, "event": "contact.create"}
OTHER_URL = "https://other.example.com/"


@pytest.fixture
def three(hosts: Hosts) -> Host:
    """An app that allows three subscriptions."""
    return hosts.one(settings=Settings(subscription_limit=3))


@pytest.fixture
def unlike(hosts: Hosts) -> Host:
    """An app that refuses duplicates."""
    return hosts.one(settings=Settings(refuse_duplicates=True))


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    barrier = threading.Barrier(len(calls))
    made: list[Any] = [None] * len(calls)

    def run(number: int) -> None:
        barrier.wait(10)
        made[number] = calls[number]()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return made


def refused(answer: Any, error_code: str) -> dict[str, Any]:
    assert answer.status_code == 409, answer.text
    assert answer.json["error_code"] == error_code
    error: dict[str, Any] = answer.json
    return error


def test_there_may_be_as_many_as_the_limit_says_and_no_more(three: Host) -> None:
    made = [three.subscribe() for _ in range(3)]
    error = refused(three.call("POST", "/subscriptions", BODY), "subscription_limit")
    assert "3 are allowed" in error["message"] and error["errors"] == {}
    assert len(three.rows(three.tables.subscription)) == 3
    three.owner = "rival"
    three.subscribe()
    three.owner = "acme"
    assert three.call("PATCH", f"/subscriptions/{made[0]['id']}", BODY).status_code == 200
    three.call("DELETE", f"/subscriptions/{made[0]['id']}")
    three.subscribe(active=False)
    refused(three.call("POST", "/subscriptions", BODY), "subscription_limit")


def test_none_is_no_limit(database_url: str) -> None:
    with host(database_url, settings=Settings(subscription_limit=0)) as acme:
        for _ in range(5):
            acme.subscribe()


def test_a_limit_that_was_lowered_leaves_what_is_there(database_url: str) -> None:
    with host(database_url) as acme:
        for _ in range(4):
            made = acme.subscribe()
    with host(database_url, settings=Settings(subscription_limit=2)) as acme:
        error = refused(acme.call("POST", "/subscriptions", BODY), "subscription_limit")
        assert "There are 4 subscriptions, and 2 are allowed" in error["message"]
        path = f"/subscriptions/{made['id']}"
        assert acme.call("PATCH", path, {"description": "x"}).status_code == 200


def test_many_at_once_do_not_pass_the_limit(three: Host) -> None:
    for _ in range(3):
        answers = at_once(*[lambda: three.call("POST", "/subscriptions", BODY)] * 7)
        assert sorted(answer.status_code for answer in answers) == [201] * 3 + [409] * 4
        for row in three.rows(three.tables.subscription):
            three.call("DELETE", f"/subscriptions/{row['id']}")


@pytest.mark.parametrize(
    ("events", "others"),
    [
        (["contact.create"], ["contact.create"]),
        (["contact.create", "invoice.paid"], ["invoice.paid", "contact.create"]),
        (["contact.create"], ["contact.create", "contact.create"]),
        (["contact.*"], ["contact.create", "contact.*"]),
        (["*"], ["contact.*", "*", "invoice.paid"]),
    ],
)
def test_the_same_events_to_the_same_url_are_refused_and_the_other_is_named(
    unlike: Host, events: list[str], others: list[str]
) -> None:
    first = unlike.subscribe(events=events, active=False)
    body = {"target_url": URL, "events": others, "description": "another"}
    error = refused(unlike.call("POST", "/subscriptions", body), "duplicate_subscription")
    assert first["id"] in error["message"]
    assert error["errors"] == {"duplicate_of": [first["id"]]}
    assert len(unlike.rows(unlike.tables.subscription)) == 1


def test_what_differs_in_owner_url_or_events_is_none(unlike: Host) -> None:
    unlike.subscribe(events=["contact.create"])
    unlike.subscribe(events=["contact.*"])
    unlike.subscribe(events=["contact.create", "invoice.paid"])
    unlike.subscribe(events=["contact.create"], target_url=URL + "/")
    unlike.subscribe(events=["contact.create"], target_url=URL + "?a=b")
    unlike.owner = "rival"
    unlike.subscribe(events=["contact.create"])


def test_without_the_setting_they_may_be_alike(database_url: str) -> None:
    with host(database_url) as acme:
        acme.subscribe()
        acme.subscribe()


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_a_change_that_makes_two_alike_is_refused(unlike: Host, method: str) -> None:
    first = unlike.subscribe()
    second = unlike.subscribe(target_url=OTHER_URL)
    path = f"/subscriptions/{second['id']}"
    seen = unlike.call("GET", path).json
    error = refused(unlike.call(method, path, BODY), "duplicate_subscription")
    assert error["errors"] == {"duplicate_of": [first["id"]]}
    assert unlike.call("GET", path).json == seen
    if method == "PATCH":
        assert unlike.call(method, path, {"target_url": URL}).status_code == 409
        assert unlike.call(method, path, {"event": "invoice.paid"}).status_code == 200
        assert unlike.call(method, path, {"target_url": URL}).status_code == 200
        assert unlike.call(method, path, {"event": "contact.create"}).status_code == 409
    assert unlike.call(method, f"/subscriptions/{first['id']}", BODY).status_code == 200


def test_a_change_of_something_else_is_let_through_where_two_are_alike_already(
    database_url: str,
) -> None:
    with host(database_url) as acme:
        acme.subscribe()
        path = f"/subscriptions/{acme.subscribe()['id']}"
    with host(database_url, settings=Settings(refuse_duplicates=True)) as acme:
        assert acme.call("PATCH", path, {"active": False}).status_code == 200


def test_two_of_a_kind_at_once_do_not_both_pass(unlike: Host) -> None:
    for number in range(8):
        body = {**BODY, "target_url": f"{URL}/{number}"}
        answers = at_once(*[lambda: unlike.call("POST", "/subscriptions", body)] * 3)  # noqa: B023
        codes = [answer.status_code for answer in answers]
        assert sorted(codes) == [201, 409, 409]
        winner = answers[codes.index(201)].json["id"]
        for answer in answers:
            if answer.status_code == 409:
                assert answer.json["errors"] == {"duplicate_of": [winner]}


def test_a_create_and_a_change_at_once_do_not_become_alike(unlike: Host) -> None:
    for number in range(8):
        body = {**BODY, "target_url": f"{URL}/{number}"}
        path = f"/subscriptions/{unlike.subscribe(target_url=f'{OTHER_URL}{number}')['id']}"
        answers = at_once(
            lambda: unlike.call("POST", "/subscriptions", body),  # noqa: B023
            lambda: unlike.call("PATCH", path, {"target_url": body["target_url"]}),  # noqa: B023
        )
        assert sorted(answer.status_code for answer in answers) in ([200, 409], [201, 409])


def test_the_lock_is_an_owners_own(postgresql_url: str) -> None:
    """Nobody waits for another owner; who waits does so until the transaction's end."""
    settings = Settings(subscription_limit=3)
    with host(postgresql_url, settings=settings) as acme:
        holding, end = threading.Event(), threading.Event()

        def hold() -> None:
            def work() -> None:
                session = acme.context.db.session
                limits.check_room(session, acme.tables, settings, "acme")
                holding.set()
                assert end.wait(20)

            with acme.app.app_context():
                write(acme.context.db.session, work)

        holder = threading.Thread(target=hold)
        holder.start()
        assert holding.wait(10)
        waiter = threading.Thread(target=acme.subscribe)
        waiter.start()
        waiter.join(0.3)
        assert waiter.is_alive()
        with acme.app.app_context():  # an owner of another thread's
            session = acme.context.db.session
            before = time.monotonic()
            limits.check_room(session, acme.tables, settings, "rival")
            assert time.monotonic() - before < 5
            session.rollback()
        end.set()
        holder.join(20)
        waiter.join(20)
        assert len(acme.rows(acme.tables.subscription)) == 1
