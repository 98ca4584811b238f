"""Ground: the policy on single addresses.

In this order: what is denied is refused, whatever else is said of it; a cloud's metadata service is
refused unless its very address is allowed; what is allowed may be called; what is special or this
machine's own is refused; everything else is public.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from ipaddress import IPv6Address, IPv6Network
from typing import NamedTuple

from . import embedded
from .networks import METADATA, NAT64_LOCAL, Address, Network, special

NOT_PUBLIC = "is not public"
NOT_CALLED = "may not be called"


class Objection(NamedTuple):
    """What speaks against an address.

    :param address: as it is told, with the one that it stands for.
    :param verdict: for whoever gave the URL: one of the two above.
    :param kind: of address, by the registries: for them as well, if the address is in the URL.
    :param why: for the operator's log alone.
    """

    address: str
    verdict: str
    kind: str = ""
    why: str = ""

    @property
    def reason(self) -> str:
        """A sentence for whoever wrote this very address into a URL."""
        kind = f" ({self.kind})" if self.kind else ""
        return f"the address {self.address} {self.verdict}{kind}"

    @property
    def detail(self) -> str:
        """A sentence for the operator."""
        return f"{self.reason}: {self.why}" if self.why else self.reason


class AddressPolicy:
    """Which addresses may be called.

    :param allowed: networks that may be called though they are special, or this machine's own.
    :param denied: networks that may not be called, though they are public or allowed.
    :param nat64_prefixes: of this network's translators.
    :param own: tells the networks that are this machine's own.
    """

    def __init__(
        self,
        *,
        allowed: Sequence[Network],
        denied: Sequence[Network],
        nat64_prefixes: Sequence[IPv6Network],
        own: Callable[[], Collection[Network]],
    ) -> None:
        self._allowed = allowed
        self._denied = denied
        self._nat64_prefixes = nat64_prefixes
        self._own = own

    def objection(self, address: Address) -> Objection | None:
        """What speaks against an address; None if it may be called.

        An IPv6 address that an IPv4 one stands in is refused if that one is.
        """
        if isinstance(address, IPv6Address) and address.scope_id is not None:
            return Objection(str(address), NOT_PUBLIC, "in a zone of this machine")
        parts = embedded.judged(address, self._nat64_prefixes)
        for part in (address, *parts):
            for network in self._denied:
                if part in network:
                    why = f"the network {network} is denied"
                    return Objection(_told(part, of=address), NOT_CALLED, why=why)
        for part in parts:
            objection = self._objection(part, _told(part, of=address))
            if objection is not None:
                return objection
        return None

    def _objection(self, address: Address, told: str) -> Objection | None:
        # Where the IPv4 address stands in there, only the settings can tell.
        if address in NAT64_LOCAL:
            why = "RESTHOOKS_NAT64_PREFIXES has no prefix for it"
            return Objection(told, NOT_PUBLIC, special(address) or "", why)
        allowed = [network for network in self._allowed if address in network]
        if not allowed and (kind := special(address)):
            return Objection(told, NOT_PUBLIC, kind)
        if address in METADATA and all(network.num_addresses > 1 for network in allowed):
            why = "only its very address as an allowed network lets it in"
            return Objection(told, NOT_PUBLIC, "cloud metadata", why)
        if not allowed and any(address in network for network in self._own()):
            return Objection(told, NOT_CALLED, why="it is this machine's own")
        return None


def _told(part: Address, *, of: Address) -> str:
    return str(of) if part == of else f"{of}, which stands for {part},"
