"""A Django project with one model, and one of the peers: `PEER` says which, `bare` none."""

import os

from acts import OPTIONS

PEER = os.environ["PEER"]
CELERY = ("django-webhook", "django-webhook2", "django-webhook-subscriber")

if PEER in CELERY or OPTIONS.get("tasks"):
    from .celery_app import app as app  # tasks bind to the app that was made last
