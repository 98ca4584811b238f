from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from flask_resthooks.dispatch import Dispatcher
from flask_resthooks.lanes import Lanes
from flask_resthooks.transport import Answer, Request

REQUEST = Request("https://example.com/", {}, b"")


def claim(id_: str, subscription: str = "a") -> Any:
    return SimpleNamespace(delivery_id=id_, subscription_id=subscription, host="example.com:443")


class Transport:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.futures: list[Future[Answer]] = []

    def submit(self, request: Request) -> Future[Answer]:
        self.futures.append(Future())
        return self.futures[-1]


class Landing:
    def __init__(self, transport: Any, places: int = 4) -> None:
        self.came: list[tuple[str, Answer]] = []
        self.dispatcher = Dispatcher(
            transport,
            Lanes(places),
            lambda one, answer: self.came.append((one.delivery_id, answer)),
        )

    def add(self, *ids: str, subscription: str = "a") -> None:
        for id_ in ids:
            self.dispatcher.add(claim(id_, subscription), REQUEST)
        self.dispatcher.pump()


def test_what_has_come_back_makes_room_for_the_next() -> None:
    transport = Transport()
    landing = Landing(transport)
    landing.add("1", "2", "3")
    assert len(transport.futures) == 1  # a new lane's quarter
    transport.futures[0].set_result(Answer(200))
    assert landing.came == [("1", Answer(200))]
    assert len(transport.futures) == 3  # it is quick
    assert landing.dispatcher.pace("a", "example.com:443") == "quick"


def test_a_transport_that_raises_is_an_error_of_ours_and_stops_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Full:
        def submit(self, request: Request) -> Future[Answer]:
            raise RuntimeError("can't start new thread")

    landing = Landing(Full())
    landing.add("1", "2")
    assert [id_ for id_, _ in landing.came] == ["1", "2"]
    for _, answer in landing.came:
        assert (answer.status, answer.error) == (None, "internal")
        assert answer.detail == "an error of ours (RuntimeError); the worker's log says more"
    assert "the delivery 1 was not taken by the transport" in caplog.text


def test_a_transport_that_breaks_its_promise_is_an_error_of_ours(
    caplog: pytest.LogCaptureFixture,
) -> None:
    transport = Transport()
    landing = Landing(transport)
    landing.add("1", "2")
    transport.futures[0].set_exception(KeyError("x"))
    assert [(id_, answer.error) for id_, answer in landing.came] == [("1", "internal")]
    assert len(transport.futures) == 2
    assert "the transport failed" in caplog.text


def test_answers_at_once_do_not_pile_up() -> None:
    class Immediate:
        def submit(self, request: Request) -> Future[Answer]:
            done: Future[Answer] = Future()
            done.set_result(Answer(200))
            return done

    landing = Landing(Immediate())
    landing.add(*(str(number) for number in range(5000)))
    assert len(landing.came) == 5000


def test_what_waits_can_be_taken_back_and_what_is_in_flight_cannot() -> None:
    transport = Transport()
    landing = Landing(transport)
    landing.add("1", "2", "3")
    taken = landing.dispatcher.withdraw(lambda one: one.delivery_id != "2")
    assert [one.delivery_id for one in taken] == ["3"]
    assert [one.delivery_id for one in landing.dispatcher.withdraw()] == ["2"]
    transport.futures[0].set_result(Answer(200))
    assert [id_ for id_, _ in landing.came] == ["1"]
    assert landing.dispatcher.withdraw_surplus(0) == []
