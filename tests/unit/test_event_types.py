from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from flask_resthooks import event_types
from flask_resthooks.errors import ConfigurationError, RESTHooksError, UnknownEventType
from flask_resthooks.event_types import EventType, EventTypes, check_word, patterns_of, widest

WORDS = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,5}", fullmatch=True)
# Few words, so that patterns meet.
FEW = st.lists(st.sampled_from(["a", "b", "ab", "a-b"]), min_size=2, max_size=4).map(".".join)
NAMES = st.lists(WORDS, min_size=2, max_size=5).map(".".join)
PATTERNS = FEW.flatmap(lambda name: st.sampled_from(patterns_of(name)))

BAD_NAMES = [
    "",
    "contact",
    ".create",
    "contact.",
    "contact..create",
    "contact.*",
    "*",
    "Contact.create",
    "contact.Create",
    "contact create.x",
    "contact.create\n",
    "contact.cr\u00e9ate",
    "contact.\u0661",
    "-contact.create",
    "contact._create",
    "contact/create.x",
    "a." + "b" * 99,
]


def registered(*names: str) -> EventTypes:
    types = EventTypes()
    for name in names:
        types.add(EventType(name))
    return types


def covers(pattern: str, name: str) -> bool:
    """What a pattern means, said another way than the code says it."""
    if pattern == "*":
        return True
    if pattern.endswith(".*"):
        return name.startswith(pattern[:-1])
    return pattern == name


@given(st.lists(NAMES, max_size=8, unique=True))
def test_event_types_are_found_by_name_in_the_order_of_registration(names: list[str]) -> None:
    assume(all(len(name) <= event_types.MAX_LENGTH for name in names))
    types = EventTypes()
    added = [types.add(EventType(name, description=name.upper())) for name in names]
    assert list(types) == names
    assert len(types) == len(names)
    assert list(types.values()) == added
    for name in names:
        assert name in types
        assert types[name] == EventType(name, None, name.upper())


@pytest.mark.parametrize("name", [*BAD_NAMES, None, 7, b"contact.create", ["a.b"]])
def test_a_name_of_the_wrong_form_is_refused_with_the_rule(name: object) -> None:
    types = EventTypes()
    with pytest.raises(ConfigurationError, match=re.escape(repr(name))) as caught:
        types.add(EventType(name))  # type: ignore[arg-type]
    assert event_types.NAME_RULE in str(caught.value)
    assert len(types) == 0


def test_a_name_may_have_a_hundred_characters() -> None:
    name = "a." + "b" * 98
    assert registered(name)[name].name == name


def test_a_name_is_taken_once() -> None:
    types = EventTypes()
    first = types.add(EventType("contact.create", description="first"))
    with pytest.raises(ConfigurationError, match=r"'contact\.create' is registered already"):
        types.add(EventType("contact.create", description="second"))
    assert list(types.values()) == [first]


def test_an_unknown_event_type_is_named_with_those_that_exist() -> None:
    types = registered("contact.create", "invoice.paid")
    with pytest.raises(UnknownEventType) as caught:
        types["contact.creat"]
    assert str(caught.value) == (
        "there is no event type 'contact.creat'; known: contact.create, invoice.paid"
    )
    assert isinstance(caught.value, RESTHooksError)


def test_an_unknown_event_type_says_when_there_are_none() -> None:
    with pytest.raises(UnknownEventType, match="none are registered"):
        EventTypes()["contact.create"]


def test_event_types_are_a_mapping_whose_get_has_a_default() -> None:
    types = registered("contact.create")
    assert types.get("contact.create") == EventType("contact.create")
    assert types.get("contact.update") is None
    assert "contact.update" not in types
    assert 7 not in types


@given(WORDS)
def test_a_word_that_passes_can_begin_a_name(word: str) -> None:
    assert check_word(word) == word
    assert registered(f"{word}.create")


def test_a_resource_may_be_named_by_several_words() -> None:
    assert check_word("crm.contact") == "crm.contact"


@pytest.mark.parametrize("word", ["", "Contact", "a.", ".a", "a b", "a\n", "*", "é", None, 7])
def test_a_word_of_the_wrong_form_is_refused_by_name(word: object) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(f"{word!r} cannot be part")):
        check_word(word)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "patterns"),
    [
        ("contact.create", ["contact.create", "contact.*", "*"]),
        ("crm.contact.create", ["crm.contact.create", "crm.contact.*", "crm.*", "*"]),
    ],
)
def test_patterns_of_a_name_go_from_narrow_to_wide(name: str, patterns: list[str]) -> None:
    assert patterns_of(name) == patterns


@given(FEW, FEW)
def test_patterns_of_a_name_are_those_that_cover_it(name: str, other: str) -> None:
    mine = patterns_of(name)
    assert len(set(mine)) == len(mine)
    for pattern in {*mine, *patterns_of(other)}:
        assert (pattern in mine) == covers(pattern, name)


@given(st.lists(FEW, max_size=5, unique=True), PATTERNS)
def test_a_pattern_matches_when_it_covers_a_registered_name(names: list[str], pattern: str) -> None:
    expected = any(covers(pattern, name) for name in names)
    assert registered(*names).matches_any(pattern) == expected


@pytest.mark.parametrize(
    "pattern",
    ["", "cont*", "contact*", "*.create", "contact.create.*", "contact", "**", "contact.**", ".*"],
)
def test_what_is_no_pattern_matches_nothing(pattern: str) -> None:
    assert not registered("contact.create", "contact.update").matches_any(pattern)


@given(st.lists(PATTERNS, max_size=8), FEW)
def test_the_widest_patterns_cover_what_all_of_them_did_and_each_event_once(
    patterns: list[str], name: str
) -> None:
    kept = widest(patterns)
    covering = [pattern for pattern in kept if covers(pattern, name)]
    assert len(covering) == (1 if any(covers(pattern, name) for pattern in patterns) else 0)


@given(st.lists(PATTERNS, max_size=8))
def test_the_widest_patterns_keep_their_order_and_stay_what_they_are(patterns: list[str]) -> None:
    kept = widest(patterns)
    assert kept == [pattern for pattern in dict.fromkeys(patterns) if pattern in kept]
    assert widest(kept) == kept


def test_the_widest_patterns_of_an_example() -> None:
    given_ = ["contact.create", "contact.*", "invoice.paid", "contact.*", "crm.contact.*", "crm.*"]
    assert widest(given_) == ["contact.*", "invoice.paid", "crm.*"]
    assert widest([*given_, "*"]) == ["*"]
