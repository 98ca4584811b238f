"""Ground: decides whether an address may be called.

A target URL is written by somebody else, and the request leaves from inside our network: without
a guard it is a way to everything that listens there (server-side request forgery). The guard is
asked twice. `Guard.check_url` judges the URL when a subscription is made and again before a
request; `Guard.resolve` judges every address that the name stands for, and hands those very
addresses to the transport, which connects to them and never asks the resolver again. So a name
that changes its answer between the check and the connection (DNS rebinding) gains nothing.

Nothing here performs a request, and only `Guard.resolve` leaves the process.
"""

from __future__ import annotations

import re
import socket
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Any
from urllib.parse import quote

from .errors import AddressRefused

MAX_URL_LENGTH = 8192
MAX_HOST_LENGTH = 253

DEFAULT_PORTS = {"http": 80, "https": 443}

# IANA IPv4 Special-Purpose Address Registry, less the entries that are globally reachable
# (AS112, AMT), and the rest that no receiver of ours can have. `ipaddress.is_global` is not used:
# its table differs between Python versions.
SPECIAL_V4: tuple[tuple[IPv4Network, str], ...] = tuple(
    (IPv4Network(network), name)
    for network, name in (
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "private use"),
        ("100.64.0.0/10", "shared address space"),
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "Azure platform address"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private use"),
        ("192.0.0.0/24", "IETF protocol assignments"),
        ("192.0.2.0/24", "documentation"),
        ("192.88.99.0/24", "6to4 relay anycast"),
        ("192.168.0.0/16", "private use"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved or broadcast"),
    )
)

# IANA IPv6 Special-Purpose Address Registry. What lies outside of 2000::/3 is no global unicast
# and is refused without being listed; the entries there only give the refusal its name.
SPECIAL_V6: tuple[tuple[IPv6Network, str], ...] = tuple(
    (IPv6Network(network), name)
    for network, name in (
        ("::1/128", "loopback"),
        ("::/128", "unspecified"),
        ("::/96", "IPv4-compatible, deprecated"),
        ("64:ff9b:1::/48", "local-use IPv4/IPv6 translation"),
        ("100::/64", "discard-only"),
        ("100:0:0:1::/64", "dummy prefix"),
        ("2001::/23", "IETF protocol assignments, Teredo among them"),
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4"),
        ("3fff::/20", "documentation"),
        ("5f00::/16", "segment routing"),
        ("fc00::/7", "unique local"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local, deprecated"),
        ("ff00::/8", "multicast"),
    )
)

GLOBAL_UNICAST_V6 = IPv6Network("2000::/3")
MAPPED = IPv6Network("::ffff:0:0/96")
COMPATIBLE = IPv6Network("::/96")
NAT64 = IPv6Network("64:ff9b::/96")
NAT64_LOCAL = IPv6Network("64:ff9b:1::/48")
SIX_TO_FOUR = IPv6Network("2002::/16")
TEREDO = IPv6Network("2001::/32")
LOOPBACK = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))

# RFC 6761, RFC 6762, ICANN's .internal, and the name that many resolvers add to this machine's.
LOOPBACK_NAMES = ("localhost", "localdomain")
LOCAL_NAMES = ("local", "internal")

# IDNA 2003 (the codec of the standard library) and IDNA 2008 (browsers, resolvers of today) send
# these letters to different hosts.
_AMBIGUOUS_IN_IDNA = re.compile("[\u00df\u03c2\u200c\u200d]")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^#]*)(?:#.*)?", re.DOTALL)
_AUTHORITY = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([0-9]{0,6}))?")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]*|[0-9]+")
# What RFC 3986 lets stand in a path and a query, and "%", which is taken as it comes.
_URL_CHARACTERS = "%/?:@!$&'()*+,;=-._~[]"

