"""Face: the API (flask-smorest). This file puts its blueprint together, one per app."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flask
import flask_smorest

from . import (
    confirmation,
    deliveries,
    errors,
    event_types,
    events,
    pings,
    recoveries,
    secrets,
    subscriptions,
)
from .context import Context
from .views import METHODS, Blueprint, View

__all__ = ["Context", "create_blueprint"]

NAME = "resthooks"

_ROUTES: tuple[tuple[str, type[View]], ...] = (
    ("/event-types", event_types.EventTypes),
    ("/event-types/<name>", event_types.EventType),
    ("/event-types/<name>/sample", event_types.EventTypeSample),
    ("/subscriptions", subscriptions.Subscriptions),
    ("/subscriptions/<subscription_id>", subscriptions.Subscription),
    ("/subscriptions/<subscription_id>/confirm", confirmation.Confirmation),
    ("/subscriptions/<subscription_id>/ping", pings.Pings),
    ("/subscriptions/<subscription_id>/secret", secrets.Secret),
    ("/subscriptions/<subscription_id>/secret/rotate", secrets.SecretRotation),
    ("/subscriptions/<subscription_id>/recover", recoveries.Recoveries),
    ("/subscriptions/<subscription_id>/recover/<recovery_id>", recoveries.Recovery),
    ("/subscriptions/<subscription_id>/deliveries", deliveries.DeliveriesOfSubscription),
    ("/deliveries/<delivery_id>", deliveries.Delivery),
    ("/deliveries/<delivery_id>/attempts", deliveries.AttemptsOfDelivery),
    ("/deliveries/<delivery_id>/resend", deliveries.Resend),
    ("/events", events.Events),
    ("/events/<event_id>", events.Event),
)


def create_blueprint(
    context: Context, document: Callable[[], Any] | None = None
) -> flask_smorest.Blueprint:
    """The API of one app, for `flask_smorest.Api.register_blueprint`.

    :param document: the OpenAPI document, to be answered at `/openapi.json`; None if the app has a
        place for it.
    """
    blueprint = Blueprint(
        NAME,
        __name__,
        url_prefix=context.settings.url_prefix,
        description="Webhooks: subscribe to event types, and see what was sent.",
    )
    errors.register(blueprint)
    for rule, view in _ROUTES:
        blueprint.add_url_rule(
            rule,
            endpoint=view.__name__,
            view_func=view.of(context),
            strict_slashes=False,
            tags=[view.tag],
            parameters=list(view.path_parameters),
            methods=METHODS,
            provide_automatic_options=False,
        )
    if document is not None:
        # By Flask's own method: a document does not tell of itself.
        flask.Blueprint.add_url_rule(
            blueprint,
            "/openapi.json",
            endpoint="Document",
            view_func=lambda: flask.jsonify(document()),
        )
    return blueprint
