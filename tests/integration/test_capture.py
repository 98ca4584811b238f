"""The net difference of a transaction, told by one event per record."""

from __future__ import annotations

import re
import threading
from typing import Any

import marshmallow as ma
import pytest
import sqlalchemy as sa
from capture_world import LineSchema, World
from sqlalchemy import orm

from flask_resthooks.capture import Resource
from flask_resthooks.errors import CaptureError, ConfigurationError, UnknownEventType
from flask_resthooks.event_types import EventType


class NameSchema(ma.Schema):
    name = ma.fields.String()


class BoxSchema(ma.Schema):
    id = ma.fields.Integer()
    items = ma.fields.Pluck(NameSchema, "name", many=True)


@pytest.fixture
def world(capture_world: World) -> World:
    return capture_world


def count_statements(world: World, act: Any) -> list[str]:
    seen: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        seen.append(statement)

    sa.event.listen(world.engine, "before_cursor_execute", note)
    try:
        act()
    finally:
        sa.event.remove(world.engine, "before_cursor_execute", note)
    return seen


def created(number: int) -> tuple[str, str, None]:
    return ("contact.create", f"contact:{number}", None)


class TestOneRecord:
    def test_a_new_one_makes_a_create(self, world: World) -> None:
        contact = world.Contact(owner_id=7, name="Ada", secret="hush")
        world.session.add(contact)
        world.session.commit()
        [event] = world.events()
        assert (event.type, event.owner, event.resource) == ("contact.create", "7", "contact:1")
        assert event.previous is None
        assert event.data == {
            "id": 1,
            "full_name": "Ada",
            "emailAddress": None,
            "status": "new",
            "score": 1,
            "double_score": 2,
            "version": 1,
            "shout": "ADA",
            "tags": [],
            "account": None,
        }
        assert world.wakes == 1

    def test_an_update_tells_what_changed(self, world: World) -> None:
        contact = world.contact()
        contact.name = "Grace"
        contact.score = 5
        world.session.commit()
        [event] = world.events()
        assert event.type == "contact.update"
        assert event.data["full_name"] == "Grace"
        assert event.data["double_score"] == 10
        assert event.previous == {
            "full_name": "Ada",
            "shout": "ADA",
            "score": 1,
            "double_score": 2,
            "version": 1,
        }
        assert world.wakes == 1

    def test_a_delete_tells_what_was(self, world: World) -> None:
        contact = world.contact(tags=[world.Tag(name="vip")])
        world.session.delete(contact)
        world.session.commit()
        [event] = world.events()
        assert (event.type, event.owner, event.resource) == ("contact.delete", "1", "contact:1")
        assert event.data["full_name"] == "Ada"
        assert event.data["tags"] == ["vip"]
        assert event.previous is None

    def test_a_changed_one_that_is_deleted_is_told_as_it_was_before(self, world: World) -> None:
        contact = world.contact()
        contact.name = "Grace"
        world.session.flush()
        world.session.delete(contact)
        world.session.commit()
        [event] = world.events()
        assert (event.type, event.data["full_name"]) == ("contact.delete", "Ada")

    def test_several_flushes_make_one_event_in_the_final_state(self, world: World) -> None:
        contact = world.contact(score=1)
        for score in (2, 3, 4):
            contact.score = score
            world.session.flush()
        world.session.commit()
        [event] = world.events()
        assert (event.data["score"], event.previous["score"]) == (4, 1)

    def test_a_new_one_that_changes_is_a_create_in_the_final_state(self, world: World) -> None:
        contact = world.Contact(owner_id=1, name="Ada")
        world.session.add(contact)
        world.session.flush()
        contact.name = "Grace"
        assert world.session.query(world.Contact).count() == 1
        world.session.commit()
        [event] = world.events()
        assert (event.type, event.data["full_name"]) == ("contact.create", "Grace")

    def test_an_autoflush_by_a_query_in_between_changes_nothing(self, world: World) -> None:
        contact = world.contact()
        contact.name = "Grace"
        assert world.session.query(world.Contact).filter_by(name="Grace").count() == 1
        contact.name = "Edith"
        world.session.commit()
        [event] = world.events()
        assert (event.data["full_name"], event.previous["full_name"]) == ("Edith", "Ada")

    def test_a_value_changed_and_restored_makes_nothing(self, world: World) -> None:
        line = world.Line(order_id=1, position=1, amount=5)
        world.session.add(line)
        world.session.commit()
        world.events()
        line.amount = 6
        world.session.flush()
        line.amount = 5
        world.session.commit()
        assert world.told() == []
        assert world.wakes == 1

    def test_a_value_set_to_what_it_was_makes_nothing(self, world: World) -> None:
        contact = world.contact()
        contact.name = str(contact.name)
        world.session.commit()
        assert world.told() == []

    def test_created_and_deleted_makes_nothing(self, world: World) -> None:
        contact = world.Contact(owner_id=1)
        world.session.add(contact)
        world.session.flush()
        world.session.delete(contact)
        world.session.commit()
        assert world.told() == []
        assert world.wakes == 0

    def test_deleted_and_made_again_as_it_was_makes_nothing(self, world: World) -> None:
        line = world.Line(order_id=1, position=1, amount=5)
        world.session.add(line)
        world.session.commit()
        world.events()
        world.session.delete(line)
        world.session.flush()
        world.session.add(world.Line(order_id=1, position=1, amount=5))
        world.session.commit()
        assert world.told() == []

    @pytest.mark.parametrize("flush", [True, False])
    def test_deleted_and_made_again_differently_makes_an_update(
        self, world: World, flush: bool
    ) -> None:
        line = world.Line(order_id=1, position=1, amount=5)
        world.session.add(line)
        world.session.commit()
        world.events()
        world.session.delete(line)
        if flush:
            world.session.flush()
        world.session.add(world.Line(order_id=1, position=1, amount=6))
        world.session.commit()
        assert world.told() == [("line.update", "line:1,1", {"amount": 5})]

    def test_a_private_column_makes_no_event(self, world: World) -> None:
        contact = world.contact(version=1)
        # Without `onupdate`, which is shown.
        world.session.execute(
            sa.update(world.Contact).values(secret="hush", version=1).where(sa.true())
        )
        world.session.commit()
        assert world.told() == []
        assert contact.secret == "hush"

    def test_a_private_column_never_appears(self, world: World) -> None:
        contact = world.contact(secret="hush-1")
        contact.secret, contact.name = "hush-2", "Grace"
        world.session.commit()
        world.session.delete(contact)
        world.session.commit()
        assert len(events := world.events()) == 2
        assert "hush" not in repr(events)

    def test_a_new_primary_key_is_another_record(self, world: World) -> None:
        line = world.Line(order_id=1, position=1, amount=5)
        world.session.add(line)
        world.session.commit()
        world.events()
        line.position = 2
        world.session.commit()
        assert world.told() == [
            ("line.create", "line:1,2", None),
            ("line.delete", "line:1,1", None),
        ]

    def test_nobody_is_told_of_what_nobody_owns(self, world: World) -> None:
        contact = world.contact(owner_id=None)
        contact.name = "Grace"
        world.session.commit()
        assert world.events() == []
        assert world.wakes == 0

    def test_what_gets_another_owner_is_gone_for_one_and_new_for_the_other(
        self, world: World
    ) -> None:
        contact = world.contact(owner_id=1)
        contact.owner_id, contact.name = 2, "Grace"
        world.session.commit()
        delete, create = world.events()
        assert (delete.type, delete.owner, delete.resource) == ("contact.delete", "1", "contact:1")
        assert (delete.data["full_name"], delete.previous) == ("Ada", None)
        assert (create.type, create.owner, create.resource) == ("contact.create", "2", "contact:1")
        assert (create.data["full_name"], create.previous) == ("Grace", None)

    def test_a_new_owner_is_told_though_nothing_that_is_shown_has_changed(
        self, world: World
    ) -> None:
        world.retrack(world.Contact, watch=("secret",))
        world.contact(owner_id=1, version=1)
        world.session.execute(sa.update(world.Contact).values(owner_id=2, version=1))
        world.session.commit()
        assert [(event.type, event.owner) for event in world.events()] == [
            ("contact.delete", "1"),
            ("contact.create", "2"),
        ]

    def test_nobody_as_an_owner_is_told_nothing_of_a_hand_over(self, world: World) -> None:
        contact = world.contact(owner_id=1)
        contact.owner_id = None
        world.session.commit()
        assert [(event.type, event.owner) for event in world.events()] == [("contact.delete", "1")]
        contact.owner_id = 2
        world.session.commit()
        assert [(event.type, event.owner) for event in world.events()] == [("contact.create", "2")]

    @pytest.mark.parametrize(
        ("verbs", "told"),
        [
            (("create", "update"), [("contact.create", "2")]),
            (("update", "delete"), [("contact.delete", "1")]),
            (("create", "delete"), [("contact.delete", "1"), ("contact.create", "2")]),
            (("update",), []),
            (("delete",), [("contact.delete", "1")]),
        ],
    )
    def test_a_hand_over_is_told_by_the_verbs_asked_for(
        self, world: World, verbs: tuple[str, ...], told: list[Any]
    ) -> None:
        world.retrack(world.Contact, verbs=verbs)
        contact = world.contact(owner_id=1)
        contact.owner_id = 2
        world.session.commit()
        assert [(event.type, event.owner) for event in world.events()] == told

    def test_a_hand_over_there_and_back_makes_nothing(self, world: World) -> None:
        world.contact(owner_id=1, version=1)
        for owner in (2, 1):
            world.session.execute(sa.update(world.Contact).values(owner_id=owner, version=1))
        world.session.commit()
        assert world.told() == []

    def test_the_value_need_not_have_been_loaded(self, world: World) -> None:
        contact = world.contact()
        world.session.expire_all()
        contact.name = "Grace"
        world.session.commit()
        [event] = world.events()
        assert event.previous["full_name"] == "Ada"


