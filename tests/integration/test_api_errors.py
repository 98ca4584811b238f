"""Errors, requests that are no use, and the host app's own routes beside ours."""

from __future__ import annotations

import http.client
import io
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import flask
import flask_smorest
import pytest
from api_host import URL, Host, host
from flask.views import MethodView
from werkzeug.exceptions import TooManyRequests
from werkzeug.serving import make_server

from flask_resthooks.settings import Settings

SHAPE = {"code", "status", "message", "errors", "error_code", "request_id"}


@pytest.fixture
def acme(sqlite_url: str) -> Iterator[Host]:
    with host(sqlite_url) as made:
        yield made


def check(answer: Any, code: int, error_code: str) -> dict[str, Any]:
    """It is our error, in our shape."""
    assert answer.status_code == code, answer.text
    assert answer.content_type == "application/json"
    error: dict[str, Any] = json.loads(answer.text)
    assert set(error) == SHAPE
    assert error["code"] == code and error["error_code"] == error_code
    assert isinstance(error["errors"], dict) and error["message"] and error["status"]
    assert error["request_id"] == answer.headers["X-Request-Id"]
    return error


def test_nobody_gets_a_401(quick: Host) -> None:
    quick.owner = None
    for method, path in (
        ("GET", "/subscriptions"),
        ("POST", "/subscriptions"),
        ("GET", "/subscriptions/x"),
        ("GET", "/deliveries/x"),
        ("GET", "/event-types"),
        ("GET", "/event-types/contact.create"),
    ):
        check(quick.call(method, path, {} if method == "POST" else None), 401, "not_authenticated")


def test_a_method_that_is_not_there_is_answered_with_those_that_are(quick: Host) -> None:
    answer = quick.call("PUT", "/subscriptions", {})
    check(answer, 405, "method_not_allowed")
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "POST"}
    check(quick.call("TRACE", "/event-types"), 405, "method_not_allowed")


def test_options_and_head_are_answered(quick: Host) -> None:
    options = quick.call("OPTIONS", "/subscriptions/x")
    assert options.status_code == 200
    assert "PATCH" in options.headers["Allow"]
    head = quick.call("HEAD", "/subscriptions")
    assert (head.status_code, head.data) == (200, b"")


