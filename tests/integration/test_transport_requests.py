"""As many threads as the receivers need, with real ones."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading

from flask_resthooks.guard import Guard
from flask_resthooks.transport import Request
from flask_resthooks.transport.crew import FEW
from flask_resthooks.transport.requests import RequestsTransport
from tests.integration.receivers import OK, Receiver

CONCURRENCY = 64

# In a process of its own: it shares no Python with the sender.
FAST = """
import socket, threading
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)

def serve(sock):
    while sock.recv(65536):
        sock.sendall(b"HTTP/1.1 204 No\\r\\n\\r\\n")

def accept():
    while True:
        threading.Thread(target=serve, args=listener.accept()[:1], daemon=True).start()

threading.Thread(target=accept, daemon=True).start()
input()
"""


def make() -> RequestsTransport:
    guard = Guard(require_https=False, allowed_networks=["127.0.0.0/8"])
    return RequestsTransport(guard, CONCURRENCY, 10, 20, 100)


def test_receivers_that_keep_it_waiting_are_waited_for_all_at_the_same_time() -> None:
    together = threading.Barrier(CONCURRENCY)

    def handler(receiver: Receiver, sock: socket.socket) -> None:
        while receiver.read_request(sock):
            together.wait(15)  # nobody has an answer before all have asked
            sock.sendall(OK)

    with Receiver(handler) as receiver:
        transport = make()
        try:
            request = Request(receiver.url(), {}, b"{}")
            futures = [transport.submit(request) for _ in range(CONCURRENCY * 2)]
            assert [future.result(30).status for future in futures] == [200] * CONCURRENCY * 2
            assert transport.crew.limit == CONCURRENCY
        finally:
            transport.close()


def test_receivers_that_answer_at_once_are_served_by_a_few() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FAST], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        transport = make()
        limits: list[int] = []
        try:
            request = Request(f"http://127.0.0.1:{port}/", {}, b"{}")
            futures = [transport.submit(request) for _ in range(4000)]
            for future in futures:
                assert future.result(30).status == 204
                limits.append(transport.crew.limit)
        finally:
            transport.close()
            process.communicate(b"\n", timeout=20)
    limits.sort()
    assert limits[len(limits) // 2] <= 4 * FEW
