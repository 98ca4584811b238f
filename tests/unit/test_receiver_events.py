"""What a hook tells, in four formats: as flask_resthooks writes them, and as others do."""

from __future__ import annotations

import datetime as dt
import json
import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from werkzeug.exceptions import BadRequest

from flask_resthooks import formats, signing
from flask_resthooks.errors import RESTHooksError, SignatureError
from flask_resthooks.receiver.errors import HookRefused
from flask_resthooks.receiver.events import FORMATS, HEADERS, Event, event_of

UTC = dt.timezone.utc
NOW = 1_700_000_000
SENT = dt.datetime.fromtimestamp(NOW, UTC)
ID = "evt_1"
BASE = {"content-type": "application/json", "webhook-id": ID, "webhook-timestamp": str(NOW)}
HAPPENED = "2026-01-15T09:30:00.25Z"
MOMENT = dt.datetime(2026, 1, 15, 9, 30, 0, 250_000, UTC)
SIGNER = signing.signer(signing.new_secret())

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=15,
)
# Whatever may be in the place of anything.
ANYTHING = VALUES | st.sampled_from(
    [ID, HAPPENED, "1.0", "contact.create", {"event_id": ID}, {"id": ID}, 2**63, -1, "\ud800", ""]
)


def sent(
    format: str, data: Any, previous: dict[str, Any] | None = None, **options: Any
) -> tuple[bytes, dict[str, str]]:
    """A hook as the sending side makes it."""
    event = formats.Event(
        id=options.get("id", ID),
        type=options.get("type", "contact.update"),
        timestamp=MOMENT,
        sequence=options.get("sequence", 42),
        data=formats.to_json(data),
        previous=None if previous is None else formats.to_json(previous),
        resource="contact:17",
        kind=options.get("kind", "event"),
    )
    recipient = formats.Recipient(
        "sub_1", "https://inbox.example.net/", format, options.get("payload", "full")
    )
    body = formats.body(event, recipient, source="https://crm.example.com")
    headers = formats.headers(
        event,
        body,
        signers=[SIGNER],
        timestamp=NOW,
        user_agent="x",
        format=format,
        payload=recipient.payload,
    )
    return body, {name: value for name, value in headers.items() if name in HEADERS}


def refused(body: Any, headers: dict[str, str]) -> str:
    """Why; asserts that it is."""
    with pytest.raises(HookRefused) as e:
        event_of(body if isinstance(body, bytes) else json.dumps(body).encode(), headers)
    return e.value.reason


def read(content: Any, **headers: str) -> Event:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return event_of(json.dumps(content).encode(), {**BASE, **named})


# What flask_resthooks sends.


@given(st.sampled_from(FORMATS), VALUES, st.none() | st.dictionaries(TEXTS, VALUES, max_size=4))
def test_what_is_sent_here_is_understood_here(
    format: str, data: Any, previous: dict[str, Any] | None
) -> None:
    body, headers = sent(format, data, previous)
    event = event_of(body, headers)
    is_bare = format == "bare"
    assert event == Event(
        id=ID,
        type="contact.update",
        timestamp=SENT if is_bare else MOMENT,
        sequence=42,
        data=data,
        previous=None if is_bare else previous,
        format=format,
        test=None,
    )
    assert event.timestamp.tzinfo is UTC


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("sequence", [0, 1, 2**63 - 1])
def test_the_sequence_is_a_number_in_every_format(format: str, sequence: int) -> None:
    assert event_of(*sent(format, {}, sequence=sequence)).sequence == sequence


@pytest.mark.parametrize("format", FORMATS)
def test_a_thin_hook_tells_the_resource(format: str) -> None:
    event = event_of(*sent(format, {"name": "Ada"}, {"name": "Bob"}, payload="thin"))
    assert (event.data, event.previous) == ({"resource": "contact:17", "url": None}, None)
    assert event.payload == "thin"
    assert event_of(*sent(format, {"name": "Ada"}, {"name": "Bob"})).payload == "full"


@pytest.mark.parametrize("format", FORMATS)
def test_a_test_hook_is_told_as_such(format: str) -> None:
    assert event_of(*sent(format, {}, id="tst_1", kind="ping")).test == "ping"
    assert event_of(*sent(format, {})).test is None
    assert event_of(*sent(format, {}, kind="ping", type="resthooks.ping")).test == "ping"
    handshake = sent(format, {}, kind="handshake", type="resthooks.handshake")
    assert event_of(*handshake).test == "handshake"


