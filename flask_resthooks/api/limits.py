"""How many subscriptions an owner may have, and whether two of them may be alike.

Both are judged inside the transaction that makes or changes one, under a lock per owner: what is
counted cannot become more before its end. (Where the app runs PostgreSQL at REPEATABLE READ, what
was committed by others since the transaction's first statement does not count.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import sqlalchemy as sa

from ..event_types import widest
from ..models import Tables
from ..settings import Settings
from .errors import APIError
from .rows import AnySession

_LOCKS = 0x52455354
"""The first number of our advisory locks: "REST". Apps that use some have other ones."""


def check_room(session: AnySession, tables: Tables, settings: Settings, owner: str) -> None:
    """Whether an owner may have one more subscription.

    To be called in the transaction that makes it, as its first statement.

    :raises APIError: 409.
    """
    limit = settings.subscription_limit
    if not limit:
        return
    _lock(session, tables, owner)
    table = tables.subscription
    count = session.scalar(sa.select(sa.func.count()).where(table.c.owner == owner)) or 0
    if count >= limit:
        raise APIError(
            409,
            f"There are {count} subscriptions, and {limit} are allowed; delete one that is not "
            "needed.",
            error_code="subscription_limit",
        )


def check_duplicate(
    session: AnySession,
    tables: Tables,
    owner: str,
    target_url: str,
    events: Sequence[str],
    except_id: str | None = None,
) -> None:
    """Whether a subscription is unlike every other one of its owner's.

    Those are alike that send the same events to the same URL, whatever their status.

    To be called in the transaction that makes or changes it, before anything is read.

    :param except_id: of the subscription itself, if it is there already.
    :raises APIError: 409, naming the other one.
    """
    _lock(session, tables, owner)
    table = tables.subscription
    others = sa.select(table.c.id, table.c.events).where(
        table.c.owner == owner, table.c.target_url == target_url
    )
    if except_id is not None:
        others = others.where(table.c.id != except_id)
    wanted = set(widest(events))
    for other in session.execute(others.order_by(table.c.id)):
        if set(widest(other.events)) == wanted:
            raise APIError(
                409,
                f"The subscription {other.id} has the same target URL and the same events.",
                {"duplicate_of": [other.id]},
                error_code="duplicate_subscription",
            )


def _lock(session: AnySession, tables: Tables, owner: str) -> None:
    """Until the transaction's end, nobody else gets here for the same owner."""
    table = tables.subscription
    if session.get_bind(clause=table).dialect.name == "sqlite":
        # There is one writer only, and this becomes it.
        session.execute(table.delete().where(sa.false()))
        return
    number = int.from_bytes(hashlib.sha256(owner.encode()).digest()[:4], "big", signed=True)
    session.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCKS, number)))
