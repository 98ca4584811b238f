"""What somebody has stored, never becomes a header, a request, or a line of a log of its own.

Everything is looked at from outside: the raw bytes that a receiver gets, the headers of the API's
answers, and the log records, formatted, with their tracebacks.
"""

from __future__ import annotations

import json
import logging
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import hypothesis
import pytest
from api_host import Host, host
from engine import Engine
from hypothesis import strategies as st
from receivers import Receiver
from sqlalchemy import orm
from world import World

from flask_resthooks import formats, intents, jobs, models, signing
from flask_resthooks.capture import Capture
from flask_resthooks.errors import CaptureError
from flask_resthooks.outbox import Outbox
from flask_resthooks.settings import Settings

FORGED = "x-injected"
LINES = (
    f"\r\n{FORGED}: yes",
    f"\n{FORGED}: yes\n",
    f"\r{FORGED}: yes",
    f"\r\n\r\nPOST /smuggled HTTP/1.1\r\nhost: x\r\n{FORGED}: yes\r\n\r\n",
    f"\x85{FORGED}",
    f"\u2028{FORGED}",
    f"\u2029{FORGED}",
    f"\v{FORGED}",
    "\0",
    "\x1b[2K\x1b[1A",
    "\x9b2J",
    "\x7f\x08",
    "\u202etxt",
    "\ud800",
    "\u560d\u560a",  # CR and LF, for who cuts UTF-16 down to bytes
)
TEXTS = st.lists(
    st.sampled_from(LINES) | st.text("ab: \t-", min_size=1, max_size=4), min_size=1, max_size=3
).map("".join)

_OWN = {
    *("host", "accept-encoding", "content-length", "content-type", "user-agent"),
    *("webhook-id", "webhook-timestamp", "webhook-signature", "x-hook-signature"),
    *("x-hook-event", "x-hook-sequence", "x-hook-format", "x-hook-payload", "x-hook-test"),
}
_REQUEST_LINE = re.compile(r"POST /[!-~]* HTTP/1\.1")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ([\t\x20-\x7e\xa0-\xff]*)")

SETTINGS = hypothesis.settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
    phases=[hypothesis.Phase.generate],  # to find the smallest takes minutes, with real drains
)


