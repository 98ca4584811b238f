"""The guard's rooms, each by itself: ports, names, IPv4 in IPv6, this machine."""

from __future__ import annotations

import re
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from flask_resthooks.guard import embedded, machine, names, networks, ports

# Ports


@pytest.mark.parametrize("port", [*ports.DANGEROUS, 0, 1, 79, 81, 442, 444, 1023, 65536])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_port_is_refused_with_its_reason(scheme: str, port: int) -> None:
    own = {"http": 80, "https": 443}[scheme]
    reason = f"with {scheme}, {own} and 1024 to 65535 are allowed"
    if port in ports.DANGEROUS:
        reason = f"it is that of {ports.DANGEROUS[port]}"
    assert ports.objection(scheme, port) == f"the port {port} is refused: {reason}"


@pytest.mark.parametrize("port", [1024, 1025, 3000, 5000, 5001, 8000, 8080, 8443, 9000, 65535])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_port_that_receivers_use_is_allowed(scheme: str, port: int) -> None:
    assert ports.objection(scheme, port) is None


def test_each_scheme_has_its_own_port_and_not_the_others() -> None:
    assert ports.objection("http", 80) is None
    assert ports.objection("https", 443) is None
    assert "443 and 1024" in str(ports.objection("https", 80))
    assert "80 and 1024" in str(ports.objection("http", 443))


# By the Fetch standard, section "Port blocking", from 1024 on; and what the rest of them is for.
BAD = """
1719 1720 1723 2049 3659 4045 4190 5060 5061 6000 6566 6665 6666 6667 6668 6669 6679 6697 10080
"""
LISTENERS = """
1099 Java RMI
1433 1434 SQL Server
1521 Oracle
1719 1720 H.323
1723 PPTP
1883 MQTT
2049 4045 NFS
2181 ZooKeeper
2375 2376 2377 4243 Docker
2379 2380 etcd
3306 MySQL
3389 Remote Desktop
3659 Apple SASL
4190 ManageSieve
4369 Erlang
4444 Selenium
4646 4647 4648 Nomad
5038 Asterisk
5060 5061 SIP
5432 PostgreSQL
5555 Android's debug bridge
5672 AMQP
5900 VNC
5984 6984 CouchDB
5985 5986 WinRM
6000 X11
6379 6380 Redis
6443 10250 10255 10257 10259 Kubernetes
6566 SANE
6665 6666 6667 6668 6669 6679 6697 IRC
8009 AJP
8086 InfluxDB
8200 Vault
8500 8501 Consul
8983 Solr
9042 9160 Cassandra
9092 Kafka
9200 9300 Elasticsearch
9222 Chrome's debugger
6066 Spark
8123 ClickHouse
8265 Ray
10050 10051 Zabbix
10080 Amanda
11211 memcached
11300 beanstalkd
27017 27018 27019 MongoDB
61613 STOMP
61616 ActiveMQ
"""


def test_the_dangerous_ports_are_these() -> None:
    listed = {
        int(port): re.sub(r"^[\d ]+", "", line)
        for line in LISTENERS.strip().splitlines()
        for port in re.findall(r"\b\d{4,}\b", line)
    }
    assert listed == ports.DANGEROUS
    assert {int(port) for port in BAD.split()} <= listed.keys()
    assert min(listed) >= 1024
    # A port that Linux gives to a test, or to a receiver that asks for any, is allowed.
    assert not any(32768 <= port <= 60999 for port in listed)


# Names


@pytest.mark.parametrize(
    "name",
    ["localhost", "a.localhost", "localdomain", "a.b.localdomain"],
)
def test_a_name_of_this_machine_is_let_in_with_loopback(name: str) -> None:
    for inside in (False, True):
        assert names.objection(name, loopback=False, inside=inside) == "a local network"
        assert names.objection(name, loopback=True, inside=inside) is None


LOCAL = "local printer.local db.internal nas.home.arpa a.lan a.home a.corp db a.intranet home"


@pytest.mark.parametrize("name", LOCAL.split())
def test_a_local_name_is_let_in_with_any_network(name: str) -> None:
    assert names.objection(name, loopback=False, inside=False) == "a local network"
    assert names.objection(name, loopback=True, inside=False) == "a local network"
    assert names.objection(name, loopback=False, inside=True) is None


@pytest.mark.parametrize("name", sorted(names.METADATA_NAMES))
def test_a_name_of_a_metadata_service_is_let_in_never(name: str) -> None:
    objection = names.objection(name, loopback=True, inside=True)
    assert objection == "a cloud metadata service"


