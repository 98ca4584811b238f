"""The Django project's acts, and the relay of django-outbound-webhooks (`shop_app.py relay`)."""

from __future__ import annotations

import os
import sys

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

import django

django.setup()

from acts import CITY, EMAIL, main  # noqa: E402  (models are there from here on)
from django.core.management import call_command  # noqa: E402
from django.db import connection, transaction  # noqa: E402
from shop import PEER  # noqa: E402
from shop.models import Contact  # noqa: E402
from shop.subscribing import BY_PEER  # noqa: E402


class RolledBack(Exception):
    pass


def prepare(url: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode=WAL")
    call_command("migrate", run_syncdb=True, verbosity=0)
    return BY_PEER[PEER](url)


def save(mark: str) -> None:
    with transaction.atomic():
        Contact.objects.create(name=mark, email=EMAIL, city=CITY)


def roll_back(mark: str) -> None:
    try:
        with transaction.atomic():
            Contact.objects.create(name=mark, email=EMAIL, city=CITY)
            raise RolledBack
    except RolledBack:
        pass


def relay() -> None:
    """Its command `deliver_events`, which refuses SQLite unless it is told that it runs alone."""
    from django_domain_events.delivery.run_relay import run_relay

    run_relay(worker_id="alone", allow_unsafe_concurrency=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["relay"]:
        relay()
    else:
        main(prepare, save, roll_back)
