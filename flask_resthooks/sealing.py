"""Engine: everything of a database that is sealed: whether it can be opened, and sealing it anew.

What is sealed, and how, is `vault.py`'s.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from .database import Database
from .errors import KeyMissing
from .models import Tables, utcnow
from .vault import MARK_LENGTH, PREFIX, SETTING, Vault

AT_ONCE = 500
"""Rows that are sealed anew in one transaction."""

FORMER = "former_secrets"


def check_seals(database: Database, tables: Tables, vault: Vault) -> None:
    """See that whatever is sealed can be opened, before anything is sent.

    :raises KeyMissing: it says which.
    """
    table = tables.subscription
    with database.connect() as connection:
        found: set[str] = set()
        for column in (table.c.secret, table.c.headers, table.c.intent_secret):
            mark = sa.func.substr(column, 1, MARK_LENGTH)
            sealed = column.like(f"{PREFIX}%")
            found.update(connection.scalars(sa.select(mark).where(sealed).distinct()))
        former = sa.cast(table.c.former_secrets, sa.Text).like(f'%"{PREFIX}%')
        for entries in connection.scalars(sa.select(table.c.former_secrets).where(former)):
            marks = {vault.mark_of(entry["secret"]) for entry in entries if _signs(entry)}
            found.update(mark for mark in marks if mark is not None)
    missing = found - vault.key_marks
    if missing:
        named = ", ".join(sorted(mark.removeprefix(PREFIX) for mark in missing))
        raise KeyMissing(
            f"secrets in the database are sealed with a key that is missing (marked {named}): "
            f"{SETTING} must hold it"
        )


def _signs(former: dict[str, str]) -> bool:
    return dt.datetime.fromisoformat(former["until"]) > utcnow()


def reseal_all(database: Database, tables: Tables, vault: Vault) -> int:
    """Seal everything with the first key, what was plain included; how many subscriptions changed.

    Each transaction takes on some of them. What is done twice does no harm.

    :raises KeyMissing: if something is sealed with a key that is not there.
    """
    # Answers that are kept for a day hold secrets, too.
    _reseal(database, vault, tables.answer, (tables.answer.c.owner, tables.answer.c.key), ("body",))
    table = tables.subscription
    return _reseal(
        database, vault, table, (table.c.id,), ("secret", "headers", "intent_secret"), FORMER
    )


def _reseal(
    database: Database,
    vault: Vault,
    table: sa.Table,
    key: Sequence[sa.Column[Any]],
    names: Sequence[str],
    *lists: str,
) -> int:
    """Seal columns of a table anew; how many rows changed."""
    some = sa.select(*key, *(table.c[name] for name in (*names, *lists)))
    some = some.order_by(*key).limit(AT_ONCE).with_for_update()
    changed = 0
    last: tuple[Any, ...] | None = None
    while True:
        beyond = sa.true() if last is None else sa.tuple_(*key) > sa.tuple_(*map(sa.literal, last))
        with database.transaction() as connection:
            rows = connection.execute(some.where(beyond)).mappings().all()
            for row in rows:
                values: dict[str, Any] = {
                    name: vault.reseal(row[name]) for name in names if row[name] is not None
                }
                for name in lists:
                    values[name] = [
                        {**entry, "secret": vault.reseal(entry["secret"])} for entry in row[name]
                    ]
                values = {name: value for name, value in values.items() if value != row[name]}
                if values:
                    this = sa.and_(*(column == row[column.name] for column in key))
                    connection.execute(table.update().where(this).values(**values))
                    changed += 1
        if len(rows) < AT_ONCE:
            return changed
        last = tuple(rows[-1][column.name] for column in key)
