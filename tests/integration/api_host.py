"""A host app with the API in it, and nothing else of REST Hooks."""

from __future__ import annotations

import datetime as dt
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import flask
import flask_smorest
import sqlalchemy as sa
from emptying import empty
from flask.testing import FlaskClient
from flask_sqlalchemy import SQLAlchemy

from flask_resthooks import ids, models
from flask_resthooks.api import Context, create_blueprint
from flask_resthooks.event_types import EventType, EventTypes
from flask_resthooks.guard import Guard
from flask_resthooks.intents import Intent
from flask_resthooks.settings import Settings
from flask_resthooks.vault import Vault

NAMES = ("contact.create", "contact.update", "contact.delete", "invoice.paid")
URL = "https://hooks.example.com/crm"
ADDRESSES = {
    "hooks.example.com": "93.184.216.34",
    "other.example.com": "93.184.216.35",
    "inside.example.com": "10.1.2.3",
}


def resolver(host: str, port: int, **options: Any) -> list[tuple[Any, ...]]:
    """What the names of these tests stand for, without a network."""
    if host not in ADDRESSES:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ADDRESSES[host], port))]


class Host:
    """An app with the API, its client, and whose requests it takes them for."""

    def __init__(
        self,
        url: str,
        *,
        settings: Settings | None = None,
        names: tuple[str, ...] = NAMES,
        resolver: Callable[..., Any] = resolver,
        config: dict[str, Any] | None = None,
        owner: Callable[[], str | None] | None = None,
        before: Callable[[flask.Flask], None] = lambda app: None,
        intent: Intent | None = None,
        guard: Guard | None = None,
        **context: Any,
    ) -> None:
        self.woken = 0
        self.owner: str | None = "acme"
        self.settings = settings or Settings()
        self.prefix = self.settings.url_prefix
        self.app = flask.Flask("host")
        self.app.config.update(
            {
                "TESTING": True,
                "SQLALCHEMY_DATABASE_URI": url,
                "API_TITLE": "Host",
                "API_VERSION": "v1",
                "OPENAPI_VERSION": "3.0.3",
                "OPENAPI_URL_PREFIX": "/",
                **(config or {}),
            }
        )
        self.db = SQLAlchemy()
        self.tables = models.define(self.db.metadata)
        self.db.init_app(self.app)
        self.event_types = EventTypes()
        for name in names:
            self.event_types.add(EventType(name, description=f"It is {name}."))
        before(self.app)
        self.api = flask_smorest.Api(self.app)
        self.context = Context(
            db=self.db,
            tables=self.tables,
            event_types=self.event_types,
            settings=self.settings,
            guard=guard
            or Guard(
                require_https=self.settings.require_https,
                allowed_networks=self.settings.allowed_networks,
                resolver=resolver,
            ),
            owner=owner or (lambda: self.owner),
            wake=self._wake,
            intent=intent,
            **context,
            vault=Vault(self.settings.encryption_keys),
        )
        self.api.register_blueprint(create_blueprint(self.context))
        with self.app.app_context():
            self.db.create_all()

    def _wake(self) -> None:
        self.woken += 1

    def close(self) -> None:
        with self.app.app_context():
            for engine in self.db.engines.values():
                engine.dispose()

    @property
    def client(self) -> FlaskClient:
        return self.app.test_client()

    def call(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """Make a request under the prefix; the answer's `json` is what counts."""
        if body is not None:
            options["json"] = body
        return self.client.open(self.prefix + path, method=method, **options)

    def subscribe(self, **fields: Any) -> dict[str, Any]:
        """Make a subscription."""
        body = {"target_url": URL, "events": ["contact.create"], **fields}
        answer = self.call("POST", "/subscriptions", body)
        assert answer.status_code == 201, answer.json
        made: dict[str, Any] = answer.json
        return made

    def deliveries(self, subscription_id: str, count: int, **columns: Any) -> list[str]:
        """Put deliveries into the database, oldest first."""
        now = models.utcnow()
        rows = [
            {
                "id": ids.new(ids.DELIVERY, at=now.timestamp() + number),
                "event_id": ids.new(ids.EVENT),
                "subscription_id": subscription_id,
                "owner": "acme",
                "event_type": "contact.create",
                "status": "pending",
                "attempts": 0,
                "due_at": now,
                "created_at": now + dt.timedelta(seconds=number),
                **columns,
            }
            for number in range(count)
        ]
        self.execute(self.tables.delivery.insert(), rows)
        return [row["id"] for row in rows]

    def attempts(self, delivery_id: str, count: int) -> list[str]:
        """Put attempts into the database, in order."""
        now = models.utcnow()
        rows = [
            {
                "id": ids.new(ids.ATTEMPT, at=now.timestamp() + number),
                "delivery_id": delivery_id,
                "number": number + 1,
                "started_at": now,
                "duration": 0.25,
                "status_code": 500,
                "response": "no",
                "next_at": now,
            }
            for number in range(count)
        ]
        self.execute(self.tables.attempt.insert(), rows)
        return [row["id"] for row in rows]

    def events(self, count: int, **columns: Any) -> list[str]:
        """Put events into the log, oldest first."""
        now = models.utcnow()
        rows = [
            {
                "id": ids.new(ids.EVENT, at=now.timestamp() + number),
                "type": "contact.create",
                "owner": "acme",
                "resource": "contact:17",
                "created_at": now + dt.timedelta(seconds=number),
                "data": '{"id":17,"name":"Ada"}',
                "position": number + 1,
                **columns,
            }
            for number in range(count)
        ]
        self.execute(self.tables.event.insert(), rows)
        return [row["id"] for row in rows]

    def recoveries(self, subscription_id: str, count: int, **columns: Any) -> list[str]:
        """Put recoveries that have come to their end into the database, oldest first."""
        now = models.utcnow()
        rows = [
            {
                "id": ids.new(ids.RECOVERY, at=now.timestamp() + number),
                "subscription_id": subscription_id,
                "owner": "acme",
                "status": "done",
                "since": now,
                "until": now,
                "cursor": "",
                "created_at": now,
                "finished_at": now,
                **columns,
            }
            for number in range(count)
        ]
        self.execute(self.tables.recovery.insert(), rows)
        return [row["id"] for row in rows]

    def execute(self, statement: Any, rows: Any = None) -> None:
        with self.app.app_context(), self.db.engine.begin() as connection:
            connection.execute(statement, rows)

    def rows(self, table: sa.Table) -> list[dict[str, Any]]:
        with self.app.app_context(), self.db.engine.connect() as connection:
            return [dict(row) for row in connection.execute(sa.select(table)).mappings()]


class Hosts:
    """Apps on one database: one for each choice of options, made when it is first asked for."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._made: dict[str, Host] = {}

    def __enter__(self) -> Hosts:
        return self

    def __exit__(self, *error: object) -> None:
        for made in self._made.values():
            made.close()

    def one(self, prepare: Callable[[Host], object] | None = None, **options: Any) -> Host:
        """An app whose database is empty.

        :param prepare: called once with the new app.
        """
        key = repr((prepare, options))
        if key not in self._made:
            self._made[key] = Host(self._url, **options)
            if prepare is not None:
                prepare(self._made[key])
        made = self._made[key]
        made.owner, made.woken = "acme", 0
        with made.app.app_context():
            made.db.session.remove()
            empty(made.db.engine, made.db.metadata.sorted_tables)
        return made


@contextmanager
def host(url: str, **options: Any) -> Iterator[Host]:
    made = Host(url, **options)
    try:
        yield made
    finally:
        made.close()
