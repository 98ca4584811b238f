"""Routes of subscriptions."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import flask

from .. import ids, signing
from ..errors import ConfigurationError
from ..models import utcnow
from . import examples
from . import schemas as s
from .context import Context
from .errors import APIError, invalid, not_found
from .paging import page
from .parsing import readable
from .rows import SubscriptionRows, write
from .targets import TargetCheck
from .views import View, id_parameter, operation

ID_PARAMETER = id_parameter("subscription", ids.SUBSCRIPTION)
_LOCATION = {
    "Location": {"description": "The subscription's URL.", "schema": {"type": "string"}},
}
# Secrets are nothing for a cache.
_NO_STORE = {"Cache-Control": "no-store"}


class _View(View):
    tag = "Webhook subscriptions"
    target_check: ClassVar[TargetCheck]

    @classmethod
    def of(cls, context: Context) -> type[View]:
        made = super().of(context)
        made.target_check = TargetCheck(context.guard)  # type: ignore[attr-defined]
        return made

    @cached_property
    def rows(self) -> SubscriptionRows:
        return SubscriptionRows(self.context.db.session, self.context.tables, self.owner)

    def check(self, given: dict[str, Any]) -> dict[str, Any]:
        """What was given, as columns; what the schemas could not judge is judged here.

        :raises APIError: 422.
        """
        errors: dict[str, list[str]] = {}
        if "target_url" in given:
            objection = self.target_check.objection(given["target_url"])
            if objection is not None:
                errors["target_url"] = [objection]
        field = "event" if "event" in given else "events"
        if field in given:
            given["events"] = [given.pop(field)] if field == "event" else given[field]
            unknown = self._unknown_events(given["events"])
            if unknown:
                errors[field] = unknown
        if "secret" in given:
            try:
                signing.key_of(given["secret"])
            except ConfigurationError as rule:
                errors["secret"] = [str(rule)]
        if errors:
            raise invalid(errors)
        return given

    def _unknown_events(self, names: list[str]) -> list[str]:
        types = self.context.event_types
        unknown = [readable(name) for name in names if not types.matches_any(name)]
        if not unknown:
            return []
        known = ", ".join(types) or "none"
        listed = ", ".join(map(repr, unknown[:10]))
        return [f"no event type is matched by {listed}; known: {known}"]


class Subscriptions(_View):
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
        headers=_LOCATION,
    )
    def post(self, query: dict[str, Any], given: dict[str, Any]) -> Any:
        """Subscribe a URL to event types

        The answer holds the secret that the hooks are signed with. The URL must be public: an
        address of a private network is refused.
        """
        values = self.check(given)
        now = utcnow()
        row = {
            "secret": signing.new_secret(),
            **values,
            "id": ids.new(ids.SUBSCRIPTION),
            "status": "active" if values.pop("active") else "inactive",
            "disabled_reason": None,
            "created_at": now,
            "updated_at": now,
        }
        del row["active"]
        write(self.context.db.session, lambda: self.rows.add(row))
        location = flask.url_for(".Subscription", subscription_id=row["id"])
        headers = {"Location": location, **_NO_STORE}
        return show(row), 201, headers


class Subscription(_View):
    path_parameters = (ID_PARAMETER,)

    @operation(
        "get_subscription",
        200,
        s.RESTHooksSubscriptionSchema,
        example=examples.SUBSCRIPTION,
    )
    def get(self, query: dict[str, Any], subscription_id: str) -> Any:
        """Get a subscription"""
        return show(owned(self.rows, subscription_id))

    @operation(
        "replace_subscription",
        200,
        s.RESTHooksSubscriptionSchema,
        example=examples.SUBSCRIPTION,
        body=s.RESTHooksSubscriptionReplaceSchema,
        body_examples=examples.REPLACE,
    )
    def put(self, query: dict[str, Any], given: dict[str, Any], subscription_id: str) -> Any:
        """Replace a subscription

        What is absent goes back to its default. Id and secret stay.
        """
        return self._change(subscription_id, given)

    @operation(
        "change_subscription",
        200,
        s.RESTHooksSubscriptionSchema,
        example=examples.SUBSCRIPTION,
        body=s.RESTHooksSubscriptionChangeSchema,
        body_examples=examples.CHANGE,
    )
    def patch(self, query: dict[str, Any], given: dict[str, Any], subscription_id: str) -> Any:
        """Change some fields of a subscription"""
        return self._change(subscription_id, given)

    @operation("delete_subscription", 204)
    def delete(self, query: dict[str, Any], subscription_id: str) -> None:
        """Unsubscribe

        What waits is cancelled; what is being sent comes to its end. Deliveries can still be
        looked at by their ids.
        """
        owned(self.rows, subscription_id)
        removed = write(
            self.context.db.session, lambda: self.rows.remove(subscription_id, utcnow())
        )
        if not removed:
            raise not_found("subscription")

    def _change(self, subscription_id: str, given: dict[str, Any]) -> dict[str, Any]:
        # Before anything is asked of the database: resolving a name may take a while, and nobody is
        # to wait for a connection or a lock meanwhile.
        try:
            values = self.check(given)
        except APIError:
            owned(self.rows, subscription_id)  # what is not there cannot be sent anything wrong
            raise
        active = values.pop("active", None)
        row = write(
            self.context.db.session,
            lambda: self.rows.change(
                subscription_id, lambda row: {**values, **turned(row["status"], active)}
            ),
        )
        if row is None:
            raise not_found("subscription")
        return show(row)


class Secret(_View):
    path_parameters = (ID_PARAMETER,)

    @operation("get_secret", 200, s.RESTHooksSecretSchema, example={"secret": examples.SECRET})
    def get(self, query: dict[str, Any], subscription_id: str) -> Any:
        """Get the secret that a subscription's hooks are signed with"""
        row = owned(self.rows, subscription_id)
        return {"secret": row["secret"]}, 200, _NO_STORE


def owned(rows: SubscriptionRows, subscription_id: str) -> Mapping[str, Any]:
    """A subscription of the caller's.

    :raises APIError: 404.
    """
    row = rows.get(subscription_id) if ids.is_id(ids.SUBSCRIPTION, subscription_id) else None
    if row is None:
        raise not_found("subscription")
    return row


def turned(status: str, active: bool | None) -> dict[str, Any]:
    """What changes when `active` is set (None: it was not)."""
    if active is True and status in ("inactive", "disabled"):
        return {"status": "active", "disabled_reason": None}
    if active is False and status in ("active", "disabled"):
        return {"status": "inactive", "disabled_reason": None}
    return {}


def show(row: Mapping[str, Any], now: dt.datetime | None = None) -> dict[str, Any]:
    """A row as the API shows it; the schemas leave out what is not for everybody."""
    shown = dict(row)
    over = row["expires_at"] is not None and row["expires_at"] <= (now or utcnow())
    if row["status"] == "active" and over:
        shown["status"] = "expired"
    shown["active"] = shown["status"] == "active"
    return shown
