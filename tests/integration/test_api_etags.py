"""`ETag`, `If-Match` and `If-None-Match`: no change of a subscription is lost."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from typing import Any

import pytest
from api_host import URL, Host
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import Headers

from flask_resthooks.api import etags
from flask_resthooks.api.errors import APIError
from flask_resthooks.models import utcnow

CURRENT = etags.of({"a": 1})
OTHER = '"other"'
PUT = {"target_url": URL, "events": ["*"]}


def test_the_tag_is_of_what_is_shown_in_any_order() -> None:
    assert etags.of({"a": 1, "b": {"x": "é", "y": None}}) == etags.of(
        {"b": {"y": None, "x": "é"}, "a": 1}
    )
    assert len({etags.of({"a": value}) for value in (1, "1", None, [], {}, "", True)}) == 7
    assert CURRENT.startswith('"') and CURRENT.endswith('"') and len(CURRENT) == 34


def refusal(**headers: str) -> APIError | None:
    named = Headers([(name.replace("_", "-"), value) for name, value in headers.items()])
    try:
        etags.check(named, CURRENT)
    except APIError as error:
        return error
    return None


@pytest.mark.parametrize(
    "value",
    [
        *("*", " * ", CURRENT, f" {CURRENT}\t", f"{OTHER}, {CURRENT}"),
        f"{OTHER},{CURRENT},{OTHER}",
        *(f", ,{CURRENT} ,, ", f'W/"x",{CURRENT}', f'"",{CURRENT}', f'"a,b" , {CURRENT}'),
        *(f'"é\xff",{CURRENT}', f'"\\",{CURRENT}'),
    ],
)
def test_if_match_with_the_current_tag_or_a_star_lets_it_pass(value: str) -> None:
    assert refusal(If_Match=value) is None


@pytest.mark.parametrize(
    "value",
    [
        *(OTHER, f"W/{CURRENT}", f'W/{CURRENT}, W/"x"', f"{OTHER},{OTHER}", '""', '"*"'),
        *(CURRENT.upper(), f'"{CURRENT[1:-1]}_"', CURRENT[:-2] + '"'),
    ],
)
def test_if_match_with_any_other_tag_is_a_412(value: str) -> None:
    error = refusal(If_Match=value)
    assert error is not None
    assert (error.code, error.error_code) == (412, "precondition_failed")
    assert list(error.errors) == ["If-Match"]


def test_a_weak_tag_is_told_so() -> None:
    error = refusal(If_Match=f"W/{CURRENT}")
    assert error is not None and "weak" in str(error.description)


MALFORMED = [
    *("", " ", ",", "x", CURRENT[1:-1], CURRENT[:-1], CURRENT[1:], f"{CURRENT} {OTHER}"),
    *(f"*,{CURRENT}", f"{CURRENT},*", "**", f"w/{CURRENT}", f"W/ {CURRENT}", "W/", "W/*"),
    *(f"{CURRENT}{OTHER}", f"{CURRENT};", f"'{CURRENT[1:-1]}'", '"a b"', '"a\tb"', '"\x7f"'),
    *(f"{CURRENT}\n", '"\u20ac"', f"{CURRENT}\x00"),
]


@pytest.mark.parametrize("value", MALFORMED, ids=ascii)
@pytest.mark.parametrize("name", ["If-Match", "If-None-Match"])
def test_what_is_no_list_of_tags_is_a_400_that_says_what_is(name: str, value: str) -> None:
    class Raw(dict[str, str]):
        """Werkzeug's headers refuse some of these themselves."""

    headers: Any = Raw({name: value})
    for judge in (etags.check, *([etags.is_known] if name == "If-None-Match" else [])):
        with pytest.raises(APIError) as caught:
            judge(headers, CURRENT)
        assert caught.value.code == 400
        assert name in str(caught.value.description)
        assert "double quotes" in caught.value.errors[name][0]


@given(st.lists(st.tuples(st.booleans(), st.text("abc!#~\xe9", max_size=3)), min_size=1))
def test_a_list_is_read_as_it_was_written(tags: list[tuple[bool, str]]) -> None:
    current = '"a"'
    value = ", ".join(f'{"W/" * weak}"{tag}"' for weak, tag in tags)
    headers = Headers({"If-None-Match": value, "If-Match": value})
    assert etags.is_known(headers, current) == any(tag == "a" for _, tag in tags)
    if (False, "a") not in tags:
        with pytest.raises(APIError):
            etags.check(headers, current)


