"""The workload is the same for the same seed, and has everything that an app does."""

from __future__ import annotations

import itertools
from collections import Counter

from tests.faults.workload import Lane, Operation, Record, Transaction, difference


def some(seed: int, count: int = 400) -> list[Transaction]:
    return list(itertools.islice(Lane("lane", seed), count))


def flat(operations: tuple[Operation, ...]) -> list[Operation]:
    return [
        one
        for operation in operations
        for one in (operation, *flat(tuple(operation.get("operations", ()))))
    ]


def test_the_same_seed_makes_the_same_workload_and_another_one_another() -> None:
    assert some(7) == some(7)
    assert some(7) != some(8)


def test_everything_happens_in_it() -> None:
    transactions = some(1)
    done = Counter(one["do"] for made in transactions for one in flat(made.operations))
    assert set(done) == {"create", "update", "delete", "move", "bulk", "quiet", "savepoint"}
    kept = {one["kept"] for made in transactions for one in flat(made.operations) if "kept" in one}
    assert kept == {True, False}
    assert {made.rolled_back for made in transactions} == {True, False}
    types = {one.type for made in transactions for one in made.happenings}
    assert len(types) == 6
    assert len({one.owner for made in transactions for one in made.happenings}) == 3


def test_nothing_is_to_be_told_of_what_is_rolled_back_and_nothing_twice() -> None:
    transactions = some(2)
    assert not any(made.happenings for made in transactions if made.rolled_back)
    told = [one for made in transactions for one in made.happenings]
    assert len(told) == len(set(told))


def test_a_transaction_is_told_by_its_ends_alone() -> None:
    old = Record("contact", "k", "ann", 1, "m1")
    new = Record("contact", "k", "ann", 3, "m3")
    moved = Record("contact", "k", "bob", 2, "m2")
    assert difference({}, {}) == difference({"k": old}, {"k": old}) == []
    assert [one.type for one in difference({}, {"k": old})] == ["contact.create"]
    assert [(one.type, one.version) for one in difference({"k": old}, {"k": new})] == [
        ("contact.update", 3)
    ]
    assert [(one.type, one.version) for one in difference({"k": new}, {})] == [
        ("contact.delete", 3)
    ]
    assert [(one.owner, one.type) for one in difference({"k": old}, {"k": moved})] == [
        ("ann", "contact.delete"),
        ("bob", "contact.create"),
    ]
