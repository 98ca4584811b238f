"""`RESTHOOKS_PAYLOAD_LIMIT`: what is too long is sent in the thin form, marked, and never lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from api_host import Host
from capture_world import World as CaptureWorld
from engine import Engine
from servers import Inbox, Request
from sqlalchemy import orm
from world import START, World

from flask_resthooks import formats, ids, receiver, signing
from flask_resthooks.capture import Capture
from flask_resthooks.errors import CaptureError
from flask_resthooks.event_types import EventType, EventTypes
from flask_resthooks.receiver.events import HEADERS, event_of

LIMIT = 2000
URL = "https://app.example.com/contacts/17"
THIN = {"resource": "contact:17", "url": URL}


@pytest.fixture
def quiet(sqlite_url: str) -> Iterator[World]:
    made = World(sqlite_url)
    yield made
    made.engine.dispose()


def drain(world: World, payload_limit: int = LIMIT) -> None:
    engine = Engine(world, payload_limit=payload_limit)
    try:
        engine.run()
    finally:
        engine.transport.close()


def happen(world: World, data: Any, type_: str = "contact.update", **columns: Any) -> str:
    row = {
        **world.event_row(type_),
        "data": formats.to_json(data),
        "previous": formats.to_json({"name": "Eva"}),
        "resource": "contact:17",
        "url": URL,
        **columns,
    }
    with world.engine.begin() as connection:
        connection.execute(world.tables.event.insert(), row)
    return str(row["id"])


def received(request: Request) -> receiver.Event:
    """As a receiver of this package understands it, its signature verified."""
    return event_of(
        request.body, {name: request.headers[name] for name in HEADERS if name in request.headers}
    )


def sized(length: int, format: str, subscription: tuple[str, str]) -> Any:
    """The data of an event whose body has that many bytes in that format."""
    event = formats.Event(
        id=ids.new(ids.EVENT),
        type="contact.update",
        timestamp=START,
        sequence=1,  # and up to 9: as long
        data=formats.to_json({"note": ""}),
        previous=formats.to_json({"name": "Eva"}),
        resource="contact:17",
        url=URL,
    )
    made = formats.body(event, formats.Recipient(*subscription, format), source="/api/v1")
    return {"note": "x" * (length - len(made))}


@pytest.mark.parametrize("format", formats.NAMES)
def test_a_body_of_the_limit_is_sent_in_full_and_one_byte_more_in_the_thin_form(
    quiet: World, inbox: Inbox, format: str
) -> None:
    secret = signing.new_secret()
    id_ = quiet.subscribe("*", target_url=inbox.url("/x"), format=format, secret=secret)
    data = {
        length: sized(length, format, (id_, inbox.url("/x")))
        for length in (LIMIT - 1, LIMIT, LIMIT + 1)
    }
    sent = {happen(quiet, data[length]): length for length in data}
    drain(quiet)
    came = {request.headers["webhook-id"]: request for request in inbox.requests}
    assert len(inbox.requests) == 3 and came.keys() == sent.keys()
    for event_id, length in sent.items():
        request = came[event_id]
        signing.verify(secret, request.headers, request.body, now=quiet.now.timestamp())
        event = received(request)
        if length <= LIMIT:
            assert len(request.body) == length
            assert (event.payload, event.data) == ("full", data[length])
            assert "x-hook-payload" not in request.headers
        else:
            assert len(request.body) < LIMIT
            assert (event.payload, event.data, event.previous) == ("thin", THIN, None)
            assert request.headers["x-hook-payload"] == "thin"
    assert {row.status for row in quiet.deliveries()} == {"delivered"}


def test_who_has_room_gets_it_in_full_and_the_others_thin(quiet: World, inbox: Inbox) -> None:
    """One event, four formats: their envelopes are of different lengths."""
    for format in formats.NAMES:
        quiet.subscribe("*", target_url=inbox.url(f"/{format}"), format=format)
    happen(quiet, {"note": "x" * (LIMIT - 150)})
    drain(quiet)
    payloads = {request.path[1:]: received(request).payload for request in inbox.requests}
    assert payloads == {
        "bare": "full",
        "standard": "thin",
        "resthooks": "thin",
        "cloudevents": "thin",
    }


def test_a_url_without_end_is_left_out_and_the_hook_arrives(quiet: World, inbox: Inbox) -> None:
    quiet.subscribe("*", target_url=inbox.url())
    happen(quiet, {"note": "x" * LIMIT}, url="https://app.example.com/" + "x" * 100_000)
    drain(quiet)
    [request] = inbox.requests
    event = received(request)
    assert (event.payload, event.data) == ("thin", {"resource": "contact:17", "url": None})


def test_what_we_say_ourselves_is_never_thin(quiet: World, inbox: Inbox) -> None:
    quiet.subscribe("*", target_url=inbox.url(), payload="thin")
    data = {"subscription": {"events": ["x" * 100] * 50}}
    happen(quiet, data, "resthooks.expired", previous=None)
    with quiet.engine.begin() as connection:
        # It comes to whoever it is about, without being asked for.
        table = quiet.tables.subscription_event
        connection.execute(table.update().values(pattern="resthooks.expired"))
    drain(quiet)
    [request] = inbox.requests
    assert received(request).data == data
    assert "x-hook-payload" not in request.headers


def test_where_a_thin_hook_sends_its_receiver_the_whole_record_is(quick: Host) -> None:
    note = "x" * 300_000
    [event_id] = quick.events(1, data=json.dumps({"note": note}), previous=json.dumps({"a": 1}))
    shown = quick.call("GET", f"/events/{event_id}").json
    assert (shown["data"], shown["previous"]) == ({"note": note}, {"a": 1})
    [listed] = quick.call("GET", "/events").json["data"]
    assert listed == shown


# What is kept.

ENORMOUS = "x" * formats.MAX_DATA


@pytest.fixture
def shop(sqlite_url: str) -> Iterator[CaptureWorld]:
    made = CaptureWorld(sqlite_url)
    yield made
    made.close()


def test_of_an_enormous_record_the_thin_form_is_kept_and_the_commit_succeeds(
    shop: CaptureWorld,
) -> None:
    contact = shop.Contact(owner_id=1, name=ENORMOUS)
    shop.session.add(contact)
    shop.session.commit()
    [event] = shop.events()
    assert (event.type, event.data) == (
        "contact.create",
        {"resource": event.resource, "url": None},
    )
    contact.name = "Ada"
    shop.session.commit()
    [event] = shop.events()
    # What it was before is more than can be told of; what it is now is not.
    assert (event.type, event.data["full_name"], event.previous) == ("contact.update", "Ada", None)
    contact.name = ENORMOUS[1:] + "y"
    shop.session.commit()
    [event] = shop.events()
    assert (event.data, event.previous) == ({"resource": event.resource, "url": None}, None)
    shop.session.delete(contact)
    shop.session.commit()
    [event] = shop.events()
    assert (event.type, event.data) == (
        "contact.delete",
        {"resource": event.resource, "url": None},
    )


def test_an_enormous_event_that_is_emitted_is_kept_thin_and_sent_so(
    database_url: str, inbox: Inbox
) -> None:
    world = World(database_url)
    capture = emitter(world)
    session = orm.Session(world.engine)
    for length in (len(ENORMOUS), len(ENORMOUS) - len('{"note":""}')):
        capture.emit(
            session, "note.written", {"note": ENORMOUS[:length]}, 1, resource="note:1", url="/n/1"
        )
    session.commit()
    session.close()
    with world.engine.connect() as connection:
        event = world.tables.event
        lengths = connection.scalars(
            sa.select(sa.func.length(event.c.data)).order_by(event.c.sequence)
        ).all()
    assert lengths == [len('{"resource":"note:1","url":"/n/1"}'), formats.MAX_DATA]
    world.subscribe("*", target_url=inbox.url())
    drain(world)
    told = [received(request) for request in inbox.requests]
    assert [(event.payload, event.data) for event in told] == [
        ("thin", {"resource": "note:1", "url": "/n/1"})
    ] * 2
    world.engine.dispose()


def emitter(world: World) -> Capture:
    types = EventTypes()
    types.add(EventType("note.written"))
    return Capture(world.tables, types, lambda: None)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"resource": "x" * 256}, "its resource has 256 characters; 255 are allowed"),
        ({"resource": "a\0"}, "its resource holds a NUL"),
        ({"url": "/\ud800"}, "its URL holds a NUL or half of a surrogate pair"),
        ({"url": b"/"}, "its URL is no text but a bytes"),
        ({"resource": 17}, "its resource is no text but a int"),
        ({"owner": "a\0"}, "its owner holds a NUL"),
    ],
)
def test_what_no_database_would_take_is_said_before_the_commit(
    quiet: World, names: dict[str, Any], message: str
) -> None:
    with orm.Session(quiet.engine) as session, pytest.raises(CaptureError, match=message):
        emitter(quiet).emit(session, "note.written", {}, **{"owner": 1, **names})


def test_a_resource_as_long_as_the_column_is_kept_and_sent(world: World, inbox: Inbox) -> None:
    with orm.Session(world.engine) as session:
        emitter(world).emit(session, "note.written", {}, 1, resource="\u20ac" * 255)
        session.commit()
    world.subscribe("*", target_url=inbox.url(), payload="thin", format="cloudevents")
    drain(world, payload_limit=1024)
    [request] = inbox.requests
    assert json.loads(request.body)["subject"] == "\u20ac" * 255


def test_a_page_of_the_log_ends_before_it_is_enormous(acme: Host) -> None:
    half = json.dumps({"note": "x" * (formats.MAX_DATA // 2)})
    ids_ = acme.events(1) + acme.events(2, data=half, position=2) + acme.events(1, position=4)
    acme.execute(
        acme.tables.event.update().where(acme.tables.event.c.id == ids_[2]).values(position=3)
    )
    pages, cursor = [], ""
    while cursor is not None:
        answer = acme.call("GET", f"/events?limit=3{cursor and '&cursor='}{cursor}").json
        pages.append([entry["id"] for entry in answer["data"]])
        cursor = answer["next_cursor"]
    assert pages == [[ids_[3], ids_[2]], [ids_[1], ids_[0]]]
