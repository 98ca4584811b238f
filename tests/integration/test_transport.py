from __future__ import annotations

import concurrent.futures
import errno
import gzip
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import hypothesis
import pytest
import trustme
from hypothesis import strategies as st

from flask_resthooks.guard import Guard
from flask_resthooks.transport import Answer, Request, create
from flask_resthooks.transport.asyncio import AsyncioTransport
from flask_resthooks.transport.requests import RequestsTransport
from tests.integration.receivers import OK, Receiver, answering

TIMEOUT = 0.6
SHORT: dict[str, Any] = {"connect_timeout": TIMEOUT, "timeout": TIMEOUT}
"""For tests in which an attempt has to run out of time; the others may take theirs."""

LOOPBACK = ("127.0.0.0/8", "::1/128")

Ours = AsyncioTransport | RequestsTransport
Make = Callable[..., Ours]


@pytest.fixture(params=[AsyncioTransport, RequestsTransport])
def kind(request: pytest.FixtureRequest) -> type[Ours]:
    """Everything here is true of both."""
    kind: type[Ours] = request.param
    return kind


@pytest.fixture
def make(kind: type[Ours]) -> Iterator[Make]:
    """Makes transports that may call loopback, and closes them."""
    made: list[Ours] = []

    def make(guard: Guard | None = None, **options: Any) -> Ours:
        guard = guard or Guard(require_https=False, allowed_networks=LOOPBACK)
        settings = {
            "concurrency": 4,
            "connect_timeout": 10.0,
            "timeout": 10.0,
            "response_limit": 1000,
        }
        made.append(kind(guard, **{**settings, **options}))
        return made[-1]

    yield make
    for transport in made:
        transport.close()


def post(
    transport: Ours,
    url: str,
    body: bytes = b"{}",
    headers: Mapping[str, str] = MappingProxyType({}),
    method: str = "POST",
) -> Answer:
    return transport.submit(Request(url, headers, body, method=method)).result(10)


def fake_resolver(*answers: list[str]) -> Any:
    """A resolver that gives one list of addresses after the other, the last one for ever."""
    left = list(answers)

    def resolver(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        addresses = left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET, 1, 6, "", (address, port)) for address in addresses]

    return resolver


# What is sent and what is understood


def test_a_post_arrives_as_it_was_given(make: Make) -> None:
    with Receiver(answering()) as receiver:
        url = receiver.url("/hook/ü?a=b#fragment")
        answer = post(
            make(), url, b'{"a": 1}', {"Webhook-Id": "msg_1", "Host": "evil", "TE": "trailers"}
        )
        assert (answer.status, answer.error, answer.body) == (200, None, b"ok")
        assert answer.started
        assert 0 < answer.duration < TIMEOUT
        assert receiver.requests == [
            b"POST /hook/%C3%BC?a=b HTTP/1.1\r\n"
            b"Host: 127.0.0.1:" + str(receiver.port).encode() + b"\r\n"
            b"Accept-Encoding: identity\r\n"
            b"Webhook-Id: msg_1\r\n"
            b"Content-Length: 8\r\n\r\n"
            b'{"a": 1}'
        ]


@pytest.mark.parametrize("status", [200, 201, 204, 301, 302, 307, 400, 410, 429, 500, 503])
def test_a_status_is_an_answer_and_redirects_are_not_followed(make: Make, status: int) -> None:
    with Receiver(answering()) as elsewhere:
        head = f"HTTP/1.1 {status} Whatever\r\nLocation: {elsewhere.url()}\r\n"
        head += "Retry-After: 7\r\nX-Hook-Secret: s\r\nContent-Type: a/b\r\nSet-Cookie: a=b\r\n"
        with Receiver(answering(head.encode() + b"Content-Length: 0\r\n\r\n")) as receiver:
            answer = post(make(), receiver.url())
        assert (answer.status, answer.error) == (status, None)
        assert answer.headers == {
            "location": elsewhere.url(),
            "retry-after": "7",
            "x-hook-secret": "s",
            "content-type": "a/b",
        }
        assert elsewhere.connections == 0


def test_a_header_cannot_smuggle_another(make: Make) -> None:
    with Receiver(answering()) as receiver:
        for headers in ({"a": "b\r\nc: d"}, {"a": "b\nc: d"}, {"a\r\nb": "c"}, {"a b": "c"}):
            assert post(make(), receiver.url(), headers=headers).error == "internal"
        assert receiver.requests == []


def test_nothing_is_taken_from_the_environment(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    set_cookie = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"
    with Receiver(answering()) as proxy, Receiver(answering(set_cookie)) as receiver:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url())
        monkeypatch.setenv("NETRC", str(netrc))
        transport = make()
        for _ in range(2):
            assert post(transport, receiver.url()).status == 200
        assert proxy.connections == 0
        assert not any(
            word in request.lower()
            for request in receiver.requests
            for word in (b"cookie", b"authorization")
        )


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"1\r\no\r\n1;x=y\r\nk\r\n0\r\nT: u\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + OK,
        b"HTTP/1.1 200\r\ncontent-length:2\r\n\r\nok",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        b"HTTP/1.1 200 OK\r\nthis is no header\r\n folded\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: x, Chunked\r\nContent-Length: 9\r\n\r\n"
        b"0000000000000002 ; x\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n1\no\n1\nk\n0\n\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n",
    ],
)
def test_every_framing_of_an_answer_is_understood(make: Make, answer: bytes) -> None:
    with Receiver(answering(answer, requests=1)) as receiver:
        got = post(make(), receiver.url())
        assert (got.status, got.error, got.body) == (200, None, b"ok")


