"""A Flask app that receives: what its views are called with, and what senders are answered."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import flask
import pytest
import redis
from flask.testing import FlaskClient
from flask.views import MethodView
from redis.backoff import NoBackoff
from redis.retry import Retry
from servers import RedisServer
from werkzeug.test import EnvironBuilder, TestResponse
from werkzeug.wrappers import Request

from flask_resthooks import formats, signing
from flask_resthooks.errors import ConfigurationError, SignatureError
from flask_resthooks.receiver import (
    Event,
    HookRefused,
    MemoryReplayStore,
    RedisReplayStore,
    receive,
)
from flask_resthooks.receiver.events import FORMATS

NOW = 1_700_000_000
SECRET = signing.new_secret()
PRIVATE = signing.new_secret("v1a")
PUBLIC = signing.shown_secret(PRIVATE)
DATA = {"id": 17, "name": "Ada"}

Kept = list[tuple[Event, dict[str, Any]]]


def hook(
    *,
    secret: str | list[str] = SECRET,
    id: str = "evt_1",
    type: str = "contact.update",
    at: int = NOW,
    format: str = "standard",
    kind: str = "event",
    **more: str,
) -> dict[str, Any]:
    """A POST as the sending side makes it; what the test client takes."""
    event = formats.Event(
        id=id,
        type=type,
        timestamp=formats.dt.datetime(2026, 1, 15, 9, 30, tzinfo=formats.dt.timezone.utc),
        sequence=42,
        data=formats.to_json(DATA),
        previous='{"name":"Bob"}' if type.endswith(".update") else None,
        kind=kind,
    )
    body = formats.body(event, formats.Recipient("sub_1", "https://x.example/", format))
    signers = [signing.signer(one) for one in ([secret] if isinstance(secret, str) else secret)]
    headers = formats.headers(
        event, body, signers=signers, timestamp=at, user_agent="x", format=format
    )
    more = {name.replace("_", "-"): value for name, value in more.items()}
    return {"data": body, "headers": {**headers, **more}}


def app_with(secret: Any = SECRET, **options: Any) -> tuple[flask.Flask, FlaskClient, Kept]:
    app = flask.Flask(__name__)
    app.testing = True  # an exception of ours is one of the test
    kept: Kept = []

    @app.post("/crm")
    @receive(secret, clock=lambda: float(NOW), **options)
    def crm(event: Event) -> None:
        kept.append((event, dict(flask.request.view_args or {})))

    return app, app.test_client(), kept


def raw(client: FlaskClient, environ: dict[str, Any]) -> TestResponse:
    """What a server hands to the app, as it is: the client's own way sets some of it right."""
    body, status, headers = client.run_wsgi_app(environ)
    return TestResponse(body, status, headers, request=Request(environ))


def refusal(response: TestResponse) -> str:
    assert response.status_code in (400, 413), response.status
    return response.text


# What the view is called with.


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("secret", [SECRET, PRIVATE], ids=["v1", "v1a"])
def test_a_genuine_hook_calls_the_view_and_is_answered_with_204(format: str, secret: str) -> None:
    _, client, kept = app_with(signing.shown_secret(secret))
    response = client.post("/crm", **hook(secret=secret, format=format))
    assert (response.status_code, response.data) == (204, b"")
    [(event, _)] = kept
    assert (event.id, event.type, event.sequence) == ("evt_1", "contact.update", 42)
    assert (event.data, event.format, event.test) == (DATA, format, None)
    assert event.previous == (None if format == "bare" else {"name": "Bob"})


