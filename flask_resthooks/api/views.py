"""What all views share: the caller's owner, methods that are not there, and their documentation."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import flask
import flask_smorest
import marshmallow as ma
import sqlalchemy as sa
from flask.views import MethodView
from werkzeug.exceptions import MethodNotAllowed

from . import etags, examples, idempotency, paging
from .context import Context
from .errors import REQUEST_ID, APIError
from .parsing import Parser
from .schemas import RULES, NoQuery, RESTHooksErrorSchema

METHODS = (
    *("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"),
    *("TRACE", "CONNECT", "QUERY"),
)
"""All methods are routed to a view, so that a 405 is ours to answer: Flask finds no blueprint, and
so none of its error handlers, for a path whose rules lack the method."""

_PROBLEMS = {
    400: "The body is no JSON, or a header is malformed",
    401: "Nobody is authenticated",
    403: "The secret is another one",
    404: "There is none, or it belongs to somebody else",
    409: "It is at odds with what is there; `error_code` says how",
    412: "It is not in the state that `If-Match` names; nothing was done",
    413: "The body is too long",
    415: "The body is no application/json in UTF-8",
    422: "Something that was sent is not valid; `errors` says what, by field",
}

Method = TypeVar("Method", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Shape:
    """What an operation answers, if all is well.

    :param parameters: the names of its own in the query string.
    """

    status: int
    schema: ma.Schema | None
    parameters: Collection[str] = ()

    @property
    def is_list(self) -> bool:
        return self.schema is not None and paging.NEXT_CURSOR in self.schema.fields


class View(MethodView):
    """A view of one app, with the caller's owner."""

    context: ClassVar[Context]
    tag: ClassVar[str]
    path_parameters: ClassVar[Sequence[dict[str, Any]]] = ()

    owner: str
    """Not there in a public operation."""

    shape: Shape
    keyed: idempotency.Keyed | None = None
    """The request, if the operation takes an `Idempotency-Key` and it was given one."""

    @classmethod
    def of(cls, context: Context) -> type[View]:
        """The view class of one app."""
        return type(cls.__name__, (cls,), {"context": context})

    def dispatch_request(self, **path: Any) -> Any:
        method = flask.request.method
        allowed = self.methods or set()
        if method == "OPTIONS":
            return flask.Response(headers={"Allow": ", ".join(_with_implied(allowed))})
        if method not in allowed and not (method == "HEAD" and "GET" in allowed):
            raise MethodNotAllowed(_with_implied(allowed))
        handler = getattr(self, method.lower(), None) or self.get  # type: ignore[attr-defined]
        if not getattr(handler, "public", False):
            owner = self.context.owner()
            if owner is None:
                raise APIError(401, "Nobody is authenticated.")
            self.owner = owner
        return super().dispatch_request(**path)

    def connection(self, table: sa.Table) -> sa.Connection:
        """The session's own, in its transaction."""
        made: sa.Connection = self.context.db.session.connection(bind_arguments={"clause": table})
        return made

    def render(self, result: Any) -> flask.Response:
        """The answer of what an operation's method has returned: a body, or a body, status and
        headers."""
        body, status, headers = result if isinstance(result, tuple) else (result, None, {})
        shape = self.shape
        dumped = body if shape.schema is None else shape.schema.dump(body)
        answer = _empty() if dumped is None else flask.jsonify(dumped)
        answer.status_code = status or shape.status
        answer.headers.update(headers)
        if shape.is_list and dumped[paging.NEXT_CURSOR] is not None:
            answer.headers["Link"] = paging.next_link(
                flask.request, shape.parameters, dumped[paging.NEXT_CURSOR]
            )
        return answer


