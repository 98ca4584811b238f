"""The route by which an owner tests a receiver."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flask

from .. import formats, intents
from ..models import PING, utcnow
from ..outbox.subscriptions import send
from . import examples
from . import schemas as s
from .errors import APIError, invalid
from .idempotency import once
from .parsing import readable
from .sampling import samples
from .subscriptions import ID_PARAMETER, LOCATION, SubscriptionView
from .views import operation

TESTABLE = ("active", "inactive", "disabled")


class Pings(SubscriptionView):
    path_parameters = (ID_PARAMETER,)

    @operation(
        "ping",
        202,
        s.RESTHooksDeliverySchema,
        example=examples.DELIVERY,
        body=s.RESTHooksPingSchema,
        body_examples=examples.PING,
        headers=LOCATION,
        problems=[409],
        idempotent=True,
    )
    def post(self, query: dict[str, Any], given: dict[str, Any], subscription_id: str) -> Any:
        """Send a test hook

        A hook `resthooks.ping`, or the sample of an event type, marked by the header
        `x-hook-test`. It is sent like every other, but once, and also while the subscription is
        paused or disabled; the answer is the delivery to look at.
        """
        self.owned(subscription_id)
        event = self._sample(given["event"]) if "event" in given else None

        def ping() -> Any:
            row = self.locked(subscription_id)
            self._check_testable(row)
            now = utcnow()
            session, tables = self.context.db.session, self.context.tables
            name = event.type if event else intents.PING
            delivery = send(tables, session, row, PING, name, now, event)
            location = flask.url_for(".Delivery", delivery_id=delivery["id"])
            return {**delivery, "next_attempt_at": now}, 202, {"Location": location}

        answer = once(self, ping)
        self.context.wake()
        return answer

    def _check_testable(self, row: Mapping[str, Any]) -> None:
        """
        :raises APIError: 409.
        """
        why = None
        if self.context.intent is not None and row["confirmed_at"] is None:
            why = "its receiver has not shown that it wants to be called"
        elif row["status"] not in TESTABLE:
            why = f"the subscription is {row['status']}"
        elif row["expires_at"] is not None and row["expires_at"] <= utcnow():
            why = "the subscription has expired"
        if why is not None:
            raise APIError(409, f"No test is sent: {why}.", error_code="subscription_not_testable")

    def _sample(self, name: str) -> formats.Event:
        """
        :raises APIError: 422, if the caller sees no such event type.
        """
        types = self.context.event_types
        if name not in types or not types[name].seen_by(self.owner):
            raise invalid({"event": [f"there is no event type {readable(name)!r}"]})
        return samples(self.context, self.owner, types[name], 1)[0]
