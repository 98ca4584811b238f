"""Guards made in the test itself: `make mutants` cannot change what was made at import."""

from __future__ import annotations

import socket
from ipaddress import ip_network

import pytest

from flask_resthooks.errors import AddressRefused
from flask_resthooks.guard import Guard, machine, networks


def test_http_is_refused_unless_it_is_allowed() -> None:
    assert Guard().require_https is True
    Guard().check_url("https://example.com/")
    with pytest.raises(AddressRefused):
        Guard().check_url("http://example.com/")
    lax = Guard(require_https=False)
    assert lax.require_https is False
    for scheme in ("http", "https"):
        assert lax.check_url(f"{scheme}://example.com/").scheme == scheme
    for scheme in ("ftp", "HTTPSX", "file"):
        with pytest.raises(AddressRefused):
            lax.check_url(f"{scheme}://example.com/")


@pytest.mark.parametrize(
    ("allowed", "loopback"),
    [
        ([], False),
        (["10.0.0.0/8"], False),
        (["fd00::/8"], False),
        (["127.0.0.1/32"], True),
        (["127.0.0.0/8"], True),
        (["0.0.0.0/0"], True),
        (["::1/128"], True),
        (["10.0.0.0/8", "::/0"], True),
    ],
)
def test_a_name_of_this_machine_is_let_in_if_loopback_is(
    allowed: list[str], loopback: bool
) -> None:
    guard = Guard(allowed_networks=allowed)
    assert guard.allowed_networks == tuple(ip_network(network) for network in allowed)
    if loopback:
        assert guard.check_url("https://localhost/").host == "localhost"
    else:
        with pytest.raises(AddressRefused, match="the name 'localhost' belongs to"):
            guard.check_url("https://localhost/")


def test_the_owner_is_told_what_is_allowed() -> None:
    for allowed, told in (
        ([], "public addresses are allowed"),
        (["10.0.0.0/8"], "public addresses are allowed and 10.0.0.0/8"),
        (["10.0.0.0/8", "fd00::/8"], "public addresses are allowed and 10.0.0.0/8, fd00::/8"),
    ):
        with pytest.raises(AddressRefused) as refused:
            Guard(allowed_networks=allowed).check_address("192.168.0.1")
        assert refused.value.detail.endswith(f"; {told}")


def test_without_a_resolver_of_its_own_the_systems_is_asked() -> None:
    guard = Guard(allowed_networks=["127.0.0.0/8", "::1/128"])
    found = guard.resolve("localhost", 443)
    assert {family for family, _ in found} <= {socket.AF_INET, socket.AF_INET6}
    assert {address[0] for _, address in found} <= {"127.0.0.1", "::1"}
    assert {address[1] for _, address in found} == {443}


def test_of_networks_one_in_the_other_the_smaller_is_found_first() -> None:
    rows = [("10.0.0.0/8", "b"), ("10.1.0.0/16", "a"), ("0.0.0.0/0", "d"), ("11.0.0.0/8", "c")]
    assert networks._by_length(rows) == (
        (ip_network("10.1.0.0/16"), "a"),
        (ip_network("10.0.0.0/8"), "b"),
        (ip_network("11.0.0.0/8"), "c"),
        (ip_network("0.0.0.0/0"), "d"),
    )


def test_a_route_with_bits_of_a_host_is_a_network_all_the_same() -> None:
    found = machine.from_fib_trie("     |-- 10.1.2.3\n        /8 host LOCAL\n")
    assert list(found) == [ip_network("10.0.0.0/8")]


def test_a_machine_whose_name_is_none_has_no_addresses_by_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unknown(*_: object) -> object:
        raise UnicodeError("label too long")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert list(machine._named()) == []


def test_the_zone_of_an_address_that_this_machine_sends_from_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Probe(socket.socket):
        def connect(self, address: object) -> None:
            pass

        def getsockname(self) -> tuple[str, int, int, int]:
            return ("fe80::7%eth0", 40_000, 0, 2)

    monkeypatch.setattr(socket, "socket", Probe)
    assert set(machine._sending()) == {ip_network("fe80::7")}
