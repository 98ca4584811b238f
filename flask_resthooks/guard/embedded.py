"""Ground: the IPv4 addresses that stand in IPv6 ones.

A packet to such an IPv6 address may end at the IPv4 address in it, on the other side of a
translator or a tunnel: whoever judges the one must judge the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network

from .networks import MAPPED, NAT64, Address

COMPATIBLE = IPv6Network("::/96")
TRANSLATED = IPv6Network("::ffff:0:0:0/96")
SIX_TO_FOUR = IPv6Network("2002::/16")
TEREDO = IPv6Network("2001::/32")
# RFC 5214, section 6.1: the upper half of an interface identifier, local and universal.
ISATAP = (0x0000_5EFE, 0x0200_5EFE)

_WORD = 0xFFFF_FFFF


def judged(address: Address, nat64_prefixes: Sequence[IPv6Network] = ()) -> list[Address]:
    """The addresses that must all be fit to be called for this one to be.

    What is nothing but IPv4 in other clothes (mapped, NAT64) is judged by its IPv4 address alone.
    What a tunnel may carry to an IPv4 address (compatible, translated, 6to4, Teredo, ISATAP) is
    judged by that one and by itself. Every other address is judged by itself.

    :param nat64_prefixes: of this network's translators (RFC 6052), beside the well-known one.
    """
    if isinstance(address, IPv4Address):
        return [address]
    prefixes = [prefix for prefix in (MAPPED, NAT64, *nat64_prefixes) if address in prefix]
    if prefixes:
        return [_rfc6052(address, max(prefix.prefixlen for prefix in prefixes))]
    return [*_carried(address), address]


def _carried(address: IPv6Address) -> list[Address]:
    value = int(address)
    low = value & _WORD
    if address in COMPATIBLE:
        return [IPv4Address(low)] if value > 1 else []  # :: and ::1 are none of them
    if address in SIX_TO_FOUR:
        return [IPv4Address(value >> 80 & _WORD)]
    if address in TEREDO:  # the server's, and the client's with all its bits turned
        return [IPv4Address(value >> 64 & _WORD), IPv4Address(low ^ _WORD)]
    if address in TRANSLATED or value >> 32 & _WORD in ISATAP:
        return [IPv4Address(low)]
    return []


def _rfc6052(address: IPv6Address, prefix_length: int) -> IPv4Address:
    """The IPv4 address behind a prefix of 32, 40, 48, 56, 64 or 96 bits (RFC 6052, section 2.2).

    It follows the prefix, but leaves out the bits 64 to 71.
    """
    value = int(address)
    if prefix_length == 96:
        return IPv4Address(value & _WORD)
    without = value >> 64 << 56 | value & (1 << 56) - 1
    return IPv4Address(without >> (120 - 32 - prefix_length) & _WORD)
