"""Engine: from a claim to the request that is sent.

claim ──► **formatted and signed** ──► transport
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Collection, Hashable, Iterator, Mapping

from . import formats, own_headers, signing
from ._version import __version__
from .errors import KeyMissing
from .event_types import RESERVED
from .intents import Handshake, Intent
from .models import HANDSHAKE
from .outbox import Claim
from .settings import Settings
from .texts import without_secrets
from .transport import Request
from .vault import Vault

USER_AGENT = f"flask-resthooks/{__version__}"

Bodies = dict[Hashable, formats.Body]
"""Bodies that were made already, by event and shape."""

CACHED = 4096
"""Secrets, and headers of receivers, that are kept opened."""

SHORT = 4096
"""Characters of a receiver's headers, as they are stored, that are kept opened at most."""


_ENDS = {"": None, "{": "}", "[": "]", '"': '"'}


class Composer:
    """Makes the requests of one app.

    :param intent: how receivers are asked whether they want to be called; None: they are not.
    :param thin_types: names of the event types whose hooks are thin, whatever is asked for.
    """

    def __init__(
        self,
        settings: Settings,
        vault: Vault,
        intent: Intent | None,
        thin_types: Collection[str] = (),
    ) -> None:
        self._settings = settings
        self._vault = vault
        self._intent = intent
        self._thin_types = thin_types
        hook_headers = getattr(intent, "hook_headers", None)
        self._always: Mapping[str, str] = hook_headers(settings.origin) if hook_headers else {}
        self._signer = functools.lru_cache(maxsize=CACHED)(self._make_signer)
        self._own_headers = functools.lru_cache(maxsize=CACHED)(self._open_headers)

    def request(
        self,
        claim: Claim,
        bodies: Bodies,
        *,
        timestamp: int,
        start_before: float,
    ) -> Request:
        """The request of one attempt.

        What is raised of it says no secret, whoever raised it.

        :param bodies: those that were made already, to which this one's is added: an event goes to
            many, and most of them get the same bytes.
        :param timestamp: seconds since the epoch, of this attempt.
        :param start_before: see `transport.Request`.
        :raises KeyMissing: if a secret is sealed with a key that is not there.
        """
        try:
            return self._request(claim, bodies, timestamp, start_before)
        except KeyMissing:
            raise
        except Exception as error:
            told = without_secrets(error, self._secrets_of(claim))
            if told is error:
                raise
        raise told

    def _request(
        self, claim: Claim, bodies: Bodies, timestamp: int, start_before: float
    ) -> Request:
        # Long ones are opened each time: thousands of them would fill the memory.
        short = len(claim.headers or "") <= SHORT
        theirs = (self._own_headers if short else self._open_headers)(claim.headers)
        method, ours = "POST", self._always
        if claim.kind == HANDSHAKE and self._intent is not None:
            opening = self._intent.opening(self.handshake(claim))
            method, ours = opening.method, {**ours, **opening.headers}
            if not opening.body:
                headers = {**theirs, "user-agent": USER_AGENT, **ours}
                return Request(claim.target_url, headers, b"", start_before, method)
        body = self._body(claim, bodies)
        headers = formats.headers(
            claim.event,
            body.content,
            signers=[self._signer(secret) for secret in claim.secrets],
            timestamp=timestamp,
            user_agent=USER_AGENT,
            format=claim.format,
            payload=body.payload,
            extra=theirs,
        )
        return Request(claim.target_url, {**headers, **ours}, body.content, start_before, method)

    def handshake(self, claim: Claim) -> Handshake:
        """What the handshake of a claim is about."""
        return Handshake(
            claim.subscription_id,
            claim.target_url,
            self._vault.open(claim.intent_secret or ""),
            self._settings.origin,
        )

    def _body(self, claim: Claim, bodies: Bodies) -> formats.Body:
        recipient = _recipient(
            claim.subscription_id, claim.target_url, claim.format, self._payload(claim)
        )
        key = (claim.event.id, formats.shape_of(recipient))
        body = bodies.get(key)
        if body is None:
            _check(claim.event)
            # What we have to say ourselves is short enough always, and cannot be looked up.
            limit = formats.MAX_DATA if _is_ours(claim) else self._settings.payload_limit
            body = bodies[key] = formats.fitting_body(
                claim.event, recipient, limit=limit, source=self._settings.source
            )
        return body

    def _payload(self, claim: Claim) -> str:
        if _is_ours(claim):
            return formats.FULL
        # What was captured before a type became thin was captured in full.
        return formats.THIN if claim.event.type in self._thin_types else claim.payload

    def _secrets_of(self, claim: Claim) -> Iterator[str]:
        for stored in (*claim.secrets, claim.headers, claim.intent_secret):
            if stored:
                yield stored
                with contextlib.suppress(Exception):  # which may be what is wrong
                    text = self._vault.open(stored)
                    yield text
                    if stored is claim.headers:
                        yield from own_headers.load(text).values()

    def _make_signer(self, stored: str) -> signing.Signer:
        return signing.signer(self._vault.open(stored))

    def _open_headers(self, stored: str | None) -> dict[str, str]:
        return {} if stored is None else own_headers.load(self._vault.open(stored))


_recipient = functools.lru_cache(maxsize=CACHED)(formats.Recipient)


def _is_ours(claim: Claim) -> bool:
    return claim.event.type.startswith(f"{RESERVED}.")


def _check(event: formats.Event) -> None:
    """By a look at its ends: what is stored of an event has been JSON, and has not been cut off.

    :raises ValueError: else it would be signed and sent as it is.
    """
    for text in (event.data, event.previous):
        if text is not None and _ENDS.get(text[:1], text[-1:]) != text[-1:]:
            raise ValueError("what is stored of the event is no JSON any more")