def test_the_view_gets_the_event_by_its_name_or_first_and_the_arguments_of_the_url() -> None:
    app = flask.Flask(__name__)
    app.testing = True
    calls: list[tuple[Any, ...]] = []
    secret = receive(SECRET, clock=lambda: float(NOW))

    @app.post("/named/<int:account>")
    @secret
    def named(account: int, event: Event) -> None:
        calls.append((account, event.id))

    @app.post("/keyword/<int:account>")
    @secret
    def keyword(*, event: Event, account: int) -> None:
        calls.append((account, event.id))

    @app.post("/first/<int:account>")
    @secret
    def first(hook: Event, account: int) -> None:
        calls.append((account, hook.id))

    @app.post("/positional/<int:account>")
    @secret
    def positional(event: Event, /, account: int) -> None:
        calls.append((account, event.id))

    @app.post("/anything/<int:account>")
    @secret
    def anything(**values: Any) -> None:
        calls.append((values["account"], values["event"].id))

    @app.post("/any/<int:account>")
    @secret
    def any_(*values: Any, **url: Any) -> None:
        calls.append((url["account"], (*values, url.get("event"))[0].id))

    class Inside(MethodView):
        @secret
        def post(self, event: Event, account: int) -> None:
            calls.append((account, event.id))

    class Around(MethodView):
        decorators = (secret,)

        def post(self, event: Event, account: int) -> str:
            calls.append((account, event.id))
            return "seen"

    app.add_url_rule("/inside/<int:account>", view_func=Inside.as_view("inside"))
    app.add_url_rule("/around/<int:account>", view_func=Around.as_view("around"))
    names = ["named", "keyword", "first", "positional", "anything", "any", "inside", "around"]
    for number, name in enumerate(names):
        assert app.test_client().post(f"/{name}/{number}", **hook()).status_code < 300, name
    assert calls == [(number, "evt_1") for number in range(len(names))]


def test_what_the_view_returns_is_the_answer() -> None:
    app = flask.Flask(__name__)
    app.testing = True
    answers: list[Any] = [None, "yes", ({"a": 1}, 202, {"x-a": "1"}), ("no", 503)]

    @app.post("/crm")
    @receive(SECRET, clock=lambda: float(NOW))
    def crm(event: Event) -> Any:
        return answers.pop(0)

    client = app.test_client()
    responses = [client.post("/crm", **hook()) for _ in range(4)]
    assert [response.status_code for response in responses] == [204, 200, 202, 503]
    assert responses[1].text == "yes" and responses[2].headers["x-a"] == "1"
    assert app.view_functions["crm"].__name__ == "crm"


def test_a_view_may_be_async_as_far_as_the_apps_views_may() -> None:
    class App(flask.Flask):
        def async_to_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
            return lambda *args, **kwargs: asyncio.run(func(*args, **kwargs))

    app = App(__name__)
    app.testing = True
    seen: list[str] = []

    async def secret() -> str:
        return SECRET

    async def confirm(event: Event, token: str) -> bool:
        return token == "yes"

    @app.post("/crm")
    @receive(secret, confirm=confirm, clock=lambda: float(NOW))
    async def crm(event: Event) -> str:
        await asyncio.sleep(0)
        seen.append(event.id)
        return "seen"

    client = app.test_client()
    assert client.post("/crm", **hook()).text == "seen"
    assert seen == ["evt_1"]
    handshake = {"type": "resthooks.handshake", "kind": "handshake"}
    answers = [client.post("/crm", **hook(**handshake, X_Hook_Secret=t)) for t in ("yes", "no")]
    assert [answer.headers.get("X-Hook-Secret") for answer in answers] == ["yes", None]


def test_the_view_can_read_the_body_too() -> None:
    app = flask.Flask(__name__)
    app.testing = True
    seen: list[Any] = []

    @app.before_request
    def look() -> None:
        if flask.request.args.get("look"):
            flask.request.get_data()

    @app.post("/crm")
    @receive(SECRET, clock=lambda: float(NOW))
    def crm(event: Event) -> None:
        seen.append(flask.request.get_json()["id"])

    client = app.test_client()
    for query in ("", "?look=1"):
        assert client.post("/crm" + query, **hook()).status_code == 204
        assert raw(client, chunked(hook(), "/crm" + query)).status_code == 204
    assert seen == ["evt_1"] * 4


# What is refused.


def chunked(sent: dict[str, Any], path: str = "/crm", body: Any = None) -> dict[str, Any]:
    """The environment of a request whose server knows no length of it."""
    environ = EnvironBuilder(path=path, method="POST", headers=sent["headers"]).get_environ()
    environ.pop("CONTENT_LENGTH", None)
    environ["HTTP_TRANSFER_ENCODING"] = "chunked"
    environ["wsgi.input_terminated"] = True
    environ["wsgi.input"] = io.BytesIO(sent["data"]) if body is None else body
    return environ


