from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_resthooks import ids

PREFIXES = [ids.EVENT, ids.SUBSCRIPTION, ids.DELIVERY, ids.ATTEMPT]
MOMENTS = st.floats(min_value=0, max_value=2**48 / 1000 - 1)


def test_prefixes_are_different() -> None:
    assert len(set(PREFIXES)) == len(PREFIXES)


@given(st.sampled_from(PREFIXES), MOMENTS)
def test_an_id_has_the_shape_that_is_promised(prefix: str, at: float) -> None:
    made = ids.new(prefix, at)
    assert ids.is_id(prefix, made)
    assert len(made) == ids.LENGTH
    assert made.startswith(f"{prefix}_{ids.time_part(at)}")


@given(MOMENTS, MOMENTS)
def test_ids_sort_as_their_milliseconds_do(one: float, other: float) -> None:
    first, second = sorted([one, other])
    assert ids.time_part(first) <= ids.time_part(second)
    if int(first * 1000) < int(second * 1000):
        assert ids.new("evt", first) < ids.new("evt", second)


def test_an_id_tells_the_time_it_was_made() -> None:
    before = int(time.time() * 1000)
    made = int(ids.new("evt")[4:16], 16)
    assert before <= made <= int(time.time() * 1000)
    assert int(ids.time_part(0.0), 16) == 0  # the epoch is not "now"
    assert int(ids.time_part(1700000000.5), 16) == 1700000000500


def test_the_time_of_an_id_can_be_reckoned_with() -> None:
    made = ids.new("evt", 1700000000.5)
    assert ids.before(made, 0) == ids.time_part(1700000000.5)
    assert ids.before(made, 3600) == ids.time_part(1700000000.5 - 3600)
    assert ids.before(made, -3600) == ids.time_part(1700000000.5 + 3600)
    assert ids.before(ids.new("evt", 1.0), 3600) == "0" * 12
    assert ids.before("evt_" + "f" * 32, -1) > ids.time_part()


def test_ids_of_one_moment_differ_in_all_their_random_digits() -> None:
    tails = [ids.new("evt", 0)[16:] for _ in range(500)]
    assert len(set(tails)) == 500
    assert all(len(set(digits)) == 16 for digits in zip(*tails, strict=True))


@pytest.mark.parametrize("prefix", PREFIXES)
def test_an_id_is_of_its_own_prefix_alone(prefix: str) -> None:
    made = ids.new(prefix)
    assert [other for other in PREFIXES if ids.is_id(other, made)] == [prefix]


@given(st.data())
def test_an_id_with_one_character_changed_for_a_foreign_one_is_none(data: st.DataObject) -> None:
    made = ids.new("evt")
    place = data.draw(st.integers(0, len(made) - 1))
    foreign = data.draw(st.characters().filter(lambda c: c not in "0123456789abcdef_evt"))
    assert not ids.is_id("evt", made[:place] + foreign + made[place + 1 :])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "evt",
        "evt_",
        "evt_" + "0" * 31,
        "evt_" + "0" * 33,
        "evt_" + "0" * 32 + "\n",
        " evt_" + "0" * 32,
        "evt_" + "A" * 32,
        "evt_" + "\u0660" * 32,  # digits that are not 0-9
        "EVT_" + "0" * 32,
        "evt-" + "0" * 32,
    ],
)
def test_what_only_looks_like_an_id_is_none(text: str) -> None:
    assert not ids.is_id("evt", text)


@given(st.text(max_size=50))
def test_no_text_is_taken_for_an_id_that_has_not_its_shape(text: str) -> None:
    assert not ids.is_id("evt", text)


@given(st.lists(MOMENTS, max_size=20))
def test_several_are_as_each_by_itself(moments: list[float]) -> None:
    made = ids.several("att", moments)
    assert [id_[:16] for id_ in made] == [f"att_{ids.time_part(at)}" for at in moments]
    assert all(ids.is_id("att", id_) for id_ in made)
    assert len({id_[16:] for id_ in made}) == len(moments)
