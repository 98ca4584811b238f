"""`Idempotency-Key`: a request that comes again does nothing again."""

from __future__ import annotations

import datetime as dt
import json
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from api_host import URL, Host, Hosts, host, resolver
from whole_app import serving

import flask_resthooks
from flask_resthooks import answers, models
from flask_resthooks.api import errors
from flask_resthooks.api.errors import APIError
from flask_resthooks.api.idempotency import once
from flask_resthooks.api.schemas import RESTHooksSecretSchema
from flask_resthooks.api.views import Blueprint, View, operation
from flask_resthooks.models import utcnow
from flask_resthooks.settings import Settings
from flask_resthooks.vault import make_key

BODY = {"target_url": URL, "event": "contact.create"}
KEY = {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}
PAGE = Path(flask_resthooks.__file__).parents[1] / "docs" / "how-to" / "call-the-api-safely.md"
KEPT = ("Location", "ETag", "Cache-Control", "Content-Type", "Content-Length")


class Work:
    """What the POST of `/things` and `/others` does, which a test may decide."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.calls = 0
        self.then: Callable[[int], None] = lambda call: None
        self.answer: Any = {"secret": "x"}

    def __call__(self) -> Any:
        self.calls += 1
        self.then(self.calls)
        return self.answer


class Things(View):
    tag = "Things"
    work: Work

    @operation("make_thing", 201, RESTHooksSecretSchema, idempotent=True)
    def post(self, query: dict[str, Any], **path: str) -> Any:
        """Make a thing"""
        return once(self, self.work)


class Others(Things):
    @operation("make_other", 202, idempotent=True)
    def post(self, query: dict[str, Any], **path: str) -> Any:
        """Make another thing"""
        return once(self, self.work)


def with_things(host: Host) -> None:
    """Two more routes that create something; what is in their bodies does not matter."""
    work = host.app.extensions["work"] = Work()
    blueprint = Blueprint("things", __name__, url_prefix=host.prefix)
    errors.register(blueprint)
    for view in (Things, Others):
        made: Any = view.of(host.context)
        made.work = work
        blueprint.add_url_rule(f"/{view.__name__.lower()}", view_func=made, strict_slashes=False)
    host.app.register_blueprint(blueprint)


def things(host: Host) -> Work:
    """What these routes do."""
    work: Work = host.app.extensions["work"]
    work.begin()
    return work


@pytest.fixture
def acme(hosts: Hosts) -> Host:
    return hosts.one(with_things)


def post(host: Host, body: Any = None, path: str = "/subscriptions", **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return host.call("POST", path, body or BODY, headers={**KEY, **named})


def at_once(count: int, call: Callable[[int], Any]) -> list[Any]:
    """What as many calls answer that are made at the same time."""
    barrier = threading.Barrier(count)
    made: list[Any] = [None] * count

    def run(number: int) -> None:
        barrier.wait(10)
        made[number] = call(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return made


def test_the_same_request_with_the_same_key_gets_the_same_answer(acme: Host) -> None:
    first = post(acme)
    assert first.status_code == 201
    assert "Idempotency-Replayed" not in first.headers
    second, third = post(acme), post(acme, X_Request_Id="third")
    for again in (second, third):
        assert (again.status_code, again.data) == (201, first.data)
        assert [again.headers.get(name) for name in KEPT] == [
            first.headers.get(name) for name in KEPT
        ]
        assert again.headers["Idempotency-Replayed"] == "true"
        assert len(again.headers.getlist("Content-Type")) == 1
    assert third.headers["X-Request-Id"] == "third"
    assert len({answer.headers["X-Request-Id"] for answer in (first, second, third)}) == 3
    assert len(acme.rows(acme.tables.subscription)) == 1
    assert first.headers["Cache-Control"] == "no-store"


def test_without_a_key_everything_is_done_again(acme: Host) -> None:
    first, second = acme.subscribe(), acme.subscribe()
    assert first["id"] != second["id"]
    assert acme.rows(acme.tables.answer) == []


def test_another_body_with_the_same_key_is_refused(acme: Host) -> None:
    post(acme)
    for body in ({**BODY, "active": True}, {**BODY, "event": "*"}, {"x": 1}):
        answer = post(acme, body)
        assert (answer.status_code, answer.json["error_code"]) == (422, "idempotency_key_reused")
        assert list(answer.json["errors"]) == ["Idempotency-Key"]
    # The bytes count: what they mean may be for somebody else to say.
    raw = json.dumps(BODY, indent=1)
    answer = acme.call(
        "POST", "/subscriptions", data=raw, content_type="application/json", headers=KEY
    )
    assert answer.status_code == 422
    assert len(acme.rows(acme.tables.subscription)) == 1


def test_another_path_with_the_same_key_is_refused(acme: Host) -> None:
    work = things(acme)
    assert post(acme, path="/things").status_code == 201
    assert post(acme, path="/things/").headers["Idempotency-Replayed"] == "true"
    answer = post(acme, path="/others")
    assert (answer.status_code, answer.json["error_code"]) == (422, "idempotency_key_reused")
    assert work.calls == 1


def test_parameters_of_the_host_are_no_part_of_the_request(quick: Host) -> None:
    first = post(quick, path="/subscriptions?api_key=old")
    assert post(quick, path="/subscriptions?api_key=new").data == first.data


def test_a_key_is_its_owners(acme: Host) -> None:
    mine = post(acme)
    acme.owner = "rival"
    theirs = post(acme, {**BODY, "description": "another"})
    assert theirs.status_code == 201 and theirs.json["id"] != mine.json["id"]
    assert post(acme, {**BODY, "description": "another"}).data == theirs.data
    acme.owner = None
    assert post(acme).status_code == 401
    acme.owner = "acme"
    assert post(acme).data == mine.data


def test_an_error_leaves_the_key_free(acme: Host) -> None:
    assert post(acme, {**BODY, "event": "lost.found"}).status_code == 422
    assert post(acme, {"target_url": 1}).status_code == 422
    assert post(acme).status_code == 201


def test_an_error_of_the_work_undoes_it_and_leaves_the_key_free(acme: Host) -> None:
    work = things(acme)

    def refuse(call: int) -> None:
        acme.context.db.session.execute(
            acme.tables.host.insert().values(host="x", turn_at=utcnow(), strikes=1)
        )
        if call == 1:
            raise APIError(409, "Not now.")

    work.then = refuse
    assert post(acme, path="/things").status_code == 409
    assert acme.rows(acme.tables.answer) == acme.rows(acme.tables.host) == []
    assert post(acme, path="/things").status_code == 201
    assert len(acme.rows(acme.tables.host)) == 1


def test_an_integrity_error_of_the_work_is_its_own(acme: Host) -> None:
    work = things(acme)
    row = {"host": "x", "turn_at": utcnow(), "strikes": 1}
    acme.execute(acme.tables.host.insert().values(**row))

    def collide(call: int) -> None:
        acme.context.db.session.execute(acme.tables.host.insert().values(**row))

    work.then = collide
    for _ in range(2):
        with pytest.raises(sa.exc.IntegrityError):
            post(acme, path="/things")
    assert (work.calls, acme.rows(acme.tables.answer)) == (2, [])


def test_work_that_the_database_wants_done_again_is_done_again(acme: Host) -> None:
    work = things(acme)

    def fail(call: int) -> None:
        if call == 1:
            raise sa.exc.OperationalError("", {}, Exception("deadlock detected"))

    work.then = fail
    assert post(acme, path="/things").status_code == 201
    assert (work.calls, len(acme.rows(acme.tables.answer))) == (2, 1)
    assert post(acme, path="/things").headers["Idempotency-Replayed"] == "true"


def test_an_answer_without_a_body_comes_again_as_well(acme: Host) -> None:
    work = things(acme)
    work.answer = (None, 202, {"Location": "/there"})
    for replayed in (None, "true"):
        answer = post(acme, path="/others")
        assert (answer.status_code, answer.data) == (202, b"")
        assert answer.headers["Location"] == "/there"
        assert "Content-Type" not in answer.headers
        assert answer.headers.get("Idempotency-Replayed") == replayed


def test_what_comes_again_is_text_of_any_kind(acme: Host) -> None:
    body = {**BODY, "description": "für Menschen 🙂\u2028", "metadata": {"a": '"\\'}}
    assert post(acme, body).json == post(acme, body).json


@pytest.mark.parametrize("key", ["a", "x" * 255, '"quoted"', "!~", "a,b;c"])
def test_a_key_is_any_visible_text(acme: Host, key: str) -> None:
    first = post(acme, Idempotency_Key=key)
    assert first.status_code == 201
    assert post(acme, Idempotency_Key=key).data == first.data


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "a\tb", "é", "\x7f", "\u20ac".encode()])
def test_what_is_no_key_is_a_422_that_names_the_header(quick: Host, key: Any) -> None:
    answer = post(quick, Idempotency_Key=key if isinstance(key, str) else key.decode("latin-1"))
    assert (answer.status_code, answer.json["error_code"]) == (422, "validation_error")
    assert list(answer.json["errors"]) == ["Idempotency-Key"]
    assert quick.rows(quick.tables.subscription) == []


def test_a_body_that_is_no_use_is_refused_with_a_key_as_without(quick: Host) -> None:
    for data, content_type, code in (
        (b"{", "application/json", 400),
        (b"{}", "text/plain", 415),
        (b" " * 1_000_001, "application/json", 413),
        (b"", "application/json", 400),
    ):
        answer = quick.call(
            "POST", "/subscriptions", data=data, content_type=content_type, headers=KEY
        )
        assert answer.status_code == code


def age(host: Host, **by: int) -> None:
    table = host.tables.answer
    [row] = host.rows(table)
    host.execute(table.update().values(created_at=row["created_at"] - dt.timedelta(**by)))


def test_a_key_counts_for_24_hours(acme: Host) -> None:
    first = post(acme)
    age(acme, hours=23, minutes=59)
    assert post(acme).data == first.data
    age(acme, minutes=1)
    other = post(acme, {**BODY, "description": "another"})
    assert other.status_code == 201 and other.json["id"] != first.json["id"]
    assert post(acme, {**BODY, "description": "another"}).data == other.data
    [row] = acme.rows(acme.tables.answer)
    assert utcnow() - row["created_at"] < dt.timedelta(minutes=1)


def test_what_was_valid_then_is_answered_even_if_it_is_not_now(sqlite_url: str) -> None:
    addresses = {"hooks.example.com": "93.184.216.34"}

    def moving(name: str, port: int, **options: Any) -> Any:
        return resolver("inside.example.com" if not addresses else name, port, **options)

    with host(sqlite_url, resolver=moving) as acme:
        body = {**BODY, "expires_at": (utcnow() + dt.timedelta(seconds=1)).isoformat()}
        first = post(acme, body)
        assert first.status_code == 201
        addresses.clear()
        time.sleep(1.1)
        assert acme.call("POST", "/subscriptions", body).status_code == 422
        assert post(acme, body).data == first.data


def test_what_was_deleted_since_does_not_come_back(acme: Host) -> None:
    first = post(acme)
    acme.call("DELETE", f"/subscriptions/{first.json['id']}")
    assert post(acme).data == first.data
    assert acme.rows(acme.tables.subscription) == []


def test_no_answer_stands_readable_in_the_database_if_there_are_keys(database_url: str) -> None:
    with host(database_url, settings=Settings(encryption_keys=(make_key(),))) as acme:
        first = post(acme)
        assert post(acme).data == first.data
        [row] = acme.rows(acme.tables.answer)
        assert row["body"].startswith("fernet:")
        assert "whsec_" not in str(row) and first.json["secret"] not in str(row)


def test_of_many_at_once_one_wins_and_the_others_get_its_answer(acme: Host) -> None:
    for number in range(4):
        answers_ = at_once(6, lambda _: post(acme, Idempotency_Key=f"k{number}"))  # noqa: B023
        assert {answer.status_code for answer in answers_} == {201}
        assert len({answer.data for answer in answers_}) == 1
        assert len({answer.headers["Location"] for answer in answers_}) == 1
        assert [answer.headers.get("Idempotency-Replayed") for answer in answers_].count(None) == 1
    assert len(acme.rows(acme.tables.subscription)) == 4
    assert len(acme.rows(acme.tables.answer)) == 4


def test_of_two_other_requests_at_once_with_one_key_one_is_refused(acme: Host) -> None:
    for number in range(5):
        key = f"k{number}"
        made = at_once(
            2,
            lambda which: post(
                acme,
                {**BODY, "description": str(which)},
                Idempotency_Key=key,  # noqa: B023
            ),
        )
        assert sorted(answer.status_code for answer in made) == [201, 422]
    assert len(acme.rows(acme.tables.subscription)) == 5


def test_those_that_lose_do_not_run_into_a_limit(database_url: str) -> None:
    settings = Settings(subscription_limit=1, refuse_duplicates=True)
    with host(database_url, settings=settings) as acme:
        made = at_once(4, lambda _: post(acme))
        assert {answer.status_code for answer in made} == {201}
        assert post(acme, Idempotency_Key="another").status_code == 409


def test_an_expired_key_is_taken_over_by_one(acme: Host) -> None:
    first = post(acme)
    age(acme, hours=25)
    made = at_once(5, lambda _: post(acme))
    assert {answer.status_code for answer in made} == {201}
    assert len({answer.data for answer in made} | {first.data}) == 2
    assert len(acme.rows(acme.tables.subscription)) == 2


def test_who_waits_for_one_that_fails_is_next(acme: Host) -> None:
    work = things(acme)
    waiting, failing = threading.Event(), threading.Event()

    def fail_first(call: int) -> None:
        if call == 1:
            waiting.set()
            assert failing.wait(10)
            raise APIError(409, "Not now.")

    work.then = fail_first
    made: list[Any] = []
    first = threading.Thread(target=lambda: made.append(post(acme, path="/things")))
    first.start()
    assert waiting.wait(10)
    second = threading.Thread(target=lambda: made.append(post(acme, path="/things")))
    second.start()
    second.join(0.5)
    assert second.is_alive() and work.calls == 1  # it does nothing while the first may succeed
    failing.set()
    first.join(20)
    second.join(20)
    assert sorted(answer.status_code for answer in made) == [201, 409]
    assert work.calls == 2
    assert post(acme, path="/things").headers["Idempotency-Replayed"] == "true"


def test_no_connection_is_held_while_a_name_is_resolved(database_url: str) -> None:
    pools: list[Any] = []
    held: list[int] = []

    def counting(*args: Any, **options: Any) -> Any:
        held.extend(pool.checkedout() for pool in pools)
        return resolver(*args, **options)

    with host(database_url, resolver=counting) as made:
        with made.app.app_context():
            pools.append(made.db.engine.pool)
        assert post(made).status_code == 201
        assert held == [0]
        assert post(made).status_code == 201
        assert held == [0]  # nor resolved again


def test_what_the_hosts_owner_loader_has_begun_is_not_undone(database_url: str) -> None:
    made: list[Host] = []

    def loader() -> str:
        """As one that notes when a user was last seen."""
        row = {"host": f"seen {len(seen)}", "turn_at": utcnow(), "strikes": 1}
        made[0].db.session.execute(made[0].tables.host.insert().values(**row))
        seen.append(1)
        return "acme"

    seen: list[int] = []
    with host(database_url, owner=loader) as acme:
        made.append(acme)
        first = post(acme)
        assert first.status_code == 201
        assert len(acme.rows(acme.tables.host)) == 1
        assert post(acme).data == first.data


def test_other_methods_do_not_know_the_header(quick: Host) -> None:
    path = f"/subscriptions/{quick.subscribe()['id']}"
    bad = {"Idempotency-Key": "a b"}
    for method, body in (("GET", None), ("PATCH", {"active": False}), ("DELETE", None)):
        assert quick.call(method, path, body, headers=bad).status_code < 300
    assert quick.rows(quick.tables.answer) == []


def answered(host: Host, count: int, ago: dt.timedelta) -> None:
    row = {"owner": "acme", "fingerprint": "", "status_code": 201, "headers": "[]", "body": "{}"}
    created_at = utcnow() - ago
    rows = [
        {**row, "key": f"{ago} {number}", "created_at": created_at + dt.timedelta(seconds=number)}
        for number in range(count)
    ]
    host.execute(host.tables.answer.insert(), rows)


def test_what_is_over_is_pruned_in_small_batches_and_nothing_else(acme: Host) -> None:
    answered(acme, 7, dt.timedelta(hours=30))
    answered(acme, 3, dt.timedelta(hours=23))
    before = utcnow() - answers.LIFETIME
    counts = []
    for _ in range(4):
        with acme.app.app_context(), acme.db.engine.begin() as connection:
            counts.append(answers.prune(connection, acme.tables, before, limit=3))
    assert counts == [3, 3, 1, 0]
    assert len(acme.rows(acme.tables.answer)) == 3


def test_pruning_waits_for_nobody_who_takes_a_key_over(postgresql_url: str) -> None:
    with host(postgresql_url) as acme:
        answered(acme, 3, dt.timedelta(hours=30))
        now = utcnow()
        before = now - answers.LIFETIME
        key = acme.rows(acme.tables.answer)[0]["key"]
        with acme.app.app_context(), acme.db.engine.begin() as busy:
            assert answers.reserve(busy, acme.tables, "acme", key, "f", now)
            with acme.db.engine.begin() as connection:
                connection.execute(sa.text("SET LOCAL lock_timeout = '1s'"))
                assert answers.prune(connection, acme.tables, before) == 2
        assert [row["key"] for row in acme.rows(acme.tables.answer)] == [key]


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_stricter_isolation_does_not_make_it_wrong(postgresql_url: str, level: str) -> None:
    options = {"SQLALCHEMY_ENGINE_OPTIONS": {"isolation_level": level}}
    with host(postgresql_url, config=options) as acme:
        for number in range(6):
            made = at_once(2, lambda _: post(acme, Idempotency_Key=f"k{number}"))  # noqa: B023
            assert {answer.status_code for answer in made} == {201}
            assert len({answer.data for answer in made}) == 1
        assert len(acme.rows(acme.tables.subscription)) == 6


def test_every_post_of_an_owners_takes_a_key_and_the_document_says_so(quick: Host) -> None:
    with_keys = []
    for path, operations in quick.client.get("/openapi.json").json["paths"].items():
        for method, said in operations.items():
            if method == "parameters":
                continue
            headers = [entry for entry in said.get("parameters", ()) if entry["in"] == "header"]
            keys = [entry for entry in headers if entry["name"] == "Idempotency-Key"]
            assert bool(keys) == (method == "post" and not path.endswith("/confirm")), path
            if keys:
                with_keys.append(path)
                [key] = keys
                assert key["required"] is False
                assert key["schema"]["pattern"] == "^[!-~]{1,255}$"
                assert {"401", "413", "422"} <= set(said["responses"])
                [done] = [code for code in said["responses"] if code.startswith("2")]
                assert "Idempotency-Replayed" in said["responses"][done]["headers"]
    assert len(with_keys) >= 5


def test_what_is_asked_for_of_a_subscription_is_done_once_too(acme: Host) -> None:
    made = acme.subscribe()
    path = f"/subscriptions/{made['id']}"
    [delivery] = acme.deliveries(made["id"], 1, status="failed", due_at=None)
    for number, (where, body) in enumerate(
        (
            (f"{path}/ping", {}),
            (f"{path}/secret/rotate", {}),
            (f"{path}/recover", {"since": "2020-01-01T00:00:00Z"}),
            (f"/deliveries/{delivery}/resend", {}),
        )
    ):
        key = {"Idempotency-Key": f"key-{number}"}
        first = acme.call("POST", where, body, headers=key)
        assert first.status_code in (200, 202), first.text
        again = acme.call("POST", where, body, headers=key)
        assert (again.status_code, again.data) == (first.status_code, first.data)
        assert again.headers["Idempotency-Replayed"] == "true"
        elsewhere = acme.call("POST", "/subscriptions", BODY, headers=key)
        assert elsewhere.json["error_code"] == "idempotency_key_reused"
    assert len(acme.rows(acme.tables.recovery)) == 1
    assert [row["kind"] for row in acme.rows(acme.tables.delivery)].count("ping") == 1
    [row] = acme.rows(acme.tables.subscription)
    assert len(row["former_secrets"]) == 1


def test_a_ping_without_a_body_takes_a_key(quick: Host) -> None:
    path = f"/subscriptions/{quick.subscribe()['id']}/ping"
    first, again = (quick.call("POST", path, headers=KEY) for _ in range(2))
    assert (first.status_code, first.data) == (202, again.data)


def test_an_answers_row_fits_what_is_put_into_it(acme: Host) -> None:
    acme.owner = "o" * models.OWNER_LENGTH
    big = {**BODY, "metadata": {f"{number:040}": "🙂" * 500 for number in range(50)}}
    key = {"Idempotency_Key": "~" * 255}
    assert post(acme, big, **key).status_code == 201
    assert post(acme, big, **key).headers["Idempotency-Replayed"] == "true"


def test_a_method_that_forgets_the_key_is_found_at_once(fresh: Host) -> None:
    class Forgetful(View):
        tag = "Things"

        @operation("forget", 201, idempotent=True)
        def post(self, query: dict[str, Any]) -> Any:
            """Forget the key"""
            return None, 201, {}

    blueprint = Blueprint("forgetful", __name__, url_prefix=fresh.prefix)
    blueprint.add_url_rule("/forgetful", view_func=Forgetful.of(fresh.context))
    fresh.app.register_blueprint(blueprint)
    with pytest.raises(TypeError, match="once"):
        fresh.call("POST", "/forgetful")


def test_the_how_to_does_what_it_says(database_url: str) -> None:
    setup, create, change, follow = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    with host(database_url) as acme, serving(acme.app) as url:
        names: dict[str, Any] = {}
        exec(setup.replace("https://app.example.com", url), names)
        exec(create, names)
        made = names["answer"]
        assert made.status_code == 201
        path = f"/subscriptions/{made.json()['id']}"
        exec(change, names)
        changed = names["add_event"](path, "invoice.paid")
        assert changed.json()["events"] == ["contact.*", "invoice.paid"]
        failed = acme.deliveries(made.json()["id"], 250, status="failed", due_at=None)
        exec(follow.replace("sub_0190", made.json()["id"]), names)
        assert [entry["id"] for entry in names["failed"]] == failed[::-1]
        names["session"].close()
