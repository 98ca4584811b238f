"""Top: the commands of `flask resthooks` that bring the tables to this version's schema."""

from __future__ import annotations

import os

import click
import sqlalchemy as sa
from flask import current_app
from flask.cli import with_appcontext

from .errors import ConfigurationError
from .jobs import Plant
from .migrations.revision import write
from .migrations.upgrading import upgrade as take_steps
from .schema import check_schema


@click.command("upgrade")
@click.option("--without-revision", is_flag=True, help="Although the app uses Flask-Migrate.")
@with_appcontext
def upgrade(without_revision: bool) -> None:
    """Add to the database what this version of the package needs: tables, columns, indexes.

    For apps without Alembic: a revision that adds the same would fail after it. Run it before the
    new version's processes start; those of the old one may go on meanwhile. What is broken off is
    gone on with by the next run.
    """
    plant: Plant = current_app.extensions["resthooks"].plant
    if "migrate" in current_app.extensions and not without_revision:
        raise click.ClickException(
            "this app uses Flask-Migrate: run `flask resthooks revision` and `flask db upgrade`; "
            "or, if its tree shall not know of it, `flask resthooks upgrade --without-revision`"
        )
    engine = plant.engine()
    count = 0
    try:
        for change in take_steps(engine, plant.tables.event.metadata):
            click.echo(f"added {change}")
            count += 1
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error
    except sa.exc.DBAPIError as error:
        raise click.ClickException(f"{error.orig}; run it again to go on") from error
    try:
        check_schema(engine, plant.tables, {}, "no step can add that again")
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error
    if not count:
        click.echo("there is nothing to add")


@click.command("revision")
@click.option("-m", "--message", help="Of the revision.")
@with_appcontext
def revision(message: str | None) -> None:
    """Write a revision for Flask-Migrate that adds what the database lacks.

    It goes into the app's own tree, on top of its head; `flask db upgrade` runs it.
    """
    plant: Plant = current_app.extensions["resthooks"].plant
    try:
        metadata = plant.tables.event.metadata
        written = write(current_app.extensions, plant.engine(), metadata, message)
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error
    for path in written:
        click.echo(f"wrote {os.path.relpath(path)}")
    if not written:
        click.echo("the database has everything; no revision is needed")
