"""Which state of a resource a caller has seen: `ETag`, `If-Match` and `If-None-Match`.

RFC 9110, sections 8.8.3 and 13.1. Werkzeug's parser takes anything for a list of tags; what guards
a change from being lost must be understood, or refused.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import marshmallow as ma
from werkzeug.datastructures import Headers

from .errors import APIError

HEADER = "ETag"
IF_MATCH = "If-Match"
IF_NONE_MATCH = "If-None-Match"

_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_LIST = rf"[ \t,]*{_TAG}(?:[ \t]*,[ \t,]*{_TAG})*[ \t,]*"
# For those who write: the same, in ASCII, and without the loose commas that a reader must bear.
_DOCUMENTED = r'^(\*|(W/)?"[!#-~]*"(, ?(W/)?"[!#-~]*")*)$'


class IfMatch(ma.Schema):
    """For the OpenAPI document; `check` reads it."""

    if_match = ma.fields.String(
        data_key=IF_MATCH,
        metadata={
            "description": "The `ETag` of the state that is to be changed, several, or `*`. If it "
            "has changed since, nothing is done (412).",
            "pattern": _DOCUMENTED,
        },
    )


class IfNoneMatch(ma.Schema):
    """For the OpenAPI document; `is_known` reads it."""

    if_none_match = ma.fields.String(
        data_key=IF_NONE_MATCH,
        metadata={
            "description": "The `ETag` of the state that you have, several, or `*`. If it is still "
            "the same, it is not sent again (304).",
            "pattern": _DOCUMENTED,
        },
    )


def of(shown: Mapping[str, Any]) -> str:
    """The strong tag of a resource's state.

    :param shown: all that its `GET` shows, as dumped by the answer's schema.
    """
    text = json.dumps(shown, sort_keys=True, separators=(",", ":"))
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def check(headers: Headers, current: str) -> None:
    """Whether the caller may change a resource: not if it has a state that he does not know.

    To be called where nobody else can change it any more, under the lock of its row.

    :param headers: the request's.
    :param current: the tag of the resource's state.
    :raises APIError: 412, if a condition is not met; 400, if one is malformed.
    """
    required = _tags(headers, IF_MATCH)
    unwanted = _tags(headers, IF_NONE_MATCH)
    if required is not None and not ("*" in required or current in required):
        weak = all(tag.startswith("W/") for tag in required)
        why = "it has weak tags only, which never match" if weak else "it has changed since"
        raise _failed(IF_MATCH, f"Nothing was done: {why}. Get it again, and decide anew.")
    if unwanted is not None and _is_among(current, unwanted):
        raise _failed(IF_NONE_MATCH, "Nothing was done: it is in a state that was ruled out.")


def is_known(headers: Headers, current: str) -> bool:
    """Whether the caller has a resource's state already: then 304 answers him.

    :param headers: the request's.
    :param current: the tag of the resource's state.
    :raises APIError: 400, if the header is malformed.
    """
    known = _tags(headers, IF_NONE_MATCH)
    return known is not None and _is_among(current, known)


def _failed(name: str, message: str) -> APIError:
    errors = {name: ["Not met by the present state."]}
    return APIError(412, message, errors, error_code="precondition_failed")


def _is_among(current: str, tags: list[str]) -> bool:
    # Weak comparison: a proxy that packs an answer makes its tag weak.
    return "*" in tags or current in (tag.removeprefix("W/") for tag in tags)


def _tags(headers: Headers, name: str) -> list[str] | None:
    value = headers.get(name)
    if value is None:
        return None
    value = value.strip(" \t")
    if value == "*":
        return ["*"]
    if not re.fullmatch(_LIST, value):
        rule = 'Neither * nor a list of tags in double quotes, such as "5d41402a".'
        raise APIError(400, f"The header {name} is malformed.", {name: [rule]})
    return re.findall(_TAG, value)
