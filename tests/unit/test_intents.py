from __future__ import annotations

import dataclasses
import hmac
import json
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import standardwebhooks
from hypothesis import example, given
from hypothesis import strategies as st

import flask_resthooks
from flask_resthooks import transport
from flask_resthooks.errors import ConfigurationError
from flask_resthooks.intents import (
    CloudEvents,
    Handshake,
    Intent,
    Intents,
    Opening,
    Ping,
    Verdict,
    XHookSecret,
    new_secret,
    same,
)

SECRET = "Zm9vYmFy-_Zm9vYmFyZm9vYmFyZm9vYmFyZm9vYmFyZg"
ORIGIN = "crm.example.com"
HANDSHAKE = Handshake("sub_1", "https://inbox.example/hooks", SECRET, ORIGIN)
BUILT_IN: dict[str, Intent] = {
    "x-hook-secret": XHookSecret(),
    "cloudevents": CloudEvents(),
    "ping": Ping(),
}
PAGE = Path(flask_resthooks.__file__).parents[1] / "docs" / "how-to" / "ask-for-intent.md"

# What a header can bring, and what it cannot: an app's own transport may keep it as it likes.
ANYTHING = st.text(st.characters(exclude_categories=()))
PIECES = st.sampled_from(
    [SECRET, ORIGIN, ORIGIN.upper(), "*", ",", " ", "\t", "0", "1", "120", "-1", "9" * 5000, "."]
)
VALUES = ANYTHING | st.lists(PIECES, max_size=5).map("".join)
HEADERS = st.dictionaries(
    st.sampled_from(sorted(transport.KEPT_HEADERS)) | ANYTHING, VALUES, max_size=8
)


def judge(intent: Intent, status: int = 200, **headers: str) -> Verdict:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return intent.judge(HANDSHAKE, status, named)


# Every strategy


@pytest.mark.parametrize("intent", BUILT_IN.values(), ids=BUILT_IN)
@given(
    handshake=st.builds(
        Handshake, ANYTHING, ANYTHING, st.just(SECRET) | ANYTHING, st.sampled_from([ORIGIN, ""])
    ),
    status=st.integers(200, 299),
    headers=HEADERS,
)
def test_a_verdict_is_sound_whatever_the_answer_is(
    intent: Intent, handshake: Handshake, status: int, headers: dict[str, str]
) -> None:
    verdict = intent.judge(handshake, status, headers)
    assert verdict.rate is None or 1 <= verdict.rate < 1e9
    if verdict.confirmed:
        assert verdict.waits is False
    else:
        assert verdict.rate is None
        assert verdict.reason and len(verdict.reason) < 800
        assert verdict.reason.isascii() and verdict.reason.isprintable()


@pytest.mark.parametrize("intent", BUILT_IN.values(), ids=BUILT_IN)
def test_an_opening_is_a_request_that_a_transport_makes(intent: Intent) -> None:
    opening = intent.opening(HANDSHAKE)
    request = transport.Request(HANDSHAKE.target_url, opening.headers, b"", method=opening.method)
    assert request.method in transport.METHODS
    assert all(name == name.lower() for name in opening.headers)
    assert opening.event_type.startswith("resthooks.")


def test_what_a_strategy_asks_for_is_what_a_transport_keeps() -> None:
    asked = {"x-hook-secret", "webhook-allowed-origin", "webhook-allowed-rate"}
    assert asked <= transport.KEPT_HEADERS


@pytest.mark.parametrize(
    "rate", [0, 0.0, -1, 1e-300, 1e9 + 1, float("inf"), float("-inf"), float("nan")]
)
def test_a_verdict_has_no_rate_that_is_none(rate: float) -> None:
    with pytest.raises(ValueError, match="requests per minute"):
        Verdict(True, rate=rate)


@pytest.mark.parametrize("rate", [None, 1 / 1440, 0.5, 1, 1e9])
def test_a_verdict_may_have_a_rate(rate: float | None) -> None:
    assert Verdict(True, rate=rate).rate == rate


