"""How a delivery is signed, found from what came and the secret alone."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import itertools
import re

STAMPED = "HMAC-SHA256, of a timestamp too"
PLAIN = "HMAC-SHA256 of the body"
NOT = "no"
ITSELF = "no: the secret itself goes along"


def headers_of(head: str) -> dict[str, str]:
    """By lower-case name, of a request's first line and headers."""
    pairs = (line.partition(":") for line in head.split("\r\n")[1:])
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def how_signed(headers: dict[str, str], body: str, secret: str) -> str:
    """What the table says of it: an HMAC-SHA256 over the body must be in some header, with or
    without one or two other headers' values before it."""
    if not secret:
        return NOT
    stamps = {value for value in headers.values() if re.fullmatch(r"\d{10}", value)}
    words = {
        word.partition("=")[2] if word.startswith("sha256=") else word
        for value in headers.values()
        for word in re.split(r"[ ,]+", value)
    }
    values = [value for value in headers.values() if len(value) < 100]
    found = set()
    for count, mark, key in itertools.product((0, 1, 2), ":.", keys(secret)):
        for befores in itertools.permutations(values, count):
            signed = mark.join([*befores, body]).encode()
            digest = hmac.new(key, signed, hashlib.sha256)
            if words & {digest.hexdigest(), base64.b64encode(digest.digest()).decode()}:
                found.add(STAMPED if stamps & set(befores) else PLAIN)
    if not found and secret in words:
        return ITSELF
    return next((how for how in (STAMPED, PLAIN) if how in found), NOT)


def keys(secret: str) -> list[bytes]:
    """As it is, and as Standard Webhooks reads one."""
    try:
        return [base64.b64decode(secret.removeprefix("whsec_"), validate=True), secret.encode()]
    except binascii.Error:
        return [secret.encode()]
