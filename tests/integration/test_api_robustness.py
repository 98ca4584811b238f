"""Whatever a caller sends, to whatever route: an error in our shape, never a 500, and nothing is
changed. (`test_api_errors` and `test_api_subscriptions` have what is particular to one route.)"""

from __future__ import annotations

import json
from typing import Any

import pytest
import sqlalchemy as sa
from api_host import URL, Host
from test_api_errors import check

from flask_resthooks.api import schemas

JSON = "application/json"
SECRET = "whsec_" + "A" * 43 + "="
SINCE = "2026-01-01T00:00:00Z"

# Each route that takes a body: method, path after the subscription's, a valid body, its schema.
CREATE = ("POST", None, {"target_url": URL, "event": "*"}, "RESTHooksSubscriptionCreateSchema")
ROUTES: dict[str, tuple[str, str | None, dict[str, Any], str]] = {
    "create": CREATE,
    "replace": ("PUT", "", CREATE[2], "RESTHooksSubscriptionReplaceSchema"),
    "change": ("PATCH", "", {"description": "x"}, "RESTHooksSubscriptionChangeSchema"),
    "confirm": ("POST", "/confirm", {"secret": "x"}, "RESTHooksConfirmationSchema"),
    "rotate": ("POST", "/secret/rotate", {"secret": SECRET}, "RESTHooksRotationSchema"),
    "recover": ("POST", "/recover", {"since": SINCE}, "RESTHooksRecoverSchema"),
    "ping": ("POST", "/ping", {"event": "contact.create"}, "RESTHooksPingSchema"),
}

