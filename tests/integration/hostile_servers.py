"""The receivers of the catalogue, in a process of their own, with a folder for its certificates.

It says where they are in one line of JSON, and ends with its standard input. Beside them stands one
that keeps every connection open, for as long as it lives, whatever the other side does (`HOLDER`).
"""

from __future__ import annotations

import contextlib
import datetime
import json
import selectors
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import trustme

from tests.integration.hostile_catalogue import CASES, OK, Case
from tests.integration.receivers import Receiver

HOLDER = "holder"


@dataclass(frozen=True)
class Fleet:
    """Where the receivers are, and whose certificates the good ones have."""

    ports: dict[str, int]
    ca_file: str

    def url(self, case: Case) -> str:
        return f"http{'s' if case.https else ''}://{case.host}:{self.ports[case.name]}/"


@contextlib.contextmanager
def fleet(folder: Path) -> Iterator[Fleet]:
    """The process, as long as it is needed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.hostile_servers", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    try:
        assert process.stdout is not None
        yield Fleet(**json.loads(process.stdout.readline()))
    finally:
        process.communicate(timeout=20)


def contexts(folder: Path) -> dict[str, ssl.SSLContext]:
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
    good = [case.host for case in CASES if case.tls != "wrong name"]
    certificates = {
        "good": authority.issue_cert(*good),
        "wrong name": authority.issue_cert("other.example"),
        "expired": authority.issue_cert(*good, not_before=past, not_after=past.replace(year=2021)),
        "unknown": other.issue_cert(*good),
    }
    made = {}
    for name, certificate in certificates.items():
        made[name] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(made[name])
    made["self-signed"] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (folder / "self.pem").write_bytes(other.private_key_pem.bytes() + other.cert_pem.bytes())
    made["self-signed"].load_cert_chain(folder / "self.pem")
    return made


def hold(listener: socket.socket) -> None:
    """Answer whoever asks, one thread for all, and never close."""
    held = []
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            sock = key.fileobj
            assert isinstance(sock, socket.socket)
            with contextlib.suppress(OSError):
                if sock is listener:
                    selector.register(listener.accept()[0], selectors.EVENT_READ)
                elif sock.recv(65536):
                    sock.sendall(OK)
                else:  # the other side has closed; this one does not
                    selector.unregister(sock)
                    held.append(sock)


def main(folder: Path) -> None:
    by_name = contexts(folder)
    with contextlib.ExitStack() as stack:
        ports = {
            case.name: stack.enter_context(
                Receiver(case.serve, tls=by_name[case.tls] if case.tls else None)
            ).port
            for case in CASES
        }
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=512))
        threading.Thread(target=hold, args=(listener,), daemon=True).start()
        ports[HOLDER] = listener.getsockname()[1]
        print(json.dumps({"ports": ports, "ca_file": str(folder / "ca.pem")}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
