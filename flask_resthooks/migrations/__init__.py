"""Truth: the steps that lead from one schema of our tables to the next.

`STEPS` has them in order. Each is frozen once it is released, for databases and revisions that
were made by it exist. `upgrading.py` takes the steps that a database lacks; `revision.py` writes
them into the tree of the app's Flask-Migrate. That a database has taken a step is seen by what is
in it, not by a version that is noted somewhere: `create_all` and Alembic's autogenerate note none.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..schema import Found
from . import step_1, step_2
from .changes import AddColumn, AddIndex, AddTable, Change

STEPS: tuple[Sequence[Change], ...] = (step_1.CHANGES, step_2.CHANGES)


def missing(found: Found, steps: Sequence[Sequence[Change]] = STEPS) -> list[Change]:
    """What a database has yet to be given, in order; what it has lost of it included."""
    todo: list[Change] = []
    for change in (change for step in steps for change in step):
        if not change.made(found):
            todo.append(change)
        elif isinstance(change, AddTable):
            todo += change.lost(found)
    return todo


__all__ = ["STEPS", "AddColumn", "AddIndex", "AddTable", "Change", "missing"]
