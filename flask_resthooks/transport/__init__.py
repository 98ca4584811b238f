"""Ground: what performs the POSTs. The protocol is here, one file per client beside it.

A transport takes a `Request` and hands back a future `Answer`: values, which nobody changes.
Whatever the network does is an answer, never an exception: `status` if the receiver gave one,
`error` (one of the words below) if the exchange failed.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from importlib import import_module
from typing import Literal, Protocol, get_args

from ..guard import Guard

Error = Literal[
    # The guard refused the URL or an address of its name. Nothing was sent.
    "address_refused",
    # The name could not be resolved.
    "dns",
    # No connection within `connect_timeout`; resolving the name counts as connecting.
    "connect_timeout",
    # The connection was refused, reset, or closed before the answer was complete.
    "connection",
    # The outbound proxy cannot be reached, or refuses to connect: nothing of the receiver's doing.
    "proxy",
    # The TLS handshake failed, or the certificate is not the name's.
    "tls",
    # The whole attempt took longer than `timeout`.
    "timeout",
    # What came back is not HTTP.
    "protocol",
    # `start_before` had passed before the attempt's turn came, or there was no room for it here:
    # too many names hang, or too many files are open. Nothing was sent.
    "not_started",
    # An error of ours; it was logged.
    "internal",
]
"""Why an attempt failed: stable words, kept in the log of attempts."""

ERRORS: tuple[str, ...] = get_args(Error)

METHODS = ("POST", "OPTIONS")
"""What a `Request` may be."""

KEPT_HEADERS = frozenset(
    {
        "allow",
        "content-type",
        "location",
        "retry-after",
        "webhook-allowed-origin",
        "webhook-allowed-rate",
        "x-hook-secret",
        "x-request-id",
    }
)
"""The headers of the receiver's answer that an `Answer` keeps."""

MAX_DETAIL = 500
"""Characters of an answer's detail: some of them may be the receiver's."""

TRANSPORTS = {
    "aiohttp": "flask_resthooks.transport.asyncio:AsyncioTransport",
    "asyncio": "flask_resthooks.transport.asyncio:AsyncioTransport",
    "requests": "flask_resthooks.transport.requests:RequestsTransport",
}
"""Names for the setting `RESTHOOKS_TRANSPORT`, and where each one is found.

`aiohttp` is the older name of `asyncio`, and aiohttp is not used: its session takes three times the
CPU of a bare loop, and its parser is more trusting than ours (`http1`).
"""


@dataclass(slots=True)
class Request:
    """A POST to be made; or an OPTIONS, by which some receivers are asked for their intent.

    Header values may be secrets. No transport shows them: not in an answer's detail, not in its
    log, not in the text of an exception. (The receiver's own text may repeat what it was sent.)

    :param headers: everything but `Host`, `Content-Length`, `Accept-Encoding` and what else
        belongs to the connection: those are the transport's, and ignored here. A name or a value
        that has no place in HTTP (a control character, one beyond latin-1) makes this attempt
        fail, as `internal`.
    :param body: of an OPTIONS, nothing is sent if it is empty.
    :param start_before: the `time.monotonic()` by which the attempt must have started; a request
        that waited longer for its turn is not sent at all.
    :param method: one of `METHODS`.
    :raises ValueError: for any other method.
    """

    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    start_before: float = math.inf
    method: str = "POST"

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"the method {self.method!r} is none of {', '.join(METHODS)}")


@dataclass(slots=True)
class Answer:
    """What came of a `Request`.

    `status` and `error` are both set if the receiver's answer began but did not end (its body was
    dripped or cut off).

    :param status: HTTP status, if the receiver gave one.
    :param error: None, or one of the words of `Error`.
    :param detail: what happened, for people: printable, at most 500 characters; empty without an
        error.
    :param body: the first bytes of the answer's body, as they came.
    :param headers: of `KEPT_HEADERS`, those that came, by lower-case name.
    :param duration: seconds from the start of the attempt to its end.
    :param started: False only for `not_started`.
    """

    status: int | None
    error: Error | None = None
    detail: str = ""
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    duration: float = 0.0
    started: bool = True


class Transport(Protocol):
    """Performs POSTs, several at a time, and keeps the promises of `docs/how-to/write-a-transport`.

    It is made by `create`, with the keywords that are there.
    """

    def submit(self, request: Request) -> Future[Answer]:
        """Have a POST made as soon as its turn comes. Never fails for what the network does.

        It may be called in any thread, also in a future's callback.
        """

    def close(self) -> None:
        """Cancel what has not started, wait for what has, and let go of every connection."""


def create(
    name: str,
    *,
    guard: Guard,
    concurrency: int,
    connect_timeout: float,
    timeout: float,
    response_limit: int,
    proxy: str = "",
    proxy_resolves: bool = False,
) -> Transport:
    """Make the transport of that name; its client is imported now and not before.

    :param name: one of `TRANSPORTS`, or where another one is found: `"package.module:Class"`.
    :param concurrency: how many POSTs may be in flight.
    :param connect_timeout: seconds for resolving the name and connecting.
    :param timeout: seconds for the whole attempt.
    :param response_limit: how many bytes of an answer's body are read and kept.
    :param proxy: URL of the HTTP proxy that everything goes through; empty for none.
    :param proxy_resolves: the proxy is given names, and it is trusted to refuse addresses that
        are not public.
    :raises ValueError: if there is none of that name, or it cannot be made like this.
    """
    keywords = {
        "guard": guard,
        "concurrency": concurrency,
        "connect_timeout": connect_timeout,
        "timeout": timeout,
        "response_limit": response_limit,
        "proxy": proxy,
        "proxy_resolves": proxy_resolves,
    }
    maker = find(name)
    try:
        inspect.signature(maker).bind(**keywords)
    except TypeError as error:
        raise ValueError(
            f"the transport {name!r} cannot be made: it must take the keywords "
            f"{', '.join(keywords)}, and {error}"
        ) from None
    made = maker(**keywords)
    missing = [
        method for method in ("submit", "close") if not callable(getattr(made, method, None))
    ]
    if missing:
        raise ValueError(f"the transport {name!r} has no {' and no '.join(missing)}()")
    return made


def find(name: str) -> Callable[..., Transport]:
    """What makes the transport of that name; its client is imported now and not before.

    :raises ValueError: if there is none.
    """
    module_name, colon, attribute = TRANSPORTS.get(name, name).partition(":")
    if not colon:
        known = ", ".join(repr(known) for known in sorted(TRANSPORTS))
        raise ValueError(
            f"there is no transport {name!r}; known: {known}; your own: 'package.module:Class'"
        )
    if not module_name or module_name.startswith("."):
        raise ValueError(f"the transport {name!r} names no module")
    try:
        module = import_module(module_name)
    except Exception as error:
        raise ValueError(f"the transport {name!r} cannot be imported: {error!r}") from error
    maker = getattr(module, attribute, None)
    if not callable(maker):
        what = "nothing callable" if hasattr(module, attribute) else "nothing"
        raise ValueError(
            f"there is no transport {name!r}: the module {module_name!r} has {what} "
            f"of the name {attribute!r}"
        )
    found: Callable[..., Transport] = maker
    return found
