"""Ground: how a receiver must prove that it wants to be called. Pure.

Anybody can subscribe anybody's URL. A strategy says what is sent to a new target first, and whether
the answer shows the intent to get hooks; until then nothing else is sent. Three are built in, and
an app can register others.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from .errors import ConfigurationError

HANDSHAKE, PING = "resthooks.handshake", "resthooks.ping"
"""Event types of the hooks that ask."""

LEAST_RATE, MOST_RATE = 1 / 1440, 1e9
"""Requests per minute."""

SECRET_HEADER = "x-hook-secret"
ORIGIN_HEADER = "webhook-request-origin"

NAME_RULE = "a name is a word of a-z, 0-9 and -, 40 characters at most, and not 'none'"
_NAME = re.compile(r"(?!none$)[a-z0-9][a-z0-9-]{0,39}")

_WHOLE = re.compile(r"0*([1-9][0-9]*)")


@dataclass(frozen=True, slots=True)
class Handshake:
    """A subscription's target is asked for its intent.

    :param secret: fresh random text, of this handshake alone.
    :param origin: the DNS name of this sender (`RESTHOOKS_ORIGIN`), or empty.
    """

    subscription_id: str
    target_url: str
    secret: str = field(repr=False)
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Opening:
    """What is sent to ask.

    :param method: `POST` or `OPTIONS`.
    :param headers: by lower-case name; beside those of the hook, if there is one.
    :param body: whether the usual signed hook goes along. Else the request is empty, and has no
        headers of a hook.
    :param event_type: of the hook.
    """

    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bool = True
    event_type: str = HANDSHAKE


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an answer says about the intent.

    :param confirmed: the receiver wants to be called.
    :param rate: how many requests per minute it grants, from one a day to 1e9; None: as many as
        there are.
    :param waits: not confirmed, but it still can be, by the receiver's own `POST …/confirm`.
    :param reason: why it is not confirmed, for the subscription's owner.
    :raises ValueError: if the rate is none.
    """

    confirmed: bool
    rate: float | None = None
    waits: bool = False
    reason: str = ""

    def __post_init__(self) -> None:
        # An app's own strategy may hand on what a receiver wrote: 0 would be divided by.
        if self.rate is not None and not LEAST_RATE <= self.rate <= MOST_RATE:
            raise ValueError(f"a rate is {LEAST_RATE:g} to {MOST_RATE:g} requests per minute")


class Intent(Protocol):
    """A way to ask, and to understand the answer.

    It may have a method `hook_headers(origin)`, too: the headers of every hook that follows.
    """

    def opening(self, handshake: Handshake) -> Opening:
        """What is sent to the target; again at every attempt, until it gives an answer of 2xx."""

    def judge(self, handshake: Handshake, status: int, headers: Mapping[str, str]) -> Verdict:
        """What that answer means.

        :param status: from 200 to 299: everything else is no answer, and asked again.
        :param headers: of the answer, by lower-case name, as far as a transport keeps them
            (`transport.KEPT_HEADERS`).
        """


class XHookSecret:
    """`x-hook-secret`: a POST with a secret, that the answer repeats or the receiver sends later.

    Source: REST Hooks, "Intent to receive", by immediate and by delayed confirmation.
    """

    confirms_later = True

    def opening(self, handshake: Handshake) -> Opening:
        return Opening(headers={SECRET_HEADER: handshake.secret})

    def judge(self, handshake: Handshake, status: int, headers: Mapping[str, str]) -> Verdict:
        given = _value(headers, SECRET_HEADER)
        if not given:
            return Verdict(
                False, waits=True, reason="the answer did not repeat X-Hook-Secret: it can follow"
            )
        if not same(given, handshake.secret):
            return Verdict(False, reason="the X-Hook-Secret of the answer is another one")
        return Verdict(True)