@pytest.mark.parametrize("format", ["standard", "resthooks", "cloudevents"])
@given(data=st.data())
def test_no_header_makes_another_event_of_a_body_that_names_its_id(
    format: str, data: st.DataObject
) -> None:
    """They are not signed."""
    body, headers = sent(format, {"a": 1}, {"a": 0})
    right = event_of(body, headers)
    values = TEXTS | st.sampled_from(
        [*FORMATS, "application/cloudevents+json", "resthooks.ping", "7", "contact.delete"]
    )
    unsigned = [name for name in HEADERS if not name.startswith("webhook-")]
    for name in data.draw(st.lists(st.sampled_from(unsigned), unique=True)):
        value = data.draw(st.none() | values)
        headers.pop(name, None)
        if value is not None:
            headers[name] = value
    try:
        event = event_of(body, headers)
    except HookRefused:
        return
    assert event == right
    assert (event.type, event.data, event.sequence) == (right.type, right.data, right.sequence)


@given(st.sampled_from(FORMATS), st.data())
def test_what_a_record_holds_does_not_make_another_event_of_it(
    format: str, data: st.DataObject
) -> None:
    """Customers of the sender write records, but do not know the id that a hook will have."""
    keys = st.sampled_from(["id", "type", "data", "specversion", "source", "hook", "timestamp"])
    values = VALUES | st.sampled_from(["evt_2", HAPPENED, "1.0", "x.y", {"event_id": "evt_2"}])
    record = data.draw(st.dictionaries(keys, values))
    body, headers = sent(format, record)
    event = event_of(body, headers)
    assert (event.type, event.data, event.format) == ("contact.update", record, format)


@pytest.mark.parametrize("format", ["standard", "resthooks", "cloudevents"])
def test_a_body_of_another_id_is_refused(format: str) -> None:
    body, headers = sent(format, {})
    assert refused(body, {**headers, "webhook-id": "evt_2"})
    assert refused(body, {**headers, "x-hook-format": "standard", "webhook-id": "evt_2"})


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("named", [*FORMATS, "", "Standard", "xml", "standard,standard"])
def test_a_format_that_is_named_must_be_the_bodys(format: str, named: str) -> None:
    body, headers = sent(format, {"id": 17, "type": "x", "data": 1, "timestamp": HAPPENED})
    if named == format:
        assert event_of(body, {**headers, "x-hook-format": named}).format == format
    else:
        refused(body, {**headers, "x-hook-format": named})


# What other senders send: Standard Webhooks asks for `type`, `timestamp` and `data`, and not much.


def test_a_body_as_standard_webhooks_asks_for_is_understood() -> None:
    event = read({"type": "contact.created", "timestamp": HAPPENED, "data": {"id": "1f81"}})
    assert event == Event(ID, "contact.created", MOMENT, None, {"id": "1f81"})


def test_a_body_with_an_id_of_its_own_is_refused_if_it_is_another() -> None:
    content = {"type": "contact.created", "timestamp": HAPPENED, "data": {}}
    assert read({**content, "id": ID}).type == "contact.created"
    assert "id is not the webhook-id" in refused({**content, "id": "evt_2"}, BASE)


@pytest.mark.parametrize(
    "content",
    [
        {"type": "user.created", "object": "event", "data": {}},
        {"type": "user.created", "timestamp": 1_700_000_000_000, "data": {}},
        {"type": "user.created", "timestamp": HAPPENED, "user": {}},
        {"type": "user.created"},
    ],
)
def test_other_bodies_are_data_with_their_type(content: Any) -> None:
    assert read(content) == Event(ID, "user.created", SENT, None, content, format="bare")
    assert read(content, x_hook_event="x.y").type == "user.created"


@pytest.mark.parametrize("content", [{}, [], [1], "x", 1, 1.5, None, True, {"type": 1}])
def test_any_json_is_data(content: Any) -> None:
    assert read(content) == Event(ID, "", SENT, None, content, format="bare")
    assert read(content, x_hook_event="x.y").type == "x.y"
    assert read(content, x_hook_event="x.y", x_hook_format="bare", x_hook_sequence="7") == Event(
        ID, "x.y", SENT, 7, content, format="bare"
    )
    assert "type" in refused(content, {**BASE, "x-hook-format": "bare"})


