from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import itertools
import json
import math
import subprocess
import sys
import time
from typing import Any

import pytest
import standardwebhooks
import svix.webhooks
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import assume, example, given
from hypothesis import strategies as st

from flask_resthooks import signing
from flask_resthooks.errors import ConfigurationError, RESTHooksError, SignatureError
from flask_resthooks.signing import (
    KINDS,
    V1,
    V1A,
    check_secret,
    check_secrets,
    key_of,
    matching_secrets,
    new_secret,
    shown_secret,
    signature,
    signatures,
    signer,
    verify,
)

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


SEEDS = st.binary(min_size=32, max_size=32)

# Vectors of v1a. The first is that of Svix's server (its manual, and its tests; the example in
# Standard Webhooks' specification has the same signature), the second that of a version of the
# JavaScript library with v1a (its tests; the seed is 32 times 0x01).
VECTORS = [
    (
        "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbf"
        "VKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==",
        "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=",
        "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5"
        "BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==",
    ),
    (
        "whsk_AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQG"
        "KiOPddAnxlf1S2y08ul1yymcJvx2UEhvzdIgBtA9vXA==",
        "whpk_iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w=",
        "v1a,Ykcu7AtGZGmZxFEH1Gaa2Nd7feY/CTuruoL4fqgnKwf"
        "bHU4DhemoVHZdvGfIvKvn4BIgwktLGGPGIr/i9nK7AA==",
    ),
]
VECTOR_MESSAGE = ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')


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
@example(value="01700000000")
@example(value="1700000000 ")
@example(value="\uff11\uff17" + "\uff10" * 8)
@example(value="\t1700000000")
@example(value="0x6553f100")
@example(value="evt_1,evt_1")
@example(value="evt.1")
@example(value="evt 1")
@example(value="evt_1\n")
@example(value="evt_1\x00")
@example(value="\u2147vt_1")
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
    assume(value != headers[name])
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


OTHERS = st.from_regex(r"v1a?,[A-Za-z0-9+/=]{0,44}", fullmatch=True)


@given(st.lists(OTHERS, max_size=signing.MAX_SIGNATURES - 1), st.data())
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


@pytest.mark.parametrize("count", [signing.MAX_SIGNATURES, 5000])
def test_of_very_many_signatures_the_first_are_looked_at(count: int) -> None:
    headers = signed(b"{}")
    right = headers["webhook-signature"]
    wrong = "v1," + "A" * 43 + "="
    assert accepted({**headers, "webhook-signature": " ".join([right] + [wrong] * count)}, b"{}")
    last = " ".join([wrong] * count + [right])
    assert not accepted({**headers, "webhook-signature": last}, b"{}")


def test_what_divides_the_signed_content_cannot_be_moved() -> None:
    """A body that begins with a number and a dot could else be split at another dot."""
    key = key_of(SECRET)
    body = b"1700000000.5"
    headers = {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(NOW),
        "webhook-signature": signature(key, "evt_1", NOW, body),
    }
    assert accepted(headers, body)
    assert not accepted({**headers, "webhook-id": f"evt_1.{NOW}"}, b"5")
    dotted = {**headers, "webhook-signature": signature(key, "evt.1", NOW, body)}
    with pytest.raises(SignatureError, match="none of them a dot"):
        verify(SECRET, {**dotted, "webhook-id": "evt.1"}, body, now=NOW)


@given(st.lists(st.sampled_from([*HEADERS, "x"]), min_size=1), st.data())
def test_headers_that_are_no_text_are_refused_as_missing(
    names: list[str], data: st.DataObject
) -> None:
    values = st.none() | st.binary() | st.integers() | st.lists(st.text(), max_size=2)
    headers: dict[str, Any] = signed(b"{}")
    headers |= {name: data.draw(values) for name in names if name != "x"}
    assume(headers != signed(b"{}"))
    assert not accepted(headers, b"{}")


@pytest.mark.parametrize("tolerance", [math.nan, -1.0])
def test_a_tolerance_that_is_none_tolerates_nothing(tolerance: float) -> None:
    with pytest.raises(SignatureError):
        verify(SECRET, signed(b"{}"), b"{}", now=NOW, tolerance=tolerance)
    with pytest.raises(SignatureError):
        verify(SECRET, signed(b"{}"), b"{}", now=math.nan)