def test_a_forged_hook_is_refused_and_the_view_not_called(
    caplog: pytest.LogCaptureFixture,
) -> None:
    _, client, kept = app_with()
    genuine = hook()
    with caplog.at_level(logging.INFO, "flask_resthooks.receiver"):
        forged = client.post("/crm", data=genuine["data"] + b" ", headers=genuine["headers"])
        assert "no signature in webhook-signature is right" in refusal(forged)
        assert "are needed" in refusal(client.post("/crm", data=genuine["data"]))
        assert "seconds off" in refusal(client.post("/crm", **hook(at=NOW - 301)))
        refusal(client.post("/crm", **hook(secret=signing.new_secret())))
        refusal(client.post("/crm", **hook(secret=PRIVATE)))
    assert kept == []
    assert len(caplog.records) == 5 and "crm was refused" in caplog.text


def test_the_tolerance_can_be_set() -> None:
    _, client, kept = app_with(tolerance=10)
    assert client.post("/crm", **hook(at=NOW - 10)).status_code == 204
    refusal(client.post("/crm", **hook(at=NOW - 11)))
    refusal(client.post("/crm", **hook(at=NOW + 11)))
    assert len(kept) == 1


@pytest.mark.parametrize("error", [HookRefused, SignatureError, 400])
def test_the_refusal_can_be_handled_by_one_name(error: Any) -> None:
    app, client, _ = app_with(max_bytes=500)

    @app.errorhandler(error)
    def handle(refused: HookRefused) -> Any:
        return {"why": refused.reason}, 418

    assert client.post("/crm", **hook(at=1)).status_code == 418
    assert client.post("/crm", data=b"x" * 501).get_json() == {"why": "the body is too long"}


def test_a_body_that_is_too_long_is_refused_with_413_whether_its_length_is_known_or_not() -> None:
    app, client, kept = app_with(max_bytes=len(hook()["data"]))
    assert client.post("/crm", **hook()).status_code == 204
    assert raw(client, chunked(hook())).status_code == 204
    longer = hook(id="evt_12")
    assert client.post("/crm", **longer).status_code == 413
    assert raw(client, chunked(longer)).status_code == 413
    app.config["MAX_CONTENT_LENGTH"] = 10
    assert client.post("/crm", **hook()).status_code == 413
    assert raw(client, chunked(hook())).status_code == 413
    assert len(kept) == 2


def test_a_body_without_an_end_is_read_no_further_than_allowed() -> None:
    class Endless(io.RawIOBase):
        given = 0

        def readinto(self, buffer: Any) -> int:
            self.given += len(buffer)
            return len(buffer)

        def readable(self) -> bool:
            return True

    _, client, kept = app_with(max_bytes=100_000)
    body = Endless()
    response = raw(client, chunked(hook(), body=body))
    assert response.status_code == 413
    assert body.given == 100_001 and kept == []


def test_a_body_that_breaks_off_is_refused() -> None:
    _, client, kept = app_with()
    sent = hook()

    class Broken(io.BytesIO):
        def read(self, *args: Any) -> bytes:
            raise ConnectionResetError("gone")

        readinto = readline = read  # type: ignore[assignment]

    environ = EnvironBuilder(path="/crm", method="POST", **sent).get_environ()
    environ["CONTENT_LENGTH"] = str(len(sent["data"]) + 5)
    assert "did not come to its end" in refusal(raw(client, environ))
    assert "did not come to its end" in refusal(raw(client, chunked(sent, body=Broken())))
    for length in ("0", "-5", "abc", "9" * 5000, "1e3", " "):
        environ = EnvironBuilder(path="/crm", method="POST", **sent).get_environ()
        environ["CONTENT_LENGTH"] = length
        refusal(raw(client, environ))
    # No length, and a server that would wait for ever: nothing is read.
    environ = EnvironBuilder(path="/crm", method="POST", **sent).get_environ()
    del environ["CONTENT_LENGTH"]
    refusal(raw(client, environ))
    assert kept == []


