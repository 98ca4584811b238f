"""The guard's table, when something is subscribed and when something is sent.

Nothing but loopback is connected to: what would be is written down, and refused.
"""

from __future__ import annotations

import functools
import re
import socket
import urllib.parse
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import requests
import urllib3
from api_host import Host, host
from guard_cases import CASES, GUARDS, NAMES, Case
from receivers import Receiver, answering

from flask_resthooks.api import checks
from flask_resthooks.api.targets import TargetCheck
from flask_resthooks.guard import Guard, Target
from flask_resthooks.transport import Request
from flask_resthooks.transport.asyncio import AsyncioTransport
from flask_resthooks.transport.requests import RequestsTransport

Ours = AsyncioTransport | RequestsTransport


class Chosen(Guard):
    """The guard of the case."""

    def __init__(self) -> None:
        self.guard = GUARDS["default"]

    def check_url(self, url: str) -> Target:
        return self.guard.check_url(url)

    def resolve(self, host: str, port: int) -> list[tuple[int, tuple[Any, ...]]]:
        return self.guard.resolve(host, port)


CHOSEN = Chosen()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with pytest.MonkeyPatch.context() as patch:
        # The resolver of the cases is fast, however busy the machine.
        patch.setattr(checks, "TargetCheck", functools.partial(TargetCheck, limit=60))
        path: Path = tmp_path_factory.mktemp("guard") / "test.db"
        with host(f"sqlite:///{path}", guard=CHOSEN) as made:
            yield made


@pytest.fixture(scope="module", params=[AsyncioTransport, RequestsTransport])
def kind(request: pytest.FixtureRequest) -> type[Ours]:
    kind: type[Ours] = request.param
    return kind


@pytest.fixture(scope="module")
def transports(kind: type[Ours]) -> Iterator[dict[str, Ours]]:
    made = {
        name: kind(guard=guard, concurrency=1, connect_timeout=60, timeout=60, response_limit=0)
        for name, guard in GUARDS.items()
    }
    yield made
    for transport in made.values():
        transport.close()


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The addresses and ports that a connection was asked to."""
    addresses: list[tuple[str, int]] = []
    connect = socket.socket.connect

    def refuse(sock: socket.socket, address: Any) -> None:
        if sock.type != socket.SOCK_STREAM:
            connect(sock, address)
            return
        addresses.append(address[:2])
        raise ConnectionRefusedError("nothing is connected to in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    return addresses


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 150
    assert len({(case.guard, case.url, str(case.rounds)) for case in CASES}) == len(CASES)
    assert len([case for case in CASES if not any(case.reasons)]) >= 40


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_subscription_is_accepted_or_refused_as_the_table_says(api: Host, case: Case) -> None:
    CHOSEN.guard = GUARDS[case.guard]
    NAMES.rounds = [case.rounds[0]]
    answer = api.call("POST", "/subscriptions", {"target_url": case.url, "event": "contact.create"})
    if not case.reasons[0]:
        assert answer.status_code == 201, answer.json
        return
    assert answer.status_code == 422, answer.json
    assert list(answer.json["errors"]) == ["target_url"]
    (reason,) = answer.json["errors"]["target_url"]
    assert case.reasons[0] in reason
    assert_tells_nothing(reason, case)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_hook_is_sent_or_refused_as_the_table_says(
    transports: dict[str, Ours], connected: list[tuple[str, int]], case: Case
) -> None:
    NAMES.rounds = list(case.rounds[1:])
    for addresses, reason in zip(case.rounds[1:], case.reasons[1:], strict=True):
        request = Request(case.url, {}, b"{}")
        answer = transports[case.guard].submit(request).result(120)
        assert answer.status is None
        if not reason:
            port = GUARDS[case.guard].check_url(case.url).port
            assert answer.error == "connection"
            assert connected == [(str(ip_address(address)), port) for address in addresses or ()]
        else:
            assert answer.error == ("dns" if addresses is None else "address_refused")
            assert reason in answer.detail
            assert connected == []
            assert_tells_nothing(answer.detail, case)
        connected.clear()


def assert_tells_nothing(reason: str, case: Case) -> None:
    """Of what a name stands for, and of the operator's networks."""
    guard = GUARDS[case.guard]
    for network in (*guard.allowed_networks, *guard.denied_networks, *guard.nat64_prefixes):
        assert network.num_addresses == 1 or str(network) not in reason
    if "resolves to" in reason:
        assert not re.search(r"\d+\.\d+\.\d+\.\d+|::", reason)


SPELLINGS = {
    "http://127.0.0.1:{port}": ("127.0.0.1", "/"),
    "HTTP://127.1:{port}/a?b=c#d": ("127.0.0.1", "/a?b=c"),
    "http://0x7f000001:0{port}/%2e%2e//x;y?#": ("127.0.0.1", "/%2e%2e//x;y?"),
    "http://\uff11\uff12\uff17\u30020\u30020\uff611:{port}?q=\u00e9": ("127.0.0.1", "/?q=%C3%A9"),
    "http://[::FFFF:127.0.0.1]:{port}/a@b:80/": (f"[{ip_address('::ffff:7f00:1')}]", "/a@b:80/"),
    "http://LocalHost.:{port}/http://other.example/": ("localhost", "/http://other.example/"),
    "http://B\u00dccher.localhost:{port}/[x]": ("xn--bcher-kva.localhost", "/[x]"),
}


@pytest.mark.parametrize("spelling", SPELLINGS, ids=ascii)
def test_what_was_checked_is_what_is_connected_to_and_sent(
    kind: type[Ours], monkeypatch: pytest.MonkeyPatch, spelling: str
) -> None:
    """The guard's is the only parser on the way: the others are taken away."""
    for name in ("urlsplit", "urlparse"):
        for module in (urllib.parse, requests.compat, requests.models, requests.adapters):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, None)
    for module in (urllib3.util.url, urllib3.util, requests.adapters, requests.models):
        monkeypatch.setattr(module, "parse_url", None, raising=False)
    asked: list[tuple[str, int]] = []

    class Watched(Guard):
        def resolve(self, host: str, port: int) -> list[tuple[int, tuple[Any, ...]]]:
            asked.append((host, port))
            return super().resolve(host, port)

    def resolver(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    guard = Watched(require_https=False, allowed_networks=["127.0.0.0/8"], resolver=resolver)
    with Receiver(answering()) as receiver:
        url = spelling.format(port=receiver.port)
        target = guard.check_url(url)
        host, path = SPELLINGS[spelling]
        assert (target.authority, target.path) == (f"{host}:{receiver.port}", path)
        transport = kind(
            guard=guard, concurrency=1, connect_timeout=10, timeout=10, response_limit=0
        )
        try:
            assert transport.submit(Request(url, {}, b"{}")).result(30).status == 200
        finally:
            transport.close()
        (sent,) = receiver.requests
    assert asked == [(target.host, target.port)]
    assert sent.startswith(f"POST {target.path} HTTP/1.1\r\nHost: {target.authority}\r\n".encode())
