"""With the default settings, no hook reaches this machine, however its address is spelled."""

from __future__ import annotations

import dataclasses
import itertools
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from host import Host
from servers import Inbox

from flask_resthooks import ids, models, signing
from flask_resthooks.errors import AddressRefused
from flask_resthooks.guard import Guard, machine
from flask_resthooks.jobs import Plant, Runner

SPELLINGS = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0x7f.1",
    "0177.0.0.1",
    "017700000001",
    "127.0.0.1.",
    "127.127.127.127",
    "0",
    "0.0.0.0",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "a.localhost",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "%31%32%37.0.0.1",
    "\uff11\uff12\uff17.0.0.1",
    "127\u30020\u30020\u30021",
    "user@127.0.0.1",
    "example.com@127.0.0.1",
]


# And whatever addresses this machine has, of every kind.
SPELLINGS += sorted(
    f"[{address}]" if address.version == 6 else str(address)
    for address in {network[0] for network in machine.own()}
)


class Listener:
    """Counts connections on all addresses of this machine."""

    def __init__(self) -> None:
        self.connections = 0
        if socket.has_dualstack_ipv6():
            self._socket = socket.create_server(
                ("::", 0), family=socket.AF_INET6, dualstack_ipv6=True
            )
        else:
            self._socket = socket.create_server(("0.0.0.0", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            connection.close()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.close()


def default_host(sqlite_url: str, redis_url: str) -> Host:
    return Host(
        sqlite_url,
        redis_url,
        RESTHOOKS_REQUIRE_HTTPS=True,
        RESTHOOKS_ALLOWED_NETWORKS=[],
        RESTHOOKS_RETRY_SCHEDULE=[0],
    )


def smuggle(host: Host, target_url: str) -> None:
    """A subscription that the API would have refused."""
    now = models.utcnow()
    row = {
        "id": ids.new(ids.SUBSCRIPTION),
        "owner": "1",
        "target_url": target_url,
        "events": ["*"],
        "status": "active",
        "metadata": {},
        "secret": signing.new_secret(),
        "created_at": now,
        "updated_at": now,
    }
    wish = {"owner": "1", "pattern": "*", "subscription_id": row["id"]}
    with host.engine.begin() as connection:
        connection.execute(host.tables.subscription.insert(), row)
        connection.execute(host.tables.subscription_event.insert(), wish)


def drain(host: Host, **changes: Any) -> None:
    plant: Plant = dataclasses.replace(host.app.extensions["resthooks"].plant, **changes)
    runner = Runner(plant)
    try:
        runner.run()
    finally:
        runner.close()


def test_no_spelling_of_this_machine_is_accepted_or_called(
    sqlite_url: str, redis_url: str, listener: Listener
) -> None:
    with default_host(sqlite_url, redis_url) as host:
        client = host.app.test_client()
        urls = [
            f"{scheme}://{spelling}:{listener.port}/"
            for scheme, spelling in itertools.product(("http", "https"), SPELLINGS)
        ]
        for url in urls:
            answer = client.post(
                "/api/v1/subscriptions",
                json={"target_url": url, "events": ["*"]},
                headers={"X-Owner": "1"},
            )
            assert answer.status_code == 422, url
            assert list(answer.get_json()["errors"]) == ["target_url"], url
            smuggle(host, url)
        host.create()
        drain(host)
        assert host.statuses() == {"failed": len(urls)}
        with host.engine.connect() as connection:
            errors = set(connection.scalars(sa.select(host.tables.attempt.c.error)))
        assert errors == {"address_refused"}
        assert listener.connections == 0


def test_a_rebinding_name_is_not_called(
    sqlite_url: str, redis_url: str, listener: Listener
) -> None:
    answers = itertools.chain(["93.184.216.34"], itertools.repeat("127.0.0.1"))

    def rebind(host: str, port: int, *rest: Any, **options: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    guard = Guard(resolver=rebind)  # type: ignore[arg-type]
    with default_host(sqlite_url, redis_url) as host:
        assert guard.resolve("rebind.example", listener.port)  # public, when it is subscribed
        smuggle(host, f"https://rebind.example:{listener.port}/")
        host.create()
        drain(host, guard=guard)
        assert host.statuses() == {"failed": 1}
        with host.engine.connect() as connection:
            (attempt,) = connection.execute(host.tables.attempt.select())
        assert attempt.error == "address_refused"
        assert "is not public" in attempt.detail
        assert "127.0.0.1" not in attempt.detail  # what a name stands for is not for customers
        assert listener.connections == 0


def test_the_settings_reach_the_guard(sqlite_url: str, redis_url: str) -> None:
    """Of those that no other test of a whole app has."""
    config = {
        "RESTHOOKS_DENIED_NETWORKS": ["127.0.0.8/29"],
        "RESTHOOKS_NAT64_PREFIXES": ["64:ff9b:1::/96"],
    }
    with Host(sqlite_url, redis_url, **config) as host:
        state = host.app.extensions["resthooks"]
        for guard in (state.guard, state.plant.guard):
            assert guard.check_url("http://127.0.0.7/") and guard.check_url("http://127.0.0.16/")
            assert guard.check_url("http://[64:ff9b:1::127.0.0.1]/")
            for address in ("127.0.0.8", "127.0.0.15", "[64:ff9b:1::127.0.0.9]"):
                with pytest.raises(AddressRefused, match="may not be called"):
                    guard.check_url(f"http://{address}/")


def test_the_listener_would_count(sqlite_url: str, redis_url: str, inbox: Inbox) -> None:
    """The same way, with the network allowed: the tests above can fail."""
    with Host(sqlite_url, redis_url) as host:
        host.subscribe(inbox.url())
        host.create()
        drain(host)
        assert host.statuses() == {"delivered": 1}
        assert len(inbox.requests) == 1
