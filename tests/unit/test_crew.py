"""As few threads as it takes."""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from flask_resthooks.transport.crew import FEW, Crew

MOST = 40

Make = Callable[..., Crew[int, int]]


def all_wait() -> int:
    """For receivers: more than there can be."""
    return 1000


def nobody_waits() -> int:
    return 0


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Crew[int, int]] = []

    def make(
        do: Callable[[int], int], most: int = MOST, idlers: Callable[[], int] = nobody_waits
    ) -> Crew[int, int]:
        made.append(Crew(do, idlers, most, "resthooks-test"))
        return made[-1]

    yield make
    for crew in made:
        crew.close()


class Desk:
    """Work that lasts until it is told to end."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.begun: list[int] = []
        self.at_work = 0
        self.most = 0
        self.end = threading.Semaphore(0)

    def do(self, work: int) -> int:
        with self.lock:
            self.begun.append(work)
            self.at_work += 1
            self.most = max(self.most, self.at_work)
        self.end.acquire(timeout=30)
        with self.lock:
            self.at_work -= 1
        return work * work


def until(is_true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_work_is_done_in_order_by_a_few(make: Make) -> None:
    desk = Desk()
    crew = make(desk.do, idlers=nobody_waits)
    futures = [crew.submit(number) for number in range(100)]
    desk.end.release(100)
    assert [future.result(20) for future in futures] == [number**2 for number in range(100)]
    assert desk.most <= FEW
    # Several begin at the same time; none much earlier or later than its turn.
    assert all(abs(number - place) <= FEW for place, number in enumerate(desk.begun))


def test_while_it_waits_for_others_there_are_as_many_as_may_be(make: Make) -> None:
    desk = Desk()
    crew = make(desk.do, idlers=all_wait)
    futures = [crew.submit(number) for number in range(100)]
    until(lambda: desk.at_work == MOST)
    assert crew.limit == MOST
    desk.end.release(100)
    assert sum(future.result(20) for future in futures) == sum(n**2 for n in range(100))
    assert desk.most == MOST


def test_once_few_wait_there_are_a_few_again(make: Make) -> None:
    desk = Desk()
    idlers = all_wait
    crew = make(desk.do, idlers=lambda: idlers())
    futures = [crew.submit(number) for number in range(10 * MOST)]
    until(lambda: desk.at_work == MOST)
    idlers = nobody_waits
    until(lambda: crew.limit == FEW)
    desk.end.release(2 * MOST)
    until(lambda: len(desk.begun) == MOST + 2 * MOST - (MOST - FEW))
    assert desk.at_work == FEW
    idlers = all_wait
    until(lambda: desk.at_work == MOST)
    desk.end.release(len(futures))
    assert len({future.result(20) for future in futures}) == len(futures)


def test_few_that_come_have_no_more_than_they_need(make: Make) -> None:
    before = threading.active_count()
    crew = make(lambda number: number, idlers=all_wait)
    for number in range(200):
        assert crew.submit(number).result(20) == number
    assert threading.active_count() - before <= 1 + FEW
    assert crew.limit == FEW


def test_between_the_two_it_stays_as_it_is(make: Make) -> None:
    desk = Desk()
    looks: list[int] = []

    def a_third() -> int:
        looks.append(crew.limit)
        return 4 if len(looks) == 1 else desk.at_work // 3

    crew = make(desk.do, idlers=a_third)
    futures = [crew.submit(number) for number in range(100)]
    until(lambda: len(looks) >= 6)
    assert looks[:6] == [FEW, *[2 * FEW] * 5]
    desk.end.release(100)
    assert len({future.result(20) for future in futures}) == 100


@pytest.mark.parametrize("most", [1, 2, FEW])
def test_there_are_never_more_than_may_be(make: Make, most: int) -> None:
    desk = Desk()
    crew = make(desk.do, most, idlers=all_wait)
    futures = [crew.submit(number) for number in range(50)]
    until(lambda: desk.at_work == most)
    time.sleep(0.1)
    desk.end.release(50)
    assert [future.result(20) for future in futures] == [number**2 for number in range(50)]
    assert desk.most == most


def test_what_waits_can_be_cancelled(make: Make) -> None:
    desk = Desk()
    crew = make(desk.do, 1)
    futures = [crew.submit(number) for number in range(3)]
    until(lambda: desk.at_work == 1)
    assert futures[1].cancel()
    desk.end.release(3)
    assert futures[2].result(20) == 4
    assert desk.begun == [0, 2]


def test_an_error_is_raised_where_it_is_waited_for(make: Make) -> None:
    crew = make(lambda number: 1 // number)
    assert [crew.submit(1).result(20), crew.submit(2).result(20)] == [1, 0]
    with pytest.raises(ZeroDivisionError):
        crew.submit(0).result(20)
    assert crew.submit(1).result(20) == 1


def test_closing_cancels_what_waits_and_leaves_no_thread(make: Make) -> None:
    desk = Desk()
    before = set(threading.enumerate())
    crew = make(desk.do)
    futures = [crew.submit(number) for number in range(1000)]
    until(lambda: desk.at_work >= FEW)
    threading.Timer(0.1, desk.end.release, [1000]).start()
    crew.close()
    done, cancelled = 0, 0
    for future in futures:
        try:
            future.result(0)
            done += 1
        except concurrent.futures.CancelledError:
            cancelled += 1
    assert done == len(desk.begun) <= MOST
    assert done + cancelled == 1000
    with pytest.raises(RuntimeError, match="closed"):
        crew.submit(1)
    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert not [name for name in left if name.startswith("resthooks-")]


def test_it_is_closed_though_it_is_just_being_looked_at(make: Make) -> None:
    desk = Desk()
    ends: list[threading.Thread] = []

    def closed_meanwhile() -> int:
        if not ends:
            end = threading.Thread(target=crew.close, daemon=True)
            end.start()
            ends.append(end)
            crew._stopped.wait(20)
            desk.end.release(100)
        return 0

    crew = make(desk.do, idlers=closed_meanwhile)
    for number in range(100):
        crew.submit(number)
    until(lambda: bool(ends))
    ends[0].join(20)
    assert not ends[0].is_alive()


def test_a_system_that_gives_no_threads_is_told_of(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[int] = []
    crew = make(lambda number: done.append(number) or number)  # type: ignore[func-returns-value]
    with monkeypatch.context() as patch:

        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            crew.submit(1)
    assert [crew.submit(number).result(20) for number in (2, 3)] == [2, 3]
    assert done == [2, 3]


def test_what_could_not_be_begun_is_told_each_time_and_holds_up_nothing_later(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk()
    crew = make(desk.do, idlers=all_wait)
    with monkeypatch.context() as patch:

        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        patch.setattr(threading.Thread, "start", refuse)
        for number in range(3):
            with pytest.raises(RuntimeError, match="can't start"):
                crew.submit(number)
    futures = [crew.submit(number) for number in range(3, 13)]
    until(lambda: desk.at_work == 10)
    desk.end.release(10)
    assert [future.result(20) for future in futures] == [number**2 for number in range(3, 13)]
    assert sorted(desk.begun) == list(range(3, 13))


def test_while_somebody_is_at_work_what_was_refused_a_thread_waits_for_him(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk()
    crew = make(desk.do)
    futures = [crew.submit(0)]
    until(lambda: desk.at_work == 1)
    with monkeypatch.context() as patch:

        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        patch.setattr(threading.Thread, "start", refuse)
        futures += [crew.submit(number) for number in range(1, 8)]
    futures.append(crew.submit(8))  # nobody is counted who is not there
    until(lambda: desk.at_work == 2)
    desk.end.release(9)
    assert [future.result(20) for future in futures] == [number**2 for number in range(9)]


def test_a_system_that_gives_few_threads_gets_along_with_them(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk()
    crew = make(desk.do, idlers=all_wait)
    start = threading.Thread.start
    names: list[str] = []

    def scarce(thread: threading.Thread) -> None:
        if thread.name.startswith("resthooks-test_"):
            if len(names) >= 6:
                raise RuntimeError("can't start new thread")
            names.append(thread.name)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", scarce)
    futures = [crew.submit(number) for number in range(30)]
    until(lambda: desk.at_work == 6)
    time.sleep(0.1)
    desk.end.release(30)
    assert [future.result(20) for future in futures] == [number**2 for number in range(30)]
