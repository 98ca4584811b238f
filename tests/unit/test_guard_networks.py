"""Which addresses are public: IANA's registries row by row, and against Python's own table."""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_resthooks.errors import AddressRefused
from flask_resthooks.guard import Guard, networks

GUARD = Guard(own_networks=lambda: [])

# Every row of the two registries of special-purpose addresses (October 2025), and what else is no
# public unicast address. Whatever "globally reachable" says there, the verdict is the same.
REFUSED = """
0.0.0.0/8           this network
0.0.0.0/32          this host
10.0.0.0/8          private use
100.64.0.0/10       shared address space
127.0.0.0/8         loopback
169.254.0.0/16      link-local
172.16.0.0/12       private use
192.0.0.0/24        IETF protocol assignments
192.0.0.0/29        IPv4 service continuity
192.0.0.8/32        IPv4 dummy address
192.0.0.9/32        PCP anycast
192.0.0.10/32       TURN anycast
192.0.0.170/32      NAT64/DNS64 discovery
192.0.0.171/32      NAT64/DNS64 discovery
192.0.2.0/24        documentation
192.31.196.0/24     AS112
192.52.193.0/24     AMT
192.88.99.0/24      6to4 relay anycast, deprecated
192.88.99.2/32      6a44 relay anycast
192.168.0.0/16      private use
192.175.48.0/24     AS112
198.18.0.0/15       benchmarking
198.51.100.0/24     documentation
203.0.113.0/24      documentation
240.0.0.0/4         reserved
255.255.255.255/32  limited broadcast
224.0.0.0/4         multicast
::1/128             loopback
::/128              unspecified
64:ff9b:1::/48      local-use IPv4/IPv6 translation
100::/64            discard-only
100:0:0:1::/64      dummy prefix
2001::/23           IETF protocol assignments
2001::/32           Teredo
2001:1::1/128       PCP anycast
2001:1::2/128       TURN anycast
2001:1::3/128       SRP anycast
2001:2::/48         benchmarking
2001:3::/32         AMT
2001:4:112::/48     AS112
2001:10::/28        ORCHID, deprecated
2001:20::/28        ORCHIDv2
2001:30::/28        drone remote identification
2001:db8::/32       documentation
2002::/16           6to4
2620:4f:8000::/48   AS112
3fff::/20           documentation
5f00::/16           segment routing
fc00::/7            unique local
fe80::/10           link-local
::/96               IPv4-compatible, deprecated
::ffff:0:0:0/96     IPv4-translated
fec0::/10           site-local, deprecated
ff00::/8            multicast
::/3                no global unicast
4000::/2            no global unicast
8000::/1            no global unicast
"""
# The two rows that are judged by the IPv4 address in them.
BY_IPV4 = {"::ffff:0:0/96": "IPv4-mapped", "64:ff9b::/96": "IPv4/IPv6 translation"}

ROWS = {
    ipaddress.ip_network(row.split(maxsplit=1)[0]): row.split(maxsplit=1)[1]
    for row in REFUSED.strip().splitlines()
}


def kind_of(address: IPv4Address | IPv6Address) -> str | None:
    """By the rows above, the most particular one first."""
    containing = [network for network in ROWS if address in network]
    return ROWS[max(containing, key=lambda network: network.prefixlen)] if containing else None


