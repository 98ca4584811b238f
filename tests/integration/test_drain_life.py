"""Drains of handshakes, of what owners lost the right to see, in every format; real receivers."""

from __future__ import annotations

import datetime as dt
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import standardwebhooks
from engine import Engine
from servers import Inbox, Request
from world import World

from flask_resthooks import intents, own_headers, signing, vault
from flask_resthooks.drain import Drain
from flask_resthooks.outbox import subscriptions

KEY = vault.make_key()


@pytest.fixture
def make(world: World) -> Iterator[Callable[..., Engine]]:
    made: list[Engine] = []

    def make(config: dict[str, Any] | None = None, **drain: Any) -> Engine:
        made.append(Engine(world, drain, **(config or {})))
        return made[-1]

    yield make
    for engine in made:
        engine.transport.close()


def row(world: World, subscription: str) -> Any:
    table = world.tables.subscription
    with world.engine.connect() as connection:
        return connection.execute(table.select().where(table.c.id == subscription)).one()


def ask(world: World, inbox: Inbox, event_type: str = intents.HANDSHAKE, **values: Any) -> str:
    """A subscription whose receiver is to be asked for its intent."""
    subscription = world.subscribe(
        "*",
        target_url=inbox.url(),
        status="pending",
        intent_id="hsk_1",
        intent_secret="the-secret",
        intent_until=world.now + dt.timedelta(days=1),
        **values,
    )
    with world.engine.begin() as connection:
        mapping = dict(row(world, subscription)._mapping)
        subscriptions.send(world.tables, connection, mapping, "handshake", event_type, world.now)
    return subscription


def echo(request: Request) -> Any:
    return 200, {"X-Hook-Secret": request.headers.get("x-hook-secret", "")}, b""


def test_a_receiver_that_echoes_the_secret_is_active_and_gets_what_happens_then(
    world: World, make: Callable[..., Engine], inbox: Inbox
) -> None:
    inbox.answer = echo
    subscription = ask(world, inbox)
    world.happen()  # while it is pending: not sent
    engine = make(config={"intent": "x-hook-secret"})
    engine.run()
    (handshake,) = inbox.requests
    assert handshake.headers["x-hook-secret"] == "the-secret"
    assert handshake.headers["x-hook-test"] == "handshake"
    assert subscription in handshake.body.decode()
    assert row(world, subscription).status == "active"
    assert row(world, subscription).confirmed_at == world.now
    world.happen()
    engine.run()
    assert [r.headers["x-hook-event"] for r in inbox.requests[1:]] == ["contact.create"]


@pytest.mark.parametrize(
    ("answer", "status", "reason"),
    [
        ((200, {}, b""), "delivered", None),
        ((200, {"X-Hook-Secret": "another"}, b""), "failed", "another one"),
        ((500, {"X-Hook-Secret": "the-secret"}, b""), "pending", None),
        ((302, {"X-Hook-Secret": "the-secret"}, b""), "failed", "302"),
    ],
)
def test_whoever_does_not_echo_it_gets_nothing(
    world: World,
    make: Callable[..., Engine],
    inbox: Inbox,
    answer: Any,
    status: str,
    reason: str | None,
) -> None:
    inbox.answer = lambda request: answer
    subscription = ask(world, inbox)
    make(config={"intent": "x-hook-secret", "retry_schedule": [0, 60]}).run()
    assert row(world, subscription).status == "pending"
    (delivery,) = world.deliveries()
    assert delivery.status == status
    assert (reason or "") in (delivery.reason or "")
    world.happen()
    world.outbox.fan_out(10)
    assert len(world.deliveries()) == 1


def test_410_ends_a_handshake_and_its_subscription(
    world: World, make: Callable[..., Engine], inbox: Inbox
) -> None:
    inbox.answer = lambda request: 410
    subscription = ask(world, inbox)
    make(config={"intent": "x-hook-secret"}).run()
    assert row(world, subscription).status == "disabled"


def test_a_receiver_cannot_have_us_show_the_handshakes_secret_to_its_owner(
    world: World, make: Callable[..., Engine], inbox: Inbox
) -> None:
    # It shows whoever calls what they sent: its body would be the proof that the caller lacks.
    inbox.answer = lambda request: (200, {}, request.headers["x-hook-secret"].encode())
    ask(world, inbox)
    make(config={"intent": "x-hook-secret"}).run()
    (attempt,) = world.attempts()
    assert "the-secret" not in str(attempt)