class CloudEvents:
    """`cloudevents`: OPTIONS, and the answer names the origins and the rate that it allows.

    Source: CloudEvents, "HTTP 1.1 Web Hooks for Event Delivery" 1.0.2, section 4. No rate is asked
    for, since nobody knows how much will happen; so an answer need not name one. No callback is
    offered: an answer without permission is a refusal.
    """

    def opening(self, handshake: Handshake) -> Opening:
        """Ask for the permission of one's origin.

        :raises ConfigurationError: if the handshake has none.
        """
        if not handshake.origin:
            raise ConfigurationError("the intent 'cloudevents' needs RESTHOOKS_ORIGIN")
        return Opening("OPTIONS", {ORIGIN_HEADER: handshake.origin}, body=False)

    def judge(self, handshake: Handshake, status: int, headers: Mapping[str, str]) -> Verdict:
        allowed = _value(headers, "webhook-allowed-origin")
        if not allowed:
            return Verdict(False, reason="the answer has no WebHook-Allowed-Origin")
        # Bytes know no other lower case than that of ASCII, and names in DNS neither.
        if allowed != "*" and _bytes(allowed).lower() != _bytes(handshake.origin).lower():
            return Verdict(
                False,
                reason=f"WebHook-Allowed-Origin is {_shown(allowed)}; "
                f"it must be {handshake.origin!r} or '*'",
            )
        rate = _value(headers, "webhook-allowed-rate")
        if rate in ("", "*"):
            return Verdict(True)
        number = _WHOLE.fullmatch(rate)
        if number is None:
            return Verdict(
                False,
                reason=f"WebHook-Allowed-Rate is {_shown(rate)}; "
                "it must be a whole number of requests per minute, from 1, or '*'",
            )
        # More than could ever be sent is no limit, and thousands of digits are no float.
        return Verdict(True, rate=float(number[1]) if len(number[1]) < 10 else None)

    def hook_headers(self, origin: str) -> Mapping[str, str]:
        """Whoever has been allowed to send must name itself in each request (section 4.1.2)."""
        return {ORIGIN_HEADER: origin}


class Ping:
    """`ping`: a hook for testing, that any answer of 2xx acknowledges."""

    def opening(self, handshake: Handshake) -> Opening:
        return Opening(event_type=PING)

    def judge(self, handshake: Handshake, status: int, headers: Mapping[str, str]) -> Verdict:
        return Verdict(True)


class Intents(Mapping[str, Intent]):
    """The strategies of one `RESTHooks`, by name: those that are built in, and the app's own."""

    def __init__(self) -> None:
        self._intents: dict[str, Intent] = {}
        self.add("x-hook-secret", XHookSecret())
        self.add("cloudevents", CloudEvents())
        self.add("ping", Ping())

    def add(self, name: str, intent: Intent) -> Intent:
        """Register a strategy.

        :param name: for the setting `RESTHOOKS_INTENT`.
        :raises ConfigurationError: if the name is malformed or taken, or this is no strategy.
        """
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigurationError(f"{name!r} cannot name an intent: {NAME_RULE}")
        if name in self._intents:
            raise ConfigurationError(f"the intent {name!r} is registered already")
        _check_methods(name, intent)
        self._intents[name] = intent
        return intent

    def __getitem__(self, name: str) -> Intent:
        return self._intents[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._intents)

    def __len__(self) -> int:
        return len(self._intents)


def new_secret() -> str:
    """A new secret of a handshake: 32 random bytes, of characters that a URL can hold."""
    return secrets.token_urlsafe(32)


def same(given: str, secret: str) -> bool:
    """Whether what was given is the secret: compared in constant time, whatever it consists of.

    An empty secret is none: nothing is the same.
    """
    return hmac.compare_digest(_bytes(given), _bytes(secret)) and bool(secret)


def _check_methods(name: str, intent: Any) -> None:
    if isinstance(intent, type):
        raise ConfigurationError(f"the intent {name!r} must be an object, not the class of one")
    missing = [what for what in ("opening", "judge") if not callable(getattr(intent, what, None))]
    if missing:
        raise ConfigurationError(f"the intent {name!r} has no method {' and no '.join(missing)}")


def _value(headers: Mapping[str, str], name: str) -> str:
    return headers.get(name, "").strip(" \t")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _shown(value: str) -> str:
    """The beginning of what a receiver sent, for people."""
    return ascii(value[:60])
