"""The whole of it in one process: hooks decorators, commands and signals of a real app."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from typing import Any

import flask
import marshmallow as ma
import pytest
from servers import Inbox
from whole_app import WholeApp

from flask_resthooks import signals
from flask_resthooks.authorization import Event
from flask_resthooks.errors import ConfigurationError
from flask_resthooks.vault import make_key


class ThingSchema(ma.Schema):
    id = ma.fields.Integer()
    name = ma.fields.String()


class World(WholeApp):
    """With one tracked model."""

    def __init__(self, url: str, redis_url: str, **config: Any) -> None:
        super().__init__(url, redis_url, **config)

        @self.hooks.resource(
            "thing",
            schema=ThingSchema,
            owner="owner",
            url=lambda thing: f"https://app.example.com/things/{thing.id}",
        )
        class Thing(self.db.Model):  # type: ignore[name-defined, misc]
            id = self.db.Column(self.db.Integer, primary_key=True)
            owner = self.db.Column(self.db.String(10))
            name = self.db.Column(self.db.String(100))

        self.Thing = Thing

    def create(self, **values: Any) -> None:
        with self.app.app_context():
            self.db.session.add(self.Thing(**{"owner": "1", "name": "a", **values}))
            self.db.session.commit()


@pytest.fixture
def world(database_url: str, redis_url: str) -> Iterator[World]:
    made = World(database_url, redis_url)
    yield made
    made.close()


def test_the_app_is_asked_for_the_owners_right_in_its_own_context(
    world: World, inbox: Inbox
) -> None:
    asked: list[tuple[str, Event, str]] = []

    @world.hooks.authorize
    def may_see(owner: str, event: Event) -> bool:
        asked.append((owner, event, flask.current_app.name))
        thing = world.db.session.get(world.Thing, event.data["id"])
        return thing is not None and thing.name != "secret"

    world.start()
    world.subscribe(inbox.url())
    world.create(name="public")
    world.create(name="secret")
    world.drain()
    assert len(inbox.requests) == 1
    assert [(owner, event.type, name) for owner, event, name in asked] == [
        ("1", "thing.create", "world")
    ] * 2
    event = asked[0][1]
    assert event.resource == "thing:1"
    assert event.url == "https://app.example.com/things/1"
    assert event.previous is None
    assert event.data == {"id": 1, "name": "public"}
    assert len(world.call("GET", "/events").json["data"]) == 1


def test_a_thin_type_never_tells_or_keeps_more(
    database_url: str, redis_url: str, inbox: Inbox
) -> None:
    world = World(database_url, redis_url)

    @world.hooks.resource("note", schema=ThingSchema, owner="owner", payload="thin")
    class Note(world.db.Model):  # type: ignore[name-defined, misc]
        id = world.db.Column(world.db.Integer, primary_key=True)
        owner = world.db.Column(world.db.String(10))
        name = world.db.Column(world.db.String(100))

    world.hooks.event_type("note.read", payload="thin")
    world.start()
    try:
        world.subscribe(inbox.url())
        with world.app.app_context():
            note = Note(owner="1", name="confidential")
            world.db.session.add(note)
            world.db.session.commit()
            note.name = "confidential, too"
            world.db.session.commit()
            world.hooks.emit(
                "note.read", {"by": "confidential"}, owner="1", resource="note:1", url="https://x/1"
            )
            world.db.session.commit()
            event = world.hooks.tables.event
            stored = [dict(row) for row in world.db.session.execute(event.select()).mappings()]
        world.drain()
        assert len(inbox.requests) == 3
        assert not any(b"confidential" in request.body for request in inbox.requests)
        assert not any("confidential" in str(row) for row in stored)
        assert all(row["previous"] is None for row in stored)
    finally:
        world.close()


def test_signals_tell_of_an_incident_once(world: World, inbox: Inbox) -> None:
    world.app.config["RESTHOOKS_DISABLE_AFTER"] = 1
    world.start()
    heard: list[tuple[str, dict[str, Any]]] = []

    def listener(name: str) -> Any:
        def listen(app: flask.Flask, **facts: Any) -> None:
            assert app is world.app
            heard.append((name, facts))

        return listen

    names = ("delivery_failed", "subscription_disabled", "subscription_recovered")
    listeners = {name: listener(name) for name in names}
    for name, listen in listeners.items():
        getattr(signals, name).connect(listen)
    made = world.subscribe(inbox.url())
    inbox.answer = lambda request: 500
    world.create()
    world.drain()
    assert [name for name, _ in heard] == ["delivery_failed"]
    assert heard[0][1]["subscription_id"] == made["id"]
    time.sleep(1.1)
    world.create()
    world.drain()
    assert [name for name, _ in heard[1:]] == ["delivery_failed", "subscription_disabled"]
    path = f"/subscriptions/{made['id']}"
    assert world.call("GET", path).json["disabled_reason"] == heard[2][1]["reason"]
    inbox.answer = lambda request: 200
    assert world.call("PATCH", path, {"active": True}).json["status"] == "active"
    for _ in range(2):
        world.create()
        world.drain()
    assert [name for name, _ in heard[3:]] == ["subscription_recovered"]
    assert heard[3][1]["since"] <= dt.datetime.now(dt.timezone.utc)


def test_an_app_registers_a_way_of_its_own_to_ask_for_intent(
    sqlite_url: str, redis_url: str, inbox: Inbox
) -> None:
    from flask_resthooks.intents import Handshake, Opening, Verdict

    class Telephone:
        def opening(self, handshake: Handshake) -> Opening:
            return Opening(headers={"x-call": handshake.secret})

        def judge(self, handshake: Handshake, status: int, headers: Any) -> Verdict:
            return Verdict(status == 202)

    world = World(sqlite_url, redis_url, RESTHOOKS_INTENT="telephone")
    with pytest.raises(ConfigurationError, match="RESTHOOKS_INTENT"):
        world.hooks.init_app(world.app)
    world.hooks.intent("telephone", Telephone())
    with pytest.raises(ConfigurationError, match="registered already"):
        world.hooks.intent("ping", Telephone())
    world.start()
    try:
        made = world.subscribe(inbox.url())
        inbox.answer = lambda request: 202
        world.drain()
        assert inbox.requests[0].headers["x-call"]
        assert world.call("GET", f"/subscriptions/{made['id']}").json["status"] == "active"
    finally:
        world.close()


def test_commands_list_subscriptions_and_recover_what_they_missed(
    world: World, inbox: Inbox
) -> None:
    world.start()
    inbox.answer = lambda request: 500
    made = world.subscribe(inbox.url())
    world.create()
    world.drain()
    listed = world.command("subscriptions")
    assert listed.exit_code == 0
    assert listed.output.split("\t")[:4] == [made["id"], "1", "active", "*"]
    assert world.command("subscriptions", "--owner", "2").output == ""
    assert world.command("subscriptions", "--status", "disabled").output == ""
    inbox.answer = lambda request: 200
    done = world.command("recover", made["id"], "--since", made["created_at"])
    assert done.exit_code == 0, done.output
    assert done.output.startswith("rec_")
    twice = world.command("recover", made["id"], "--since", made["created_at"])
    assert twice.exit_code != 0 and "going on" in twice.output
    world.drain()
    assert len(inbox.requests) == 2
    assert world.command("recover", "sub_none", "--since", made["created_at"]).exit_code != 0
    assert world.command("recover", made["id"], "--since", "yesterday").exit_code != 0
    world.call("PATCH", f"/subscriptions/{made['id']}", {"active": False})
    paused = world.command("recover", made["id"], "--since", made["created_at"])
    assert paused.exit_code != 0 and "inactive" in paused.output


def test_keys_are_set_replaced_and_missed(database_url: str, redis_url: str, inbox: Inbox) -> None:
    first, second = make_key(), make_key()

    def with_keys(*keys: str) -> World:
        made = World(database_url, redis_url, RESTHOOKS_ENCRYPTION_KEYS=list(keys))
        made.start()
        return made

    plain = with_keys()
    made = plain.subscribe(inbox.url(), headers={"X-Team": "crm"})
    path = f"/subscriptions/{made['id']}/secret"
    old = made["secret"]
    assert plain.command("re-encrypt").exit_code != 0
    plain.close()

    sealed = with_keys(first)
    done = sealed.command("re-encrypt")
    assert (done.exit_code, done.output.split()[0]) == (0, "1")
    assert sealed.call("GET", path).json["secret"] == old
    new = sealed.call("POST", f"{path}/rotate", {"overlap": 3600}).json["secret"]
    sealed.close()

    both = with_keys(second, first)
    assert both.command("re-encrypt").exit_code == 0
    both.close()

    rotated = with_keys(second)
    assert rotated.call("GET", path).json["secret"] == new
    rotated.create()
    rotated.drain()
    (hook,) = inbox.requests
    assert hook.headers["x-team"] == "crm"
    for secret in (old, new):
        inbox.verify(hook, secret)
    rotated.close()

    lost = with_keys(first)
    lost.create()
    refused = lost.command("re-encrypt")
    assert refused.exit_code != 0
    assert "RESTHOOKS_ENCRYPTION_KEYS" in refused.output
    for command in (("worker", "--burst"),):
        failed = lost.command(*command)
        assert failed.exit_code != 0
        assert "RESTHOOKS_ENCRYPTION_KEYS" in failed.output
    assert len(inbox.requests) == 1
    lost.close()


def test_without_an_api_of_its_own_the_app_has_a_document_beside_the_routes(
    sqlite_url: str, redis_url: str
) -> None:
    from openapi_spec_validator import OpenAPIV31SpecValidator

    world = World(sqlite_url, redis_url)
    world.start()
    world.hooks.event_type("later.registered", description="After init_app.")
    try:
        document = world.app.test_client().get("/api/v1/openapi.json").json
        assert document["openapi"] == "3.1.0"
        assert {"thing.create", "later.registered"} <= document["webhooks"].keys()
        OpenAPIV31SpecValidator(document).validate()
    finally:
        world.close()
