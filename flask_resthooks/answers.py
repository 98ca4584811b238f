"""Truth: the answers that were given to requests with an `Idempotency-Key`, and their SQL.

The row of a key is written first in the transaction that does what the request asks for, and
filled in last. So nobody ever sees one that is not finished, and whoever comes with the same key
meanwhile waits for that transaction's end: then there is an answer, or it is his turn.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from .models import Tables

LIFETIME = dt.timedelta(hours=24)
"""For how long an answer is given again."""

PRUNED_AT_ONCE = 1000


def find(
    connection: sa.Connection, tables: Tables, owner: str, key: str, now: dt.datetime
) -> Mapping[str, Any] | None:
    """The answer that was given to a key; None if there is none, or none any more."""
    table = tables.answer
    found = sa.select(table).where(
        table.c.owner == owner, table.c.key == key, table.c.created_at > now - LIFETIME
    )
    row = connection.execute(found).mappings().first()
    return None if row is None else dict(row)


def reserve(
    connection: sa.Connection,
    tables: Tables,
    owner: str,
    key: str,
    fingerprint: str,
    now: dt.datetime,
) -> bool:
    """Take a key for what the transaction does. Waits for another transaction that has taken it.

    :returns: False if it has been answered; then the answer cannot go away before the
        transaction's end.
    """
    table = tables.answer
    insert: Any = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    row = {"fingerprint": fingerprint, "created_at": now}
    unfinished = {"status_code": 0, "headers": "{}", "body": ""}
    taken = insert(table).values(owner=owner, key=key, **row, **unfinished)
    # An update, if only of what is over: PostgreSQL locks the row even where it updates nothing.
    taken = taken.on_conflict_do_update(
        index_elements=[table.c.owner, table.c.key],
        set_=row | unfinished,
        where=table.c.created_at <= now - LIFETIME,
    )
    result = connection.execute(taken, execution_options={"preserve_rowcount": True})
    return result.rowcount > 0


def fill(
    connection: sa.Connection,
    tables: Tables,
    owner: str,
    key: str,
    *,
    status_code: int,
    headers: str,
    body: str,
) -> None:
    """Write down the answer to a key that this transaction has reserved.

    :param headers: a JSON object's text.
    :param body: sealed.
    """
    table = tables.answer
    connection.execute(
        table.update()
        .where(table.c.owner == owner, table.c.key == key)
        .values(status_code=status_code, headers=headers, body=body)
    )


def prune(
    connection: sa.Connection, tables: Tables, before: dt.datetime, limit: int = PRUNED_AT_ONCE
) -> int:
    """Remove answers that were given before a time, the oldest first.

    :param before: a `LIFETIME` ago, or earlier.
    :param limit: how many at once.
    :returns: how many; as many as `limit`, and there may be more.
    """
    table = tables.answer
    over = (
        sa.select(table.c.owner, table.c.key)
        .where(table.c.created_at < before)
        .order_by(table.c.created_at)
        .limit(limit)
        .with_for_update(skip_locked=True)  # those are being replaced
    )
    these: sa.ColumnElement[bool]
    if connection.dialect.name == "sqlite":
        these = sa.tuple_(table.c.owner, table.c.key).in_(over)
    else:  # by their places: it would look through all answers for keys
        place: sa.ColumnElement[Any] = sa.literal_column(f"{table.name}.ctid")
        places = over.with_only_columns(place).scalar_subquery()
        these = place == sa.any_(sa.func.array(places))
    return connection.execute(table.delete().where(these)).rowcount
