"""One subscription, by each peer's own models: `BY_PEER[name](url)`, which tells its secret."""

import base64
import secrets

from .models import Contact


def django_webhook(url: str) -> str:
    from django_webhook.models import Webhook, WebhookSecret, WebhookTopic

    webhook = Webhook.objects.create(url=url)
    topic, _ = WebhookTopic.objects.get_or_create(name="shop.Contact/create")
    webhook.topics.add(topic)
    secret = secrets.token_hex(16)
    WebhookSecret.objects.create(webhook=webhook, token=secret)
    return secret


def django_webhook_subscriber(url: str) -> str:
    from django.contrib.contenttypes.models import ContentType
    from django_webhook_subscriber.models import WebhookSubscriber, WebhookSubscription

    kind = ContentType.objects.get_for_model(Contact)
    subscriber = WebhookSubscriber.objects.create(name="one", content_type=kind, target_url=url)
    WebhookSubscription.objects.create(subscriber=subscriber, event_name="created")
    return str(subscriber.secret)


def django_outbound_webhooks(url: str) -> str:
    from django_outbound_webhooks import register_endpoint

    secret = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
    register_endpoint(name="one", url=url, secret=secret, event_names=["shop.ContactCreated"])
    return secret


def django_signal_webhooks(url: str) -> str:
    from signal_webhooks.models import Webhook

    secret = secrets.token_hex(16)
    Webhook.objects.create(
        name="one", signal="CREATE", ref="shop.models.Contact", endpoint=url, auth_token=secret
    )
    return secret


def drf_hooks(url: str) -> str:
    from django.contrib.auth.models import User
    from drf_hooks.models import Hook

    Hook.objects.create(user=User.objects.create(), event="contact.created", target=url)
    return ""


BY_PEER = {
    "bare": lambda url: "",
    "django-webhook": django_webhook,
    "django-webhook2": django_webhook,
    "django-webhook-subscriber": django_webhook_subscriber,
    "django-outbound-webhooks": django_outbound_webhooks,
    "django-signal-webhooks": django_signal_webhooks,
    "drf-hooks": drf_hooks,
}
