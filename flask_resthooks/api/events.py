"""Routes of the log of events: what a receiver can ask for instead of being called."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from .. import formats, ids
from ..models import EVENT
from ..outbox import log
from ..outbox.claiming import event_columns
from . import examples
from . import schemas as s
from .context import Context
from .errors import invalid, not_found
from .fields import IdCursor
from .rows import write
from .views import View, id_parameter, operation

_ID_PARAMETER = id_parameter("event", ids.EVENT)


class _View(View):
    tag = "Webhook events"

    def mine(self) -> sa.Select[Any]:
        """The statement that selects the caller's events, as far as they see their types."""
        table, types = self.context.tables.event, self.context.event_types
        seen = [name for name in types if types[name].seen_by(self.owner)]
        return sa.select(table).where(
            table.c.owner == self.owner, table.c.kind == EVENT, table.c.type.in_(seen)
        )

    def show(self, row: Any) -> dict[str, Any] | None:
        """A row as the API shows it; None if the caller may not be told of it any more."""
        columns = event_columns(self.context.tables)
        event = formats.Event(*(row[column.name] for column in columns))
        return show_event(event, self.context) if self.context.permits(self.owner, event) else None


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
        session, tables = self.context.db.session, self.context.tables
        table = tables.event
        unplaced = sa.select(table.c.sequence).where(
            table.c.owner == self.owner, table.c.position.is_(None)
        )
        if session.execute(unplaced.limit(1)).first() is not None:  # no drain has come to them yet
            write(session, lambda: log.place(self.connection(table), tables, self.owner))
        rows = _filtered(self.mine().where(table.c.position.is_not(None)), table, query)
        forward = "after" in query
        for name, ascending in (("after", True), ("cursor", forward)):
            if name in query:
                position = self._position(name, query[name])
                beyond = table.c.position > position
                rows = rows.where(beyond if ascending else table.c.position < position)
        order = table.c.position.asc() if forward else table.c.position.desc()
        rows = rows.order_by(order).limit(query["limit"] + 1)
        found = session.execute(rows).mappings().all()
        here = found[: query["limit"]]
        more = len(found) > len(here)
        return {
            "data": [entry for entry in map(self.show, here) if entry is not None],
            "next_cursor": IdCursor.of(here[-1]["id"]) if more else None,
        }

    def _position(self, name: str, event_id: str) -> int:
        table = self.context.tables.event
        position = self.context.db.session.scalar(
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
            shown = None if row is None else self.show(row)
            if shown is not None:
                return shown
        raise not_found("event")


def show_event(event: formats.Event, context: Context) -> dict[str, Any]:
    """An event as the API shows it: as much of it as a hook would tell."""
    thin = context.event_types[event.type].payload == formats.THIN
    shown = {
        "id": event.id,
        "type": event.type,
        "timestamp": event.timestamp,
        "sequence": event.sequence,
        "resource": event.resource,
        "url": event.url,
        "data": json.loads(formats.thin_data(event) if thin else event.data),
    }
    if event.previous is not None and not thin:
        shown["previous"] = json.loads(event.previous)
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
