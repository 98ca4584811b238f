from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import json
import math
import re
import time
import uuid
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from cloudevents.core.bindings import http as cloudevents
from cloudevents.v1 import http as older_cloudevents
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from flask_resthooks import formats, ids, signing
from flask_resthooks.errors import ConfigurationError
from flask_resthooks.formats import (
    BARE,
    CLOUDEVENTS,
    FULL,
    NAMES,
    PAYLOADS,
    RESTHOOKS,
    STANDARD,
    THIN,
    Event,
    Recipient,
    body,
    check_source,
    content_type,
    fitting_body,
    headers,
    rfc3339,
    shape_of,
    thin_data,
    to_json,
)

UTC = dt.timezone.utc
TEXTS = st.text(max_size=20)
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
OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda m: dt.timezone(dt.timedelta(minutes=m)))
MOMENTS = st.datetimes(
    dt.datetime(1, 1, 3), dt.datetime(9999, 12, 29), timezones=st.none() | OFFSETS
)
# Whatever a column or an app may hold: all of Unicode, lone surrogates included.
HOSTILE = st.text(st.characters(codec=None), max_size=20) | st.sampled_from(
    ['"', "\\", '","data":1,"x":"', "\0\n\r\x7f\x85\u2028", "\ud800", "\ufffe", "</script>", "{}"]
)
EVENTS = st.builds(
    Event,
    id=HOSTILE.filter(bool),
    type=HOSTILE.filter(bool),
    timestamp=MOMENTS,
    sequence=st.integers(0, 2**63 - 1),
    data=VALUES.map(to_json),
    previous=st.none() | VALUES.map(to_json),
    resource=st.none() | HOSTILE,
    url=st.none() | HOSTILE,
)
RECIPIENTS = st.builds(
    Recipient, HOSTILE, HOSTILE, format=st.sampled_from(NAMES), payload=st.sampled_from(PAYLOADS)
)
RFC_3339_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z")


class Colour(enum.Enum):
    RED = "red"


class Size(enum.IntEnum):
    LARGE = 3


class Mood(str, enum.Enum):
    GOOD = "good"


def event(data: Any = None, **changes: Any) -> Event:
    values: dict[str, Any] = {
        "id": "evt_1",
        "type": "contact.update",
        "timestamp": dt.datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC),
        "sequence": 42,
        "data": to_json(data),
    }
    return Event(**(values | changes))


def strictly(text: str | bytes) -> Any:
    """Parsed, with what is JavaScript rather than JSON refused, and keys that come twice."""

    def no_constants(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    return json.loads(text, parse_constant=no_constants, object_pairs_hook=once)


@given(VALUES)
def test_json_comes_back_as_it_went_in(value: Any) -> None:
    text = to_json(value)
    assert text.isascii()
    assert strictly(text) == value


def test_json_has_no_needless_spaces() -> None:
    assert to_json({"a": [1, 2], "b": {"c": None}}) == '{"a":[1,2],"b":{"c":null}}'


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("wrap", [lambda n: n, lambda n: [n], lambda n: {"a": {"b": n}}])
def test_numbers_that_json_has_not_are_refused(number: float, wrap: Any) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json(wrap(number))


def test_a_structure_that_contains_itself_is_refused() -> None:
    value: list[Any] = []
    value.append({"again": value})
    with pytest.raises(ValueError, match="Circular"):
        to_json(value)


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (dt.datetime(2024, 1, 2, 3, 4, 5), "2024-01-02T03:04:05Z"),
        (dt.datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=UTC), "2024-01-02T03:04:05.000006Z"),
        (
            dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=dt.timezone(dt.timedelta(hours=5))),
            "2024-01-01T22:04:05Z",
        ),
        (dt.date(2024, 1, 2), "2024-01-02"),
        (dt.time(3, 4, 5), "03:04:05"),
        (dt.timedelta(minutes=1, milliseconds=500), 60.5),
        (decimal.Decimal("10.10"), "10.10"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Colour.RED, "red"),
        (Size.LARGE, 3),
        (Mood.GOOD, "good"),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset({"b", "a"}), ["a", "b"]),
        ((1, 2), [1, 2]),
        ({Mood.GOOD: dt.date(2024, 1, 2)}, {"good": "2024-01-02"}),
        ({dt.date(2024, 1, 2)}, ["2024-01-02"]),
    ],
)
def test_what_json_has_no_word_for_is_put_plainly(value: Any, plain: Any) -> None:
    assert strictly(to_json(value)) == plain
    assert strictly(to_json({"deep": [value]})) == {"deep": [plain]}


