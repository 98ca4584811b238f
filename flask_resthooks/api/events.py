"""Routes of the log of events: what a receiver can ask for instead of being called."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from typing import Any

import flask
import sqlalchemy as sa

from .. import formats, ids
from ..authorization import Authorization
from ..models import EVENT
from ..outbox import Outbox
from ..outbox.claiming import event_columns
from . import examples
from . import schemas as s
from .errors import invalid, not_found
from .fields import IdCursor
from .views import View, id_parameter, operation

_ID_PARAMETER = id_parameter("event", ids.EVENT)

FAN_OUT = 500
"""Events that one fan-out takes on for a reader."""

MAX_FAN_OUTS = 4
"""Fan-outs that one reader does, at most."""


class _View(View):
    tag = "Webhook events"

    def mine(self) -> sa.Select[Any]:
        """The statement that selects the caller's events, as far as they see their types."""
        table = self.context.tables.event
        types = self.context.event_types
        hidden = [name for name in types if not types[name].seen_by(self.owner)]
        rows = sa.select(table).where(table.c.owner == self.owner, table.c.kind == EVENT)
        return rows.where(table.c.type.not_in(hidden)) if hidden else rows

    def may_see(self, row: Any) -> bool:
        """Whether the caller may still be told of it: as before a hook is sent."""
        columns = event_columns(self.context.tables)
        event = formats.Event(*(row[column.name] for column in columns))
        return self.context.permits(self.owner, event)


class Events(_View):
    @operation(
        "list_events",
        200,
        s.RESTHooksEventListSchema,
        example=examples.page(examples.EVENT),
        query=s.EventQuery,
        by_id=False,
    )
    def get(self, query: dict[str, Any]) -> Any:
        """List what has happened, newest first

        With `after`, what came after an event that you have, the oldest first: poll with the id of
        the last one. Nothing is passed over, and nothing comes in before what was listed already.
        """
        table = self.context.tables.event
        outbox = Outbox(self.context.db.engine, self.context.tables)
        self._number(outbox)
        rows = _filtered(self.mine().where(table.c.position.is_not(None)), table, query)
        forward = "after" in query
        with outbox.connect() as connection:
            for name, ascending in (("after", True), ("cursor", forward)):
                if name in query:
                    position = self._position(connection, name, query[name])
                    beyond = table.c.position > position
                    rows = rows.where(beyond if ascending else table.c.position < position)
            order = table.c.position.asc() if forward else table.c.position.desc()
            rows = rows.order_by(order).limit(query["limit"] + 1)
            found = connection.execute(rows).mappings().all()
        here = found[: query["limit"]]
        more = len(found) > len(here)
        return {
            "data": [show_event(dict(row)) for row in here if self.may_see(row)],
            "next_cursor": IdCursor.of(here[-1]["id"]) if more else None,
        }

    def _number(self, outbox: Outbox) -> None:
        """Give the caller's newest events their places in the log, if no drain has done so yet."""
        table = self.context.tables.event
        waiting = (
            sa.select(table.c.sequence)
            .where(table.c.position.is_(None), table.c.owner == self.owner)
            .limit(1)
        )
        app: Any = flask.current_app
        sight = Authorization(app, self.context.event_types).sight
        delay = self.context.settings.retry_schedule[0]
        for _ in range(MAX_FAN_OUTS):
            with outbox.connect() as connection:
                if connection.execute(waiting).first() is None:
                    return
            if not outbox.fan_out(FAN_OUT, delay, sight)[0]:
                return  # somebody else is at it

    def _position(self, connection: sa.Connection, name: str, event_id: str) -> int:
        table = self.context.tables.event
        position = connection.scalar(
            sa.select(table.c.position).where(table.c.id == event_id, table.c.owner == self.owner)
        )
        if position is None:
            raise invalid({name: ["That event is not in the log, or no longer."]})
        return int(position)


class Event(_View):
    path_parameters = (_ID_PARAMETER,)

    @operation("get_event", 200, s.RESTHooksEventSchema, example=examples.EVENT)
    def get(self, query: dict[str, Any], event_id: str) -> Any:
        """Get an event"""
        if ids.is_id(ids.EVENT, event_id):
            mine = self.mine().where(self.context.tables.event.c.id == event_id)
            row = self.context.db.session.execute(mine).mappings().first()
            if row is not None and self.may_see(row):
                return show_event(dict(row))
        raise not_found("event")


def show_event(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as the API shows it."""
    shown = {
        "id": row["id"],
        "type": row["type"],
        "timestamp": row["created_at"],
        "sequence": row["sequence"],
        "resource": row["resource"],
        "url": row["url"],
        "data": json.loads(row["data"]),
    }
    if row["previous"] is not None:
        shown["previous"] = json.loads(row["previous"])
    return shown


def _filtered(rows: sa.Select[Any], table: sa.Table, query: Mapping[str, Any]) -> sa.Select[Any]:
    for name in ("type", "resource"):
        if name in query:
            rows = rows.where(table.c[name] == query[name])
    return between(rows, table.c.created_at, query)


def between(rows: sa.Select[Any], column: Any, query: Mapping[str, Any]) -> sa.Select[Any]:
    """`rows` of the times that were asked for."""
    since: dt.datetime | None = query.get("since")
    until: dt.datetime | None = query.get("until")
    if since is not None:
        rows = rows.where(column >= since)
    if until is not None:
        rows = rows.where(column < until)
    return rows
