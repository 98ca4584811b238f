"""Receivers in processes of their own, which write down what came, and when.

One answers at once: an nginx, if there is one, else `receiver.py`. One answers late, and that is
always `receiver.py`. One takes connections and says nothing.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from . import BENCHMARKS
from .processes import LIMIT, kill

START = 10.0
"""Seconds that a receiver may take to come up."""

LOOK_PAUSE = 0.02

_NGINX = """\
daemon off; master_process off; worker_processes 1; worker_rlimit_nofile 16384;
pid {directory}/pid; error_log {directory}/error.log;
events {{ worker_connections 8192; }}
http {{
  log_format arrivals '$msec $server_port $http_webhook_id';
  access_log {directory}/arrivals arrivals;
  keepalive_requests 1000000000; keepalive_timeout 600s; client_body_buffer_size 64k;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  server {{ {listen} location / {{ return 200 "ok"; }} }}
}}
"""


class Arrival(NamedTuple):
    """
    :param at: seconds since the epoch, when the POST had come.
    :param port: of the receiver.
    :param id: its `webhook-id`.
    """

    at: float
    port: int
    id: str


class Receiver:
    """A receiver that writes a line for each POST; see `receive`.

    :param name: what it is, for the page.
    """

    def __init__(self, name: str, process: subprocess.Popen[bytes], ports: list[int], log: Path):
        self.name = name
        self.process = process
        self.ports = ports
        self._log = log
        self._begin = self._read = self._lines = 0

    def url(self, number: int = 0) -> str:
        return f"http://127.0.0.1:{self.ports[number]}/"

    def forget(self) -> None:
        """What came until now is of no interest."""
        self._begin = self._read = self._log.stat().st_size
        self._lines = 0

    def came(self) -> int:
        """How many have come."""
        with self._log.open("rb") as log:
            log.seek(self._read)
            while chunk := log.read(1 << 20):
                self._lines += chunk.count(b"\n")
                self._read += len(chunk)
        return self._lines

    def wait_for(self, number: int, limit: float = LIMIT) -> None:
        """Wait until so many have come.

        :raises AssertionError: if they have not after so many seconds.
        """
        end = time.monotonic() + limit
        while (came := self.came()) < number:
            assert time.monotonic() < end, f"{came:,} of {number:,} came within {limit:g} s"
            time.sleep(LOOK_PAUSE)

    def arrivals(self) -> list[Arrival]:
        """All that came, in their order."""
        with self._log.open("rb") as log:
            log.seek(self._begin)
            lines = log.read().decode("latin-1").splitlines()
        parts = (line.split(" ", 2) for line in lines)
        return [Arrival(float(at), int(port), id_) for at, port, id_ in parts]


def rate(arrivals: Sequence[Arrival]) -> float:
    """How many have come a second, from the first to the last one."""
    times = [arrival.at for arrival in arrivals]
    return (len(times) - 1) / (max(times) - min(times))


@contextlib.contextmanager
def receive(
    ports: int = 1, *, delay: float = 0.0, nginx: str | None = None, precise: bool = False
) -> Iterator[Receiver]:
    """A receiver that answers every POST with 200.

    :param ports: on how many it listens: each of them is a host.
    :param delay: seconds before each answer.
    :param nginx: its program; None: the one on the path, if there is one; empty: none.
    :param precise: when something came is of interest: nginx knows thousandths of a second.
    """
    program = shutil.which("nginx") if nginx is None else nginx
    simple = bool(delay) or precise or not program
    some = free_ports(ports)
    with tempfile.TemporaryDirectory(prefix="resthooks-receiver-") as name:
        directory = Path(name)
        log = directory / "arrivals"
        log.touch()
        if simple or program is None:
            script = str(BENCHMARKS / "receiver.py")
            command = [sys.executable, script, "--log", str(log), "--delay", str(delay)]
            command += [part for port in some for part in ("--port", str(port))]
        else:
            listen = " ".join(f"listen 127.0.0.1:{port} backlog=4096;" for port in some)
            config = directory / "nginx.conf"
            config.write_text(_NGINX.format(directory=directory, listen=listen))
            command = [program, "-p", name, "-c", str(config), "-e", f"{name}/error.log"]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            _wait_until_it_listens(process, some)
            yield Receiver("asyncio" if simple else "nginx", process, some, log)
        finally:
            kill(process)


def _wait_until_it_listens(process: subprocess.Popen[bytes], ports: Sequence[int]) -> None:
    end = time.monotonic() + START
    for port in ports:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None, f"{process.args!r} has ended"
                assert time.monotonic() < end, f"{process.args!r} does not come up"
                time.sleep(0.01)


def free_ports(number: int) -> list[int]:
    """Ports that are free, and that no outgoing connection is given meanwhile."""
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        for port in random.SystemRandom().sample(range(20000, 32000), 10 * number):
            with contextlib.suppress(OSError):
                candidate = stack.enter_context(socket.socket())
                candidate.bind(("127.0.0.1", port))
                found.append(port)
                if len(found) == number:
                    return found
    raise RuntimeError(f"there are no {number} free ports on 127.0.0.1 from 20000 to 32000")


@contextlib.contextmanager
def black_hole() -> Iterator[str]:
    """Takes connections (as many as its backlog has room for) and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