def test_a_secret_does_not_show() -> None:
    for shown in (HANDSHAKE, XHookSecret().opening(HANDSHAKE)):
        assert SECRET not in repr(shown) + str(shown)
        assert dataclasses.is_dataclass(shown)


# x-hook-secret


def test_a_secret_is_sent_with_a_hook() -> None:
    assert XHookSecret().opening(HANDSHAKE) == Opening(
        method="POST",
        headers={"x-hook-secret": SECRET},
        body=True,
        event_type="resthooks.handshake",
    )


@pytest.mark.parametrize("value", [SECRET, f" {SECRET}\t"])
@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_a_secret_that_is_repeated_confirms(value: str, status: int) -> None:
    assert judge(XHookSecret(), status, x_hook_secret=value) == Verdict(True)


@pytest.mark.parametrize("headers", [{}, {"x_hook_secret": ""}, {"x_hook_secret": " \t "}])
def test_a_secret_that_is_not_repeated_can_follow(headers: dict[str, str]) -> None:
    verdict = judge(XHookSecret(), **headers)
    assert (verdict.confirmed, verdict.waits) == (False, True)
    assert verdict.reason


@pytest.mark.parametrize(
    "value",
    [
        SECRET[:-1],
        SECRET + "x",
        SECRET.upper(),
        SECRET.swapcase(),
        f"{SECRET}, {SECRET}",
        f"{SECRET},",
        f'"{SECRET}"',
        f"\xa0{SECRET}",
        f"{SECRET}\0",
        "x" * len(SECRET),
        "*",
        "ü",
        "\ud800",
        "None",
    ],
)
def test_another_secret_refuses(value: str) -> None:
    verdict = judge(XHookSecret(), x_hook_secret=value)
    assert (verdict.confirmed, verdict.waits) == (False, False)
    assert "X-Hook-Secret" in verdict.reason
    assert value not in verdict.reason or len(value) == 1


@given(ANYTHING)
def test_only_the_secret_confirms(value: str) -> None:
    confirmed = judge(XHookSecret(), x_hook_secret=value).confirmed
    assert confirmed == (value.strip(" \t") == SECRET)


def test_a_handshake_without_a_secret_cannot_be_confirmed() -> None:
    empty = Handshake("sub_1", "https://inbox.example/", "", ORIGIN)
    for headers in ({}, {"x-hook-secret": ""}, {"x-hook-secret": "x"}):
        assert not XHookSecret().judge(empty, 200, headers).confirmed


# cloudevents


def test_an_origin_is_asked_for_with_options() -> None:
    assert CloudEvents().opening(HANDSHAKE) == Opening(
        method="OPTIONS", headers={"webhook-request-origin": ORIGIN}, body=False
    )


def test_every_hook_names_the_origin_that_was_allowed() -> None:
    assert CloudEvents().hook_headers(ORIGIN) == CloudEvents().opening(HANDSHAKE).headers
    assert not hasattr(XHookSecret(), "hook_headers") and not hasattr(Ping(), "hook_headers")


def test_without_an_origin_nobody_can_be_asked() -> None:
    nameless = dataclasses.replace(HANDSHAKE, origin="")
    with pytest.raises(ConfigurationError, match="RESTHOOKS_ORIGIN"):
        CloudEvents().opening(nameless)
    for value in ("", " ", "x"):
        headers = {"webhook-allowed-origin": value, "webhook-allowed-rate": "*"}
        assert not CloudEvents().judge(nameless, 200, headers).confirmed


