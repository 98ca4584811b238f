"""Lists in pages: by key, one query a page; and the `Link` to the next one (RFC 8288)."""

from __future__ import annotations

import re
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

# Words of names, and how names end, of what a host may know its callers by.
_SECRETS = {"auth", "authorization", "hmac", "jwt", "pwd", "session", "sid", "sig", "sign"}
_SECRET_ENDS = ("key", "token", "secret", "password", "passwd", "signature", "credential")
_WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")


def next_link(request: flask.Request, own: Collection[str], cursor: str) -> str:
    """The value of `Link` that names the next page of the list that was asked for.

    It repeats the query, with another cursor. What looks like a secret of the host's (`api_key`) is
    left out, for headers get into more logs than one thinks: who authenticates so adds it again, as
    to every request.

    :param own: the names of our parameters, which are kept whatever they are called.
    """
    # Byte by byte, and encoded anew: nothing in it can end the URL or the header.
    given = parse_qsl(
        request.query_string.decode("latin-1"), keep_blank_values=True, encoding="latin-1"
    )
    kept = [
        (name, value)
        for name, value in given
        if name != CURSOR and (name in own or not _is_secret(name))
    ]
    query = urlencode([*kept, (CURSOR, cursor)], encoding="latin-1")
    return f'<{quote(request.script_root + request.path)}?{query}>; rel="next"'


def _is_secret(name: str) -> bool:
    words = [word.lower() for word in _WORD.findall(name)]
    return any(word in _SECRETS or word.rstrip("s").endswith(_SECRET_ENDS) for word in words)


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