# Several secrets.


def test_one_of_several_secrets_is_enough_and_it_is_told_which() -> None:
    others = [new_secret(), new_secret(V1A)]
    for several in itertools.permutations([SECRET, *others]):
        verify(several, signed(b"{}"), b"{}", now=NOW)
        assert matching_secrets(several, signed(b"{}"), b"{}", now=NOW) == (SECRET,)
        with pytest.raises(SignatureError):
            verify(several, signed(b"{}"), b"{} ", now=NOW)
    with pytest.raises(SignatureError):
        verify(others, signed(b"{}"), b"{}", now=NOW)


@given(st.lists(SEEDS, min_size=1, max_size=5, unique=True), st.data())
def test_each_signature_of_several_is_right_for_the_secret_that_made_it(
    seeds: list[bytes], data: st.DataObject
) -> None:
    secrets = [data.draw(st.sampled_from([shown(seed), private(seed)])) for seed in seeds]
    given_ = signatures(map(signer, secrets), "evt_1", NOW, b"{}")
    assert given_.split(" ") == [signer(secret).sign("evt_1", NOW, b"{}") for secret in secrets]
    headers = {**signed(b"{}"), "webhook-signature": given_}
    for secret in secrets:
        verify(shown_secret(secret), headers, b"{}", now=NOW)


@pytest.mark.parametrize("headers", [{}, signed(b"{}"), {"webhook-id": "\ud800"}])
@pytest.mark.parametrize(
    "secrets",
    [
        "",
        (),
        [],
        None,
        True,
        0,
        b"whsec_" + b"A" * 44,
        ["whsec_AAAA"],
        [SECRET, ""],
        [SECRET, None],
    ],
    ids=repr,
)
def test_a_bad_secret_of_ones_own_is_told_at_once(headers: dict[str, str], secrets: Any) -> None:
    with pytest.raises(ConfigurationError):
        verify(secrets, headers, b"{}", now=NOW)
    with pytest.raises(ConfigurationError):
        check_secrets(secrets)


# v1a.


def private(seed: bytes) -> str:
    public = ed25519.Ed25519PrivateKey.from_private_bytes(seed).public_key()
    return "whsk_" + base64.b64encode(seed + public.public_bytes_raw()).decode()


def asymmetric(body: bytes, secret: str) -> dict[str, str]:
    return {**signed(body), "webhook-signature": signer(secret).sign("evt_1", NOW, body)}


def is_genuine(secret: str, headers: dict[str, str], body: bytes) -> bool:
    try:
        verify(secret, headers, body, now=NOW)
    except SignatureError:
        return False
    return True


@pytest.mark.parametrize(("secret", "public", "expected"), VECTORS)
def test_v1a_is_as_the_published_vectors_have_it(secret: str, public: str, expected: str) -> None:
    message_id, timestamp, body = VECTOR_MESSAGE
    assert signer(secret).sign(message_id, timestamp, body) == expected
    assert shown_secret(secret) == public
    headers = {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": expected,
    }
    verify(public, headers, body, now=timestamp)
    seed_alone = "whsk_" + base64.b64encode(base64.b64decode(secret[5:])[:32]).decode()
    assert signer(seed_alone).sign(message_id, timestamp, body) == expected
    assert shown_secret(seed_alone) == public


@given(SEEDS, st.binary())
def test_v1a_is_ed25519_of_id_timestamp_and_body(seed: bytes, body: bytes) -> None:
    key = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
    content = b"evt_1.%d.%s" % (NOW, body)
    made = signer(private(seed)).sign("evt_1", NOW, body)
    assert made == "v1a," + base64.b64encode(key.sign(content)).decode()
    public = ed25519.Ed25519PublicKey.from_public_bytes(
        base64.b64decode(shown_secret(private(seed)).removeprefix("whpk_"))
    )
    public.verify(base64.b64decode(made.removeprefix("v1a,")), content)
    with pytest.raises(InvalidSignature):
        public.verify(base64.b64decode(made.removeprefix("v1a,")), content + b" ")


