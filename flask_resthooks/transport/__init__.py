"""Ground: what performs the POSTs. The protocol is here, one file per client beside it.

A transport takes a `Request` and hands back a future `Answer`. Whatever the network does is an
answer, never an exception: `status` if the receiver gave one, `error` (one of the words below) if
the exchange failed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
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
    # `start_before` had passed before the attempt's turn came. Nothing was sent.
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

TRANSPORTS = {"requests": "flask_resthooks.transport.requests:RequestsTransport"}
"""Names for the setting `RESTHOOKS_TRANSPORT`, and where each one is found."""


@dataclass(frozen=True, slots=True)
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
        that waited longer for a free thread is not sent at all.
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


@dataclass(frozen=True, slots=True)
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
    """Performs POSTs, several at a time."""

    def submit(self, request: Request) -> Future[Answer]:
        """Have a POST made as soon as a thread is free. Never fails for what the network does."""

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

    :param concurrency: how many POSTs may be in flight.
    :param connect_timeout: seconds for resolving the name and connecting.
    :param timeout: seconds for the whole attempt.
    :param response_limit: how many bytes of an answer's body are read and kept.
    :param proxy: URL of the HTTP proxy that everything goes through; empty for none.
    :param proxy_resolves: the proxy is given names, and it is trusted to refuse addresses that
        are not public.
    :raises ValueError: if there is none of that name.
    """
    try:
        module, _, class_name = TRANSPORTS[name].partition(":")
    except KeyError:
        known = ", ".join(repr(known) for known in sorted(TRANSPORTS))
        raise ValueError(f"there is no transport {name!r}; known: {known}") from None
    transport: Transport = getattr(import_module(module), class_name)(
        guard=guard,
        concurrency=concurrency,
        connect_timeout=connect_timeout,
        timeout=timeout,
        response_limit=response_limit,
        proxy=proxy,
        proxy_resolves=proxy_resolves,
    )
    return transport