@pytest.mark.parametrize("origin", [ORIGIN, "*", f" {ORIGIN} ", "CRM.Example.COM", "\t*"])
@pytest.mark.parametrize(
    "rate, granted",
    [
        (None, None),
        ("", None),
        ("*", None),
        (" * ", None),
        ("1", 1.0),
        ("120", 120.0),
        (" 120\t", 120.0),
        ("0120", 120.0),
        ("0" * 5000 + "7", 7.0),
        ("999999999", 999999999.0),
        ("1000000000", None),
        ("9" * 5000, None),
    ],
)
def test_a_permission_is_honoured(origin: str, rate: str | None, granted: float | None) -> None:
    headers = {"webhook_allowed_origin": origin}
    if rate is not None:
        headers["webhook_allowed_rate"] = rate
    assert judge(CloudEvents(), 204, **headers) == Verdict(True, rate=granted)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"webhook_allowed_rate": "100"},
        {"webhook_allowed_rate": "*"},
        {"webhook_allowed_origin": ""},
        {"allow": "POST, OPTIONS"},
        {"access_control_allow_origin": "*"},
        {"webhook_request_origin": ORIGIN},
    ],
)
def test_an_answer_that_names_no_origin_is_a_refusal(headers: dict[str, str]) -> None:
    verdict = judge(CloudEvents(), **headers)
    assert (verdict.confirmed, verdict.waits) == (False, False)
    assert "no WebHook-Allowed-Origin" in verdict.reason


@pytest.mark.parametrize(
    "origin",
    [
        "example.com",
        f"evil.{ORIGIN}",
        f"{ORIGIN}.evil",
        f"{ORIGIN}.",
        f"https://{ORIGIN}",
        f"{ORIGIN}, other.example",
        f"{ORIGIN},{ORIGIN}",
        "*, *",
        "**",
        "*.example.com",
        "null",
        f"\xa0{ORIGIN}",
        "\u212arm.example.com",
        "crm.example.\uff43om",
        "\ud800",
        "x" * 60_000,
    ],
)
def test_the_permission_of_another_origin_is_a_refusal(origin: str) -> None:
    verdict = judge(CloudEvents(), webhook_allowed_origin=origin, webhook_allowed_rate="100")
    assert (verdict.confirmed, verdict.waits, verdict.rate) == (False, False, None)
    assert ORIGIN in verdict.reason
    assert verdict.reason.isascii() and verdict.reason.isprintable()
    assert len(verdict.reason) < 800


def test_a_letter_that_only_looks_like_ours_is_another_one() -> None:
    """The sign of the Kelvin has a `k` as its lower case, outside of ASCII."""
    handshake = dataclasses.replace(HANDSHAKE, origin="hooks.example")
    headers = {"webhook-allowed-origin": "hoo\u212as.example"}
    assert not CloudEvents().judge(handshake, 200, headers).confirmed


@pytest.mark.parametrize(
    "rate",
    [
        *("0", "00", "-1", "+1", "1.5", "1e3", "1_000", "1 000", "0x10", "120/m", "120, 120", "1,"),
        *("* *", "**", "none", "unlimited", "inf", "nan", "\u0663", "\xb2", "\uff11", "\ud800"),
        *("-" + "9" * 5000, "9" * 5000 + "x"),
    ],
)
@pytest.mark.parametrize("origin", [ORIGIN, "*"])
def test_a_rate_that_is_none_is_a_refusal(origin: str, rate: str) -> None:
    verdict = judge(CloudEvents(), webhook_allowed_origin=origin, webhook_allowed_rate=rate)
    assert (verdict.confirmed, verdict.waits, verdict.rate) == (False, False, None)
    assert "WebHook-Allowed-Rate" in verdict.reason
    assert verdict.reason.isascii() and len(verdict.reason) < 800


@given(st.integers(1, 10**30), VALUES)
def test_a_rate_is_a_whole_number_from_one(number: int, other: str) -> None:
    def of(rate: str) -> Verdict:
        return judge(CloudEvents(), webhook_allowed_origin="*", webhook_allowed_rate=rate)

    assert of(str(number)) == Verdict(True, rate=float(number) if number < 10**9 else None)
    text = other.strip(" \t")
    sound = text in ("", "*") or (re.fullmatch("[0-9]+", text) and text.strip("0"))
    assert of(other).confirmed == bool(sound)


# ping


