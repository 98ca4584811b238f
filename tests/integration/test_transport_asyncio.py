"""What is the event loop's alone: a thread that nobody may hold up, and that leaves nothing."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

import pytest
import trustme

from flask_resthooks.guard import Guard
from flask_resthooks.transport import Answer, Request
from flask_resthooks.transport.asyncio import AsyncioTransport
from tests.integration.receivers import OK, Receiver, answering

LOOPBACK = ["127.0.0.0/8"]
TOO_LARGE = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"
MANY = 16 * 1024 * 1024

Make = Callable[..., AsyncioTransport]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[AsyncioTransport] = []

    def make(guard: Guard | None = None, **options: Any) -> AsyncioTransport:
        guard = guard or Guard(require_https=False, allowed_networks=LOOPBACK)
        settings = {
            "concurrency": 4,
            "connect_timeout": 5,
            "timeout": 5,
            "response_limit": 1000,
        }
        made.append(AsyncioTransport(guard, **{**settings, **options}))
        return made[-1]

    yield make
    for transport in made:
        transport.close()


def submit(transport: AsyncioTransport, url: str, body: bytes = b"{}") -> Future[Answer]:
    return transport.submit(Request(url, {}, body))


def post(transport: AsyncioTransport, url: str, body: bytes = b"{}") -> Answer:
    return submit(transport, url, body).result(20)


def until(is_true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.01)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


with_proc = pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc")


# Turns


def chain(transport: AsyncioTransport, url: str, length: int) -> list[Answer]:
    """Requests, each of which is submitted when the one before it has its answer."""
    answers: list[Answer] = []
    over = threading.Event()

    def go_on(future: Future[Answer]) -> None:
        answers.append(future.result())
        if len(answers) < length:
            submit(transport, url).add_done_callback(go_on)
        else:
            over.set()

    submit(transport, url).add_done_callback(go_on)
    assert over.wait(30)
    return answers


@pytest.mark.parametrize("length", [1, 3000])
def test_what_is_submitted_with_an_answer_starts_at_once_however_often(
    make: Make, length: int
) -> None:
    """A dispatcher submits in the loop's thread, where an answer that comes at once would submit
    the next one, and so on until Python has enough."""
    assert {one.error for one in chain(make(), "https://10.0.0.1/", length)} == {"address_refused"}
    with Receiver(answering()) as receiver:
        assert {one.status for one in chain(make(), receiver.url(), length)} == {200}
        assert receiver.connections == 1


def test_those_that_wait_have_their_turns_in_order(make: Make) -> None:
    with Receiver(answering()) as receiver:
        transport = make(concurrency=1)
        futures = [submit(transport, receiver.url(f"/{number}")) for number in range(50)]
        assert {future.result(10).status for future in futures} == {200}
        paths = [request.split(b" ")[1] for request in receiver.requests]
        assert paths == [f"/{number}".encode() for number in range(50)]


def test_whether_it_is_too_late_is_asked_when_the_turn_comes(make: Make) -> None:
    wake = threading.Event()

    def handler(receiver: Receiver, sock: socket.socket) -> None:
        while receiver.read_request(sock):
            wake.wait(10)
            sock.sendall(OK)

    with Receiver(handler) as receiver:
        transport = make(concurrency=1)
        first = submit(transport, receiver.url())
        late = transport.submit(Request(receiver.url(), {}, b"", time.monotonic() + 0.2))
        cancelled = submit(transport, receiver.url())
        last = submit(transport, receiver.url())
        assert cancelled.cancel()
        time.sleep(0.3)
        wake.set()
        assert late.result(10).error == "not_started"
        assert first.result(10).status == last.result(10).status == 200
        assert len(receiver.requests) == 2


def test_threads_that_submit_at_the_same_time_are_all_answered(make: Make) -> None:
    with Receiver(answering()) as receiver:
        transport = make(concurrency=8)
        statuses: list[int | None] = []

        def work() -> None:
            futures = [submit(transport, receiver.url()) for _ in range(50)]
            statuses.extend(future.result(20).status for future in futures)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert statuses == [200] * 400
        assert receiver.connections <= 8


# Nobody holds up the others


def test_a_resolver_that_hangs_holds_up_nobody(make: Make) -> None:
    wake = threading.Event()

    def resolver(host: str, port: int, **_: Any) -> Any:
        if host == "hangs.example":
            wake.wait(10)
        return [(socket.AF_INET, 1, 6, "", ("127.0.0.1", port))]

    guard = Guard(require_https=False, allowed_networks=LOOPBACK, resolver=resolver)
    with Receiver(answering()) as receiver:
        transport = make(guard, concurrency=2)
        hangs = submit(transport, receiver.url(host="hangs.example"))
        for _ in range(5):
            assert post(transport, receiver.url(host="good.example")).status == 200
        assert not hangs.done()
        wake.set()
        assert hangs.result(10).status == 200


def test_a_flood_holds_up_nobody_for_long(make: Make) -> None:
    """A megabyte of what is to be read byte by byte is read in many small steps."""

    def flooding(receiver: Receiver, sock: socket.socket) -> None:
        receiver.read_request(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not receiver.closing.is_set():
            sock.sendall(b"1\r\nx\r\n" * 10_000)

    with Receiver(flooding) as hostile, Receiver(answering()) as receiver:
        transport = make(response_limit=100_000_000, timeout=1)
        flood = submit(transport, hostile.url())
        answered = 0
        while not flood.done():
            assert post(transport, receiver.url()).status == 200
            answered += 1
        assert flood.result().error == "timeout"
        assert answered >= 10


# Long requests


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, str]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return context, str(path)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_long_body_arrives_and_is_not_copied(
    make: Make, scheme: str, tls: tuple[ssl.SSLContext, str]
) -> None:
    sizes: list[int] = []

    def handler(receiver: Receiver, sock: socket.socket) -> None:
        for _ in range(2):
            _, _, body = sock.recv(65536).partition(b"\r\n\r\n")
            came = len(body)
            while came < MANY:
                came += len(sock.recv(65536))
            sizes.append(came)
            sock.sendall(OK)

    context, ca_file = tls
    body = b"x" * MANY
    with Receiver(handler, tls=context if scheme == "https" else None) as receiver:
        transport = make(ca_file=ca_file, timeout=20)
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(2):
            assert post(transport, receiver.url(scheme=scheme), body).status == 200
        most = tracemalloc.get_traced_memory()[1] - before
        tracemalloc.stop()
        assert receiver.connections == 1
    assert sizes == [MANY, MANY]
    assert most < MANY / 4


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_answer_that_comes_before_all_is_sent_counts(
    make: Make, scheme: str, tls: tuple[ssl.SSLContext, str]
) -> None:
    def handler(receiver: Receiver, sock: socket.socket) -> None:
        sock.recv(1000)
        sock.sendall(TOO_LARGE)
        receiver.closing.wait()

    context, ca_file = tls
    with Receiver(handler, tls=context if scheme == "https" else None) as receiver:
        transport = make(ca_file=ca_file)
        for number in (1, 2):  # what was not sent to its end is not sent by the next
            answer = post(transport, receiver.url(scheme=scheme), b"x" * MANY)
            assert (answer.status, answer.error) == (413, None)
            assert receiver.connections == number


# Nothing is left behind


def test_a_connection_that_ends_or_speaks_while_it_idles_is_dropped(make: Make) -> None:
    speak, end = threading.Event(), threading.Event()

    def handler(receiver: Receiver, sock: socket.socket) -> None:
        if b"/speaks" in receiver.read_request(sock):
            sock.sendall(OK)
            speak.wait(10)
            sock.sendall(OK)
            receiver.closing.wait()
        else:
            sock.sendall(OK)
            end.wait(10)

    with Receiver(handler) as receiver:
        transport = make()
        both = [submit(transport, receiver.url(path)) for path in ("/speaks", "/ends")]
        assert {future.result(10).status for future in both} == {200}
        assert len(transport.idle) == 2
        speak.set()
        until(lambda: len(transport.idle) == 1)
        end.set()
        until(lambda: len(transport.idle) == 0)


def test_what_came_while_the_loop_was_busy_is_not_the_answer_to_the_next_request(
    make: Make,
) -> None:
    """The connection has not been looked at since: it is when it is taken."""

    def handler(receiver: Receiver, sock: socket.socket) -> None:
        while receiver.read_request(sock):
            sock.sendall(OK)
            time.sleep(0.05)
            sock.sendall(OK.replace(b"ok", b"no"))

    with Receiver(handler) as receiver:
        transport = make()
        second: list[Future[Answer]] = []

        def go_on(_: Future[Answer]) -> None:
            time.sleep(0.3)  # in the loop's own thread
            second.append(submit(transport, receiver.url()))

        first = submit(transport, receiver.url())
        first.add_done_callback(go_on)
        assert first.result(10).body == b"ok"
        until(lambda: bool(second))
        assert second[0].result(10).body == b"ok"
        assert receiver.connections == 2


@with_proc
@pytest.mark.parametrize("proxied", [False, True])
def test_what_is_given_up_leaves_no_descriptor(make: Make, proxied: bool) -> None:
    """In every place where it can be: at the lookup, at connecting, in the proxy's hands, in the
    handshake, at sending, at reading."""
    wake = threading.Event()

    def resolver(host: str, port: int, **_: Any) -> Any:
        if host == "hangs.example":
            wake.wait(10)
        return [(socket.AF_INET, 1, 6, "", ("127.0.0.1", port))]

    def silent(receiver: Receiver, sock: socket.socket) -> None:
        receiver.closing.wait()

    guard = Guard(require_https=False, allowed_networks=LOOPBACK, resolver=resolver)
    with Receiver(silent) as receiver:
        before = descriptors()
        transport = make(
            guard,
            concurrency=20,
            timeout=0.3,
            proxy=receiver.url() if proxied else "",
        )
        urls = [
            receiver.url(),
            receiver.url(host="hangs.example"),
            receiver.url(scheme="https", host="name.example"),
        ]
        futures = [submit(transport, url, b"x" * MANY) for url in urls * 3]
        errors = {future.result(10).error for future in futures}
        assert errors <= {"timeout", "connect_timeout"}
        wake.set()
        transport.close()
        # The receiver's own ends of the connections, in this process.
        assert descriptors() - before <= receiver.connections


def test_closing_waits_for_those_that_are_still_being_dialed(make: Make) -> None:
    asked = threading.Event()

    def resolver(host: str, port: int, **_: Any) -> Any:
        asked.set()
        time.sleep(0.3)
        return [(socket.AF_INET, 1, 6, "", ("127.0.0.1", port))]

    guard = Guard(require_https=False, allowed_networks=LOOPBACK, resolver=resolver)
    with Receiver(answering()) as receiver:
        transport = make(guard, concurrency=1)
        first, second = (submit(transport, receiver.url(host="a.example")) for _ in range(2))
        assert asked.wait(10)
        transport.close()
        assert first.result(0).status == 200
        assert second.cancelled()


def test_closing_from_an_answer_does_not_wait_for_itself(make: Make) -> None:
    with Receiver(answering()) as receiver:
        transport = make()
        future = submit(transport, receiver.url())
        closed = threading.Event()
        future.add_done_callback(lambda _: (transport.close(), closed.set()))
        assert closed.wait(10)
        transport.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_when_the_thread_ends_everything_does(make: Make) -> None:
    """What is in flight, at the lookup and in its turn: no future is left without an end."""
    wake = threading.Event()

    def resolver(host: str, port: int, **_: Any) -> Any:
        if host == "hangs.example":
            wake.wait(10)
        return [(socket.AF_INET, 1, 6, "", ("127.0.0.1", port))]

    def handler(receiver: Receiver, sock: socket.socket) -> None:
        if b"/silent" in receiver.read_request(sock):
            receiver.closing.wait()
        else:
            sock.sendall(OK)

    def end(_: Future[Answer]) -> None:
        raise SystemExit  # which no loop survives

    guard = Guard(require_https=False, allowed_networks=LOOPBACK, resolver=resolver)
    with Receiver(handler) as receiver:
        transport = make(guard, concurrency=3, timeout=20, connect_timeout=20)
        flying = submit(transport, receiver.url("/silent", host="a.example"))
        dialing = submit(transport, receiver.url(host="hangs.example"))
        until(lambda: len(receiver.requests) == 1)
        ended = submit(transport, receiver.url("/ends", host="a.example"))
        ended.add_done_callback(end)
        waiting = submit(transport, receiver.url(host="b.example"))
        assert ended.result(10).status == 200
        assert flying.result(5).error == dialing.result(5).error == "internal"
        with pytest.raises(CancelledError):
            waiting.result(5)
        wake.set()
        with pytest.raises(RuntimeError, match="closed"):
            submit(transport, receiver.url())
        transport.close()
        assert transport._loop.is_closed()


def test_what_no_loop_will_come_to_is_not_taken(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = make()
    tell = transport._loop.call_soon_threadsafe
    with monkeypatch.context() as patch:

        def refuse(*_: Any) -> None:
            raise RuntimeError("Event loop is closed")

        patch.setattr(transport._loop, "call_soon_threadsafe", refuse)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="closed"):
                submit(transport, "http://127.0.0.1:1/")
    assert not transport._waiting
    assert not transport._woken
    tell(transport._loop.stop)


WITHOUT_CLOSING = """
    import os, socket, sys, threading, time
    from flask_resthooks.guard import Guard
    from flask_resthooks.transport import Request, create

    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"

    def answer():
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=serve, args=(sock,), daemon=True).start()

    def serve(sock):
        while b"/hangs" not in sock.recv(1000):
            sock.sendall(b"HTTP/1.1 204 No\\r\\n\\r\\n")
        time.sleep(60)

    threading.Thread(target=answer, daemon=True).start()
    transport = create(
        sys.argv[1], guard=Guard(require_https=False, allowed_networks=["127.0.0.0/8"]),
        concurrency=2, connect_timeout=3, timeout=3, response_limit=10,
    )
    assert transport.submit(Request(url, {}, b"")).result(10).status == 204
    child = os.fork() if hasattr(os, "fork") else None
    if child == 0:
        try:
            transport.submit(Request(url, {}, b""))
        except RuntimeError as error:
            transport.close()
            os._exit(0 if "fork" in str(error) else 1)
        os._exit(2)
    assert child is None or os.waitpid(child, 0)[1] == 0
    assert transport.submit(Request(url, {}, b"")).result(10).status == 204
    if sys.argv[2] == "busy":
        transport.submit(Request(url + "hangs", {}, b""))
    print("over", flush=True)
"""


@pytest.mark.parametrize("name", ["asyncio", "requests"])
@pytest.mark.parametrize("state", ["idle", "busy"])
def test_a_process_ends_without_closing_and_a_child_of_it_takes_nothing(
    name: str, state: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(WITHOUT_CLOSING), name, state],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert (done.returncode, done.stdout) == (0, "over\n"), done.stderr
    assert done.stderr == ""