BAD_BODIES: list[tuple[Any, str, int, str]] = [
    (b"", "application/json", 400, "bad_json"),
    (b"{", "application/json", 400, "bad_json"),
    (b'{"target_url": "a", "target_url": "b"}', "application/json", 400, "bad_json"),
    (b'{"active": NaN}', "application/json", 400, "bad_json"),
    (b'{"active": -Infinity}', "application/json", 400, "bad_json"),
    (b'{"active": ' + b"9" * 5000 + b"}", "application/json", 400, "bad_json"),
    (b"[" * 100_000 + b"]" * 100_000, "application/json", 400, "bad_json"),
    (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "application/json", 400, "bad_json"),
    (b"\xff\xfe{}", "application/json", 400, "bad_json"),
    ("{}".encode("utf-16"), "application/json", 400, "bad_json"),
    (b"\xef\xbb\xbf{}", "application/json", 400, "bad_json"),
    (b"[]", "application/json", 422, "validation_error"),
    (b"null", "application/json", 422, "validation_error"),
    (b'"text"', "application/json", 422, "validation_error"),
    (b"1e999", "application/json", 422, "validation_error"),
    (b'{"active": 1e999}', "application/json", 422, "validation_error"),
    (b"[" * 900 + b"]" * 900, "application/json", 422, "validation_error"),
    (b"{}", "application/vnd.api+json", 422, "validation_error"),
    (b"{}", "application/json; charset=UTF-8", 422, "validation_error"),
    (b"{}", "application/json; charset=latin-1", 415, "unsupported_media_type"),
    (b"{}", "text/plain", 415, "unsupported_media_type"),
    (b"{}", "", 415, "unsupported_media_type"),
    (b"a=b", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
    (b" " * 1_000_001, "application/json", 413, "payload_too_large"),
]


@pytest.mark.parametrize(
    ("body", "content_type", "code", "error_code"), BAD_BODIES, ids=lambda value: ascii(value)[:40]
)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_a_body_that_is_no_use_is_the_callers_error(
    quick: Host, method: str, body: bytes, content_type: str, code: int, error_code: str
) -> None:
    path = "/subscriptions" if method == "POST" else f"/subscriptions/{quick.subscribe()['id']}"
    answer = quick.call(method, path, data=body, content_type=content_type)
    if answer.status_code == 200:  # a PATCH with nothing in it
        assert method == "PATCH" and json.loads(body) == {}
    else:
        check(answer, code, error_code)


class Stream(io.RawIOBase):
    """A body of that many bytes, which counts those that were read."""

    def __init__(self, size: int) -> None:
        self.left, self.read_so_far = size, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = min(len(buffer), self.left, 10_000)
        buffer[:size] = b" " * size
        self.left -= size
        self.read_so_far += size
        return size


def chunked(acme: Host, stream: Stream, **environ: Any) -> Any:
    """A POST whose length nobody tells, as servers hand it on that know chunks."""
    return acme.client.open(
        f"{acme.prefix}/subscriptions",
        method="POST",
        content_type="application/json",
        environ_overrides={"wsgi.input": stream, "wsgi.input_terminated": True, **environ},
    )


def test_a_body_that_is_too_long_is_not_read_to_its_end(quick: Host) -> None:
    stream = Stream(50_000_000)
    check(chunked(quick, stream), 413, "payload_too_large")
    assert stream.read_so_far < 1_100_000
    told = Stream(50_000_000)
    check(chunked(quick, told, CONTENT_LENGTH="50000000"), 413, "payload_too_large")
    assert told.read_so_far == 0


def test_a_chunked_body_over_a_real_connection_is_taken_or_too_long(acme: Host) -> None:
    server = make_server("127.0.0.1", 0, acme.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        for body, status in (
            ([json.dumps({"target_url": URL, "event": "*"}).encode()], 201),
            ([b" " * 100_000] * 20, 413),
        ):
            connection = http.client.HTTPConnection(*server.server_address, timeout=10)
            headers = {"Content-Type": "application/json"}
            path = f"{acme.prefix}/subscriptions"
            connection.request("POST", path, iter(body), headers, encode_chunked=True)
            assert connection.getresponse().status == status
            connection.close()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("size", [999_999, 1_000_000])
def test_a_body_of_unknown_length_may_be_as_long_as_any(quick: Host, size: int) -> None:
    check(chunked(quick, Stream(size)), 400, "bad_json")


def test_a_body_that_the_host_has_read_before_is_read_all_the_same(sqlite_url: str) -> None:
    def reading(app: flask.Flask) -> None:
        app.before_request(lambda: flask.request.get_data() and None)

    with host(sqlite_url, before=reading) as acme:
        assert acme.subscribe()["active"] is True
        check(chunked(acme, Stream(1_000_001)), 413, "payload_too_large")


def test_a_body_is_there_for_the_host_afterwards(sqlite_url: str) -> None:
    seen: list[bytes] = []

    def watching(app: flask.Flask) -> None:
        def watch(response: flask.Response) -> flask.Response:
            seen.append(flask.request.get_data())
            return response

        app.after_request(watch)

    with host(sqlite_url, before=watching) as acme:
        acme.subscribe()
        assert json.loads(seen[0])["target_url"] == URL


def test_a_limit_of_the_hosts_own_counts_as_well(sqlite_url: str) -> None:
    with host(sqlite_url, config={"MAX_CONTENT_LENGTH": 100_000}) as acme:
        stream = Stream(900_000)
        check(chunked(acme, stream), 413, "payload_too_large")
        assert stream.read_so_far < 200_000


def test_a_request_names_itself_or_is_given_a_name(quick: Host) -> None:
    for given in ("abc-123", "x" * 128):
        answer = quick.call("GET", "/subscriptions/x", headers={"X-Request-Id": given})
        assert check(answer, 404, "not_found")["request_id"] == given
    for given in ("", "x" * 129, "a b", "<script>"):
        answer = quick.call("GET", "/event-types", headers={"X-Request-Id": given})
        assert answer.headers["X-Request-Id"].startswith("req_")
    other = quick.call("GET", "/event-types")
    assert other.headers["X-Request-Id"] != answer.headers["X-Request-Id"]


def test_an_exception_is_logged_and_tells_nothing(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with host(sqlite_url, config={"TESTING": False}) as acme:
        acme.execute(acme.tables.subscription.delete())
        with acme.app.app_context():
            acme.tables.subscription.drop(acme.db.engine)
        with caplog.at_level(logging.ERROR):
            answer = acme.call("GET", "/subscriptions")
        error = check(answer, 500, "internal_error")
        assert "subscription" not in answer.text and error["errors"] == {}
        assert "no such table" in caplog.text
        assert error["request_id"] in caplog.text


def test_an_exception_propagates_in_testing(acme: Host) -> None:
    with acme.app.app_context():
        acme.tables.subscription.drop(acme.db.engine)
    with pytest.raises(Exception, match="no such table"):
        acme.call("GET", "/subscriptions")


def test_what_the_hosts_owner_loader_aborts_with_is_kept(sqlite_url: str) -> None:
    def forbidden() -> str:
        flask.abort(403, "Pay first.")

    with host(sqlite_url, owner=forbidden) as acme:
        error = check(acme.call("GET", "/subscriptions"), 403, "forbidden")
        assert error["message"] == "Pay first."


def test_headers_of_what_the_owner_loader_aborts_with_are_kept(sqlite_url: str) -> None:
    def slower() -> str:
        raise TooManyRequests(retry_after=3)

    with host(sqlite_url, owner=slower) as acme:
        answer = acme.call("GET", "/subscriptions")
        check(answer, 429, "too_many_requests")
        assert answer.headers["Retry-After"] == "3"


def host_routes(app: flask.Flask) -> None:
    @app.errorhandler(404)
    def missing(error: Exception) -> tuple[str, int]:
        return "the host's own 404", 404

    @app.errorhandler(Exception)
    def anything(error: Exception) -> tuple[str, int]:
        return "the host's own 500", 500

    @app.errorhandler(422)
    def invalid(error: Exception) -> tuple[str, int]:
        return "the host's own 422", 422

    @app.get("/missing")
    def gone() -> str:
        flask.abort(404)

    @app.get("/broken")
    def broken() -> str:
        raise RuntimeError("broken")

    @app.post("/api/v1/contacts")
    def contacts() -> Any:
        return flask.request.get_json()


def test_the_hosts_errors_stay_its_own_and_ours_stay_ours(sqlite_url: str) -> None:
    with host(sqlite_url, before=host_routes, config={"TESTING": False}) as acme:
        for path in ("/missing", "/nowhere", "/api/v1/nowhere"):
            answer = acme.client.get(path)
            assert (answer.status_code, answer.text) == (404, "the host's own 404")
            assert "X-Request-Id" not in answer.headers
        assert acme.client.get("/broken").text == "the host's own 500"
        assert acme.client.post("/api/v1/contacts", json={"a": 1}).json == {"a": 1}
        check(acme.call("GET", "/subscriptions/x"), 404, "not_found")
        check(acme.call("POST", "/subscriptions", {}), 422, "validation_error")
        with acme.app.app_context():
            acme.tables.subscription.drop(acme.db.engine)
        check(acme.call("GET", "/subscriptions"), 500, "internal_error")


def test_without_handlers_the_host_answers_as_flask_does(sqlite_url: str) -> None:
    def broken(app: flask.Flask) -> None:
        app.add_url_rule("/broken", view_func=lambda: 1 / 0, endpoint="broken")

    with host(sqlite_url, before=broken, config={"TESTING": False}) as acme:
        for path, code, status in (
            ("/nowhere", 404, "Not Found"),
            ("/broken", 500, "Internal Server Error"),
        ):
            answer = acme.client.get(path)
            # flask-smorest's, which every Api registers for the whole app.
            assert (answer.status_code, answer.json) == (code, {"code": code, "status": status})


def test_a_blueprint_of_the_hosts_own_is_unchanged(acme: Host) -> None:
    import marshmallow as ma

    class SubscriptionSchema(ma.Schema):
        name = ma.fields.String(required=True)

    blueprint = flask_smorest.Blueprint("subscriptions", __name__, url_prefix="/billing")

    @blueprint.route("/subscriptions")
    class Subscriptions(MethodView):
        @blueprint.arguments(SubscriptionSchema)
        @blueprint.response(200, SubscriptionSchema)
        def post(self, given: Any) -> Any:
            return given

    acme.api.register_blueprint(blueprint)
    assert acme.client.post("/billing/subscriptions", json={"name": "x"}).json == {"name": "x"}
    answer = acme.client.post("/billing/subscriptions?unknown=1", json={})
    assert answer.json == {
        "code": 422,
        "status": answer.json["status"],
        "errors": {"json": {"name": ["Missing data for required field."]}},
    }
    assert "X-Request-Id" not in answer.headers
    schemas = acme.client.get("/openapi.json").json["components"]["schemas"]
    assert {"Subscription", "RESTHooksSubscription"} <= set(schemas)


def test_two_apps_in_one_process_keep_their_own(tmp_path: Any) -> None:
    first_settings = Settings(url_prefix="/hooks")
    second_settings = Settings(require_https=False, allowed_networks=("127.0.0.0/8",))
    with (
        host(f"sqlite:///{tmp_path}/1.db", settings=first_settings, names=("a.b",)) as first,
        host(f"sqlite:///{tmp_path}/2.db", settings=second_settings) as second,
    ):
        second.owner = "other"
        made = first.call("POST", "/subscriptions", {"target_url": URL, "event": "a.b"}).json
        assert made["events"] == ["a.b"]
        local = {"target_url": "http://127.0.0.1/", "event": "contact.create"}
        assert second.call("POST", "/subscriptions", local).status_code == 201
        errors = first.call("POST", "/subscriptions", local).json["errors"]
        assert set(errors) == {"target_url", "event"}
        assert second.call("GET", f"/subscriptions/{made['id']}").status_code == 404
        assert first.client.get("/api/v1/subscriptions").status_code == 404
        assert first.call("GET", "/subscriptions").json["data"][0]["id"] == made["id"]