@pytest.mark.parametrize("joined", [",", ", "])
def test_a_header_that_is_there_twice_is_refused(joined: str) -> None:
    """Servers join them. Of signatures there may be several, and one that is right is enough."""
    _, client, kept = app_with()
    sent = hook()
    wrong = "v1," + "A" * 43 + "="
    for name, other in (("webhook-id", "evt_1"), ("webhook-timestamp", str(NOW))):
        doubled = {**sent["headers"], name: f"{sent['headers'][name]}{joined}{other}"}
        refusal(client.post("/crm", data=sent["data"], headers=doubled))
    doubled = {**sent["headers"], "webhook-signature": f"{wrong}{joined}{wrong}"}
    refusal(client.post("/crm", data=sent["data"], headers=doubled))
    assert kept == []


# Secrets.


def test_a_hook_signed_with_one_of_several_secrets_is_accepted() -> None:
    old, new = signing.new_secret(), signing.new_secret()
    _, client, kept = app_with([new, old, PUBLIC])
    for secret in (old, new, PRIVATE, [new, old], [signing.new_secret(), old]):
        assert client.post("/crm", **hook(secret=secret)).status_code == 204
    refusal(client.post("/crm", **hook()))
    assert len(kept) == 5


def test_a_secret_can_be_looked_up_for_each_request() -> None:
    app = flask.Flask(__name__)
    app.testing = True
    secrets: dict[str, Any] = {"a": SECRET, "b": [signing.new_secret(), PUBLIC], "none": None}
    secrets |= {"empty": "", "nothing": ()}
    calls: list[str] = []

    def secret() -> Any:
        view_args = flask.request.view_args
        assert view_args is not None
        if view_args["tenant"] not in secrets:
            flask.abort(404)
        return secrets[view_args["tenant"]]

    @app.post("/<tenant>")
    @receive(secret, clock=lambda: float(NOW))
    def crm(event: Event, tenant: str) -> None:
        calls.append(tenant)

    client = app.test_client()
    assert client.post("/a", **hook()).status_code == 204
    assert client.post("/b", **hook(secret=PRIVATE)).status_code == 204
    refusal(client.post("/a", **hook(secret=PRIVATE)))
    for tenant in ("none", "empty", "nothing"):
        assert "no secret is known" in refusal(client.post(f"/{tenant}", **hook()))
    assert client.post("/unknown", **hook()).status_code == 404
    assert calls == ["a", "b"]


@pytest.mark.parametrize("bad", [True, 0, "whsec_AAAA", "hunter2", [SECRET, "x"], b"x", {}, {1: 2}])
def test_a_bad_secret_of_the_apps_own_is_the_apps_error(bad: Any) -> None:
    with pytest.raises(ConfigurationError):
        receive(bad)
    _, client, kept = app_with(lambda: bad)
    with pytest.raises(ConfigurationError):
        client.post("/crm", **hook())
    assert kept == []


def test_a_lookup_that_fails_lets_nothing_in() -> None:
    def secret() -> str:
        raise LookupError("the database is gone")

    _, client, kept = app_with(secret)
    with pytest.raises(LookupError):
        client.post("/crm", **hook())
    assert kept == []


@pytest.mark.parametrize(
    "options",
    [
        {"tolerance": 0},
        {"tolerance": -1},
        {"tolerance": float("nan")},
        {"tolerance": True},
        {"tolerance": "300"},
        {"max_bytes": 0},
        {"max_bytes": 1.5},
        {"max_bytes": True},
        {"max_bytes": None},
        {"replay": {}},
        {"replay_seconds": 0},
        {"allowed_rate": 0},
        {"allowed_rate": True},
        {"allowed_rate": 1.5},
        {"allowed_origins": [""]},
        {"allowed_origins": ["a b"]},
        {"allowed_origins": ["a,b"]},
        {"allowed_origins": [b"a"]},
        {"allowed_origins": ["a\nb"]},
        {"allowed_origins": ["é"]},
    ],
    ids=repr,
)
def test_an_option_that_is_not_allowed_is_told_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        receive(SECRET, **options)


