"""Lists in pages: by key, one query a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import scoped_session

from .fields import IdCursor


def page(
    session: scoped_session[Any],
    rows: sa.Select[Any],
    key: sa.Column[str],
    arguments: Mapping[str, Any],
    show: Callable[[Mapping[str, Any]], dict[str, Any]],
    *,
    newest_first: bool = True,
) -> dict[str, Any]:
    """One page of `rows`, as a list answers it.

    :param key: the id that the rows are sorted by.
    :param arguments: `limit` and maybe `cursor`, from the query string.
    :param show: makes an entry of a row.
    """
    limit = arguments["limit"]
    after = arguments.get("cursor")
    if after is not None:
        rows = rows.where(key < after if newest_first else key > after)
    rows = rows.order_by(key.desc() if newest_first else key.asc()).limit(limit + 1)
    found = session.execute(rows).mappings().all()
    here = found[:limit]
    return {
        "data": [show(dict(row)) for row in here],
        "next_cursor": IdCursor.of(here[-1]["id"]) if len(found) > limit else None,
    }
