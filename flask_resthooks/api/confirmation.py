"""The route by which a receiver shows its intent after the handshake. It needs no owner."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import flask
import sqlalchemy as sa

from .. import ids, intents
from ..models import utcnow
from ..outbox.subscriptions import confirmed
from . import schemas as s
from .errors import APIError, not_found
from .rows import write
from .subscriptions import ID_PARAMETER
from .views import View, operation

MAX_TRIES = 10
"""Wrong secrets after which a handshake is over."""

HEADER = "X-Hook-Secret"


class Confirmation(View):
    tag = "Webhook subscriptions"
    path_parameters = (
        ID_PARAMETER,
        {
            "name": HEADER,
            "in": "header",
            "description": "The secret of the handshake, if it is not in the body.",
            "schema": {"type": "string"},
        },
    )

    @operation(
        "confirm_subscription",
        200,
        s.RESTHooksConfirmedSchema,
        example={"status": "active"},
        body=s.RESTHooksConfirmationSchema,
        public=True,
        problems=[403, 409],
    )
    def post(self, query: dict[str, Any], given: dict[str, Any], subscription_id: str) -> Any:
        """Show that the receiver wants to be called

        For the receiver, with the secret of the handshake: in the header `X-Hook-Secret`, or in
        the body. Nobody has to be authenticated.
        """
        secret = flask.request.headers.get(HEADER) or given.get("secret", "")
        if not ids.is_id(ids.SUBSCRIPTION, subscription_id):
            raise not_found("subscription")
        objection = write(
            self.context.db.session, lambda: self._confirm(subscription_id, secret, utcnow())
        )
        if objection is not None:
            raise objection
        return {"status": "active"}

    def _confirm(self, subscription_id: str, secret: str, now: dt.datetime) -> APIError | None:
        """An objection is returned, not raised: the try is to be counted."""
        session, table = self.context.db.session, self.context.tables.subscription
        mine = table.c.id == subscription_id
        # Counted before it is looked at: so nobody gets more tries by having several at once.
        session.execute(
            table.update()
            .where(mine, table.c.intent_secret.is_not(None))
            .values(intent_tries=table.c.intent_tries + 1)
        )
        found: Any = session.execute(sa.select(table).where(mine)).mappings().first()
        if found is None:
            return not_found("subscription")
        row: Mapping[str, Any] = found
        open_to_all = getattr(self.context.intent, "confirms_later", False)
        waits = open_to_all and row["intent_secret"] is not None
        if not waits or row["status"] not in ("pending", "active"):
            return APIError(409, "It waits for no confirmation.", error_code="not_pending")
        right = intents.same(secret, self.context.vault.open(row["intent_secret"]))
        if right and row["status"] == "active":
            session.execute(table.update().where(mine).values(intent_tries=row["intent_tries"] - 1))
            return None
        if row["intent_tries"] > MAX_TRIES or row["intent_until"] <= now:
            return APIError(
                409,
                "It is too late, or there were too many tries: its owner has to have it asked "
                'again, with {"active": true}.',
                error_code="confirmation_expired",
            )
        if not right:
            return APIError(403, "It is another secret, or none.", error_code="wrong_secret")
        session.execute(table.update().where(mine).values(intent_tries=row["intent_tries"] - 1))
        session.execute(confirmed(self.context.tables, subscription_id, now))
        return None