def test_the_secret_cannot_be_forgotten() -> None:
    def view(event: Event) -> None: ...

    with pytest.raises(ConfigurationError, match=r"@receive\(secret\)"):
        receive(view)  # type: ignore[arg-type]
    for nothing in (None, "", (), []):
        with pytest.raises(ConfigurationError):
            receive(nothing)  # type: ignore[arg-type]


# Handshakes.

HANDSHAKE = {"type": "resthooks.handshake", "kind": "handshake"}


@pytest.mark.parametrize("format", FORMATS)
def test_a_handshake_is_echoed_and_the_view_not_called(format: str) -> None:
    _, client, kept = app_with()
    response = client.post("/crm", **hook(**HANDSHAKE, format=format, X_Hook_Secret="t0ken"))
    assert (response.status_code, response.headers["X-Hook-Secret"]) == (200, "t0ken")
    assert kept == []


@pytest.mark.parametrize(
    "sent",
    [
        hook(**HANDSHAKE, secret=signing.new_secret(), X_Hook_Secret="t0ken"),
        hook(**HANDSHAKE, at=NOW - 1000, X_Hook_Secret="t0ken"),
        {"headers": {"X-Hook-Secret": "t0ken"}},
        {**hook(**HANDSHAKE, X_Hook_Secret="t0ken"), "data": b"{}"},
        hook(**HANDSHAKE),
        hook(**HANDSHAKE, X_Hook_Secret=""),
        hook(**HANDSHAKE, X_Hook_Secret="a b"),
        hook(**HANDSHAKE, X_Hook_Secret="\xe9"),
        hook(**HANDSHAKE, X_Hook_Secret="x" * 513),
    ],
)
def test_a_handshake_that_is_not_genuine_is_not_echoed(sent: dict[str, Any]) -> None:
    _, client, kept = app_with()
    response = client.post("/crm", **sent)
    refusal(response)
    assert "X-Hook-Secret" not in response.headers and kept == []


def test_a_line_break_in_a_handshake_is_refused() -> None:
    _, client, _ = app_with()
    environ = EnvironBuilder(path="/crm", method="POST", **hook(**HANDSHAKE)).get_environ()
    for value in ("t0ken\r\nSet-Cookie: a=b", "t0ken\n", "\u2028", "\ud800"):
        refusal(raw(client, {**environ, "HTTP_X_HOOK_SECRET": value}))


def test_an_ordinary_hook_with_the_header_of_a_handshake_is_no_handshake() -> None:
    """The header is not signed: whoever has overheard a hook can add it."""
    _, client, kept = app_with()
    for format in ("standard", "resthooks", "cloudevents"):
        sent = hook(format=format, X_Hook_Secret="t0ken", X_Hook_Event="resthooks.handshake")
        response = client.post("/crm", **sent)
        assert response.status_code == 204 and "X-Hook-Secret" not in response.headers
    assert len(kept) == 3


def test_a_handshake_can_be_declined() -> None:
    asked: list[tuple[str, str]] = []

    def confirm(event: Event, token: str) -> bool:
        asked.append((event.type, token))
        return token == "yes"

    _, client, kept = app_with(confirm=confirm)
    declined = client.post("/crm", **hook(**HANDSHAKE, X_Hook_Secret="no"))
    assert declined.status_code == 204 and "X-Hook-Secret" not in declined.headers
    confirmed = client.post("/crm", **hook(**HANDSHAKE, X_Hook_Secret="yes"))
    assert confirmed.headers["X-Hook-Secret"] == "yes"
    assert asked == [("resthooks.handshake", "no"), ("resthooks.handshake", "yes")]
    refusal(client.post("/crm", **hook(**HANDSHAKE, at=1, X_Hook_Secret="yes")))
    assert len(asked) == 2 and kept == []


def options(client: FlaskClient, **headers: str) -> TestResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.options("/crm", headers=named)


@pytest.mark.parametrize("allowed", [("crm.example.com", "b.example"), "CRM.example.com"])
def test_a_sender_that_is_expected_gets_cloudevents_permission(allowed: Any) -> None:
    _, client, kept = app_with(allowed_origins=allowed, allowed_rate=120)
    for origin in ("crm.example.com", "CRM.Example.com"):
        response = options(client, WebHook_Request_Origin=origin, WebHook_Request_Rate="600")
        assert response.status_code == 200
        assert set(response.headers["Allow"].split(", ")) == {"POST", "OPTIONS"}
        assert response.headers["WebHook-Allowed-Origin"] == origin
        assert response.headers["WebHook-Allowed-Rate"] == "120"
    assert client.post("/crm", **hook()).status_code == 204
    assert client.get("/crm").status_code == 405
    assert len(kept) == 1


