from __future__ import annotations

import datetime as dt
import decimal
import enum
import json
import math
import re
import time
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_resthooks import formats, ids, signing
from flask_resthooks.formats import Event, body, headers, rfc3339, to_json

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


@given(VALUES, st.integers(0, 2**33))
def test_headers_are_those_that_are_promised_and_sign_this_attempt(
    data: Any, timestamp: int
) -> None:
    sent = event(data, id=ids.new("evt"))
    secret = signing.new_secret()
    key, content = signing.key_of(secret), body(sent)
    made = headers(sent, content, key=key, timestamp=timestamp, user_agent="flask-resthooks/1")
    assert {name: made[name] for name in made if "signature" not in name} == {
        "content-type": "application/json",
        "webhook-id": sent.id,
        "webhook-timestamp": str(timestamp),
        "x-hook-event": "contact.update",
        "user-agent": "flask-resthooks/1",
    }
    assert made["x-hook-signature"] == signing.hook_signature(key, content)
    signing.verify(secret, made, content, now=timestamp)
    assert set(made) == {
        *("content-type", "user-agent", "webhook-id", "webhook-timestamp", "webhook-signature"),
        *("x-hook-event", "x-hook-signature"),
    }


def test_the_standard_format_and_the_full_payload_are_on_offer() -> None:
    assert formats.STANDARD in formats.NAMES
    assert "full" in formats.PAYLOADS
