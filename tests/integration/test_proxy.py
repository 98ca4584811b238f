"""The outbound proxy: the one way out, with the guard before it."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import flask
import pytest
import trustme
from world import World

from flask_resthooks import intents, jobs, settings
from flask_resthooks.event_types import EventTypes
from flask_resthooks.guard import Guard
from flask_resthooks.jobs import Plant, Runner
from flask_resthooks.models import utcnow
from flask_resthooks.outbox import subscriptions
from flask_resthooks.transport import Answer, Request, create
from flask_resthooks.transport.asyncio import AsyncioTransport
from flask_resthooks.transport.requests import RequestsTransport
from flask_resthooks.vault import Vault
from flask_resthooks.wakeups import Wakeups
from tests.integration.receivers import OK, Handler, Receiver, answering

TIMEOUT = 0.6
LOOPBACK = ["127.0.0.0/8", "::1/128"]
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"

Ours = AsyncioTransport | RequestsTransport
Make = Callable[..., Ours]


def names(**addresses: Any) -> Callable[..., list[tuple[Any, ...]]]:
    """A resolver of `name=address` or `name=[addresses]`, for names under `.example`."""

    def resolver(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        found = addresses.get(host.removesuffix(".example"))
        if found is None:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        if callable(found):
            found = found()
        found = [found] if isinstance(found, str) else found
        return [
            (socket.AF_INET6, 1, 6, "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, 1, 6, "", (address, port))
            for address in found
        ]

    return resolver


@pytest.fixture(params=[AsyncioTransport, RequestsTransport])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Everything here is true of both."""
    made: list[Ours] = []

    def make(proxy: str, guard: Guard | None = None, **options: Any) -> Ours:
        guard = guard or Guard(
            require_https=False, allowed_networks=LOOPBACK, resolver=names(hooks="127.0.0.1")
        )
        settings = {
            "concurrency": 4,
            "connect_timeout": 10.0,
            "timeout": 10.0,
            "response_limit": 1000,
        }
        made.append(request.param(guard, **{**settings, **options}, proxy=proxy))
        return made[-1]

    yield make
    for transport in made:
        transport.close()


def post(transport: Ours, url: str, body: bytes = b"{}") -> Answer:
    return transport.submit(Request(url, {"webhook-id": "msg_1"}, body)).result(10)


def relaying(
    before: bytes = b"", refuse: Callable[[str], bytes] = lambda authority: b""
) -> Handler:
    """A proxy that does what it should.

    :param before: said before it says that there is a tunnel.
    :param refuse: what it answers instead for an authority; empty: it connects.
    """

    def handler(receiver: Receiver, sock: socket.socket) -> None:
        request = receiver.read_request(sock).decode("latin-1")
        method, authority, _ = request.split(" ", 2)
        assert method == "CONNECT"
        refusal = refuse(authority)
        if refusal:
            sock.sendall(refusal)
            return
        host, _, port = authority.rpartition(":")
        host = "127.0.0.1" if host.endswith(".example") else host.strip("[]")
        with socket.create_connection((host, int(port)), 5) as there:
            sock.sendall(before + ESTABLISHED)
            back = threading.Thread(target=copy, args=(there, sock), daemon=True)
            back.start()
            copy(sock, there)
            back.join(5)

    return handler


