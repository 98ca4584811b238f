"""Ground: decides whether an address may be called.

A target URL is written by somebody else, and the request leaves from inside our network: without
a guard it is a way to everything that listens there (server-side request forgery). The guard is
asked twice. `Guard.check_url` judges the URL when a subscription is made and again before a
request; `Guard.resolve` judges every address that the name stands for, and hands those very
addresses to the transport, which connects to them and never asks the resolver again. So a name
that changes its answer between the check and the connection (DNS rebinding) gains nothing.

Nothing here performs a request, and only `Guard.resolve` leaves the process. The rooms: `urls.py`
takes a URL apart, `ports.py` and `names.py` judge two of its parts, `addresses.py` the addresses,
with `networks.py` (the registries), `embedded.py` (IPv4 in IPv6) and `machine.py` (what is ours).
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Iterable
from ipaddress import IPv4Address, IPv6Network, ip_address, ip_network
from typing import Any

from ..errors import AddressRefused
from . import machine, names, ports, urls
from .addresses import AddressPolicy
from .networks import LOOPBACK, Address, Network
from .urls import MAX_HOST_LENGTH, MAX_URL_LENGTH, Target

__all__ = ["MAX_HOST_LENGTH", "MAX_URL_LENGTH", "Guard", "Resolver", "Target"]

Resolver = Callable[..., Iterable[tuple[Any, ...]]]


class Guard:
    """The policy on which addresses may be called.

    :param require_https: refuse `http` URLs.
    :param allowed_networks: networks (CIDR) that may be called although they are not public, such
        as `"127.0.0.0/8"` in development.
    :param denied_networks: networks that may not be called, although they are public or allowed.
    :param nat64_prefixes: by which this network translates IPv6 to IPv4 (RFC 6052): addresses in
        them are judged by the IPv4 address they hold.
    :param resolver: what stands in for `socket.getaddrinfo`.
    :param own_networks: tells the networks whose addresses are this machine's own, which may be
        called only if they are allowed.
    :raises ValueError: if one of the networks is none.
    """

    def __init__(
        self,
        *,
        require_https: bool = True,
        allowed_networks: Iterable[str | Network] = (),
        denied_networks: Iterable[str | Network] = (),
        nat64_prefixes: Iterable[str | IPv6Network] = (),
        resolver: Resolver = socket.getaddrinfo,
        own_networks: Callable[[], Collection[Network]] = machine.own,
    ) -> None:
        self.require_https = require_https
        self.allowed_networks = tuple(ip_network(network) for network in allowed_networks)
        self.denied_networks = tuple(ip_network(network) for network in denied_networks)
        self.nat64_prefixes = tuple(IPv6Network(prefix) for prefix in nat64_prefixes)
        self._schemes = ("https",) if require_https else ("https", "http")
        self._policy = AddressPolicy(
            allowed=self.allowed_networks,
            denied=self.denied_networks,
            nat64_prefixes=self.nat64_prefixes,
            own=own_networks,
        )
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
        target, address = urls.parse(url, self._schemes)
        objection = ports.objection(target.scheme, target.port)
        if objection is not None:
            raise AddressRefused(objection)
        if address is not None:
            self.check_address(address)
            return target
        objection = names.objection(
            target.host, loopback=self._loopback_allowed, inside=bool(self.allowed_networks)
        )
        if objection is not None:
            reason = f"the name {target.host!r} belongs to {objection}"
            raise AddressRefused(reason, f"{reason}: {self._allowed}")
        return target

    def check_address(self, address: str | Address) -> None:
        """Judge an address: it must be public and unicast, or in an allowed network.

        An IPv6 address that carries an IPv4 one (mapped, compatible, translated, 6to4, Teredo,
        NAT64, ISATAP) is refused as well if that one is.

        :raises AddressRefused: if it may not be called, or is no address.
        """
        if isinstance(address, str):
            try:
                address = ip_address(address)
            except ValueError:
                raise AddressRefused(f"{address!r} is no IP address") from None
        objection = self._policy.objection(address)
        if objection is not None:
            raise AddressRefused(objection.reason, f"{objection.detail}; {self._allowed}")

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
            if family in (socket.AF_INET, socket.AF_INET6):
                self._check_answer(host, sockaddr)
                addresses.append((int(family), tuple(sockaddr)))
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "the name has no address")
        return addresses

    def _check_answer(self, host: str, sockaddr: tuple[Any, ...]) -> None:
        text = str(sockaddr[0])
        if any(sockaddr[3:]) and "%" not in text:
            text += f"%{sockaddr[3]}"
        address = ip_address(text)
        objection = self._policy.objection(address)
        if objection is not None:
            # Which one it is is nobody's business who can write a URL.
            reason = f"the name {host!r} resolves to an address that {objection.verdict}"
            raise AddressRefused(reason, f"{reason}: {objection.detail}; {self._allowed}")


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
