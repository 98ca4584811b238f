"""Ground: secrets, and the signatures that prove who sent a hook.

Source: Standard Webhooks 1.0.0, "Signature scheme" (symmetric), and the REST Hooks patterns'
`X-Hook-Signature`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Mapping

from .errors import ConfigurationError, SignatureError

PREFIX = "whsec_"
MIN_BYTES, MAX_BYTES = 24, 64
TOLERANCE = 300.0
"""Seconds by which a hook's timestamp may differ from the receiver's clock."""


def new_secret() -> str:
    """A new secret: `whsec_` and 32 random bytes in base64."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def key_of(secret: str) -> bytes:
    """The bytes that sign, from a secret as it is shown.

    :raises ConfigurationError: if it is not `whsec_` and 24 to 64 bytes in base64.
    """
    rule = f"a secret is '{PREFIX}' and {MIN_BYTES} to {MAX_BYTES} bytes in base64"
    if not secret.startswith(PREFIX):
        raise ConfigurationError(rule)
    try:
        key = base64.b64decode(secret[len(PREFIX) :], validate=True)
    except (binascii.Error, ValueError):
        raise ConfigurationError(rule) from None
    if not MIN_BYTES <= len(key) <= MAX_BYTES:
        raise ConfigurationError(f"{rule}; this one has {len(key)}")
    return key


def signature(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """`webhook-signature` of one key: `v1,` and the HMAC-SHA256 of id, timestamp and body."""
    signed = b"%s.%d.%s" % (message_id.encode(), timestamp, body)
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


def hook_signature(key: bytes, body: bytes) -> str:
    """`x-hook-signature`: the hex HMAC-SHA256 of the body alone."""
    return hmac.new(key, body, hashlib.sha256).hexdigest()


def verify(
    secret: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: float,
    tolerance: float = TOLERANCE,
) -> None:
    """Check the Standard Webhooks headers of a hook that was received.

    :param headers: looked up by lower-case name.
    :param now: seconds since the epoch.
    :param tolerance: seconds by which the timestamp may differ from `now`.
    :raises SignatureError: if anything about them is missing, malformed or wrong.
    """
    message_id = headers.get("webhook-id", "")
    timestamp = headers.get("webhook-timestamp", "")
    given = headers.get("webhook-signature", "")
    if not (message_id and timestamp and given):
        raise SignatureError("webhook-id, webhook-timestamp and webhook-signature are needed")
    if not (message_id + given).isascii():
        raise SignatureError("webhook-id and webhook-signature are not ASCII")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        raise SignatureError("webhook-timestamp is not a whole number of seconds")
    if abs(int(timestamp) - now) > tolerance:
        raise SignatureError(f"webhook-timestamp is more than {tolerance:g} seconds off")
    expected = signature(key_of(secret), message_id, int(timestamp), body).encode()
    candidates = given.encode().split(b" ")
    if not any(hmac.compare_digest(expected, candidate) for candidate in candidates):
        raise SignatureError("no signature in webhook-signature is right")
