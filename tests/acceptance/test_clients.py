"""A complete round for each kind of client, over the API, a real Redis and a real worker.

Each on one of the two databases: what the databases do differently is tested elsewhere.
"""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import flask
import pytest
import sqlalchemy as sa
import standardwebhooks
import svix
from cloudevents.core.formats.json import JSONFormat
from host import Contact, Host, db, until
from servers import Inbox, Request
from whole_app import serving

from flask_resthooks.receiver import Event, receive

ORIGIN = "crm.example.com"


class Receiver:
    """A Flask app that receives hooks as the README says, with the secret that it is told."""

    def __init__(self, **options: Any) -> None:
        self.events: list[Event] = []
        self.secret: str | None = None
        self.app = flask.Flask("receiver")

        @self.app.post("/crm")
        @receive(lambda: self.secret, **options)
        def crm(event: Event) -> None:
            self.events.append(event)

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.events]


def status(host: Host, subscription: dict[str, Any]) -> str:
    answer: str = host.call("GET", f"/subscriptions/{subscription['id']}").json["status"]
    return answer


def test_a_zapier_like_client(postgresql_url: str, redis_url: str, inbox: Inbox) -> None:
    with Host(postgresql_url, redis_url) as host:
        host.create()
        host.worker()
        host.wait_until_done()
        # The user builds a Zap: they are shown what will come, in the shape in which it will come.
        samples = host.call("GET", "/event-types/contact.create/sample")
        assert samples.status_code == 200
        [sample] = samples.json
        assert sample["data"]["name"] == "contact 0"
        # They turn it on.
        subscribed = host.call(
            "POST", "/subscriptions", {"target_url": inbox.url("/1"), "event": "contact.create"}
        )
        assert subscribed.status_code == 201
        identity = subscribed.json["id"]
        host.create()
        (hook,) = inbox.wait_for(1, 20)
        body = json.loads(hook.body)
        assert body.keys() == sample.keys()
        assert body["data"].keys() == sample["data"].keys()
        # They turn it off.
        assert host.call("DELETE", f"/subscriptions/{identity}").status_code == 204
        assert host.call("DELETE", f"/subscriptions/{identity}").status_code == 404
        # A Zap that was deleted elsewhere answers 410: its subscription ends at once.
        inbox.answer = lambda request: 410
        gone = host.subscribe(inbox.url("/2"), "contact.create")
        host.create(2)
        assert until(lambda: status(host, gone) == "disabled")
        inbox.answer = lambda request: 200
        came = len(inbox.requests)
        host.create(2)
        host.wait_until_done()
        assert len(inbox.requests) == came


def test_a_standard_webhooks_client(sqlite_url: str, redis_url: str, inbox: Inbox) -> None:
    with Host(sqlite_url, redis_url) as host:
        own = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
        path = (
            "/subscriptions/"
            + host.call(
                "POST",
                "/subscriptions",
                {"target_url": inbox.url(), "events": ["contact.*"], "secret": own},
            ).json["id"]
        )
        host.worker()
        ping = host.call("POST", f"{path}/ping")
        assert ping.status_code == 202
        inbox.wait_for(1, 20)
        host.create()
        inbox.wait_for(2, 20)
        new = host.call("POST", f"{path}/secret/rotate", {"overlap": 3600}).json["secret"]
        assert host.call("GET", f"{path}/secret").json == {"secret": new}
        host.create()
        hooks = inbox.wait_for(3, 20)
        sample = host.call("POST", f"{path}/ping", {"event": "contact.update"})
        assert sample.status_code == 202
        hooks = inbox.wait_for(4, 20)
        assert [hook.headers["x-hook-event"] for hook in hooks] == [
            "resthooks.ping",
            "contact.create",
            "contact.create",
            "contact.update",
        ]
        assert [hook.headers["webhook-id"][:4] for hook in hooks] == ["tst_", *["evt_"] * 2, "tst_"]
        for hook, secrets in zip(hooks, ([own], [own], [own, new], [own, new]), strict=True):
            for secret in secrets:
                for library in (standardwebhooks, svix):
                    library.Webhook(secret).verify(hook.body.decode(), dict(hook.headers))
        assert until(
            lambda: host.call("GET", f"/deliveries/{ping.json['id']}").json["status"] == "delivered"
        )
        attempts = host.call("GET", f"/deliveries/{ping.json['id']}/attempts").json["data"]
        assert [attempt["status_code"] for attempt in attempts] == [200]


