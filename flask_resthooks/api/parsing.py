"""From a request to checked arguments: strict JSON, and errors by field.

More strict than Flask's and webargs' own: what is ambiguous (a key given twice, NaN) or dangerous
(a huge number, deep nesting) is refused before anything looks at it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import flask
import marshmallow as ma
from webargs.core import is_json
from webargs.flaskparser import FlaskParser
from werkzeug.wsgi import LimitedStream

from .errors import APIError, invalid

MAX_BODY = 1_000_000
"""Bytes; the longest subscription that is valid has some 350,000."""

MAX_DIGITS = 40
MAX_MESSAGES = 20
MAX_NAME = 100
BODY = "body"
"""The name of the field, in `errors`, of what is wrong with a body as a whole."""


class Parser(FlaskParser):
    """What flask-smorest parses arguments with, on our blueprint."""

    DEFAULT_UNKNOWN_BY_LOCATION = {  # noqa: RUF012 (so it is in webargs)
        **FlaskParser.DEFAULT_UNKNOWN_BY_LOCATION,
        "json": ma.RAISE,
        "query": ma.EXCLUDE,  # the host may take some of its own, such as an API key
    }

    def load_json(self, req: flask.Request, schema: ma.Schema) -> Any:
        if getattr(schema, "optional", False) and not read_body(req):
            return {}
        body = parse_json(_body(req))
        if not isinstance(body, dict):
            raise invalid({BODY: ["A JSON object is needed."]})
        return body

    def load_querystring(self, req: flask.Request, schema: ma.Schema) -> Any:
        repeated = [name for name in schema.fields if len(req.args.getlist(name)) > 1]
        if repeated:
            raise ma.ValidationError({name: ["Given more than once."] for name in repeated})
        return req.args.to_dict()

    def handle_error(
        self,
        error: ma.ValidationError,
        req: flask.Request,
        schema: ma.Schema,
        **options: Any,
    ) -> NoReturn:
        messages: Any = error.messages
        [by_field] = messages.values()  # {"json": {…}}: webargs adds the location
        raise invalid(flatten(by_field)) from None


def parse_json(raw: bytes) -> Any:
    """Read strict JSON (RFC 8259, in UTF-8, no key twice).

    :raises APIError: 400, if it is none.
    """
    try:
        return json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_without_repetition,
            parse_constant=_no_constant,
            parse_int=_whole,
        )
    except RecursionError:
        reason = "it is nested too deeply"
    except UnicodeDecodeError:
        reason = "it is not in UTF-8"
    except ValueError as error:
        reason = str(error)
    raise APIError(400, f"The body is no JSON: {reason}.", error_code="bad_json")


def read_body(request: flask.Request) -> bytes:
    """The bytes of a body, whatever they are.

    :raises APIError: 413, if there are more than `MAX_BODY`.
    """
    if (request.content_length or 0) <= MAX_BODY:
        # A chunked one tells its length by its end only: no more than is needed to judge is read.
        stream: Any = LimitedStream(request.stream, MAX_BODY + 1, is_max=True)
        request.stream = stream
        raw = request.get_data()
        if len(raw) <= MAX_BODY:
            return raw
    raise APIError(413, f"The body is longer than {MAX_BODY} bytes.")


def flatten(messages: Any) -> dict[str, list[str]]:
    """marshmallow's messages, nested as deep as the fields, as one list of texts per field."""
    found: dict[str, list[str]] = {}
    for name, inner in messages.items():
        field = BODY if name == "_schema" else readable(str(name))
        found[field] = list(_texts(inner))[:MAX_MESSAGES]
        if len(found) == MAX_MESSAGES:
            break
    return found


def readable(text: str) -> str:
    """What a caller wrote, fit to be shown: short, and without lone surrogates."""
    shown = text.encode("utf-8", "replace").decode()
    return shown if len(shown) <= MAX_NAME else shown[:MAX_NAME] + "…"


def _texts(messages: Any, where: str = "") -> Iterator[str]:
    if isinstance(messages, Mapping):
        for name, inner in messages.items():
            # A dictionary's field tells of keys and values: {"colour": {"value": ["Too long."]}}
            part = readable(str(name))
            yield from _texts(inner, f"{where}.{part}" if where else part)
    elif isinstance(messages, list):
        for message in messages:
            yield from _texts(message, where)
    else:
        yield f"{where}: {messages}" if where else str(messages)


def _body(request: flask.Request) -> bytes:
    charset = request.mimetype_params.get("charset", "utf-8").lower()
    if not is_json(request.mimetype) or charset not in ("utf-8", "utf8"):
        raise APIError(415, "The body must be application/json, in UTF-8.")
    return read_body(request)


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {readable(twice)!r} is given twice")
    return made


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not allowed")


def _whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError("a number is too long")
    return int(digits)
