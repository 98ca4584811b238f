"""The SQL of subscriptions, and transactions."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import scoped_session

from ..event_types import widest
from ..models import HANDSHAKE, Tables, utcnow
from ..outbox.subscriptions import cancel_deliveries, send

TRIES = 3

Result = TypeVar("Result")
Row = Mapping[str, Any]
AnySession = scoped_session[Any]


def write(session: AnySession, work: Callable[[], Result]) -> Result:
    """Do `work` and commit; on failure roll back.

    Again if the database asks for it: a worker locks deliveries first and their subscription
    after, so that a deadlock is possible, and SQLite may be locked.
    """
    tries_left = TRIES
    while True:
        tries_left -= 1
        try:
            result = work()
            session.commit()
            return result
        except sa.exc.OperationalError as error:
            session.rollback()
            if not tries_left:
                error.hide_parameters = True
                raise
        except BaseException as error:
            session.rollback()
            if isinstance(error, sa.exc.DBAPIError):
                error.hide_parameters = True  # they may be secrets, and it will be logged
            raise


class SubscriptionRows:
    """The subscriptions of one owner."""

    def __init__(self, session: AnySession, tables: Tables, owner: str) -> None:
        self._session = session
        self._tables = tables
        self._owner = owner

    def all(self) -> sa.Select[Any]:
        """The statement that selects them."""
        table = self._tables.subscription
        return sa.select(table).where(table.c.owner == self._owner)

    def get(self, subscription_id: str) -> Row | None:
        table = self._tables.subscription
        mine = self.all().where(table.c.id == subscription_id)
        row = self._session.execute(mine).mappings().first()
        return None if row is None else dict(row)

    def add(self, row: Row) -> None:
        self._session.execute(self._tables.subscription.insert().values(**row, owner=self._owner))
        self._add_patterns(row["id"], row["events"])

    def ask(self, row: Row, event_type: str, due_at: dt.datetime) -> None:
        """Have the receiver asked for its intent, and send nothing else.

        :param row: with its `intent_secret`.
        :param event_type: of what asks.
        :param due_at: when.
        """
        reason = "the receiver is asked whether it wants to be called"
        self._session.execute(cancel_deliveries(self._tables, row["id"], reason, utcnow()))
        subscription = {**row, "owner": self._owner}
        send(self._tables, self._session, subscription, HANDSHAKE, event_type, due_at)

    def change(self, row: Row, changes: Callable[[Row], dict[str, Any]]) -> Row:
        """Change one that is locked; how it is now.

        :param changes: makes new values of it as it was. If there are none, nothing happens.
        """
        values = changes(row)
        if not values:
            return row
        values = {**values, "updated_at": utcnow()}
        table = self._tables.subscription
        self._session.execute(table.update().where(table.c.id == row["id"]).values(**values))
        if "events" in values:
            self._remove_patterns(row["id"])
            self._add_patterns(row["id"], values["events"])
        return {**row, **values}

    def lock(self, subscription_id: str) -> Row | None:
        """One, that nobody else can change until the transaction ends; None if there is none."""
        table = self._tables.subscription
        # Written to before it is read: that locks it on SQLite as well, which has no FOR UPDATE.
        touch = (
            table.update()
            .where(table.c.id == subscription_id, table.c.owner == self._owner)
            .values(updated_at=table.c.updated_at)
        )
        if not count_of(self._session.execute(touch)):
            return None
        return self.get(subscription_id)

    def remove(self, subscription_id: str, now: dt.datetime) -> None:
        """Remove one, and cancel what it would still have got."""
        table = self._tables.subscription
        self._session.execute(table.delete().where(table.c.id == subscription_id))
        self._remove_patterns(subscription_id)
        self._session.execute(
            cancel_deliveries(self._tables, subscription_id, "the subscription was deleted", now)
        )

    def _remove_patterns(self, subscription_id: str) -> None:
        wish = self._tables.subscription_event
        self._session.execute(wish.delete().where(wish.c.subscription_id == subscription_id))

    def _add_patterns(self, subscription_id: str, events: Sequence[str]) -> None:
        wish = self._tables.subscription_event
        self._session.execute(
            wish.insert(),
            [
                {"owner": self._owner, "pattern": pattern, "subscription_id": subscription_id}
                for pattern in widest(events)
            ],
        )


def count_of(result: Any) -> int:
    """How many rows a statement has changed."""
    count: int = result.rowcount
    return count