class TestRelationships:
    def test_a_new_tag_makes_an_update(self, world: World) -> None:
        contact = world.contact(tags=[world.Tag(name="vip")])
        contact.tags.append(world.Tag(name="new"))
        world.session.commit()
        [event] = world.events()
        assert event.data["tags"] == ["vip", "new"]
        assert event.previous == {"tags": ["vip"]}

    def test_a_tag_taken_away_makes_an_update(self, world: World) -> None:
        contact = world.contact(tags=[world.Tag(name="vip")])
        contact.tags.clear()
        world.session.commit()
        assert world.told() == [("contact.update", "contact:1", {"tags": ["vip"]})]

    def test_a_tag_given_from_the_other_side_makes_an_update(self, world: World) -> None:
        contact = world.contact()
        world.session.add(world.Tag(name="vip", contacts=[contact]))
        world.session.commit()
        assert world.told() == [("contact.update", "contact:1", {"tags": []})]

    def test_another_account_makes_an_update_of_all_that_show_it(self, world: World) -> None:
        contact = world.contact(account=world.Account(name="Acme"))
        assert contact.account.name == "Acme"
        contact.account = world.Account(name="Bolt")
        world.session.commit()
        assert world.told() == [
            ("account.create", "account:2", None),
            ("account.update", "account:1", {"contacts": ["Ada"]}),
            (
                "contact.update",
                "contact:1",
                {"account": "Acme", "version": 1},
            ),
        ]

    def test_a_tag_given_and_taken_away_makes_nothing(self, world: World) -> None:
        contact = world.contact()
        contact.tags.append(world.Tag(name="vip"))
        world.session.flush()
        contact.tags.clear()
        world.session.commit()
        assert world.told() == []

    @pytest.mark.parametrize("loaded", [False, True])
    def test_a_tag_that_is_deleted_is_lost_by_all_that_show_it(
        self, world: World, loaded: bool
    ) -> None:
        tag = world.Tag(name="vip")
        world.contact(tags=[tag])
        world.contact(tags=[world.Tag(name="new"), tag])
        world.contact(tags=[world.Tag(name="other")])
        world.session.expunge_all()
        tag = world.session.get(world.Tag, 1)
        assert not loaded or len(tag.contacts) == 2
        world.session.delete(tag)
        world.session.commit()
        lost = [(told[0], told[1], sorted(told[2]["tags"])) for told in world.told()]
        assert lost == [
            ("contact.update", "contact:1", ["vip"]),
            ("contact.update", "contact:2", ["new", "vip"]),
        ]

    def test_a_foreign_key_set_by_hand_is_told_of_both_who_lose_and_who_get(
        self, world: World
    ) -> None:
        world.track(world.Box, "box", BoxSchema(), lambda box: 1)
        world.session.add_all([world.Box(id=1), world.Box(id=2)])
        world.session.commit()
        world.events()
        item = world.Item(name="a", box_id=1)
        world.session.add(item)
        world.session.commit()
        assert world.told() == [
            ("box.update", "box:1", {"items": []}),
            ("item.create", "item:1", None),
        ]
        item.box_id = 2
        world.session.commit()
        assert world.told() == [
            ("box.update", "box:1", {"items": ["a"]}),
            ("box.update", "box:2", {"items": []}),
        ]
        world.session.delete(item)
        world.session.commit()
        assert world.told() == [
            ("box.update", "box:2", {"items": ["a"]}),
            ("item.delete", "item:1", None),
        ]

    def test_who_does_not_show_a_record_is_not_asked_for(self, world: World) -> None:
        class OnlyName(ma.Schema):
            full_name = ma.fields.String(attribute="name")

        world.retrack(world.Contact, schema=OnlyName())
        world.session.add(world.Tag(name="vip"))
        world.session.commit()
        tag = world.session.get(world.Tag, 1)
        world.session.delete(tag)
        assert not any("tag_1" in text for text in count_statements(world, world.session.flush))
        world.session.rollback()

    def test_an_orphan_that_only_the_flush_finds_is_told(self, world: World) -> None:
        box = world.Box(items=[world.Item(name="a"), world.Item(name="b")])
        world.session.add(box)
        world.session.commit()
        world.events()
        box.items.pop()
        world.session.commit()
        [event] = world.events()
        assert (event.type, event.data) == ("item.delete", {"id": 2, "name": "b"})

    def test_a_cascaded_delete_is_told(self, world: World) -> None:
        box = world.Box(items=[world.Item(name="a"), world.Item(name="b")])
        world.session.add(box)
        world.session.commit()
        world.events()
        world.session.delete(box)
        world.session.commit()
        assert world.told() == [("item.delete", "item:1", None), ("item.delete", "item:2", None)]


