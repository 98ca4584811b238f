"""Truth: writes the steps that a database lacks as revisions into the tree of the app's
Flask-Migrate.

The operations are spelled out, so that they are read, reviewed and run like the app's own, and
need nothing of this package when a database is made anew years from now.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ..errors import ConfigurationError
from ..schema import Found
from . import STEPS, AddColumn, AddIndex, AddTable, Change, missing
from .changes import indexes_of
from .upgrading import LOCK_TIMEOUT

NEEDED = (
    "this writes into the tree of Flask-Migrate, which the app does not use: `flask resthooks "
    "upgrade` changes the database directly; or pip install 'flask-resthooks[migrate]', and set up "
    "Flask-Migrate"
)

_PREFACE = f"""\
if op.get_context().dialect.name == "postgresql":
    # A lock that cannot be had soon: fail, and be run again. Commits would queue behind.
    op.execute("SET LOCAL lock_timeout = '{LOCK_TIMEOUT:g}s'")"""

_END = """\
if op.get_context().dialect.name == "postgresql":
    op.execute("SET LOCAL lock_timeout = DEFAULT")"""

_APART = """\
# Beside transactions, so outside of one.
with op.get_context().autocommit_block():"""


def write(
    extensions: Mapping[str, Any],
    engine: sa.Engine,
    like: sa.MetaData,
    message: str | None = None,
    steps: Sequence[Sequence[Change]] = STEPS,
) -> list[Path]:
    """Write what the database lacks into new revisions; their files.

    Indexes of tables that may be big stand in a revision of their own: they are not built in a
    transaction, so that nothing else must have been done in one before.

    :param extensions: the app's.
    :raises ConfigurationError: if the app does not use Flask-Migrate, or the database has not come
        to the head of its tree.
    """
    if "migrate" not in extensions:
        raise ConfigurationError(NEEDED)
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError, rev_id

    config = extensions["migrate"].migrate.get_config()
    try:
        script = ScriptDirectory.from_config(config)
        _see_that_it_is_at_the_head(config, script)
        with engine.connect() as connection:
            todo = missing(Found.read(connection, like.schema), steps)
        written = []
        for apart, changes in itertools.groupby(todo, lambda each: isinstance(each, AddIndex)):
            told = message or f"flask_resthooks schema {len(steps)}"
            upgrades, downgrades = _bodies(list(changes), like)
            for_template = _for_template(upgrades, downgrades)
            made: Any = script.generate_revision(
                rev_id(), f"{told}, indexes" if apart else told, **for_template
            )
            written.append(Path(made.path))
    except CommandError as error:
        raise ConfigurationError(str(error)) from error
    return written


def _see_that_it_is_at_the_head(config: Any, script: Any) -> None:
    """As autogenerate does: what a database lacks says nothing else of the tree."""
    from alembic.runtime.environment import EnvironmentContext

    def compare(revision: Any, context: Any) -> list[Any]:
        if set(context.get_current_heads()) != set(script.get_heads()):
            raise ConfigurationError(
                "the database has not come to the head of the app's revisions: run `flask db "
                "upgrade` first"
            )
        return []

    with EnvironmentContext(config, script, fn=compare, dont_mutate=True):
        script.run_env()


def _for_template(upgrades: str, downgrades: str) -> dict[str, Any]:
    """Flask-Migrate's template for several databases calls the first one of them ``""``."""
    return {
        "upgrades": upgrades,
        "downgrades": downgrades,
        "_upgrades": upgrades,
        "_downgrades": downgrades,
        "imports": "",
    }


def _bodies(changes: Sequence[Change], like: sa.MetaData) -> tuple[str, str]:
    """Of the functions `upgrade` and `downgrade`."""
    there = [_render(_operations(change, like)) for change in changes]
    back = [_render(_undoing(change, like)) for change in reversed(changes)]
    if all(isinstance(change, AddIndex) for change in changes):
        there, back = ([_APART, *map(_inside, some)] for some in (there, back))
    elif any(isinstance(change, AddColumn) for change in changes):
        there, back = ([_PREFACE, *some, _END] for some in (there, back))
    return _indented("\n".join(there)), _indented("\n".join(back))


def _operations(change: Change, like: sa.MetaData) -> list[Any]:
    from alembic.operations import ops

    if isinstance(change, AddTable):
        table = change.define(like)
        indexes = map(ops.CreateIndexOp.from_index, indexes_of(table))
        return [ops.CreateTableOp.from_table(table), *indexes]
    if isinstance(change, AddColumn):
        return [ops.AddColumnOp(change.table, change.make(), schema=like.schema)]
    create = ops.CreateIndexOp(
        change.name,
        change.table,
        list(change.columns),
        schema=like.schema,
        unique=change.unique,
        **change.options(),
    )
    return [*_undoing(change, like), create]


def _undoing(change: Change, like: sa.MetaData) -> list[Any]:
    from alembic.operations import ops

    if isinstance(change, AddTable):
        return [ops.DropTableOp(change.table, schema=like.schema)]
    if isinstance(change, AddColumn):
        return [ops.DropColumnOp(change.table, change.make().name, schema=like.schema)]
    return [
        ops.DropIndexOp(
            change.name,
            change.table,
            schema=like.schema,
            if_exists=True,
            postgresql_concurrently=True,
        )
    ]


def _render(operations: Iterable[Any]) -> str:
    from alembic.autogenerate import render_python_code
    from alembic.operations import ops

    text = render_python_code(ops.UpgradeOps(list(operations)))
    lines = (line.removeprefix("    ") for line in text.splitlines())
    return "\n".join(line for line in lines if not line.startswith("# ###"))


def _inside(text: str) -> str:
    return "\n".join(f"    {line}" if line else "" for line in text.splitlines())


def _indented(text: str) -> str:
    """For a template, which has indented the first line."""
    return _inside(text).lstrip()
