"""Lists in pages: by key, one query a page; and the `Link` to the next one (RFC 8288)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import flask
import sqlalchemy as sa
from sqlalchemy.orm import scoped_session

from .fields import IdCursor

CURSOR = "cursor"
NEXT_CURSOR = "next_cursor"

DOCUMENTED_HEADERS = {
    "Link": {
        "description": 'The next page: `</path?query>; rel="next"`. Absent on the last one.',
        "schema": {"type": "string"},
    }
}


def next_link(request: flask.Request, own: Collection[str], cursor: str) -> str:
    """The value of `Link` that names the next page of the list that was asked for.

    It repeats our own parameters, with another cursor. What a host takes besides may be a secret
    (`api_key`), and headers get into more logs than one thinks: who sends it adds it again, as to
    every request.

    :param own: the names of our parameters.
    """
    # Byte by byte, and encoded anew: nothing in it can end the URL or the header.
    given = parse_qsl(
        request.query_string.decode("latin-1"), keep_blank_values=True, encoding="latin-1"
    )
    kept = [(name, value) for name, value in given if name != CURSOR and name in own]
    query = urlencode([*kept, (CURSOR, cursor)], encoding="latin-1")
    return f'<{quote(request.script_root + request.path)}?{query}>; rel="next"'


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
    after = arguments.get(CURSOR)
    if after is not None:
        rows = rows.where(key < after if newest_first else key > after)
    rows = rows.order_by(key.desc() if newest_first else key.asc()).limit(limit + 1)
    found = session.execute(rows).mappings().all()
    here = found[:limit]
    return {
        "data": [show(dict(row)) for row in here],
        NEXT_CURSOR: IdCursor.of(here[-1]["id"]) if len(found) > limit else None,
    }
