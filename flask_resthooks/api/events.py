"""Routes of the log of events: what a receiver can ask for instead of being called."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from .. import formats, ids
from ..models import EVENT
from ..outbox import log
from ..outbox.claiming import event_columns
from ..sets import among, bytes_of
from . import examples
from . import schemas as s
from .context import Context
from .errors import invalid, not_found
from .fields import IdCursor
from .rows import write
from .views import View, id_parameter, operation

LATE = 3600.0
"""Seconds from the making of an event's id to its place in the log, at most."""

_ID_PARAMETER = id_parameter("event", ids.EVENT)

PAGE_BYTES = formats.MAX_DATA
"""Bytes of `data` and `previous` after which a page ends early."""


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
                rows = rows.where(self._beyond(name, query[name], ascending))
        order = table.c.position.asc() if forward else table.c.position.desc()
        size = bytes_of(table.c.data) + bytes_of(sa.func.coalesce(table.c.previous, ""))
        listed = session.execute(
            rows.with_only_columns(table.c.id, table.c.position, size.label("size"))
            .order_by(order)
            .limit(query["limit"] + 1)
        ).all()
        here = _fitting(listed[: query["limit"]])
        positions = among(table.c.position, [entry.position for entry in here])
        found = session.execute(self.mine().where(positions).order_by(order)).mappings()
        return {
            "data": [entry for entry in map(self.show, found) if entry is not None],
            "next_cursor": IdCursor.of(here[-1].id) if len(listed) > len(here) else None,
        }

    def _beyond(self, name: str, event_id: str, ascending: bool) -> sa.ColumnElement[bool]:
        """What comes after an event in the log, or before it.

        :raises APIError: 422, if it is none of theirs.
        """
        table = self.context.tables.event
        one = sa.select(table.c.position).where(table.c.id == event_id, table.c.owner == self.owner)
        row = self.context.db.session.execute(one).first()
        if row is None and ids.before(event_id, -LATE) < ids.time_part():
            return self._beyond_gone(event_id, ascending)
        if row is None or row.position is None:
            raise invalid({name: ["That event is not in the log."]})
        position: int = row.position
        return table.c.position > position if ascending else table.c.position < position

    def _beyond_gone(self, event_id: str, ascending: bool) -> sa.ColumnElement[bool]:
        """The same of an event that is not kept any more, by its time: then next to nothing is left
        of what was around it, and what is left may be told twice rather than not at all."""
        table = self.context.tables.event
        if ascending:
            # Not by the index of ids: the beginning of the log is near.
            return sa.func.substr(table.c.id, 5, 12) >= ids.before(event_id, LATE)
        older = sa.select(sa.func.max(table.c.position)).where(
            table.c.owner == self.owner, table.c.id < event_id
        )
        return table.c.position <= older.scalar_subquery()


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


def _fitting(listed: Sequence[Any]) -> Sequence[Any]:
    """The first of them, as many as fit in a page; one at least."""
    size = 0
    for number, entry in enumerate(listed):
        size += entry.size
        if number and size > PAGE_BYTES:
            return listed[:number]
    return listed


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
