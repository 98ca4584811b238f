"""Routes of subscriptions: the list, and each of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import flask

from .. import ids, intents, signing
from ..models import utcnow
from . import etags, examples, limits, statuses
from . import schemas as s
from .checks import Checks
from .context import Context
from .errors import APIError, not_found
from .idempotency import once
from .paging import page
from .rows import SubscriptionRows, write
from .views import View, id_parameter, operation

ID_PARAMETER = id_parameter("subscription", ids.SUBSCRIPTION)
LOCATION = {"Location": {"description": "Its URL.", "schema": {"type": "string"}}}
HANDSHAKE_PAUSE = dt.timedelta(seconds=10)
"""Between two handshakes of one subscription: nobody has said yet that they want to be called."""

# Secrets are nothing for a cache.
NO_STORE = {"Cache-Control": "no-store"}

_SHOWN = s.RESTHooksSubscriptionSchema()


class SubscriptionView(View):
    """Of subscriptions, or of one of them."""

    tag = "Webhook subscriptions"
    checks: ClassVar[Checks]

    @classmethod
    def of(cls, context: Context) -> type[View]:
        made = super().of(context)
        made.checks = Checks(context)  # type: ignore[attr-defined]
        return made

    @cached_property
    def rows(self) -> SubscriptionRows:
        return SubscriptionRows(self.context.db.session, self.context.tables, self.owner)

    def owned(self, subscription_id: str) -> Mapping[str, Any]:
        """A subscription of the caller's.

        :raises APIError: 404.
        """
        return owned(self.rows, subscription_id)

    def locked(self, subscription_id: str) -> Mapping[str, Any]:
        """The same, locked until the transaction ends.

        :raises APIError: 404.
        """
        shaped = ids.is_id(ids.SUBSCRIPTION, subscription_id)
        row = self.rows.lock(subscription_id) if shaped else None
        if row is None:
            raise not_found("subscription")
        return row

    def new_handshake(self, last_until: dt.datetime | None = None) -> dict[str, Any]:
        """The columns of a handshake that begins now, or as soon as it may.

        :param last_until: when the time of the last one is over.
        """
        soonest = utcnow()
        if last_until is not None:
            last = last_until - self._intent_timeout
            # One that waits to be sent is replaced, at its time.
            soonest = last if last > soonest else max(soonest, last + HANDSHAKE_PAUSE)
        return {
            "intent_id": ids.new(ids.HANDSHAKE),
            "intent_secret": self.context.vault.seal(intents.new_secret()),
            "intent_until": soonest + self._intent_timeout,
            "intent_tries": 0,
        }

    def ask(self, row: Mapping[str, Any]) -> None:
        """Have the receiver asked for its intent, in the handshake that `row` begins."""
        event_type = self.context.opening_event(row["id"], row["target_url"])
        self.rows.ask(row, event_type, row["intent_until"] - self._intent_timeout)

    @property
    def _intent_timeout(self) -> dt.timedelta:
        return dt.timedelta(seconds=self.context.settings.intent_timeout)

    def with_defaults(self, given: dict[str, Any]) -> dict[str, Any]:
        """What was given, with the defaults that the app decides."""
        return {"format": self.context.settings.format, **given}

    def check_duplicate(self, target_url: str, events: list[str], but: str | None = None) -> None:
        if self.context.settings.refuse_duplicates:
            session, tables = self.context.db.session, self.context.tables
            limits.check_duplicate(session, tables, self.owner, target_url, events, but)


class Subscriptions(SubscriptionView):
    @operation(
        "list_subscriptions",
        200,
        s.RESTHooksSubscriptionListSchema,
        example=examples.page(examples.SUBSCRIPTION),
        query=s.SubscriptionQuery,
        by_id=False,
    )
    def get(self, query: dict[str, Any]) -> Any:
        """List the subscriptions, newest first"""
        table = self.context.tables.subscription
        return page(self.context.db.session, self.rows.all(), table.c.id, query, show)

    @operation(
        "create_subscription",
        201,
        s.RESTHooksSubscriptionCreatedSchema,
        example=examples.CREATED,
        body=s.RESTHooksSubscriptionCreateSchema,
        body_examples=examples.CREATE,
        by_id=False,
        headers=LOCATION,
        problems=[409],
        idempotent=True,
        conditional=True,
    )
    def post(self, query: dict[str, Any], given: dict[str, Any]) -> Any:
        """Subscribe a URL to event types

        The answer holds the secret that the hooks are verified with. The URL must be public: an
        address of a private network is refused.
        """
        context = self.context
        values = self.checks.columns(self.with_defaults(given), self.owner)
        context.check_seals()
        secret = given["secret"] if "secret" in given else signing.new_secret(given["signature"])
        values["secret"] = context.vault.seal(secret)
        active = values.pop("active", True)

        def add() -> Any:
            now = utcnow()
            status = statuses.first_status(active, asks=context.intent is not None)
            row = {
                **values,
                "id": ids.new(ids.SUBSCRIPTION),
                "status": status,
                "rate": None,
                "disabled_reason": None,
                "created_at": now,
                "updated_at": now,
                **(self.new_handshake() if status == "pending" else {"intent_until": None}),
            }
            limits.check_room(context.db.session, context.tables, context.settings, self.owner)
            self.check_duplicate(row["target_url"], row["events"])
            self.rows.add(row)
            if row["status"] == "pending":
                self.ask(row)
            location = flask.url_for(".Subscription", subscription_id=row["id"])
            headers = {"Location": location, "ETag": tag_of(row), **NO_STORE}
            return {**show(row), "secret": signing.shown_secret(secret)}, 201, headers

        answer = once(self, add)
        if context.intent is not None:
            context.wake()
        return answer


class Subscription(SubscriptionView):
    path_parameters = (ID_PARAMETER,)

    @operation(
        "get_subscription",
        200,
        s.RESTHooksSubscriptionSchema,
        example=examples.SUBSCRIPTION,
        conditional=True,
    )
    def get(self, query: dict[str, Any], subscription_id: str) -> Any:
        """Get a subscription"""
        row = self.owned(subscription_id)
        return show(row), 200, {"ETag": tag_of(row)}

    @operation(
        "replace_subscription",
        200,
        s.RESTHooksSubscriptionSchema,
        example=examples.SUBSCRIPTION,
        body=s.RESTHooksSubscriptionReplaceSchema,
        body_examples=examples.REPLACE,
        problems=[409],
        conditional=True,
    )
    def put(self, query: dict[str, Any], given: dict[str, Any], subscription_id: str) -> Any:
        """Replace a subscription

        What is absent goes back to its default. Id and secret stay.
        """
        # It begins again, unless it is about to: whom it asks now need not be asked anew.
        active = "active" not in given
        return self._change(subscription_id, self.with_defaults(given), active_again=active)

    @operation(
        "change_subscription",
        200,
        s.RESTHooksSubscriptionSchema,
        example=examples.SUBSCRIPTION,
        body=s.RESTHooksSubscriptionChangeSchema,
        body_examples=examples.CHANGE,
        problems=[409],
        conditional=True,
    )
    def patch(self, query: dict[str, Any], given: dict[str, Any], subscription_id: str) -> Any:
        """Change some fields of a subscription"""
        return self._change(subscription_id, given)

    @operation("delete_subscription", 204, conditional=True)
    def delete(self, query: dict[str, Any], subscription_id: str) -> None:
        """Unsubscribe

        What waits is cancelled; what is being sent comes to its end. Deliveries can still be
        looked at by their ids.
        """

        def remove() -> None:
            etags.check(flask.request.headers, tag_of(self.locked(subscription_id)))
            self.rows.remove(subscription_id, utcnow())

        write(self.context.db.session, remove)

    def _change(
        self, subscription_id: str, given: dict[str, Any], *, active_again: bool = False
    ) -> Any:
        try:
            values = self.checks.columns(given, self.owner)
        except APIError:
            self.owned(subscription_id)  # what is not there cannot be sent anything wrong
            raise
        asked = False

        def changes(row: Mapping[str, Any]) -> dict[str, Any]:
            nonlocal asked
            etags.check(flask.request.headers, tag_of(row))
            now = utcnow()
            asks = self.context.intent is not None
            wanted = dict(values)
            if active_again and row["status"] != "pending":
                wanted["active"] = True
            more = statuses.changed(row, wanted, asks=asks, now=now)
            made = {name: value for name, value in (values | more).items() if name != "active"}
            if {"target_url", "events"} & made.keys():
                will_be = {**row, **made}
                self.check_duplicate(will_be["target_url"], will_be["events"], row["id"])
            asked = made.get("status") == "pending"
            if asked:
                made |= self.new_handshake(row["intent_until"])
                self.ask({**row, **made})
            return made

        def change() -> Mapping[str, Any]:
            return self.rows.change(self.locked(subscription_id), changes)

        row = write(self.context.db.session, change)
        if asked:
            self.context.wake()
        return show(row), 200, {"ETag": tag_of(row)}


def owned(rows: SubscriptionRows, subscription_id: str) -> Mapping[str, Any]:
    """A subscription of the caller's.

    :raises APIError: 404.
    """
    row = rows.get(subscription_id) if ids.is_id(ids.SUBSCRIPTION, subscription_id) else None
    if row is None:
        raise not_found("subscription")
    return row


def show(row: Mapping[str, Any], now: dt.datetime | None = None) -> dict[str, Any]:
    """A row as the API shows it; the schemas leave out what is not for everybody."""
    shown = dict(row)
    over = row["expires_at"] is not None and row["expires_at"] <= (now or utcnow())
    if row["status"] in ("active", "pending") and over:
        shown["status"] = "expired"
    shown["active"] = shown["status"] == "active"
    shown["confirm_until"] = row["intent_until"] if shown["status"] == "pending" else None
    return shown


def tag_of(row: Mapping[str, Any]) -> str:
    """The `ETag` of a subscription."""
    return etags.of(_SHOWN.dump(show(row)))
