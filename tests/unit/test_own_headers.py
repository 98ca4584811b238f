from __future__ import annotations

import json
import re
import traceback
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_resthooks import own_headers
from flask_resthooks.own_headers import WHOLE, check, dump, is_reserved, load
from flask_resthooks.transport import messages

TOKEN = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
VISIBLE = [chr(code) for code in range(256) if 0x21 <= code <= 0x7E or 0xA1 <= code != 0xAD]
NAMES = st.text(TOKEN, min_size=1, max_size=100).filter(lambda name: not is_reserved(name))
VALUES = st.text([*VISIBLE, " ", "\t"], min_size=1, max_size=60).filter(
    lambda value: not {value[0], value[-1]} & {" ", "\t"}
)
GOOD = st.lists(st.tuples(NAMES, VALUES), max_size=20, unique_by=lambda pair: pair[0].lower()).map(
    dict
)
ALL_OF_UNICODE = [chr(code) for code in range(0x110000)]


def test_what_receivers_ask_for_is_taken() -> None:
    headers = {
        "Authorization": "Bearer abc.def-ghi",
        "X-Api-Key": "s3cr3t",
        "Cookie": 'session="a b"; other=1',
        "Accept": "application/json",
        "X-Note": "Zoë\twas here",
        "X-Webhook-Id": "it begins with X",
        "Hostname": "it is not Host",
    }
    assert check(headers) == {}
    assert check({}) == {}


@given(GOOD)
def test_good_headers_are_good_and_kept(headers: dict[str, str]) -> None:
    assert check(headers) == {}
    assert load(dump(headers)) == headers
    assert [*load(dump(headers))] == [*headers]


@given(GOOD)
def test_good_headers_are_sent_as_they_are_and_as_one_line_each(headers: dict[str, str]) -> None:
    for name, value in headers.items():
        line = f"{name}: {value}\r\n".encode("latin-1")
        assert line.splitlines(keepends=True) == [line]
        assert messages.known_header(name)
        sent_name, _, sent_value = line.decode("latin-1").partition(":")
        assert (sent_name, sent_value.strip(" \t\r\n")) == (name, value)


@pytest.mark.parametrize("headers", [None, "a", 1, [], [["X-A", "b"]], True])
def test_what_is_no_object_is_refused_as_a_whole(headers: Any) -> None:
    assert [*check(headers)] == [WHOLE]


def test_there_may_be_twenty_and_no_more() -> None:
    twenty = {f"X-{number}": "x" for number in range(20)}
    assert check(twenty) == {}
    assert [*check({**twenty, "X-20": "x"})] == [WHOLE]
    assert [*check({f"X-{number}": "\n" for number in range(100_000)})] == [WHOLE]


def test_a_name_is_a_token_and_no_other_character_gets_into_it() -> None:
    for character in ALL_OF_UNICODE[:0x300] + ALL_OF_UNICODE[0xD7F0:0xE010]:
        for name in (character, f"x{character}", f"x{character}y", f"{character}y"):
            assert (check({name: "v"}) == {}) == (character in TOKEN), repr(name)
    assert check({"": "v"})
    assert check({"X-A\n": "v"}) and check({"X-A: b\r\nX-B": "v"}) and check({" X-A": "v"})


@pytest.mark.parametrize("name", [None, 1, b"X-A", ("X-A",)])
def test_a_name_that_is_no_string_is_refused(name: Any) -> None:
    assert check({name: "v"})


def test_a_name_has_100_characters_at_most() -> None:
    assert check({"x" * 100: "v"}) == {}
    assert [*check({"x" * 100: ""})] == ["x" * 100]
    wrong = check({"x" * 101: "v", "y" * 1_000_000: "v"})
    assert len(wrong) == 2
    assert all(len(name) == 101 and name.endswith("…") for name in wrong)


def test_a_value_has_visible_characters_and_no_other_gets_into_it() -> None:
    for character in ALL_OF_UNICODE[:0x300] + ALL_OF_UNICODE[0xD7F0:0xE010]:
        visible = character in VISIBLE
        for value in (character, f"v{character}", f"{character}v"):
            assert (check({"X-A": value}) == {}) == visible, repr(value)
        inside = check({"X-A": f"v{character}w"}) == {}
        assert inside == (visible or character in " \t"), repr(character)