def copy(from_: socket.socket, to: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := from_.recv(65536):
            to.sendall(data)
    with contextlib.suppress(OSError):
        to.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, str]:
    """That of hooks.example, and the file of its authority."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("hooks.example").configure_cert(context)
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return context, str(path)


# The way through


def test_an_http_hook_goes_through_a_tunnel_to_the_checked_address(make: Make) -> None:
    with Receiver(answering()) as receiver, Receiver(relaying()) as proxy:
        transport = make(proxy.url())
        for number in range(3):
            answer = post(transport, receiver.url(f"/{number}?a=b", host="hooks.example"))
            assert (answer.status, answer.error, answer.body) == (200, None, b"ok")
        address = f"127.0.0.1:{receiver.port}"
        # Nothing of the hook, and no name; and the tunnel is used again.
        assert proxy.requests == [f"CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode()]
        assert receiver.connections == 1
        assert receiver.requests[0].startswith(
            f"POST /0?a=b HTTP/1.1\r\nHost: hooks.example:{receiver.port}\r\n".encode()
        )


def test_an_https_hook_has_tls_by_its_name_inside_of_the_tunnel(
    make: Make, tls: tuple[ssl.SSLContext, str]
) -> None:
    asked: list[str | None] = []
    context, ca_file = tls
    context.sni_callback = lambda sock, name, context: asked.append(name)
    with Receiver(answering(), tls=context) as receiver, Receiver(relaying()) as proxy:
        transport = make(proxy.url(), ca_file=ca_file)
        url = receiver.url(scheme="https", host="hooks.example")
        for _ in range(3):
            answer = post(transport, url)
            assert (answer.status, answer.error, answer.body) == (200, None, b"ok")
        assert asked == ["hooks.example"]
        [connect] = proxy.requests
        assert connect.startswith(f"CONNECT 127.0.0.1:{receiver.port} ".encode())
        assert (proxy.connections, len(receiver.requests)) == (1, 3)
        # What another proxy would answer in the receiver's place is not believed.
        untrusting = make(proxy.url())
        assert post(untrusting, url).error == "tls"
        assert len(receiver.requests) == 3


def test_an_ipv6_address_stands_in_brackets(make: Make) -> None:
    with Receiver(answering(), host="::1") as receiver, Receiver(relaying()) as proxy:
        assert post(make(proxy.url()), receiver.url(host="[::1]")).status == 200
        assert proxy.requests[0].startswith(f"CONNECT [::1]:{receiver.port} ".encode())


@pytest.mark.parametrize(
    "before",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n" * 3,
        b"HTTP/1.1 200 OK\r\nContent-Length: -7\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.0 200\n\n",
    ],
)
def test_any_2xx_opens_the_tunnel_whatever_stands_in_its_head(make: Make, before: bytes) -> None:
    """RFC 9110, section 9.3.6: a length is ignored."""

    def handler(receiver: Receiver, sock: socket.socket) -> None:
        receiver.read_request(sock)
        for byte in before if b"100" not in before else before + ESTABLISHED:
            sock.sendall(bytes([byte]))
        while receiver.read_request(sock):
            sock.sendall(OK)

    with Receiver(handler) as proxy:
        transport = make(proxy.url(), timeout=5, connect_timeout=5)
        for _ in range(2):
            assert post(transport, "http://127.0.0.1:9999/").body == b"ok"
        assert proxy.connections == 1


def test_the_next_address_is_tried_when_the_proxy_cannot_connect_to_one(make: Make) -> None:
    def refuse(authority: str) -> bytes:
        return b"HTTP/1.1 502 Bad Gateway\r\n\r\n" if authority.startswith("[") else b""

    guard = Guard(
        require_https=False,
        allowed_networks=LOOPBACK,
        resolver=names(hooks=["::1", "127.0.0.1"]),
    )
    with Receiver(answering()) as receiver, Receiver(relaying(refuse=refuse)) as proxy:
        assert post(make(proxy.url(), guard), receiver.url(host="hooks.example")).status == 200
        assert [request.split(b" ")[1][:1] for request in proxy.requests] == [b"[", b"1"]


@pytest.mark.parametrize("given", ["me:p%40ss%3Aword", "me:", "me", "m%C3%A9:x"])
def test_user_and_password_are_shown_to_the_proxy_and_to_nobody_else(
    make: Make, given: str, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = {
        "me:p%40ss%3Aword": "me:p@ss:word",
        "me:": "me:",
        "me": "me:",
        "m%C3%A9:x": "mé:x",
    }[given]
    caplog.set_level("DEBUG")
    with Receiver(answering()) as receiver, Receiver(relaying()) as proxy:
        transport = make(f"http://{given}@127.0.0.1:{proxy.port}")
        assert post(transport, receiver.url()).status == 200
        sent = re.search(rb"Proxy-Authorization: Basic (\S+)\r\n", proxy.requests[0])
        assert sent is not None
        assert base64.b64decode(sent[1]).decode() == wanted
        assert b"roxy" not in receiver.requests[0]
    assert "word" not in caplog.text


# Nothing around it


def test_nothing_goes_around_a_proxy_that_is_down(
    make: Make, tls: tuple[ssl.SSLContext, str], caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    context, ca_file = tls
    with Receiver(answering()) as plain, Receiver(answering(), tls=context) as secure:
        transport = make(f"http://me:hidden@127.0.0.1:{port}", ca_file=ca_file)
        for url in (
            plain.url(),
            plain.url(host="hooks.example"),
            secure.url(scheme="https", host="hooks.example"),
        ):
            answer = post(transport, url)
            assert (answer.status, answer.error) == (None, "proxy")
            assert answer.detail == "the outbound proxy cannot be reached"
        assert plain.connections == secure.connections == 0
    # Once, and with its address: the log is the operator's. The password is nobody's.
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert f"the proxy 127.0.0.1:{port} cannot be reached: " in caplog.text
    assert "hidden" not in caplog.text


def test_a_proxy_without_address_is_told(make: Make) -> None:
    answer = post(make("http://proxy.invalid:3128"), "http://127.0.0.1:9999/")
    assert (answer.error, answer.detail) == ("proxy", "the outbound proxy cannot be reached")


@pytest.mark.parametrize("proxied", [False, True])
def test_proxies_of_the_environment_are_ignored(
    make: Make, proxied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        Receiver(relaying()) as other,
        Receiver(relaying()) as proxy,
        Receiver(answering()) as receiver,
    ):
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, other.url())
            monkeypatch.setenv(name.lower(), other.url())
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(name, "*")
        assert post(make(proxy.url() if proxied else ""), receiver.url()).status == 200
        assert (other.connections, proxy.connections) == (0, int(proxied))


@pytest.mark.parametrize("name", ["asyncio", "requests"])
def test_every_hook_of_a_worker_goes_through_the_setting(
    name: str, sqlite_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hooks, tests and handshakes."""
    monkeypatch.setattr(jobs, "_plants", {})
    world = World(sqlite_url)
    with Receiver(answering()) as receiver, Receiver(relaying()) as proxy:
        chosen = settings.from_config(
            {
                "RESTHOOKS_REDIS_URL": redis_url,
                "RESTHOOKS_PROXY": proxy.url(),
                "RESTHOOKS_TRANSPORT": name,
                "RESTHOOKS_INTENT": "x-hook-secret",
            },
            intents.Intents(),
        )
        world.subscribe("contact.create", target_url=receiver.url(), confirmed_at=world.now)
        world.subscribe(
            "invoice.paid",
            target_url=receiver.url(),
            status="pending",
            intent_id="hsk_1",
            intent_secret="secret",
            intent_until=utcnow() + dt.timedelta(days=1),
        )
        world.happen()
        table = world.tables.subscription
        with world.engine.begin() as connection:
            for row in map(dict, connection.execute(table.select()).mappings().all()):
                kind = "handshake" if row["status"] == "pending" else "ping"
                type_ = intents.PING if kind == "ping" else intents.HANDSHAKE
                subscriptions.send(world.tables, connection, row, kind, type_, world.now)
        runner = Runner(
            Plant(
                app=flask.Flask("proxied"),
                engine=lambda: world.engine,
                tables=world.tables,
                settings=chosen,
                guard=Guard(require_https=False, allowed_networks=["127.0.0.0/8"]),
                wakeups=Wakeups(chosen),
                event_types=EventTypes(),
                vault=Vault(),
                intent=intents.Intents().get("x-hook-secret"),
            )
        )
        runner.run()
        runner.close()
        tests = [re.search(rb"x-hook-test: (\w+)", request) for request in receiver.requests]
        assert sorted(found[1] if found else b"" for found in tests) == [b"", b"handshake", b"ping"]
        assert receiver.connections == proxy.connections
    world.engine.dispose()