# In each a field that the route takes is at `%s`.
BODIES: list[tuple[str, bytes, str, tuple[int, ...]]] = [
    ("a key twice", b'{"%s": 1, "%s": 2}', JSON, (400,)),
    ("a key twice, deep down", b'{"%s": {"a": {"b": 1, "b": 2}}}', JSON, (400,)),
    ("NaN", b'{"%s": NaN}', JSON, (400,)),
    ("Infinity", b'{"%s": Infinity}', JSON, (400,)),
    ("-Infinity", b'{"%s": [-Infinity]}', JSON, (400,)),
    ("beyond a double", b'{"%s": 1e400}', JSON, (422,)),
    ("41 digits", b'{"%s": ' + b"9" * 41 + b"}", JSON, (400,)),
    ("40 digits", b'{"%s": ' + b"9" * 40 + b"}", JSON, (422,)),
    ("more digits than Python reads", b'{"%s": -' + b"9" * 5000 + b"}", JSON, (400,)),
    ("digits after a point", b'{"%s": 0.' + b"9" * 5000 + b"}", JSON, (422,)),
    ("a negative number", b'{"%s": -1}', JSON, (422,)),
    ("a boolean", b'{"%s": [true]}', JSON, (422,)),
    ("deep lists", b'{"%s": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", JSON, (400,)),
    ("deep objects", b'{"%s": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001, JSON, (400,)),
    ("not so deep", b'{"%s": ' + b"[" * 400 + b"]" * 400 + b"}", JSON, (422,)),
    ("half of a pair", b'{"%s": "\\ud800"}', JSON, (422, 403, 409)),
    ("halves in the wrong order", b'{"%s": "\\udc00\\ud800"}', JSON, (422, 403, 409)),
    ("half of a pair in a key", b'{"\\ud800": 1}', JSON, (422,)),
    ("NUL", b'{"%s": "a\\u0000b"}', JSON, (422,)),
    ("a raw NUL", b'{"%s": "a\x00b"}', JSON, (400,)),
    ("a raw line break", b'{"%s": "a\nb"}', JSON, (400,)),
    ("no UTF-8", b'{"%s": "\xff"}', JSON, (400,)),
    ("a surrogate in UTF-8", b'{"%s": "\xed\xa0\x80"}', JSON, (400,)),
    ("UTF-16", '{"%s": 1}'.encode("utf-16"), JSON, (400,)),
    ("a list", b'[{"%s": 1}]', JSON, (422,)),
    ("a text", b'"%s"', JSON, (422,)),
    ("null", b"null", JSON, (422,)),
    ("a number", b"1", JSON, (422,)),
    ("two documents", b'{"%s": 1}{}', JSON, (400,)),
    ("cut off", b'{"%s": ', JSON, (400,)),
    ("a comment", b'{"%s": 1} // one', JSON, (400,)),
    ("single quotes", b"{'%s': 1}", JSON, (400,)),
    ("many keys", b"{" + b",".join(b'"k%d":1' % n for n in range(50_000)) + b"}", JSON, (422,)),
    ("too long", b'{"%s": "' + b"x" * 1_000_000 + b'"}', JSON, (413,)),
    ("a form", b"%s=1", "application/x-www-form-urlencoded", (415,)),
    ("a file", b"--x\r\n\r\n%s\r\n--x--\r\n", "multipart/form-data; boundary=x", (415,)),
    ("XML", b"<%s/>", "text/xml", (415,)),
    ("no type", b'{"%s": 1}', "", (415,)),
    ("another encoding", b'{"%s": 1}', "application/json; charset=utf-16", (415,)),
    ("two types", b'{"%s": 1}', "application/json, text/plain", (415,)),
]


def everything(made: Host) -> dict[str, list[Any]]:
    names = ("subscription", "subscription_event", "delivery", "event", "recovery", "answer")
    return {name: made.rows(getattr(made.tables, name)) for name in names}


def path_of(made: Host, suffix: str | None) -> str:
    if suffix is None:
        return "/subscriptions"
    made_id = made.subscribe(description="first", metadata={"a": "b"}, headers={"X-A": "b-secret"})
    return f"/subscriptions/{made_id['id']}{suffix}"


@pytest.mark.parametrize("route", ROUTES)
def test_no_body_whatever_makes_anything_but_a_clear_error(quick: Host, route: str) -> None:
    method, suffix, valid, _ = ROUTES[route]
    path = path_of(quick, suffix)
    before = everything(quick)
    [field, *_] = valid
    for what, body, content_type, codes in BODIES:
        body = body.replace(b"%s", field.encode())
        answer = quick.call(method, path, data=body, content_type=content_type)
        assert answer.status_code in codes, (what, answer.text)
        error = check(answer, answer.status_code, answer.json["error_code"])
        assert len(answer.text) < 10_000, what
        assert answer.text.isascii(), what
        assert error["error_code"] != "internal_error"
    assert everything(quick) == before
    assert quick.woken == 0


@pytest.mark.parametrize("route", ROUTES)
def test_what_is_not_the_callers_to_say_is_refused_by_its_name(quick: Host, route: str) -> None:
    method, suffix, valid, schema = ROUTES[route]
    path = path_of(quick, suffix)
    writable = set(getattr(schemas, schema)().fields)
    tables = (quick.tables.subscription, quick.tables.delivery, quick.tables.recovery)
    names = {column.name for table in tables for column in table.columns}
    names |= set(schemas.RESTHooksSubscriptionSchema().fields)
    names |= {"secret_hash", "owner_id", "intent", "kind", "__class__", "self", "rows"}
    if route == "confirm":
        valid = {}
    before = everything(quick)
    for name in sorted(names - writable):
        for value in ("other", True, None, {"$ne": None}):
            answer = quick.call(method, path, {**valid, name: value})
            error = check(answer, 422, "validation_error")
            assert set(error["errors"]) == {name}, name
    assert everything(quick) == before
    assert {"owner", "id", "status", "created_at", "failing_since"} <= names - writable


NO_VALUES = (True, 0, [], [[]], {"a": {}}, {"a": 1}, 1.5, "\0", "\ud800")


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_a_field_takes_what_it_is_for_and_nothing_else(quick: Host, method: str) -> None:
    path, rest = ("/subscriptions", CREATE[2]) if method == "POST" else (path_of(quick, ""), {})
    before = everything(quick)
    for field in ("target_url", "event", "description", "format", "payload", "headers", "metadata"):
        for value in NO_VALUES:
            answer = quick.call(method, path, {**rest, field: value})
            error = check(answer, 422, "validation_error")
            assert field in error["errors"], (field, value)
    assert everything(quick) == before


HOSTILE = (
    *("\0", "a\0b", "\r\nX-Injected: yes", "\u2028", "\x1b[31m", "'", '"; DROP TABLE x', "%"),
    *("\ud800", "9" * 5000, "-1", "1e9", "NaN", "../..", "\U0010ffff", "x" * 3000, "null"),
)
PATHS = (
    "/event-types/{}",
    "/event-types/{}/sample",
    "/subscriptions/{}",
    "/subscriptions/{}/secret",
    "/subscriptions/{}/deliveries",
    "/subscriptions/{}/recover",
    "/subscriptions/{}/recover/{}",
    "/deliveries/{}",
    "/deliveries/{}/attempts",
    "/events/{}",
)
LISTS = ("/subscriptions", "/event-types", "/events")
PARAMETERS = ("limit", "cursor", "after", "since", "type", "resource", "status")


def quoted(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode("utf-8", "surrogatepass"))


def test_an_id_that_is_none_is_not_found(acme: Host) -> None:
    for path in PATHS:
        for value in HOSTILE:
            if "/" in value or len(value) > 300:
                continue
            answer = acme.call("GET", path.format(*[quoted(value)] * 2))
            assert answer.status_code == 404, (path, value, answer.text)
            assert "X-Injected" not in answer.headers


def test_a_parameter_that_is_no_use_is_told_so_or_finds_nothing(acme: Host) -> None:
    paths = [*LISTS, path_of(acme, "/deliveries"), path_of(acme, "/recover")]
    acme.events(2)
    for path in paths:
        for name in PARAMETERS:
            for value in HOSTILE:
                answer = acme.call("GET", f"{path}?{name}={quoted(value)}")
                assert answer.status_code in (200, 422), (path, name, value, answer.text)
                assert "X-Injected" not in answer.headers
                if answer.status_code == 422:
                    assert name in check(answer, 422, "validation_error")["errors"]


@pytest.mark.parametrize("header", ["X-Hook-Secret", "Idempotency-Key", "If-Match", "X-Request-Id"])
def test_a_header_that_is_no_use_breaks_nothing(acme: Host, header: str) -> None:
    path = path_of(acme, "")
    for value in ("\x00", "\x1b[31m", "\xff", "\u00e4" * 300, "x" * 5000, '"', "a,b", "\x7f"):
        for method, suffix, body in (
            ("POST", "/confirm", None),
            ("POST", "/ping", None),
            ("PATCH", "", {"description": "x"}),
        ):
            answer = acme.call(method, path + suffix, body, headers={header: value})
            assert answer.status_code < 500, (method, value, answer.text)
            if answer.status_code >= 400:
                check(answer, answer.status_code, answer.json["error_code"])
            assert value not in answer.headers["X-Request-Id"]


def test_what_was_refused_is_repeated_as_plain_json_alone(quick: Host) -> None:
    """No browser takes an error for a page, and no terminal for a command."""
    for text in ("<script>alert(1)</script>", "\x1b]0;x\x07", "\u2028", "\r\nSet-Cookie: a=b"):
        answer = quick.call("POST", "/subscriptions", {**CREATE[2], text: 1, "event": text})
        error = check(answer, 422, "validation_error")
        assert text in error["errors"]
        assert not set("\r\n\x1b\x07\u2028") & set(answer.text)
        assert "Set-Cookie" not in answer.headers


def test_sql_is_a_text_like_any_other(acme: Host) -> None:
    text = "'; DELETE FROM resthooks_event; --"
    acme.events(1)
    made = acme.subscribe(description=text, metadata={text: text})
    assert acme.call("GET", f"/subscriptions/{made['id']}").json["description"] == text
    assert acme.call("GET", f"/events?resource={quoted(text)}").json["data"] == []
    with acme.app.app_context():
        count = acme.db.session.scalar(sa.select(sa.func.count()).select_from(acme.tables.event))
    assert count == 1


def test_errors_of_validation_do_not_repeat_what_may_be_secret(quick: Host) -> None:
    hush = "swordfish-" + "x" * 30
    for body in (
        {**CREATE[2], "secret": hush},
        {**CREATE[2], "secret": {"a": hush}},
        {**CREATE[2], "headers": {"Authorization": f"{hush}\n"}},
        {**CREATE[2], "headers": {"Authorization": [hush]}},
        {**CREATE[2], "headers": hush},
    ):
        answer = quick.call("POST", "/subscriptions", body)
        check(answer, 422, "validation_error")
        assert "swordfish" not in answer.text
    assert json.loads(answer.text)["errors"]
