"""How the two peers that do not watch models themselves are told of a save."""

from typing import Any

from django.apps import AppConfig
from django.db import transaction
from django.db.models.signals import post_save

from . import PEER


class Shop(AppConfig):
    name = "shop"

    def ready(self) -> None:
        told = {
            "django-outbound-webhooks": fire_event,
            "django-webhook-subscriber": send_after_commit,
        }
        if PEER == "django-outbound-webhooks":
            from . import events  # noqa: F401  (declared there, before any is fired)
        if PEER in told:
            post_save.connect(told[PEER], sender="shop.Contact")


def fire_event(instance: Any, **_: Any) -> None:
    """In the transaction of the save, as this peer wants it."""
    from django_domain_events import fire

    from .events import ContactCreated

    fire(ContactCreated(instance.id, instance.name, instance.email, instance.city))


def send_after_commit(instance: Any, **_: Any) -> None:
    from django_webhook_subscriber import send_webhooks

    transaction.on_commit(lambda: send_webhooks(instance, "created"))
