"""The guard's table: URLs, what their names stand for, and whether they may be called.

`tests/integration/test_guard_table.py` runs each of them twice, through the API when it is
subscribed and through the transport when something is sent.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from flask_resthooks.guard import Guard


class Names:
    """A resolver: every name stands for what the case says, one round after the other.

    A round is a list of addresses, or None: then there is no such name.
    """

    def __init__(self) -> None:
        self.rounds: list[list[str] | None] = []

    def __call__(self, host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        addresses = self.rounds.pop(0)
        if addresses is None:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [
            (socket.AF_INET6, 1, 6, "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, 1, 6, "", (address, port))
            for address in addresses
        ]


NAMES = Names()


def guard(**options: Any) -> Guard:
    machine = [ip_network("45.33.32.156"), ip_network("2600:3c01::f03c:91ff:fe18:bb2f")]
    return Guard(resolver=NAMES, own_networks=lambda: machine, **options)


GUARDS = {
    # The settings' defaults.
    "default": guard(),
    "http": guard(require_https=False),
    # An operator who has receivers inside, and something there that nobody may call.
    "inside": guard(
        require_https=False,
        allowed_networks=["10.20.0.0/16", "fd12:3456::/32", "45.33.32.156", "100.64.0.0/10"],
        denied_networks=["10.20.30.0/24", "93.184.216.0/28", "2606:2800:220::/48"],
    ),
    "loopback": guard(require_https=False, allowed_networks=["127.0.0.0/8", "::1/128"]),
    # An operator who has let in everything.
    "open": guard(
        require_https=False,
        allowed_networks=["0.0.0.0/0", "::/0"],
        denied_networks=["10.1.0.0/16"],
    ),
    # One who means it.
    "emulator": guard(require_https=False, allowed_networks=["169.254.169.254/32"]),
    "nat64": guard(
        denied_networks=["2001:db8:122:344:0:0:9.9.9.0/120", "1.0.0.0/24"],
        nat64_prefixes=[
            "2001:db8::/32",
            "2001:db8:100::/40",
            "2001:db8:122::/48",
            "2001:db8:122:300::/56",
            "2001:db8:122:344::/64",
            "2001:db8:122:344::/96",
            "64:ff9b:1:64::/96",
        ],
    ),
}


@dataclass(frozen=True)
class Case:
    """
    :param rounds: what the name stands for at the subscription, and at each attempt after it; of
        an address in the URL, that address: it is connected to if it may be.
    :param reasons: for each of them, a part of why it is refused; empty: it is not.
    """

    guard: str
    url: str
    rounds: tuple[list[str] | None, ...]
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.guard} {self.url.encode('ascii', 'backslashreplace').decode()}"


CASES: list[Case] = []


def _case(guard: str, url: str, to: str, reasons: str | tuple[str, ...]) -> None:
    rounds = tuple(None if text == "-" else text.split() for text in to.split(" / "))
    if len(rounds) == 1:
        rounds *= 2
    if isinstance(reasons, str):
        reasons = (reasons,) * len(rounds)
    assert len(rounds) == len(reasons), url
    CASES.append(Case(guard, url, rounds, reasons))


def allowed(guard: str, urls: dict[str, str]) -> None:
    """URLs, and the addresses that are connected to."""
    for url, to in urls.items():
        _case(guard, url, to, "")


def refused(guard: str, reason: str, urls: Iterable[str]) -> None:
    """URLs that no name has to be resolved for."""
    for url in urls:
        _case(guard, url, "93.184.216.34", reason)


def hosts(guard: str, reason: str, hosts: str) -> None:
    """The same, of hosts."""
    refused(guard, reason, (f"https://{host}/hook" for host in hosts.split()))


def stands_for(guard: str, reason: str, answers: Iterable[str]) -> None:
    """Answers to a name."""
    for number, to in enumerate(answers):
        _case(guard, f"https://name-{number}.example.com/hook", to, reason)


NOT_PUBLIC = "resolves to an address that is not public"
NOT_CALLED = "resolves to an address that may not be called"

# --- Public receivers

allowed(
    "default",
    {
        "https://example.com": "93.184.216.34",
        "https://example.com/a?b=c#d": "93.184.216.34",
        "HTTPS://EXAMPLE.COM./": "93.184.216.34",
        "https://my_host.example.com/a@b": "93.184.216.34",
        "https://two.example.com/": "93.184.216.34 2606:2800:220:1::1",
        "https://bücher.example.com/ü": "93.184.216.34",
        "https://xn--bcher-kva.example.com/": "93.184.216.34",
        "https://例え.example.com/": "93.184.216.34",
        "https://metadata.example.com/": "93.184.216.34",
        "https://localhost.example.com/": "93.184.216.34",
        "https://127.0.0.1.example.com/": "93.184.216.34",
        "https://93.184.216.34/": "93.184.216.34",
        "https://0x5db8d822/": "93.184.216.34",
        "https://93.12113954/": "93.184.216.34",
        "https://[2606:2800:220:1::1]/": "2606:2800:220:1::1",
        "https://[::ffff:93.184.216.34]/": "::ffff:5db8:d822",
        "https://[64:ff9b::93.184.216.34]/": "64:ff9b::5db8:d822",
        "https://nat64.example.com/": "64:ff9b::5db8:d822",
        "https://[2606:2800::5efe:93.184.216.34]/": "2606:2800::5efe:5db8:d822",
        "https://example.com:443/": "93.184.216.34",
        "https://example.com:1024/": "93.184.216.34",
        "https://example.com:8443/": "93.184.216.34",
        "https://example.com:65535/": "93.184.216.34",
    },
)
allowed(
    "http",
    {
        "http://example.com/": "93.184.216.34",
        "http://example.com:80/": "93.184.216.34",
        "http://example.com:8080/": "93.184.216.34",
        "https://example.com/": "93.184.216.34",
    },
)

# --- No URLs, or not ours

refused(
    "default",
    "no absolute URL",
    ["example.com", "//example.com/", "/hook", "https:example.com", "mailto:a@example.com"],
)
refused(
    "default",
    "only https is allowed",
    ["http://example.com/", "ftp://example.com/", "file:///etc/passwd", "gopher://example.com/1"],
)
refused("http", "only https and http are allowed", ["ftp://example.com/", "ws://example.com/"])
refused(
    "default",
    "user name or password",
    [
        "https://user@example.com/",
        "https://user:password@example.com/",
        "https://@example.com/",
        "https://example.com@127.0.0.1/",
        "https://example.com:443@127.0.0.1/",
        "https://127.0.0.1:80@example.com/",
    ],
)
refused(
    "default",
    "must be percent-encoded",
    [
        "https://example.com\\@127.0.0.1/",
        "https://example.com /",
        " https://example.com/",
        "https://example.com/\r\nX-Injected: 1",
        "https://exa\tmple.com/",
        "https://exam\u00adple.com/",
        "https://example.com/\u2028",
        "https://example\u202e.com/",
    ],
)
refused(
    "default",
    "no host",
    [
        "https:///hook",
        "https://:443/",
        "https://./",
        "https://a..b/",
        "https://-a.example.com/",
        "https://a,b.example.com/",
        "https://[::1/",
        "https://::1/",
        "https://example.com:443:443/",
        "https://example.com:-1/",
        "https://a\u2100b.example.com/",
        "https://" + "a" * 64 + ".example.com/",
    ],
)
refused("default", "standards read differently", ["https://fa\u00df.example.com/"])
refused(
    "default",
    "no IPv4 address",
    ["https://1.2.3.4.5/", "https://256.1.1.1/", "https://08.1.1.1/", "https://example.1/"],
)

# --- Ports

refused(
    "default", "443 and 1024 to 65535", [f"https://example.com:{n}/" for n in (0, 22, 25, 1023)]
)
refused("default", "443 and 1024 to 65535", ["https://example.com:80/"])
refused("http", "80 and 1024 to 65535", ["http://example.com:443/", "http://example.com:81/"])
refused("default", "65535", ["https://example.com:65536/", "https://example.com:999999/"])
refused("default", "no host", ["https://example.com:9999999/", "https://example.com:4\u06643/"])
refused(
    "default",
    "it is that of",
    [
        f"https://example.com:{port}/"
        for port in (1719, 2049, 2375, 2379, 3306, 5060, 5432, 6000, 6379, 6443, 6667, 9200, 10250)
    ],
)
refused("inside", "it is that of Redis", ["http://10.20.1.1:6379/", "http://example.com:6379/"])
refused("inside", "80 and 1024", ["http://10.20.1.1:25/"])

# --- Addresses in the URL

hosts(
    "default",
    "loopback",
    """
    127.0.0.1 127.0.0.1. 127.1 127.0.1 2130706433 0x7f000001 0X7F000001 0x7f.0.0.1 0x7f.1
    017700000001 0177.0.0.1 00000177.0.0.01 127.000.000.001 127.255.255.255
    \uff11\uff12\uff17.\uff10.\uff10.\uff11 127\u30020\u30020\u30021 127\uff0e0\uff610\uff0e1
    \u2460\u2461\u2466.1 [::1] [0:0:0:0:0:0:0:1] [0000::0001] [::ffff:127.0.0.1] [::ffff:7f00:1]
    [::127.0.0.1] [::ffff:0:127.0.0.1] [64:ff9b::127.0.0.1] [2002:7f00:1::]
    [2001:0:7f00:1::] [2606:4700::5efe:127.0.0.1] [2606:4700::200:5efe:127.0.0.1]
    """,
)
hosts("default", "this host", "0 0.0.0.0 0x0 [::ffff:0.0.0.0]")
hosts("default", "this network", "0.0.0.1 [64:ff9b::0.255.255.255]")
hosts("default", "unspecified", "[::] [0:0:0:0:0:0:0:0]")
hosts(
    "default",
    "private use",
    """
    10.0.0.1 10.1 012.0.0.1 10.255.255.255 172.16.0.1 172.31.255.255 192.168.0.1 192.168.65535
    [::ffff:10.0.0.1] [64:ff9b::192.168.1.1] [2002:a00:1::] [2001:0:808:808::f5ff:fffe]
    """,
)
hosts(
    "default",
    "link-local",
    "169.254.169.254 0xa9fea9fe 2852039166 169.254.170.2 [::ffff:169.254.169.254] [fe80::1]",
)
hosts("default", "unique local", "[fd00:ec2::254] [fc00::1] [fd20:ce::254]")
hosts("default", "shared address space", "100.100.100.200 100.64.0.1")
hosts("default", "cloud metadata", "168.63.129.16 0xa83f8110 [::ffff:168.63.129.16]")
hosts("default", "IETF protocol assignments", "192.0.0.192 [2001:1ff::1]")
hosts("default", "documentation", "192.0.2.1 198.51.100.1 203.0.113.1 [2001:db8::1] [3fff::1]")
hosts("default", "benchmarking", "198.18.0.1 198.19.255.255 [2001:2::1]")
hosts("default", "multicast", "224.0.0.1 239.255.255.255 [ff02::1] [ff0e::1]")
hosts("default", "reserved", "240.0.0.1 255.255.255.254")
hosts("default", "limited broadcast", "255.255.255.255")
hosts("default", "AS112", "192.31.196.1 192.175.48.1 [2620:4f:8000::1] [2001:4:112::1]")
hosts("default", "AMT", "192.52.193.1 [2001:3::1]")
hosts("default", "6to4", "192.88.99.1 [2002:808:808::1]")
hosts("default", "6a44", "192.88.99.2")
hosts("default", "anycast", "192.0.0.9 192.0.0.10 [2001:1::1] [2001:1::2] [2001:1::3]")
hosts("default", "ORCHID", "[2001:10::1] [2001:20::1]")
hosts("default", "Teredo", "[2001:0:808:808::f7f7:f7f7]")
hosts("default", "translation", "[64:ff9b:1::8.8.8.8] [64:ff9b:1:ffff::1]")
hosts("default", "IPv4-translated", "[::ffff:0:8.8.8.8]")
hosts("default", "IPv4-compatible", "[::8.8.8.8]")
hosts("default", "site-local", "[fec0::1]")
hosts("default", "discard-only", "[100::1]")
hosts("default", "dummy prefix", "[100:0:0:1::1]")
hosts("default", "segment routing", "[5f00::1]")
hosts("default", "drone", "[2001:30::1]")
hosts("default", "no global unicast", "[4000::1] [200::1] [e000::1]")
hosts("default", "names a zone", "[fe80::1%eth0] [fe80::1%25eth0] [2606:4700::1%1]")
hosts("default", "no IPv6 address", "[127.0.0.1] [v1.a] [::x] []")
hosts("default", "percent-encoded", "%31%32%37.0.0.1 127.0.0.1%00 %6cocalhost")

# --- Names

hosts("default", "a local network", "localhost LOCALHOST. a.localhost localhost.localdomain")
hosts("default", "a local network", "\uff4cocalhost printer.local api.internal nas.home.arpa")
hosts("default", "a local network", "router.lan intranet redis kubernetes wiki.corp")
hosts("default", "metadata service", "metadata metadata.google.internal METADATA.goog.")
hosts("inside", "metadata service", "instance-data metadata.google.internal metadata")
allowed("inside", {"http://db.internal/": "10.20.1.1", "http://queue/": "10.20.1.1"})
hosts("inside", "a local network", "localhost")
allowed("loopback", {"http://localhost:8000/": "127.0.0.1 ::1", "http://a.localhost/": "127.0.0.1"})

# --- What names stand for

stands_for(
    "default",
    NOT_PUBLIC,
    [
        "127.0.0.1",
        "::1",
        "10.0.0.1",
        "169.254.169.254",
        "fd00:ec2::254",
        "168.63.129.16",
        "0.0.0.0",
        "::",
        "255.255.255.255",
        "fe80::1",
        "fe80::1%eth0",
        "2606:4700::1%eth0",
        "::ffff:10.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "2002:a00:1::",
        "64:ff9b:1::808:808",
        "2606:4700::5efe:10.0.0.1",
        # One is enough, wherever it stands.
        "10.0.0.1 93.184.216.34",
        "93.184.216.34 10.0.0.1",
        "93.184.216.34 1.1.1.1 8.8.8.8 127.0.0.1",
        "2606:2800:220:1::1 93.184.216.34 fd00::1",
        "93.184.216.34 ::1",
    ],
)
# Rebinding: public when it is subscribed; or when it is asked for the first time.
for number, (to, reasons) in enumerate(
    [
        ("93.184.216.34 / 127.0.0.1", ("", NOT_PUBLIC)),
        ("93.184.216.34 / 10.0.0.1 / 93.184.216.34 / ::1", ("", NOT_PUBLIC, "", NOT_PUBLIC)),
        ("93.184.216.34 / 93.184.216.34 127.0.0.1", ("", NOT_PUBLIC)),
        ("127.0.0.1 / 93.184.216.34 / 127.0.0.1", (NOT_PUBLIC, "", NOT_PUBLIC)),
        ("93.184.216.34 / 1.1.1.1 / 2606:4700::1", ("", "", "")),
        ("93.184.216.34 10.0.0.1 / 10.0.0.1 93.184.216.34", (NOT_PUBLIC, NOT_PUBLIC)),
        ("93.184.216.34 / 45.33.32.156", ("", NOT_CALLED)),
        ("93.184.216.34 / ::ffff:169.254.169.254", ("", NOT_PUBLIC)),
        # What cannot be resolved now is judged later.
        ("- / 93.184.216.34", ("", "")),
        ("- / 127.0.0.1", ("", NOT_PUBLIC)),
        ("93.184.216.34 / - / 127.0.0.1", ("", "cannot be resolved", NOT_PUBLIC)),
    ]
):
    _case("default", f"https://rebinding-{number}.example.com/", to, reasons)

# --- This machine

hosts("default", "may not be called", "45.33.32.156 [2600:3c01::f03c:91ff:fe18:bb2f]")
hosts("default", "may not be called", "[::ffff:45.33.32.156] [64:ff9b::45.33.32.156]")
stands_for("default", NOT_CALLED, ["45.33.32.156", "93.184.216.34 45.33.32.156"])
allowed("default", {"https://45.33.32.155/": "45.33.32.155"})
allowed("inside", {"https://45.33.32.156/": "45.33.32.156"})
hosts("inside", "may not be called", "[2600:3c01::f03c:91ff:fe18:bb2f]")

# --- Networks that are allowed or denied

allowed(
    "inside",
    {
        "http://10.20.0.0/": "10.20.0.0",
        "http://10.20.255.255:8080/": "10.20.255.255",
        "http://[::ffff:10.20.1.1]/": "::ffff:a14:101",
        "http://[64:ff9b::10.20.1.1]/": "64:ff9b::a14:101",
        "http://[fd12:3456::1]/": "fd12:3456::1",
        "http://in.example.com/": "10.20.29.255 10.20.31.0 93.184.216.34",
        "http://93.184.216.16/": "93.184.216.16",
        "http://[2606:2800:221::1]/": "2606:2800:221::1",
        "http://100.100.100.201/": "100.100.100.201",
    },
)
hosts(
    "inside", "is not public", "10.19.255.255 10.21.0.0 [fd12:3457::1] 127.0.0.1 [2002:a14:101::]"
)
hosts("inside", "may not be called", "10.20.30.0 10.20.30.255 0x0a141e01 [::ffff:10.20.30.1]")
hosts("inside", "may not be called", "93.184.216.0 93.184.216.15 [2606:2800:220::1]")
hosts("inside", "may not be called", "[2002:a14:1e01::1] [64:ff9b::93.184.216.1]")
stands_for("inside", NOT_CALLED, ["10.20.30.1", "10.20.1.1 10.20.30.1", "2606:2800:220::1"])
stands_for("inside", NOT_PUBLIC, ["10.20.1.1 10.21.0.1", "100.100.100.200"])
hosts("inside", "cloud metadata", "100.100.100.200")
allowed(
    "open",
    {
        "http://127.0.0.1/": "127.0.0.1",
        "http://localhost/": "127.0.0.1",
        "http://10.0.0.1/": "10.0.0.1",
        "http://169.254.169.252/": "169.254.169.252",
        "http://[fe80::1]/": "fe80::1",
        "http://45.33.32.156/": "45.33.32.156",
    },
)
hosts("open", "cloud metadata", "169.254.169.254 169.254.170.2 100.100.100.200 [fd00:ec2::254]")
hosts("open", "cloud metadata", "168.63.129.16 [::ffff:169.254.169.254] [2002:a9fe:a9fe::]")
hosts("open", "may not be called", "10.1.0.0 10.1.255.255")
hosts("open", "translation", "[64:ff9b:1::8.8.8.8]")
stands_for("open", NOT_PUBLIC, ["169.254.169.254", "10.0.0.1 169.254.169.254"])
allowed("emulator", {"http://169.254.169.254/": "169.254.169.254"})
hosts("emulator", "link-local", "169.254.169.253")

# --- Translators of this network

allowed(
    "nat64",
    {
        "https://[2001:db8:808:808::]/": "2001:db8:808:808::",
        "https://[2001:db8:108:808:8::]/": "2001:db8:108:808:8::",
        "https://[2001:db8:122:808:8:800::]/": "2001:db8:122:808:8:800::",
        "https://[2001:db8:122:308:8:808::]/": "2001:db8:122:308:8:808::",
        "https://[2001:db8:122:344:8:808:800:0]/": "2001:db8:122:344:8:808:800:0",
        "https://[2001:db8:122:344::8.8.8.8]/": "2001:db8:122:344::808:808",
        "https://[64:ff9b:1:64::8.8.8.8]/": "64:ff9b:1:64::808:808",
        "https://dns64.example.com/": "64:ff9b:1:64::808:808 8.8.8.8",
    },
)
hosts(
    "nat64",
    "which stands for 10.0.0.1",
    """
    [2001:db8:a00:1::] [2001:db8:10a:0:1::] [2001:db8:122:a00:0:100::] [2001:db8:122:30a:0:1::]
    [2001:db8:122:344:a:0:100:0] [2001:db8:122:344::10.0.0.1] [64:ff9b:1:64::10.0.0.1]
    """,
)
hosts("nat64", "may not be called", "[2001:db8:122:344::9.9.9.9] [64:ff9b:1:64::1.0.0.255]")
hosts("nat64", "may not be called", "1.0.0.1 [64:ff9b::45.33.32.156]")
hosts("nat64", "this host", "[2001:db8:100::]")
hosts("nat64", "translation", "[64:ff9b:1:65::8.8.8.8]")
stands_for(
    "nat64", NOT_PUBLIC, ["64:ff9b:1:64::a00:1", "2001:db8:a00:1::", "2001:db9:808:808:: ::1"]
)