def test_a_cloudevents_client(postgresql_url: str, redis_url: str) -> None:
    receiver = Receiver(allowed_origins=(ORIGIN,), allowed_rate=6000)
    bodies: list[tuple[bytes, str]] = []

    @receiver.app.before_request
    def keep() -> None:
        if flask.request.method == "POST":
            bodies.append((flask.request.get_data(), flask.request.headers["Content-Type"]))

    config = {"RESTHOOKS_INTENT": "cloudevents", "RESTHOOKS_ORIGIN": ORIGIN}
    with Host(postgresql_url, redis_url, **config) as host, serving(receiver.app) as url:
        made = host.call(
            "POST",
            "/subscriptions",
            {"target_url": f"{url}/crm", "events": ["contact.*"], "format": "cloudevents"},
        ).json
        assert made["status"] == "pending"
        receiver.secret = made["secret"]
        host.create()  # nobody has said yet that they want it
        host.worker()
        assert until(lambda: status(host, made) == "active")
        assert host.call("GET", f"/subscriptions/{made['id']}").json["rate"] == 6000
        host.create()
        with host.app.app_context():
            contact = db.session.query(Contact).first()
            contact.name = "Grace"
            db.session.commit()
        assert until(lambda: len(receiver.events) == 2)
        assert sorted(receiver.types) == ["contact.create", "contact.update"]
        for body, content_type in bodies:
            assert content_type == "application/cloudevents+json"
            event = JSONFormat().read(None, body)
            assert event.get_source() == f"https://{ORIGIN}/api/v1"
            assert event.get_id() in {one.id for one in receiver.events}


def test_a_cloudevents_receiver_that_allows_others_gets_nothing(
    sqlite_url: str, redis_url: str
) -> None:
    receiver = Receiver(allowed_origins=("other.example.com",))
    config = {"RESTHOOKS_INTENT": "cloudevents", "RESTHOOKS_ORIGIN": ORIGIN}
    with Host(sqlite_url, redis_url, **config) as host, serving(receiver.app) as url:
        made = host.subscribe(f"{url}/crm")
        host.create()
        host.drain()
        assert status(host, made) == "pending"
        assert host.statuses() == {"failed": 1}
        assert receiver.events == []


