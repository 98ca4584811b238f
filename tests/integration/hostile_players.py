"""What hostile receivers do: handlers of `receivers.Receiver`, for the catalogue to choose from."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable

from tests.integration.receivers import Handler, Receiver

DRIP = 0.1
"""Seconds between two bytes of who drips: the tests' time-out is as much shorter."""

GIGABYTE = 1 << 30

TOO_LARGE = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"

Play = Callable[[Receiver, socket.socket], None]


def after_request(play: Play) -> Handler:
    def handler(receiver: Receiver, sock: socket.socket) -> None:
        receiver.read_request(sock)
        play(receiver, sock)

    return handler


def says(*data: bytes, then: Play = lambda receiver, sock: None) -> Handler:
    """Reads the request, says this, and (unless told otherwise) closes."""

    def play(receiver: Receiver, sock: socket.socket) -> None:
        for piece in data:
            sock.sendall(piece)
        then(receiver, sock)

    return after_request(play)


def wait(receiver: Receiver, sock: socket.socket) -> None:
    receiver.closing.wait()


def drip(data: bytes, times: int = 1000) -> Play:
    return lambda receiver, sock: receiver.drip(sock, data * times, DRIP)


def repeat(data: bytes, pause: float) -> Play:
    def play(receiver: Receiver, sock: socket.socket) -> None:
        while not receiver.closing.wait(pause):
            sock.sendall(data)

    return play


def flood(data: bytes, size: int = GIGABYTE) -> Play:
    """As much as that, as fast as it is taken."""

    def play(receiver: Receiver, sock: socket.socket) -> None:
        much = data * (200_000 // len(data) + 1)
        sent = 0
        while sent < size and not receiver.closing.is_set():
            sock.sendall(much)
            sent += len(much)

    return play


def reset(receiver: Receiver, sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def half_close(receiver: Receiver, sock: socket.socket) -> None:
    sock.shutdown(socket.SHUT_WR)
    receiver.closing.wait()


def at_once(data: bytes, then: Play) -> Handler:
    """Answers before it has read anything."""

    def handler(receiver: Receiver, sock: socket.socket) -> None:
        sock.sendall(data)
        then(receiver, sock)

    return handler


def refuses_to_read(receiver: Receiver, sock: socket.socket) -> None:
    sock.recv(1, socket.MSG_PEEK)
    sock.sendall(TOO_LARGE)  # and closing with unread data resets


def never_reads(receiver: Receiver, sock: socket.socket) -> None:
    receiver.closing.wait()


def reads_slowly(receiver: Receiver, sock: socket.socket) -> None:
    while not receiver.closing.wait(0.05):
        sock.recv(1000)


def stalls_in_the_handshake(receiver: Receiver, sock: socket.socket) -> None:
    sock.recv(65536)
    receiver.closing.wait()


def drips_in_the_handshake(receiver: Receiver, sock: socket.socket) -> None:
    sock.recv(65536)
    sock.sendall(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc")  # a ServerHello of 16 KiB
    receiver.drip(sock, b"\x03" * 1000, DRIP)


def speaks_plainly(receiver: Receiver, sock: socket.socket) -> None:
    sock.recv(65536)
    sock.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    time.sleep(0.05)


def closes_in_the_handshake(receiver: Receiver, sock: socket.socket) -> None:
    sock.recv(65536)
