"""`Idempotency-Key`: a request that creates something can be sent again, and creates it once.

The answer is kept for 24 hours (`answers.py` has the SQL), sealed, for it may hold a secret. Errors
are not kept: nothing was created, and the same key may try again.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import flask
import marshmallow as ma

from .. import answers
from ..models import utcnow
from .errors import APIError
from .parsing import read_body
from .rows import write

if TYPE_CHECKING:
    from .views import View

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"

PATTERN = r"^[!-~]{1,255}$"

DOCUMENTED_HEADERS = {
    REPLAYED: {
        "description": f"`true` if this is the answer to an earlier request with the same "
        f"`{HEADER}`.",
        "schema": {"type": "string", "enum": ["true"]},
    }
}


def _is_key(value: str) -> None:
    if not re.fullmatch(PATTERN, value) or value.endswith("\n"):
        raise ma.ValidationError("Must be 1 to 255 visible characters of ASCII, without spaces.")


class IdempotencyKey(ma.Schema):
    """The request's header."""

    key = ma.fields.String(
        data_key=HEADER,
        validate=_is_key,
        metadata={
            "description": "Any text of your own, such as a UUID. The same request with the same "
            "key is answered as it was the first time, for 24 hours, and does nothing again; "
            "another one with the same key is refused (422).",
            "pattern": PATTERN,
        },
    )


@dataclass(frozen=True, slots=True)
class Keyed:
    """A request with a key.

    :param fingerprint: of what must be the same when it comes again.
    """

    key: str
    fingerprint: str


def replaying(method: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator for a view's method that ends in `once`: what was answered is answered again.

    Before anything is checked: what was valid then, such as a time in the future, may not be now.
    """

    @functools.wraps(method)
    def wrapper(view: View, header: Mapping[str, str], *arguments: Any, **path: Any) -> Any:
        if "key" not in header:
            return method(view, *arguments, **path)
        view.keyed = Keyed(header["key"], _fingerprint())
        stored = _look_up(view, view.keyed)
        if stored is not None:
            return _replay(view, view.keyed, stored)
        return method(view, *arguments, **path)

    return wrapper


def once(view: View, work: Callable[[], Any]) -> flask.Response:
    """Do `work` in a transaction, unless it was done for this request before.

    :param work: does the SQL and returns what a view's method returns: a body, or a body, status
        and headers. It may be called again if the database asks for it (see `rows.write`), and not
        at all; what is not to be rolled back does not belong into it.
    :returns: what the method is to return.
    """
    session = view.context.db.session

    def attempt() -> flask.Response:
        request = view.keyed
        if request is None:
            return view.render(work())
        connection, tables, owner = (
            view.connection(view.context.tables.answer),
            view.context.tables,
            view.owner,
        )
        now = utcnow()
        if not answers.reserve(connection, tables, owner, request.key, request.fingerprint, now):
            stored = answers.find(connection, tables, owner, request.key, now)
            assert stored is not None
            return _replay(view, request, stored)
        answer = view.render(work())
        answers.fill(
            connection,
            tables,
            owner,
            request.key,
            status_code=answer.status_code,
            headers=json.dumps(_kept(answer)),
            body=view.context.vault.seal(answer.get_data(as_text=True)),
        )
        return answer

    return write(session, attempt)


def _fingerprint() -> str:
    request = flask.request
    path = request.path.rstrip("/")  # with one or without, it is the same route
    what = hashlib.sha256(json.dumps([request.method, path]).encode())
    what.update(read_body(request))
    return what.hexdigest()


def _look_up(view: View, request: Keyed) -> Mapping[str, Any] | None:
    session = view.context.db.session
    # What the host's owner loader has begun is not ours to end.
    begun = session().in_transaction()
    stored = answers.find(
        view.connection(view.context.tables.answer),
        view.context.tables,
        view.owner,
        request.key,
        utcnow(),
    )
    if not begun:
        session.rollback()  # nobody is to wait for a connection while names are resolved
    return stored


def _kept(answer: flask.Response) -> list[tuple[str, str]]:
    return [(name, value) for name, value in answer.headers if name != "Content-Length"]


def _replay(view: View, request: Keyed, stored: Mapping[str, Any]) -> flask.Response:
    """
    :raises APIError: 422, if it is the answer to another request.
    """
    if stored["fingerprint"] != request.fingerprint:
        raise APIError(
            422,
            f"This {HEADER} was used for another request; take a new one for each.",
            {HEADER: ["Was used for another request."]},
            error_code="idempotency_key_reused",
        )
    answer = flask.Response(view.context.vault.open(stored["body"]), status=stored["status_code"])
    answer.headers.clear()
    answer.headers.extend([*json.loads(stored["headers"]), (REPLAYED, "true")])
    return answer