@pytest.fixture
def asked_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has just been asked is asked again after a second."""
    pause = dt.timedelta(seconds=1)
    monkeypatch.setattr("flask_resthooks.api.subscriptions.HANDSHAKE_PAUSE", pause)


@pytest.mark.usefixtures("asked_soon")
def test_a_receiver_that_confirms_at_once(postgresql_url: str, redis_url: str) -> None:
    receiver = Receiver()
    with (
        Host(postgresql_url, redis_url, RESTHOOKS_INTENT="x-hook-secret") as host,
        serving(receiver.app) as url,
    ):
        made = host.subscribe(f"{url}/crm", "contact.*")
        assert made["status"] == "pending"
        receiver.secret = made["secret"]
        host.worker()
        assert until(lambda: status(host, made) == "active")
        host.create()
        assert until(lambda: receiver.types == ["contact.create"])
        # Another URL is somebody else, perhaps.
        changed = host.call(
            "PATCH", f"/subscriptions/{made['id']}", {"target_url": f"{url}/crm?moved"}
        )
        assert changed.json["status"] == "pending"
        assert until(lambda: status(host, made) == "active")


def test_a_receiver_that_confirms_later(sqlite_url: str, redis_url: str, inbox: Inbox) -> None:
    with Host(sqlite_url, redis_url, RESTHOOKS_INTENT="x-hook-secret") as host:
        made = host.subscribe(inbox.url(), "contact.*")
        path = f"/subscriptions/{made['id']}"
        host.create(3)
        host.worker()
        (handshake,) = inbox.wait_for(1, 20)
        assert until(lambda: host.waiting() == 0)
        assert status(host, made) == "pending"
        assert len(inbox.requests) == 1
        secret = handshake.headers["x-hook-secret"]
        # By the receiver, which is no user of the app.
        wrong = host.call("POST", f"{path}/confirm", owner=None, X_Hook_Secret="wrong")
        assert (wrong.status_code, wrong.json["error_code"]) == (403, "wrong_secret")
        for _ in range(2):  # it may come twice
            confirmed = host.call("POST", f"{path}/confirm", owner=None, X_Hook_Secret=secret)
            assert (confirmed.status_code, confirmed.json) == (200, {"status": "active"})
        host.create()
        assert len(inbox.wait_for(2, 20)) == 2
        # What was missed while it was pending is not lost.
        since = made["created_at"]
        assert host.call("POST", f"{path}/recover", {"since": since}).status_code == 202
        hooks = inbox.wait_for(5, 20)[1:]
        assert len({hook.headers["webhook-id"] for hook in hooks}) == 4


@pytest.mark.usefixtures("asked_soon")
def test_a_confirmation_is_limited_in_tries(sqlite_url: str, redis_url: str, inbox: Inbox) -> None:
    with Host(sqlite_url, redis_url, RESTHOOKS_INTENT="x-hook-secret") as host:
        made = host.subscribe(inbox.url())
        path = f"/subscriptions/{made['id']}/confirm"
        host.drain()
        secret = inbox.requests[0].headers["x-hook-secret"]
        answers = [
            host.call("POST", path, {"secret": "wrong"}, owner=None).status_code for _ in range(12)
        ]
        assert answers == [403] * 10 + [409] * 2
        late = host.call("POST", path, {"secret": secret}, owner=None)
        assert (late.status_code, late.json["error_code"]) == (409, "confirmation_expired")
        # Its owner has it asked again.
        again = host.call("PATCH", f"/subscriptions/{made['id']}", {"active": True})
        assert again.json["status"] == "pending"
        host.worker()
        # Not at once: whoever is asked has not said that they want to be called.
        new = inbox.wait_for(2, 30)[1].headers["x-hook-secret"]
        assert new != secret
        assert host.call("POST", path, {"secret": new}, owner=None).status_code == 200


def test_a_subscription_expires_and_says_so_if_asked_for(
    postgresql_url: str, redis_url: str, inbox: Inbox
) -> None:
    soon = dt.datetime.now(dt.timezone.utc) + dt.timedelta(seconds=2)
    with Host(postgresql_url, redis_url) as host:
        host.worker()
        made = [
            host.call(
                "POST",
                "/subscriptions",
                {
                    "target_url": inbox.url(path),
                    "events": ["*"],
                    "expires_at": soon.isoformat(),
                    "expiry_notice": wish,
                },
            ).json
            for path, wish in (("/told", True), ("/untold", False))
        ]
        table = host.tables.subscription
        with host.engine.connect() as connection:

            def stored() -> set[str]:
                return set(connection.scalars(sa.select(table.c.status)))

            assert until(lambda: stored() == {"expired"})
        host.create()
        host.wait_until_done()
        assert [status(host, one) for one in made] == ["expired", "expired"]
        [notice] = inbox.requests
        assert (notice.path, notice.headers["x-hook-event"]) == ("/told", "resthooks.expired")
        # Prolonged, they go on.
        for one in made:
            changed = host.call("PATCH", f"/subscriptions/{one['id']}", {"expires_at": None})
            assert changed.json["status"] == "active"
        host.create()
        assert {request.path for request in inbox.wait_for(3, 20)[1:]} == {"/told", "/untold"}


def test_ed25519_from_the_create_to_the_receiver(sqlite_url: str, redis_url: str) -> None:
    receiver = Receiver()
    with Host(sqlite_url, redis_url) as host, serving(receiver.app) as url:
        made = host.call(
            "POST",
            "/subscriptions",
            {"target_url": f"{url}/crm", "events": ["*"], "signature": "v1a"},
        ).json
        assert made["secret"].startswith("whpk_")
        assert made["signature"] == "v1a"
        receiver.secret = made["secret"]
        host.create()
        host.drain()
        assert receiver.types == ["contact.create"]


def echoing(request: Request) -> Any:
    return 200, {"X-Hook-Secret": request.headers.get("x-hook-secret", "")}, b""


def test_sealed_secrets_never_stand_readable_in_the_database(
    sqlite_url: str, redis_url: str, inbox: Inbox
) -> None:
    from flask_resthooks.vault import make_key

    inbox.answer = echoing
    config = {
        "RESTHOOKS_ENCRYPTION_KEYS": [make_key()],
        "RESTHOOKS_INTENT": "x-hook-secret",
    }
    with Host(sqlite_url, redis_url, **config) as host:
        made = host.call(
            "POST",
            "/subscriptions",
            {
                "target_url": inbox.url(),
                "events": ["*"],
                "headers": {"Authorization": "Bearer of-the-receivers-own"},
            },
            Idempotency_Key="once",
        ).json
        assert "headers" not in made
        assert made["header_names"] == ["Authorization"]
        host.drain()
        host.create()
        assert host.worker("--burst").wait(30) == 0
        handshake, hook = inbox.requests
        standardwebhooks.Webhook(made["secret"]).verify(hook.body.decode(), dict(hook.headers))
        assert hook.headers["authorization"] == "Bearer of-the-receivers-own"
        path = f"/subscriptions/{made['id']}"
        rotated = host.call("POST", f"{path}/secret/rotate", {}).json["secret"]
        host.engine.dispose()
        stored = b"".join(
            file.read_bytes()
            for file in __import__("pathlib").Path(sqlite_url[10:]).parent.iterdir()
            if file.is_file()
        )
        for secret in (
            made["secret"],
            rotated,
            handshake.headers["x-hook-secret"],
            "of-the-receivers-own",
        ):
            assert secret.encode() not in stored
    # Without the key, the worker says so, and sends nothing.
    with Host(sqlite_url, redis_url) as host:
        host.create()
        assert host.command("worker", "--burst") != 0
        assert len(inbox.requests) == 2
