"""Face: the API (flask-smorest). This file puts its blueprint together, one per app."""

from __future__ import annotations

import flask_smorest

from . import deliveries, errors, event_types, subscriptions
from .context import Context
from .views import METHODS, Blueprint, View

__all__ = ["Context", "create_blueprint"]

NAME = "resthooks"

_ROUTES: tuple[tuple[str, type[View]], ...] = (
    ("/event-types", event_types.EventTypes),
    ("/event-types/<name>", event_types.EventType),
    ("/subscriptions", subscriptions.Subscriptions),
    ("/subscriptions/<subscription_id>", subscriptions.Subscription),
    ("/subscriptions/<subscription_id>/secret", subscriptions.Secret),
    ("/subscriptions/<subscription_id>/deliveries", deliveries.DeliveriesOfSubscription),
    ("/deliveries/<delivery_id>", deliveries.Delivery),
    ("/deliveries/<delivery_id>/attempts", deliveries.AttemptsOfDelivery),
)


def create_blueprint(context: Context) -> flask_smorest.Blueprint:
    """The API of one app, for `flask_smorest.Api.register_blueprint`."""
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
    return blueprint
