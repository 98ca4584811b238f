"""One thing that is done in the background, for whoever asks."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable

import pytest

from flask_resthooks import background
from flask_resthooks.background import Background


def made(act: Callable[[], None], pause: float = 0.0) -> Background:
    return Background(act, name="test", pause=pause, exit_limit=0.1)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_who_asks_does_not_wait_and_who_waits_finds_it_done() -> None:
    done: list[int] = []
    released = threading.Event()

    def act() -> None:
        released.wait(10)
        done.append(1)

    one = made(act)
    assert one.wait(0)  # nothing was asked for
    one.ask()
    assert not one.wait(0.01)
    released.set()
    assert one.wait(10)
    assert done == [1]


def test_who_asks_while_it_is_being_done_has_it_done_again_and_all_of_them_once() -> None:
    begun, released = threading.Semaphore(0), threading.Semaphore(0)

    def act() -> None:
        begun.release()
        assert released.acquire(timeout=10)

    one = made(act)
    one.ask()
    assert begun.acquire(timeout=10)
    for _ in range(5):
        one.ask()
    released.release()
    assert begun.acquire(timeout=10)
    assert not one.wait(0)
    released.release()
    assert one.wait(10)
    assert not begun.acquire(timeout=0.05)


def test_what_is_asked_for_during_the_pause_is_done_after_it() -> None:
    times: list[float] = []
    one = made(lambda: times.append(time.monotonic()), pause=0.2)
    one.ask()
    assert one.wait(10)
    one.ask()
    until(lambda: len(times) == 2)
    assert times[1] - times[0] >= 0.2


def test_who_waits_cuts_the_pause_short() -> None:
    one = made(lambda: None, pause=5.0)
    begun = time.monotonic()
    for _ in range(20):
        one.ask()
        assert one.wait(10)
    assert time.monotonic() - begun < 5


def test_a_failure_is_logged_and_the_next_time_is_done(caplog: pytest.LogCaptureFixture) -> None:
    outcomes = [ValueError("oh"), None]

    def act() -> None:
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome

    one = made(act)
    with caplog.at_level(logging.ERROR):
        for _ in range(2):
            one.ask()
            assert one.wait(10)
    assert outcomes == []
    assert "test failed" in caplog.text


def test_the_thread_ends_when_it_rests_and_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "REST", 0.01)
    threads: list[threading.Thread] = []
    one = made(lambda: threads.append(threading.current_thread()))
    for number in (1, 2):
        one.ask()
        assert one.wait(10)
        threads[-1].join(10)
        assert not threads[-1].is_alive()
        assert len(threads) == number
    assert threads[0] is not threads[1]


def test_without_threads_it_is_done_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    done: list[str] = []
    one = made(lambda: done.append(threading.current_thread().name))
    one.ask()
    assert done == [threading.current_thread().name]
    assert one.wait(0)


with_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")


@with_fork
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_waits_for_no_lock_that_was_held_at_the_fork() -> None:
    done: list[int] = []
    one = made(lambda: done.append(1))
    with one._changed, background._beginning:
        child = os.fork()
        if child == 0:
            asking = threading.Thread(target=one.ask, daemon=True)
            asking.start()
            asking.join(5)
            os._exit(0 if not asking.is_alive() and one.wait(5) and done == [1] else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_the_threads_of_a_child_begin_anew_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them comes by what was the parent's, however they take turns."""
    one = made(lambda: None)
    parents = one._changed
    made_anew: list[threading.Condition] = []
    first_is_in = threading.Event()
    begin = Background._begin

    def slow(begun: Background) -> None:
        first_is_in.set()
        time.sleep(0.2)  # in which the other one asks
        begin(begun)
        made_anew.append(begun._changed)

    monkeypatch.setattr("os.getpid", lambda: -1)
    with monkeypatch.context() as patch, parents:  # it is never let go of
        patch.setattr(Background, "_begin", slow)
        threads = [threading.Thread(target=one.ask, daemon=True) for _ in range(2)]
        threads[0].start()
        assert first_is_in.wait(10)
        threads[1].start()
        for thread in threads:
            thread.join(10)
        assert not any(thread.is_alive() for thread in threads)
    assert made_anew == [one._changed]
    assert one.wait(10)