# The guard


def test_what_the_guard_refuses_is_not_asked_of_the_proxy(make: Make) -> None:
    with Receiver(relaying()) as proxy:
        transport = make(
            proxy.url(),
            Guard(resolver=names(inside="10.0.0.1", mixed=["93.184.216.34", "10.0.0.1"])),
        )
        for url in (
            "https://10.0.0.1/",
            "https://[fe80::1]/",
            "https://169.254.169.254/",
            "https://localhost/",
            "http://hooks.example/",
            "https://inside.example/",
            "https://mixed.example/",
            proxy.url(scheme="https"),
        ):
            assert post(transport, url).error == "address_refused", url
        # Nor what cannot be resolved here: the proxy might know it, and nobody would judge it.
        answer = post(transport, "https://unknown.example/")
        assert (answer.status, answer.error) == (None, "dns")
        assert proxy.connections == 0


def test_a_name_that_changes_its_answer_gains_nothing(make: Make) -> None:
    """The proxy is given the address that was judged, and asks nobody."""
    answers = iter([["127.0.0.2"], ["127.0.0.1"], ["127.0.0.2", "127.0.0.1"]])
    guard = Guard(
        require_https=False,
        allowed_networks=["127.0.0.2"],
        resolver=names(rebinding=lambda: next(answers)),
    )
    refuse = lambda authority: b"HTTP/1.1 503 No\r\n\r\n"  # noqa: E731
    with Receiver(answering()) as inside, Receiver(relaying(refuse=refuse)) as proxy:
        transport = make(proxy.url(), guard)
        errors = [post(transport, inside.url(host="rebinding.example")).error for _ in range(3)]
        assert errors == ["connection", "address_refused", "address_refused"]
        assert [request.split(b" ")[1] for request in proxy.requests] == [
            f"127.0.0.2:{inside.port}".encode()
        ]
        assert inside.connections == 0


