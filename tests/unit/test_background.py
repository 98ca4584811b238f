"""One thing that is done in the background, for whoever asks."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import pytest

from flask_resthooks import background
from flask_resthooks.background import Background


def made(act: Callable[[], None], pause: float = 0.0) -> Background:
    return Background(act, name="test", pause=pause, exit_limit=0.1)


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
    for _ in range(2):
        one.ask()
        assert one.wait(10)
    assert times[1] - times[0] >= 0.2


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