@pytest.mark.parametrize(
    "origin", ["", "evil.example", "crm.example.com.evil.example", "*", "crm.example.com,x", "é"]
)
def test_a_sender_that_is_not_expected_gets_an_ordinary_answer(origin: str) -> None:
    _, client, _ = app_with(allowed_origins=("crm.example.com",))
    headers = {"WebHook_Request_Origin": origin} if origin else {}
    response = options(client, **headers, WebHook_Request_Callback="https://evil.example/")
    assert response.status_code == 200
    assert not [name for name, _ in response.headers if name.lower().startswith("webhook-")]
    assert "POST" in response.headers["Allow"]


def test_all_senders_can_be_allowed_at_any_rate() -> None:
    _, client, _ = app_with(allowed_origins="*")
    response = options(client, WebHook_Request_Origin="any.example")
    assert response.headers["WebHook-Allowed-Origin"] == "any.example"
    assert response.headers["WebHook-Allowed-Rate"] == "*"
    assert "WebHook-Allowed-Origin" not in options(client).headers
    environ = EnvironBuilder(path="/crm", method="OPTIONS").get_environ()
    for value in ("a\r\nSet-Cookie: a=b", "a\n", "é", "a,b", "x" * 300):
        response = raw(client, {**environ, "HTTP_WEBHOOK_REQUEST_ORIGIN": value})
        assert "WebHook-Allowed-Origin" not in response.headers


def test_options_is_flasks_own_without_allowed_origins() -> None:
    app, client, kept = app_with()

    @app.route("/both", methods=["POST", "OPTIONS"])
    @receive(SECRET)
    def both(event: Event) -> None: ...

    for path in ("/crm", "/both"):
        response = client.options(path, headers={"WebHook-Request-Origin": "a.example"})
        assert response.status_code == 200
        assert set(response.headers["Allow"].split(", ")) == {"POST", "OPTIONS"}
        assert "WebHook-Allowed-Origin" not in response.headers
    assert kept == []


# Pings and tests.


@pytest.mark.parametrize("format", FORMATS)
def test_a_ping_is_answered_without_the_view_unless_it_wants_pings(format: str) -> None:
    ping = hook(type="resthooks.ping", kind="ping", format=format)
    _, client, kept = app_with()
    assert client.post("/crm", **ping).status_code == 204
    assert kept == []
    _, client, kept = app_with(pings=True)
    assert client.post("/crm", **ping).status_code == 204
    [(event, _)] = kept
    assert (event.type, event.test) == ("resthooks.ping", "ping")


def test_a_sample_comes_to_the_view_and_is_marked() -> None:
    _, client, kept = app_with()
    client.post("/crm", **hook(id="tst_1", kind="ping"))
    [(event, _)] = kept
    assert (event.type, event.test) == ("contact.update", "ping")


# Replay.


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "memory":
        yield MemoryReplayStore()
    else:
        request.getfixturevalue("redis_url")
        server: RedisServer = request.getfixturevalue("redis_server")
        yield RedisReplayStore(server.client())


def test_a_hook_that_comes_again_is_acknowledged_and_not_processed(store: Any) -> None:
    _, client, kept = app_with(replay=store)
    for _ in range(3):
        assert client.post("/crm", **hook()).status_code == 204
    assert client.post("/crm", **hook(at=NOW + 60)).status_code == 204
    assert len(kept) == 1
    assert client.post("/crm", **hook(id="evt_2")).status_code == 204
    assert [event.id for event, _ in kept] == ["evt_1", "evt_2"]


def test_without_a_store_a_hook_is_processed_as_often_as_it_comes() -> None:
    _, client, kept = app_with()
    for _ in range(3):
        client.post("/crm", **hook())
    assert len(kept) == 3