def operation(
    name: str,
    status: int,
    answer: type[ma.Schema] | ma.Schema | None = None,
    *,
    example: Any = None,
    query: type[ma.Schema] = NoQuery,
    body: type[ma.Schema] | None = None,
    body_examples: dict[str, Any] | None = None,
    by_id: bool = True,
    headers: dict[str, Any] | None = None,
    problems: Sequence[int] = (),
    public: bool = False,
    idempotent: bool = False,
    conditional: bool = False,
) -> Callable[[Method], Method]:
    """Decorator for a view's method: parses what it takes, dumps what it returns, documents both.

    The method is called with the query's arguments, then the body's if it has one. It returns a
    body, or a body, status and headers; with `idempotent`, what `idempotency.once` returns.

    :param name: the operation's id in the OpenAPI document.
    :param by_id: whether there can be a 404.
    :param headers: of the answer, for the document.
    :param problems: more statuses of errors than those that follow from the rest.
    :param public: whether anybody may call it; the view has no owner then.
    :param idempotent: whether it takes an `Idempotency-Key`.
    :param conditional: whether it is about the state of one thing, whose `ETag` it answers: a GET
        takes `If-None-Match`, and a method that changes or deletes it takes `If-Match`, which it
        has to check (`etags.check`).
    """
    if public and idempotent:
        raise TypeError(f"{name}: a key is its owner's, and a public operation knows none")
    schema = answer() if isinstance(answer, type) else answer
    parameters = {field.data_key or name for name, field in query().fields.items()}
    shape = Shape(status, schema, parameters)

    def decorate(method: Method) -> Method:
        verb = method.__name__
        reads, changes = conditional and verb == "get", conditional and verb not in ("get", "post")
        found = {422, *problems}
        found |= set() if public else {401}
        found |= {404} if by_id else set()
        found |= {400, 413, 415} if body is not None else set()
        found |= {413} if idempotent else set()
        found |= {400} if reads or changes else set()
        found |= {412} if changes else set()
        documented_headers = {
            **_headers(),
            **(paging.DOCUMENTED_HEADERS if shape.is_list else {}),
            **(_etag() if conditional and schema is not None else {}),
            **(idempotency.DOCUMENTED_HEADERS if idempotent else {}),
            **(headers or {}),
        }

        @functools.wraps(method)
        def rendered(view: View, *arguments: Any, **path: Any) -> flask.Response:
            view.shape = shape
            result = method(view, *arguments, **path)
            if idempotent and not isinstance(result, flask.Response):
                raise TypeError(f"{name} takes an Idempotency-Key: it has to return once(…)")
            made = result if isinstance(result, flask.Response) else view.render(result)
            if reads and etags.is_known(flask.request.headers, made.headers[etags.HEADER]):
                unchanged = _empty(304)
                unchanged.headers[etags.HEADER] = made.headers[etags.HEADER]
                return unchanged
            return made

        made: Any = _tools.response(status, schema, example=example, headers=documented_headers)(
            rendered
        )
        for code in sorted(found):
            made = _tools.alt_response(
                code,
                schema=RESTHooksErrorSchema,
                description=_PROBLEMS[code],
                headers=_headers(),
            )(made)
        if reads:
            made = _tools.alt_response(
                304,
                description="It is as `If-None-Match` says",
                headers={**_headers(), **_etag()},
                success=True,
            )(made)
        if body is not None:
            required = not getattr(body, "optional", False)
            made = _tools.arguments(
                body, location="json", examples=body_examples, required=required
            )(made)
        made = _tools.arguments(query, location="query")(made)
        if idempotent:
            made = idempotency.replaying(made)
            made = _tools.arguments(idempotency.IdempotencyKey, location="headers")(made)
        if reads or changes:
            condition = etags.IfNoneMatch if reads else etags.IfMatch
            made = _tools.arguments(condition, location="headers")(_without_first(made))
        made = _tools.doc(
            operationId=f"resthooks_{name}", responses={"default": _any_other_error()}
        )(made)
        made.public = public
        documented: Method = made
        return documented

    return decorate


def id_parameter(what: str, prefix: str) -> dict[str, Any]:
    """The documentation of an id in a path.

    :param prefix: of the id.
    """
    return {
        "name": f"{what}_id",
        "in": "path",
        "description": f"The {what}'s id.",
        "required": True,
        "schema": {"type": "string", "pattern": f"^{prefix}_[0-9a-f]{{32}}$"},
    }


class Blueprint(flask_smorest.Blueprint):  # type: ignore[misc]  # it is untyped
    """flask-smorest's, with our parser, and documented rules that marshmallow has no word for."""

    ARGUMENTS_PARSER = Parser()

    def register_views_in_doc(self, api: Any, app: Any, spec: Any, **options: Any) -> None:
        if spec.openapi_version.major >= 3:  # Swagger 2 has no word either
            for schema, rule in RULES.items():
                name = schema.__name__.removesuffix("Schema")
                spec.components.schema(name, rule, schema=schema)
        super().register_views_in_doc(api, app, spec, **options)


# Never registered: flask-smorest's decorators are methods of a blueprint, and views are defined
# once while blueprints are made per app.
_tools = Blueprint("resthooks", __name__)


def _empty(status: int = 200) -> flask.Response:
    made = flask.Response(status=status)
    del made.headers["Content-Type"]
    return made


def _without_first(method: Callable[..., Any]) -> Callable[..., Any]:
    """Drops what was parsed for the document's sake only."""

    @functools.wraps(method)
    def wrapper(view: View, _: Any, *arguments: Any, **path: Any) -> Any:
        return method(view, *arguments, **path)

    return wrapper


def _with_implied(methods: Any) -> list[str]:
    implied = {"OPTIONS", "HEAD"} if "GET" in methods else {"OPTIONS"}
    return sorted({*methods, *implied})


def _headers() -> dict[str, Any]:
    return {REQUEST_ID: {"description": "The request's id.", "schema": {"type": "string"}}}


def _etag() -> dict[str, Any]:
    says = "Names the state of what is shown; for `If-Match` and `If-None-Match`."
    return {etags.HEADER: {"description": says, "schema": {"type": "string"}}}


def _any_other_error() -> dict[str, Any]:
    return {
        "description": "Any other error",
        "content": {
            "application/json": {"schema": RESTHooksErrorSchema, "example": examples.ERROR}
        },
        "headers": _headers(),
    }
