"""Top: the commands of `flask resthooks`."""

from __future__ import annotations

import dataclasses
import logging

import click
import redis
from flask import current_app
from flask.cli import AppGroup

from .errors import ConfigurationError
from .jobs import Plant
from .settings import shown
from .worker import work

commands = AppGroup("resthooks", help="REST Hooks: the worker, and looks at what there is.")


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
    except (redis.RedisError, ConfigurationError) as error:
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


@commands.command("event-types")
def event_types() -> None:
    """List the event types of the app."""
    for event_type in current_app.extensions["resthooks"].event_types.values():
        click.echo(f"{event_type.name}\t{event_type.description}".rstrip())
