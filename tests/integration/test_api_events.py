"""The log of events: what a receiver polls instead of being called."""

from __future__ import annotations

import datetime as dt
import threading
import time
from typing import Any

import sqlalchemy as sa
from api_host import Host, host

from flask_resthooks import ids, models
from flask_resthooks.authorization import Authorization
from flask_resthooks.event_types import EventType
from flask_resthooks.outbox import Outbox


def row(type_: str = "contact.create", owner: str = "acme", **values: Any) -> dict[str, Any]:
    return {
        "id": ids.new(ids.EVENT),
        "type": type_,
        "owner": owner,
        "created_at": models.utcnow(),
        "data": '{"name":"Ada"}',
        **values,
    }


def happen(acme: Host, *rows: dict[str, Any]) -> list[str]:
    for one in rows:
        acme.execute(acme.tables.event.insert(), one)
    return [one["id"] for one in rows]


def listed(acme: Host, query: str = "") -> list[str]:
    answer = acme.call("GET", f"/events{query}")
    assert answer.status_code == 200, answer.text
    return [entry["id"] for entry in answer.json["data"]]


def test_it_tells_what_a_hook_would_tell(acme: Host) -> None:
    update = row("contact.update", resource="contact:1", url="https://x/1", previous='{"name":"B"}')
    happen(acme, update, row())
    first, second = acme.call("GET", "/events").json["data"]
    assert second.keys() == {
        *("id", "type", "timestamp", "sequence", "resource", "url", "data", "previous"),
    }
    assert second["data"] == {"name": "Ada"}
    assert second["previous"] == {"name": "B"}
    assert second["resource"] == "contact:1"
    assert "previous" not in first
    assert acme.call("GET", f"/events/{update['id']}").json == second


def outbox_of(acme: Host) -> Outbox:
    with acme.app.app_context():
        return Outbox(acme.db.engine, acme.tables)


def test_it_is_there_before_any_worker_has_run_and_a_worker_sends_it_once(acme: Host) -> None:
    acme.subscribe()
    made = happen(acme, *[row() for _ in range(3)])
    assert listed(acme) == made[::-1]
    assert acme.rows(acme.tables.delivery) == []  # a reader makes no deliveries, however many
    places = {one["id"]: one["position"] for one in acme.rows(acme.tables.event)}
    more = happen(acme, row())
    assert outbox_of(acme).fan_out(10) == (4, 4)
    after = {one["id"]: one["position"] for one in acme.rows(acme.tables.event)}
    assert {id_: after[id_] for id_ in places} == places
    assert listed(acme, f"?after={made[2]}") == more


def test_a_reader_gives_places_to_its_own_events_alone(acme: Host) -> None:
    mine, other = happen(acme, row(), row(owner="other"))
    assert listed(acme) == [mine]
    places = {one["id"]: one["position"] for one in acme.rows(acme.tables.event)}
    assert places[other] is None


def test_a_reader_needs_no_second_connection(postgresql_url: str) -> None:
    """The pool of the host's may have one, which its owner loader has taken."""
    options = {"SQLALCHEMY_ENGINE_OPTIONS": {"pool_size": 1, "max_overflow": 0, "pool_timeout": 1}}
    made: list[Host] = []

    def owner() -> str:
        made[0].db.session.execute(sa.text("SELECT 1"))
        return "acme"

    with host(postgresql_url, config=options, owner=owner) as acme:
        made.append(acme)
        happen(acme, event := row())
        assert listed(acme) == [event["id"]]


def test_pages_and_polling_walk_through_all_of_it(acme: Host) -> None:
    made = happen(acme, *[row() for _ in range(7)])
    pages = []
    query = "?limit=3"
    while True:
        answer = acme.call("GET", f"/events{query}").json
        pages += [entry["id"] for entry in answer["data"]]
        if answer["next_cursor"] is None:
            break
        query = f"?limit=3&cursor={answer['next_cursor']}"
    assert pages == made[::-1]
    assert listed(acme, f"?after={made[2]}") == made[3:]
    assert listed(acme, f"?after={made[6]}") == []
    answer = acme.call("GET", f"/events?limit=2&after={made[0]}").json
    assert [entry["id"] for entry in answer["data"]] == made[1:3]
    rest = acme.call("GET", f"/events?limit=9&after={made[0]}&cursor={answer['next_cursor']}").json
    assert [entry["id"] for entry in rest["data"]] == made[3:]