Resolver = Callable[..., Iterable[tuple[Any, ...]]]


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that was taken apart once: what was checked is what is connected to.

    `url` is normalised (scheme and host in lower case, host as ASCII or as the canonical form of
    an address, no default port, no fragment, never without a path), `host` has no brackets.
    """

    url: str
    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """The value of the `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def path(self) -> str:
        """Path and query: what stands in the request line."""
        return self.url[len(self.scheme) + 3 + len(self.authority) :]


class Guard:
    """The policy on which addresses may be called.

    :param require_https: refuse `http` URLs.
    :param allowed_networks: networks (CIDR) that may be called although they are not public, such
        as `"127.0.0.0/8"` in development.
    :param resolver: what stands in for `socket.getaddrinfo`.
    :raises ValueError: if one of the networks is none.
    """

    def __init__(
        self,
        *,
        require_https: bool = True,
        allowed_networks: Iterable[str | IPv4Network | IPv6Network] = (),
        resolver: Resolver = socket.getaddrinfo,
    ) -> None:
        self.require_https = require_https
        self.allowed_networks = tuple(ip_network(network) for network in allowed_networks)
        self._allowed_v4 = tuple(n for n in self.allowed_networks if isinstance(n, IPv4Network))
        self._allowed_v6 = tuple(n for n in self.allowed_networks if isinstance(n, IPv6Network))
        self._loopback_allowed = any(
            network.version == loopback.version and network.overlaps(loopback)
            for network in self.allowed_networks
            for loopback in LOOPBACK
        )
        self._resolver = resolver
        self._allowed = "public addresses are allowed"
        if self.allowed_networks:
            self._allowed += " and " + ", ".join(str(network) for network in self.allowed_networks)

    def check_url(self, url: str) -> Target:
        """Judge a URL by its text alone: no name is resolved.

        :raises AddressRefused: if it may not be called, or is no URL.
        """
        if not isinstance(url, str):
            raise AddressRefused(f"the URL must be a string, not {type(url).__name__}")
        if len(url) > MAX_URL_LENGTH:
            raise AddressRefused(f"the URL is longer than {MAX_URL_LENGTH} characters")
        for character in url:
            if character == "\\" or character.isspace() or not _is_visible(character):
                raise AddressRefused(
                    f"the URL contains {character!r}: whitespace, control characters and "
                    "backslashes must be percent-encoded"
                )
        parts = _URL.fullmatch(url)
        if parts is None:
            raise AddressRefused("this is no absolute URL: it must look like https://host/path")
        scheme, authority, path = parts[1].lower(), parts[2], parts[3]
        if scheme not in DEFAULT_PORTS or (scheme == "http" and self.require_https):
            allowed = "https is" if self.require_https else "https and http are"
            raise AddressRefused(f"the scheme {scheme!r} is refused: only {allowed} allowed")
        if "@" in authority:
            raise AddressRefused(
                "the URL carries a user name or password: only host and port are allowed before "
                "the path"
            )
        split = _AUTHORITY.fullmatch(authority)
        if split is None:
            raise AddressRefused(
                f"{authority!r} is no host: a name, an address or an IPv6 address in brackets is "
                "allowed, and a port of digits"
            )
        port = int(split[2]) if split[2] else DEFAULT_PORTS[scheme]
        if not 1 <= port <= 65535:
            raise AddressRefused(f"the port {port} is none: 1 to 65535 are allowed")
        host = self._check_host(split[1])
        return _target(scheme, host, port, path)

    def check_address(self, address: str | IPv4Address | IPv6Address) -> None:
        """Judge an address: it must be public and unicast, or in an allowed network.

        An IPv6 address that carries an IPv4 one (mapped, compatible, 6to4, Teredo, NAT64, ISATAP)
        is refused as well if that one is.

        :raises AddressRefused: if it may not be called, or is no address.
        """
        if isinstance(address, str):
            if "%" in address:
                raise self._refusal(f"{address!r} names a zone of this machine")
            try:
                address = ip_address(address)
            except ValueError:
                raise self._refusal(f"{address!r} is no IP address") from None
        if isinstance(address, IPv4Address):
            self._check_v4(address, of=str(address))
        else:
            self._check_v6(address)

    def resolve(self, host: str, port: int) -> list[tuple[int, tuple[Any, ...]]]:
        """Resolve a name, once, to the addresses that may be connected to, in their order.

        A name with one address that is refused is refused as a whole.

        :returns: pairs of address family and socket address.
        :raises AddressRefused: if any of its addresses may not be called.
        :raises OSError: if the name cannot be resolved (`socket.gaierror`).
        """
        literal = _literal(host)
        if literal is not None:
            self.check_address(literal)
            if isinstance(literal, IPv4Address):
                return [(socket.AF_INET, (str(literal), port))]
            return [(socket.AF_INET6, (str(literal), port, 0, 0))]
        addresses = []
        for family, _, _, _, sockaddr in self._resolver(
            host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
        ):
            if family not in (socket.AF_INET, socket.AF_INET6):
                continue
            try:
                self.check_address(sockaddr[0])
            except AddressRefused as refusal:
                # Which one it is is nobody's business who can write a URL.
                reason = f"the name {host!r} resolves to an address that is not public"
                raise AddressRefused(reason, f"{reason}: {refusal.detail}") from None
            addresses.append((int(family), tuple(sockaddr)))
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "the name has no address")
        return addresses

    def _check_host(self, text: str) -> str:
        """The host in the one form that it is resolved or connected in."""
        if text.startswith("["):
            return self._check_literal_v6(text[1:-1])
        if "%" in text:
            raise AddressRefused(
                f"the host {text!r} is percent-encoded: only plain names and addresses are allowed"
            )
        # Full-width digits and the other dots come out as ASCII here, before anything is judged.
        name = unicodedata.normalize("NFKC", text).replace("\u3002", ".").lower()
        name = name.removesuffix(".")
        if not name:
            raise AddressRefused("the URL has no host: a name or an address is needed")
        if len(name) > MAX_HOST_LENGTH:
            raise AddressRefused(f"the host is longer than {MAX_HOST_LENGTH} characters")
        if not name.isascii():
            name = _idna(name)
        labels = name.split(".")
        if len(name) > MAX_HOST_LENGTH or not all(_LABEL.fullmatch(label) for label in labels):
            raise AddressRefused(
                f"{name!r} is no host name: labels of at most 63 letters, digits and hyphens, "
                "separated by dots, are allowed"
            )
        if _NUMBER.fullmatch(labels[-1]):
            address = _inet_aton(labels)
            if address is None:
                raise self._refusal(f"{name!r} ends in a number but is no IPv4 address")
            self.check_address(address)
            return str(address)
        self._check_local_name(name, labels[-1])
        return name

    def _check_literal_v6(self, text: str) -> str:
        if "%" in text:
            raise self._refusal(f"[{text}] names a zone of this machine")
        try:
            address = IPv6Address(text)
        except ValueError:
            raise self._refusal(f"[{text}] is no IPv6 address") from None
        self.check_address(address)
        return str(address)

    def _check_local_name(self, name: str, last_label: str) -> None:
        if last_label in LOOPBACK_NAMES:
            refused = not self._loopback_allowed
        else:
            # Whoever lets in a network of their own may have names for it, too.
            refused = last_label in LOCAL_NAMES and not self.allowed_networks
        if refused:
            raise self._refusal(f"the name {name!r} belongs to a local network")

    def _check_v4(self, address: IPv4Address, *, of: str) -> None:
        for network, name in SPECIAL_V4:
            if address in network:
                if any(address in allowed for allowed in self._allowed_v4):
                    return
                raise self._refusal(f"the address {of} is not public ({name})")

    def _check_v6(self, address: IPv6Address) -> None:
        if address.scope_id is not None:
            raise self._refusal(f"{address} names a zone of this machine")
        for embedded in _embedded_v4(address):
            self._check_v4(embedded, of=f"{address}, which stands for {embedded},")
        if address in MAPPED or any(address in allowed for allowed in self._allowed_v6):
            return
        for network, name in SPECIAL_V6:
            if address in network:
                raise self._refusal(f"the address {address} is not public ({name})")
        if address not in GLOBAL_UNICAST_V6 and address not in NAT64:
            raise self._refusal(f"the address {address} is no global unicast")

    def _refusal(self, reason: str) -> AddressRefused:
        """That something is not public; what else is allowed is for the operator alone."""
        return AddressRefused(reason, f"{reason}: {self._allowed}")


def _is_visible(character: str) -> bool:
    """Whether a character may stand in a URL: no control, format, surrogate or private one.

    ZERO WIDTH JOINER and NON-JOINER are format characters that names may hold; IDNA judges them.
    """
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") or (
        character in "\u200c\u200d"
    )


def _target(scheme: str, host: str, port: int, path: str) -> Target:
    if not path.startswith("/"):
        path = "/" + path
    target = Target("", scheme, host, port)
    url = f"{scheme}://{target.authority}{quote(path, safe=_URL_CHARACTERS)}"
    return Target(url, scheme, host, port)


def _idna(name: str) -> str:
    if _AMBIGUOUS_IN_IDNA.search(name):
        raise AddressRefused(
            f"the host {name!r} holds a letter that standards read differently: only its ASCII "
            "form (xn--…) is allowed"
        )
    try:
        return name.encode("idna").decode("ascii").lower()
    except UnicodeError:
        raise AddressRefused(
            f"{name!r} is no host name: only names that IDNA can write in ASCII are allowed"
        ) from None


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _inet_aton(labels: list[str]) -> IPv4Address | None:
    """An IPv4 address in any of the forms that `inet_aton` and browsers read, or None.

    One to four numbers, decimal, octal (leading 0) or hexadecimal (leading 0x); the last one
    fills the bytes that are left ("127.1", "2130706433", "0x7f.0.1").
    """
    if len(labels) > 4 or not all(_NUMBER.fullmatch(label) for label in labels):
        return None
    numbers = []
    for label in labels:
        try:
            if label[:2] == "0x":
                numbers.append(int(label[2:] or "0", 16))
            else:
                numbers.append(int(label, 8 if label[0] == "0" else 10))
        except ValueError:
            return None
    *leading, last = numbers
    if any(number > 255 for number in leading) or last >= 256 ** (4 - len(leading)):
        return None
    value = last
    for position, number in enumerate(leading):
        value += number << (8 * (3 - position))
    return IPv4Address(value)


def _embedded_v4(address: IPv6Address) -> list[IPv4Address]:
    """Every IPv4 address that an IPv6 address may be translated or tunnelled to."""
    value = int(address)
    low = IPv4Address(value & 0xFFFFFFFF)
    if address in MAPPED or address in NAT64:
        return [low]
    if address in COMPATIBLE:
        return [low] if value > 1 else []
    if address in SIX_TO_FOUR:
        return [IPv4Address((value >> 80) & 0xFFFFFFFF)]
    if address in TEREDO:
        server = IPv4Address((value >> 64) & 0xFFFFFFFF)
        return [server, IPv4Address(~value & 0xFFFFFFFF)]
    if address in NAT64_LOCAL:
        return [low]
    # ISATAP (RFC 5214): interface identifier 0000:5efe or 0200:5efe, then the IPv4 address.
    if (value >> 32) & 0xFFFFFFFF in (0x00005EFE, 0x02005EFE):
        return [low]
    return []