@given(st.text(ALL_OF_UNICODE, max_size=30))
def test_whatever_is_accepted_cannot_leave_its_line(value: str) -> None:
    if check({"X-A": value}) == {}:
        assert value == value.strip() != ""
        assert not re.search(r"[\x00-\x08\x0a-\x1f\x7f-\xa0]", value)
        value.encode("latin-1")
    else:
        assert not re.fullmatch(r"[!-~]+([ \t]+[!-~]+)*", value)


def test_a_value_has_4096_characters_at_most() -> None:
    assert check({"X-A": "v" * 4096}) == {}
    assert check({"X-A": "v" * 4097})
    assert check({"X-A": "v" + " " * 4094 + "w"}) == {}


@pytest.mark.parametrize("value", [None, 1, 1.5, True, b"v", ["v"], {"v": "w"}])
def test_a_value_is_a_string(value: Any) -> None:
    assert check({"X-A": value}) == {"X-A": ["The value must be a string."]}


OURS = [
    *("webhook-id", "webhook-timestamp", "webhook-signature", "webhook-request-origin"),
    *("x-hook-event", "x-hook-signature", "x-hook-secret", "x-hook-sequence", "x-hook-format"),
    *("x-hook-test", "content-type", "content-encoding", "user-agent"),
]
OF_THE_CONNECTION = [
    *("host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer"),
    *("upgrade", "expect", "accept-encoding", "proxy-authorization", "proxy-connection", "via"),
]


@pytest.mark.parametrize("name", [*OURS, *OF_THE_CONNECTION, *sorted(messages.OWN_HEADERS)])
def test_what_is_ours_or_the_connections_is_refused_however_it_is_spelt(name: str) -> None:
    spellings = {name, name.upper(), name.title(), name.replace("-", "_"), name.replace("-", ".")}
    for spelling in spellings:
        assert is_reserved(spelling)
        assert [*check({spelling: "v"})] == [spelling]


@pytest.mark.parametrize("name", ["webhook", "x-hook", "hosts", "user-agent-x", "tea", "x-te", ""])
def test_what_only_resembles_that_is_not_reserved(name: str) -> None:
    assert not is_reserved(name)


def test_upper_and_lower_case_make_no_two_headers_of_one() -> None:
    wrong = check({"X-Token": "one", "x-token": "two", "X-Other": "three", "X-TOKEN": "four"})
    assert [*wrong] == ["x-token", "X-TOKEN"]


def test_all_that_is_wrong_is_told_at_once() -> None:
    wrong = check({"X-A": "ok", "Host": "h\n", "X B": 1, "X-C": " v"})
    assert [*wrong] == ["Host", "X B", "X-C"]
    assert [len(messages) for messages in wrong.values()] == [2, 2, 1]


@given(
    st.dictionaries(
        st.text(max_size=5) | st.sampled_from([*OURS, "X-A", "x" * 101]),
        st.sampled_from(["hunter2", "hunter2\n", " hunter2", "hunter2" * 999, "húnter2\0"]),
        max_size=25,
    )
)
def test_no_message_repeats_a_value(headers: dict[str, str]) -> None:
    assert "nter2" not in json.dumps(list(check(headers).values()))


def test_stored_headers_are_ascii_and_short() -> None:
    text = dump({"X-A": "Zoë", "Authorization": "Bearer x"})
    assert text == '{"X-A":"Zo\\u00eb","Authorization":"Bearer x"}'


@pytest.mark.parametrize(
    "text",
    ["", "hunter2", '{"X-A":"hunter2"', '["hunter2"]', '{"X-A":["hunter2"]}', '"hunter2"', "null"],
)
def test_stored_headers_that_are_none_are_an_error_that_tells_nothing_of_them(text: str) -> None:
    with pytest.raises(ValueError, match="not an object of strings") as raised:
        load(text)
    assert raised.value.__context__ is None
    assert type(raised.value) is ValueError
    assert "hunter2" not in "".join(traceback.format_exception_only(raised.value))


def test_the_limits_are_those_that_the_api_names() -> None:
    assert (own_headers.MAX_HEADERS, own_headers.MAX_NAME, own_headers.MAX_VALUE) == (20, 100, 4096)
