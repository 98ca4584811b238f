"""Truth: the log of events. After its commit, an event gets **its place in the log**.

Sequence numbers are handed out before the commit, so "all with a greater one" passes over the late
committer. Places are given after it, by a fan-out or by the first reader, one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from ..models import Tables
from ..sets import among

ROW = 1
"""The id of the row that gives the places."""

PLACED_AT_ONCE = 500


def advance(connection: sa.Connection, tables: Tables, sequences: Sequence[int]) -> int:
    """Take places for events that have none, after all that were taken before.

    The row of the log stays locked until this is committed, so whoever has seen a place has seen
    all places before it. The places keep the distances of the sequence numbers.

    :param sequences: of the events; not empty.
    :returns: what has to be added to a sequence number to make a place of it.
    """
    log = tables.log
    first, last = min(sequences), max(sequences)
    forth = (
        log.update()
        .where(log.c.id == ROW)
        .values(last_position=log.c.last_position + (last - first + 1))
    )
    forth = forth.returning(log.c.last_position)
    position = connection.scalar(forth)
    if position is None:
        insert: Any = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
        begin = insert(log).values(id=ROW, last_position=0).on_conflict_do_nothing()
        connection.execute(begin)
        position = connection.scalars(forth).one()
    return int(position) - last


def place(connection: sa.Connection, tables: Tables, owner: str) -> int:
    """Give places to events of an owner that have none yet; how many.

    For a reader who does not wait for the fan-out. What a fan-out is at is left to it.
    """
    event = tables.event
    waiting = (
        sa.select(event.c.sequence)
        .where(event.c.owner == owner, event.c.position.is_(None))
        .order_by(event.c.sequence)
        .limit(PLACED_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    sequences = connection.scalars(waiting).all()
    if sequences:
        ahead = advance(connection, tables, sequences)
        connection.execute(
            event.update()
            .where(among(event.c.sequence, sequences), event.c.position.is_(None))
            .values(position=event.c.sequence + ahead)
        )
    return len(sequences)