def test_a_handshake_that_was_replaced_meanwhile_confirms_nothing(
    world: World, make: Callable[..., Engine], inbox: Inbox
) -> None:
    subscription = ask(world, inbox)
    table = world.tables.subscription

    def answer(request: Request) -> Any:
        with world.engine.begin() as connection:
            connection.execute(table.update().values(intent_id="hsk_2"))
        return echo(request)

    inbox.answer = answer
    make(config={"intent": "x-hook-secret"}).run()
    assert row(world, subscription).status == "pending"


def test_a_handshake_whose_time_is_over_is_not_sent(
    world: World, make: Callable[..., Engine], inbox: Inbox
) -> None:
    ask(world, inbox)
    world.later(86400)
    make(config={"intent": "x-hook-secret"}).run()
    assert inbox.requests == []
    assert world.deliveries()[0].status == "cancelled"


def test_cloudevents_asks_by_options_and_keeps_to_the_rate_that_is_granted(
    world: World, make: Callable[..., Engine], inbox: Inbox
) -> None:
    granted = {"WebHook-Allowed-Origin": "crm.example.com", "WebHook-Allowed-Rate": "120"}
    inbox.answer = lambda request: (200, granted if request.method == "OPTIONS" else {}, b"")
    subscription = ask(world, inbox, format="cloudevents")
    engine = make(config={"intent": "cloudevents", "origin": "crm.example.com"})
    engine.run()
    (asked,) = inbox.requests
    assert (asked.method, asked.body) == ("OPTIONS", b"")
    assert asked.headers["webhook-request-origin"] == "crm.example.com"
    assert row(world, subscription).status == "active"
    assert row(world, subscription).rate == 120.0
    world.happen(count=10)
    engine.run(time_slice=0.5)  # the world's clock stands still: the others' turns do not come
    hooks = inbox.requests[1:]
    assert 1 <= len(hooks) <= 3
    for hook in hooks:
        assert hook.headers["content-type"] == "application/cloudevents+json"
        assert hook.headers["webhook-request-origin"] == "crm.example.com"
        assert json.loads(hook.body)["source"] == "https://crm.example.com/api/v1"


def test_a_ping_that_is_acknowledged_is_an_intent(
    world: World, make: Callable[..., Engine], inbox: Inbox
) -> None:
    subscription = ask(world, inbox, intents.PING)
    make(config={"intent": "ping"}).run()
    assert inbox.requests[0].headers["x-hook-event"] == "resthooks.ping"
    assert row(world, subscription).status == "active"


@pytest.mark.parametrize("verdict", [RuntimeError("broken"), True, None])
def test_a_strategy_that_raises_or_says_nothing_harms_nobody_else(
    world: World, inbox: Inbox, make: Callable[..., Engine], verdict: Any
) -> None:
    class Broken(intents.Ping):
        def judge(self, *arguments: Any) -> Any:
            if isinstance(verdict, Exception):
                raise verdict
            return verdict

    subscription = ask(world, inbox, intents.PING)
    world.subscribe("*", target_url=inbox.url("/good"))
    world.happen()
    engine = make()
    Drain(world.outbox, engine.transport, engine.settings, intent=Broken(), chance=lambda: 0.0).run(
        30
    )
    assert {delivery.kind: delivery.status for delivery in world.deliveries()} == {
        "handshake": "failed",
        "event": "delivered",
    }
    assert row(world, subscription).status == "pending"


def test_who_lost_the_right_to_see_it_gets_nothing_more(
    world: World, make: Callable[..., Engine], inbox: Inbox
) -> None:
    for owner in ("1", "2"):
        world.subscribe("*", owner=owner, target_url=inbox.url(f"/{owner}"))
        world.happen(owner=owner)
    make(permit=lambda claim: claim.owner == "1").run()
    assert [request.path for request in inbox.requests] == ["/1"]
    cancelled = [delivery for delivery in world.deliveries() if delivery.owner == "2"]
    assert [(d.status, d.reason, d.attempts, d.due_at) for d in cancelled] == [
        ("cancelled", "the owner may not see it any more", 0, None)
    ]


def test_a_right_that_cannot_be_asked_for_now_is_asked_for_again(
    world: World, make: Callable[..., Engine], inbox: Inbox
) -> None:
    world.subscribe("*", target_url=inbox.url())
    world.happen()
    answers: Iterator[Any] = iter([RuntimeError("no database"), True])

    def permit(claim: Any) -> bool:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return bool(answer)

    engine = make(permit=permit)
    engine.run()
    assert inbox.requests == []
    assert world.attempts()[0].error == "internal"
    world.later(6)
    engine.run()
    assert len(inbox.requests) == 1


