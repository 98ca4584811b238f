"""The settings that each peer's own documentation asks for, and nothing that slows one down."""

import django
from acts import DATABASE, OPTIONS, REDIS

from . import PEER

PEER_APPS = {
    "bare": [],
    "django-webhook": ["django_webhook"],
    "django-webhook2": ["django_webhook"],
    "django-webhook-subscriber": ["django_webhook_subscriber"],
    "django-outbound-webhooks": ["django_domain_events", "django_outbound_webhooks"],
    "django-signal-webhooks": ["signal_webhooks"],
    "drf-hooks": ["drf_hooks"],
}
SECRET_KEY = "of a comparison"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    *PEER_APPS[PEER],
    "shop.apps.Shop",
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATABASE,
        "OPTIONS": {"timeout": 60},
    }
}
if django.VERSION >= (5, 1):  # it waits for the writer's lock, where it would fail otherwise
    DATABASES["default"]["OPTIONS"]["transaction_mode"] = "IMMEDIATE"

CELERY_BROKER_URL = REDIS
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_ACKS_LATE = OPTIONS.get("acks_late", False)
CELERY_TASK_REJECT_ON_WORKER_LOST = OPTIONS.get("acks_late", False)
if "visibility_timeout" in OPTIONS:
    CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": OPTIONS["visibility_timeout"]}

DJANGO_WEBHOOK = {"MODELS": ["shop.Contact"]}
SIGNAL_WEBHOOKS = {
    "CIPHER_KEY": "MDEyMzQ1Njc4OWFiY2RlZg==",
    "HOOKS": {"shop.models.Contact": ...},
}
HOOK_EVENTS = {"contact.created": "shop.Contact.created+"}
DJANGO_OUTBOUND_WEBHOOKS = {
    "ALLOW_PRIVATE_ADDRESSES": OPTIONS.get("allow_private", True),
    "DELIVERY_LEASE_SECONDS": OPTIONS.get("lease", 60),
    "TIMEOUT_SECONDS": OPTIONS.get("timeout", 10.0),
}
DJANGO_DOMAIN_EVENTS = {}
if OPTIONS.get("tasks"):
    DJANGO_DOMAIN_EVENTS["TASK_BACKEND"] = (
        "django_domain_events.delivery.celery_backend.CeleryBackend"
    )
    CELERY_IMPORTS = ["django_domain_events.delivery.celery_backend"]
if PEER == "django-webhook-subscriber":  # both are in its documentation
    CELERY_RESULT_BACKEND = REDIS
    CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS}
    }