@pytest.mark.timeout(10)
def test_a_header_of_any_length_is_read_in_no_time() -> None:
    for value in ("," * 100_000, ", " * 50_000 + "x", '"a",' * 50_000 + "x", '"' * 100_001):
        assert refusal(If_Match=value) is not None


def test_if_none_match_rules_out_a_state_that_would_be_changed() -> None:
    for value in ("*", CURRENT, f"W/{CURRENT}", f"{OTHER}, {CURRENT}"):
        error = refusal(If_None_Match=value)
        assert error is not None and error.code == 412 and list(error.errors) == ["If-None-Match"]
    assert refusal(If_None_Match=OTHER, If_Match=CURRENT) is None


def test_without_a_condition_everything_passes() -> None:
    assert refusal() is None
    assert not etags.is_known(Headers(), CURRENT)


def test_every_answer_that_shows_the_state_carries_the_same_tag(acme: Host) -> None:
    created = acme.call("POST", "/subscriptions", {**PUT, "metadata": {"b": "é", "a": "1"}})
    path = f"/subscriptions/{created.json['id']}"
    seen = set()
    for method, body in (
        (None, None),
        ("PUT", {**PUT, "expires_at": "2099-01-01T00:00:00.5+02:00"}),
        ("PATCH", {"description": "x"}),
        ("PATCH", {"active": False}),
    ):
        answer = created if method is None else acme.call(method, path, body)
        assert answer.status_code < 300, answer.text
        tag = answer.headers["ETag"]
        assert acme.call("GET", path).headers["ETag"] == tag
        assert acme.call("HEAD", path).headers["ETag"] == tag
        seen.add(tag)
    assert len(seen) == 4


def test_what_is_known_is_not_sent_again(acme: Host) -> None:
    path = f"/subscriptions/{acme.subscribe()['id']}"
    tag = acme.call("GET", path).headers["ETag"]
    for method in ("GET", "HEAD"):
        for known in (tag, f"W/{tag}", "*", f'"x", {tag}'):
            answer = acme.call(method, path, headers={"If-None-Match": known})
            assert (answer.status_code, answer.data) == (304, b"")
            assert answer.headers["ETag"] == tag
            assert answer.headers["X-Request-Id"]
            assert "Content-Type" not in answer.headers
    acme.call("PATCH", path, {"description": "changed"})
    answer = acme.call("GET", path, headers={"If-None-Match": tag})
    assert (answer.status_code, answer.json["description"]) == (200, "changed")
    assert answer.headers["ETag"] != tag


def test_what_changes_without_its_owner_gets_another_tag(acme: Host) -> None:
    path = f"/subscriptions/{acme.subscribe(expires_at='2099-01-01T00:00:00Z')['id']}"
    table = acme.tables.subscription
    tag = acme.call("GET", path).headers["ETag"]
    acme.execute(table.update().values(status="disabled", disabled_reason="it is gone"))
    disabled = acme.call("GET", path).headers["ETag"]
    answer = acme.call("PATCH", path, {"active": True}, headers={"If-Match": tag})
    assert answer.status_code == 412
    acme.execute(table.update().values(status="active", disabled_reason=None))
    assert acme.call("GET", path).headers["ETag"] == tag != disabled
    acme.execute(table.update().values(expires_at=utcnow() - dt.timedelta(seconds=1)))
    assert acme.call("GET", path).headers["ETag"] not in (tag, disabled)


@pytest.mark.parametrize(("method", "body"), [("PUT", PUT), ("PATCH", PUT), ("DELETE", None)])
def test_what_has_changed_since_is_left_alone(acme: Host, method: str, body: Any) -> None:
    path = f"/subscriptions/{acme.subscribe()['id']}"
    acme.deliveries(path.rpartition("/")[2], 1)
    old = acme.call("GET", path).headers["ETag"]
    now = acme.call("PATCH", path, {"description": "theirs"})
    tables = (acme.tables.subscription, acme.tables.subscription_event, acme.tables.delivery)
    before = [acme.rows(table) for table in tables]
    for stale in (old, f"W/{now.headers['ETag']}", '"x"', f'{old}, "x"'):
        answer = acme.call(method, path, body, headers={"If-Match": stale})
        assert (answer.status_code, answer.json["error_code"]) == (412, "precondition_failed")
        assert "ETag" not in answer.headers
    for malformed in ("x", "", now.headers["ETag"].strip('"')):
        answer = acme.call(method, path, body, headers={"If-Match": malformed})
        assert (answer.status_code, answer.json["error_code"]) == (400, "bad_request")
        assert list(answer.json["errors"]) == ["If-Match"]
    assert [acme.rows(table) for table in tables] == before
    answer = acme.call(method, path, body, headers={"If-Match": now.headers["ETag"]})
    assert answer.status_code in (200, 204), answer.text


