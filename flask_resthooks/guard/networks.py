"""Ground: the networks in which no receiver can be, and what each of them is for.

The rule is simple: whatever stands in one of IANA's two registries of special-purpose addresses is
refused, even where the registry says "globally reachable". Those few (AS112, AMT, PCP, TURN, SRP)
are anycast: the nearest one answers, which may well be in our own network, and none of them is a
receiver of hooks. Two rows only lend their addresses to IPv4, and are judged by it: IPv4-mapped
addresses, and NAT64's well-known prefix (`embedded.py`).

`ipaddress.is_global` is not used: its table differs between Python versions.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# IANA IPv4 Special-Purpose Address Registry, as of October 2025, in its order.
REGISTRY_V4 = (
    ("0.0.0.0/8", "this network"),
    ("0.0.0.0/32", "this host"),
    ("10.0.0.0/8", "private use"),
    ("100.64.0.0/10", "shared address space"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local"),
    ("172.16.0.0/12", "private use"),
    ("192.0.0.0/24", "IETF protocol assignments"),
    ("192.0.0.0/29", "IPv4 service continuity"),
    ("192.0.0.8/32", "IPv4 dummy address"),
    ("192.0.0.9/32", "PCP anycast"),
    ("192.0.0.10/32", "TURN anycast"),
    ("192.0.0.170/32", "NAT64/DNS64 discovery"),
    ("192.0.0.171/32", "NAT64/DNS64 discovery"),
    ("192.0.2.0/24", "documentation"),
    ("192.31.196.0/24", "AS112"),
    ("192.52.193.0/24", "AMT"),
    ("192.88.99.0/24", "6to4 relay anycast, deprecated"),
    ("192.88.99.2/32", "6a44 relay anycast"),
    ("192.168.0.0/16", "private use"),
    ("192.175.48.0/24", "AS112"),
    ("198.18.0.0/15", "benchmarking"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("240.0.0.0/4", "reserved"),
    ("255.255.255.255/32", "limited broadcast"),
)

# IANA IPv6 Special-Purpose Address Registry, as of October 2025, in its order.
REGISTRY_V6 = (
    ("::1/128", "loopback"),
    ("::/128", "unspecified"),
    ("::ffff:0:0/96", "IPv4-mapped"),
    ("64:ff9b::/96", "IPv4/IPv6 translation"),
    ("64:ff9b:1::/48", "local-use IPv4/IPv6 translation"),
    ("100::/64", "discard-only"),
    ("100:0:0:1::/64", "dummy prefix"),
    ("2001::/23", "IETF protocol assignments"),
    ("2001::/32", "Teredo"),
    ("2001:1::1/128", "PCP anycast"),
    ("2001:1::2/128", "TURN anycast"),
    ("2001:1::3/128", "SRP anycast"),
    ("2001:2::/48", "benchmarking"),
    ("2001:3::/32", "AMT"),
    ("2001:4:112::/48", "AS112"),
    ("2001:10::/28", "ORCHID, deprecated"),
    ("2001:20::/28", "ORCHIDv2"),
    ("2001:30::/28", "drone remote identification"),
    ("2001:db8::/32", "documentation"),
    ("2002::/16", "6to4"),
    ("2620:4f:8000::/48", "AS112"),
    ("3fff::/20", "documentation"),
    ("5f00::/16", "segment routing"),
    ("fc00::/7", "unique local"),
    ("fe80::/10", "link-local"),
)

# What is in other registries of IANA, or was in these.
OTHERS_V4 = (("224.0.0.0/4", "multicast"),)
OTHERS_V6 = (
    ("::/96", "IPv4-compatible, deprecated"),
    ("::ffff:0:0:0/96", "IPv4-translated"),
    ("fec0::/10", "site-local, deprecated"),
    ("ff00::/8", "multicast"),
)

MAPPED = IPv6Network("::ffff:0:0/96")
NAT64 = IPv6Network("64:ff9b::/96")
NAT64_LOCAL = IPv6Network("64:ff9b:1::/48")
GLOBAL_UNICAST_V6 = IPv6Network("2000::/3")
LOOPBACK = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))


def _by_length(rows: tuple[tuple[str, str], ...]) -> tuple[tuple[Network, str], ...]:
    """The most particular first."""
    networks = ((ip_network(network), name) for network, name in rows)
    return tuple(sorted(networks, key=lambda row: -row[0].prefixlen))


_SPECIAL = {4: _by_length(REGISTRY_V4 + OTHERS_V4), 6: _by_length(REGISTRY_V6 + OTHERS_V6)}

# Where clouds hand their credentials to whoever asks from inside: AWS (instances, ECS, EKS), Azure,
# Google, Oracle and most others at 169.254.169.254; then those that differ. Most of them are in
# one of the networks above. They are listed for the operator who lets such a network in: it takes
# the very address to let one of these in.
METADATA = frozenset(
    ip_address(address)
    for address in (
        "169.254.169.254",
        "169.254.169.253",  # AWS: resolver
        "169.254.170.2",  # AWS: ECS
        "169.254.170.23",  # AWS: EKS
        "169.254.0.23",  # Tencent
        "169.254.42.42",  # Scaleway
        "100.100.100.200",  # Alibaba
        "168.63.129.16",  # Azure: wire server; of all these, the one in public space
        "192.0.0.192",  # Oracle, classic
        "fd00:ec2::254",  # AWS
        "fd00:ec2::253",
        "fd00:ec2::23",
        "fd20:ce::254",  # Google
        "fd00:c1::a9fe:a9fe",  # Oracle
        "fd00:42::42",  # Scaleway
        "fd00:a9fe:a9fe::1",  # Akamai
        "fd00:100::100:200",  # Alibaba
        "fe80::a9fe:a9fe",  # OpenStack
    )
)


def special(address: Address) -> str | None:
    """What an address is for, if not for the public's use; None if it is an ordinary one.

    IPv4-mapped addresses and those of NAT64 are for the IPv4 address in them: ask for that one.
    """
    for network, name in _SPECIAL[address.version]:
        if address in network:
            return name
    if isinstance(address, IPv6Address) and address not in GLOBAL_UNICAST_V6:
        return "no global unicast"
    return None
