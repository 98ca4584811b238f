"""Random transactions against a plain model of what their net difference must be.

RESTHOOKS_CAPTURE_RUNS says how many histories are tried on SQLite (default: 40); a tenth as many
are tried on PostgreSQL.
"""

from __future__ import annotations

import copy
import os
from typing import Any

import hypothesis
import marshmallow as ma
import pytest
import sqlalchemy as sa
from capture_world import Event, World
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine
from sqlalchemy.dialects import postgresql, sqlite

RUNS = int(os.environ.get("RESTHOOKS_CAPTURE_RUNS", "40"))
KEYS = st.integers(1, 4)
VALUES = st.integers(0, 2)
TAGS = st.sets(st.integers(1, 2))

Told = tuple[str, int, int, Any, Any]
"""Event type, number, owner, data, previous."""

Record = dict[str, Any]
State = dict[int, Record]


class Machine(RuleBasedStateMachine):
    """The model: the state of the table at the last commit, at each savepoint, and now."""

    world: World
    shows_more = True

    @initialize()
    def begin(self) -> None:
        world = self.world
        world.session.remove()
        with world.engine.begin() as connection:
            for table in (world.contact_tag, world.Contact.__table__, world.tables.event):
                connection.execute(table.delete())
        world._seen = 0
        world.wakes = 0
        self.session = world.session()
        self.committed: State = {}
        self.now: State = {}
        self.savepoints: list[tuple[Any, State]] = []
        self.serial = 0

    # The unit of work.

    @rule(key=KEYS, score=VALUES, secret=VALUES)
    def add(self, key: int, score: int, secret: int) -> None:
        if key in self.now:
            return
        contact = self.world.Contact(id=key, owner_id=1, name="x", score=score, secret=str(secret))
        self.session.add(contact)
        self.now[key] = {"score": score, "name": "x", "tags": set(), "owner": 1}

    @rule(key=KEYS, owner=st.sampled_from([None, 1, 2]))
    def hand_over(self, key: int, owner: int | None) -> None:
        if contact := self.get(key):
            contact.owner_id = owner
            self.now[key]["owner"] = owner

    @rule(key=KEYS, score=VALUES)
    def change(self, key: int, score: int) -> None:
        if contact := self.get(key):
            contact.score = score
            self.now[key]["score"] = score

    @rule(key=KEYS, secret=VALUES)
    def change_in_private(self, key: int, secret: int) -> None:
        if contact := self.get(key):
            contact.secret = str(secret)

    @rule(key=KEYS, tags=TAGS)
    def tag(self, key: int, tags: set[int]) -> None:
        if contact := self.get(key):
            contact.tags = [self.session.get(self.world.Tag, tag) for tag in sorted(tags)]
            self.now[key]["tags"] = set(tags)

    @rule(tag=st.integers(1, 2))
    def lose_a_tag(self, tag: int) -> None:
        """A tag is deleted, and another one of that name and number is made."""
        self.session.flush()
        self.session.delete(self.session.get(self.world.Tag, tag))
        self.session.flush()
        self.session.add(self.world.Tag(id=tag, name=str(tag)))
        for record in self.now.values():
            record["tags"].discard(tag)

    @rule(key=KEYS)
    def delete(self, key: int) -> None:
        if contact := self.get(key):
            if self.now[key]["tags"]:
                # SQLAlchemy writes tags that were given in the same flush, and leaves them there.
                self.session.flush()
            self.session.delete(contact)
            if self.now[key]["tags"]:
                # It does the same if the key is added again in the same flush.
                self.session.flush()
            del self.now[key]

    @rule()
    def flush(self) -> None:
        self.session.flush()

    @rule()
    def expire(self) -> None:
        self.session.flush()
        self.session.expire_all()

    @rule()
    def forget(self) -> None:
        self.session.flush()
        self.session.expunge_all()

    @rule()
    def query(self) -> None:
        found = self.session.scalars(sa.select(self.world.Contact.id)).all()
        assert set(found) == set(self.now)

    def get(self, key: int) -> Any:
        return self.session.get(self.world.Contact, key) if key in self.now else None

    # Bulk statements.

    @rule(keys=st.sets(KEYS, min_size=1), score=VALUES, style=st.sampled_from(["list", "values"]))
    def insert(self, keys: set[int], score: int, style: str) -> None:
        rows = [
            {"id": key, "owner_id": 1, "name": "x", "score": score}
            for key in sorted(keys - set(self.now))
        ]
        if not rows:
            return
        if style == "list":
            self.session.execute(sa.insert(self.world.Contact), rows)
        else:
            self.session.execute(sa.insert(self.world.Contact).values(rows))
        for row in rows:
            self.now[row["id"]] = {"score": score, "name": "x", "tags": set(), "owner": 1}

    @rule(keys=st.sets(KEYS, min_size=1), score=VALUES)
    def upsert(self, keys: set[int], score: int) -> None:
        dialect: Any = {"sqlite": sqlite, "postgresql": postgresql}[self.world.engine.dialect.name]
        statement = dialect.insert(self.world.Contact)
        statement = statement.on_conflict_do_update(
            index_elements=["id"], set_={"score": statement.excluded.score}
        )
        self.session.execute(
            statement,
            [{"id": key, "owner_id": 1, "name": "x", "score": score} for key in sorted(keys)],
        )
        # An upsert does not refresh what the session holds already.
        self.session.expire_all()
        for key in keys:
            made = {"name": "x", "tags": set(), "owner": 1}
            self.now.setdefault(key, made)["score"] = score

    @rule(
        above=VALUES,
        score=VALUES,
        synchronize=st.sampled_from(["auto", "evaluate", "fetch"]),
        returning=st.booleans(),
    )
    def update(self, above: int, score: int, synchronize: str, returning: bool) -> None:
        contact = self.world.Contact
        statement = sa.update(contact).where(contact.score >= above).values(score=score)
        if returning:
            statement = statement.returning(contact.id)
        result = self.session.execute(
            statement, execution_options={"synchronize_session": synchronize}
        )
        touched = {key for key, record in self.now.items() if record["score"] >= above}
        if returning:
            assert set(result.scalars()) == touched
        else:
            assert result.rowcount == len(touched)
        for key in touched:
            self.now[key]["score"] = score

    @rule(keys=st.sets(KEYS, min_size=1), name=st.sampled_from(["x", "y"]))
    def update_by_key(self, keys: set[int], name: str) -> None:
        rows = [{"id": key, "name": name} for key in sorted(keys & set(self.now))]
        if rows:
            self.session.execute(sa.update(self.world.Contact), rows)
        for row in rows:
            self.now[row["id"]]["name"] = name

    @rule(below=VALUES, synchronize=st.sampled_from(["auto", "evaluate", "fetch"]))
    def delete_where(self, below: int, synchronize: str) -> None:
        contact = self.world.Contact
        self.session.flush()
        gone = {key for key, record in self.now.items() if record["score"] < below}
        if any(self.now[key]["tags"] for key in gone):
            return
        self.session.execute(
            sa.delete(contact).where(contact.score < below),
            execution_options={"synchronize_session": synchronize},
        )
        for key in gone:
            del self.now[key]

    # Transactions.

    @precondition(lambda self: len(self.savepoints) < 3)
    @rule()
    def begin_savepoint(self) -> None:
        savepoint = self.session.begin_nested()
        self.savepoints.append((savepoint, copy.deepcopy(self.now)))

    @precondition(lambda self: self.savepoints)
    @rule()
    def keep_savepoint(self) -> None:
        savepoint, _ = self.savepoints.pop()
        savepoint.commit()

    @precondition(lambda self: self.savepoints)
    @rule(depth=st.integers(1, 3))
    def roll_back_savepoint(self, depth: int) -> None:
        at = max(0, len(self.savepoints) - depth)
        savepoint, self.now = self.savepoints[at]
        savepoint.rollback()
        del self.savepoints[at:]

    @rule()
    def roll_back(self) -> None:
        self.session.rollback()
        self.savepoints.clear()
        self.now = copy.deepcopy(self.committed)
        self.check([], wakes=0)

    @rule()
    def commit(self) -> None:
        if self.serial % 2:
            self.session.commit()
        else:
            # Commits the open savepoints, too.
            transaction = self.session.get_transaction() or self.session.begin()
            transaction.commit()
        self.serial += 1
        self.savepoints.clear()
        expected = list(difference(self.seen(self.committed), self.seen(self.now)))
        for *_, previous in expected:
            if previous and not self.shows_more:
                previous.pop("shout", None)
        self.committed = copy.deepcopy(self.now)
        self.check(expected, wakes=bool(expected))

    @rule(key=KEYS, score=VALUES, style=st.sampled_from(["record", "statement", "none"]))
    def fail_to_commit(self, key: int, score: int, style: str) -> None:
        """A listener of the host's changes something and raises; the transaction goes on."""

        def stamp_and_fail(session: Any) -> None:
            if session.in_nested_transaction():
                return
            self.stamp(session, key, score, style)
            raise ZeroDivisionError

        while self.savepoints:
            self.keep_savepoint()
        sa.event.listen(self.session, "before_commit", stamp_and_fail)
        try:
            with pytest.raises(ZeroDivisionError):
                self.session.commit()
        finally:
            sa.event.remove(self.session, "before_commit", stamp_and_fail)
        self.check([], wakes=0)

    @rule(key=KEYS, score=VALUES, style=st.sampled_from(["record", "statement"]))
    def commit_with_a_listener(self, key: int, score: int, style: str) -> None:
        """A listener of the host's changes something after capture has written."""

        def stamp(session: Any) -> None:
            if not session.in_nested_transaction():
                self.stamp(session, key, score, style)

        while self.savepoints:
            self.keep_savepoint()
        sa.event.listen(self.session, "before_commit", stamp)
        try:
            self.commit()
        finally:
            sa.event.remove(self.session, "before_commit", stamp)

    def stamp(self, session: Any, key: int, score: int, style: str) -> None:
        contact = self.world.Contact
        if key not in self.now or style == "none":
            return
        if style == "record":
            session.get(contact, key).score = score
        else:
            session.execute(sa.update(contact).where(contact.id == key).values(score=score))
        self.now[key]["score"] = score

    def check(self, expected: list[Told], *, wakes: int) -> None:
        # Of a record's two events, `delete` comes first: sorting leaves it there.
        events = [self.told(event) for event in self.world.events()]
        assert sorted(events, key=lambda event: event[1]) == expected
        assert self.world.wakes == wakes
        self.world.wakes = 0

    def told(self, event: Event) -> Told:
        number = int(str(event.resource).partition(":")[2])
        data, previous = event.data, event.previous
        return (
            event.type,
            number,
            int(event.owner),
            shown(data["score"], data["full_name"], set(map(int, data.get("tags", ())))),
            previous and {name: normal(previous[name]) for name in previous},
        )

    def seen(self, state: State) -> State:
        """As much of a state as is shown."""
        if self.shows_more:
            return state
        return {key: {**record, "tags": set()} for key, record in state.items()}

    def teardown(self) -> None:
        self.world.session.remove()


