from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from flask_resthooks.outbox.fairness import pick


def row(number: int, owner: str = "1", subscription: str = "a", host: str = "h") -> Any:
    return SimpleNamespace(id=number, owner=owner, subscription_id=subscription, host=host)


ROWS = st.lists(st.tuples(st.sampled_from("123"), st.sampled_from("abcd")), max_size=40).map(
    lambda pairs: [row(at, owner, owner + sub) for at, (owner, sub) in enumerate(pairs)]
)


def test_what_fits_is_taken_as_it_is() -> None:
    rows = [row(1), row(2), row(3, "2")]
    assert pick(rows, 3) == rows
    assert pick([], 3) == []


def test_owners_take_turns_and_so_do_the_subscriptions_of_each() -> None:
    rows = [row(at, "1", "a") for at in range(10)]
    rows += [row(at, "1", "b") for at in range(10, 13)]
    rows += [row(at, "2", "c") for at in range(13, 15)]
    assert [one.id for one in pick(rows, 8)] == [0, 13, 10, 14, 1, 11, 2, 12]


def test_no_more_of_a_subscription_is_taken_than_its_share() -> None:
    rows = [row(at, "1", "a", "slow") for at in range(10)] + [row(at) for at in range(10, 12)]
    asked = []

    def share(id_: str, host: str) -> int:
        asked.append((id_, host))
        return {"slow": 2, "h": -1}[host]

    rows = [row(at, "1", "a", "slow") for at in range(10)] + [
        row(at, "1", "b") for at in range(10, 12)
    ]
    assert [one.id for one in pick(rows, 8, share)] == [0, 1]
    assert sorted(asked) == [("a", "slow"), ("b", "h")]


@given(ROWS, st.integers(0, 50), st.integers(0, 8))
def test_it_is_fair_whatever_there_is(rows: list[Any], limit: int, share: int) -> None:
    chosen = pick(rows, limit, lambda id_, host: share)
    taken = Counter(one.subscription_id for one in chosen)
    there = Counter(one.subscription_id for one in rows)
    assert len({one.id for one in chosen}) == len(chosen) <= limit
    assert all(count <= share for count in taken.values())
    # Nothing is left that there was room for.
    possible = sum(min(count, share) for count in there.values())
    assert len(chosen) == min(limit, possible)
    # In their order.
    for id_ in there:
        ids = [one.id for one in chosen if one.subscription_id == id_]
        assert ids == [one.id for one in rows if one.subscription_id == id_][: len(ids)]
    # Who got less than another owner by more than one had no more to be taken.
    by_owner = Counter(one.owner for one in chosen)
    most = max(by_owner.values(), default=0)
    for owner in {one.owner for one in rows}:
        could = sum(min(n, share) for id_, n in there.items() if id_.startswith(owner))
        assert by_owner[owner] >= min(most - 1, could)