def test_every_secret_that_is_valid_signs_the_newest_first(
    world: World, make: Callable[..., Engine], inbox: Inbox
) -> None:
    secrets = [signing.new_secret() for _ in range(3)]
    until = [world.now + dt.timedelta(seconds=seconds) for seconds in (60, -1)]
    world.subscribe(
        "*",
        target_url=inbox.url(),
        secret=vault.Vault([KEY]).seal(secrets[0]),
        former_secrets=[
            {"secret": vault.Vault([KEY]).seal(secrets[1]), "until": until[0].isoformat()},
            {"secret": secrets[2], "until": until[1].isoformat()},
        ],
    )
    world.happen()
    make(vault=vault.Vault([KEY])).run()
    (hook,) = inbox.requests
    timestamp = int(world.now.timestamp())
    made = hook.headers["webhook-signature"].split(" ")
    assert made == [
        signing.signer(secret).sign(hook.headers["webhook-id"], timestamp, hook.body)
        for secret in secrets[:2]
    ]
    assert hook.headers["x-hook-signature"] == signing.signer(secrets[0]).hook_signature(hook.body)


def test_headers_of_the_receivers_own_go_along(
    world: World, make: Callable[..., Engine], inbox: Inbox
) -> None:
    own = own_headers.dump({"Authorization": "Bearer abc", "X-Team": "crm"})
    world.subscribe("*", target_url=inbox.url(), headers=vault.Vault([KEY]).seal(own))
    world.happen()
    make(vault=vault.Vault([KEY])).run()
    assert inbox.requests[0].headers["authorization"] == "Bearer abc"
    assert inbox.requests[0].headers["x-team"] == "crm"


def test_each_gets_the_format_and_payload_that_it_asked_for(
    world: World, make: Callable[..., Engine], inbox: Inbox
) -> None:
    ids = {
        (form, payload): world.subscribe(
            "*", target_url=inbox.url(f"/{form}/{payload}"), format=form, payload=payload
        )
        for form in ("standard", "resthooks", "bare", "cloudevents")
        for payload in ("full", "thin")
    }
    world.happen()
    make().run()
    bodies = {tuple(r.path[1:].split("/")): json.loads(r.body) for r in inbox.requests}
    full, thin = {"name": "Ada"}, {"resource": None, "url": None}
    for payload, data in (("full", full), ("thin", thin)):
        assert bodies["standard", payload]["data"] == data
        assert bodies["resthooks", payload]["data"] == data
        assert bodies["resthooks", payload]["hook"]["id"] == ids["resthooks", payload]
        assert bodies["bare", payload] == data
        assert bodies["cloudevents", payload]["data"] == data


def test_retry_after_is_honoured_and_bounded(
    world: World, make: Callable[..., Engine], inbox: Inbox
) -> None:
    inbox.answer = lambda request: (503, {"Retry-After": "3600"}, b"")
    world.subscribe("*", target_url=inbox.url())
    world.happen()
    engine = make(config={"retry_after_limit": 600})
    assert engine.run() == world.now + dt.timedelta(seconds=600)
    world.happen()  # of the same receiver: it waits as well, unsent
    assert engine.run() == world.now + dt.timedelta(seconds=600)
    assert len(inbox.requests) == 1
    inbox.answer = lambda request: 200
    world.later(600)
    assert engine.run() is None
    assert len(inbox.requests) == 3


def test_what_the_receiver_calls_the_request_is_kept(
    world: World, make: Callable[..., Engine], inbox: Inbox
) -> None:
    inbox.answer = lambda request: (200, {"X-Request-Id": "abc-123"}, b"")
    world.subscribe("*", target_url=inbox.url())
    world.happen()
    make().run()
    assert world.attempts()[0].request_id == "abc-123"


def test_an_ed25519_signature_verifies_with_the_public_key(
    world: World, make: Callable[..., Engine], inbox: Inbox
) -> None:
    secret = signing.new_secret(signing.V1A)
    world.subscribe("*", target_url=inbox.url(), secret=secret, signature="v1a")
    world.happen()
    make().run()
    (hook,) = inbox.requests
    assert "x-hook-signature" not in hook.headers
    signing.verify(signing.shown_secret(secret), hook.headers, hook.body, now=world.now.timestamp())
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(signing.new_secret()).verify(
            hook.body.decode(), dict(hook.headers)
        )


def test_what_needs_a_key_that_is_not_there_waits_and_spends_nothing(
    world: World,
    make: Callable[..., Engine],
    inbox: Inbox,
    caplog: pytest.LogCaptureFixture,
) -> None:
    world.subscribe("*", target_url=inbox.url(), secret=vault.Vault([KEY]).seal("whsec_x"))
    world.happen(count=3)
    good = world.subscribe("*", target_url=inbox.url("/good"))
    due = make().run()
    assert due == world.now + dt.timedelta(seconds=60)
    assert {request.path for request in inbox.requests} == {"/good"}
    waiting = [one for one in world.deliveries() if one.subscription_id != good]
    assert {(one.status, one.attempts) for one in waiting} == {("pending", 0)}
    assert len(world.attempts()) == 3
    assert caplog.text.count("RESTHOOKS_ENCRYPTION_KEYS") == 1


