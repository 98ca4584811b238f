"""Routes of deliveries and their attempts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from .. import ids
from ..models import EVENT, utcnow
from ..outbox.recovery import release
from . import examples
from . import schemas as s
from .errors import APIError, not_found
from .idempotency import once
from .paging import page
from .recoveries import check_active
from .rows import SubscriptionRows, count_of
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
        for name in ("status", "event_type"):
            if name in query:
                rows = rows.where(table.c[name] == query[name])
        # By their ids, which sort by time: there is an index of them.
        if "since" in query:
            rows = rows.where(table.c.id >= ids.at(ids.DELIVERY, query["since"]))
        if "until" in query:
            rows = rows.where(table.c.id < ids.at(ids.DELIVERY, query["until"]))
        return page(session, rows, table.c.id, query, show_delivery)


class Delivery(_View):
    path_parameters = (_ID_PARAMETER,)

    @operation("get_delivery", 200, s.RESTHooksDeliverySchema, example=examples.DELIVERY)
    def get(self, query: dict[str, Any], delivery_id: str) -> Any:
        """Get a delivery"""
        return show_delivery(self.delivery(delivery_id))


class Resend(_View):
    path_parameters = (_ID_PARAMETER,)

    @operation(
        "resend_delivery",
        202,
        s.RESTHooksDeliverySchema,
        example=examples.DELIVERY,
        problems=[409],
        idempotent=True,
    )
    def post(self, query: dict[str, Any], delivery_id: str) -> Any:
        """Send a delivery again

        Whatever has become of it; the schedule of its attempts begins anew, and those that there
        were are kept. One that waits is sent at once, unless its receiver has asked us to wait.
        """

        def resend() -> Any:
            delivery = self.delivery(delivery_id)
            session, tables = self.context.db.session, self.context.tables
            rows = SubscriptionRows(session, tables, self.owner)
            subscription = rows.lock(delivery["subscription_id"])
            if subscription is None or delivery["kind"] != EVENT:
                raise _not_resendable(
                    "its subscription was deleted"
                    if not subscription
                    else f"it is a {delivery['kind']}, and not an event"
                )
            check_active(subscription)
            now, table = utcnow(), tables.delivery
            again = (
                table.update()
                .where(table.c.id == delivery_id, table.c.status != "sending")
                .values(release(tables, now))
            )
            if not count_of(session.execute(again)):
                raise _not_resendable("it is being sent now")
            return show_delivery(self.delivery(delivery_id)), 202, {}

        answer = once(self, resend)
        self.context.wake()
        return answer


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


def _not_resendable(why: str) -> APIError:
    return APIError(409, f"It cannot be sent again: {why}.", error_code="not_resendable")


def show_delivery(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as the API shows it."""
    # While it is being sent, `due_at` is the end of the lease.
    waiting = row["status"] == "pending"
    return {**row, "next_attempt_at": row["due_at"] if waiting else None}


def show_attempt(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as the API shows it."""
    return {**row, "next_attempt_at": row["next_at"]}