def test_a_long_answer_is_read_to_the_limit_only(make: Make) -> None:
    sent = 0

    def handler(receiver: Receiver, sock: socket.socket) -> None:
        nonlocal sent
        receiver.read_request(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")
        for _ in range(50):
            sock.sendall(b"x" * 1_000_000)
            sent += 1

    with Receiver(handler) as receiver:
        answer = post(make(), receiver.url())
        assert (answer.status, answer.error, answer.body) == (200, None, b"x" * 1000)
    assert sent < 50


@pytest.mark.parametrize("size, connections", [(999, 1), (1000, 1), (1001, 2)])
@pytest.mark.parametrize("chunked", [False, True])
def test_only_a_longer_answer_costs_the_connection(
    make: Make, size: int, connections: int, chunked: bool
) -> None:
    if chunked:
        answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n"
    else:
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"
    with Receiver(answering(answer % (size, b"x" * size))) as receiver:
        transport = make()
        for _ in range(2):
            assert post(transport, receiver.url()).body == b"x" * min(size, 1000)
        assert receiver.connections == connections


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "head",
    [
        CHUNKED + b"-1\r\n",
        CHUNKED + b"-5\r\n",
        CHUNKED + b"ffffffffffffffff\r\n",
        CHUNKED + b"%s\r\n" % (b"f" * 17),
        CHUNKED + b"1;" + b"x" * 1_000_000,
        CHUNKED + b"1\r\nx\r\n" * 100_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000,
    ],
    ids=lambda head: repr(head[-30:]),
)
@pytest.mark.parametrize("then", [b"x", b"\r\n", b"1\r\nx\r\n", b"HTTP/1.1 100 C\r\n\r\n"])
def test_what_never_ends_is_not_read_without_end(make: Make, head: bytes, then: bytes) -> None:
    sent = 0

    def handler(receiver: Receiver, sock: socket.socket) -> None:
        nonlocal sent
        receiver.read_request(sock)
        sock.sendall(head)
        much = then * (1_000_000 // len(then))
        while sent < 300_000_000:
            sock.sendall(much)
            sent += len(much)

    with Receiver(handler) as receiver:
        answer = post(make(), receiver.url())
        assert answer.error in (None, "protocol")
        assert len(answer.body) <= 1000
        assert answer.duration < TIMEOUT + 0.5
    assert sent <= 20_000_000


def test_a_chunk_is_not_awaited_past_the_deadline_however_fast_it_comes(make: Make) -> None:
    def handler(receiver: Receiver, sock: socket.socket) -> None:
        receiver.read_request(sock)
        sock.sendall(CHUNKED)
        while not receiver.closing.is_set():
            sock.sendall((b"1;" + b"x" * 4000 + b"\r\nx\r\n") * 20)

    with Receiver(handler) as receiver:
        answer = post(make(response_limit=1_000_000, **SHORT), receiver.url())
        assert (answer.status, answer.error) == (200, "timeout")
        assert TIMEOUT <= answer.duration < TIMEOUT + 0.5


def test_a_compressed_answer_is_kept_as_it_came(make: Make) -> None:
    bomb = gzip.compress(b"\0" * 100_000)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    with Receiver(answering(head + bomb)) as receiver:
        answer = post(make(), receiver.url())
        assert (answer.status, answer.error, answer.body) == (200, None, bomb)


# Connections


def test_connections_are_kept_and_used_again(make: Make) -> None:
    with Receiver(answering()) as receiver:
        transport = make()
        futures = [transport.submit(Request(receiver.url(f"/{i}"), {}, b"")) for i in range(300)]
        assert {future.result(10).status for future in futures} == {200}
        assert receiver.connections <= 4
        assert len(receiver.requests) == 300


def test_many_requests_at_once_are_all_answered(make: Make) -> None:
    def handler(receiver: Receiver, sock: socket.socket) -> None:
        while receiver.read_request(sock):
            time.sleep(0.05)
            sock.sendall(OK)

    with Receiver(handler) as receiver:
        transport = make(concurrency=200, timeout=5, connect_timeout=5)
        start = time.monotonic()
        futures = [transport.submit(Request(receiver.url(), {}, b"x")) for _ in range(200)]
        assert [future.result(10).status for future in futures] == [200] * 200
        assert time.monotonic() - start < 2


def test_a_connection_that_was_closed_while_idle_is_replaced(make: Make) -> None:
    with Receiver(answering(requests=1)) as receiver:
        transport = make()
        for _ in range(5):
            assert post(transport, receiver.url()).status == 200
            time.sleep(0.02)
        assert receiver.connections == 5


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection is stale however busy the machine is that says so."""
    for name in ("asyncio", "attempt"):
        monkeypatch.setattr(f"flask_resthooks.transport.{name}.STALE_LIMIT", 5)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("reset", [False, True])
def test_a_connection_that_is_closed_upon_the_next_request_is_tried_once_more(
    make: Make, reset: bool
) -> None:
    def handler(receiver: Receiver, sock: socket.socket) -> None:
        receiver.read_request(sock)
        sock.sendall(OK)
        if reset:
            sock.recv(1)  # closing with unread data resets
        else:
            receiver.read_request(sock)

    with Receiver(handler) as receiver:
        transport = make()
        for _ in range(3):
            assert post(transport, receiver.url()).status == 200
        assert receiver.connections == 3


def test_a_fresh_connection_that_is_closed_is_not_tried_again(make: Make) -> None:
    with Receiver(lambda receiver, sock: None) as receiver:
        assert post(make(), receiver.url()).error == "connection"
        assert receiver.connections == 1


@pytest.mark.parametrize("reset", [False, True])
def test_who_works_and_closes_without_an_answer_gets_it_once(make: Make, reset: bool) -> None:
    """It was no stale connection that failed."""

    def handler(receiver: Receiver, sock: socket.socket) -> None:
        receiver.read_request(sock)
        sock.sendall(OK)
        if receiver.read_request(sock):
            time.sleep(0.3)
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with Receiver(handler) as receiver:
        transport = make(timeout=5)
        assert post(transport, receiver.url()).status == 200
        assert post(transport, receiver.url()).error == "connection"
        assert (receiver.connections, len(receiver.requests)) == (1, 2)


@pytest.mark.usefixtures("patient")
def test_with_no_time_left_to_connect_a_stale_connection_is_told(make: Make) -> None:
    """And not that there was no connection, which nobody tried."""

    def handler(receiver: Receiver, sock: socket.socket) -> None:
        receiver.read_request(sock)
        sock.sendall(OK)
        sock.recv(1000)
        time.sleep(0.5)

    with Receiver(handler) as receiver:
        transport = make(connect_timeout=0.4, timeout=5)
        assert post(transport, receiver.url()).status == 200
        assert post(transport, receiver.url()).error == "connection"
        assert receiver.connections == 1


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
@pytest.mark.parametrize("proxied", [False, True])
def test_without_descriptors_what_idles_is_closed(
    make: Make, monkeypatch: pytest.MonkeyPatch, number: int, proxied: bool
) -> None:
    resolver = fake_resolver(["127.0.0.1"])
    guard = Guard(require_https=False, allowed_networks=LOOPBACK, resolver=resolver)
    with Receiver(_tunnel if proxied else answering()) as receiver:
        transport = make(guard, proxy=receiver.url() if proxied else "")
        descriptors_run_out(monkeypatch, number, lambda: len(transport.idle) >= 20)
        for host in range(50):
            url = receiver.url(host=f"receiver-{host}.example")
            answer = post(transport, url)
            assert (answer.status, answer.detail) == (200, "")
        assert 10 < len(transport.idle) <= 20


@pytest.mark.parametrize("proxied", [False, True])
def test_without_any_descriptor_nobody_is_blamed(
    make: Make, monkeypatch: pytest.MonkeyPatch, proxied: bool
) -> None:
    with Receiver(answering()) as receiver:
        transport = make(proxy=receiver.url() if proxied else "")
        descriptors_run_out(monkeypatch, errno.EMFILE, lambda: True)
        answer = post(transport, receiver.url())
        assert (answer.error, answer.started) == ("not_started", False)
        assert "nothing was sent" in answer.detail


def descriptors_run_out(
    monkeypatch: pytest.MonkeyPatch, number: int, have: Callable[[], bool]
) -> None:
    """From here on a transport gets no new socket while it is said that they have run out."""
    real = socket.socket

    def scarce(*args: Any, **options: Any) -> socket.socket:
        ours = threading.current_thread().name.startswith("resthooks-")
        if ours and have():
            raise OSError(number, os.strerror(number))
        return real(*args, **options)

    monkeypatch.setattr(socket, "socket", scarce)


def _tunnel(receiver: Receiver, sock: socket.socket) -> None:
    """A proxy that is the receiver as well."""
    receiver.read_request(sock)
    sock.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
    answering()(receiver, sock)


def test_the_idle_connections_of_many_receivers_are_bounded(make: Make) -> None:
    with Receiver(answering()) as receiver:
        resolver = fake_resolver(["127.0.0.1"])
        transport = make(Guard(require_https=False, allowed_networks=LOOPBACK, resolver=resolver))
        for number in range(100):
            url = receiver.url(host=f"receiver-{number}.example")
            assert post(transport, url).status == 200
        assert len(transport.idle) == 64


def test_connections_that_idle_for_long_are_closed(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_resthooks.transport.idle.IDLE_LIMIT", 0.05)
    with Receiver(answering()) as receiver:
        transport = make()
        assert post(transport, receiver.url()).status == 200
        time.sleep(0.4)
        assert len(transport.idle) == 0


# Failures have their word


def test_a_refused_connection_is_told(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    answer = post(make(), f"http://127.0.0.1:{port}/")
    assert (answer.status, answer.error, answer.started) == (None, "connection", True)


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"\0" * 100 + b"\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 99 OK\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"x" * 100_000,
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 50_000 + b"\r\n",
    ],
)
def test_what_is_not_http_is_told(make: Make, data: bytes) -> None:
    with Receiver(answering(data, requests=1)) as receiver:
        answer = post(make(), receiver.url())
        assert (answer.status, answer.error) == (None, "protocol")


@pytest.mark.parametrize(
    "data, status",
    [
        (b"", None),
        (b"HTTP/1.1 200 OK\r\nContent-Le", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nok", 200),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nok", 200),
    ],
)
def test_an_answer_that_is_cut_off_is_told(make: Make, data: bytes, status: int | None) -> None:
    with Receiver(answering(data, requests=1)) as receiver:
        answer = post(make(), receiver.url())
        assert (answer.status, answer.error) == (status, "connection")


def test_a_name_without_address_is_told(make: Make) -> None:
    def resolver(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    answer = post(make(Guard(resolver=resolver)), "https://nowhere.example/")
    assert (answer.status, answer.error) == (None, "dns")
    assert "nowhere.example" in answer.detail


@pytest.mark.parametrize(
    "length",
    [b"-5", b"9" * 5000, b"9" * 20, b"+2", b"0x2", b"2_0", b"\xb2", b"two", b"2.0", b"2, 3", b""],
)
def test_a_length_that_is_none_is_told(make: Make, length: bytes) -> None:
    data = b"HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\nok" % length
    with Receiver(answering(data, requests=1)) as receiver:
        answer = post(make(), receiver.url())
        assert (answer.status, answer.error, answer.body) == (200, "protocol", b"")


@pytest.mark.parametrize(
    "chunks, body",
    [
        (b"-1\r\n", b""),
        (b"-5\r\nhi\r\n", b""),
        (b"+2\r\nhi\r\n0\r\n\r\n", b""),
        (b"0x2\r\nhi\r\n0\r\n\r\n", b""),
        (b"2_0\r\nhi\r\n0\r\n\r\n", b""),
        (b"zz\r\nhi\r\n", b""),
        (b"\r\n", b""),
        (b";x=y\r\n", b""),
        (b"f" * 17 + b"\r\n", b""),
        (b"0" * 17 + b"\r\n\r\n", b""),
        (b"2" + b" " * 5000 + b"\r\nhi\r\n", b""),
        (b"2;" + b"x" * 70_000 + b"\r\nhi\r\n0\r\n\r\n", b""),
        (b"2\r\nhi0\r\n\r\n", b"hi"),
        (b"2\r\nhi\r\n-2\r\nxx\r\n", b"hi"),
        (b"2\r\nhi\r\n0\r\n" + b"a: b\r\n" * 50_000, b"hi"),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_a_chunk_that_is_none_is_told(make: Make, chunks: bytes, body: bytes) -> None:
    with Receiver(answering(CHUNKED + chunks, requests=1)) as receiver:
        answer = post(make(), receiver.url())
        assert (answer.status, answer.error, answer.body) == (200, "protocol", body)


@pytest.mark.parametrize(
    "data",
    [
        b"\0\x1b[31m\x85\xa0evil" + b"x" * 60_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: \0\x07\x9b" + b"9" * 5000 + b"\r\n\r\n",
        CHUNKED + b"\0\x1b" + b"z" * 3000 + b"\r\n",
        CHUNKED + b"z" * 100_000,
    ],
)
def test_a_detail_is_short_and_can_be_printed(make: Make, data: bytes) -> None:
    with Receiver(answering(data, requests=1)) as receiver:
        answer = post(make(), receiver.url())
        assert answer.error == "protocol"
        assert 0 < len(answer.detail) <= 500
        assert answer.detail.isprintable()


HEADS = st.sampled_from(
    [
        *(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 204 No\r\n", b"HTTP/1.1 "),
        *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n"),
        *(
            b"Content-Length: ",
            b"Connection: keep-alive\r\n",
            b"Connection: close\r\n",
            b"a: b\r\n",
        ),
    ]
)
CRUMBS = st.sampled_from(
    [
        *(b"\r\n", b"\n", b"\r", b" ", b":", b";", b"-", b"+", b"0", b"1", b"5", b"a", b"ff", b"_"),
        *(b"\0", b"\xff", b"\xb2", b"0\r\n\r\n", b"2\r\nhi\r\n", b"9" * 5000, b"x" * 1500),
    ]
)


def test_no_answer_however_malformed_is_an_error_of_our_own(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    transport = make(timeout=5, connect_timeout=5, response_limit=100)
    data = b""

    def handler(receiver: Receiver, sock: socket.socket) -> None:
        receiver.read_request(sock)
        sock.sendall(data)

    with Receiver(handler) as receiver:

        @hypothesis.settings(max_examples=300)
        @hypothesis.given(
            st.lists(HEADS, max_size=4), st.lists(st.one_of(CRUMBS, HEADS, st.binary(max_size=5)))
        )
        def ends_well(heads: list[bytes], crumbs: list[bytes]) -> None:
            nonlocal data
            data = b"".join(heads) + b"".join(crumbs)
            answer = post(transport, receiver.url())
            assert answer.error in (None, "connection", "protocol")
            assert answer.error is not None or answer.status is not None
            assert len(answer.body) <= 100
            assert len(answer.detail) <= 500 and answer.detail.isprintable()
            assert answer.duration < 2

        ends_well()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_an_error_of_our_own_is_told_and_logged(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    def resolver(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("oops")

    answer = post(make(Guard(resolver=resolver)), "https://example.com/")
    assert (answer.error, answer.detail) == ("internal", "ZeroDivisionError: oops")
    assert "ZeroDivisionError" in caplog.text


def test_a_request_whose_time_has_passed_is_not_sent(make: Make) -> None:
    with Receiver(answering()) as receiver:
        transport = make()
        late = Request(receiver.url(), {}, b"", start_before=time.monotonic() - 1)
        answer = transport.submit(late).result(10)
        assert (answer.status, answer.error, answer.started) == (None, "not_started", False)
        in_time = Request(receiver.url(), {}, b"", start_before=time.monotonic() + 60)
        assert transport.submit(in_time).result(10).status == 200
        assert len(receiver.requests) == 1


# OPTIONS


def test_options_arrive_as_they_were_given(make: Make) -> None:
    granted = (
        b"HTTP/1.1 204 No Content\r\nAllow: POST\r\nWebHook-Allowed-Origin: crm.example.com\r\n"
        b"WEBHOOK-ALLOWED-RATE: 120\r\nX-Request-Id: r1\r\nSet-Cookie: a=b\r\n\r\n"
    )
    with Receiver(answering(granted)) as receiver:
        headers = {"webhook-request-origin": "crm.example.com", "Content-Length": "5"}
        url = receiver.url("/hook/ü?a=b#fragment")
        answer = post(make(), url, b"", headers, "OPTIONS")
        assert (answer.status, answer.error, answer.body) == (204, None, b"")
        assert answer.headers == {
            "allow": "POST",
            "webhook-allowed-origin": "crm.example.com",
            "webhook-allowed-rate": "120",
            "x-request-id": "r1",
        }
        assert receiver.requests == [
            b"OPTIONS /hook/%C3%BC?a=b HTTP/1.1\r\n"
            b"Host: 127.0.0.1:" + str(receiver.port).encode() + b"\r\n"
            b"Accept-Encoding: identity\r\n"
            b"webhook-request-origin: crm.example.com\r\n\r\n"
        ]


def test_only_options_go_without_a_length(make: Make) -> None:
    """One after the other on one connection, so that a wrong length would spoil the next."""
    sent = [("OPTIONS", b""), ("POST", b""), ("OPTIONS", b"{}"), ("POST", b"{}"), ("OPTIONS", b"")]
    with Receiver(answering()) as receiver:
        transport = make()
        for method, body in sent:
            answer = post(transport, receiver.url("/same"), body, {"a": "b"}, method)
            assert (answer.status, answer.error, answer.body) == (200, None, b"ok")
        assert receiver.connections == 1
        heads = [request.partition(b"\r\n\r\n")[0] for request in receiver.requests]
        assert [head.partition(b" /same HTTP/1.1\r\n")[0] for head in heads] == [
            method.encode() for method, _ in sent
        ]
        lengths = [head.partition(b"Content-Length: ")[2] for head in heads]
        assert lengths == [b"", b"0", b"2", b"2", b""]
        assert [request[-2:] for request in receiver.requests if b"h: 2" in request] == [b"{}"] * 2


@pytest.mark.parametrize("method", ["GET", "HEAD", "post", "", "POST ", "OPTIONS / HTTP/1.1\r\nA:"])
def test_no_other_method_is_made(method: str) -> None:
    with pytest.raises(ValueError, match="is none of POST, OPTIONS"):
        Request("https://example.com/", {}, b"", method=method)


def test_a_redirect_of_options_is_not_followed(make: Make) -> None:
    with Receiver(answering()) as elsewhere:
        head = f"HTTP/1.1 307 T\r\nLocation: {elsewhere.url()}\r\nContent-Length: 0\r\n\r\n"
        with Receiver(answering(head.encode())) as receiver:
            assert post(make(), receiver.url(), b"", method="OPTIONS").status == 307
        assert elsewhere.connections == 0


@pytest.mark.usefixtures("patient")
def test_options_on_a_stale_connection_are_tried_once_more(make: Make) -> None:
    def handler(receiver: Receiver, sock: socket.socket) -> None:
        receiver.read_request(sock)
        sock.sendall(OK)
        receiver.read_request(sock)

    with Receiver(handler) as receiver:
        transport = make()
        for method in ("POST", "OPTIONS", "OPTIONS"):
            assert post(transport, receiver.url(), b"", method=method).status == 200
        assert receiver.connections == 3
        assert [request[:4] for request in receiver.requests] == [
            *(b"POST", b"OPTI", b"OPTI", b"OPTI", b"OPTI")
        ]


def test_options_are_refused_and_timed_like_any_request(make: Make) -> None:
    with Receiver(silent) as receiver:
        answer = post(make(**SHORT), receiver.url(), b"", method="OPTIONS")
        assert (answer.status, answer.error) == (None, "timeout")
        refused = post(make(Guard(require_https=False)), receiver.url(), b"", method="OPTIONS")
        assert (refused.error, receiver.connections) == ("address_refused", 1)


# Headers whose values are secrets


HIDDEN = "tok-5f2c9a17e4b80d63"


def assert_hidden(answer: Answer, log: str) -> None:
    """No eight letters of it in a row: a part would be of use to a guesser."""
    for said in (answer.detail, repr(answer), log):
        assert not [i for i in range(len(HIDDEN) - 7) if HIDDEN[i : i + 8] in said]


@pytest.mark.parametrize(
    "bad",
    [
        *("\r\n", "\n", "\r", "\0", "\x01", "\x0b", "\x1f", "\x7f", "\x85", "\x9b"),
        *("€", "\u0100", "\U0001f600", "\ud800", "\udc80", "\u2028"),
    ],
    ids=ascii,
)
@pytest.mark.parametrize("before, after", [("", HIDDEN), (HIDDEN, ""), (HIDDEN, HIDDEN)])
@pytest.mark.parametrize("method", ["POST", "OPTIONS"])
def test_a_value_that_cannot_be_sent_is_its_own_attempts_failure_and_not_shown(
    make: Make, caplog: pytest.LogCaptureFixture, bad: str, before: str, after: str, method: str
) -> None:
    caplog.set_level("DEBUG")
    with Receiver(answering()) as receiver:
        transport = make()
        headers = {"Authorization": f"Bearer {before}{bad}{after}", "x-other": HIDDEN}
        futures = [
            transport.submit(Request(receiver.url(f"/{number}"), given, b"", method=method))
            for number, given in enumerate(({"a": "b"}, headers, {"a": "b"}))
        ]
        before_it, answer, after_it = [future.result(10) for future in futures]
        assert (answer.status, answer.error) == (None, "internal")
        assert "'Authorization'" in answer.detail
        assert "Traceback" in caplog.text
        assert bad not in answer.detail
        assert_hidden(answer, caplog.text)
        assert before_it.status == after_it.status == 200
        assert len(receiver.requests) == 2


def test_a_value_in_latin_1_arrives(make: Make) -> None:
    text = "".join(map(chr, [9, *range(0x20, 0x7F), *range(0xA0, 0x100)]))
    with Receiver(answering()) as receiver:
        assert post(make(), receiver.url(), headers={"x-all": f"[{text}]"}).status == 200
        assert f"\r\nx-all: [{text}]\r\n".encode("latin-1") in receiver.requests[0]


@pytest.mark.parametrize(
    "name", [f"Authorization: {HIDDEN}", f"Authorization {HIDDEN}", f"ü{HIDDEN}", f"\r\n{HIDDEN}"]
)
def test_a_value_that_got_into_a_name_is_not_shown(
    make: Make, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    caplog.set_level("DEBUG")
    with Receiver(answering()) as receiver:
        answer = post(make(), receiver.url(), headers={name: HIDDEN})
        assert answer.error == "internal"
        assert_hidden(answer, caplog.text)
        assert receiver.requests == []


@pytest.mark.parametrize("value", [None, 5, HIDDEN.encode(), [HIDDEN]], ids=type)
def test_a_value_that_is_no_text_is_not_shown(
    make: Make, caplog: pytest.LogCaptureFixture, value: Any
) -> None:
    caplog.set_level("DEBUG")
    with Receiver(answering()) as receiver:
        answer = post(make(), receiver.url(), headers={"x-secret": value, "x-other": HIDDEN})
        assert answer.error == "internal"
        assert_hidden(answer, caplog.text)


@pytest.mark.parametrize("kind", [AsyncioTransport, RequestsTransport])
@hypothesis.given(text=st.text(st.characters(exclude_categories=()), max_size=5))
def test_a_value_is_sent_as_it_is_or_not_at_all(kind: type[Ours], text: str) -> None:
    guard = Guard(require_https=False, allowed_networks=LOOPBACK)
    with Receiver(answering()) as receiver:
        transport = kind(guard, 1, 5, 5, 100)
        try:
            answer = post(transport, receiver.url(), headers={"x-a": f"<{text}{HIDDEN}>"})
        finally:
            transport.close()
        if answer.error is None:
            sent = f"\r\nx-a: <{text}{HIDDEN}>\r\n".encode("latin-1")
            assert receiver.requests[0].count(b"\r\n") == 6
            assert sent in receiver.requests[0]
        else:
            assert (answer.error, receiver.requests) == ("internal", [])
            assert HIDDEN not in answer.detail


@pytest.mark.parametrize(
    "value",
    [HIDDEN, f"Bearer {HIDDEN}", f'Basic "{HIDDEN}"', f"é\\'\"{HIDDEN}", HIDDEN + "x" * 5000],
)
@pytest.mark.parametrize(
    "answer",
    [
        b"%s\r\n",
        b"HTTP/1.1 %s\r\n\r\n",
        b"HTTP/2 200 \x1b%s\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\n",
        CHUNKED + b"%s\r\n",
        CHUNKED + b"1\r\nx%s\r\n",
        b"X" * 30 + b"%s\r\n",
    ],
)
def test_an_answer_that_repeats_a_value_is_not_shown(
    make: Make, caplog: pytest.LogCaptureFixture, answer: bytes, value: str
) -> None:
    caplog.set_level("DEBUG")
    repeated = answer % value.encode("latin-1")
    with Receiver(answering(repeated, requests=1)) as receiver:
        got = post(make(), receiver.url(), headers={"x-number": "7", "authorization": value})
        assert got.error == "protocol"
        assert got.detail.startswith("the answer is not HTTP")
        assert_hidden(got, caplog.text)


def test_an_answer_that_repeats_nothing_is_shown(make: Make) -> None:
    with Receiver(answering(b"SSH-2.0-OpenSSH_9.9\r\n", requests=1)) as receiver:
        headers = {"x-number": "2", "x-short": "SSH", "x-empty": "", "authorization": HIDDEN}
        answer = post(make(), receiver.url(), headers=headers)
        assert "SSH-2.0-OpenSSH_9.9" in answer.detail


def test_a_request_and_an_answer_do_not_show_their_headers() -> None:
    request = Request("https://example.com/", {"authorization": HIDDEN}, HIDDEN.encode())
    answer = Answer(200, headers={"x-hook-secret": HIDDEN})
    assert HIDDEN not in f"{request!r} {answer!r}"
    assert "https://example.com/" in repr(request)


# Deadlines; who stretches an attempt is in the catalogue of hostile receivers


def silent(receiver: Receiver, sock: socket.socket) -> None:
    receiver.read_request(sock)
    receiver.closing.wait()


def reading_slowly(receiver: Receiver, sock: socket.socket) -> None:
    while not receiver.closing.wait(0.05):
        sock.recv(1000)


def dripping_headers(receiver: Receiver, sock: socket.socket) -> None:
    receiver.read_request(sock)
    receiver.drip(sock, b"HTTP/1.1 200 OK\r\n" + b"X-Drip: drip\r\n" * 1000)


def dripping_body(receiver: Receiver, sock: socket.socket) -> None:
    receiver.read_request(sock)
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n")
    receiver.drip(sock, b"x" * 900)


def test_a_deadline_hits_its_own_attempt_only(make: Make) -> None:
    def handler(receiver: Receiver, sock: socket.socket) -> None:
        while request := receiver.read_request(sock):
            if b"/slow" in request:
                receiver.closing.wait()
            sock.sendall(OK)

    with Receiver(handler) as receiver:
        transport = make(concurrency=8, **SHORT)
        slow = [transport.submit(Request(receiver.url("/slow"), {}, b"")) for _ in range(4)]
        end = time.monotonic() + TIMEOUT + 0.3
        while time.monotonic() < end:
            assert post(transport, receiver.url("/fast")).error is None
        assert {future.result(10).error for future in slow} == {"timeout"}


def test_a_listener_that_does_not_accept_is_given_up(make: Make) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []
        for _ in range(4):  # fill the backlog
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
            waiting.append(sock)
        port = listener.getsockname()[1]
        answer = post(make(connect_timeout=0.3, timeout=5), f"http://127.0.0.1:{port}/")
        for sock in waiting:
            sock.close()
    assert (answer.status, answer.error) == (None, "connect_timeout")
    assert 0.3 <= answer.duration < 0.8


def test_a_resolver_that_hangs_is_given_up(make: Make) -> None:
    wake = threading.Event()

    def resolver(*_: Any, **__: Any) -> Any:
        wake.wait(10)
        raise socket.gaierror(socket.EAI_AGAIN, "at last")

    transport = make(Guard(resolver=resolver), connect_timeout=0.3, timeout=5, concurrency=1)
    for _ in range(6):  # more than may hang at once
        answer = post(transport, "https://example.com/")
        assert (answer.status, answer.error) == (None, "connect_timeout")
        assert 0.3 <= answer.duration < 0.8
    wake.set()


def test_names_that_hang_are_not_held_against_others(make: Make) -> None:
    wake = threading.Event()

    def resolver(host: str, *_: Any, **__: Any) -> Any:
        if host.startswith("hang"):
            wake.wait(10)
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    transport = make(Guard(resolver=resolver), connect_timeout=0.3, timeout=5, concurrency=1)
    for _ in range(6):  # of one name, one lookup hangs
        assert post(transport, "https://hang0.example.com/").error == "connect_timeout"
    assert post(transport, "https://good.example.com/").error == "dns"
    for number in range(1, 4):  # as many as may
        assert post(transport, f"https://hang{number}.example.com/").error == "connect_timeout"
    answer = post(transport, "https://good.example.com/")
    assert (answer.error, answer.started) == ("not_started", False)
    wake.set()


# Addresses


SPELLINGS = """
127.0.0.1 127.0.0.1. 127.1 127.0.1 2130706433 0x7f000001 0x7f.1 0x7F.0.0.0x1 017700000001 0177.1
00177.0.0.01 127.000.000.001 0 0.0.0.0 0x0 %31%32%37.0.0.1 127.0.0.1%2f 127%2e0.0.1 127.0.0.1%00
\uff11\uff12\uff17.0.0.1 127\u30020\u30020\u30021 \u2460\u2461\u2466.0.0.1 [::1] [::] [0:0::0:1]
[::ffff:127.0.0.1] [::ffff:7f00:1] [::ffff:0.0.0.0] [::127.0.0.1] [64:ff9b::7f00:1]
[2002:7f00:1::] [::1%251] [fe80::1%25lo] 169.254.169.254 [::ffff:169.254.169.254] 10.0.0.1
192.168.0.1 172.16.0.1 user@127.0.0.1 example.com@127.0.0.1 127.0.0.1\\@example.com localhost
LocalHost localhost. a.localhost localhost.localdomain ip6-localhost loopback.test
"""


@pytest.mark.parametrize("host", SPELLINGS.split())
def test_no_spelling_reaches_a_receiver_on_this_machine(make: Make, host: str) -> None:
    guard = Guard(require_https=False, resolver=fake_resolver(["127.0.0.1"]))
    with Receiver(answering()) as v4, Receiver(answering(), host="::1") as v6:
        transport = make(guard)
        for receiver in (v4, v6):
            answer = post(transport, receiver.url(host=host))
            assert (answer.status, answer.error) == (None, "address_refused")
            assert answer.detail
        assert v4.connections == v6.connections == 0


def test_a_redirect_to_this_machine_is_not_followed(make: Make) -> None:
    with Receiver(answering()) as inside:
        head = f"HTTP/1.1 307 T\r\nLocation: {inside.url()}\r\nContent-Length: 0\r\n\r\n"
        with Receiver(answering(head.encode())) as receiver:
            assert post(make(), receiver.url()).status == 307
        assert inside.connections == 0


def test_a_name_is_connected_to_at_the_address_that_was_checked(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """The name's first answer passes the guard; had it been asked again, the receiver would know.

    "Public" is played by 127.0.0.2, the only address that is allowed here.
    """
    asked = fake_resolver(["127.0.0.2"], ["127.0.0.1"])
    guard = Guard(require_https=False, allowed_networks=["127.0.0.2"], resolver=asked)
    with Receiver(answering(requests=1)) as inside:
        answer = post(make(guard), inside.url(host="rebinding.example"))
        assert answer.error == "connection"  # nothing listens at 127.0.0.2
        for _ in range(3):
            answer = post(make(guard), inside.url(host="rebinding.example"))
            assert answer.error == "address_refused"
            assert answer.detail == (
                "the name 'rebinding.example' resolves to an address that is not public"
            )
            # The log is the operator's: it may say more.
            assert "127.0.0.1" in caplog.text and "127.0.0.2/32" in caplog.text
            caplog.clear()
        assert inside.connections == 0


def test_a_name_with_public_and_local_addresses_is_not_called(make: Make) -> None:
    resolver = fake_resolver(["127.0.0.2", "127.0.0.1"])
    guard = Guard(require_https=False, allowed_networks=["127.0.0.2"], resolver=resolver)
    with Receiver(answering()) as inside:
        answer = post(make(guard), inside.url(host="mixed.example"))
        assert answer.error == "address_refused"
        assert inside.connections == 0


def test_the_next_address_is_tried_when_one_fails(make: Make) -> None:
    resolver = fake_resolver(["127.0.0.2", "127.0.0.1"])
    guard = Guard(require_https=False, allowed_networks=LOOPBACK, resolver=resolver)
    with Receiver(answering()) as receiver:
        assert post(make(guard), receiver.url(host="two.example")).status == 200
        assert b"Host: two.example:" in receiver.requests[0]


def test_an_ipv6_receiver_is_reached(make: Make) -> None:
    with Receiver(answering(), host="::1") as receiver:
        assert post(make(), receiver.url(host="[::1]")).status == 200
        assert f"Host: [::1]:{receiver.port}".encode() in receiver.requests[0]


# TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def server_tls(issuer: trustme.CA, *names: str, **options: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issuer.issue_cert(*names, **options).configure_cert(context)
    return context


def name_guard() -> Guard:
    return Guard(allowed_networks=LOOPBACK, resolver=fake_resolver(["127.0.0.1"]))


def test_tls_is_verified_by_name_on_the_checked_address(
    make: Make, authority: trustme.CA, ca_file: str
) -> None:
    asked: list[str | None] = []
    tls = server_tls(authority, "hooks.example")
    tls.sni_callback = lambda sock, name, context: asked.append(name)
    with Receiver(answering(), tls=tls) as receiver:
        transport = make(name_guard(), ca_file=ca_file)
        for _ in range(5):
            answer = post(transport, receiver.url(scheme="https", host="hooks.example"))
            assert (answer.status, answer.error, answer.body) == (200, None, b"ok")
        assert receiver.connections == 1
        assert asked == ["hooks.example"]


@pytest.mark.usefixtures("patient")
def test_a_closed_tls_connection_is_tried_once_more(
    make: Make, authority: trustme.CA, ca_file: str
) -> None:
    def handler(receiver: Receiver, sock: socket.socket) -> None:
        receiver.read_request(sock)
        sock.sendall(OK)
        receiver.read_request(sock)

    with Receiver(handler, tls=server_tls(authority, "hooks.example")) as receiver:
        transport = make(name_guard(), ca_file=ca_file)
        for _ in range(3):
            answer = post(transport, receiver.url(scheme="https", host="hooks.example"))
            assert (answer.status, answer.error) == (200, None)


def test_a_dripping_tls_receiver_cannot_stretch_an_attempt(
    make: Make, authority: trustme.CA, ca_file: str
) -> None:
    tls = server_tls(authority, "hooks.example")
    for handler in (silent, dripping_headers, dripping_body, reading_slowly):
        with Receiver(handler, tls=tls) as receiver:
            transport = make(name_guard(), ca_file=ca_file, **SHORT)
            url = receiver.url(scheme="https", host="hooks.example")
            answer = post(transport, url, b"x" * 20_000_000 if handler is reading_slowly else b"")
            assert answer.error == "timeout"
            assert TIMEOUT <= answer.duration < TIMEOUT + 0.5


def test_a_certificate_of_another_name_is_refused(
    make: Make, authority: trustme.CA, ca_file: str
) -> None:
    with Receiver(answering(), tls=server_tls(authority, "other.example")) as receiver:
        transport = make(name_guard(), ca_file=ca_file)
        answer = post(transport, receiver.url(scheme="https", host="hooks.example"))
        assert (answer.status, answer.error) == (None, "tls")
        assert receiver.requests == []


def test_a_certificate_of_an_unknown_authority_is_refused(
    make: Make,
    authority: trustme.CA,
    ca_file: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, ca_file)
    with Receiver(answering(), tls=server_tls(authority, "hooks.example")) as receiver:
        url = receiver.url(scheme="https", host="hooks.example")
        assert post(make(name_guard()), url).error == "tls"
        assert receiver.requests == []


# Life and end


def test_closing_waits_for_what_has_started_and_cancels_the_rest(make: Make) -> None:
    def handler(receiver: Receiver, sock: socket.socket) -> None:
        while receiver.read_request(sock):
            time.sleep(0.2)
            sock.sendall(OK)

    with Receiver(handler) as receiver:
        transport = make(concurrency=1)
        futures = [transport.submit(Request(receiver.url(), {}, b"")) for _ in range(3)]
        while not receiver.requests:
            time.sleep(0.01)
        transport.close()
        assert futures[0].result(0).status == 200
        with pytest.raises(concurrent.futures.CancelledError):
            futures[2].result(0)
        with pytest.raises(RuntimeError):
            transport.submit(Request(receiver.url(), {}, b""))
        transport.close()


def test_closing_leaves_no_thread(make: Make) -> None:
    with Receiver(answering()) as receiver:
        before = set(threading.enumerate())
        transport = make()
        assert post(transport, receiver.url()).status == 200
        transport.close()
        names = [thread.name for thread in set(threading.enumerate()) - before]
        assert not [name for name in names if name.startswith("resthooks-")]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_transport_from_before_a_fork_says_so(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = make()
    with monkeypatch.context() as patch:
        patch.setattr("os.getpid", lambda: -1)
        with pytest.raises(RuntimeError, match="fork"):
            transport.submit(Request("https://example.com/", {}, b""))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_closing_in_a_child_waits_for_no_lock_that_was_held_at_the_fork(make: Make) -> None:
    transport = make()
    with transport.idle._lock:
        child = os.fork()
        if child == 0:
            closing = threading.Thread(target=transport.close, daemon=True)
            closing.start()
            closing.join(5)
            os._exit(closing.is_alive())
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize(
    "name, kind",
    [
        ("aiohttp", AsyncioTransport),
        ("asyncio", AsyncioTransport),
        ("requests", RequestsTransport),
    ],
)
def test_a_transport_is_made_by_name(name: str, kind: type[Ours]) -> None:
    options: Any = {
        "guard": Guard(),
        "concurrency": 1,
        "connect_timeout": 1,
        "timeout": 1,
        "response_limit": 1,
    }
    transport = create(name, **options)
    assert isinstance(transport, kind)
    transport.close()
    with pytest.raises(ValueError, match=r"'carrier-pigeon'.*'requests'"):
        create("carrier-pigeon", **options)


OPTIONS: Any = {
    "guard": Guard(),
    "concurrency": 1,
    "connect_timeout": 1,
    "timeout": 1,
    "response_limit": 1,
}


def test_a_transport_of_ones_own_is_made_by_its_place() -> None:
    transport = create("flask_resthooks.transport.requests:RequestsTransport", **OPTIONS)
    assert isinstance(transport, RequestsTransport)
    transport.close()


@pytest.mark.parametrize(
    "name, told",
    [
        ("nowhere.at_all:Class", "cannot be imported: ModuleNotFoundError.*'nowhere'"),
        ("flask_resthooks.transport:Nobody", "has nothing of the name 'Nobody'"),
        ("flask_resthooks.transport:", "has nothing of the name ''"),
        ("flask_resthooks.transport:METHODS", "has nothing callable of the name 'METHODS'"),
        (":Class", "names no module"),
        (".requests:RequestsTransport", "names no module"),
        ("flask_resthooks.guard:Guard", "must take the keywords guard, .*'guard'"),
        ("flask_resthooks.transport", "known: 'aiohttp', .*; your own: 'package.module:Class'"),
    ],
)
def test_what_is_wrong_with_a_place_is_told(name: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        create(name, **OPTIONS)


def test_a_transport_that_lacks_a_method_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_a_transport.py").write_text(
        "class Half:\n    def __init__(self, **options): pass\n    submit = None\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"'half_a_transport:Half' has no submit and no close\(\)"):
        create("half_a_transport:Half", **OPTIONS)


def test_an_error_inside_ones_own_module_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ones_own_transport.py").write_text("x = int('no number')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"cannot be imported: ValueError\(.*no number") as caught:
        create("ones_own_transport:Class", **OPTIONS)
    assert isinstance(caught.value.__cause__, ValueError)