def test_what_the_app_raises_is_not_shown_to_its_customers(
    world: World, make: Callable[..., Engine], inbox: Inbox
) -> None:
    def permit(claim: Any) -> bool:
        raise RuntimeError("password of the database: 1234")

    world.subscribe("*", target_url=inbox.url())
    world.happen()
    make(permit=permit).run()
    (attempt,) = world.attempts()
    assert attempt.error == "internal"
    assert "1234" not in str(attempt)


def test_a_handshake_that_nobody_asks_for_any_more_is_cancelled(
    world: World, make: Callable[..., Engine], inbox: Inbox
) -> None:
    subscription = ask(world, inbox)
    make().run()
    assert inbox.requests == []
    assert world.deliveries()[0].status == "cancelled"
    assert row(world, subscription).status == "pending"


@pytest.mark.parametrize("kind", ["ping", "notice"])
def test_where_receivers_are_asked_nothing_goes_to_who_has_not_agreed(
    world: World, make: Callable[..., Engine], inbox: Inbox, kind: str
) -> None:
    status = "expired" if kind == "notice" else "disabled"
    for confirmed_at in (None, world.now):
        subscription = world.subscribe(
            "*", target_url=inbox.url(), status=status, confirmed_at=confirmed_at
        )
        with world.engine.begin() as connection:
            mapping = dict(row(world, subscription)._mapping)
            subscriptions.send(world.tables, connection, mapping, kind, "resthooks.ping", world.now)
    make(config={"intent": "x-hook-secret"}).run()
    assert len(inbox.requests) == 1
    states = {one.status: one.reason for one in world.deliveries()}
    assert states["cancelled"] == "its receiver has not shown that it wants to be called"


def test_a_test_is_sent_once_whatever_comes_of_it(
    world: World, make: Callable[..., Engine], inbox: Inbox
) -> None:
    inbox.answer = lambda request: 429
    subscription = world.subscribe("*", target_url=inbox.url())
    with world.engine.begin() as connection:
        mapping = dict(row(world, subscription)._mapping)
        subscriptions.send(world.tables, connection, mapping, "ping", "resthooks.ping", world.now)
    make().run()
    (delivery,) = world.deliveries()
    assert (delivery.status, delivery.attempts) == ("failed", 1)
    with world.engine.connect() as connection:  # and slows down nobody else at that host
        assert connection.execute(world.tables.host.select()).all() == []


def test_what_was_captured_before_its_type_became_thin_is_sent_thin(
    world: World, make: Callable[..., Engine], inbox: Inbox
) -> None:
    world.subscribe("*", target_url=inbox.url())
    world.happen()
    make(thin_types={"contact.create"}).run()
    assert json.loads(inbox.requests[0].body)["data"] == {"resource": None, "url": None}


def test_what_is_switched_off_while_it_waits_for_its_turn_is_not_sent(
    world: World, make: Callable[..., Engine], inbox: Inbox
) -> None:
    """Claimed, but behind others that are slow: less than a second later nothing more goes out."""
    inbox.delay = 1.0
    subscription = world.subscribe("*", target_url=inbox.url())
    world.happen(count=12)
    table = world.tables.subscription

    def switch_off() -> None:
        inbox.wait_for(1)
        with world.engine.begin() as connection:
            connection.execute(
                table.update().where(table.c.id == subscription).values(status="inactive")
            )

    thread = threading.Thread(target=switch_off)
    thread.start()
    make(config={"concurrency": 2}).run()
    thread.join()
    assert len(inbox.requests) <= 6
    statuses = {one.status for one in world.deliveries()}
    assert statuses == {"delivered", "cancelled"}


def test_an_app_that_takes_its_time_to_say_who_may_be_told_has_nothing_sent_twice(
    world: World, make: Callable[..., Engine], inbox: Inbox
) -> None:
    world.subscribe("*", target_url=inbox.url())
    made = world.happen(count=8)

    def permit(claim: Any) -> bool:
        time.sleep(0.2)
        return True

    make(config={"timeout": 0.5, "lease": 11}, permit=permit).run()
    assert sorted(request.headers["webhook-id"] for request in inbox.requests) == sorted(made)
    assert {one.attempts for one in world.deliveries()} == {1}