@pytest.mark.parametrize("value", [b"bytes", object(), 1j, range(3), ValueError, {1, "a"}])
def test_what_has_no_place_in_json_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError):
        to_json({"deep": [value]})


def test_what_has_no_place_in_json_is_named() -> None:
    with pytest.raises(TypeError, match=r"a bytes \(b'x'\) has no place in JSON"):
        to_json([b"x"])


@given(MOMENTS)
def test_a_time_is_written_in_utc_and_read_back_the_same(moment: dt.datetime) -> None:
    text = rfc3339(moment)
    assert RFC_3339_UTC.fullmatch(text)
    read = dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
    assert read == (moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def test_a_naive_time_is_utc_wherever_the_machine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TZ", "XXX-05:45")
        time.tzset()
        text = rfc3339(dt.datetime(2024, 1, 2, 3, 4, 5))
    time.tzset()
    assert text == "2024-01-02T03:04:05Z"


@pytest.mark.parametrize(
    "moment",
    [
        dt.datetime.min.replace(tzinfo=dt.timezone(dt.timedelta(hours=1))),
        dt.datetime.max.replace(tzinfo=dt.timezone(dt.timedelta(hours=-1))),
    ],
)
def test_a_time_that_utc_has_no_year_for_is_refused(moment: dt.datetime) -> None:
    with pytest.raises(ValueError, match="outside of the years 1 to 9999"):
        to_json({"at": moment})


@given(VALUES, st.integers(0, 2**63 - 1), MOMENTS, TEXTS, TEXTS)
def test_a_body_says_what_happened(
    data: Any, sequence: int, moment: dt.datetime, id_: str, type_: str
) -> None:
    made = body(event(data, id=id_, type=type_, sequence=sequence, timestamp=moment))
    assert made.isascii()
    assert strictly(made) == {
        "id": id_,
        "type": type_,
        "timestamp": rfc3339(moment),
        "sequence": sequence,
        "data": data,
    }


@given(VALUES, VALUES)
def test_a_body_has_previous_only_when_the_event_has_even_if_it_is_null(
    data: Any, previous: Any
) -> None:
    with_previous = strictly(body(event(data, previous=to_json(previous))))
    assert with_previous.pop("previous") == previous
    assert with_previous == strictly(body(event(data)))
    assert "previous" not in with_previous


def test_a_body_is_in_the_order_of_the_standard() -> None:
    made = body(event({"name": "Zoë \u2028 \U0001f600"}, previous=to_json({"name": "Zoe"})))
    assert list(strictly(made)) == ["id", "type", "timestamp", "sequence", "data", "previous"]
    assert made.startswith(
        b'{"id":"evt_1","type":"contact.update","timestamp":"2024-05-06T07:08:09Z",'
        b'"sequence":42,"data":{"name":"Zo\\u00eb \\u2028 \\ud83d\\ude00"}'
    )


# The formats.


@given(EVENTS, HOSTILE, HOSTILE)
def test_every_format_is_json_that_says_what_was_put_in(
    sent: Event, subscription_id: str, target_url: str
) -> None:
    made = {
        name: strictly(body(sent, Recipient(subscription_id, target_url, name))) for name in NAMES
    }
    data = json.loads(sent.data)
    previous = {} if sent.previous is None else {"previous": json.loads(sent.previous)}
    time_ = rfc3339(sent.timestamp)
    assert made[STANDARD] == {
        "id": sent.id,
        "type": sent.type,
        "timestamp": time_,
        "sequence": sent.sequence,
        "data": data,
        **previous,
    }
    assert made[RESTHOOKS] == {
        "hook": {
            "id": subscription_id,
            "event": sent.type,
            "target": target_url,
            "event_id": sent.id,
            "timestamp": time_,
            "sequence": sent.sequence,
        },
        "data": data,
        **previous,
    }
    assert made[BARE] == data
    event = made[CLOUDEVENTS]
    assert bool(event.pop("subject", None)) == bool(sent.resource)
    assert json.loads(event.pop("previous", "{}")) == previous.get("previous", {})
    assert event == {
        "specversion": "1.0",
        "id": sent.id,
        "source": "/",
        "type": sent.type,
        "time": time_,
        "datacontenttype": "application/json",
        "sequence": f"{sent.sequence:020d}",
        "data": data,
    }


@given(EVENTS, RECIPIENTS)
def test_a_body_is_one_line_of_ascii(sent: Event, recipient: Recipient) -> None:
    made = body(sent, recipient)
    assert made.isascii()
    assert len(made.splitlines()) == 1


@given(EVENTS, st.sampled_from(NAMES), HOSTILE, HOSTILE)
def test_a_thin_body_says_where_to_look_and_nothing_of_what_is_there(
    sent: Event, name: str, subscription_id: str, target_url: str
) -> None:
    recipient = Recipient(subscription_id, target_url, name, THIN)
    thin = strictly(body(sent, recipient))
    told = {"resource": sent.resource, "url": sent.url}
    assert strictly(thin_data(sent)) == told
    assert (thin if name == BARE else thin["data"]) == told
    assert name == BARE or "previous" not in thin
    other = dataclasses.replace(sent, data='{"secret":1}', previous='{"secret":0}')
    assert body(other, recipient) == body(sent, recipient)


def test_without_a_recipient_a_body_is_standard_and_full() -> None:
    sent = event({"name": "Ada"}, previous=to_json({"name": "Eva"}), resource="contact:17")
    assert (
        body(sent)
        == body(sent, Recipient("sub_1", "https://example.com"))
        == strictly_same(
            b'{"id":"evt_1","type":"contact.update","timestamp":"2024-05-06T07:08:09Z",'
            b'"sequence":42,"data":{"name":"Ada"},"previous":{"name":"Eva"}}'
        )
    )


def strictly_same(text: bytes) -> bytes:
    assert strictly(text)
    return text


@given(EVENTS, RECIPIENTS, RECIPIENTS, st.sampled_from(["/", "https://app.example.com"]))
def test_recipients_of_one_shape_get_the_same_bytes(
    sent: Event, one: Recipient, other: Recipient, source: str
) -> None:
    if shape_of(one) == shape_of(other):
        assert body(sent, one, source=source) == body(sent, other, source=source)
    assert shape_of(one) == shape_of(dataclasses.replace(one))
    assert hash(shape_of(one)) == hash(shape_of(dataclasses.replace(one)))


@pytest.mark.parametrize("payload", PAYLOADS)
def test_only_the_format_of_rest_hooks_is_made_for_each_subscription(payload: str) -> None:
    for name in NAMES:
        shapes = {
            shape_of(Recipient(f"sub_{number}", f"https://{number}.example.com", name, payload))
            for number in range(10)
        }
        assert len(shapes) == (10 if name == RESTHOOKS else 1)
    shapes = {shape_of(Recipient("s", "u", name, kind)) for name in NAMES for kind in PAYLOADS}
    assert len(shapes) == len(NAMES) * len(PAYLOADS)


def test_nothing_is_parsed_to_make_a_body(monkeypatch: pytest.MonkeyPatch) -> None:
    def loads(*_: Any, **__: Any) -> None:
        raise AssertionError("parsed")

    sent = event({"a": 1}, previous="{}", resource="contact:17", url="/contacts/17")
    with monkeypatch.context() as patch:
        patch.setattr(json, "loads", loads)
        for name in NAMES:
            for payload in PAYLOADS:
                assert body(sent, Recipient("s", "u", name, payload))


@pytest.mark.parametrize(
    "recipient",
    [Recipient("s", "u", "xml"), Recipient("s", "u", ""), Recipient("s", "u", STANDARD, "fat")],
)
def test_what_nobody_knows_how_to_make_is_not_made(recipient: Recipient) -> None:
    with pytest.raises(ValueError, match=r"there is no (format|payload).*known: "):
        body(event(), recipient)


def test_the_names_are_those_that_the_api_offers() -> None:
    assert NAMES == ("standard", "resthooks", "bare", "cloudevents")
    assert PAYLOADS == (FULL, THIN) == ("full", "thin")


# Long ones.


@pytest.mark.parametrize("name", NAMES)
@given(sent=EVENTS, subscription_id=HOSTILE, target_url=HOSTILE, more=st.integers(-2, 2))
def test_a_body_is_thin_if_it_would_be_longer_than_the_limit_and_only_then(
    name: str, sent: Event, subscription_id: str, target_url: str, more: int
) -> None:
    recipient = Recipient(subscription_id, target_url, name)
    full = body(sent, recipient)
    made = fitting_body(sent, recipient, limit=len(full) + more)
    if more >= 0:
        assert (made.content, made.payload) == (full, FULL)
    else:
        assert made.payload == THIN
        thin = [
            body(dataclasses.replace(sent, url=url), dataclasses.replace(recipient, payload=THIN))
            for url in (sent.url, None)
        ]
        assert made.content == (thin[0] if len(thin[0]) <= len(full) + more else thin[1])


MARKS: dict[str, Any] = {
    STANDARD: lambda content: content.get("payload"),
    RESTHOOKS: lambda content: content["hook"].get("payload"),
    CLOUDEVENTS: lambda content: content.get("payload"),
    BARE: lambda content: None,
}


@pytest.mark.parametrize("name", NAMES)
def test_a_thin_body_is_marked_as_far_as_its_format_has_room_and_a_full_one_never(
    name: str,
) -> None:
    sent = event({"note": "x" * 2000}, resource="contact:17", url="https://app.example.com/17")
    told = {"resource": "contact:17", "url": "https://app.example.com/17"}
    for limit, payload in ((262_144, FULL), (1024, THIN)):
        made = fitting_body(sent, Recipient("s", "u", name), limit=limit)
        content = strictly(made.content)
        assert made.payload == payload
        data = content if name == BARE else content["data"]
        assert data == (told if payload == THIN else {"note": "x" * 2000})
        assert MARKS[name](content) == (None if payload == FULL or name == BARE else THIN)
        head = made_headers(sent, made.content, [signing.new_secret()], payload=made.payload)
        assert head.get("x-hook-payload") == (THIN if payload == THIN else None)


@pytest.mark.parametrize("name", NAMES)
def test_an_event_that_is_kept_thin_is_marked_whoever_it_goes_to(name: str) -> None:
    sent = event(resource="contact:17", url="/contacts/17")
    sent = dataclasses.replace(sent, data=thin_data(sent))
    full, thin = (Recipient("s", "u", name, payload) for payload in PAYLOADS)
    made = fitting_body(sent, full, limit=1024)
    assert (made.content, made.payload) == (body(sent, thin), THIN)


@pytest.mark.parametrize("name", NAMES)
def test_a_thin_body_is_bounded_whatever_its_url_and_never_refused(name: str) -> None:
    sent = event(
        "x" * 5000, url="https://app.example.com/" + "x" * 100_000, resource="\U0001f600" * 255
    )
    made = fitting_body(sent, Recipient("s" * 36, "u" * 2048, name), limit=1024)
    content = strictly(made.content)
    assert (content if name == BARE else content["data"]) == {
        "resource": "\U0001f600" * 255,
        "url": None,
    }
    assert len(made.content) < 10_000


def test_of_what_is_too_long_no_full_body_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = dataclasses.replace(event(), data="[" + "1," * 1_000_000 + "1]")
    longest = 0

    def watched(event: Event, recipient: Recipient, source: str) -> str:
        nonlocal longest
        longest = max(longest, len(event.data))
        return event.data

    with monkeypatch.context() as patch:
        patch.setitem(formats._BODIES, BARE, watched)  # type: ignore[index]
        fitting_body(sent, Recipient("s", "u", BARE), limit=262_144)
    assert 0 < longest < 1000


# CloudEvents.


# CloudEvents 1.0, "Type System": what no attribute may hold.
NONCHARACTERS = [chr(plane * 0x10000 + last) for plane in range(17) for last in (0xFFFE, 0xFFFF)]
DISALLOWED = re.compile(f"[\0-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef{''.join(NONCHARACTERS)}]")
ORDINARY = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cn"]), max_size=20)


def for_cloudevents(**changes: Any) -> Any:
    return Recipient("sub_1", "https://example.com", CLOUDEVENTS, **changes)


@given(EVENTS, st.sampled_from(PAYLOADS))
def test_attributes_are_texts_that_cloudevents_allows(sent: Event, payload: str) -> None:
    sent = dataclasses.replace(sent, id="evt_1", type="contact.update")
    made = strictly(body(sent, for_cloudevents(payload=payload)))
    del made["data"]
    for name, value in made.items():
        assert re.fullmatch("[a-z0-9]{1,20}", name)
        assert isinstance(value, str) and value
        assert not DISALLOWED.search(value), (name, value)


def test_a_previous_value_that_cloudevents_allows_in_no_text_is_told_as_an_escape() -> None:
    made = strictly(body(event(previous=to_json({"\x7f": "\0\x85"})), for_cloudevents()))
    assert made["previous"] == '{"\\u007f":"\\u0000\\u0085"}'
    assert strictly(made["previous"]) == {"\x7f": "\0\x85"}


@given(VALUES, VALUES | st.just("\x7f"), ORDINARY)
def test_both_interfaces_of_the_sdk_read_a_cloudevent(
    data: Any, previous: Any, resource: str
) -> None:
    sent = event(data, previous=to_json(previous), resource=resource, id=ids.new("evt"))
    content = body(sent, for_cloudevents(), source="https://app.example.com/api")
    head = headers(
        sent,
        content,
        signers=[signing.signer(signing.new_secret())],
        timestamp=1,
        user_agent="flask-resthooks/1",
        format=CLOUDEVENTS,
    )
    read = cloudevents.from_http_event(cloudevents.HTTPMessage(headers=head, body=content))
    assert read.get_specversion() == "1.0"
    assert read.get_id() == sent.id
    assert read.get_type() == "contact.update"
    assert read.get_source() == "https://app.example.com/api"
    assert read.get_time() == sent.timestamp
    assert read.get_datacontenttype() == "application/json"
    assert read.get_subject() == (resource or None)
    assert int(read.get_extension("sequence")) == 42
    assert json.loads(read.get_extension("previous")) == previous
    assert read.get_data() == data
    older = older_cloudevents.from_http(head, content)
    assert older.get_attributes().keys() == read.get_attributes().keys()
    assert older["id"] == sent.id
    assert older["source"] == "https://app.example.com/api"
    assert older["previous"] == read.get_extension("previous")
    assert older.data == data or not data  # it takes what is empty for nothing


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_sequences_are_in_order_as_texts(one: int, other: int) -> None:
    """CloudEvents' extension `sequence`: compared as texts, the lower one comes first."""
    texts = [
        strictly(body(event(sequence=sequence), for_cloudevents()))["sequence"]
        for sequence in (one, other)
    ]
    assert (texts[0] < texts[1]) == (one < other)
    assert (texts[0] == texts[1]) == (one == other)
    assert [int(text) for text in texts] == [one, other]


@given(HOSTILE | st.text([*NONCHARACTERS, "a", "\ufdd0"], max_size=5))
def test_a_subject_is_the_resource_as_far_as_it_is_text(resource: str) -> None:
    made = strictly(body(event(resource=resource), for_cloudevents()))
    assert made.get("subject", "") == DISALLOWED.sub("\ufffd", resource)
    assert ("subject" in made) == bool(resource)


SOURCES = [
    "/",
    "/api/v1",
    "shop",
    "1-555-123-4567",
    "https://app.example.com",
    "https://app.example.com/api/v1",
    "https://user@app.example.com:8443/api?tenant=1#part",
    "http://[::1]:5000/x",
    "//app.example.com",
    "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66",
    "mailto:hooks@example.com",
    "a/b:c",
    "?x",
    "#x",
    "https:",
    "/sch%C3%B6n/(a);b=c,d'!*&$+~",
]


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_is_shown_as_it_was_given(source: str) -> None:
    assert check_source(source) == source
    assert strictly(body(event(), for_cloudevents(), source=source))["source"] == source


@pytest.mark.parametrize(
    "source",
    [
        *("", " ", "/a b", "a b", "1:b", "a_b:c", ":", "://", ":a", "/ä", "/%", "/%4", "/%zz"),
        *('"', "<x>", "/a\\b", "/a|b", "/{x}", "/^", "/`", "/a\n", "\n", "/a\0", "https://a b"),
        *("http://a:b/", "http://a@b@c", "http://[::1", "http://::1]", "/a#b#c", "/[x]", "\ud800"),
        *(None, 1, b"/", ["/"]),
    ],
)
def test_a_source_that_is_no_uri_reference_is_refused(source: Any) -> None:
    with pytest.raises(ConfigurationError, match="must be a URI or a path"):
        check_source(source)
    if isinstance(source, str):
        with pytest.raises(ConfigurationError):
            body(event(), for_cloudevents(), source=source)


@given(st.text('ab1:/?#@%20+-._~!é \n"<', max_size=12))
def test_what_a_validator_of_json_schema_refuses_is_refused(source: str) -> None:
    if not URI_REFERENCE.is_valid(source):
        with pytest.raises(ConfigurationError):
            check_source(source)


URI_REFERENCE = jsonschema_rs.Draft202012Validator(
    {"type": "string", "format": "uri-reference"}, validate_formats=True
)


def test_a_long_source_is_judged_at_once() -> None:
    begin = time.perf_counter()
    for source in ("/a" * 50_000 + " ", "//" + "a:" * 50_000 + " ", "a" * 100_000 + "\n"):
        with pytest.raises(ConfigurationError):
            check_source(source)
    assert time.perf_counter() - begin < 5


# Headers.


def made_headers(
    sent: Event, content: bytes, secrets: list[str], format: str = STANDARD, **more: Any
) -> dict[str, str]:
    return headers(
        sent,
        content,
        signers=[signing.signer(secret) for secret in secrets],
        timestamp=1_700_000_000,
        user_agent="flask-resthooks/1",
        format=format,
        **more,
    )


@given(VALUES, st.integers(0, 2**33), st.sampled_from(NAMES))
def test_headers_are_those_that_are_promised_and_sign_this_attempt(
    data: Any, timestamp: int, name: str
) -> None:
    sent = event(data, id=ids.new("evt"))
    secret = signing.new_secret()
    content = body(sent, Recipient("sub_1", "https://example.com", name))
    made = headers(
        sent,
        content,
        signers=[signing.signer(secret)],
        timestamp=timestamp,
        user_agent="flask-resthooks/1",
        format=name,
    )
    assert {name: made[name] for name in made if "signature" not in name} == {
        "content-type": content_type(name),
        "webhook-id": sent.id,
        "webhook-timestamp": str(timestamp),
        "x-hook-event": "contact.update",
        "x-hook-sequence": "42",
        "x-hook-format": name,
        "user-agent": "flask-resthooks/1",
    }
    assert made["x-hook-signature"] == signing.hook_signature(signing.key_of(secret), content)
    signing.verify(secret, made, content, now=timestamp)
    assert {name for name in made if "signature" in name} == {
        "webhook-signature",
        "x-hook-signature",
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_library_verifies_every_format(name: str) -> None:
    sent, secret = event({"name": "Zoë"}, id=ids.new("evt")), signing.new_secret()
    content = body(sent, Recipient("sub_1", "https://example.com", name))
    head = headers(
        sent,
        content,
        signers=[signing.signer(secret)],
        timestamp=int(time.time()),
        user_agent="flask-resthooks/1",
        format=name,
    )
    assert Webhook(secret).verify(content, head) == strictly(content)


def test_each_secret_signs_in_its_turn_and_the_first_one_makes_the_plain_signature() -> None:
    sent, content = event(), b"{}"
    secrets = [signing.new_secret() for _ in range(3)]
    made = made_headers(sent, content, secrets)
    alone = [made_headers(sent, content, [secret]) for secret in secrets]
    given = made["webhook-signature"].split(" ")
    assert given == [one["webhook-signature"] for one in alone]
    assert made["x-hook-signature"] == alone[0]["x-hook-signature"]


def test_a_signature_that_has_no_plain_form_leaves_that_to_the_next_or_out() -> None:
    pytest.importorskip("cryptography")
    sent, content = event(), b"{}"
    v1a, v1 = signing.new_secret("v1a"), signing.new_secret()
    assert "x-hook-signature" not in made_headers(sent, content, [v1a])
    both = made_headers(sent, content, [v1a, v1])
    assert both["x-hook-signature"] == made_headers(sent, content, [v1])["x-hook-signature"]
    assert [one[:3] for one in both["webhook-signature"].split(" ")] == ["v1a", "v1,"]


def test_nothing_is_sent_unsigned() -> None:
    with pytest.raises(ValueError, match="without a signature"):
        made_headers(event(), b"{}", [])


def test_a_format_that_there_is_not_has_no_headers() -> None:
    with pytest.raises(ValueError, match="there is no format 'xml'"):
        made_headers(event(), b"{}", [signing.new_secret()], format="xml")
    with pytest.raises(ValueError, match="there is no format 'xml'"):
        content_type("xml")


def test_content_types() -> None:
    assert {name: content_type(name) for name in NAMES} == {
        "standard": "application/json",
        "resthooks": "application/json",
        "bare": "application/json",
        "cloudevents": "application/cloudevents+json",
    }


@pytest.mark.parametrize(
    ("kind", "told"),
    [("event", None), ("ping", "ping"), ("handshake", "handshake"), ("notice", None)],
)
def test_only_tests_and_handshakes_say_that_they_are_one(kind: str, told: str | None) -> None:
    made = made_headers(event(kind=kind), b"{}", [signing.new_secret()])
    assert made.get("x-hook-test") == told


def test_a_subscriptions_own_headers_go_along() -> None:
    extra = {"Authorization": "Bearer x", "x-tenant": "7"}
    made = made_headers(event(), b"{}", [signing.new_secret()], extra=extra)
    assert (made["authorization"], made["x-tenant"]) == ("Bearer x", "7")


@pytest.mark.parametrize("kind", ["event", "ping"])
def test_a_subscriptions_own_headers_override_nothing_and_forge_nothing(kind: str) -> None:
    secret = signing.new_secret()
    plain = made_headers(event(kind=kind), b"{}", [secret])
    names = [*plain, "x-hook-test", "x-hook-secret", "webhook-new", "host", "content-length"]
    spellings = {
        spelling
        for name in names
        for spelling in (name, name.upper(), name.title(), name.replace("-", "_"))
    }
    extra = dict.fromkeys(spellings, "forged")
    assert made_headers(event(kind=kind), b"{}", [secret], extra=extra) == plain


def test_without_a_plain_signature_nobody_else_can_put_one() -> None:
    pytest.importorskip("cryptography")
    secret = signing.new_secret("v1a")
    extra = {"X-Hook-Signature": "forged"}
    assert "x-hook-signature" not in made_headers(event(), b"{}", [secret], extra=extra)


# What the page says.


def test_the_bodies_on_the_page_are_those_that_are_sent() -> None:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "choose-a-format.md"
    shown = {
        heading: [json.loads(text) for text in re.findall(r"```json\n(.*?)```", part, re.DOTALL)]
        for heading, part in re.findall(
            r"^## `?(\w+)`?.*?$(.*?)(?=^## |\Z)", page.read_text(), re.MULTILINE | re.DOTALL
        )
    }
    sent = Event(
        id="evt_019cd4a46b807c1de2f3a4b5c6d7e8f9",
        type="contact.update",
        timestamp=dt.datetime(2026, 3, 10, 6, 7, 8, 90000, tzinfo=UTC),
        sequence=1042,
        data=to_json({"id": 17, "name": "Ada Lovelace", "email": "ada@example.com"}),
        previous=to_json({"name": "Ada Byron"}),
        resource="contact:17",
        url="https://app.example.com/contacts/17",
    )
    subscription = ("sub_019cd4a40fa1b2c3d4e5f60718293a4b", "https://crm.example.com/hooks")
    source = "https://app.example.com/api/v1"
    for name in NAMES:
        [told] = shown[name]
        made = strictly(body(sent, Recipient(*subscription, name), source=source))
        assert told == made
        assert [*told] == [*made]
    [told] = shown["Thin"]
    assert told == strictly(body(sent, Recipient(*subscription, STANDARD, THIN)))
