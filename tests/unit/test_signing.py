from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import json
import time

import pytest
import standardwebhooks
import svix.webhooks
from hypothesis import assume, example, given
from hypothesis import strategies as st

from flask_resthooks import signing
from flask_resthooks.errors import ConfigurationError, RESTHooksError, SignatureError
from flask_resthooks.signing import key_of, new_secret, signature, verify

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOW = 1_700_000_000
HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")

KEYS = st.binary(min_size=signing.MIN_BYTES, max_size=signing.MAX_BYTES)
# What a header can bring, and what it cannot: a receiver is not asked which framework it has.
ANYTHING = st.text(st.characters(exclude_categories=())) | st.text("0123456789.,- v1=")
BODIES = (
    st.dictionaries(st.text(), st.text() | st.integers() | st.none())
    .map(lambda value: json.dumps(value, ensure_ascii=False, default=str))
    .map(lambda text: text.encode("utf-8", "replace"))
)


def shown(key: bytes) -> str:
    return "whsec_" + base64.b64encode(key).decode()


def signed(body: bytes, *, secret: str = SECRET, at: int = NOW) -> dict[str, str]:
    return {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(at),
        "webhook-signature": signature(key_of(secret), "evt_1", at, body),
    }


def accepted(headers: dict[str, str], body: bytes, *, now: float = NOW) -> bool:
    """Whether `verify` lets it pass; a SignatureError is all that it may raise."""
    try:
        verify(SECRET, headers, body, now=now)
    except SignatureError:
        return False
    return True


