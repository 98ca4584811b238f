"""Every error of these routes as one JSON object, and the id of each request.

Other routes of the host app keep their own errors: everything here is registered on the
blueprint.
"""

from __future__ import annotations

import json
import logging
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import flask
from werkzeug.exceptions import HTTPException, default_exceptions

from ..errors import KeyMissing

log = logging.getLogger(__name__)

REQUEST_ID = "X-Request-Id"

_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_ENVIRON_KEY = "flask_resthooks.request_id"

# Those whose names in HTTP say less than they could; the others are named by their status.
_ERROR_CODES = {
    401: "not_authenticated",
    413: "payload_too_large",
    422: "validation_error",
    500: "internal_error",
}

Errors = Mapping[str, Sequence[str]]


class APIError(HTTPException):
    """An error that the views answer with.

    :param code: HTTP status.
    :param message: one sentence, for people.
    :param errors: what is wrong, by the name of the field or parameter.
    :param error_code: a stable word, for programs; by default that of the status.
    """

    def __init__(
        self, code: int, message: str, errors: Errors | None = None, error_code: str | None = None
    ) -> None:
        self.code = code
        super().__init__(message)
        self.errors = errors or {}
        self.error_code = error_code


def invalid(errors: Errors) -> APIError:
    """Something that was sent is not valid: 422."""
    return APIError(422, "What was sent is not valid; see errors.", errors)


def not_found(what: str) -> APIError:
    """There is none, or it belongs to somebody else: 404."""
    return APIError(404, f"There is no such {what}.")


def request_id() -> str:
    """The id of the current request: the caller's, if it has a sane one, or a new one."""
    environ = flask.request.environ
    if _ENVIRON_KEY not in environ:
        given = flask.request.headers.get(REQUEST_ID, "")
        sane = _SANE_REQUEST_ID.fullmatch(given)
        environ[_ENVIRON_KEY] = given if sane else f"req_{uuid.uuid4().hex}"
    made: str = environ[_ENVIRON_KEY]
    return made


def _without_key(error: KeyMissing) -> flask.Response:
    """What is wrong is for the operator alone."""
    log.error("%s", error)
    message = "Secrets cannot be read or kept now; the operator has to mend that."
    return _answer(APIError(503, message, error_code="key_missing"))


def register(blueprint: flask.Blueprint) -> None:
    """Have the blueprint answer errors in our form, and every answer carry the request's id."""
    # By number as well: the host's own errorhandler(404) would come before one for the base class.
    for code in default_exceptions:
        blueprint.register_error_handler(code, _answer)
    blueprint.register_error_handler(HTTPException, _answer)
    blueprint.register_error_handler(KeyMissing, _without_key)
    blueprint.register_error_handler(Exception, _leave_to_flask)
    blueprint.after_request(_name_request)


def _leave_to_flask(error: Exception) -> NoReturn:
    """A host's errorhandler(Exception) is passed by, and Flask does what it does without one.

    It logs, tells `got_request_exception`, propagates when testing, and else makes a 500 of it,
    which comes to `_answer`.
    """
    raise error


def _answer(error: HTTPException) -> flask.Response:
    code = error.code or 500
    # What flask_smorest.abort was given, say by the host's owner loader.
    data: Mapping[str, Any] = getattr(error, "data", None) or {}
    word = re.sub(r"[^a-z]+", "_", error.name.lower()).strip("_")
    payload = {
        "code": code,
        "status": error.name,
        "message": str(data.get("message") or error.description or error.name),
        "errors": getattr(error, "errors", None) or {},
        "error_code": getattr(error, "error_code", None) or _ERROR_CODES.get(code, word),
        "request_id": request_id(),
    }
    if code >= 500:  # Flask has logged what it was; this is how to find it
        log.error("the request %s was answered with %d", payload["request_id"], code)
    # Not with the app's JSON provider: this is our promise, whatever the app does to its own.
    answer = flask.Response(json.dumps(payload), status=code, content_type="application/json")
    for name, value in error.get_headers(flask.request.environ):
        if name.lower() != "content-type":  # Allow, WWW-Authenticate, Retry-After
            answer.headers.add(name, value)
    return answer


def _name_request(response: flask.Response) -> flask.Response:
    response.headers[REQUEST_ID] = request_id()
    return response