def test_a_hook_whose_view_failed_is_processed_when_it_comes_again(store: Any) -> None:
    app = flask.Flask(__name__)
    outcomes: list[Any] = [ValueError("bad luck"), ("", 500), ("", 302), SystemExit(), None, 1 / 2]

    @app.post("/crm")
    @receive(SECRET, replay=store, clock=lambda: float(NOW))
    def crm(event: Event) -> Any:
        outcome = outcomes.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    client = app.test_client()
    answers = []
    for _ in range(3):
        answers.append(client.post("/crm", **hook()).status_code)
    with pytest.raises(SystemExit):
        client.post("/crm", **hook())
    for _ in range(3):
        answers.append(client.post("/crm", **hook()).status_code)
    assert answers == [500, 500, 302, 204, 204, 204]
    assert outcomes == [1 / 2]


def test_a_hook_that_comes_while_it_is_processed_is_to_come_again_later(store: Any) -> None:
    """Were it acknowledged, and the view failed then, nobody would ever process it."""
    app = flask.Flask(__name__)
    begun, go_on = threading.Event(), threading.Event()
    calls = itertools.count()

    @app.post("/crm")
    @receive(SECRET, replay=store, clock=lambda: float(NOW))
    def crm(event: Event) -> Any:
        if next(calls) == 0:
            begun.set()
            assert go_on.wait(20)
            return "", 500
        return None

    first: list[int] = []
    thread = threading.Thread(
        target=lambda: first.append(app.test_client().post("/crm", **hook()).status_code)
    )
    thread.start()
    assert begun.wait(20)
    meanwhile = app.test_client().post("/crm", **hook())
    go_on.set()
    thread.join()
    assert (meanwhile.status_code, meanwhile.headers["Retry-After"]) == (409, "10")
    assert first == [500]
    assert [app.test_client().post("/crm", **hook()).status_code for _ in range(2)] == [204, 204]
    assert next(calls) == 2


def test_what_is_remembered_depends_on_nothing_that_is_not_signed(store: Any) -> None:
    app = flask.Flask(__name__)
    app.testing = True
    other = signing.new_secret()
    seen: list[str] = []

    def view(event: Event, **url: str) -> None:
        seen.append(f"{flask.request.endpoint} {event.test}")

    options: dict[str, Any] = {"replay": store, "clock": lambda: float(NOW)}
    app.add_url_rule(
        "/a/<path:rest>", "a", receive([SECRET, other], **options)(view), methods=["POST"]
    )
    app.add_url_rule("/b", "b", receive(SECRET, **options)(view), methods=["POST"])
    client = app.test_client()
    for path in ("/a/1", "/a/2", "/a/1?x=y"):
        for headers in ({}, {"user-agent": "y"}, {"x-hook-event": "z"}, {"x-hook-secret": "z"}):
            assert client.post(path, **hook(**headers)).status_code == 204
    assert seen == ["a None"]
    # The same event, of another subscription: to another view, or with another secret.
    client.post("/b", **hook())
    client.post("/a/1", **hook(secret=other))
    assert seen == ["a None", "b None", "a None"]


def test_nobody_makes_a_test_of_a_hook_or_a_hook_of_a_test(store: Any) -> None:
    """`x-hook-test` is not signed; a view that does nothing for tests must get the real one."""
    _, client, kept = app_with(replay=store)
    for headers in ({"x-hook-test": "ping"}, {"x-hook-test": "pong"}, {}, {}):
        client.post("/crm", **hook(**headers))
    assert [event.test for event, _ in kept] == [None]
    for headers in ({"x-hook-test": ""}, {}):
        client.post("/crm", **hook(id="tst_1", **headers))
    assert [event.test for event, _ in kept] == [None, "ping"]


def test_pings_and_handshakes_that_are_answered_here_are_not_remembered(store: Any) -> None:
    _, client, kept = app_with(replay=store)
    for _ in range(2):
        client.post("/crm", **hook(type="resthooks.ping", kind="ping", format="bare"))
        echoed = client.post("/crm", **hook(**HANDSHAKE, format="bare", X_Hook_Secret="t"))
        assert echoed.headers["X-Hook-Secret"] == "t"
    client.post("/crm", **hook(format="bare"))
    assert len(kept) == 1


