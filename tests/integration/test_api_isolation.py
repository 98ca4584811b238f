"""Owners see and touch only what is theirs: asked of every rule in the app's url_map.

The rules are found, not listed: a new route is asked, too, and one with a parameter that is not
known here fails until it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from api_host import Host
from werkzeug.routing import Rule

BODIES: dict[str, Any] = {
    "subscription": {"target_url": "https://hooks.example.com/b", "events": ["*"]},
    "change": {"active": False},
    "recover": {"since": "2020-01-01T00:00:00Z"},
    "rotate": {},
    "ping": {},
    "resend": None,
    "confirm": {"secret": "guessed"},
}

NOBODYS = {"name"}
"""Parameters that name something that is nobody's: event types."""

PUBLIC = {"resthooks.Confirmation"}
"""Endpoints that need no owner: whoever knows the secret may call them."""


def belongings(acme: Host) -> dict[str, str]:
    """One of everything of the owner A's, by the name of the path's parameter."""
    acme.owner = "a"
    subscription = acme.subscribe(metadata={"note": "a's own"})["id"]
    [event] = acme.events(1, owner="a", data='{"name": "a\'s own"}')
    [delivery] = acme.deliveries(subscription, 1, owner="a", event_id=event, status="failed")
    acme.attempts(delivery, 1)
    going_on = {"status": "running", "finished_at": None, "owner": "a"}
    [recovery] = acme.recoveries(subscription, 1, **going_on)
    return {
        "subscription_id": subscription,
        "delivery_id": delivery,
        "event_id": event,
        "recovery_id": recovery,
        "name": "contact.create",
    }


def rules(acme: Host) -> list[Rule]:
    found = [rule for rule in acme.app.url_map.iter_rules() if rule.rule.startswith(acme.prefix)]
    assert len(found) >= 17
    return found


def methods(acme: Host, rule: Rule) -> set[str]:
    view: Any = acme.app.view_functions[rule.endpoint]
    return set(view.view_class.methods)


def requests(acme: Host) -> Iterator[tuple[Rule, str, Any]]:
    for rule in rules(acme):
        for method in sorted(methods(acme, rule)):
            last = rule.rule.rpartition("/")[2]
            body = None
            if method in ("POST", "PUT"):
                body = BODIES[
                    "subscription" if last in ("subscriptions", "<subscription_id>") else last
                ]
            elif method == "PATCH":
                body = BODIES["change"]
            yield rule, method, body


def path_of(acme: Host, rule: Rule, theirs: dict[str, str]) -> str:
    with acme.app.test_request_context():
        values = {name: theirs[name] for name in rule.arguments}
        made: str = acme.app.url_map.bind("localhost").build(rule.endpoint, values)
    return made.removeprefix(acme.prefix)


def state(acme: Host, owner: str = "a") -> dict[str, list[Any]]:
    """Every row of the owner's, of every table."""
    found: dict[str, list[Any]] = {}
    for table in acme.db.metadata.sorted_tables:
        rows = acme.rows(table)
        mine = [row for row in rows if row.get("owner", owner) == owner]
        found[table.name] = sorted(mine, key=str)
    return found


def test_what_is_somebody_elses_is_not_there_and_nothing_changes(acme: Host) -> None:
    theirs = belongings(acme)
    before = state(acme)
    acme.owner = "b"
    asked = 0
    for rule, method, body in requests(acme):
        path = path_of(acme, rule, theirs)
        answer = acme.call(method, path, body)
        if rule.endpoint in PUBLIC:
            assert answer.status_code in (403, 409), (method, path, answer.text)
        elif rule.arguments - NOBODYS:
            assert answer.status_code == 404, (method, path, answer.text)
            assert answer.json["error_code"] == "not_found"
        else:
            assert answer.status_code < 300, (method, path, answer.text)
        for mine in (*theirs.values(), "a's own"):
            if mine not in path and mine != theirs["name"]:
                assert mine not in answer.text, (method, path)
        assert state(acme) == before, (method, path)
        asked += 1
    assert asked >= 20


def test_their_owner_finds_all_of_it(acme: Host) -> None:
    """Else the test before would pass for paths that are not there at all."""
    theirs = belongings(acme)
    for rule, method, body in requests(acme):
        if method == "DELETE" or rule.endpoint in PUBLIC:
            continue
        answer = acme.call(method, path_of(acme, rule, theirs), body)
        # The recovery goes on, so another one is refused: but it is theirs.
        assert answer.status_code < 300 or answer.status_code == 409, (method, rule, answer.text)


def test_nobody_is_told_to_authenticate(acme: Host) -> None:
    theirs = belongings(acme)
    before = state(acme)
    acme.owner = None
    for rule, method, body in requests(acme):
        if rule.endpoint not in PUBLIC:
            answer = acme.call(method, path_of(acme, rule, theirs), body)
            assert answer.status_code == 401, (method, rule, answer.text)
    assert state(acme) == before


def test_somebody_elses_cursor_shows_nothing_of_theirs(acme: Host) -> None:
    theirs = belongings(acme)
    acme.owner = "b"
    for name in ("cursor", "after"):
        value = theirs["event_id"]
        if name == "cursor":
            import base64

            raw = bytes.fromhex(value.partition("_")[2])
            value = base64.urlsafe_b64encode(raw).decode().rstrip("=")
        answer = acme.call("GET", f"/events?{name}={value}")
        assert answer.status_code == 422, answer.text


def test_the_log_of_attempts_is_of_ones_own_deliveries(acme: Host) -> None:
    theirs = belongings(acme)
    acme.owner = "b"
    mine = acme.subscribe()["id"]
    [delivery] = acme.deliveries(mine, 1, owner="b")
    assert acme.call("GET", f"/deliveries/{delivery}/attempts").json["data"] == []
    recovery = theirs["recovery_id"]
    assert acme.call("GET", f"/subscriptions/{mine}/recover/{recovery}").status_code == 404
    statement = sa.select(sa.func.count()).select_from(acme.tables.attempt)
    with acme.app.app_context():
        assert acme.db.session.scalar(statement) == 1
