"""Ground: secrets, and the signatures that prove who sent a hook.

Two kinds, which may stand side by side: `v1` is an HMAC that sender and receiver share a secret
for, `v1a` an ed25519 signature of a private key that the sender keeps to itself.

Source: Standard Webhooks 1.0.0, "Signature scheme", and the REST Hooks patterns'
`X-Hook-Signature`. How a `whsk_` is written is said by the reference implementations alone: the
32 bytes of the private key and, after them, the 32 bytes of the public one.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hmac
import re
import secrets as random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING

from .errors import ConfigurationError, SignatureError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

V1 = "v1"
V1A = "v1a"
KINDS = (V1, V1A)
"""Kinds of signatures: HMAC-SHA256 and ed25519."""

PREFIX = "whsec_"
PRIVATE_PREFIX = "whsk_"
PUBLIC_PREFIX = "whpk_"

MIN_BYTES, MAX_BYTES = 24, 64
TOLERANCE = 300.0
"""Seconds by which a hook's timestamp may differ from the receiver's clock."""

MAX_SIGNATURES = 10
"""How many signatures of one hook are looked at: a sender that changes its secret sends a few."""

# No dot: it divides what is signed. With one in the id, or digits and a dot at the beginning of a
# body, the same signature would be right for another id, timestamp and body.
_ID = re.compile(r"[!-\-/-~]{1,255}")
_TIMESTAMP = re.compile(r"0|[1-9][0-9]{0,11}")

_RULES = {
    PREFIX: f"'{PREFIX}' and {MIN_BYTES} to {MAX_BYTES} bytes in base64",
    PRIVATE_PREFIX: f"'{PRIVATE_PREFIX}' and an ed25519 private key in base64: 32 bytes, or 64 with"
    " the public key that belongs to it",
    PUBLIC_PREFIX: f"'{PUBLIC_PREFIX}' and the 32 bytes of an ed25519 public key in base64",
}


def new_secret(kind: str = V1) -> str:
    """A new secret: `whsec_` and 32 random bytes, or `whsk_` and an ed25519 key pair, in base64.

    :param kind: one of `KINDS`.
    :raises ConfigurationError: if there is no such kind, or `cryptography` is missing for `v1a`.
    """
    if _known(kind) == V1:
        return PREFIX + _base64(random.token_bytes(32))
    key = _ed25519().Ed25519PrivateKey.generate()
    return PRIVATE_PREFIX + _base64(key.private_bytes_raw() + key.public_key().public_bytes_raw())


def check_secret(secret: str, kind: str) -> None:
    """Whether hooks can be signed with a secret.

    :param kind: one of `KINDS`.
    :raises ConfigurationError: with the rule, if it is none of that kind; it is not shown. Also if
        there is no such kind, or `cryptography` is missing for `v1a`.
    """
    if _known(kind) == V1:
        key_of(secret)
    else:
        _private_key(secret)


def shown_secret(secret: str) -> str:
    """What a receiver verifies with: a `whsec_` as it is, the `whpk_` of a `whsk_`.

    :raises ConfigurationError: if it is no secret.
    """
    if _has_prefix(secret, PRIVATE_PREFIX):
        return PUBLIC_PREFIX + _base64(_private_key(secret).public_key().public_bytes_raw())
    if _has_prefix(secret, PUBLIC_PREFIX):
        _public_key(secret)
    else:
        key_of(secret)
    return secret


def key_of(secret: str) -> bytes:
    """The bytes that sign with HMAC, from a secret as it is shown.

    :raises ConfigurationError: if it is not `whsec_` and 24 to 64 bytes in base64.
    """
    key = _decoded(secret, PREFIX)
    if not MIN_BYTES <= len(key) <= MAX_BYTES:
        raise _bad_secret(PREFIX, f"; this one has {len(key)}")
    return key


@dataclass(frozen=True, slots=True, eq=False)
class Signer:
    """Signs hooks with one secret; made by `signer`. Cheap to keep, and it shows nothing.

    :param kind: one of `KINDS`.
    """

    kind: str
    _raw: Callable[[bytes], bytes] = field(repr=False)

    def sign(self, message_id: str, timestamp: int, body: bytes) -> str:
        """`v1,` or `v1a,` and the signature of id, timestamp and body, in base64.

        :param timestamp: seconds since the epoch, of the attempt.
        """
        return f"{self.kind},{_base64(self._raw(_signed(message_id, timestamp, body)))}"

    def hook_signature(self, body: bytes) -> str | None:
        """`x-hook-signature`: the hex HMAC-SHA256 of the body alone. None for `v1a`."""
        return self._raw(body).hex() if self.kind == V1 else None


def signer(secret: str) -> Signer:
    """What signs with a secret, which tells the kind.

    :raises ConfigurationError: if it is neither a `whsec_` nor a `whsk_`, or `cryptography` is
        missing for the latter.
    """
    if _has_prefix(secret, PRIVATE_PREFIX):
        return Signer(V1A, _private_key(secret).sign)
    return Signer(V1, _hmac_signer(key_of(secret)))


def signatures(signers: Iterable[Signer], message_id: str, timestamp: int, body: bytes) -> str:
    """`webhook-signature`: that of each signer, in their order, separated by spaces.

    :param timestamp: seconds since the epoch, of the attempt.
    """
    return " ".join(signer.sign(message_id, timestamp, body) for signer in signers)


def signature(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """`webhook-signature` of one HMAC key: `v1,` and that of id, timestamp and body in base64."""
    return f"{V1},{_base64(_hmac(key, _signed(message_id, timestamp, body)))}"


def hook_signature(key: bytes, body: bytes) -> str:
    """`x-hook-signature`: the hex HMAC-SHA256 of the body alone."""
    return _hmac(key, body).hex()


def verify(
    secrets: str | Sequence[str],
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: float,
    tolerance: float = TOLERANCE,
) -> None:
    """Check the Standard Webhooks headers of a hook that was received.

    Stricter than the specification in what it leaves open: `webhook-id` is 1 to 255 visible ASCII
    characters without a dot (which the specification advises), `webhook-timestamp` is written as
    the sender signs it (no sign, spaces or leading zeros), and of the signatures the first
    `MAX_SIGNATURES` are looked at.

    :param secrets: one or several of `whsec_…`, `whpk_…` and `whsk_…`; one that is right is enough.
    :param headers: looked up by lower-case name.
    :param now: seconds since the epoch.
    :param tolerance: seconds by which the timestamp may differ from `now`.
    :raises SignatureError: if anything about the headers is missing, malformed or wrong.
    :raises ConfigurationError: if there are no secrets or one of them is none, whatever was
        received; or `cryptography` is missing for `whpk_…` and `whsk_…`.
    """
    matching_secrets(secrets, headers, body, now=now, tolerance=tolerance)


def matching_secrets(
    secrets: str | Sequence[str],
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: float,
    tolerance: float = TOLERANCE,
) -> tuple[str, ...]:
    """The same as `verify`, and those of the secrets that were right."""
    checks = [(secret, _check(secret)) for secret in _several(secrets)]
    message_id = _text(headers, "webhook-id")
    timestamp = _text(headers, "webhook-timestamp")
    given = _text(headers, "webhook-signature")
    if not (message_id and timestamp and given):
        raise SignatureError("webhook-id, webhook-timestamp and webhook-signature are needed")
    if not _ID.fullmatch(message_id):
        raise SignatureError(
            "webhook-id is not 1 to 255 visible ASCII characters, none of them a dot"
        )
    if not _TIMESTAMP.fullmatch(timestamp):
        raise SignatureError("webhook-timestamp is not a whole number of seconds")
    if not given.isascii():
        raise SignatureError("webhook-signature is not ASCII")
    if not abs(int(timestamp) - now) <= tolerance:  # in this form false for NaN, too
        raise SignatureError(f"webhook-timestamp is more than {tolerance:g} seconds off")
    content = _signed(message_id, int(timestamp), body)
    candidates = given.encode().split(b" ", MAX_SIGNATURES)[:MAX_SIGNATURES]
    right = tuple(secret for secret, is_right in checks if is_right(content, candidates))
    if not right:
        raise SignatureError("no signature in webhook-signature is right")
    return right


def check_secrets(secrets: str | Sequence[str]) -> None:
    """Whether hooks can be verified with one secret or several.

    :raises ConfigurationError: if there are none, or one of them is no secret.
    """
    for secret in _several(secrets):
        _check(secret)


def crypto_available() -> bool:
    """Whether `cryptography` is installed, which `v1a` needs (extra `crypto`)."""
    try:
        _ed25519()
    except ConfigurationError:
        return False
    return True


def _several(secrets: str | Sequence[str]) -> tuple[str, ...]:
    if isinstance(secrets, str) or not isinstance(secrets, Iterable):
        return (secrets,)
    several = tuple(secrets)
    if not several:
        raise ConfigurationError("at least one secret is needed")
    return several


def _text(headers: Mapping[str, str], name: str) -> str:
    # Some frameworks have bytes there, or lists.
    value = headers.get(name)
    return value if isinstance(value, str) else ""


_Check = Callable[[bytes, Sequence[bytes]], bool]
"""Whether, for what is signed, one of the signatures is right."""


def _check(secret: str) -> _Check:
    if _has_prefix(secret, PUBLIC_PREFIX):
        return functools.partial(_one_verifies, _public_key(secret))
    if _has_prefix(secret, PRIVATE_PREFIX):
        return functools.partial(_one_verifies, _private_key(secret).public_key())
    return functools.partial(_one_equals, key_of(secret))


def _one_equals(key: bytes, content: bytes, candidates: Sequence[bytes]) -> bool:
    expected = b"v1," + base64.b64encode(_hmac(key, content))
    return any(hmac.compare_digest(expected, candidate) for candidate in candidates)


def _one_verifies(key: Ed25519PublicKey, content: bytes, candidates: Sequence[bytes]) -> bool:
    return any(
        _verifies(key, content, candidate[len(b"v1a,") :])
        for candidate in candidates
        if candidate.startswith(b"v1a,")
    )


def _verifies(key: Ed25519PublicKey, content: bytes, encoded: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        raw = base64.b64decode(encoded, validate=True)
        # The last character has bits to spare: of those that decode to the same, one is right.
        if base64.b64encode(raw) != encoded:
            return False
        key.verify(raw, content)
    except (binascii.Error, InvalidSignature):
        return False
    return True


def _known(kind: str) -> str:
    if kind not in KINDS:
        raise ConfigurationError(f"a kind of signature is {' or '.join(map(repr, KINDS))}")
    return kind


def _signed(message_id: str, timestamp: int, body: bytes) -> bytes:
    return b"%s.%d.%s" % (message_id.encode(), timestamp, body)


def _hmac(key: bytes, content: bytes) -> bytes:
    return hmac.digest(key, content, "sha256")


def _hmac_signer(key: bytes) -> Callable[[bytes], bytes]:
    """The same, for many contents: the key is worked in once, and no other thread has its turn at
    each short one, as it has with `hmac.digest`."""
    begun = hmac.new(key, digestmod="sha256")

    def sign(content: bytes) -> bytes:
        mine = begun.copy()
        mine.update(content)
        return mine.digest()

    return sign


def _base64(raw: bytes) -> str:
    return binascii.b2a_base64(raw, newline=False).decode()


def _has_prefix(secret: str, prefix: str) -> bool:
    return isinstance(secret, str) and secret.startswith(prefix)


def _bad_secret(prefix: str, more: str = "") -> ConfigurationError:
    return ConfigurationError(f"a secret is {_RULES[prefix]}{more}")


def _decoded(secret: str, prefix: str) -> bytes:
    if not _has_prefix(secret, prefix):
        raise _bad_secret(prefix)
    try:
        return base64.b64decode(secret[len(prefix) :], validate=True)
    except (binascii.Error, ValueError):
        raise _bad_secret(prefix) from None


def _ed25519() -> ModuleType:
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise ConfigurationError(
            "v1a signatures (whsk_ and whpk_ secrets) need the package cryptography: "
            "pip install 'flask_resthooks[crypto]'"
        ) from None
    return ed25519


def _private_key(secret: str) -> Ed25519PrivateKey:
    raw = _decoded(secret, PRIVATE_PREFIX)
    if len(raw) not in (32, 64):
        raise _bad_secret(PRIVATE_PREFIX)
    key: Ed25519PrivateKey = _ed25519().Ed25519PrivateKey.from_private_bytes(raw[:32])
    if raw[32:] not in (b"", key.public_key().public_bytes_raw()):
        raise _bad_secret(PRIVATE_PREFIX)
    return key


def _public_key(secret: str) -> Ed25519PublicKey:
    raw = _decoded(secret, PUBLIC_PREFIX)
    if len(raw) != 32:
        raise _bad_secret(PUBLIC_PREFIX)
    if _anybody_signs_for(raw):
        raise _bad_secret(PUBLIC_PREFIX, "; for this one, anybody can sign")
    key: Ed25519PublicKey = _ed25519().Ed25519PublicKey.from_public_bytes(raw)
    return key


def _anybody_signs_for(public_key: bytes) -> bool:
    """Whether it is a point of small order, such as the 32 zeros that somebody has filled in.

    These are the points whose fourfold has y = 1: y itself is 1, -1 or 0, or the double's is 0
    (RFC 8032, 5.1, has the curve).
    """
    p = 2**255 - 19
    d = -121665 * pow(121666, -1, p)
    y = int.from_bytes(public_key, "little") % 2**255 % p
    return y in (0, 1, p - 1) or (d * y**4 + 2 * y**2 - 1) % p == 0