def test_the_metadata_services_are_known_by_name() -> None:
    known = {"metadata", "metadata.google.internal", "metadata.goog", "instance-data"}
    known |= {"instance-data.ec2.internal", "metadata.tencentyun.com", "metadata.packet.net"}
    known |= {"metadata.platformequinix.com", "api.metadata.cloud.ibm.com", "rancher-metadata"}
    assert known == names.METADATA_NAMES


PUBLIC = """
example.com localhost.example.com notlocalhost.com a.notlocal home.arpa.org arpa.home.org a.arpa
internal.example.com metadata.example.com a.thelan
"""


@pytest.mark.parametrize("name", PUBLIC.split())
def test_a_public_name_is_no_local_one(name: str) -> None:
    assert names.objection(name, loopback=False, inside=False) is None


# IPv4 in IPv6

# RFC 6052, section 2.4.
RFC6052 = {
    "2001:db8::/32": "2001:db8:c000:221::",
    "2001:db8:100::/40": "2001:db8:1c0:2:21::",
    "2001:db8:122::/48": "2001:db8:122:c000:2:2100::",
    "2001:db8:122:300::/56": "2001:db8:122:3c0:0:221::",
    "2001:db8:122:344::/64": "2001:db8:122:344:c0:2:2100::",
    "2001:db8:122:344::/96": "2001:db8:122:344::192.0.2.33",
    "64:ff9b::/96": "64:ff9b::192.0.2.33",
}


@pytest.mark.parametrize("prefix", RFC6052)
def test_an_ipv4_address_is_found_behind_a_prefix_of_any_length(prefix: str) -> None:
    found = embedded.judged(ip_address(RFC6052[prefix]), [IPv6Network(prefix)])
    assert found == [IPv4Address("192.0.2.33")]


@pytest.mark.parametrize("prefix", RFC6052)
@pytest.mark.parametrize("octet", [0, 1, 2, 3])
def test_each_octet_behind_a_prefix_is_found_where_it_is(prefix: str, octet: int) -> None:
    """All bits set, those that are left out and those that follow among them."""
    network = IPv6Network(prefix)
    length = network.prefixlen
    address = IPv4Address(0x80 << 8 * octet)
    bits = f"{int(network[0]):0128b}"[:length] + f"{int(address):032b}"
    bits = bits if length == 96 else f"{bits[:64]}{'1' * 8}{bits[64:]}"
    whole = IPv6Address(int(bits.ljust(128, "1"), 2))
    assert embedded.judged(whole, [network]) == [address]


def test_the_longest_prefix_that_an_address_has_is_its_own() -> None:
    prefixes = [IPv6Network(prefix) for prefix in RFC6052]
    for address in RFC6052.values():
        for order in (prefixes, prefixes[::-1]):
            assert embedded.judged(ip_address(address), order) == [IPv4Address("192.0.2.33")]


CARRIED = {
    "8.8.8.8": ["8.8.8.8"],
    "2606:4700::1": ["2606:4700::1"],
    "::ffff:1.2.3.4": ["1.2.3.4"],
    "64:ff9b::1.2.3.4": ["1.2.3.4"],
    "::ffff:0:1.2.3.4": ["1.2.3.4", "::ffff:0:102:304"],
    "::1.2.3.4": ["1.2.3.4", "::102:304"],
    "::2": ["0.0.0.2", "::2"],
    "::1": ["::1"],
    "::": ["::"],
    "2002:102:304::506:708": ["1.2.3.4", "2002:102:304::506:708"],
    "2001:0:102:304::fefd:fcfb": ["1.2.3.4", "1.2.3.4", "2001:0:102:304::fefd:fcfb"],
    "2001:0:506:708::fefd:fcfb": ["5.6.7.8", "1.2.3.4", "2001:0:506:708::fefd:fcfb"],
    "2606::5efe:102:304": ["1.2.3.4", "2606::5efe:102:304"],
    "2606::200:5efe:102:304": ["1.2.3.4", "2606::200:5efe:102:304"],
    "2606::100:5efe:102:304": ["2606::100:5efe:102:304"],
    "2606::5eff:102:304": ["2606::5eff:102:304"],
    "64:ff9b:1::102:304": ["64:ff9b:1::102:304"],
    "64:ff9b::1:102:304": ["64:ff9b::1:102:304"],
    "2001:db8:c000:221::": ["2001:db8:c000:221::"],
}


