"""The workload: random transactions, and what each of them should make happen. Pure.

A lane is one client of the app. It owns the records that it makes, so it knows what the database
holds of them, and what a transaction changes, without asking: the account of what should be told is
independent of the code that finds it out. The same seed makes the same transactions.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

OWNERS = ("ann", "bob", "cy")
KINDS = ("contact", "order")

MOST_RECORDS = 10
"""Records of a lane: beyond that, it deletes more than it creates."""

ROLLED_BACK = 0.15
"""Which part of the transactions, and of the savepoints, is rolled back."""

Operation = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Record:
    """What the database holds of a record.

    :param version: grows with each change.
    :param mark: of the operation that wrote it last; no two operations have the same.
    """

    kind: str
    key: str
    owner: str
    version: int
    mark: str


@dataclass(frozen=True, slots=True)
class Happening:
    """What one event should tell, and whom."""

    owner: str
    type: str
    key: str
    version: int
    mark: str

    @classmethod
    def of(cls, verb: str, record: Record) -> Happening:
        return cls(record.owner, f"{record.kind}.{verb}", record.key, record.version, record.mark)


@dataclass(frozen=True, slots=True)
class Transaction:
    """What a client asks the app to do, all of it or nothing.

    :param happenings: what is to be told of it; nothing, if it is rolled back.
    """

    name: str
    operations: tuple[Operation, ...]
    rolled_back: bool
    happenings: tuple[Happening, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Lane:
    """The transactions of one client, one after the other.

    :param name: no other lane of the same database has it.
    """

    def __init__(self, name: str, seed: object) -> None:
        self.name = name
        self._chance = random.Random(f"{seed} {name}")
        self._records: dict[str, Record] = {}
        self._count = 0
        self._writes = 0

    def __iter__(self) -> Iterator[Transaction]:
        return self

    def __next__(self) -> Transaction:
        self._count += 1
        records = dict(self._records)
        operations = self._operations(records, self._chance.randint(1, 4), deep=True)
        rolled_back = self._chance.random() < ROLLED_BACK
        happenings: Sequence[Happening] = ()
        if not rolled_back:
            happenings = difference(self._records, records)
            self._records = records
        name = f"{self.name}-{self._count}"
        return Transaction(name, tuple(operations), rolled_back, tuple(happenings))

    def _operations(self, records: dict[str, Record], count: int, *, deep: bool) -> list[Operation]:
        return [self._operation(records, deep=deep) for _ in range(count)]

    def _operation(self, records: dict[str, Record], *, deep: bool) -> Operation:
        """Make one up, and do it to `records`."""
        chance = self._chance
        self._writes += 1
        mark = f"{self.name}:{self._writes}"
        full = len(records) >= MOST_RECORDS
        weights = {
            "create": 1 if full else 6,
            "update": 5,
            "delete": 5 if full else 2,
            "move": 1,
            "bulk": 1,
            "quiet": 1,
            "savepoint": 2 if deep else 0,
        }
        if not records:
            weights = {"create": 1}
        do = chance.choices(list(weights), list(weights.values()))[0]
        if do == "savepoint":
            inside = dict(records)
            kept = chance.random() >= 3 * ROLLED_BACK
            operations = self._operations(inside, chance.randint(1, 3), deep=False)
            if kept:
                records.clear()
                records.update(inside)
            return {"do": do, "kept": kept, "operations": operations}
        if do == "create":
            key = f"{self.name}.{self._writes}"
            record = Record(chance.choice(KINDS), key, chance.choice(OWNERS), 1, mark)
            records[key] = record
            return {"do": do, **asdict(record)}
        if do == "bulk":
            kind = chance.choice(KINDS)
            keys = sorted(key for key, record in records.items() if record.kind == kind)
            keys = chance.sample(keys, min(len(keys), chance.randint(1, 3)))
            for key in keys:
                records[key] = _changed(records[key], mark)
            return {"do": do, "kind": kind, "keys": keys, "mark": mark}
        record = records[chance.choice(sorted(records))]
        named = {"do": do, "kind": record.kind, "key": record.key}
        if do == "delete":
            del records[record.key]
            return named
        if do == "quiet":
            return {**named, "mark": mark}
        owner = chance.choice(OWNERS) if do == "move" else record.owner
        records[record.key] = changed = _changed(record, mark, owner)
        return {**named, "owner": owner, "version": changed.version, "mark": mark}


def _changed(record: Record, mark: str, owner: str | None = None) -> Record:
    owner = record.owner if owner is None else owner
    return Record(record.kind, record.key, owner, record.version + 1, mark)


def difference(before: dict[str, Record], after: dict[str, Record]) -> list[Happening]:
    """What has to be told of a transaction, by what there was before it and what there is after."""
    made: list[Happening] = []
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        if old is not None and new is not None and old.owner == new.owner:
            made.append(Happening.of("update", new))
            continue
        if old is not None:
            made.append(Happening.of("delete", old))
        if new is not None:
            made.append(Happening.of("create", new))
    return made
