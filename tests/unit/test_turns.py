"""Whose turn it is: what is sent now, and when the rest falls due."""

from __future__ import annotations

import datetime as dt
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from flask_resthooks.outbox.turns import BURST, held, merged, paced

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)


def row(id_: str = "1", subscription: str = "s", **values: Any) -> Any:
    base = {"kind": "event", "rate": None, "turn_at": None, "host_turn_at": None}
    return SimpleNamespace(**{**base, "id": id_, "subscription_id": subscription, **values})


def after(seconds: float) -> dt.datetime:
    return NOW + dt.timedelta(seconds=seconds)


def test_who_asked_for_nothing_waits_for_nothing() -> None:
    rows = [row("1"), row("2", turn_at=after(-1), host_turn_at=NOW)]
    turns = held(rows, NOW)
    assert turns.free == rows
    assert turns.later == {}


def test_the_later_of_the_receivers_and_its_hosts_time_counts() -> None:
    rows = [
        row("1", turn_at=after(5)),
        row("2", host_turn_at=after(7)),
        row("3", turn_at=after(5), host_turn_at=after(7)),
        row("4", turn_at=after(9), host_turn_at=after(7)),
        row("5"),
    ]
    turns = held(rows, NOW)
    assert [one.id for one in turns.free] == ["5"]
    assert turns.later == {after(5): ["1"], after(7): ["2", "3"], after(9): ["4"]}


def test_a_rate_is_for_events_alone_and_its_turn_is_left_to_the_pace() -> None:
    rated = row("1", rate=60.0, turn_at=after(5))
    test = row("2", rate=60.0, turn_at=after(5), kind="ping")
    turns = held([rated, test], NOW)
    assert turns.free == [rated]
    assert turns.later == {after(5): ["2"]}
    assert paced([test], NOW, lambda _: 0).free == [test]


def test_a_pace_takes_a_second_of_its_rate_and_spreads_the_rest() -> None:
    rows = [row(str(number), rate=120.0) for number in range(10)]
    pace = paced(rows, NOW, lambda _: 10)
    # At 0, 0.5 and 1 second: three of them may go now.
    assert [one.id for one in pace.free] == ["0", "1", "2"]
    assert pace.next_turns == {"s": after(1.5)}
    due = {id_: moment for moment, ids in pace.later.items() for id_ in ids}
    assert sorted(due) == [str(number) for number in range(3, 10)]
    assert due["3"] == after(1.5)
    gaps = [(due[str(n + 1)] - due[str(n)]).total_seconds() for n in range(3, 9)]
    assert min(gaps) > 0.5  # as if all ten had to wait


def test_the_more_wait_the_wider_they_are_spread() -> None:
    rows = [row(str(number), rate=60.0, turn_at=after(10)) for number in range(4)]
    asked: list[str] = []

    def waiting(subscription_id: str) -> int:
        asked.append(subscription_id)
        return 400

    pace = paced(rows, NOW, waiting)
    assert pace.free == []
    assert pace.next_turns == {}
    assert asked == ["s"]
    assert sorted(pace.later) == [after(10), after(110), after(210), after(310)]


def test_nobody_else_waits_for_a_receiver_with_a_rate() -> None:
    slow = [row(str(number), rate=1.0, turn_at=after(30)) for number in range(3)]
    others = [row("a", "t"), row("b", "u", rate=6000.0)]
    pace = paced([*slow, *others], NOW, lambda _: 3)
    assert [one.id for one in pace.free] == ["a", "b"]


@given(
    rate=st.floats(1 / 1440, 1e9),
    count=st.integers(1, 300),
    waits=st.integers(0, 10_000),
    turn=st.one_of(st.none(), st.floats(-100, 100)),
)
def test_a_pace_never_exceeds_its_rate_and_loses_nothing(
    rate: float, count: int, waits: int, turn: float | None
) -> None:
    turn_at = None if turn is None else after(turn)
    rows = [row(str(number), rate=rate, turn_at=turn_at) for number in range(count)]
    pace = paced(rows, NOW, lambda _: waits)
    assert len(pace.free) <= BURST * rate / 60 + 1 + 1e-6
    late = [id_ for ids in pace.later.values() for id_ in ids]
    assert sorted(late + [one.id for one in pace.free]) == sorted(one.id for one in rows)
    assert all(moment > NOW for moment in pace.later)
    if pace.free:
        took = (pace.next_turns["s"] - NOW).total_seconds()
        assert took >= len(pace.free) * 60 / rate - 1e-3


def test_two_lists_of_what_falls_due_later_become_one() -> None:
    first, second = {after(1): ["a"]}, {after(1): ["b"], after(2): ["c"]}
    assert merged(first, second) == {after(1): ["a", "b"], after(2): ["c"]}
    assert first == {after(1): ["a"]}