def test_a_proxy_that_resolves_is_given_names_that_the_guard_has_judged(make: Make) -> None:
    def nobody(*_: Any, **__: Any) -> Any:
        raise AssertionError("somebody was asked for an address")

    guard = Guard(require_https=False, allowed_networks=["127.0.0.0/8"], resolver=nobody)
    with Receiver(answering()) as receiver, Receiver(relaying()) as proxy:
        transport = make(proxy.url(), guard, proxy_resolves=True)
        assert post(transport, receiver.url(host="hooks.example")).status == 200
        assert proxy.requests[0].startswith(f"CONNECT hooks.example:{receiver.port} ".encode())
        for host in ("10.0.0.1", "[::ffff:10.0.0.1]", "169.254.169.254"):
            assert post(transport, f"https://{host}/").error == "address_refused"
        assert proxy.connections == 1


# What a proxy may do wrong

NO_PROXY = "the outbound proxy does not answer as one"
GONE = "the outbound proxy closed the connection without an answer"
SECRET = "squid-7.inside.corp"


def refused(status: int) -> str:
    return f"the outbound proxy refused to connect: it answered {status}"


def unreached(status: int) -> str:
    return f"the outbound proxy could not connect: it answered {status}"


def saying(data: bytes, then: Handler = lambda receiver, sock: None) -> Handler:
    def handler(receiver: Receiver, sock: socket.socket) -> None:
        receiver.read_request(sock)
        sock.sendall(data)
        then(receiver, sock)

    return handler


def flooding(receiver: Receiver, sock: socket.socket) -> None:
    for _ in range(5000):
        sock.sendall(b"x" * 200_000)


def waiting(receiver: Receiver, sock: socket.socket) -> None:
    receiver.closing.wait()


def dripping(receiver: Receiver, sock: socket.socket) -> None:
    receiver.drip(sock, b"x" * 1000, 0.05)


def continuing(receiver: Receiver, sock: socket.socket) -> None:
    while not receiver.closing.wait(0.001):
        sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


def page(status: str) -> bytes:
    text = f"<p>{SECRET} could not connect to 10.9.8.7</p>"
    return f"HTTP/1.1 {status}\r\nVia: {SECRET}\r\nRetry-After: 9\r\n\r\n{text}".encode()