def test_filters_narrow_it_down(acme: Host) -> None:
    now = models.utcnow()
    old = row("contact.create", created_at=now - dt.timedelta(hours=2), resource="contact:1")
    new = row("invoice.paid", created_at=now, resource="invoice:1")
    happen(acme, old, new)
    between = (now - dt.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert listed(acme, "?type=invoice.paid") == [new["id"]]
    assert listed(acme, "?resource=contact:1") == [old["id"]]
    assert listed(acme, f"?since={between}") == [new["id"]]
    assert listed(acme, f"?until={between}") == [old["id"]]
    for query in ("since=yesterday", "after=evt_1", "cursor=x", "limit=0"):
        assert acme.call("GET", f"/events?{query}").status_code == 422
    gone = ids.new(ids.EVENT)
    assert acme.call("GET", f"/events?after={gone}").json["errors"]["after"]


def test_tests_and_handshakes_are_not_in_it(acme: Host) -> None:
    subscription = acme.subscribe()["id"]
    assert acme.call("POST", f"/subscriptions/{subscription}/ping").status_code == 202
    [ping] = acme.rows(acme.tables.event)
    assert listed(acme) == []
    assert acme.call("GET", f"/events/{ping['id']}").status_code == 404


def test_what_an_owner_does_not_see_is_not_in_it(database_url: str) -> None:
    with host(database_url) as acme:
        acme.event_types.add(EventType("beta.began", visible_to=lambda owner: owner == "other"))
        acme.event_types.add(EventType("inner.happened", public=False))
        acme.subscribe(events=["*"])
        made = happen(acme, row("beta.began"), row("inner.happened"), row(), row("is.gone"))
        assert listed(acme) == [made[2]]
        with acme.app.app_context():
            app: Any = acme.app
            sight = Authorization(app, acme.event_types).sight
        outbox_of(acme).fan_out(10, sight=sight)
        assert acme.call("GET", f"/events/{made[0]}").status_code == 404
        told = {one["event_type"] for one in acme.rows(acme.tables.delivery)}
        assert told == {"contact.create", "is.gone"}


def test_an_event_that_is_committed_late_with_an_early_number_is_not_skipped(
    postgresql_url: str,
) -> None:
    """Two transactions, interleaved: the one that began first commits last."""
    with host(postgresql_url) as acme, acme.app.app_context():
        engine, table = acme.db.engine, acme.tables.event
        early, late = row(), row()
        with engine.connect() as slow:
            begun = slow.begin()
            slow.execute(table.insert(), early)  # has the smaller number, and the smaller id
            late["id"] = ids.new(ids.EVENT, time.time() + 1)
            happen(acme, late)
            seen = listed(acme)
            assert seen == [late["id"]]
            begun.commit()
        assert listed(acme, f"?after={late['id']}") == [early["id"]]
        assert listed(acme) == [early["id"], late["id"]]
        found = {one["id"]: one for one in acme.rows(table)}
        assert found[early["id"]]["sequence"] < found[late["id"]]["sequence"]
        assert early["id"] < late["id"]


def test_a_poller_beside_many_writers_misses_nothing_and_sees_nothing_twice(
    postgresql_url: str,
) -> None:
    with host(postgresql_url) as acme, acme.app.app_context():
        engine, table = acme.db.engine, acme.tables.event
        committed: list[str] = []
        writing = threading.Event()

        def write(number: int) -> None:
            for turn in range(25):
                made = [row() for _ in range(1 + (number + turn) % 3)]
                with engine.begin() as connection:
                    connection.execute(table.insert(), made)
                    writing.wait(0.002 * ((number * 7 + turn) % 4))
                committed.extend(one["id"] for one in made)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        happen(acme, first := row(created_at=models.utcnow()))
        seen = [first["id"]]
        assert listed(acme) == seen
        for thread in threads:
            thread.start()
        for _ in range(1000):
            going_on = any(thread.is_alive() for thread in threads)
            new = listed(acme, f"?limit=7&after={seen[-1]}")
            seen += new
            if not going_on and not new:
                break
        for thread in threads:
            thread.join()
        assert len(seen) == len(set(seen))
        assert set(seen) == {first["id"], *committed}


def test_what_an_owner_may_not_see_any_more_is_not_shown(database_url: str) -> None:
    def permits(owner: str, event: Any) -> bool:
        return owner == "acme" and event.resource != "contact:2"

    with host(database_url, permits=permits) as acme:
        made = happen(acme, *[row(resource=f"contact:{number}") for number in (1, 2, 3)])
        assert listed(acme) == [made[2], made[0]]
        assert acme.call("GET", f"/events/{made[1]}").status_code == 404
        samples = acme.call("GET", "/event-types/contact.create/sample").json
        assert [sample["id"] for sample in samples] == [made[2], made[0]]
        # A page may be shorter; it goes on all the same.
        page = acme.call("GET", "/events?limit=2").json
        assert [entry["id"] for entry in page["data"]] == [made[2]]
        rest = acme.call("GET", f"/events?limit=2&cursor={page['next_cursor']}").json
        assert [entry["id"] for entry in rest["data"]] == [made[0]]


def test_a_type_that_became_thin_tells_no_more_of_what_was_before(fresh: Host) -> None:
    fresh.event_types.add(EventType("note.create", payload="thin"))
    happen(fresh, row("note.create", resource="note:1", previous='{"name":"B"}'))
    [entry] = fresh.call("GET", "/events").json["data"]
    assert entry["data"] == {"resource": "note:1", "url": None}
    assert "previous" not in entry
