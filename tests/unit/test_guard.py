from __future__ import annotations

import socket
from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flask_resthooks.errors import AddressRefused
from flask_resthooks.guard import Guard, Target

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


PUBLIC_URLS = {
    "https://example.com": Target("https://example.com/", "https", "example.com", 443),
    "HTTPS://Example.COM./a?b=c#d": Target(
        "https://example.com/a?b=c", "https", "example.com", 443
    ),
    "https://example.com:8443?x": Target(
        "https://example.com:8443/?x", "https", "example.com", 8443
    ),
    "https://example.com:443/": Target("https://example.com/", "https", "example.com", 443),
    "https://example.com:/": Target("https://example.com/", "https", "example.com", 443),
    "https://bücher.example/ü?q=ä%20": Target(
        "https://xn--bcher-kva.example/%C3%BC?q=%C3%A4%20", "https", "xn--bcher-kva.example", 443
    ),
    "https://8.8.8.8/": Target("https://8.8.8.8/", "https", "8.8.8.8", 443),
    "https://0x08.8.2056/": Target("https://8.8.8.8/", "https", "8.8.8.8", 443),
    "https://[2606:4700:0::1111]:99/": Target(
        "https://[2606:4700::1111]:99/", "https", "2606:4700::1111", 99
    ),
    "https://my_host.example.com/a@b": Target(
        "https://my_host.example.com/a@b", "https", "my_host.example.com", 443
    ),
}


@pytest.mark.parametrize("url", PUBLIC_URLS)
def test_a_public_url_is_normalised(url: str) -> None:
    target = GUARD.check_url(url)
    assert target == PUBLIC_URLS[url]
    assert GUARD.check_url(target.url) == target
    assert target.url == f"{target.scheme}://{target.authority}{target.path}"


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


BAD_URLS = [
    "",
    "example.com",
    "//example.com",
    "/path",
    "https:example.com",
    "https:///path",
    "https://",
    "https://:443/",
    "https://./",
    "https://..",
    "https://a..b/",
    "https://-a.example/",
    "https://example.com:0/",
    "https://example.com:65536/",
    "https://example.com:99999999/",
    "https://example.com:-1/",
    "https://example.com:8\u0660/",
    "https://example.com:80:80/",
    "https://user@example.com/",
    "https://user:pass@example.com/",
    "https://example.com@127.0.0.1/",
    "https://example.com\\@127.0.0.1/",
    "https://example.com /",
    " https://example.com/",
    "https://example.com/\r\nX: y",
    "https://example.com/\x00",
    "https://exa\tmple.com/",
    "https://exam\u00adple.com/",
    "https://example.com/\ud800",
    "https://[::1/",
    "https://::1/",
    "https://[127.0.0.1]/",
    "https://[v1.a]/",
    "https://1.2.3.4.5/",
    "https://256.256.256.256/",
    "https://08.1.1.1/",
    "https://example.1/",
    "https://fa\u00df.de/",
    "https://a\u2100b.example/",
    "https://" + "a" * 64 + ".example/",
    "https://" + "a." * 127 + "example/",
    "https://example.com/" + "a" * 9000,
    "http://example.com/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://example.com/",
    "javascript://example.com/",
]


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(AddressRefused) as refusal:
        GUARD.check_url(url)
    assert refusal.value.reason == str(refusal.value)


def test_what_is_no_string_is_refused() -> None:
    with pytest.raises(AddressRefused, match="must be a string"):
        GUARD.check_url(None)  # type: ignore[arg-type]


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
    for address in ("::ffff:127.0.0.1", "2002:7f00:1::", "::127.0.0.1", "64:ff9b:1::10.0.0.1"):
        with pytest.raises(AddressRefused, match="stands for"):
            guard.check_address(address)


def test_a_network_that_is_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="300"):
        Guard(allowed_networks=["300.0.0.0/8"])


SPECIAL = """
0.0.0.0 0.255.255.255 10.0.0.0 10.255.255.255 100.64.0.0 100.127.255.255 127.0.0.0 127.255.255.255
169.254.0.0 169.254.255.255 172.16.0.0 172.31.255.255 192.0.0.0 192.0.0.255 192.0.2.1 192.88.99.1
192.168.0.0 192.168.255.255 198.18.0.0 198.19.255.255 198.51.100.7 203.0.113.7 224.0.0.0
239.255.255.255 240.0.0.0 255.255.255.255
:: ::1 ::8.8.8.8 ::ffff:10.0.0.1 ::ffff:0:8.8.8.8 64:ff9b::10.0.0.1 64:ff9b:1::8.8.8.8 100::1
100:0:0:1::1 2001::1 2001:2::1 2001:10::1 2001:20::1 2001:1ff:ffff::1 2001:db8::1 2002:808:808::
3fff::1 3fff:fff::1 4000::1 5f00::1 fc00::1 fdff::1 fe80::1 febf::1 fec0::1 feff::1 ff00:: ff02::1
ffff::1 2607:f8b0::5efe:10.0.0.1
"""
PUBLIC = """
1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0
169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 192.0.3.0 192.167.255.255
192.169.0.0 198.17.255.255 198.20.0.0 223.255.255.255 ::ffff:8.8.8.8 64:ff9b::8.8.8.8
2001:200::1 2001:4860:4860::8888 2606:4700:4700::1111 2a00:1450:4001::1 3ffe:ffff::1
2607:f8b0::5efe:8.8.8.8
"""


@pytest.mark.parametrize("address", SPECIAL.split())
def test_a_special_address_is_refused(address: str) -> None:
    with pytest.raises(AddressRefused) as refusal:
        GUARD.check_address(address)
    assert "public addresses are allowed" in refusal.value.detail


@pytest.mark.parametrize("address", PUBLIC.split())
def test_a_public_address_is_let_through(address: str) -> None:
    GUARD.check_address(address)


def test_what_is_no_address_is_refused() -> None:
    for text in ("", "localhost", "127.1", "8.8.8.8/32", "fe80::1%eth0", "2606:4700::1%1"):
        with pytest.raises(AddressRefused):
            GUARD.check_address(text)


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


@given(st.one_of(st.text(), st.text().map("https://{}".format), st.text().map("http://a{}".format)))
@example("https://[")
@example("https://]")
@example("https://xn--/")
@example("https://xn--\u00fc/")
@example("https://\u0130.example")
def test_any_text_is_either_a_target_or_refused(text: str) -> None:
    try:
        target = HTTP.check_url(text)
    except AddressRefused:
        return
    assert target.host.isascii()
    assert target.url.isascii()
    assert HTTP.check_url(target.url) == target


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
    assert "'inside.example'" in refusal.value.detail
    assert address.partition("%")[0].partition("::10")[0] in refusal.value.detail
    assert "192.168.7.0/24" in refusal.value.detail


@pytest.mark.parametrize(
    "host",
    [
        "10.1",
        "[::1]",
        "[fe80::1%25lo]",
        "[::ffff:10.0.0.1]",
        "[::x]",
        "[4000::1]",
        "1.2.3.4.5",
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


def test_a_literal_address_is_named_as_it_was_understood() -> None:
    with pytest.raises(
        AddressRefused, match=r"the address 127\.0\.0\.1 is not public \(loopback\)"
    ):
        GUARD.check_url("https://0x7f.1/")


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
