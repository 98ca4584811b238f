"""Routes of deliveries and their attempts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from .. import ids
from . import examples
from . import schemas as s
from .errors import not_found
from .paging import page
from .rows import SubscriptionRows
from .subscriptions import ID_PARAMETER, owned
from .views import View, id_parameter, operation

_ID_PARAMETER = id_parameter("delivery", ids.DELIVERY)


class _View(View):
    tag = "Webhook deliveries"

    def delivery(self, delivery_id: str) -> Mapping[str, Any]:
        """A delivery of the caller's.

        :raises APIError: 404.
        """
        table = self.context.tables.delivery
        if ids.is_id(ids.DELIVERY, delivery_id):
            mine = sa.select(table).where(table.c.id == delivery_id, table.c.owner == self.owner)
            row = self.context.db.session.execute(mine).mappings().first()
            if row is not None:
                return dict(row)
        raise not_found("delivery")


class DeliveriesOfSubscription(_View):
    path_parameters = (ID_PARAMETER,)

    @operation(
        "list_deliveries",
        200,
        s.RESTHooksDeliveryListSchema,
        example=examples.page(examples.DELIVERY),
        query=s.DeliveryQuery,
    )
    def get(self, query: dict[str, Any], subscription_id: str) -> Any:
        """List a subscription's deliveries, newest first"""
        session, table = self.context.db.session, self.context.tables.delivery
        owned(SubscriptionRows(session, self.context.tables, self.owner), subscription_id)
        rows = sa.select(table).where(table.c.subscription_id == subscription_id)
        if "status" in query:
            rows = rows.where(table.c.status == query["status"])
        return page(session, rows, table.c.id, query, show_delivery)


class Delivery(_View):
    path_parameters = (_ID_PARAMETER,)

    @operation("get_delivery", 200, s.RESTHooksDeliverySchema, example=examples.DELIVERY)
    def get(self, query: dict[str, Any], delivery_id: str) -> Any:
        """Get a delivery"""
        return show_delivery(self.delivery(delivery_id))


class AttemptsOfDelivery(_View):
    path_parameters = (_ID_PARAMETER,)

    @operation(
        "list_attempts",
        200,
        s.RESTHooksAttemptListSchema,
        example=examples.page(examples.ATTEMPT),
        query=s.AttemptQuery,
    )
    def get(self, query: dict[str, Any], delivery_id: str) -> Any:
        """List a delivery's attempts, in their order"""
        self.delivery(delivery_id)
        table = self.context.tables.attempt
        rows = sa.select(table).where(table.c.delivery_id == delivery_id)
        session = self.context.db.session
        return page(session, rows, table.c.id, query, show_attempt, newest_first=False)


def show_delivery(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as the API shows it."""
    # While it is being sent, `due_at` is the end of the lease.
    waiting = row["status"] == "pending"
    return {**row, "next_attempt_at": row["due_at"] if waiting else None}


def show_attempt(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as the API shows it."""
    return {**row, "next_attempt_at": row["next_at"]}
