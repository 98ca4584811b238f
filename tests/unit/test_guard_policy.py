"""What the settings change: allowed and denied networks, prefixes, and what no setting changes."""

from __future__ import annotations

import socket
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from flask_resthooks.errors import AddressRefused
from flask_resthooks.guard import Guard, machine, networks

OWN = [ip_network("45.33.32.0/30"), ip_network("2600:3c01::1")]


def refusal(guard: Guard, address: str) -> AddressRefused | None:
    try:
        guard.check_address(address)
    except AddressRefused as refused:
        return refused
    return None


@pytest.mark.parametrize(
    "address", ["45.33.32.0", "45.33.32.3", "::ffff:45.33.32.1", "64:ff9b::45.33.32.1"]
)
def test_this_machines_own_public_address_is_refused(address: str) -> None:
    refused = refusal(Guard(own_networks=lambda: OWN), address)
    assert refused is not None and refused.reason.endswith("may not be called")
    assert refused.detail == (
        f"{refused.reason}: it is this machine's own; public addresses are allowed"
    )


def test_this_machines_own_address_is_let_in_by_an_allowed_network() -> None:
    guard = Guard(own_networks=lambda: OWN, allowed_networks=["45.33.32.2", "2600:3c01::/64"])
    assert refusal(guard, "45.33.32.1") and not refusal(guard, "45.33.32.2")
    assert not refusal(guard, "2600:3c01::1") and not refusal(guard, "45.33.32.4")


def test_a_guard_knows_its_machine() -> None:
    """Whatever its addresses are: they are played to be public here, or are refused anyway."""
    for network in machine.own():
        assert refusal(Guard(), str(network[0]))


def test_a_denied_network_wins_over_allowed_and_public_ones() -> None:
    guard = Guard(
        allowed_networks=["10.0.0.0/8"], denied_networks=["10.1.0.0/16", "8.8.8.0/24", "2606::/16"]
    )
    for address in ("10.0.255.255", "10.2.0.0", "8.8.7.255", "8.8.9.0", "2607::1"):
        assert refusal(guard, address) is None
    for address, network in {
        "10.1.0.0": "10.1.0.0/16",
        "10.1.255.255": "10.1.0.0/16",
        "8.8.8.8": "8.8.8.0/24",
        "2606:4700::1": "2606::/16",
        "::ffff:8.8.8.8": "8.8.8.0/24",
        "2606:4700::5efe:1.1.1.1": "2606::/16",
        "2a00::5efe:8.8.8.8": "8.8.8.0/24",
    }.items():
        refused = refusal(guard, address)
        assert refused is not None
        assert refused.reason.endswith("may not be called") and network not in refused.reason
        assert refused.detail == (
            f"{refused.reason}: the network {network} is denied; "
            "public addresses are allowed and 10.0.0.0/8"
        )


def test_a_denied_network_of_ipv6_is_denied_by_what_it_is_not_by_what_stands_in_it() -> None:
    guard = Guard(denied_networks=["64:ff9b::/96", "::ffff:8.8.0.0/112"])
    assert refusal(guard, "64:ff9b::1.1.1.1") and refusal(guard, "::ffff:8.8.8.8")
    assert not refusal(guard, "1.1.1.1") and not refusal(guard, "8.8.8.8")
    assert not refusal(guard, "::ffff:1.1.1.1")


@pytest.mark.parametrize("address", sorted(map(str, networks.METADATA)))
def test_a_metadata_service_is_let_in_by_its_very_address_alone(address: str) -> None:
    everything = Guard(allowed_networks=["0.0.0.0/0", "::/0"])
    refused = refusal(everything, address)
    assert refused is not None
    assert refused.reason == f"the address {address} is not public (cloud metadata)"
    assert refused.detail.startswith(
        f"{refused.reason}: only its very address as an allowed network lets it in; public"
    )
    wide = str(ip_network(address).supernet(1))
    assert refusal(Guard(allowed_networks=[wide]), address)
    assert refusal(Guard(), address)
    assert not refusal(Guard(allowed_networks=[address]), address)
    assert not refusal(Guard(allowed_networks=[wide, address]), address)


def test_the_metadata_services_are_known_by_address() -> None:
    known = "169.254.169.254 169.254.169.253 169.254.170.2 169.254.170.23 169.254.0.23 "
    known += "169.254.42.42 100.100.100.200 168.63.129.16 192.0.0.192 fd00:ec2::254 fd00:ec2::253 "
    known += "fd00:ec2::23 fd20:ce::254 fd00:c1::a9fe:a9fe fd00:42::42 fd00:a9fe:a9fe::1 "
    known += "fd00:100::100:200 fe80::a9fe:a9fe"
    assert set(map(ip_address, known.split())) == networks.METADATA


def test_local_translation_is_let_in_by_a_prefix_and_not_as_a_network() -> None:
    address, private = "64:ff9b:1:7::8.8.8.8", "64:ff9b:1:7::10.0.0.1"
    for allowed in (["::/0"], [f"{address}/128"]):
        refused = refusal(Guard(allowed_networks=allowed), address)
        assert refused is not None
        assert "(local-use IPv4/IPv6 translation)" in refused.reason
        assert ": RESTHOOKS_NAT64_PREFIXES has no prefix for it;" in refused.detail
    guard = Guard(nat64_prefixes=["64:ff9b:1:7::/96"])
    assert not refusal(guard, address) and refusal(guard, private)
    guard = Guard(nat64_prefixes=["64:ff9b:1:7::/96"], allowed_networks=["10.0.0.0/8"])
    assert not refusal(guard, private)


@pytest.mark.parametrize("address", ["fe80::1%eth0", "2606:4700::1%1"])
def test_a_zone_is_refused_even_in_an_allowed_network(address: str) -> None:
    refused = refusal(Guard(allowed_networks=["::/0"]), address)
    assert refused is not None
    assert refused.reason == f"the address {address} is not public (in a zone of this machine)"


def test_an_answer_with_a_zone_is_refused_wherever_it_stands() -> None:
    for sockaddr in (("fe80::1%eth0", 443, 0, 2), ("2606:4700::1", 443, 0, 2)):

        def resolver(*_: Any, sockaddr: Any = sockaddr, **__: Any) -> list[tuple[Any, ...]]:
            return [(socket.AF_INET6, 1, 6, "", sockaddr)]

        guard = Guard(allowed_networks=["fe80::/10"], resolver=resolver)
        with pytest.raises(AddressRefused, match="that is not public") as refused:
            guard.resolve("example.com", 443)
        assert "in a zone of this machine" in refused.value.detail


def test_answers_of_other_families_are_passed_over() -> None:
    def resolver(host: str, port: int, **options: Any) -> list[tuple[Any, ...]]:
        assert (host, port) == ("example.com", 443)
        assert options == {"type": socket.SOCK_STREAM, "proto": socket.IPPROTO_TCP}
        return [
            (socket.AF_UNIX, 1, 0, "", "/run/socket"),
            (socket.AF_INET, 1, 6, "", ("8.8.8.8", 443)),
        ]

    found = Guard(resolver=resolver).resolve("example.com", 443)
    assert found == [(int(socket.AF_INET), ("8.8.8.8", 443))]
    assert type(found[0][0]) is int
