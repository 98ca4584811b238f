from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

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
    assume(not any(name.startswith("resthooks.") for name in names))
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
    assume(word != event_types.RESERVED)
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


# What is ours.


@pytest.mark.parametrize("name", ["resthooks.ping", "resthooks.x", "resthooks.crm.contact.create"])
def test_the_names_of_what_is_built_in_cannot_be_taken(name: str) -> None:
    types = EventTypes()
    with pytest.raises(ConfigurationError, match="'resthooks' is reserved"):
        types.add(EventType(name))
    with pytest.raises(ConfigurationError, match="'resthooks' is reserved"):
        check_word(name.rpartition(".")[0])
    assert len(types) == 0


@pytest.mark.parametrize("name", ["resthooksx.create", "my.resthooks.create", "resthook.create"])
def test_names_that_only_look_like_it_can_be_taken(name: str) -> None:
    assert registered(name)
    assert check_word(name)


# Version and payload.


@pytest.mark.parametrize("version", ["", "x" * 21, 2, None, 1.0, b"1"])
def test_a_version_that_is_no_short_text_is_refused(version: Any) -> None:
    types = EventTypes()
    with pytest.raises(ConfigurationError, match=r"version of 'a\.b'.*1 to 20 characters"):
        types.add(EventType("a.b", version=version))
    assert len(types) == 0


@pytest.mark.parametrize("version", ["1", "2026-01-15", "v" * 20, "zwei"])
def test_a_version_is_free_text(version: str) -> None:
    assert EventTypes().add(EventType("a.b", version=version)).version == version


@pytest.mark.parametrize("payload", ["", "Full", "none", None, 7, ["full"]])
def test_an_unknown_payload_is_refused_with_those_that_there_are(payload: Any) -> None:
    with pytest.raises(ConfigurationError, match="allowed are 'full', 'thin'"):
        EventTypes().add(EventType("a.b", payload=payload))


def test_what_says_who_sees_it_must_be_callable() -> None:
    with pytest.raises(ConfigurationError, match=r"visible_to of 'a\.b'"):
        EventTypes().add(EventType("a.b", visible_to="acme"))  # type: ignore[arg-type]


def test_a_check_says_beforehand_whether_a_type_could_be_added_and_adds_nothing() -> None:
    types = registered("a.b")
    types.check(EventType("a.c"))
    for bad in (EventType("a.b"), EventType("A.b"), EventType("a.c", payload="x")):
        with pytest.raises(ConfigurationError):
            types.check(bad)
    assert list(types) == ["a.b"]


# Who sees it.


def of_acme(owner: str) -> bool:
    return owner == "acme"


def broken(owner: str) -> bool:
    raise RuntimeError(f"who is {owner}?")


@pytest.mark.parametrize(
    ("public", "visible_to", "restricted", "seen"),
    [
        (True, None, False, ["acme", "other"]),
        (True, of_acme, True, ["acme"]),
        (True, lambda owner: 1, True, ["acme", "other"]),
        (True, lambda owner: None, True, []),
        (True, broken, True, []),
        (False, None, True, []),
        (False, of_acme, True, []),
        (False, broken, True, []),
    ],
)
def test_a_type_is_seen_by_those_who_may(
    public: bool,
    visible_to: Callable[[str], bool] | None,
    restricted: bool,
    seen: list[str],
) -> None:
    event_type = EventType("a.b", public=public, visible_to=visible_to)
    assert event_type.restricted is restricted
    assert [owner for owner in ("acme", "other") if event_type.seen_by(owner)] == seen
    assert all(event_type.seen_by(owner) in (True, False) for owner in seen)


def test_a_question_that_fails_shows_nothing_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR):
        assert not EventType("a.b", visible_to=broken).seen_by("acme")
    assert "a.b" in caplog.text
    assert "who is acme?" in caplog.text


def test_who_sees_it_is_not_asked_of_a_type_that_is_not_public() -> None:
    asked: list[str] = []

    def ask(owner: str) -> bool:
        asked.append(owner)
        return True

    assert not EventType("a.b", public=False, visible_to=ask).seen_by("acme")
    assert asked == []


def some_hidden() -> EventTypes:
    types = EventTypes()
    types.add(EventType("contact.create"))
    types.add(EventType("contact.merge", visible_to=of_acme))
    types.add(EventType("audit.login", visible_to=of_acme))
    types.add(EventType("audit.secret", public=False))
    types.add(EventType("invoice.paid"))
    return types


@pytest.mark.parametrize(
    ("pattern", "owner", "names"),
    [
        ("*", None, ["contact.create", "contact.merge", "audit.login", "audit.secret"]),
        ("*", "acme", ["contact.create", "contact.merge", "audit.login"]),
        ("*", "other", ["contact.create"]),
        ("contact.*", "acme", ["contact.create", "contact.merge"]),
        ("contact.*", "other", ["contact.create"]),
        ("audit.*", "acme", ["audit.login"]),
        ("audit.*", "other", []),
        ("audit.login", "acme", ["audit.login"]),
        ("audit.login", "other", []),
        ("audit.secret", "acme", []),
        ("audit.secret", None, ["audit.secret"]),
        ("resthooks.*", None, []),
        ("resthooks.ping", "acme", []),
    ],
)
def test_patterns_match_what_the_owner_sees(
    pattern: str, owner: str | None, names: list[str]
) -> None:
    types = some_hidden()
    found = types.matching([pattern], owner)
    assert [name for name in found if name != "invoice.paid"] == names
    assert ("invoice.paid" in found) == (pattern == "*")
    assert types.matches_any(pattern, owner) == bool(found)


def test_several_patterns_match_a_type_once_in_the_order_of_registration() -> None:
    types = some_hidden()
    patterns = ["invoice.paid", "*", "contact.*", "contact.create", "nothing.*"]
    assert types.matching(patterns, "other") == ["contact.create", "invoice.paid"]
    assert types.matching([], "other") == []


@given(st.lists(FEW, max_size=5, unique=True), st.lists(PATTERNS, max_size=4))
def test_patterns_match_what_they_cover(names: list[str], patterns: list[str]) -> None:
    expected = [name for name in names if any(covers(pattern, name) for pattern in patterns)]
    assert registered(*names).matching(patterns) == expected


# Those that listen.


def test_a_listener_hears_of_the_types_of_now_and_of_later() -> None:
    types = registered("a.b")
    heard: list[str] = []
    types.listen(lambda event_type: heard.append(event_type.name))
    assert heard == ["a.b"]
    types.add(EventType("a.c"))
    with pytest.raises(ConfigurationError):
        types.add(EventType("a.c"))
    assert heard == ["a.b", "a.c"]
    others: list[str] = []
    types.listen(lambda event_type: others.append(event_type.name))
    types.add(EventType("a.d"))
    assert heard == others == ["a.b", "a.c", "a.d"]


def test_a_listener_can_look_the_type_up() -> None:
    types = EventTypes()
    seen: list[bool] = []
    types.listen(lambda event_type: seen.append(types[event_type.name] is event_type))
    types.add(EventType("a.b"))
    assert seen == [True]
