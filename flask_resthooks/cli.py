"""Top: the commands of `flask resthooks`."""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
import time
from collections import Counter

import click
import redis
import sqlalchemy as sa
from flask import current_app
from flask.cli import AppGroup

from .api.fields import parse_rfc3339
from .api.schemas.words import SUBSCRIPTION_STATUSES
from .cli_schema import revision, upgrade
from .database import Database
from .errors import ConfigurationError, KeyMissing, SchemaMismatch
from .jobs import Plant
from .models import utcnow
from .outbox import Outbox, Removed
from .outbox.recovery import begin_recovery, going_on
from .schema import check_schema
from .sealing import check_seals, reseal_all
from .settings import shown
from .worker import work

PROGRESS_PAUSE = 2.0
"""Seconds between two lines that say how far a command has come."""

LONGEST_RETENTION = 36500

commands = AppGroup("resthooks", help="REST Hooks: the worker, and looks at what there is.")
commands.add_command(upgrade)
commands.add_command(revision)


@commands.command("worker")
@click.option("--burst", is_flag=True, help="End when nothing is due any more.")
@click.option(
    "--concurrency",
    type=click.IntRange(1, 1000),
    help="POSTs in flight, instead of RESTHOOKS_CONCURRENCY.",
)
def worker(burst: bool, concurrency: int | None) -> None:
    """Send hooks: RQ worker, scheduler and sweep in one process.

    SIGTERM: what is in flight is finished, the rest given back; the exit status is 0.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    plant: Plant = current_app.extensions["resthooks"].plant
    if concurrency is not None:
        plant = dataclasses.replace(
            plant, settings=dataclasses.replace(plant.settings, concurrency=concurrency)
        )
    try:
        work(plant, burst=burst)
    except (ConfigurationError, KeyMissing, SchemaMismatch) as error:
        raise click.ClickException(str(error)) from error
    except redis.RedisError as error:
        raise click.ClickException(f"{shown(plant.settings.redis_url)}: {error}") from error


@commands.command("sweep")
def sweep() -> None:
    """Ask for a drain, whatever Redis remembers.

    `flask resthooks worker` does so by itself. For a plain `rq worker` it can be run by cron: a
    Redis that has lost its data has lost the sweeps that were scheduled, too.
    """
    plant: Plant = current_app.extensions["resthooks"].plant
    try:
        plant.wakeups.insist()
    except (redis.RedisError, ConfigurationError) as error:
        raise click.ClickException(f"{shown(plant.settings.redis_url)}: {error}") from error


@commands.command("subscriptions")
@click.option("--owner", help="Of this owner only.")
@click.option("--status", type=click.Choice(SUBSCRIPTION_STATUSES), help="In this status only.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True)
def subscriptions(owner: str | None, status: str | None, limit: int) -> None:
    """List subscriptions, newest first: id, owner, status, events, URL, and why it was disabled."""
    plant: Plant = current_app.extensions["resthooks"].plant
    table = plant.tables.subscription
    rows = sa.select(table).order_by(table.c.id.desc()).limit(limit)
    if owner is not None:
        rows = rows.where(table.c.owner == owner)
    if status is not None:
        rows = rows.where(table.c.status == status)
    with plant.engine().connect() as connection:
        for row in connection.execute(rows).mappings():
            facts = [row[name] for name in ("id", "owner", "status")]
            facts += [",".join(row["events"]), row["target_url"], row["disabled_reason"] or ""]
            click.echo("\t".join(map(_plain, facts)).rstrip())


@commands.command("recover")
@click.argument("subscription_id")
@click.option("--since", required=True, help="A time of RFC 3339, such as 2026-01-15T00:00:00Z.")
def recover(subscription_id: str, since: str) -> None:
    """Have everything sent that a subscription has missed since a time.

    Workers do it in the background, as after POST /subscriptions/<id>/recover.
    """
    plant: Plant = current_app.extensions["resthooks"].plant
    moment = parse_rfc3339(since)
    if moment is None:
        raise click.BadParameter("it is no time of RFC 3339", param_hint="--since")
    table = plant.tables.subscription
    with plant.engine().begin() as connection:
        mine = sa.select(table).where(table.c.id == subscription_id).with_for_update()
        row = connection.execute(mine).mappings().first()
        if row is None:
            raise click.ClickException(f"there is no subscription {subscription_id}")
        if row["status"] != "active":
            raise click.ClickException(f"it is {row['status']}; nothing is sent to it")
        other = going_on(plant.tables, connection, subscription_id)
        if other is not None:
            raise click.ClickException(f"the recovery {other} is still going on")
        made = begin_recovery(plant.tables, connection, dict(row), moment, utcnow())
    plant.wakeups.wake()
    click.echo(made["id"])


@commands.command("prune")
@click.option(
    "--older-than",
    type=float,
    metavar="DAYS",
    help="Instead of RESTHOOKS_RETENTION; may be a fraction.",
)
def prune(older_than: float | None) -> None:
    """Remove events, deliveries and attempts that came to their end long ago.

    Workers do it by themselves, a little at a time. It may be run beside them, and ended and run
    again. What is still due stays, with all that belongs to it.
    """
    plant: Plant = current_app.extensions["resthooks"].plant
    days = plant.settings.retention if older_than is None else older_than
    if older_than is None and not days:
        raise click.UsageError("RESTHOOKS_RETENTION is 0, for ever: say --older-than DAYS")
    if not 0 < days <= LONGEST_RETENTION:
        raise click.BadParameter(
            f"it is a number of days, more than 0 and at most {LONGEST_RETENTION}",
            param_hint="--older-than",
        )
    try:
        check_schema(plant.engine(), plant.tables, current_app.extensions)
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error
    outbox = Outbox(plant.engine(), plant.tables)
    removed: Removed = Counter()
    told_at = time.monotonic()
    try:
        outbox.synchronise()
        for batch in outbox.prune(dt.timedelta(days=days)):
            removed += batch
            if time.monotonic() - told_at >= PROGRESS_PAUSE:
                click.echo(f"{_counted(removed)} so far")
                told_at = time.monotonic()
    except sa.exc.DBAPIError as error:
        click.echo(f"{_counted(removed)} so far")
        raise click.ClickException(f"{error.orig}; run it again to go on") from error
    click.echo(f"{_counted(removed)} were removed")


@commands.command("re-encrypt")
def re_encrypt() -> None:
    """Seal all secrets in the database with the first of RESTHOOKS_ENCRYPTION_KEYS.

    To be run when keys were set for the first time, and after a new one was put before the others.
    """
    plant: Plant = current_app.extensions["resthooks"].plant
    try:
        check_seals(Database(plant.engine()), plant.tables, plant.vault)
        if not plant.vault.key_marks:
            raise click.ClickException("RESTHOOKS_ENCRYPTION_KEYS is empty: there is nothing to do")
        changed = reseal_all(Database(plant.engine()), plant.tables, plant.vault)
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{changed} subscriptions were sealed anew")


@commands.command("event-types")
def event_types() -> None:
    """List the event types of the app."""
    for event_type in current_app.extensions["resthooks"].event_types.values():
        click.echo(f"{event_type.name}\t{event_type.description}".rstrip())


def _counted(removed: Removed) -> str:
    """What was removed, for a terminal."""
    words = ["events", "deliveries", "attempts"]
    words += sorted(word for word in removed if word not in words)
    return ", ".join(f"{removed[word]:,} {word}" for word in words)


def _plain(text: str) -> str:
    """What a customer wrote, fit for a terminal: a line's end would forge a row."""
    return "".join(character if character.isprintable() else "\ufffd" for character in str(text))
