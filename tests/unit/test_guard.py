"""The guard as a whole, as the API and the transport ask it."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import Any

import pytest
from guard_cases import CASES, GUARDS, NAMES, Case

import flask_resthooks.guard as guard_package
from flask_resthooks.errors import AddressRefused
from flask_resthooks.guard import Guard

GUARD = Guard()
HTTP = Guard(require_https=False)
LOOPBACK = Guard(require_https=False, allowed_networks=["127.0.0.0/8", "::1/128"])


def answering(*addresses: str) -> Any:
    """A resolver that gives these addresses to every name."""

    def resolver(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        return [
            (socket.AF_INET6, 1, 6, "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, 1, 6, "", (address, port))
            for address in addresses
        ]

    return resolver


LOCAL_HOSTS = [
    "127.0.0.1",
    "127.0.0.1.",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0X7F000001",
    "0x7f.0.0.1",
    "0x7f.1",
    "017700000001",
    "0177.0.0.1",
    "0177.1",
    "00000177.0.0.01",
    "127.000.000.001",
    "\uff11\uff12\uff17.\uff10.\uff10.\uff11",
    "127\u30020\u30020\u30021",
    "127\uff0e0\uff610\uff0e1",
    "\u2460\u2461\u2466.1",
    "%31%32%37.0.0.1",
    "127.0.0.1%00",
    "127.255.255.254",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[0000::0001]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b:1::127.0.0.1]",
    "[2002:7f00:1::]",
    "[2001:0:7f00:1::]",
    "[2606:4700::5efe:127.0.0.1]",
    "[2606:4700::200:5efe:127.0.0.1]",
    "[fe80::1%25eth0]",
    "[fe80::1%eth0]",
    "[::1%1]",
    "[::]",
    "0.0.0.0",
    "0",
    "0x0",
    "169.254.169.254",
    "0xa9fea9fe",
    "2852039166",
    "[::ffff:169.254.169.254]",
    "[fd00:ec2::254]",
    "168.63.129.16",
    "100.100.100.200",
    "10.0.0.1",
    "10.1",
    "012.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "224.0.0.1",
    "255.255.255.255",
    "[ff02::1]",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "a.localhost",
    "localhost.localdomain",
    "printer.local",
    "metadata.google.internal",
    "\uff4cocalhost",
]


@pytest.mark.parametrize("host", LOCAL_HOSTS)
def test_no_spelling_of_a_local_host_is_let_through(host: str) -> None:
    with pytest.raises(AddressRefused):
        HTTP.check_url(f"http://{host}/")
    with pytest.raises(AddressRefused):
        HTTP.check_url(f"http://{host}:8080")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_table_of_cases_is_what_the_guard_says(case: Case) -> None:
    """Without the API and the transport: `tests/integration/test_guard_table.py` has them."""
    guard = GUARDS[case.guard]
    for addresses, reason in zip(case.rounds, case.reasons, strict=True):
        NAMES.rounds = [addresses]
        try:
            target = guard.check_url(case.url)
            connected = guard.resolve(target.host, target.port)
        except AddressRefused as refusal:
            assert reason and reason in refusal.reason
        except socket.gaierror:
            assert addresses is None
        else:
            assert not reason
            assert [sockaddr[:2] for _, sockaddr in connected] == [
                (str(ip_address(address)), target.port) for address in addresses or ()
            ]


def test_the_face_of_the_guard_hands_on_what_it_names() -> None:
    assert {"Guard", "Target", "Resolver"} <= set(guard_package.__all__)
    assert all(hasattr(guard_package, name) for name in guard_package.__all__)


def test_http_is_let_through_only_on_demand() -> None:
    assert HTTP.check_url("http://example.com:80/").url == "http://example.com/"
    with pytest.raises(AddressRefused, match="only https is allowed"):
        GUARD.check_url("http://example.com/")


def test_allowed_loopback_opens_its_names_and_addresses_but_no_others() -> None:
    for host in ("localhost", "a.localhost", "127.0.0.1", "127.1", "[::1]", "[::ffff:127.0.0.1]"):
        LOOPBACK.check_url(f"http://{host}:8000/")
    assert LOOPBACK.check_url("http://127.1/").host == "127.0.0.1"
    for host in ("10.0.0.1", "169.254.169.254", "[::]", "0.0.0.0", "[fe80::1]"):
        with pytest.raises(AddressRefused) as refusal:
            LOOPBACK.check_url(f"http://{host}/")
        assert "127.0.0.0/8, ::1/128" in refusal.value.detail


def test_an_allowed_network_of_another_kind_does_not_open_localhost() -> None:
    guard = Guard(allowed_networks=["10.0.0.0/8"])
    guard.check_url("https://db.internal/")
    with pytest.raises(AddressRefused):
        guard.check_url("https://localhost/")


def test_an_allowed_v6_network_does_not_open_the_v4_address_within() -> None:
    guard = Guard(allowed_networks=["::/0"])
    guard.check_address("fd00::1")
    guard.check_address("::ffff:8.8.8.8")
    for address in ("::ffff:127.0.0.1", "2002:7f00:1::", "::127.0.0.1", "64:ff9b::10.0.0.1"):
        with pytest.raises(AddressRefused, match="stands for"):
            guard.check_address(address)


def test_a_network_that_is_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="300"):
        Guard(allowed_networks=["300.0.0.0/8"])


def test_what_is_no_address_is_refused() -> None:
    for text in ("", "localhost", "127.1", "8.8.8.8/32", "fe80::1%eth0", "2606:4700::1%1"):
        with pytest.raises(AddressRefused):
            GUARD.check_address(text)


def test_resolving_keeps_the_order_of_the_addresses() -> None:
    guard = Guard(resolver=answering("2606:4700::1", "8.8.8.8", "1.1.1.1"))
    assert guard.resolve("example.com", 443) == [
        (socket.AF_INET6, ("2606:4700::1", 443, 0, 0)),
        (socket.AF_INET, ("8.8.8.8", 443)),
        (socket.AF_INET, ("1.1.1.1", 443)),
    ]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "10.0.0.1", "fe80::1%eth0"])
def test_a_name_with_one_private_address_is_refused_as_a_whole(address: str) -> None:
    guard = Guard(resolver=answering("8.8.8.8", address, "1.1.1.1"))
    with pytest.raises(AddressRefused, match=r"'example\.com'"):
        guard.resolve("example.com", 443)


@pytest.mark.parametrize("address", ["10.1.2.3", "::1", "64:ff9b::10.1.2.3", "fe80::1%eth0"])
def test_what_a_name_stands_for_is_for_the_operator_alone(address: str) -> None:
    guard = Guard(allowed_networks=["192.168.7.0/24"], resolver=answering("8.8.8.8", address))
    with pytest.raises(AddressRefused) as refusal:
        guard.resolve("inside.example", 443)
    public = "the name 'inside.example' resolves to an address that is not public"
    assert refusal.value.reason == str(refusal.value) == public
    assert refusal.value.detail.startswith(f"{public}: the address {ip_address(address)}")
    assert refusal.value.detail.endswith("); public addresses are allowed and 192.168.7.0/24")
    assert "'inside.example'" in refusal.value.detail
    assert address.partition("%")[0].partition("::10")[0] in refusal.value.detail
    assert "192.168.7.0/24" in refusal.value.detail


@pytest.mark.parametrize(
    "host",
    [
        "10.1",
        "[::1]",
        "[::ffff:10.0.0.1]",
        "[4000::1]",
        "localhost",
        "a.internal",
        "[64:ff9b::10.0.0.1]",
    ],
)
def test_the_allowed_networks_are_for_the_operator_alone(host: str) -> None:
    guard = Guard(allowed_networks=["192.168.7.0/24"])
    if host == "a.internal":  # whoever lets in a network may have names for it
        guard = Guard()
    with pytest.raises(AddressRefused) as refusal:
        guard.check_url(f"https://{host}/")
    for text in (refusal.value.reason, str(refusal.value)):
        assert "192.168" not in text and "allowed" not in text
    assert refusal.value.detail.startswith(refusal.value.reason)
    assert "public addresses are allowed" in refusal.value.detail


def test_a_refused_name_is_called_what_it_is() -> None:
    guard = Guard(allowed_networks=["192.168.7.0/24", "fd00::/8"])
    for host, whose in {
        "localhost": "a local network",
        "metadata": "a cloud metadata service",
    }.items():
        with pytest.raises(AddressRefused) as refusal:
            guard.check_url(f"https://{host}/")
        reason = f"the name '{host}' belongs to {whose}"
        assert str(refusal.value) == refusal.value.reason == reason
        assert refusal.value.detail == (
            f"{reason}: public addresses are allowed and 192.168.7.0/24, fd00::/8"
        )


def test_a_literal_address_is_named_as_it_was_understood() -> None:
    with pytest.raises(
        AddressRefused, match=r"the address 127\.0\.0\.1 is not public \(loopback\)"
    ):
        GUARD.check_url("https://0x7f.1/")


def test_an_address_is_resolved_to_itself() -> None:
    assert GUARD.resolve("8.8.8.8", 443) == [(socket.AF_INET, ("8.8.8.8", 443))]
    assert GUARD.resolve("2606:4700:0::1", 8443) == [
        (socket.AF_INET6, ("2606:4700::1", 8443, 0, 0))
    ]


def test_a_name_is_asked_for_once_and_an_address_not_at_all() -> None:
    asked: list[str] = []

    def resolver(host: str, port: int, **options: Any) -> Any:
        asked.append(host)
        return answering("8.8.8.8")(host, port)

    guard = Guard(resolver=resolver)
    guard.resolve("example.com", 443)
    guard.resolve("8.8.8.8", 443)
    with pytest.raises(AddressRefused):
        guard.resolve("127.0.0.1", 443)
    assert asked == ["example.com"]


def test_a_name_that_cannot_be_resolved_stays_an_oserror() -> None:
    def resolver(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    with pytest.raises(socket.gaierror, match="unknown"):
        Guard(resolver=resolver).resolve("example.com", 443)
    with pytest.raises(socket.gaierror, match="no address"):
        Guard(resolver=answering()).resolve("example.com", 443)
