"""What all views share: the caller's owner, methods that are not there, and their documentation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar

import flask
import flask_smorest
import marshmallow as ma
from flask.views import MethodView
from werkzeug.exceptions import MethodNotAllowed

from . import examples
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
    400: "The body is no JSON",
    401: "Nobody is authenticated",
    404: "There is none, or it belongs to somebody else",
    413: "The body is too long",
    415: "The body is no application/json in UTF-8",
    422: "Something that was sent is not valid; `errors` says what, by field",
}

Method = TypeVar("Method", bound=Callable[..., Any])


class View(MethodView):
    """A view of one app, with the caller's owner."""

    context: ClassVar[Context]
    tag: ClassVar[str]
    path_parameters: ClassVar[Sequence[dict[str, Any]]] = ()

    owner: str

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
        owner = self.context.owner()
        if owner is None:
            raise APIError(401, "Nobody is authenticated.")
        self.owner = owner
        return super().dispatch_request(**path)


def operation(
    name: str,
    status: int,
    answer: type[ma.Schema] | None = None,
    *,
    example: Any = None,
    query: type[ma.Schema] = NoQuery,
    body: type[ma.Schema] | None = None,
    body_examples: dict[str, Any] | None = None,
    by_id: bool = True,
    headers: dict[str, Any] | None = None,
) -> Callable[[Method], Method]:
    """Decorator for a view's method: parses what it takes, dumps what it returns, documents both.

    The method is called with the query's arguments, then the body's if it has one.

    :param name: the operation's id in the OpenAPI document.
    :param by_id: whether there can be a 404.
    """
    problems = [401, 422]
    if by_id:
        problems.append(404)
    if body is not None:
        problems += [400, 413, 415]

    def decorate(method: Method) -> Method:
        made: Any = _tools.response(
            status, answer, example=example, headers={**_headers(), **(headers or {})}
        )(method)
        for code in problems:
            made = _tools.alt_response(
                code,
                schema=RESTHooksErrorSchema,
                description=_PROBLEMS[code],
                headers=_headers(),
            )(made)
        documentation: dict[str, Any] = {
            "operationId": f"resthooks_{name}",
            "responses": {"default": _any_other_error()},
        }
        if body is not None:
            made = _tools.arguments(body, location="json", examples=body_examples)(made)
        made = _tools.arguments(query, location="query")(made)
        documented: Method = _tools.doc(**documentation)(made)
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


def _with_implied(methods: Any) -> list[str]:
    implied = {"OPTIONS", "HEAD"} if "GET" in methods else {"OPTIONS"}
    return sorted({*methods, *implied})


def _headers() -> dict[str, Any]:
    return {REQUEST_ID: {"description": "The request's id.", "schema": {"type": "string"}}}


def _any_other_error() -> dict[str, Any]:
    return {
        "description": "Any other error",
        "content": {
            "application/json": {"schema": RESTHooksErrorSchema, "example": examples.ERROR}
        },
        "headers": _headers(),
    }