def test_a_hook_is_processed_once_whichever_of_its_signatures_are_there(store: Any) -> None:
    """While secrets change it has two: whoever has overheard it can take one away."""
    first, second = signing.new_secret(), signing.new_secret()
    _, client, kept = app_with(secret=[first, second], replay=store)
    both = hook(secret=[first, second])
    assert client.post("/crm", **both).status_code == 204
    for one in both["headers"]["webhook-signature"].split(" "):
        headers = {**both["headers"], "webhook-signature": one}
        assert client.post("/crm", data=both["data"], headers=headers).status_code == 204
    assert len(kept) == 1
    # Also if the receiver did not know one of them yet.
    _, client, kept = app_with(secret=[first], replay=store)
    assert client.post("/crm", **hook(id="evt_2", secret=[second, first])).status_code == 204
    _, client, more = app_with(secret=[second, first], replay=store)
    for secrets in ([second, first], [second], [first]):
        assert client.post("/crm", **hook(id="evt_2", secret=secrets)).status_code == 204
    assert (len(kept), len(more)) == (1, 0)


def test_a_format_that_is_named_is_the_only_one_that_is_taken() -> None:
    _, client, kept = app_with(format="bare")
    assert client.post("/crm", **hook(format="bare")).status_code == 204
    assert "format" in refusal(client.post("/crm", **hook()))
    assert len(kept) == 1
    with pytest.raises(ConfigurationError, match="xml"):
        receive(SECRET, format="xml")


def test_a_refused_hook_is_not_remembered(store: Any) -> None:
    _, client, kept = app_with(replay=store)
    refusal(client.post("/crm", **hook(secret=signing.new_secret())))
    refusal(client.post("/crm", **{**hook(), "data": b"{}"}))
    assert client.post("/crm", **hook()).status_code == 204
    assert len(kept) == 1


def test_redis_remembers_for_the_time_it_is_told_and_no_longer(
    redis_url: str, redis_server: RedisServer
) -> None:
    server = redis_server.client()
    _, client, _ = app_with(replay=RedisReplayStore(server), replay_seconds=5000)
    client.post("/crm", **hook())
    [key] = server.scan_iter("*")
    assert key.startswith(b"resthooks:received:evt_1:")
    assert SECRET.encode() not in key
    assert 4_990_000 < server.pttl(key) <= 5_000_000


def test_a_store_that_is_gone_has_the_hook_sent_again() -> None:
    gone = redis.Redis(host="127.0.0.1", port=1, retry=Retry(NoBackoff(), 0))
    app, client, kept = app_with(replay=RedisReplayStore(gone))
    app.testing = False
    assert client.post("/crm", **hook()).status_code == 500
    assert kept == []
    gone.close()


# The rest of the package.


def test_nothing_of_the_sending_side_is_imported() -> None:
    script = """
import json, sys, time
import flask
from flask_resthooks.receiver import MemoryReplayStore, receive
from flask_resthooks.signing import new_secret, signer
secret = new_secret()
app = flask.Flask("inbox")
@app.post("/")
@receive(secret, replay=MemoryReplayStore(), allowed_origins="*")
def inbox(event):
    return event.type
body = b'{"id": "evt_1", "type": "a.b", "timestamp": "2026-01-15T09:30:00Z", "data": 1}'
now = int(time.time())
headers = {"webhook-id": "evt_1", "webhook-timestamp": str(now)}
headers["webhook-signature"] = signer(secret).sign("evt_1", now, body)
client = app.test_client()
assert client.post("/", data=body, headers=headers).text == "a.b"
assert client.post("/", data=body).status_code == 400
print(json.dumps(sorted(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, timeout=60
    )
    modules = json.loads(done.stdout)
    outside = "sqlalchemy flask_sqlalchemy flask_smorest rq redis requests urllib3 marshmallow"
    for name in [*outside.split(), "aiohttp", "cryptography", "apispec", "webargs"]:
        assert name not in modules
    ours = {name.split(".")[1] for name in modules if name.startswith("flask_resthooks.")}
    assert ours == {"_version", "errors", "receiver", "signing"}
