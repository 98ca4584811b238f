"""Whose turn it is: what is sent now, and when the rest falls due."""

from __future__ import annotations

import datetime as dt
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from flask_resthooks.models import host_of
from flask_resthooks.outbox.turns import BURST, LATE, book, held, needs_turn, probes
from flask_resthooks.retry import SILENCES

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)


def row(id_: str = "1", subscription: str = "s", **values: Any) -> Any:
    of_recipient = {"rate": None, "turn_at": None, "host_turn_at": None, "host_silences": None}
    to = {name: values.pop(name, default) for name, default in of_recipient.items()}
    base = {"kind": "event", "booked": False, "due_at": NOW, "to": SimpleNamespace(**to)}
    return SimpleNamespace(**{**base, "id": id_, "subscription_id": subscription, **values})


def after(seconds: float) -> dt.datetime:
    return NOW + dt.timedelta(seconds=seconds)


def test_who_asked_for_nothing_waits_for_nothing() -> None:
    rows = [row("1"), row("2", turn_at=after(-1), host_turn_at=NOW)]
    assert held(rows, NOW) == (rows, {})


def test_the_later_of_the_receivers_and_its_hosts_time_counts() -> None:
    rows = [
        row("1", "a", turn_at=after(5)),
        row("2", "b", host_turn_at=after(7)),
        row("3", "c", turn_at=after(5), host_turn_at=after(7)),
        row("4", "d", turn_at=after(9), host_turn_at=after(7)),
        row("5", "e"),
    ]
    free, until = held(rows, NOW)
    assert [one.id for one in free] == ["5"]
    assert until == {"a": after(5), "b": after(7), "c": after(7), "d": after(9)}


def test_a_rate_is_for_what_happens_and_for_tests() -> None:
    assert needs_turn(row(rate=60.0), NOW)
    assert needs_turn(row(rate=60.0, kind="ping"), NOW)
    for kind in ("handshake", "notice"):
        assert not needs_turn(row(rate=60.0, kind=kind), NOW)
    assert not needs_turn(row(), NOW)


def test_a_turn_that_is_booked_is_taken_unless_it_is_long_over() -> None:
    assert not needs_turn(row(rate=60.0, booked=True), NOW)
    assert not needs_turn(row(rate=60.0, booked=True, due_at=after(-LATE)), NOW)
    assert needs_turn(row(rate=60.0, booked=True, due_at=after(-LATE - 0.1)), NOW)


def test_turns_follow_each_other_and_those_of_a_second_are_taken_now() -> None:
    rows = [row(str(number), rate=120.0) for number in range(10)]
    made = book(rows, NOW, {"s": None})
    assert [one.id for one in made.free] == ["0", "1", "2"]
    assert made.turns == {str(number): after(number / 2) for number in range(10)}
    assert made.until == {"s": after(5)}


def test_they_go_on_where_they_were_left() -> None:
    rows = [row(str(number), rate=60.0) for number in range(3)]
    made = book(rows, NOW, {"s": after(100)})
    assert made.free == []
    assert made.turns == {"0": after(100), "1": after(101), "2": after(102)}
    assert made.until == {"s": after(103)}
    assert book(rows[:1], NOW, {"s": after(-100)}).turns == {"0": NOW}


def test_what_cannot_be_booked_now_is_left_out_and_holds_up_nobody() -> None:
    rows = [row("1", rate=60.0), row("2", "t"), row("3", "u", rate=60.0, booked=True)]
    made = book(rows, NOW, {})
    assert [one.id for one in made.free] == ["2", "3"]
    assert made.turns == made.until == {}


@given(
    rate=st.floats(1 / 1440, 1e6),
    count=st.integers(1, 300),
    until=st.one_of(st.none(), st.floats(-100, 100)),
)
def test_turns_never_exceed_the_rate_and_each_has_one(
    rate: float, count: int, until: float | None
) -> None:
    rows = [row(str(number), rate=rate) for number in range(count)]
    made = book(rows, NOW, {"s": None if until is None else after(until)})
    assert len(made.free) <= BURST * rate / 60 + 1.01 + count * 1e-6 * rate / 60
    turns = [made.turns[str(number)] for number in range(count)]
    assert turns == sorted(turns)
    assert turns[0] >= NOW
    took = (made.until["s"] - turns[0]).total_seconds()
    assert took >= count * (60 / rate - 1e-6) - 1e-3


def test_a_rate_that_is_none_is_not_kept_to() -> None:
    for rate in (None, 0, 0.0, -1.0, 1e-300, float("nan"), float("inf"), "x"):
        assert not needs_turn(row(rate=rate), NOW)
    assert needs_turn(row(rate=1e-4), NOW)
    assert book([row(rate=1e-4)], NOW, {"s": None}).until


def of_host(id_: str, subscription: str, owner: str, host: str, silences: int | None) -> Any:
    return row(id_, subscription, owner=owner, host=host, host_silences=silences)


def test_of_a_silent_host_one_of_each_owner_is_a_probe() -> None:
    rows = [
        of_host("1", "a", "1", "gone", SILENCES),
        of_host("2", "a", "1", "gone", SILENCES),
        of_host("3", "b", "1", "gone", SILENCES),
        of_host("4", "c", "2", "gone", SILENCES),
        of_host("5", "d", "2", "well", None),
        of_host("6", "d", "2", "well", SILENCES - 1),
        of_host("7", "e", "1", "away", SILENCES),
    ]
    ping = of_host("8", "a", "1", "gone", SILENCES)
    ping.kind = "ping"
    free, waiting = probes([*rows, ping], {"gone", "away"}, "salt")
    ids = [one.id for one in free]
    assert ids in (["1", "4", "5", "6", "7", "8"], ["3", "4", "5", "6", "7", "8"])
    assert waiting == {"a": "gone", "b": "gone", "c": "gone", "e": "away"}


def test_a_silent_host_that_another_worker_probes_is_left_to_it() -> None:
    rows = [of_host("1", "a", "1", "gone", SILENCES), of_host("2", "b", "1", "well", 0)]
    assert probes(rows, (), "salt") == ([rows[1]], {})


def test_each_subscription_of_an_owner_comes_up_as_a_probe() -> None:
    rows = [of_host(str(n), f"s{n}", "1", "gone", SILENCES) for n in range(5)]
    seen = {one.id for salt in range(100) for one in probes(rows, {"gone"}, str(salt))[0]}
    assert seen == {"0", "1", "2", "3", "4"}
    assert probes(rows, {"gone"}, "7") == probes(rows, {"gone"}, "7")


def test_a_test_does_not_wait_for_a_silent_host_but_for_one_that_asked_for_slowness() -> None:
    for kind in ("ping", "handshake"):
        silent = row("1", kind=kind, host_turn_at=after(5), host_silences=SILENCES)
        busy = row("2", "t", kind=kind, host_turn_at=after(5), host_silences=0)
        asked = row("3", "u", kind=kind, turn_at=after(5), host_silences=SILENCES)
        assert held([silent, busy, asked], NOW) == ([silent], {"t": after(5), "u": after(5)})


def test_a_host_has_one_name_however_it_is_spelt() -> None:
    for spelling in ("http://127.1/", "http://0x7f.1:80", "http://127.0.0.1.:080/a?b"):
        assert host_of(spelling) == "127.0.0.1:80"
    for spelling in ("https://EXAMPLE.com./", "https://\uff45xample.com:443/x"):
        assert host_of(spelling) == "example.com:443"
    assert host_of("https://[2606:4700:0::1]:8443/") == "2606:4700::1:8443"
    assert host_of("no URL") == "no URL"