def edges(network: Any) -> list[IPv4Address | IPv6Address]:
    """The first and the last address, one in the middle, and the neighbours outside."""
    first, last = int(network[0]), int(network[-1])
    kind = type(network[0])
    limit = 2**network.max_prefixlen - 1
    values = {first - 1, first, (first + last) // 2, last, last + 1}
    return [kind(value) for value in sorted(values) if 0 <= value <= limit]


ADDRESSES = [address for network in ROWS for address in edges(network)]


def verdict(address: IPv4Address | IPv6Address | str, guard: Guard = GUARD) -> str:
    try:
        guard.check_address(address)
    except AddressRefused as refusal:
        assert refusal.detail.startswith(refusal.reason)
        assert refusal.detail.endswith("; public addresses are allowed")
        return refusal.reason
    return ""


def test_every_row_of_the_registries_is_in_the_guard() -> None:
    rows = dict(networks.REGISTRY_V4 + networks.REGISTRY_V6 + networks.OTHERS_V4)
    rows |= dict(networks.OTHERS_V6)
    assert {
        ipaddress.ip_network(network) for network in (*rows, "::/3", "4000::/2", "8000::/1")
    } == {
        *ROWS,
        *map(ipaddress.ip_network, BY_IPV4),
    }
    assert (len(networks.REGISTRY_V4), len(networks.REGISTRY_V6)) == (26, 25)
    for row, name in BY_IPV4.items():
        network = IPv6Network(row)
        assert networks.special(network[0]) == networks.special(network[-1]) == name


@pytest.mark.parametrize("address", sorted(set(map(str, ADDRESSES))))
def test_a_special_network_is_refused_from_its_first_address_to_its_last(address: str) -> None:
    parsed = ipaddress.ip_address(address)
    special = kind_of(parsed)
    if isinstance(parsed, IPv4Address) or not carries(parsed):
        told = verdict(address)
        assert told == (f"the address {address} is not public ({special})" if special else "")
    else:
        assert verdict(address).endswith(")")


def test_an_address_is_called_by_the_most_particular_row() -> None:
    for address in ADDRESSES:
        if not any(address in IPv6Network(network) for network in BY_IPV4):
            assert networks.special(address) == kind_of(address)
    assert networks.special(IPv4Address("168.63.129.16")) is None  # a metadata service, by itself


def carries(address: IPv6Address) -> bool:
    """Whether some IPv4 address may stand in there, and decide."""
    return int(address) > 1 and any(
        address in IPv6Network(network)
        for network in ("::/95", "::ffff:0:0:0/95", "2002::/16", "2001::/32", *BY_IPV4)
    )


def test_there_are_public_addresses_at_the_edges() -> None:
    public = [address for address in ADDRESSES if kind_of(address) is None]
    assert {str(address) for address in public} >= {
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "223.255.255.255",
        "2001:200::",
        "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff",
        "2001:db9::",
        "2003::",
        "2620:4f:7fff:ffff:ffff:ffff:ffff:ffff",
        "2620:4f:8001::",
        "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "3fff:1000::",
    }


# Python's own table differs between its versions, and has what is special here as global.
NOT_IN_PYTHON = """
192.0.0.0/24 192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.175.48.0/24 224.0.0.0/4
168.63.129.16/32 100.64.0.0/10 2001::/23 2002::/16 2620:4f:8000::/48 3fff::/20
"""


def near(network: Any) -> st.SearchStrategy[int]:
    first, last = int(network[0]), int(network[-1])
    limit = 2**network.max_prefixlen - 1
    around = st.one_of(st.integers(first, last), st.integers(-3, 3).map(lambda step: first + step))
    around = st.one_of(around, st.integers(-3, 3).map(lambda step: last + step))
    return around.map(lambda value: min(max(value, 0), limit))


V4 = st.one_of(
    st.integers(0, 2**32 - 1), *(near(row) for row in ROWS if isinstance(row, IPv4Network))
).map(IPv4Address)
V6 = st.one_of(
    st.integers(0, 2**128 - 1),
    st.integers(2**125, 2**126 - 1),
    *(near(row) for row in ROWS if isinstance(row, IPv6Network)),
).map(IPv6Address)


@settings(max_examples=1000)
@given(st.one_of(V4, V6))
def test_what_is_public_is_global_for_python_too(address: IPv4Address | IPv6Address) -> None:
    if isinstance(address, IPv6Address):
        native = address in IPv6Network("2000::/3")
        isatap = int(address) >> 32 & 0xFFFFFFFF in (0x5EFE, 0x2005EFE)
        if not native or isatap:
            return
    if any(address in ipaddress.ip_network(network) for network in NOT_IN_PYTHON.split()):
        assert verdict(address)
    else:
        assert (verdict(address) == "") == address.is_global


@given(V4.filter(lambda address: address not in networks.METADATA))
def test_an_ipv4_address_is_judged_alike_in_all_its_clothes(address: IPv4Address) -> None:
    special = kind_of(address)
    value = int(address)
    for clothed in (0xFFFF << 32 | value, 0x64FF9B << 96 | value):
        reason = verdict(IPv6Address(clothed))
        assert bool(reason) == bool(special)
        assert f"which stands for {address}, is not public ({special})" in reason or not special
    # What a tunnel carries to a special address is refused for that; to a public one, for itself.
    for clothed, itself in (
        (0xFFFF << 48 | value, "IPv4-translated"),
        (0x2002 << 112 | value << 80, "6to4"),
        (0x20010000 << 96 | value << 64 | 0xF7F7F7F7, "Teredo"),
        (0x20010000 << 96 | 0x08080808 << 64 | value ^ 0xFFFFFFFF, "Teredo"),
        (0x26064700 << 96 | 0x5EFE << 32 | value, ""),
        (0x26064700 << 96 | 0x2005EFE << 32 | value, ""),
    ):
        reason = verdict(IPv6Address(clothed))
        if special:
            assert f"which stands for {address}, is not public ({special})" in reason
        else:
            assert reason.endswith(f" is not public ({itself})") if itself else not reason


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.data())
def test_every_form_of_an_ipv4_address_is_judged_as_the_canonical_one(
    value: int, count: int, data: st.DataObject
) -> None:
    octets = list(value.to_bytes(4, "big"))
    numbers = [*octets[: count - 1], int.from_bytes(octets[count - 1 :], "big")]
    forms = st.sampled_from(["{}", "0x{:x}", "0X{:X}", "0x000{:x}", "0{:o}", "000{:o}"])
    host = ".".join(data.draw(forms).format(number) for number in numbers)
    host += data.draw(st.sampled_from(["", "."]))
    if data.draw(st.booleans()):
        host = host.translate({ord("0") + i: 0xFF10 + i for i in range(10)})
    canonical = str(IPv4Address(value))
    try:
        GUARD.check_address(canonical)
    except AddressRefused as refusal:
        with pytest.raises(AddressRefused) as again:
            GUARD.check_url(f"https://{host}/")
        assert again.value.reason == refusal.reason
    else:
        assert GUARD.check_url(f"https://{host}/").host == canonical


@given(V6, st.data())
def test_every_form_of_an_ipv6_address_is_judged_as_the_canonical_one(
    address: IPv6Address, data: st.DataObject
) -> None:
    groups = address.exploded.split(":")
    if data.draw(st.booleans()):
        low = IPv4Address(int(address) & 0xFFFFFFFF)
        groups = [*groups[:6], str(low)]
    widths = data.draw(st.lists(st.booleans(), min_size=len(groups), max_size=len(groups)))
    short = [
        group if wide or "." in group else f"{int(group, 16):x}"
        for group, wide in zip(groups, widths, strict=True)
    ]
    zeros = [n for n in range(len(short)) if short[n].strip("0") == "" and "." not in short[n]]
    text = ":".join(short)
    if zeros and data.draw(st.booleans()):
        at = data.draw(st.sampled_from(zeros))
        text = f"{':'.join(short[:at])}::{':'.join(short[at + 1 :])}"
    if data.draw(st.booleans()):
        text = text.upper()
    expected = verdict(str(address))
    assert verdict(text) == expected
    try:
        target = GUARD.check_url(f"https://[{text}]/")
    except AddressRefused as refusal:
        assert refusal.reason == expected
    else:
        assert (expected, target.host) == ("", str(address))
