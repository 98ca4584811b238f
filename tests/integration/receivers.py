"""Receivers for tests of the transport: raw sockets on loopback, so that they can misbehave."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from types import TracebackType

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Handler = Callable[["Receiver", socket.socket], None]


class Receiver:
    """Accepts connections until it is closed, and runs a handler in a thread for each.

    `connections` counts what was accepted, `requests` holds what `read_request` has read.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.handler = handler
        self.connections = 0
        self.requests: list[bytes] = []
        self.closing = threading.Event()
        self._tls = tls
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family, backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self._spawn(self._accept)

    def __enter__(self) -> Receiver:  # Self needs Python 3.11
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.closing.set()
        for sock in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        self._listener.close()

    def url(self, path: str = "/", *, scheme: str = "http", host: str = "127.0.0.1") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    def read_request(self, sock: socket.socket) -> bytes:
        """Head and body of the next request; empty when the sender has closed."""
        data = b""
        while b"\r\n\r\n" not in data:
            more = sock.recv(65536)
            if not more:
                return b""
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        while len(body) < length:
            more = sock.recv(65536)
            if not more:
                return b""
            body += more
        self.requests.append(head + b"\r\n\r\n" + body)
        return self.requests[-1]

    def drip(self, sock: socket.socket, data: bytes, interval: float = 0.05) -> None:
        for byte in data:
            if self.closing.wait(interval):
                return
            sock.sendall(bytes([byte]))

    def _spawn(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self.closing.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.add(sock)
            self._spawn(self._serve, sock)

    def _serve(self, raw: socket.socket) -> None:
        sock = raw
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                # The deferred handshake keeps hold of the socket if it fails.
                sock = self._tls.wrap_socket(
                    raw, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=True
                )
                self._open.add(sock)
                sock.do_handshake()
            self.handler(self, sock)
        except OSError:
            pass  # the sender has gone, as it may
        finally:
            self._open.discard(raw)
            self._open.discard(sock)
            sock.close()
            raw.close()


def answering(answer: bytes = OK, *, requests: int | None = None) -> Handler:
    """Answers every request alike; closes after so many, if a number is given."""

    def handler(receiver: Receiver, sock: socket.socket) -> None:
        answered = 0
        while requests is None or answered < requests:
            if not receiver.read_request(sock):
                return
            sock.sendall(answer)
            answered += 1

    return handler