def test_a_ping_is_a_hook() -> None:
    assert Ping().opening(HANDSHAKE) == Opening(body=True, event_type="resthooks.ping")


@given(st.integers(200, 299), HEADERS)
def test_a_ping_that_is_acknowledged_confirms(status: int, headers: dict[str, str]) -> None:
    assert Ping().judge(HANDSHAKE, status, headers) == Verdict(True)


# The registry


class Own:
    def opening(self, handshake: Handshake) -> Opening:
        return Opening()

    def judge(self, handshake: Handshake, status: int, headers: Mapping[str, str]) -> Verdict:
        return Verdict(True)


def test_three_strategies_are_built_in() -> None:
    intents = Intents()
    assert {name: type(intent) for name, intent in intents.items()} == {
        name: type(intent) for name, intent in BUILT_IN.items()
    }
    assert len(intents) == 3
    assert "none" not in intents and intents.get("none") is None
    with pytest.raises(KeyError):
        intents["none"]


@pytest.mark.parametrize("name", ["own", "o", "own-2", "2-own", "x" * 40, "none-", "nonesuch"])
def test_an_app_registers_its_own_for_itself(name: str) -> None:
    intents, others = Intents(), Intents()
    own = Own()
    assert intents.add(name, own) is own
    assert intents[name] is own
    assert [*intents] == [*BUILT_IN, name]
    assert name not in others


@pytest.mark.parametrize(
    "name",
    [
        *("", "Own", "own one", "own.one", "own_one", "-own", "own\n", "none", "none\n", "ünd"),
        *("\u0663", "x" * 41, None, 5, b"own", ("own",)),
    ],
)
def test_a_name_is_a_word_in_lower_case(name: Any) -> None:
    intents = Intents()
    with pytest.raises(ConfigurationError, match="cannot name an intent: a name is a word"):
        intents.add(name, Own())
    assert [*intents] == [*BUILT_IN]


@pytest.mark.parametrize("name", [*BUILT_IN, "own"])
def test_a_name_that_is_taken_stays_whose_it_is(name: str) -> None:
    intents = Intents()
    first = intents.add("own", Own()) if name == "own" else intents[name]
    with pytest.raises(ConfigurationError, match=f"'{name}' is registered already"):
        intents.add(name, Own())
    assert intents[name] is first


@pytest.mark.parametrize(
    "intent, wrong",
    [
        (None, "no method opening and no judge"),
        ("x-hook-secret", "no method opening and no judge"),
        (SimpleNamespace(opening=lambda handshake: Opening()), "no method judge"),
        (SimpleNamespace(opening=None, judge=lambda *_: Verdict(True)), "no method opening"),
        (Own, "must be an object, not the class of one"),
    ],
)
def test_what_is_no_strategy_is_refused(intent: Any, wrong: str) -> None:
    intents = Intents()
    with pytest.raises(ConfigurationError, match=wrong):
        intents.add("own", intent)
    assert "own" not in intents


# Secrets


def test_a_new_secret_is_fresh_and_fits_into_a_url_and_a_header() -> None:
    made = {new_secret() for _ in range(1000)}
    assert len(made) == 1000
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", secret) for secret in made)


@given(ANYTHING, ANYTHING)
@example("", "")
@example("ü", "ü")
@example("\ud800", "\ud800")
@example("\ud800", "?")
@example("\U0001f600", "\ud83d\ude00")
@example("u\u0308", "ü")
def test_only_an_equal_text_is_the_same(given: str, secret: str) -> None:
    assert same(given, secret) is (given == secret and secret != "")
    assert same(secret, secret) is bool(secret)


def test_secrets_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return False

    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert not same(SECRET, SECRET)
    assert not judge(XHookSecret(), x_hook_secret=SECRET).confirmed
    assert compared == [(SECRET.encode(), SECRET.encode())] * 2


# The page


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def run(text: str, **names: Any) -> dict[str, Any]:
    namespace = {"__name__": "fragment", **names}
    exec(compile(text, str(PAGE), "exec"), namespace)
    return namespace