class TestInheritance:
    def test_a_joined_subclass_is_told_as_its_base(self, world: World) -> None:
        manager = world.Manager(name="Ada", budget=1)
        world.session.add(manager)
        world.session.commit()
        manager.name = "Grace"
        world.session.commit()
        world.session.delete(manager)
        world.session.commit()
        create, update, delete = world.events()
        assert (create.type, create.resource) == ("person.create", "person:1")
        assert create.data == {"id": 1, "type": "manager", "name": "Ada"}
        assert update.previous == {"name": "Ada"}
        assert delete.data["name"] == "Grace"

    def test_a_joined_subclass_of_its_own_wins(self, world: World) -> None:
        engineer = world.Engineer(name="Ada", language="B")
        world.session.add_all([engineer, world.Person(name="Bob")])
        world.session.commit()
        assert [told[0] for told in world.told()] == ["engineer.create", "person.create"]
        engineer.language = "C"
        world.session.commit()
        engineer.name = "Grace"
        world.session.commit()
        assert [event.previous for event in world.events()] == [{"language": "B"}, {"name": "Ada"}]

    def test_bulk_statements_on_the_base_reach_the_subclasses(self, world: World) -> None:
        people = [world.Engineer(name="a"), world.Manager(name="b"), world.Person(name="c")]
        world.session.add_all(people)
        world.session.commit()
        world.events()
        world.session.execute(sa.update(world.Person).values(name="x"))
        world.session.commit()
        assert world.told() == [
            ("engineer.update", "engineer:1", {"name": "a"}),
            ("person.update", "person:2", {"name": "b"}),
            ("person.update", "person:3", {"name": "c"}),
        ]

    def test_bulk_statements_on_a_joined_subclass(self, world: World) -> None:
        world.session.execute(
            sa.insert(world.Engineer), [{"name": "a", "language": "B"}, {"name": "b"}]
        )
        world.session.commit()
        assert [told[0] for told in world.told()] == ["engineer.create"] * 2
        world.session.execute(
            sa.update(world.Engineer).where(world.Engineer.language == "B").values(language="C")
        )
        world.session.commit()
        assert world.told() == [("engineer.update", "engineer:1", {"language": "B"})]
        world.session.execute(sa.update(world.Engineer), [{"id": 2, "name": "z"}])
        world.session.commit()
        assert world.told() == [("engineer.update", "engineer:2", {"name": "b"})]

    def test_a_single_table_subclass_is_told_and_its_sisters_are_not(self, world: World) -> None:
        car = world.Car(wheels=4)
        world.session.add_all([car, world.Bicycle(wheels=2), world.Vehicle(wheels=1)])
        world.session.commit()
        assert world.told() == [("car.create", f"car:{car.id}", None)]
        world.session.execute(sa.update(world.Vehicle).values(wheels=world.Vehicle.wheels + 1))
        world.session.commit()
        assert world.told() == [("car.update", f"car:{car.id}", {"wheels": 4})]
        world.session.execute(sa.delete(world.Vehicle))
        world.session.commit()
        assert world.told() == [("car.delete", f"car:{car.id}", None)]