def test_a_signature_is_that_of_the_published_example() -> None:
    """The vector that Standard Webhooks' libraries and Svix's manual show ("Verifying webhooks
    manually"): id msg_p5jXN8AQM9LWM0D4loKWxJek, 1614265330, the body {"test": 2432232314}.
    """
    made = signature(
        key_of(SECRET), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(KEYS, BODIES)
def test_what_is_signed_here_is_right_for_the_packages_that_receivers_use(
    key: bytes, body: bytes
) -> None:
    secret = shown(key)
    headers = signed(body, secret=secret, at=int(time.time()))
    assert standardwebhooks.Webhook(secret).verify(body, headers) == json.loads(body)
    svix.webhooks.Webhook(secret).verify(body, headers)
    with pytest.raises(svix.webhooks.WebhookVerificationError):
        svix.webhooks.Webhook(secret).verify(body + b" ", headers)


@given(KEYS, BODIES)
def test_what_the_packages_of_senders_sign_is_right_here(key: bytes, body: bytes) -> None:
    secret = shown(key)
    moment = dt.datetime.fromtimestamp(NOW, dt.timezone.utc)
    theirs = standardwebhooks.Webhook(secret).sign("evt_1", moment, body.decode())
    headers = {**signed(body, secret=secret), "webhook-signature": theirs}
    verify(secret, headers, body, now=NOW)


@given(KEYS, st.binary())
def test_the_hook_signature_is_the_hex_hmac_of_the_body_alone(key: bytes, body: bytes) -> None:
    assert signing.hook_signature(key, body) == hmac.new(key, body, hashlib.sha256).hexdigest()


def test_the_hook_signature_is_that_of_a_published_example() -> None:
    """RFC 4231, test case 1."""
    assert signing.hook_signature(b"\x0b" * 20, b"Hi There") == (
        "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
    )


@given(st.binary())
def test_what_was_signed_is_accepted(body: bytes) -> None:
    assert accepted(signed(body), body)


@given(st.binary(), st.binary())
def test_another_body_is_refused(body: bytes, other: bytes) -> None:
    assume(body != other)
    assert not accepted(signed(body), other)


@given(KEYS, st.binary())
def test_another_secret_is_refused(key: bytes, body: bytes) -> None:
    assume(shown(key) != SECRET)
    assert not accepted(signed(body, secret=shown(key)), body)


@pytest.mark.parametrize("name", HEADERS)
@given(value=ANYTHING)
@example(value="")
@example(value=" ")
@example(value="\ud800")
@example(value="\udcff")
@example(value="é")
@example(value="٣")
@example(value="²")
@example(value="1" * 5000)
@example(value="-1700000000")
@example(value="+1700000000")
@example(value="1700000000.0")
@example(value="1_700_000_000")
@example(value=" 1700000000")
@example(value="1700000000\n")
@example(value="1e9")
@example(value="nan")
@example(value="v1")
@example(value="v1,")
@example(value="v1,,")
@example(value=",")
@example(value="v1,====")
@example(value="v2,abc v1,\x00")
def test_a_header_of_anything_else_is_refused_and_nothing_but_a_signature_error_comes_out(
    name: str, value: str
) -> None:
    headers = signed(b"{}")
    assume(value.lstrip("0") != headers[name])  # zeros before a timestamp change nothing
    assert not accepted({**headers, name: value}, b"{}")


@given(st.dictionaries(st.sampled_from(HEADERS), ANYTHING), st.binary())
def test_headers_of_anything_are_refused(headers: dict[str, str], body: bytes) -> None:
    assert not accepted(headers, body)


@given(st.sampled_from(HEADERS), st.data())
def test_a_header_with_one_character_changed_is_refused(name: str, data: st.DataObject) -> None:
    headers = signed(b"{}")
    value = headers[name]
    place = data.draw(st.integers(0, len(value) - 1))
    character = data.draw(st.characters(exclude_categories=()))
    assume(character != value[place])
    assert not accepted({**headers, name: value[:place] + character + value[place + 1 :]}, b"{}")


@pytest.mark.parametrize("name", HEADERS)
def test_a_missing_header_is_named(name: str) -> None:
    headers = signed(b"{}")
    del headers[name]
    with pytest.raises(SignatureError, match=name):
        verify(SECRET, headers, b"{}", now=NOW)


@pytest.mark.parametrize("off", [-300.1, 300.1, -301, 301, -1e9, 1e9])
def test_a_timestamp_out_of_tolerance_is_refused(off: float) -> None:
    with pytest.raises(SignatureError, match="more than 300 seconds off"):
        verify(SECRET, signed(b"{}"), b"{}", now=NOW + off)


@given(st.floats(-300, 300))
def test_a_timestamp_within_tolerance_is_accepted(off: float) -> None:
    assert accepted(signed(b"{}"), b"{}", now=NOW + off)


def test_the_tolerance_can_be_set() -> None:
    verify(SECRET, signed(b"{}"), b"{}", now=NOW + 900, tolerance=900)
    with pytest.raises(SignatureError, match="more than 1 seconds off"):
        verify(SECRET, signed(b"{}"), b"{}", now=NOW + 2, tolerance=1)


@given(st.lists(st.from_regex(r"v1a?,[A-Za-z0-9+/=]{0,44}", fullmatch=True)), st.data())
def test_one_right_signature_among_others_is_enough(others: list[str], data: st.DataObject) -> None:
    """While a secret is rotated, a hook is signed with both."""
    headers = signed(b"{}")
    right = headers["webhook-signature"]
    assume(right not in others)
    assert not accepted({**headers, "webhook-signature": " ".join(others)}, b"{}")
    place = data.draw(st.integers(0, len(others)))
    several = [*others[:place], right, *others[place:]]
    assert accepted({**headers, "webhook-signature": " ".join(several)}, b"{}")


def test_a_signature_of_another_version_is_refused() -> None:
    headers = signed(b"{}")
    for version in ("v1a", "v2", "V1", ""):
        other = headers["webhook-signature"].replace("v1", version)
        assert not accepted({**headers, "webhook-signature": other}, b"{}")


def test_a_new_secret_has_32_random_bytes() -> None:
    secrets = {new_secret() for _ in range(200)}
    assert len(secrets) == 200
    assert {len(key_of(secret)) for secret in secrets} == {32}


@given(KEYS)
def test_the_key_is_what_the_secret_shows(key: bytes) -> None:
    assert key_of(shown(key)) == key


@given(st.binary(max_size=23) | st.binary(min_size=65, max_size=80))
def test_a_secret_of_too_few_or_too_many_bytes_is_refused_with_their_number(key: bytes) -> None:
    with pytest.raises(ConfigurationError, match=f"24 to 64 bytes in base64; .*{len(key)}$"):
        key_of(shown(key))


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "whsec_!" + "A" * 43,
        "whsec_é" + "A" * 43,
        "whsec_\ud800" + "A" * 43,
        "whsec_" + "A" * 45,
        "whsec_" + "A" * 44 + "\n",
        "WHSEC_" + "A" * 44,
        "A" * 44,
        " whsec_" + "A" * 44,
        "whsec_" + "_-" * 22,
    ],
)
def test_what_is_no_secret_is_refused_with_the_rule_and_not_shown(secret: str) -> None:
    with pytest.raises(ConfigurationError, match="a secret is 'whsec_' and 24 to 64 bytes") as e:
        key_of(secret)
    assert "AAAA" not in str(e.value)
    assert e.value.__cause__ is None


@given(st.text(st.characters(exclude_categories=())))
def test_no_text_makes_key_of_raise_anything_else(text: str) -> None:
    with pytest.raises(ConfigurationError):
        key_of("whsec_" + text[:20])


def test_signature_errors_are_ours() -> None:
    assert issubclass(SignatureError, RESTHooksError)