def check_request(raw: bytes, own: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    """One request, of the headers that it is to have."""
    head, _, body = raw.decode("latin-1").partition("\r\n\r\n")
    request_line, *lines = head.split("\r\n")
    assert _REQUEST_LINE.fullmatch(request_line), request_line
    headers = {}
    for line in lines:
        match = _HEADER.fullmatch(line)
        assert match, line
        name = match[1].lower()
        assert name not in headers
        headers[name] = match[2]
    assert set(headers) - _OWN <= own
    assert FORGED not in headers
    assert int(headers["content-length"]) == len(body)
    assert body.isascii() and body.isprintable()
    json.loads(body)


@contextmanager
def listening(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No record of ours is more than one line, but for tracebacks; and these begin no line with
    what somebody stored."""
    caplog.clear()
    caplog.set_level(logging.DEBUG, "flask_resthooks")
    yield
    for record in caplog.records:
        said = record.getMessage()
        assert said.isprintable(), ascii(said)
        whole = caplog.handler.format(record)
        assert not re.search(r"[\0-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", whole)
        assert not any(line.startswith(FORGED) for line in whole.splitlines()), whole
    caplog.clear()


def record_and_answer(receiver: Receiver, sock: socket.socket) -> None:
    while receiver.read_request(sock):
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


class Sender:
    """What a drain needs of a `World`, of a host app's database."""

    def __init__(self, made: Host) -> None:
        with made.app.app_context():
            self.engine = made.db.engine
        self.outbox = Outbox(self.engine, made.tables)


@pytest.fixture
def shop(sqlite_url: str) -> Iterator[Host]:
    settings = Settings(
        require_https=False, allowed_networks=("127.0.0.0/8",), subscription_limit=0
    )
    with host(sqlite_url, settings=settings) as made:
        yield made


# Each in a subscription of its own: what is refused for one field must not hide the others.
BODIES: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "texts": st.fixed_dictionaries(
        {"description": TEXTS, "metadata": st.dictionaries(TEXTS, TEXTS, max_size=2)}
    ),
    "shape": st.fixed_dictionaries(
        {"format": st.sampled_from(formats.NAMES), "payload": st.sampled_from(formats.PAYLOADS)}
    ),
    "path": st.fixed_dictionaries({"path": TEXTS}),
    "event": st.fixed_dictionaries({"event": TEXTS}),
    "header name": TEXTS.map(lambda text: {"headers": {f"X-Team{text}": "a"}}),
    "header value": TEXTS.map(lambda text: {"headers": {"X-Team": f"a{text}"}}),
}
EVENTS = st.fixed_dictionaries(
    {"data": st.dictionaries(TEXTS, TEXTS, max_size=2)},
    optional={"resource": TEXTS, "url": TEXTS},
)


def test_what_is_stored_by_the_api_and_by_emit_is_sent_as_data_alone(
    shop: Host, caplog: pytest.LogCaptureFixture
) -> None:
    with Receiver(record_and_answer) as receiver:
        sender = Sender(shop)
        engine = Engine(sender)  # type: ignore[arg-type]
        capture = Capture(shop.tables, shop.event_types, lambda: None)

        def emit(events: list[dict[str, Any]]) -> None:
            with orm.Session(sender.engine) as session:
                for event in events:
                    about = {name: event[name] for name in ("resource", "url") if name in event}
                    try:
                        capture.emit(session, NAME, event["data"], shop.owner, **about)
                    except CaptureError as error:
                        assert str(error).isprintable()
                session.commit()

        @SETTINGS
        @hypothesis.given(st.fixed_dictionaries(BODIES), st.lists(EVENTS, max_size=2), TEXTS, TEXTS)
        def run(bodies: dict[str, Any], events: list[Any], owner: str, request_id: str) -> None:
            for table in shop.db.metadata.sorted_tables:
                shop.execute(table.delete())
            receiver.requests.clear()
            shop.owner = storable(owner)
            names: set[str] = set()
            made = 0
            with listening(caplog):
                for given in bodies.values():
                    url = receiver.url("/x" + given.pop("path", ""))
                    body = {"target_url": url, "event": "contact.*", **given}
                    answer = shop.call("POST", "/subscriptions", body, headers=about(request_id))
                    check_answer(answer)
                    if answer.status_code == 201:
                        made += 1
                        names |= {name.lower() for name in answer.json["header_names"]}
                assert made >= 1  # the one that asks for a shape is never refused
                emit([{"data": {}}, *events])
                engine.run()
            deliveries = shop.rows(shop.tables.delivery)
            assert len(deliveries) == len(receiver.requests) >= made
            assert {row["status"] for row in deliveries} == {"delivered"}
            for raw in receiver.requests:
                check_request(raw, names)
            check_answer(shop.call("GET", f"/deliveries/{deliveries[0]['id']}/attempts"))
            check_answer(shop.call("GET", "/events"))

        try:
            run()
        finally:
            engine.transport.close()


NAME = "contact.create"


def storable(text: str) -> str:
    """What every database takes."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def about(request_id: str) -> dict[str, str]:
    """Headers of a request, as far as a server lets them in."""
    value = re.sub(r"[\r\n]", "", request_id).encode("utf-8", "replace").decode("latin-1")
    return {"X-Request-Id": value, "If-Match": value, "X-Forwarded-For": value}


def check_answer(answer: Any) -> None:
    assert answer.status_code in (200, 201, 404, 422), answer.text
    assert FORGED not in answer.headers
    assert answer.text.isascii() and answer.text.strip().isprintable()
    json.loads(answer.text)


# What no API lets in: somebody has written to the database.

# Each in a subscription and an event of its own.
FIELDS = {
    **dict.fromkeys(
        ("path", "host", "format", "payload", "secret", "type", "id", "resource", "url", "owner"),
        TEXTS,
    ),
    "headers": TEXTS.map(lambda text: json.dumps({"X-Team": text}))
    | TEXTS.map(lambda text: json.dumps({text: "a"}))
    | TEXTS,
}
OF_SUBSCRIPTION = {"format", "payload", "secret", "headers"}
OF_EVENT = {"id", "resource", "url"}


def test_not_even_what_was_written_into_the_tables_becomes_a_header_or_a_line_of_the_log(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(sqlite_url)
    seen: set[str] = set()
    with Receiver(record_and_answer) as receiver:
        engine = Engine(world, retry_schedule=[0])

        def write(number: int, field: str, text: str) -> None:
            owner = text if field == "owner" else str(number)
            url = receiver.url("/x" + (text if field == "path" else ""))
            if field == "host":
                url = f"http://127.0.0.1{text}:{receiver.port}/x"
            world.subscribe(
                "*",
                owner=owner,
                target_url=url,
                host=f"127.0.0.{number}:80",
                **({field: text} if field in OF_SUBSCRIPTION else {}),
            )
            row = world.event_row(text if field == "type" else NAME, owner)
            with world.engine.begin() as connection:
                connection.execute(
                    world.tables.event.insert(),
                    {**row, **({field: text} if field in OF_EVENT else {})},
                )

        @SETTINGS
        @hypothesis.given(st.fixed_dictionaries(FIELDS))
        def run(given: dict[str, str]) -> None:
            receiver.requests.clear()
            engine.told.clear()
            with world.engine.begin() as connection:
                for table in tables_of(world):
                    connection.execute(table.delete())
            given = {
                field: text.encode("utf-8", "replace").decode() for field, text in given.items()
            }
            for number, field in enumerate(given):
                write(number, field, given[field])
            with listening(caplog):
                engine.run()
                for outcome in [outcome for outcomes, _ in engine.told for outcome in outcomes]:
                    assert jobs._trouble(outcome).isprintable()
                    assert (outcome.detail + (outcome.reason or "")).isprintable()
                    seen.add(outcome.status)
            # At least these are no trouble, whatever stands in them.
            assert len(receiver.requests) >= len({"resource", "url", "owner"})
            for raw in receiver.requests:
                check_request(raw, names_in(given["headers"]))

        try:
            run()
        finally:
            engine.transport.close()
            world.engine.dispose()
    assert "delivered" in seen and len(seen) > 1


def names_in(headers: str) -> set[str]:
    try:
        return {name.lower() for name in json.loads(headers)}
    except ValueError:
        return set()


def tables_of(world: World) -> list[Any]:
    t = world.tables
    return [t.event, t.delivery, t.subscription, t.subscription_event, t.attempt, t.host]


# What a receiver writes.


@SETTINGS
@hypothesis.given(TEXTS, TEXTS)
def test_what_a_strategy_hands_on_of_a_receivers_words_is_one_line(text: str, other: str) -> None:
    """Its reason is shown, kept and logged."""

    class Talkative(intents.Ping):
        def judge(self, handshake: Any, status: int, headers: Any) -> intents.Verdict:
            return intents.Verdict(False, reason=text + headers.get("x-request-id", ""))

    outcome = judged(Talkative(), {"x-request-id": other})
    assert (outcome.reason or "").isprintable() and outcome.detail.isprintable()
    assert outcome.request_id is None or outcome.request_id.isprintable()


@pytest.mark.parametrize("name", ["x-hook-secret", "cloudevents"])
@SETTINGS
@hypothesis.given(TEXTS, TEXTS)
def test_what_our_strategies_quote_is_one_line(name: str, text: str, other: str) -> None:
    answer = {
        "x-hook-secret": text,
        "webhook-allowed-origin": text,
        "webhook-allowed-rate": other,
    }
    outcome = judged(intents.Intents()[name], answer)
    assert (outcome.reason or "").isprintable() and outcome.detail.isprintable()


def judged(intent: Any, headers: dict[str, str]) -> Any:
    from flask_resthooks.judging import Judge
    from flask_resthooks.outbox import Claim
    from flask_resthooks.transport import Answer

    event = formats.Event("tst_1", "resthooks.handshake", models.utcnow(), 1, "{}")
    claim = Claim("dlv_1", "x", 1, event, "1", "sub_1", "https://a.example", (), kind="handshake")
    handshake = intents.Handshake("sub_1", "https://a.example", signing.new_secret(), "a.example")
    judge = Judge(Settings(), intent, lambda claim: handshake)
    return judge.outcome(claim, Answer(200, headers=headers), models.utcnow(), 0.0)
