"""Ground: the headers that a subscription has sent along, such as a token of the receiver's.

What is not here cannot be sent: a header that ends its line early, one that speaks for the
connection, or one that says what only we may say (RFC 9110, sections 5.1, 5.5 and 5.6.2).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

MAX_HEADERS = 20
MAX_NAME, MAX_VALUE = 100, 4096
"""In characters."""

WHOLE = "_schema"
"""The key of what is wrong with the headers as a whole; marshmallow's own word for it."""

RESERVED_PREFIXES = (
    *("webhook-", "x-hook-", "content-", "ce-"),
    *("proxy-", "x-forwarded-", "x-http-method", "x-method-override"),
)
"""How names begin that are ours (what `content-…` and `ce-…` tell of is the body, ours as well),
the connection's, or such that many a server takes for more than a header: another method, another
client."""

RESERVED = frozenset(
    {
        "accept-encoding",
        "alt-used",
        "connection",
        "expect",
        "forwarded",
        "host",
        "http2-settings",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "via",
        "x-real-ip",
    }
)
"""Other names that are."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NO_WORD = re.compile(r"[^0-9a-z]")
# Latin-1 without its control characters; and without its two blanks that look like a space or like
# nothing, which get into a text by accident only: the no-break space and the soft hyphen.
_VISIBLE = r"[\x21-\x7e\xa1-\xac\xae-\xff]"
_VALUE = re.compile(rf"{_VISIBLE}+(?:[ \t]+{_VISIBLE}+)*")


def check(headers: Any) -> dict[str, list[str]]:
    """What is wrong with a subscription's headers: messages by name; empty if nothing is.

    No message repeats a value: it may be a secret.
    """
    if not isinstance(headers, Mapping):
        return {WHOLE: ["Must be an object of strings."]}
    if len(headers) > MAX_HEADERS:
        return {WHOLE: [f"Must be {MAX_HEADERS} headers at most."]}
    wrong: dict[str, list[str]] = {}
    seen: set[str] = set()
    for name, value in headers.items():
        messages = [*_objections_to_name(name, seen), *_objections_to_value(value)]
        if messages:
            wrong.setdefault(_shown(name), []).extend(messages)
        seen.add(str(name).lower())
    return wrong


def is_reserved(name: str) -> bool:
    """Whether a header of that name is ours or the connection's to send, and nobody else's.

    Many a server hands its app `X_Hook_Event` under the same name as `X-Hook-Event` (RFC 3875,
    section 4.1.18): so such a name is reserved, too.
    """
    plain = _NO_WORD.sub("-", name.lower())
    return plain in RESERVED or plain.startswith(RESERVED_PREFIXES)


def dump(headers: Mapping[str, str]) -> str:
    """A text to store them as; `load` reads it."""
    return json.dumps(dict(headers), separators=(",", ":"))


def load(text: str) -> dict[str, str]:
    """What `dump` has made a text of.

    :raises ValueError: if it is not such a text; the message tells nothing of it.
    """
    try:
        headers = json.loads(text)
    except ValueError:
        headers = None
    # Raised here and not above: json's error holds the whole text, and would hang on to this one.
    if not isinstance(headers, dict) or not all(isinstance(it, str) for it in headers.values()):
        raise ValueError("the stored headers of a subscription are not an object of strings")
    return headers


def _objections_to_name(name: Any, seen: set[str]) -> list[str]:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return ["The name must be of letters, digits and !#$%&'*+-.^_`|~ alone."]
    if len(name) > MAX_NAME:
        return [f"The name must have {MAX_NAME} characters at most."]
    if is_reserved(name):
        return ["A header of this name is not yours to set."]
    if name.lower() in seen:
        return ["Given twice: upper and lower case make no difference."]
    return []


def _objections_to_value(value: Any) -> list[str]:
    if not isinstance(value, str):
        return ["The value must be a string."]
    if len(value) > MAX_VALUE:
        return [f"The value must have {MAX_VALUE} characters at most."]
    if not _VALUE.fullmatch(value):
        return [
            "The value must be of visible characters of Latin-1, with spaces and tabs between them "
            "alone, and not empty."
        ]
    return []


def _shown(name: Any) -> str:
    text = str(name)
    return text if len(text) <= MAX_NAME else text[:MAX_NAME] + "…"