@given(SEEDS, SEEDS, st.binary(), st.binary())
def test_v1a_is_right_for_that_key_and_body_alone(
    seed: bytes, other: bytes, body: bytes, other_body: bytes
) -> None:
    assume(seed != other and body != other_body)
    headers = asymmetric(body, private(seed))
    for secret in (private(seed), shown_secret(private(seed))):
        assert is_genuine(secret, headers, body)
        assert not is_genuine(secret, headers, other_body)
    assert not is_genuine(shown_secret(private(other)), headers, body)
    assert not is_genuine(shown(seed), headers, body)


@given(st.sampled_from(HEADERS), st.data())
def test_a_header_of_v1a_with_one_character_changed_is_refused(
    name: str, data: st.DataObject
) -> None:
    secret = VECTORS[0][0]
    headers = asymmetric(b"{}", secret)
    value = headers[name]
    place = data.draw(st.integers(0, len(value) - 1))
    character = data.draw(st.characters(exclude_categories=()) | st.sampled_from("ABQgw+/=v1a,"))
    assume(character != value[place])
    changed = {**headers, name: value[:place] + character + value[place + 1 :]}
    assert not is_genuine(shown_secret(secret), changed, b"{}")


@given(ANYTHING | st.binary(max_size=70).map(lambda raw: "v1a," + base64.b64encode(raw).decode()))
@example("v1a,")
@example("v1a," + "A" * 86 + "==")
@example("v1a," + "A" * 86)
@example("v1a,====")
@example("v1a,\x00")
def test_another_v1a_signature_is_refused(value: str) -> None:
    secret = VECTORS[0][0]
    assert not is_genuine(
        shown_secret(secret), {**signed(b"{}"), "webhook-signature": value}, b"{}"
    )


def test_no_other_spelling_of_a_v1a_signature_is_right() -> None:
    """The last character of 86 has four bits to spare, and the scalar could have the order of the
    group added to it."""
    secret = VECTORS[0][0]
    headers = asymmetric(b"{}", secret)
    right = headers["webhook-signature"]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    raw = base64.b64decode(right[4:])
    order = 2**252 + 27742317777372353535851937790883648493
    scalar = (int.from_bytes(raw[32:], "little") + order).to_bytes(32, "little")
    spellings = [right[:-3] + character + "==" for character in alphabet]
    spellings += [right[:-2], right + "=", "v1," + right[4:], right.replace("v1a", "V1A")]
    spellings += ["v1a," + base64.b64encode(raw[:32] + scalar).decode()]
    spellings += ["v1a," + base64.urlsafe_b64encode(raw).decode(), "v1a,\n" + right[4:]]
    genuine = [
        value
        for value in set(spellings)
        if is_genuine(shown_secret(secret), {**headers, "webhook-signature": value}, b"{}")
    ]
    assert genuine == [right]


def test_the_hook_signature_of_a_signer_is_an_hmac_or_none() -> None:
    assert signer(SECRET).hook_signature(b"{}") == signing.hook_signature(key_of(SECRET), b"{}")
    assert signer(new_secret(V1A)).hook_signature(b"{}") is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_secret_is_one_and_no_two_are_the_same(kind: str) -> None:
    secrets = {new_secret(kind) for _ in range(50)}
    assert len(secrets) == 50
    for secret in secrets:
        check_secret(secret, kind)
        assert signer(secret).kind == kind
        headers = {**signed(b"{}"), "webhook-signature": signer(secret).sign("evt_1", NOW, b"{}")}
        verify(shown_secret(secret), headers, b"{}", now=NOW)
        with pytest.raises(ConfigurationError):
            check_secret(secret, V1A if kind == V1 else V1)


def test_what_is_shown_of_a_secret_is_what_a_receiver_needs() -> None:
    secret, asymmetric_secret = new_secret(), new_secret(V1A)
    assert shown_secret(secret) == secret
    public = shown_secret(asymmetric_secret)
    assert public.startswith("whpk_") and len(base64.b64decode(public[5:])) == 32
    assert shown_secret(public) == public
    for bad in ("", "whsec_AAAA", "whsk_AAAA", "whpk_AAAA", "nothing"):
        with pytest.raises(ConfigurationError):
            shown_secret(bad)


