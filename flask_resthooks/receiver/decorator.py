"""Receiver: a request on its way to the view.

POST ──► read ──► **verify** ──► understand ──► handshake or ping? answer ──► seen? ──► view
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from flask import current_app, request
from flask.typing import ResponseReturnValue
from werkzeug.wrappers import Response

from .. import signing
from ..errors import ConfigurationError, SignatureError
from . import events, handshakes
from .bodies import read_body
from .errors import HookRefused
from .events import Event
from .replay import RETENTION, ReplayStore, Turn

log = logging.getLogger("flask_resthooks.receiver")

Secrets = str | Sequence[str]
SecretSource = Callable[[], Secrets | None]
View = Callable[..., Any]

MAX_BYTES = 1024 * 1024

BUSY_RETRY_AFTER = 10
"""Seconds after which a sender may ask again about a hook that is still being processed."""


def receive(
    secret: Secrets | SecretSource,
    *,
    format: str | None = None,
    tolerance: float = signing.TOLERANCE,
    max_bytes: int = MAX_BYTES,
    replay: ReplayStore | None = None,
    replay_seconds: float = RETENTION,
    pings: bool = False,
    confirm: Callable[[Event, str], bool] | None = None,
    allowed_origins: str | Sequence[str] = (),
    allowed_rate: int | None = None,
    clock: Callable[[], float] = time.time,
) -> Callable[[View], View]:
    """Make a Flask view one that receives hooks.

    The view is called for genuine hooks alone: with `event` (an `Event`) as the argument of that
    name, or as the first one if there is none, besides the arguments of its URL. It may be async
    if the app's views may. What it returns is the answer; None is 204. An answer of 2xx tells the
    sender that the hook has arrived, any other and an exception that it must be sent again.

    Whatever is wrong with a request raises `HookRefused`, which Flask answers with 400, and with
    413 if the body is too large. Nothing else is raised for what a request may hold.

    Put it below the route::

        @app.post("/crm")
        @receive(os.environ["CRM_SECRET"])
        def crm(event): ...

    :param secret: `whsec_…`, `whpk_…` or several of them, such as the old and the new one while
        it is changed; or a callable that returns them, asked at every request (for example for
        the tenant in `request.view_args`). One that returns None or nothing knows no secret, and
        the request is refused; what it raises is the app's, as in a view.
    :param format: `standard`, `resthooks`, `bare` or `cloudevents`: only hooks in that format are
        taken. None: in any, as the body proves or, without proof, `x-hook-format` says. Which
        format a `bare` body is in nothing proves: name it, if you have subscribed to that.
    :param tolerance: seconds by which the time of the attempt may differ from our clock.
    :param max_bytes: of the body.
    :param replay: remembers which hooks were processed; one that comes again is answered with 204
        and not handed to the view, and with 409 and `Retry-After` while the view is still at it.
        It is forgotten if the view raises or answers 300 or more. Test hooks are remembered apart
        from others; pings and handshakes that are answered here not at all.
    :param replay_seconds: how long they are remembered. Not shorter than the sender tries.
    :param pings: hand `resthooks.ping` to the view. Else it is answered with 204.
    :param confirm: asked with the event and the header's value whether an `X-Hook-Secret`
        handshake is to be confirmed. If not, it is answered with 204 and without the echo; to
        confirm it later, send the value to `…/subscriptions/<id>/confirm`.
    :param allowed_origins: names of systems that CloudEvents' OPTIONS handshake is granted to,
        such as `crm.example.com`; `*` for all. If there are any, OPTIONS requests come to the
        view's route.
    :param allowed_rate: hooks per minute that are granted; None for any number.
    :param clock: seconds since the epoch.
    :raises ConfigurationError: if one of these is not allowed; of a secret that a callable
        returns, at the request.
    """
    _check_secret(secret)
    if format is not None and format not in events.FORMATS:
        raise ConfigurationError(f"there is no format {format!r}; there are {events.FORMATS}")
    _check_number("tolerance", tolerance, "seconds")
    _check_number("replay_seconds", replay_seconds, "seconds")
    _check_whole("max_bytes", max_bytes, "bytes")
    if allowed_rate is not None:
        _check_whole("allowed_rate", allowed_rate, "hooks per minute")
    if replay is not None and not all(hasattr(replay, name) for name in ("add", "discard")):
        raise ConfigurationError("replay has the methods of a ReplayStore: add and discard")
    origins = handshakes.checked_origins(allowed_origins)

    def decorate(view: View) -> View:
        call = _caller(view)

        @functools.wraps(view)
        def wrapper(*arguments: Any, **url: Any) -> ResponseReturnValue:
            if request.method == "OPTIONS":
                return handshakes.answer_options(origins, allowed_rate)
            try:
                body = read_body(max_bytes)
                event, right = _verified(
                    body, secret, now=clock(), tolerance=tolerance, format=format
                )
                token = handshakes.token() if event.type == events.HANDSHAKE else ""
            except HookRefused as refused:
                log.info("a request to %s was refused: %s", request.endpoint, refused.reason)
                raise
            if token:
                wanted = confirm is None or current_app.ensure_sync(confirm)(event, token)
                return handshakes.echo(token) if wanted else Response(status=204)
            if event.type == events.PING and not pings:
                return Response(status=204)
            if replay is None:
                return call(event, arguments, url)
            turn = Turn(replay, [_replay_key(event, one) for one in right], replay_seconds)
            return _once(turn, lambda: call(event, arguments, url))

        if origins:
            # Flask reads these when it makes the route, and OPTIONS comes to us.
            wrapper.provide_automatic_options = False  # type: ignore[attr-defined]
            wrapper.required_methods = {"OPTIONS"}  # type: ignore[attr-defined]
        return wrapper

    return decorate


def _verified(
    body: bytes,
    secret: Secrets | SecretSource,
    *,
    now: float,
    tolerance: float,
    format: str | None,
) -> tuple[Event, tuple[str, ...]]:
    """The event of the request, and the secrets that it was signed with."""
    secrets = current_app.ensure_sync(secret)() if callable(secret) else secret
    if secrets is None or (isinstance(secrets, Sequence) and not secrets):
        raise HookRefused("no secret is known")
    named = ((name, request.headers.get(name)) for name in events.HEADERS)
    headers = {name: value for name, value in named if value is not None}
    try:
        right = signing.matching_secrets(secrets, headers, body, now=now, tolerance=tolerance)
    except SignatureError as error:
        raise HookRefused(str(error)) from None
    event = events.event_of(body, headers)
    if format is not None and event.format != format:
        raise HookRefused(f"the hook is not in the format {format}")
    return event, right


def _replay_key(event: Event, secret: str) -> str:
    """What tells one hook from another, made of nothing that can be changed without the secret.

    An event has the same id for all subscriptions. Here it is another hook if it comes to another
    view or is signed with another secret; one that is signed with several is known by each of them,
    for whoever has overheard it can take a signature away.
    """
    parts = (request.endpoint or "", secret, "test" if event.test else "")
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    return f"{event.id}:{digest[:32]}"


def _once(turn: Turn, call: Callable[[], Response]) -> Response:
    state = turn.begin()
    if state == "known":
        return Response(status=204)
    if state == "busy":
        return Response(status=409, headers={"Retry-After": str(BUSY_RETRY_AFTER)})
    try:
        response = call()
    except BaseException:
        turn.failed()
        raise
    if response.status_code < 300:
        turn.done()
    else:
        turn.failed()
    return response


def _caller(view: View) -> Callable[[Event, tuple[Any, ...], dict[str, Any]], Response]:
    by_name = _takes_event_by_name(view)

    def call(event: Event, arguments: tuple[Any, ...], url: dict[str, Any]) -> Response:
        named = {"event": event} if by_name else {}
        first = () if by_name else (event,)
        answer = current_app.ensure_sync(view)(*arguments, *first, **named, **url)
        return current_app.make_response(("", 204) if answer is None else answer)

    return call


def _takes_event_by_name(view: View) -> bool:
    try:
        parameters = inspect.signature(view).parameters
    except (TypeError, ValueError):  # not written in Python
        return False
    event = parameters.get("event")
    if event is not None:
        return event.kind in (event.POSITIONAL_OR_KEYWORD, event.KEYWORD_ONLY)
    kinds = {parameter.kind for parameter in parameters.values()}
    # The view function of a class has `**kwargs` alone.
    positional = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    return inspect.Parameter.VAR_KEYWORD in kinds and not kinds & positional


def _check_secret(secret: Secrets | SecretSource) -> None:
    if not callable(secret):
        signing.check_secrets(secret)
        return
    try:
        inspect.signature(secret).bind()
    except TypeError:
        raise ConfigurationError(
            "the secret is a string, several, or a callable without arguments: "
            "@receive(secret), not @receive"
        ) from None
    except ValueError:  # not written in Python
        pass


def _check_number(name: str, value: float, unit: str) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not value > 0:  # in this form true for NaN, too
        raise ConfigurationError(f"{name} is a number of {unit} above 0")


def _check_whole(name: str, value: int, unit: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"{name} is a whole number of {unit}, 1 or more")