def test_a_cloudevent_of_another_sender_is_understood() -> None:
    content = {"specversion": "1.0", "id": ID, "source": "/x", "type": "com.example.created"}
    kind = "application/cloudevents+json; charset=utf-8"
    event = read(content, content_type=kind)
    expected = Event(ID, "com.example.created", SENT, None, None, format="cloudevents")
    assert event == expected
    assert read({**content, "sequence": "A-7"}, content_type=kind) == expected
    assert read({**content, "sequence": 7}, content_type=kind) == expected
    assert read({**content, "time": HAPPENED}, content_type=kind).timestamp == MOMENT


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"specversion": "0.3"}, "version"),
        ({"specversion": None}, "version"),
        ({"source": ""}, "source"),
        ({"source": None}, "source"),
        ({"type": ""}, "type"),
        ({"type": 5}, "type"),
        ({"id": "evt_2"}, "id"),
        ({"id": None}, "id"),
        ({"data_base64": "AAAA"}, "JSON"),
        ({"time": "yesterday"}, "timestamp"),
        ({"time": 5}, "timestamp"),
        ({"previous": {}}, "previous"),
        ({"previous": "{"}, "JSON"),
        ({"previous": "[]"}, "previous"),
        ({"previous": '{"a":NaN}'}, "JSON"),
        ({"sequence": "9" * 20}, "sequence"),
    ],
)
def test_a_cloudevent_that_is_none_is_refused(changes: dict[str, Any], reason: str) -> None:
    content = {"specversion": "1.0", "id": ID, "source": "/x", "type": "x.y", "data": {}}
    kind = {"content-type": "application/cloudevents+json"}
    assert event_of(json.dumps(content).encode(), {**BASE, **kind}).data == {}
    assert reason in refused({**content, **changes}, {**BASE, **kind})


@pytest.mark.parametrize("kind", ["", "-batch", "+xml", "; x=y"])
def test_a_body_that_is_said_to_be_cloudevents_must_be_one(kind: str) -> None:
    content = {"type": "x.y", "timestamp": HAPPENED, "data": {}}
    for body in (content, [content], {}):
        refused(body, {**BASE, "content-type": f"Application/CloudEvents{kind}"})


# What is wrong.


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"type": None}, "type"),
        ({"type": ""}, "type"),
        ({"type": "a\nb"}, "type"),
        ({"type": "a" * 256}, "type"),
        ({"type": ["x"]}, "type"),
        ({"timestamp": 1_700_000_000}, "timestamp"),
        ({"timestamp": "2026-01-15"}, "timestamp"),
        ({"timestamp": ""}, "timestamp"),
        ({"sequence": "42"}, "sequence"),
        ({"sequence": True}, "sequence"),
        ({"sequence": 4.2}, "sequence"),
        ({"sequence": -1}, "sequence"),
        ({"sequence": 2**63}, "sequence"),
        ({"previous": []}, "previous"),
        ({"previous": "{}"}, "previous"),
        ({"previous": False}, "previous"),
    ],
)
@pytest.mark.parametrize("format", ["standard", "resthooks"])
def test_a_part_that_is_not_what_it_should_be_is_refused(
    format: str, changes: dict[str, Any], reason: str
) -> None:
    body, headers = sent(format, {})
    content = json.loads(body)
    for name, value in changes.items():
        if format == "resthooks" and name != "previous":
            content["hook"]["event" if name == "type" else name] = value
        else:
            content[name] = value
    assert reason in refused(content, headers)


def test_a_hook_without_data_is_refused() -> None:
    body, headers = sent("resthooks", {})
    content = json.loads(body)
    del content["data"]
    assert "no data" in refused(content, headers)
    body, headers = sent("standard", {})
    content = json.loads(body)
    del content["data"]
    refused(content, headers)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"{}{}",
        b"'x'",
        b"NaN",
        b'{"data": NaN}',
        b"-Infinity",
        b"1e999",
        b"[1, -1e400]",
        b"9" * 5000,
        b'"\xff"',
        b'"\xed\xa0\x80"',  # a surrogate in UTF-8
        b'"\\ud800"',
        b'{"\\udfff": 1}',
        b'["\\ud800\\ud800"]',
        b"\xef\xbb\xbf{}",  # a byte order mark
        "{}".encode("utf-16"),
        "{}".encode("utf-32-le"),
        b"[" * 200_000,
        b"[" * 200_000 + b"]" * 200_000,
        b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
        b'"\x00"',
        b"\x00",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    if sys.version_info < (3, 10, 7) and body.startswith(b"99"):
        pytest.skip("numbers of any length are read")
    assert refused(body, BASE) == "the body is no JSON"


def test_a_pair_of_surrogates_is_a_character() -> None:
    assert event_of(b'"\\ud83d\\ude00"', BASE).data == "\N{GRINNING FACE}"
    assert event_of(b'"\\\\ud800"', BASE).data == "\\ud800"


