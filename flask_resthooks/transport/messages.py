"""Ground: the bytes of a request, from its URL, its headers and its body.

A header's value may be a secret, and may have been written by a customer: what has no place in
HTTP is refused by name, and never shown.
"""

from __future__ import annotations

import functools
import re

from ..guard import Target
from . import Request

OWN_HEADERS = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that belong to the connection; a caller's are ignored."""

SHORT = 65536
"""Bytes of a body that goes out together with its head."""

_HEADER_NAME = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
# RFC 9110, section 5.5. What is beyond latin-1 has no bytes there, and of latin-1 the control
# characters 0x80 to 0x9f are, to some, the end of a line or the beginning of an escape.
_BAD_IN_HEADER_VALUE = re.compile(r"[^\t\x20-\x7e\xa0-\xff]")


class Plan:
    """All that can be known of a request from its URL; kept for the next one to the same URL.

    `head` is what follows the method; `key` tells which idle connections will do.
    """

    __slots__ = ("head", "key", "target")

    def __init__(self, target: Target) -> None:
        self.target = target
        self.key = (target.scheme, target.host, target.port)
        self.head = (
            f" {target.path} HTTP/1.1\r\nHost: {target.authority}\r\nAccept-Encoding: identity\r\n"
        )


def message(plan: Plan, request: Request) -> tuple[bytes, ...]:
    """Head and body, in the pieces in which they are sent: a long body is not copied.

    :raises ValueError: if a header's name or value has no place in HTTP.
    """
    method, body = request.method, request.body
    lines = [method, plan.head]
    for name, value in request.headers.items():
        if known_header(name):
            # Looked at before it is encoded: a UnicodeEncodeError has the whole head in it.
            plain = value.isascii() and value.isprintable()
            if not plain and _BAD_IN_HEADER_VALUE.search(value):
                raise ValueError(
                    f"the value of the header {name!r} holds a character that has no place in HTTP"
                )
            lines.append(f"{name}: {value}\r\n")
    if body or method == "POST":
        lines.append(f"Content-Length: {len(body)}\r\n")
    lines.append("\r\n")
    head = "".join(lines).encode("latin-1")
    return (head + body,) if len(body) <= SHORT else (head, body)


@functools.lru_cache(maxsize=1024)
def known_header(name: str) -> bool:
    """Whether a header is to be sent; the connection's own are not.

    :raises ValueError: if it is no name of a header.
    """
    if not _HEADER_NAME.fullmatch(name):
        # What comes after may be a value that somebody has put into the name.
        begin = _HEADER_NAME.match(name)
        raise ValueError(
            f"a header has no proper name; it begins with {begin[0] if begin else ''!r}"
        )
    return name.lower() not in OWN_HEADERS