@pytest.mark.parametrize(
    "handler, word, detail",
    [
        (saying(page("403 Forbidden")), "proxy", refused(403)),
        (saying(page("407 Proxy Authentication Required")), "proxy", refused(407)),
        (saying(page("410 Gone")), "proxy", refused(410)),
        (saying(page("302 Found")), "proxy", refused(302)),
        (saying(page("101 Switching Protocols")), "proxy", refused(101)),
        (saying(page("500 Error"), flooding), "proxy", refused(500)),
        (saying(page("502 Bad Gateway")), "connection", unreached(502)),
        (saying(page("503 Service Unavailable")), "connection", unreached(503)),
        (saying(page("504 Gateway Timeout"), flooding), "connection", unreached(504)),
        (saying(f"{SECRET}\r\n\r\n".encode()), "proxy", NO_PROXY),
        (saying(b"HTTP/1.1 200 OK\r\na: ", flooding), "proxy", NO_PROXY),
        (saying(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, waiting), "proxy", NO_PROXY),
        (saying(b""), "proxy", GONE),
        (saying(b"HTTP/1.1 200 OK\r\n"), "proxy", GONE),
        (saying(b"", waiting), "connect_timeout", "no connection through the outbound proxy .+"),
        (saying(b"HTTP/1.1 200 OK\r\na: ", dripping), "connect_timeout", "no connection .+"),
        (saying(b"", continuing), "(connect_timeout|proxy)", ".+"),
        (saying(ESTABLISHED, flooding), "protocol", "the answer is not HTTP: .+"),
        (saying(ESTABLISHED, dripping), "timeout", "the attempt took longer than 1 seconds"),
    ],
)
def test_a_proxy_that_fails_is_told_exactly_and_shown_to_nobody(
    make: Make, handler: Handler, word: str, detail: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Receiver(answering()) as receiver, Receiver(handler) as proxy:
        connect_timeout, timeout = (0.3, 1) if "timeout" in word else (10, 10)
        transport = make(
            f"http://me:hidden@127.0.0.1:{proxy.port}",
            connect_timeout=connect_timeout,
            timeout=timeout,
        )
        start = time.monotonic()
        answer = post(transport, receiver.url())
        lasted = time.monotonic() - start
        assert answer.status is None and answer.error is not None
        assert re.fullmatch(word, answer.error), answer
        assert re.fullmatch(detail, answer.detail)
        assert lasted < (1.3 if word == "connect_timeout" else 2)
        shown = f"{answer!r} {answer.headers}"
        assert not any(text in shown for text in (SECRET, "10.9", "hidden", str(proxy.port)))
        assert (answer.body, dict(answer.headers)) == (b"", {})
        assert receiver.connections == 0
    assert SECRET not in caplog.text and "hidden" not in caplog.text
    if word == "proxy":
        assert f"127.0.0.1:{proxy.port}" in caplog.text


def test_no_receiver_behind_a_proxy_can_stretch_an_attempt(
    make: Make, tls: tuple[ssl.SSLContext, str]
) -> None:
    def handler(receiver: Receiver, sock: socket.socket) -> None:
        receiver.read_request(sock)
        receiver.drip(sock, b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 100)

    context, ca_file = tls
    with (
        Receiver(handler) as plain,
        Receiver(handler, tls=context) as secure,
        Receiver(relaying()) as proxy,
    ):
        transport = make(proxy.url(), ca_file=ca_file, connect_timeout=TIMEOUT, timeout=TIMEOUT)
        urls = [plain.url(), secure.url(scheme="https", host="hooks.example")]
        futures = [transport.submit(Request(url, {}, b"{}")) for url in urls]
        for future in futures:
            answer = future.result(10)
            assert (answer.status, answer.error) == (None, "timeout")
            assert TIMEOUT <= answer.duration < TIMEOUT + 1


@pytest.mark.parametrize("name", ["asyncio", "requests"])
def test_a_transport_is_made_with_a_proxy_by_name(name: str) -> None:
    with Receiver(answering()) as receiver, Receiver(relaying()) as proxy:
        transport = create(
            name,
            guard=Guard(require_https=False, allowed_networks=LOOPBACK),
            concurrency=1,
            connect_timeout=5,
            timeout=5,
            response_limit=10,
            proxy=proxy.url(),
        )
        assert transport.submit(Request(receiver.url(), {}, b"")).result(10).status == 200
        transport.close()
        assert proxy.connections == 1