def test_without_threads_what_is_done_at_once_is_done_instead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    def fail() -> None:
        done.append("at once")
        raise ValueError("oh")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    done: list[str] = []
    one = Background(lambda: done.append("act"), name="test", pause=0, exit_limit=0.1, at_once=fail)
    one.ask()
    assert done == ["at once"]
    assert one.wait(0)


def test_a_start_that_is_interrupted_is_made_good_by_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(thread: threading.Thread) -> None:
        raise KeyboardInterrupt

    done: list[int] = []
    one = made(lambda: done.append(1))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupt)
        with pytest.raises(KeyboardInterrupt):
            one.ask()
    one.ask()
    assert one.wait(10)
    assert done == [1]


def test_a_thread_whose_start_was_interrupted_too_late_serves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = threading.Thread.start

    def interrupt(thread: threading.Thread) -> None:
        real(thread)
        raise KeyboardInterrupt

    done: list[int] = []
    one = made(lambda: done.append(1))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupt)
        with pytest.raises(KeyboardInterrupt):
            one.ask()
    assert one.wait(10)
    one.ask()
    assert one.wait(10)
    assert done == [1, 1]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_was_killed_is_made_again() -> None:
    threads: list[threading.Thread] = []

    def act() -> None:
        threads.append(threading.current_thread())
        if len(threads) == 1:
            raise SystemExit

    one = made(act)
    one.ask()
    until(lambda: bool(threads))
    threads[0].join(10)
    one.ask()
    assert one.wait(10)
    assert len(set(threads)) == 2


@pytest.mark.parametrize(
    ("options", "threads"),
    [
        ({}, False),
        ({"http": b":80"}, False),
        ({"enable-threads": True}, True),
        ({b"enable-threads": b"true"}, True),
        ({"threads": b"4"}, True),
    ],
    ids=str,
)
def test_in_uwsgi_it_is_done_at_once_unless_there_are_threads(
    monkeypatch: pytest.MonkeyPatch, options: dict[str | bytes, object], threads: bool
) -> None:
    monkeypatch.setitem(sys.modules, "uwsgi", types.SimpleNamespace(opt=options))  # type: ignore[arg-type]
    done: list[bool] = []
    one = made(lambda: done.append(threading.current_thread() is not threading.main_thread()))
    one.ask()
    assert one.wait(10)
    assert done == [threads]


PROGRAM = """
import atexit, os, sys, threading, time
late = []
atexit.register(lambda: [act() for act in late])
import multiprocessing as mp
from flask_resthooks.background import Background

def act():
    time.sleep(0.05)
    print("done", flush=True)

one = Background(act, name="test", pause=0.005, exit_limit=5)
"""


def outcome(program: str) -> list[str]:
    command = [sys.executable, "-c", PROGRAM + program]
    made = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=30, check=True)
    return made.stdout.split()


def test_what_is_asked_for_while_the_process_ends_is_done() -> None:
    assert outcome("late.append(one.ask)") == ["done"]


def test_a_child_of_multiprocessing_ends_after_what_it_asked_for() -> None:
    assert outcome("p = mp.get_context('fork').Process(target=one.ask); p.start(); p.join()") == [
        "done"
    ]


def test_a_fork_begins_anew_whoever_held_what_at_that_moment() -> None:
    program = """
held = threading.Event()
def hold():
    with one._changed:
        held.set(); time.sleep(60)
threading.Thread(target=hold, daemon=True).start()
held.wait()
before = one._changed
child = os.fork()
if child == 0:
    print("anew" if one._changed is not before and one._pid == os.getpid() else "old", flush=True)
    one.ask(); one.wait(5)
    os._exit(0)
os.waitpid(child, 0)
os._exit(0)
"""
    assert outcome(program) == ["anew", "done"]


def test_what_goes_on_in_a_fork_as_with_gevent_does_not_serve_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parent, forked = os.getpid(), threading.Event()
    begun, released = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    def act() -> None:
        threads.append(threading.current_thread())
        if len(threads) == 1:
            begun.set()
            released.wait(10)

    one = made(act)
    one.ask()
    assert begun.wait(10)
    monkeypatch.setattr("os.getpid", lambda: parent + forked.is_set())
    forked.set()
    one.ask()
    assert one.wait(10)
    released.set()
    threads[0].join(5)
    assert not threads[0].is_alive()
    assert len(set(threads)) == 2
