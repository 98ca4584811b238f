"""What remembers hooks, and one hook's way through it."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_resthooks.receiver import MemoryReplayStore, RedisReplayStore
from flask_resthooks.receiver.replay import PROCESSING, RETENTION, Turn


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_key_is_new_once_until_its_time_is_over_or_it_is_discarded() -> None:
    clock = Clock()
    store = MemoryReplayStore(clock=clock)
    assert store.add("a", 10)
    assert not store.add("a", 1000)
    assert store.add("b", 10)
    clock.now += 9.9
    assert not store.add("a", 10)
    clock.now += 0.1
    assert store.add("a", 10)
    store.discard("a")
    store.discard("a")
    store.discard("never")
    assert store.add("a", 10)


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["add", "discard"]), st.integers(0, 5)),
        max_size=40,
    )
)
def test_the_memory_is_that_of_a_plain_model(steps: list[tuple[str, str, int]]) -> None:
    clock, model = Clock(), dict[str, float]()
    store = MemoryReplayStore(clock=clock)
    for key, action, seconds in steps:
        clock.now += seconds / 2
        if action == "discard":
            store.discard(key)
            model.pop(key, None)
        else:
            expected = model.get(key, 0) <= clock.now
            assert store.add(key, seconds) is expected
            if expected:
                model[key] = clock.now + seconds


@pytest.mark.parametrize("limit", [1, 2, 7, 8, 100])
def test_the_memory_is_bounded_and_forgets_the_oldest_first(limit: int) -> None:
    clock = Clock()
    store = MemoryReplayStore(limit, clock=clock)
    for number in range(5 * limit):
        assert store.add(str(number), 10)
        assert 1 <= len(store) <= limit
        assert not store.add(str(number), 10)
    clock.now += 20
    for number in range(limit + 1):
        assert store.add(f"later {number}", 10)
    assert len(store) <= limit
    with pytest.raises(ValueError, match="1 or more"):
        MemoryReplayStore(0)


def test_what_is_over_makes_room_before_what_is_not() -> None:
    clock = Clock()
    store = MemoryReplayStore(10, clock=clock)
    store.add("long", 1000)
    for number in range(9):
        store.add(str(number), 1)
    clock.now += 2
    store.add("new", 1000)
    assert not store.add("long", 1) and not store.add("new", 1)
    assert len(store) == 2


def test_of_many_threads_one_is_told_that_a_key_is_new() -> None:
    store = MemoryReplayStore()
    start = threading.Barrier(8)
    told: list[bool] = []

    def work() -> None:
        start.wait()
        told.extend(store.add(str(number), 60) for number in range(500))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told.count(True) == 500 and told.count(False) == 3500


def turn(store: Any, key: str = "evt_1") -> Turn:
    return Turn(store, [key], RETENTION)


def test_a_hook_is_new_then_busy_then_known() -> None:
    store = MemoryReplayStore()
    first = turn(store)
    assert first.begin() == "new"
    assert turn(store).begin() == "busy"
    assert turn(store, "evt_2").begin() == "new"
    first.done()
    assert turn(store).begin() == "known"
    assert turn(store).begin() == "known"


def test_a_hook_that_failed_is_new_again() -> None:
    store = MemoryReplayStore()
    for _ in range(3):
        attempt = turn(store)
        assert attempt.begin() == "new"
        attempt.failed()
    assert len(store) == 0


def test_a_hook_whose_process_died_is_new_again_after_a_while() -> None:
    clock = Clock()
    store = MemoryReplayStore(clock=clock)
    assert turn(store).begin() == "new"
    clock.now += PROCESSING - 1
    assert turn(store).begin() == "busy"
    clock.now += 1
    assert turn(store).begin() == "new"


def test_a_hook_that_was_processed_is_known_for_the_whole_time() -> None:
    clock = Clock()
    store = MemoryReplayStore(clock=clock)
    first = turn(store)
    first.begin()
    clock.now += 100
    first.done()
    clock.now += RETENTION - 1
    assert turn(store).begin() == "known"
    clock.now += 1
    assert turn(store).begin() == "new"


@given(st.lists(st.sampled_from(["begin", "done", "failed", "die"]), max_size=30))
def test_a_hook_is_processed_by_one_at_a_time_and_never_again_once_it_is_done(
    steps: list[str],
) -> None:
    clock = Clock()
    store = MemoryReplayStore(clock=clock)
    at_it: Turn | None = None
    done = False
    for step in steps:
        if step == "begin":
            attempt = turn(store)
            state = attempt.begin()
            assert state == ("known" if done else "busy" if at_it else "new")
            at_it = attempt if state == "new" else at_it
        elif at_it is not None:
            if step == "die":
                clock.now += PROCESSING
            else:
                done = step == "done"
                getattr(at_it, step)()
            at_it = None


class Broken(MemoryReplayStore):
    """Fails from some call on."""

    def __init__(self, works: int) -> None:
        super().__init__()
        self.works = works

    def add(self, key: str, seconds: float) -> bool:
        self._call()
        return super().add(key, seconds)

    def discard(self, key: str) -> None:
        self._call()
        super().discard(key)

    def _call(self) -> None:
        self.works -= 1
        if self.works < 0:
            raise ConnectionError("gone")


@pytest.mark.parametrize("works", range(6))
@pytest.mark.parametrize("end", ["done", "failed"])
def test_a_store_that_is_gone_stops_a_hook_that_begins_but_not_one_that_was_processed(
    works: int, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = Broken(works)
    attempt = turn(store)
    if works < 2:
        with pytest.raises(ConnectionError):
            attempt.begin()
        return
    assert attempt.begin() == "new"
    with caplog.at_level(logging.ERROR):
        getattr(attempt, end)()
    needed = 5 if end == "done" else 4
    assert bool(caplog.records) is (works < needed)


def test_the_redis_store_asks_for_a_key_that_is_not_there_and_a_time() -> None:
    calls: list[Any] = []

    class Client:
        def set(self, name: str, value: Any, **options: Any) -> bool | None:
            calls.append((name, options))
            return True if len(calls) == 1 else None

        def delete(self, name: str) -> int:
            calls.append(name)
            return 1

    store = RedisReplayStore(Client(), prefix="x:")
    assert store.add("a", 0.5) is True
    assert store.add("a", 0) is False
    store.discard("a")
    assert calls == [("x:a", {"nx": True, "px": 500}), ("x:a", {"nx": True, "px": 1}), "x:a"]