@pytest.mark.parametrize("address", CARRIED)
def test_an_address_is_judged_by_what_it_stands_for(address: str) -> None:
    found = embedded.judged(ip_address(address))
    assert [str(part) for part in found] == [
        str(ip_address(part)) if part.count(":") else part for part in CARRIED[address]
    ]


# This machine

FIB_TRIE = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 127.0.0.0/8 2 0 2
        +-- 127.0.0.0/31 1 0 0
           |-- 127.0.0.0
              /8 host LOCAL
           |-- 127.0.0.1
              /32 host LOCAL
        |-- 127.255.255.255
           /32 link BROADCAST
     +-- 45.33.32.0/24 2 0 2
        |-- 45.33.32.0
           /24 link UNICAST
        |-- 45.33.32.156
           /32 host LOCAL
Local:
     |-- 198.60.0.0
        /22 link UNICAST
        /23 host LOCAL
"""
IF_INET6 = """fe8000000000000000fc00fffe000001 04 40 20 80     eth0
00000000000000000000000000000001 01 80 10 80       lo
26003c0100000000f03c91fffe18bb2f 02 40 00 00     eth0
"""


def test_the_kernels_tables_are_read() -> None:
    assert set(machine.from_fib_trie(FIB_TRIE)) == {
        ip_network("127.0.0.0/8"),
        ip_network("127.0.0.1"),
        ip_network("45.33.32.156"),
        ip_network("198.60.0.0/23"),
    }
    assert set(machine.from_if_inet6(IF_INET6)) == {
        ip_network("fe80::fc:ff:fe00:1"),
        ip_network("::1"),
        ip_network("2600:3c01::f03c:91ff:fe18:bb2f"),
    }
    assert list(machine.from_fib_trie("")) == list(machine.from_if_inet6("")) == []


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(machine, "FIB_TRIE", tmp_path / "fib_trie")
    monkeypatch.setattr(machine, "IF_INET6", tmp_path / "if_inet6")
    return tmp_path


def resolved(host: str, port: Any) -> list[tuple[Any, ...]]:
    assert (host, port) == (socket.gethostname(), None)
    return [
        (socket.AF_INET, 1, 6, "", ("45.33.32.157", 0)),
        (socket.AF_INET6, 1, 6, "", ("fe80::7%eth0", 0, 0, 2)),
    ]


def test_where_the_kernel_has_no_tables_the_machines_name_tells(
    tables: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    assert {ip_network("45.33.32.157"), ip_network("fe80::7")} <= machine.find()
    (tables / "fib_trie").write_text(FIB_TRIE)
    (tables / "if_inet6").write_bytes(IF_INET6.encode().replace(b"eth0", b"\xff0"))
    found = machine.find()
    assert found >= {*machine.from_fib_trie(FIB_TRIE), *machine.from_if_inet6(IF_INET6)}
    assert ip_network("45.33.32.157") not in found  # no name was resolved


def test_an_address_that_this_machine_sends_from_is_its_own(
    tables: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(machine, "_ELSEWHERE", ((socket.AF_INET, "127.0.0.1"),))
    assert machine.find() == {ip_network("127.0.0.1")}
    # Nor is it an error if there is no way there.
    monkeypatch.setattr(machine, "_ELSEWHERE", ((socket.AF_INET, "not an address"),))
    assert machine.find() == frozenset()
    assert [family for family, _ in machine._ELSEWHERE] == [socket.AF_INET]


def test_nothing_is_sent_to_learn_where_this_machine_sends_from() -> None:
    """To the addresses of documentation, by datagram sockets: a connect sends nothing there."""
    elsewhere = dict(machine._ELSEWHERE)
    assert {family: networks.special(ip_address(a)) for family, a in elsewhere.items()} == {
        socket.AF_INET: "documentation",
        socket.AF_INET6: "documentation",
    }


def test_this_machine_finds_its_own_addresses() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        bound = ip_address(probe.getsockname()[0])
    assert any(bound in network for network in machine.own())


def test_what_was_found_is_believed_for_half_a_minute() -> None:
    looks: list[float] = []
    now = [1000.0]

    def look() -> frozenset[Any]:
        looks.append(now[0])
        return frozenset({ip_network(f"10.0.0.{len(looks)}")})

    own = machine.Own(look, lambda: now[0])
    assert own() == own() == {ip_network("10.0.0.1")}
    now[0] += 29.9
    assert own() == {ip_network("10.0.0.1")}
    now[0] += 0.1
    assert own() == {ip_network("10.0.0.2")}
    assert looks == [1000.0, 1030.0]
    now[0] += 29.9
    assert own() == {ip_network("10.0.0.2")}