class TestSavepoints:
    def test_what_a_savepoint_keeps_is_told_once(self, world: World) -> None:
        contact = world.contact()
        with world.session.begin_nested():
            contact.name = "Grace"
            world.session.add(world.Contact(owner_id=1))
        assert world.wakes == 0
        contact.name = "Edith"
        world.session.commit()
        create, update = sorted(world.events(), key=lambda event: event.type)
        assert create.type == "contact.create"
        assert (update.data["full_name"], update.previous["full_name"]) == ("Edith", "Ada")
        assert world.wakes == 1

    def test_what_a_savepoint_takes_back_is_not_told(self, world: World) -> None:
        contact = world.contact()
        savepoint = world.session.begin_nested()
        contact.name = "Grace"
        world.session.add(world.Contact(owner_id=1))
        world.session.flush()
        savepoint.rollback()
        world.session.commit()
        assert world.told() == []
        assert world.wakes == 0

    def test_inner_kept_and_outer_rolled_back_is_not_told(self, world: World) -> None:
        contact = world.contact()
        outer = world.session.begin_nested()
        with world.session.begin_nested():
            contact.name = "Grace"
        outer.rollback()
        world.session.commit()
        assert world.told() == []

    def test_inner_rolled_back_and_outer_kept_tells_the_outer(self, world: World) -> None:
        contact = world.contact()
        with world.session.begin_nested():
            contact.score = 5
            inner = world.session.begin_nested()
            contact.name = "Grace"
            world.session.flush()
            inner.rollback()
        world.session.commit()
        [event] = world.events()
        assert (event.data["full_name"], event.data["score"]) == ("Ada", 5)
        assert "full_name" not in event.previous

    def test_one_rolled_back_then_one_kept(self, world: World) -> None:
        contact = world.contact()
        first = world.session.begin_nested()
        contact.name = "Grace"
        first.rollback()
        with world.session.begin_nested():
            contact.score = 9
        world.session.commit()
        [event] = world.events()
        assert event.previous == {"score": 1, "double_score": 2, "version": 1}

    def test_one_kept_then_one_rolled_back(self, world: World) -> None:
        contact = world.contact()
        with world.session.begin_nested():
            contact.score = 9
        second = world.session.begin_nested()
        contact.name = "Grace"
        second.rollback()
        world.session.commit()
        [event] = world.events()
        assert event.previous == {"score": 1, "double_score": 2, "version": 1}

    def test_a_delete_in_a_savepoint_that_rolls_back_is_not_told(self, world: World) -> None:
        contact = world.contact()
        savepoint = world.session.begin_nested()
        world.session.delete(contact)
        world.session.flush()
        savepoint.rollback()
        world.session.commit()
        assert world.told() == []
        contact.name = "Grace"
        world.session.commit()
        assert [told[0] for told in world.told()] == ["contact.update"]

    def test_a_record_changed_before_and_deleted_in_a_savepoint_that_rolls_back(
        self, world: World
    ) -> None:
        contact = world.contact()
        contact.name = "Grace"
        savepoint = world.session.begin_nested()
        world.session.delete(contact)
        savepoint.rollback()
        world.session.commit()
        [event] = world.events()
        assert (event.type, event.previous["full_name"]) == ("contact.update", "Ada")

    def test_a_record_made_before_and_deleted_in_a_savepoint_that_is_kept(
        self, world: World
    ) -> None:
        contact = world.Contact(owner_id=1)
        world.session.add(contact)
        with world.session.begin_nested():
            world.session.delete(contact)
        world.session.commit()
        assert world.told() == []

    def test_a_transaction_committed_with_a_savepoint_open_is_told(self, world: World) -> None:
        contact = world.contact()
        world.session.remove()
        session = world.session()
        with session.begin():
            contact = session.get(world.Contact, 1)
            session.begin_nested()
            contact.name = "Grace"
        assert [told[0] for told in world.told()] == ["contact.update"]
        assert world.wakes == 1

    def test_a_flush_that_fails_in_a_savepoint_leaves_the_rest(self, world: World) -> None:
        world.contact(email="a@example.com")
        with pytest.raises(sa.exc.IntegrityError), world.session.begin_nested():
            world.session.add(world.Contact(owner_id=1, email="a@example.com"))
        world.session.add(world.Contact(owner_id=1, email="b@example.com"))
        world.session.commit()
        [event] = world.events()
        assert event.data["emailAddress"] == "b@example.com"