@pytest.mark.parametrize(("method", "body"), [("PUT", PUT), ("PATCH", {}), ("DELETE", None)])
def test_a_star_matches_whatever_is_there_and_nothing_else(
    acme: Host, method: str, body: Any
) -> None:
    path = f"/subscriptions/{acme.subscribe()['id']}"
    star = {"If-Match": "*"}
    acme.owner = "rival"
    assert acme.call(method, path, body, headers=star).status_code == 404
    acme.owner = "acme"
    assert acme.call(method, path, body, headers=star).status_code in (200, 204)
    acme.call("DELETE", path)
    assert acme.call(method, path, body, headers=star).status_code == 404


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """What calls answer that are made at the same time."""
    barrier = threading.Barrier(len(calls))
    answers: list[Any] = [None] * len(calls)

    def run(number: int) -> None:
        barrier.wait(10)
        answers[number] = calls[number]()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return answers


def test_of_two_who_saw_the_same_state_one_changes_it(acme: Host) -> None:
    path = f"/subscriptions/{acme.subscribe()['id']}"
    for _ in range(15):
        seen = {"If-Match": acme.call("GET", path).headers["ETag"]}
        answers = at_once(
            lambda: acme.call("PATCH", path, {"description": "one"}, headers=seen),  # noqa: B023
            lambda: acme.call("PUT", path, {**PUT, "description": "two"}, headers=seen),  # noqa: B023
        )
        codes = [answer.status_code for answer in answers]
        assert sorted(codes) == [200, 412]
        winner = answers[codes.index(200)]
        now = acme.call("GET", path)
        assert now.json == winner.json and now.headers["ETag"] == winner.headers["ETag"]


def test_a_change_and_a_delete_of_the_same_state_do_not_both_happen(acme: Host) -> None:
    for _ in range(10):
        path = f"/subscriptions/{acme.subscribe()['id']}"
        seen = {"If-Match": acme.call("GET", path).headers["ETag"]}
        change, delete = at_once(
            lambda: acme.call("PATCH", path, {"description": "x"}, headers=seen),  # noqa: B023
            lambda: acme.call("DELETE", path, headers=seen),  # noqa: B023
        )
        pair = (change.status_code, delete.status_code)
        assert pair in ((200, 412), (404, 204))
        assert acme.call("GET", path).status_code == (200 if pair == (200, 412) else 404)


def test_no_update_is_lost_between_clients_that_ask_for_it(acme: Host) -> None:
    path = f"/subscriptions/{acme.subscribe(metadata={'count': '0'})['id']}"
    failed = 0

    def count() -> None:
        nonlocal failed
        for _ in range(12):
            for _ in range(500):
                seen = acme.call("GET", path)
                more = {"count": str(int(seen.json["metadata"]["count"]) + 1)}
                answer = acme.call(
                    "PATCH", path, {"metadata": more}, headers={"If-Match": seen.headers["ETag"]}
                )
                if answer.status_code == 200:
                    break
                assert answer.status_code == 412
                failed += 1

    at_once(count, count, count)
    assert acme.call("GET", path).json["metadata"] == {"count": "36"}
    assert failed  # or there was no race to win


def test_an_unconditional_change_is_made_whatever_was_seen(acme: Host) -> None:
    path = f"/subscriptions/{acme.subscribe()['id']}"
    acme.call("PATCH", path, {"description": "x"})
    assert acme.call("PATCH", path, {"description": "y"}).status_code == 200


def test_the_document_tells_of_conditions(quick: Host) -> None:
    paths = quick.client.get("/openapi.json").json["paths"]
    operations = paths[f"{quick.prefix}/subscriptions/{{subscription_id}}"]
    headers = {
        method: [entry["name"] for entry in said.get("parameters", ()) if entry["in"] == "header"]
        for method, said in operations.items()
        if method != "parameters"
    }
    assert headers == {
        "get": ["If-None-Match"],
        "put": ["If-Match"],
        "patch": ["If-Match"],
        "delete": ["If-Match"],
    }
    assert "content" not in operations["get"]["responses"]["304"]
    for method in ("put", "patch", "delete"):
        assert {"400", "412"} <= set(operations[method]["responses"])
    for method in ("get", "put", "patch"):
        assert "ETag" in operations[method]["responses"]["200"]["headers"]