class PlainMachine(Machine):
    """Of records that are read without the ORM: neither tags nor what a method makes is shown."""

    shows_more = False


class PlainSchema(ma.Schema):
    id = ma.fields.Integer()
    full_name = ma.fields.String(attribute="name")
    score = ma.fields.Integer()
    double_score = ma.fields.Integer()


def shown(score: int, name: str, tags: set[int], owner: int | None = None) -> Any:
    return (score, name, sorted(tags))


def normal(value: Any) -> Any:
    return sorted(map(int, value)) if isinstance(value, list) else value


def difference(before: State, after: State) -> Any:
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        was, is_ = old and old["owner"], new and new["owner"]
        if old is None or new is None or was != is_:
            if old is not None and was:
                yield "contact.delete", key, was, shown(**old), None
            if new is not None and is_:
                yield "contact.create", key, is_, shown(**new), None
        elif old != new and is_:
            previous: Record = {}
            if old["name"] != new["name"]:
                previous |= {"full_name": old["name"], "shout": old["name"].upper()}
            if old["score"] != new["score"]:
                previous |= {"score": old["score"], "double_score": 2 * old["score"]}
            if old["tags"] != new["tags"]:
                previous["tags"] = sorted(old["tags"])
            yield "contact.update", key, is_, shown(**new), previous


def run(url: str, runs: int, kind: type[Machine] = Machine) -> None:
    world = World(url, versioned=False)
    if not kind.shows_more:
        world.retrack(world.Contact, schema=PlainSchema())
    record_type = world.capture._record_types.of(world.Contact)
    assert record_type is not None
    assert (record_type.plain is None) == kind.shows_more
    world.session.add_all([world.Tag(id=number, name=str(number)) for number in (1, 2)])
    world.session.commit()
    machine = type("Machine", (kind,), {"world": world})
    settings = hypothesis.settings(
        max_examples=runs,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    try:
        run_machine(machine, settings=settings)
    finally:
        world.close()


MACHINES = pytest.mark.parametrize("kind", [Machine, PlainMachine])


@MACHINES
@pytest.mark.timeout(3600)
def test_random_transactions_tell_their_net_difference_on_sqlite(
    sqlite_url: str, kind: type[Machine]
) -> None:
    run(sqlite_url, RUNS, kind)


@MACHINES
@pytest.mark.timeout(3600)
def test_random_transactions_tell_their_net_difference_on_postgresql(
    postgresql_url: str, kind: type[Machine]
) -> None:
    run(postgresql_url, max(5, RUNS // 10), kind)