class TestTransactions:
    def test_a_rollback_leaves_nothing(self, world: World) -> None:
        contact = world.contact()
        contact.name = "Grace"
        world.session.flush()
        world.session.rollback()
        assert world.told() == []
        contact.score = 4
        world.session.commit()
        assert world.told() == [
            ("contact.update", "contact:1", {"score": 1, "double_score": 2, "version": 1})
        ]

    def test_two_commits_in_one_session_are_told_one_by_one(self, world: World) -> None:
        contact = world.contact()
        contact.score = 2
        world.session.commit()
        contact.score = 3
        world.session.commit()
        assert [event.previous["score"] for event in world.events()] == [1, 2]
        assert world.wakes == 2

    def test_a_begin_block_is_told_at_its_end(self, world: World) -> None:
        with world.session.begin():
            world.session.add(world.Contact(owner_id=1))
        assert world.told() == [created(1)]
        with pytest.raises(ZeroDivisionError), world.session.begin():
            world.session.add(world.Contact(owner_id=1))
            world.session.flush()
            1 / 0  # noqa: B018
        assert world.told() == []

    def test_a_session_closed_without_commit_leaves_nothing(self, world: World) -> None:
        world.session.add(world.Contact(owner_id=1))
        world.session.flush()
        world.session.close()
        world.session.commit()
        assert world.told() == []
        assert world.wakes == 0
        world.session.add(world.Contact(owner_id=1))
        world.session.commit()
        assert len(world.told()) == 1

    def test_an_empty_commit_is_told_to_nobody(self, world: World) -> None:
        assert count_statements(world, world.session.commit) == []
        assert world.wakes == 0

    def test_two_sessions_at_once_tell_each_its_own(self, world: World) -> None:
        world.contact()
        first, second = (world.session.session_factory() for _ in range(2))
        with first, second:
            # SQLite has one writer: the second one only reads until the first is done.
            seen = second.get(world.Contact, 1).name
            first.get(world.Contact, 1).name = "Grace"
            first.commit()
            second.rollback()
            second.get(world.Contact, 1).score = 3
            second.commit()
        assert seen == "Ada"
        one, two = world.events()
        assert one.previous == {"full_name": "Ada", "shout": "ADA", "version": 1}
        assert two.previous == {"score": 1, "double_score": 2, "version": 2}
        assert world.wakes == 2

    def test_writers_of_one_record_tell_a_chain_without_gaps(self, world: World) -> None:
        world.contact(score=0)

        def count_up() -> None:
            with world.app.app_context(), world.session.session_factory() as session:
                for _ in range(10):
                    session.execute(sa.update(world.Contact).values(score=world.Contact.score + 1))
                    session.commit()

        threads = [threading.Thread(target=count_up) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        steps = [(event.previous["score"], event.data["score"]) for event in world.events()]
        assert steps == [(score, score + 1) for score in range(30)]

    def test_the_hosts_objects_are_left_as_they_are(self, world: World) -> None:
        world.contact()
        world.session.remove()
        contact = world.session.get(world.Contact, 1)
        contact.name = "Grace"
        world.session.flush()
        before = (set(contact.__dict__), len(world.session().identity_map))
        world.listen(
            world.session().__class__,
            "after_commit",
            lambda session: seen.append((set(contact.__dict__), len(session.identity_map))),
        )
        seen: list[Any] = []
        world.session.commit()
        assert seen == [before]

    @pytest.mark.parametrize("expire", [True, False])
    def test_both_values_of_expire_on_commit(self, database_url: str, expire: bool) -> None:
        world = World(database_url, expire_on_commit=expire)
        contact = world.contact()
        assert ("name" in contact.__dict__) is not expire
        contact.name = "Grace"
        world.session.commit()
        [event] = world.events()
        assert event.previous["full_name"] == "Ada"
        world.close()

    def test_objects_are_not_kept_alive(self, world: World) -> None:
        contact = world.Contact(owner_id=1)
        world.session.add(contact)
        world.session.flush()
        del contact
        assert len(world.session().identity_map) == 0
        world.session.commit()
        assert world.told() == [created(1)]

    def test_a_wake_that_raises_does_not_reach_the_committer(
        self,
        world: World,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def fail() -> None:
            raise ConnectionError("no Redis")

        monkeypatch.setattr(world.capture, "_wake", fail)
        world.session.add(world.Contact(owner_id=1))
        world.session.commit()
        assert len(world.events()) == 1
        assert "no Redis" in caplog.text


class TestHostListeners:
    def test_a_before_commit_that_raises_leaves_nothing(self, world: World) -> None:
        with listening(world, "before_commit", lambda session: 1 / 0):
            world.session.add(world.Contact(owner_id=1))
            with pytest.raises(ZeroDivisionError):
                world.session.commit()
            world.session.rollback()
        world.session.add(world.Contact(owner_id=1, name="next"))
        world.session.commit()
        assert [event.data["full_name"] for event in world.events()] == ["next"]

    def test_a_commit_that_is_tried_again_tells_the_final_state(self, world: World) -> None:
        contact = world.contact()
        contact.name = "Grace"
        failing = listening(world, "before_commit", lambda session: 1 / 0)
        with failing, pytest.raises(ZeroDivisionError):
            world.session.commit()
        contact.name = "Edith"
        other = world.Contact(owner_id=1)
        world.session.add(other)
        world.session.commit()
        update, create = world.events()
        assert update.data["full_name"] == "Edith"
        assert update.previous["full_name"] == "Ada"
        assert create.type == "contact.create"
        assert world.wakes == 1

    def test_a_commit_tried_again_after_a_savepoint_was_rolled_back(self, world: World) -> None:
        contact = world.contact()
        contact.name = "Grace"
        failing = listening(world, "before_commit", lambda session: 1 / 0)
        with failing, pytest.raises(ZeroDivisionError):
            world.session.commit()
        savepoint = world.session.begin_nested()
        contact.name = "Edith"
        world.session.flush()
        savepoint.rollback()
        world.session.commit()
        assert [event.data["full_name"] for event in world.events()] == ["Grace"]

    def test_what_a_later_before_commit_changes_is_told(self, world: World) -> None:
        contact = world.contact()

        def stamp(session: Any) -> None:
            contact.name = "Stamped"

        with listening(world, "before_commit", stamp):
            contact.score = 2
            world.session.commit()
        [event] = world.events()
        assert event.data["full_name"] == "Stamped"
        assert {"full_name", "score"} <= set(event.previous)

    def test_what_a_later_before_commit_changes_alone_is_told(self, world: World) -> None:
        contact = world.contact()

        def stamp(session: Any) -> None:
            contact.name = "Stamped"

        with listening(world, "before_commit", stamp):
            world.session.commit()
        assert [event.data["full_name"] for event in world.events()] == ["Stamped"]
        assert world.wakes == 1

    def test_what_a_later_before_commit_restores_is_not_told(self, world: World) -> None:
        line = world.Line(order_id=1, position=1, amount=5)
        world.session.add(line)
        world.session.commit()
        world.events()
        world.wakes = 0

        def restore(session: Any) -> None:
            line.amount = 5

        with listening(world, "before_commit", restore):
            line.amount = 6
            world.session.commit()
        assert world.told() == []
        assert world.wakes == 0

    def test_a_bulk_statement_in_a_later_before_commit_is_told(self, world: World) -> None:
        world.contact()

        def stamp(session: Any) -> None:
            session.execute(sa.update(world.Contact).values(name="Stamped"))

        with listening(world, "before_commit", stamp):
            world.session.commit()
        assert [event.data["full_name"] for event in world.events()] == ["Stamped"]

    def test_what_before_flush_and_after_flush_change_is_told(self, world: World) -> None:
        world.contact()

        def before(session: Any, *rest: Any) -> None:
            for contact in session.query(world.Contact).filter_by(score=1):
                contact.score = 2

        def after(session: Any, *rest: Any) -> None:
            session.execute(sa.update(world.Contact).values(name="Stamped"))

        with listening(world, "before_flush", before), listening(world, "after_flush", after):
            world.session.add(world.Log(text="x"))
            world.session.commit()
        [event] = world.events()
        assert event.data["full_name"] == "Stamped"
        assert {"full_name", "score"} <= set(event.previous)


class TestErrors:
    def test_a_schema_that_raises_stops_the_commit(self, world: World) -> None:
        world.session.add(world.Contact(owner_id=1, name="unspeakable"))
        with pytest.raises(CaptureError, match=r"contact:1 .*'contact'.*not say") as caught:
            world.session.commit()
        assert isinstance(caught.value.__cause__, ValueError)
        world.session.rollback()
        assert world.session.query(world.Contact).count() == 0
        world.session.add(world.Contact(owner_id=1, name="Ada"))
        world.session.commit()
        assert len(world.events()) == 1

    def test_an_owner_that_raises_stops_the_commit(self, world: World) -> None:
        def owner(log: Any) -> Any:
            raise LookupError("nobody")

        world.track(
            world.Log, "log", world.capture._record_types._resources[world.Line].schema, owner
        )
        world.session.add(world.Log())
        with pytest.raises(CaptureError, match=r"log:1 .*nobody"):
            world.session.commit()
        world.session.rollback()

    def test_a_former_state_that_cannot_be_shown_stops_the_commit(self, world: World) -> None:
        contact = world.contact()
        with world.engine.begin() as connection:
            connection.execute(sa.text("UPDATE contact SET name = 'unspeakable'"))
        contact.name = "Ada"
        world.session.flush()
        with pytest.raises(CaptureError, match="contact:1"):
            world.session.commit()
        world.session.rollback()

    @pytest.mark.parametrize("how", ["nested schemas", "nested lists"])
    def test_what_is_nested_without_end_stops_the_commit(self, world: World, how: str) -> None:
        def nest(contact: Any) -> Any:
            found: Any = []
            for _ in range(100_000):
                found = [found]
            return found

        class Endless(ma.Schema):
            account = ma.fields.Nested(lambda: Around())

        class Around(ma.Schema):
            contacts = ma.fields.List(ma.fields.Nested(Endless))

        class Deep(ma.Schema):
            deep = ma.fields.Function(nest)

        world.retrack(world.Contact, schema=Deep() if how == "nested lists" else Endless())
        world.session.add(world.Contact(owner_id=1, account=world.Account()))
        with pytest.raises(CaptureError, match=r"contact:1 .*RecursionError"):
            world.session.commit()
        world.session.rollback()

    def test_a_failing_statement_in_a_schema_is_named_as_the_cause(self, world: World) -> None:
        def owner(log: Any) -> Any:
            return orm.object_session(log).scalar(sa.text("SELECT broken"))

        world.session.add(world.Log(text="a"))
        world.session.commit()
        world.track(
            world.Log, "log", world.capture._record_types._resources[world.Line].schema, owner
        )
        world.session.get(world.Log, 1).text = "b"
        with pytest.raises(CaptureError) as caught:
            world.session.flush()
        assert isinstance(caught.value.__cause__, sa.exc.DBAPIError)
        world.session.rollback()


class TestResources:
    def test_only_the_verbs_asked_for_are_told(self, world: World) -> None:
        schema = world.capture._record_types._resources[world.Line].schema
        world.track(world.Log, "log", schema, lambda log: 1, verbs=("create",))
        world.session.add(world.Log(text="a"))
        world.session.commit()
        assert [told[0] for told in world.told()] == ["log.create"]
        log = world.session.get(world.Log, 1)
        log.text = "b"
        world.session.commit()
        world.session.delete(log)
        world.session.flush()
        world.session.add(world.Log(id=1, text="c"))
        world.session.commit()
        world.session.execute(sa.delete(world.Log))
        world.session.commit()
        assert world.told() == []

    def test_a_model_is_tracked_once(self, world: World) -> None:
        before = world.capture._record_types._resources[world.Contact]
        with pytest.raises(ConfigurationError, match=r"Contact .*'contact'.*'person'"):
            world.capture.track(world.Contact, Resource("person", before.schema, "owner_id"))
        world.session.add(world.Contact(owner_id=1))
        world.session.commit()
        assert world.told() == [created(1)]

    def test_only_watched_attributes_make_an_update(self, world: World) -> None:
        world.retrack(world.Contact, watch=("secret", "account"))
        contact = world.contact(secret="a")
        contact.name = "Grace"
        world.session.commit()
        assert world.told() == []
        contact.secret = "b"
        world.session.commit()
        [event] = world.events()
        assert "secret" not in event.previous
        contact.account = world.Account(name="Acme")
        world.session.commit()
        assert [told[0] for told in world.told()] == ["account.create", "contact.update"]

    def test_an_owner_can_be_found_through_a_relationship(self, world: World) -> None:
        world.retrack(world.Contact, owner="account.id")
        world.session.add_all(
            [world.Contact(name="a", account=world.Account(id=9)), world.Contact(name="b")]
        )
        world.session.commit()
        assert [(e.type, e.owner) for e in world.events() if e.type == "contact.create"] == [
            ("contact.create", "9")
        ]

    def test_events_come_in_the_order_of_the_touches(self, world: World) -> None:
        world.session.add(world.Account(name="Acme"))
        world.session.flush()
        world.session.add(world.Contact(owner_id=1))
        world.session.flush()
        world.session.add(world.Account(name="Bolt"))
        world.session.commit()
        assert [event.resource for event in world.events()] == [
            "account:1",
            "contact:1",
            "account:2",
        ]

    def test_a_composite_key_is_joined(self, world: World) -> None:
        world.session.add(world.Line(order_id=3, position=7, amount=1))
        world.session.commit()
        assert world.told() == [("line.create", "line:3,7", None)]

    @pytest.mark.parametrize("shown", [(), ("position",)])
    def test_a_key_that_the_schema_does_not_show_is_not_told(
        self, world: World, shown: tuple[str, ...]
    ) -> None:
        schema = LineSchema(only=("amount", *shown))
        world.retrack(world.Line, schema=schema)
        world.event_types._types["line.update"] = EventType("line.update", schema)
        lines = [world.Line(order_id=771, position=n, amount=1) for n in (1, 2)]
        world.session.add_all(lines)
        world.session.commit()
        lines[0].amount = 2
        world.session.commit()
        world.capture.emit(world.session, "line.update", lines[1], 1)
        world.session.commit()
        one, two, one_again, two_again = [str(event.resource) for event in world.events()]
        assert (one, two) == (one_again, two_again)
        assert one != two
        assert re.fullmatch("line:[0-9a-f]{32}", one)

    def test_listening_twice_tells_once(self, world: World) -> None:
        world.capture.listen(world.session)
        world.capture.listen(world.session.session_factory)
        world.session.add(world.Contact(owner_id=1))
        world.session.commit()
        assert len(world.events()) == 1
        assert world.wakes == 1

    def test_a_session_that_nobody_listens_to_is_left_alone(self, world: World) -> None:
        with orm.Session(world.engine) as session:
            contact = world.Contact(owner_id=1)
            session.add(contact)
            session.commit()
            contact.name = "Grace"
            session.commit()
            assert session.info == {}
        assert world.told() == []

    def test_many_new_records_are_read_and_written_in_sets(self, world: World) -> None:
        world.session.add_all([world.Contact(owner_id=1, name=f"c{n}") for n in range(1000)])
        world.session.flush()
        statements = count_statements(world, world.session.commit)
        assert len(world.events()) == 1000
        assert len(statements) < 40


class TestUntracked:
    def test_nothing_is_executed_for_models_that_are_not_tracked(self, world: World) -> None:
        def work() -> None:
            log = world.Log(text="a")
            world.session.add(log)
            world.session.commit()
            log.text = "b"
            world.session.commit()
            world.session.execute(sa.update(world.Log).values(text="c"))
            world.session.execute(sa.insert(world.Log), [{"text": "x"}, {"text": "y"}])
            world.session.execute(sa.delete(world.Log))
            world.session.commit()

        with_capture = count_statements(world, work)
        world.session.remove()
        factory = orm.sessionmaker(world.engine)
        world.session.registry.registry.clear() if hasattr(
            world.session.registry, "registry"
        ) else None
        with factory() as plain:
            log = world.Log(text="a")

            def bare() -> None:
                plain.add(log)
                plain.commit()
                log.text = "b"
                plain.commit()
                plain.execute(sa.update(world.Log).values(text="c"))
                plain.execute(sa.insert(world.Log), [{"text": "x"}, {"text": "y"}])
                plain.execute(sa.delete(world.Log))
                plain.commit()

            assert len(with_capture) == len(count_statements(world, bare))
        assert world.told() == []


class TestEmit:
    def test_a_mapping_is_sent_as_it_is(self, world: World) -> None:
        event_id = world.capture.emit(world.session, "contact.update", {"any": 1}, 5)
        assert event_id.startswith("evt_")
        assert world.told() == []
        world.session.commit()
        [event] = world.events()
        assert (event.type, event.owner, event.data) == ("contact.update", "5", {"any": 1})
        assert event.resource is None
        assert world.wakes == 1

    def test_a_record_is_represented_by_the_event_types_schema(self, world: World) -> None:
        contact = world.Contact(owner_id=1, name="Ada")
        world.session.add(contact)
        world.capture.emit(world.session(), "contact.update", contact, 1)
        world.session.commit()
        emitted, captured = world.events()
        assert (emitted.resource, emitted.data["id"]) == ("contact:1", 1)
        assert captured.type == "contact.create"
        assert world.wakes == 1

    def test_a_rollback_takes_it_back(self, world: World) -> None:
        world.capture.emit(world.session, "contact.update", {}, 5)
        world.session.rollback()
        world.session.commit()
        assert world.events() == []
        assert world.wakes == 0

    def test_a_savepoints_rollback_takes_it_back(self, world: World) -> None:
        world.capture.emit(world.session, "contact.update", {"kept": True}, 5)
        savepoint = world.session.begin_nested()
        world.capture.emit(world.session, "contact.update", {"kept": False}, 5)
        savepoint.rollback()
        world.session.commit()
        assert [event.data for event in world.events()] == [{"kept": True}]
        assert world.wakes == 1
        savepoint = world.session.begin_nested()
        world.capture.emit(world.session, "contact.update", {"kept": False}, 5)
        savepoint.rollback()
        world.session.commit()
        assert world.events() == []
        assert world.wakes == 1

    def test_many_are_looked_for_in_chunks(self, world: World) -> None:
        for number in range(1100):
            world.capture.emit(world.session, "contact.update", {"n": number}, 5)
        savepoint = world.session.begin_nested()
        world.capture.emit(world.session, "contact.update", {}, 5)
        savepoint.rollback()
        parameters: list[int] = []
        world.listen(
            world.engine, "before_cursor_execute", lambda *args: parameters.append(len(args[3]))
        )
        world.session.commit()
        assert max(parameters) <= 500
        assert len(world.events()) == 1100
        assert world.wakes == 1

    def test_an_unknown_event_type_is_refused(self, world: World) -> None:
        with pytest.raises(UnknownEventType, match=r"contact\.create"):
            world.capture.emit(world.session, "contact.gone", {}, 5)

    def test_what_cannot_be_sent_is_refused(self, world: World) -> None:
        with pytest.raises(CaptureError, match=r"contact\.update"):
            world.capture.emit(world.session, "contact.update", {"x": object()}, 5)
        with pytest.raises(CaptureError, match="owner"):
            world.capture.emit(world.session, "contact.update", {}, None)


class listening:
    """A host's own session listener, registered after capture's."""

    def __init__(self, world: World, name: str, listener: Any) -> None:
        self.args = (world.session, name, listener)

    def __enter__(self) -> None:
        sa.event.listen(*self.args)

    def __exit__(self, *error: object) -> None:
        sa.event.remove(*self.args)
