"""Receiver: says to a sender who asks that its hooks are wanted.

* CloudEvents' abuse protection (HTTP 1.1 Web Hooks for Event Delivery 1.0, section 4): an OPTIONS
  request asks on behalf of a system, named by a domain. It is not signed, so it is granted to
  those who are expected.
* The REST Hooks patterns' `X-Hook-Secret`: a POST whose header is to be echoed. It is signed with
  the subscription's secret like any hook, and only then echoed: who has not got our secret cannot
  subscribe our URL to something in our name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from flask import current_app, request
from flask.typing import ResponseReturnValue
from werkzeug.wrappers import Response

from ..errors import ConfigurationError
from .errors import HookRefused

SECRET_HEADER = "X-Hook-Secret"

ANY = "*"

_ORIGIN = re.compile(r"[!-+\--~]{1,255}")  # no comma: that joins two headers
_TOKEN = re.compile(r"[!-~]{1,512}")


def checked_origins(allowed: str | Sequence[str]) -> tuple[str, ...]:
    """Origins that may be allowed, in lower case.

    :raises ConfigurationError: if one of them is none.
    """
    several = (allowed,) if isinstance(allowed, str) else tuple(allowed)
    for origin in several:
        if not isinstance(origin, str) or not _ORIGIN.fullmatch(origin):
            raise ConfigurationError(
                "allowed_origins are domain names such as 'crm.example.com', or '*' for all"
            )
    return tuple(origin.lower() for origin in several)


def answer_options(allowed: Sequence[str], rate: int | None) -> ResponseReturnValue:
    """The answer to an OPTIONS request: with a permission, if it asks for one that is allowed.

    Its `WebHook-Request-Callback` is left alone: to call a URL that anybody can send is a way
    into our network.

    :param allowed: in lower case; `*` is everybody.
    :param rate: hooks per minute that the sender may send; None for as many as it likes.
    """
    response = current_app.make_default_options_response()
    origin = request.headers.get("WebHook-Request-Origin", "")
    if _ORIGIN.fullmatch(origin) and (ANY in allowed or origin.lower() in allowed):
        response.headers["WebHook-Allowed-Origin"] = origin
        response.headers["WebHook-Allowed-Rate"] = ANY if rate is None else str(rate)
    return response


def token() -> str:
    """What a handshake asks to have echoed.

    :raises HookRefused: if it asks for nothing.
    """
    given = request.headers.get(SECRET_HEADER, "")
    if not _TOKEN.fullmatch(given):
        raise HookRefused(f"a handshake without {SECRET_HEADER}")
    return given


def echo(given: str) -> ResponseReturnValue:
    """The answer that hooks are wanted."""
    return Response(status=200, headers={SECRET_HEADER: given})