@pytest.fixture
def receivers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The apps of the page that answer, by the name of their file."""
    monkeypatch.setenv("HOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    named = (re.match(r"# (\w+)\.py\n", text) for text in blocks("python"))
    return {match[1]: run(match.string) for match in named if match}


def test_the_page_shows_what_is_sent() -> None:
    [post, _, options, _] = [text.splitlines() for text in blocks("text")]
    for intent, shown in ((XHookSecret(), post), (CloudEvents(), options)):
        opening = intent.opening(HANDSHAKE)
        assert shown[0].split(" ")[0] == opening.method
        assert {line.partition(":")[0] for line in shown} >= opening.headers.keys()
    assert f"x-hook-event: {XHookSecret().opening(HANDSHAKE).event_type}" in post
    assert options[2:] == ["user-agent: flask-resthooks/…", f"webhook-request-origin: {ORIGIN}"]


def test_the_pages_receiver_repeats_the_secret_of_a_handshake_that_is_signed(
    receivers: dict[str, Any],
) -> None:
    echo = receivers["echo"]
    client, intent = echo["app"].test_client(), XHookSecret()
    body = json.dumps({"id": "evt_1", "type": "resthooks.handshake", "data": {}})
    now = datetime.now(timezone.utc)

    def ask(secret: str) -> Any:
        signed = {
            "webhook-id": "evt_1",
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": standardwebhooks.Webhook(secret).sign("evt_1", now, body),
        }
        return client.post(
            "/hooks", data=body, headers={**signed, **intent.opening(HANDSHAKE).headers}
        )

    answer = ask("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    kept = {name.lower(): value for name, value in answer.headers}
    assert intent.judge(HANDSHAKE, answer.status_code, kept) == Verdict(True)
    stranger = ask("whsec_" + "A" * 32)
    assert stranger.status_code == 400
    assert "X-Hook-Secret" not in stranger.headers


def test_the_pages_receiver_allows_its_sender_and_no_other(receivers: dict[str, Any]) -> None:
    client, intent = receivers["allow"]["app"].test_client(), CloudEvents()
    for origin, verdict in ((ORIGIN, Verdict(True, rate=120.0)), ("evil.example", None)):
        handshake = dataclasses.replace(HANDSHAKE, origin=origin)
        opening = intent.opening(handshake)
        answer = client.open("/hooks", method=opening.method, headers=dict(opening.headers))
        kept = {name.lower(): value for name, value in answer.headers}
        judged = intent.judge(handshake, answer.status_code, kept)
        assert judged == verdict or (verdict is None and not judged.confirmed)


def test_the_pages_own_strategy_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTNER_KEY", "between us")
    intents, app = Intents(), SimpleNamespace(config={})
    hooks = SimpleNamespace(intent=intents.add)
    names: dict[str, Any] = {}
    for text in blocks("python"):
        if not re.match(r"# \w+\.py\n", text):
            names |= run(text, app=app, hooks=hooks)
            assert app.config["RESTHOOKS_INTENT"] in intents
    own = intents["keyed-echo"]
    assert own.opening(HANDSHAKE).headers == {"x-hook-secret": SECRET}
    assert not own.judge(HANDSHAKE, 200, {"x-hook-secret": SECRET}).confirmed
    assert not own.judge(HANDSHAKE, 200, {}).confirmed
    right = names["hmac"].new(b"between us", SECRET.encode(), "sha256").hexdigest()
    assert own.judge(HANDSHAKE, 200, {"x-hook-secret": right}).confirmed


def test_the_page_has_every_strategy_and_every_header_that_is_kept() -> None:
    text = PAGE.read_text()
    assert re.findall(r"^\| `([a-z-]+)`", text, re.MULTILINE) == ["none", *Intents()]
    kept = text.partition("of the\n  answer only:")[2].partition(".")[0]
    assert re.findall(r"`([a-z-]+)`", kept) == sorted(transport.KEPT_HEADERS)
