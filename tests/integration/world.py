"""A database with the pipeline's tables, for tests of the rooms below the extension."""

from __future__ import annotations

import datetime as dt
from typing import Any

import sqlalchemy as sa
from emptying import empty

from flask_resthooks import event_types, ids, models, signing
from flask_resthooks.outbox import Claim, Outbox, Outcome

START = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)


class World:
    """A database with the tables, a clock that stands still, and makers of rows."""

    def __init__(self, url: str) -> None:
        self.engine = sa.create_engine(url)
        self._metadata = sa.MetaData()
        self.tables = models.define(self._metadata)
        self._metadata.create_all(self.engine)
        self.begin()

    def begin(self) -> None:
        """As when it was made: nothing has happened yet."""
        empty(self.engine, self._metadata.sorted_tables)
        self.now = START
        self.outbox = Outbox(self.engine, self.tables, lambda: self.now)
        self.outbox.prepare()

    def later(self, seconds: float) -> None:
        self.now += dt.timedelta(seconds=seconds)

    def subscribe(self, *patterns: str, owner: str = "1", **values: Any) -> str:
        row = {
            "id": ids.new(ids.SUBSCRIPTION),
            "owner": owner,
            "target_url": "https://example.com/",
            "events": list(patterns),
            "status": "active",
            "metadata": {},
            "secret": signing.new_secret(),
            "created_at": self.now,
            "updated_at": self.now,
            **values,
        }
        wishes = [
            {"owner": owner, "pattern": pattern, "subscription_id": row["id"]}
            for pattern in event_types.widest(patterns)
        ]
        with self.engine.begin() as connection:
            connection.execute(self.tables.subscription.insert(), row)
            connection.execute(self.tables.subscription_event.insert(), wishes)
        return row["id"]

    def happen(self, type_: str = "contact.create", owner: str = "1", count: int = 1) -> list[str]:
        rows = [self.event_row(type_, owner) for _ in range(count)]
        with self.engine.begin() as connection:
            connection.execute(self.tables.event.insert(), rows)
        return [row["id"] for row in rows]

    def event_row(self, type_: str = "contact.create", owner: str = "1") -> dict[str, Any]:
        return {
            "id": ids.new(ids.EVENT, self.now.timestamp()),
            "type": type_,
            "owner": owner,
            "created_at": self.now,
            "data": '{"name":"Ada"}',
        }

    def deliveries(self) -> list[Any]:
        table = self.tables.delivery
        with self.engine.connect() as connection:
            return list(connection.execute(table.select().order_by(table.c.id)))

    def attempts(self) -> list[Any]:
        table = self.tables.attempt
        with self.engine.connect() as connection:
            return list(connection.execute(table.select().order_by(table.c.id)))

    def outcome(self, claim: Claim, status: str = "delivered", **values: Any) -> Outcome:
        return Outcome(claim, status, started_at=self.now, duration=0.1, **values)