@pytest.mark.parametrize("kind", ["", "v2", "V1", None, 1, ["v1"]])
def test_there_are_no_other_kinds(kind: Any) -> None:
    with pytest.raises(ConfigurationError, match="'v1' or 'v1a'"):
        new_secret(kind)
    with pytest.raises(ConfigurationError, match="'v1' or 'v1a'"):
        check_secret(SECRET, kind)


def test_a_signer_shows_nothing_of_its_secret() -> None:
    for secret in (SECRET, VECTORS[0][0]):
        assert repr(signer(secret)) in ("Signer(kind='v1')", "Signer(kind='v1a')")
    assert signer(SECRET) != signer(new_secret())


def encoded(prefix: str, raw: bytes) -> str:
    return prefix + base64.b64encode(raw).decode()


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsk_",
        encoded("whsk_", b"\1" * 31),
        encoded("whsk_", b"\1" * 33),
        encoded("whsk_", b"\1" * 63),
        encoded("whsk_", b"\1" * 64),  # the public key of another
        VECTORS[0][0] + "=",
        VECTORS[0][0][:-1],
        VECTORS[0][0].replace("whsk_", "whsk1_"),
        VECTORS[0][1],
        SECRET,
        None,
        True,
        b"whsk_",
    ],
    ids=repr,
)
def test_what_is_no_private_key_is_refused_with_the_rule_and_not_shown(secret: Any) -> None:
    with pytest.raises(ConfigurationError, match="a secret is 'whsk_' and an ed25519") as e:
        check_secret(secret, V1A)
    assert "AQEB" not in str(e.value)
    assert e.value.__cause__ is None


def test_a_public_key_cannot_sign() -> None:
    with pytest.raises(ConfigurationError):
        signer(VECTORS[0][1])


P = 2**255 - 19
# y of the points of order 8.
Y8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
SMALL = [0, 1, P - 1, P, P + 1, Y8, P - Y8]


@pytest.mark.parametrize("y", SMALL)
@pytest.mark.parametrize("sign", [0, 1])
def test_a_public_key_that_anybody_can_sign_for_is_refused(y: int, sign: int) -> None:
    raw = (y | sign << 255).to_bytes(32, "little")
    with pytest.raises(ConfigurationError, match="anybody can sign"):
        check_secrets(encoded("whpk_", raw))