@given(st.dictionaries(st.text(), ANYTHING) | ANYTHING, st.data())
def test_nothing_but_a_refusal_comes_out_of_any_json_and_any_headers(
    content: Any, data: st.DataObject
) -> None:
    names = st.sampled_from([name for name in HEADERS if not name.startswith("webhook-")])
    values = st.text() | st.sampled_from([*FORMATS, "application/cloudevents+json", "9" * 30])
    headers = BASE | data.draw(st.dictionaries(names, values))
    if isinstance(content, dict):
        keys = st.sampled_from(["id", "type", "timestamp", "sequence", "data", "previous", "hook"])
        more = st.sampled_from(["specversion", "source", "time", "data_base64"])
        content = {**content, **data.draw(st.dictionaries(keys | more, ANYTHING))}
    try:
        event = event_of(json.dumps(content).encode(), headers)
    except HookRefused:
        return
    assert isinstance(event.type, str) and isinstance(event.timestamp, dt.datetime)
    assert event.timestamp.utcoffset() == dt.timedelta(0)
    assert event.sequence is None or type(event.sequence) is int
    assert event.previous is None or type(event.previous) is dict


@given(st.binary())
@example(b"\xff\xfe")
def test_nothing_but_a_refusal_comes_out_of_any_bytes(body: bytes) -> None:
    try:
        event_of(body, BASE)
    except HookRefused as refused:
        assert refused.reason == "the body is no JSON"


@given(st.datetimes(timezones=st.just(UTC)), st.integers(-1439, 1439))
def test_a_time_is_the_same_in_every_zone(moment: dt.datetime, minutes: int) -> None:
    zone = dt.timezone(dt.timedelta(minutes=minutes))
    try:
        text = moment.astimezone(zone).isoformat()
    except OverflowError:
        return
    assert read({"type": "x", "timestamp": text, "data": 0}).timestamp == moment


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-15T09:30:00Z", dt.datetime(2026, 1, 15, 9, 30, tzinfo=UTC)),
        ("2026-01-15t09:30:00z", dt.datetime(2026, 1, 15, 9, 30, tzinfo=UTC)),
        ("2026-01-15 09:30:00-02:30", dt.datetime(2026, 1, 15, 12, 0, tzinfo=UTC)),
        ("2026-01-15T09:30:00.1Z", dt.datetime(2026, 1, 15, 9, 30, 0, 100_000, UTC)),
        ("2026-01-15T09:30:00.1234567899Z", dt.datetime(2026, 1, 15, 9, 30, 0, 123_456, UTC)),
        ("2016-12-31T23:59:60Z", dt.datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("2026-01-15T09:30:00", None),
        ("2026-01-15T09:30Z", None),
        ("2026-1-15T09:30:00Z", None),
        ("2026-02-30T09:30:00Z", None),
        ("2026-01-15T24:30:00Z", None),
        ("2026-01-15T09:30:61Z", None),
        ("2026-01-15T09:30:00+24:00", None),
        ("2026-01-15T09:30:00+0100", None),
        ("2026-01-15T09:30:00.Z", None),
        ("2026-01-15T09:30:00Z\n", None),
        ("0000-01-15T09:30:00Z", None),
        ("0001-01-01T00:00:00+01:00", None),
        ("9999-12-31T23:59:59-01:00", None),
        ("\u0662026-01-15T09:30:00Z", None),
    ],
)
def test_times_are_those_of_rfc_3339(text: str, expected: dt.datetime | None) -> None:
    body, headers = sent("standard", {})
    content = {**json.loads(body), "timestamp": text}
    if expected is None:
        assert "RFC 3339" in refused(content, headers)
    else:
        assert event_of(json.dumps(content).encode(), headers).timestamp == expected


def test_an_attempt_beyond_the_calendar_is_refused() -> None:
    assert "9999" in refused({}, {**BASE, "webhook-timestamp": "999999999999"})


@pytest.mark.parametrize("value", ["", "-1", "+1", "01", " 1", "1 ", "1_0", "9" * 19, "x", "1,1"])
def test_a_sequence_in_a_header_is_a_number(value: str) -> None:
    headers = {**BASE, "x-hook-format": "bare", "x-hook-event": "x.y", "x-hook-sequence": value}
    if value == "9" * 19:  # more than 64 bits
        assert int(value) >= 2**63
    assert "sequence" in refused({}, headers)


def test_a_refusal_is_a_bad_request_and_quotes_nothing() -> None:
    error = HookRefused("the body is too long", 413)
    assert isinstance(error, BadRequest | SignatureError) and isinstance(error, RESTHooksError)
    assert isinstance(error, BadRequest) and isinstance(error, SignatureError)
    assert (error.code, error.reason) == (413, "the body is too long")
    assert (HookRefused("x").code, HookRefused.code) == (400, 400)
    assert "413" in str(error) and "the body is too long" in str(error)
    secret_text = "<script>evil</script>"
    content = {"id": ID, "type": secret_text * 50, "timestamp": secret_text, "data": 0}
    assert secret_text not in refused(content, BASE)
