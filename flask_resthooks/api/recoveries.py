"""Routes by which an owner gets what a subscription has missed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flask
import sqlalchemy as sa

from .. import ids
from ..models import utcnow
from ..outbox.recovery import begin_recovery, going_on
from . import examples
from . import schemas as s
from .errors import APIError, not_found
from .idempotency import once
from .paging import page
from .subscriptions import ID_PARAMETER, LOCATION, SubscriptionView
from .views import id_parameter, operation

_RECOVERY_PARAMETER = id_parameter("recovery", ids.RECOVERY)


class Recoveries(SubscriptionView):
    tag = "Webhook deliveries"
    path_parameters = (ID_PARAMETER,)

    @operation(
        "list_recoveries",
        200,
        s.RESTHooksRecoveryListSchema,
        example=examples.page(examples.RECOVERY),
        query=s.RecoveryQuery,
    )
    def get(self, query: dict[str, Any], subscription_id: str) -> Any:
        """List a subscription's recoveries, newest first"""
        self.owned(subscription_id)
        table = self.context.tables.recovery
        rows = sa.select(table).where(table.c.subscription_id == subscription_id)
        return page(self.context.db.session, rows, table.c.id, query, dict)

    @operation(
        "recover",
        202,
        s.RESTHooksRecoverySchema,
        example=examples.RECOVERY,
        body=s.RESTHooksRecoverSchema,
        body_examples=examples.RECOVER,
        headers=LOCATION,
        problems=[409],
        idempotent=True,
    )
    def post(self, query: dict[str, Any], given: dict[str, Any], subscription_id: str) -> Any:
        """Have everything sent that was missed since a time

        What was given up or cancelled, and what happened while the subscription was not active. It
        goes on in the background; the answer's `Location` shows how far it has come.
        """

        def begin() -> Any:
            subscription = self.locked(subscription_id)
            self._check(subscription)
            row = begin_recovery(
                self.context.tables,
                self.context.db.session,
                subscription,
                given["since"],
                utcnow(),
            )
            location = flask.url_for(
                ".Recovery", subscription_id=subscription_id, recovery_id=row["id"]
            )
            return row, 202, {"Location": location}

        answer = once(self, begin)
        self.context.wake()
        return answer

    def _check(self, subscription: Mapping[str, Any]) -> None:
        """
        :raises APIError: 409.
        """
        check_active(subscription)
        session, tables = self.context.db.session, self.context.tables
        other = going_on(tables, session, subscription["id"])
        if other is not None:
            raise APIError(
                409,
                f"The recovery {other} is still going on.",
                {"recovery": [other]},
                error_code="recovery_going_on",
            )


class Recovery(SubscriptionView):
    tag = "Webhook deliveries"
    path_parameters = (ID_PARAMETER, _RECOVERY_PARAMETER)

    @operation("get_recovery", 200, s.RESTHooksRecoverySchema, example=examples.RECOVERY)
    def get(self, query: dict[str, Any], subscription_id: str, recovery_id: str) -> Any:
        """Get a recovery, to see how far it has come"""
        self.owned(subscription_id)
        table = self.context.tables.recovery
        mine = sa.select(table).where(
            table.c.id == recovery_id, table.c.subscription_id == subscription_id
        )
        if ids.is_id(ids.RECOVERY, recovery_id):
            row = self.context.db.session.execute(mine).mappings().first()
            if row is not None:
                return dict(row)
        raise not_found("recovery")


def check_active(subscription: Mapping[str, Any]) -> None:
    """
    :raises APIError: 409, if nothing is sent to the subscription now.
    """
    if subscription["status"] != "active":
        raise APIError(
            409,
            f"The subscription is {subscription['status']}; nothing is sent to it.",
            error_code="subscription_not_active",
        )