def test_the_points_that_are_refused_are_those_of_small_order() -> None:
    """Eight times such a point is the neutral one; checked by adding up (RFC 8032, 5.1.4)."""
    d = -121665 * pow(121666, -1, P) % P

    def double(point: tuple[int, int]) -> tuple[int, int]:
        x, y = point
        t = d * x * x * y * y % P
        return 2 * x * y * pow(1 + t, -1, P) % P, (y * y + x * x) * pow(1 - t, -1, P) % P

    def x_of(y: int) -> int:
        square = (y * y - 1) * pow(d * y * y + 1, -1, P) % P
        root = pow(square, (P + 3) // 8, P)
        root = root if root * root % P == square else root * pow(2, (P - 1) // 4, P) % P
        assert root * root % P == square
        return root

    for y in {y % P for y in SMALL}:
        point = (x_of(y), y)
        for _ in range(3):
            point = double(point)
        assert point == (0, 1)


@given(SEEDS)
def test_an_honest_public_key_is_not_refused(seed: bytes) -> None:
    check_secrets(shown_secret(private(seed)))


def test_without_cryptography_v1_works_and_v1a_says_what_to_install() -> None:
    script = f"""
import sys
from flask_resthooks import signing
assert "cryptography" not in sys.modules
sys.modules["cryptography"] = None
from flask_resthooks.errors import ConfigurationError
assert not signing.crypto_available()
secret = signing.new_secret()
signing.check_secret(secret, "v1")
body = b"{{}}"
made = signing.signer(secret).sign("evt_1", 1, body)
headers = {{"webhook-id": "evt_1", "webhook-timestamp": "1", "webhook-signature": made}}
signing.verify(secret, headers, body, now=1)
for act in (
    lambda: signing.new_secret("v1a"),
    lambda: signing.check_secret({VECTORS[0][0]!r}, "v1a"),
    lambda: signing.signer({VECTORS[0][0]!r}),
    lambda: signing.shown_secret({VECTORS[0][0]!r}),
    lambda: signing.verify({VECTORS[0][1]!r}, headers, body, now=1),
    lambda: signing.check_secrets([secret, {VECTORS[0][1]!r}]),
):
    try:
        act()
    except ConfigurationError as error:
        assert "pip install 'flask_resthooks[crypto]'" in str(error), error
    else:
        raise AssertionError
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    assert signing.crypto_available()


def test_signatures_are_divided_by_spaces_alone() -> None:
    headers = signed(b"{}")
    right = headers["webhook-signature"]
    for given_ in (f"v1,AAAA {right}", f"{right} v1,AAAA", f" {right}  "):
        assert accepted({**headers, "webhook-signature": given_}, b"{}")
    for blank in ("\t", "\n", "\r\n", "\f", ",", ";", "\0"):
        assert not accepted({**headers, "webhook-signature": f"v1,AAAA{blank}{right}"}, b"{}")


V1A_RULE = (
    "a secret is 'whsk_' and an ed25519 private key in base64: 32 bytes, or 64 with the public key"
    " that belongs to it"
)


def test_each_message_says_its_rule_and_nothing_else() -> None:
    zeros = encoded("whpk_", bytes(32))
    for secret, rule in (
        ("whsec_", "a secret is 'whsec_' and 24 to 64 bytes in base64; this one has 0"),
        ("whsec", "a secret is 'whsec_' and 24 to 64 bytes in base64"),
        ("whsk_AA==", V1A_RULE),
        ("whsk_?", V1A_RULE),
        ("whpk_AA==", "a secret is 'whpk_' and the 32 bytes of an ed25519 public key in base64"),
        (
            zeros,
            "a secret is 'whpk_' and the 32 bytes of an ed25519 public key in base64; for this one,"
            " anybody can sign",
        ),
    ):
        with pytest.raises(ConfigurationError) as refused:
            check_secrets(secret)
        assert str(refused.value) == rule
    with pytest.raises(ConfigurationError) as refused:
        check_secret("whsec", V1A)
    assert str(refused.value) == V1A_RULE
    with pytest.raises(ConfigurationError) as refused:
        check_secrets([])
    assert str(refused.value) == "at least one secret is needed"
    with pytest.raises(ConfigurationError) as refused:
        new_secret("v2")
    assert str(refused.value) == "a kind of signature is 'v1' or 'v1a'"


def test_each_refusal_says_what_is_wrong_with_the_headers() -> None:
    right = signed(b"{}")
    for changed, message in (
        *(
            ({name: ""}, "webhook-id, webhook-timestamp and webhook-signature are needed")
            for name in HEADERS
        ),
        (
            {"webhook-id": "a.b"},
            "webhook-id is not 1 to 255 visible ASCII characters, none of them a dot",
        ),
        ({"webhook-timestamp": "1.5"}, "webhook-timestamp is not a whole number of seconds"),
        ({"webhook-timestamp": "1"}, "webhook-timestamp is more than 300 seconds off"),
        ({"webhook-signature": "é"}, "webhook-signature is not ASCII"),
        ({"webhook-signature": "v1,AAAA"}, "no signature in webhook-signature is right"),
    ):
        with pytest.raises(SignatureError) as refused:
            verify(SECRET, {**right, **changed}, b"{}", now=NOW)
        assert str(refused.value) == message


def test_without_cryptography_it_is_said_what_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric", None)
    assert not signing.crypto_available()
    with pytest.raises(ConfigurationError) as refused:
        new_secret(V1A)
    assert str(refused.value) == (
        "v1a signatures (whsk_ and whpk_ secrets) need the package cryptography: "
        "pip install 'flask_resthooks[crypto]'"
    )
    assert refused.value.__suppress_context__
