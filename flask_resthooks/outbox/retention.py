"""Truth: retention, and its pace. Old rows are removed (`pruning.py`) **so that nobody notices**.

SQLite has one writer, and every machine has an end: so the batches are small, after each there is a
pause, and a worker looks for old rows only now and then.
"""

from __future__ import annotations

import datetime as dt
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator

from ..database import Database
from ..models import Tables
from .pruning import Pruning, Removed

PAUSE = 4.0
"""How many times as long as a batch the pause after it is."""

LONGEST_PAUSE = 1.0
"""Seconds of it, at most."""

LOOK_PAUSE = 60.0
"""Seconds between two looks, if the first one has come to the end of what is old: 0.5 to 1.5 times
as many, so that workers do not all look at the same rows."""


class Retention:
    """Removes the old rows of one database. For one thread at a time."""

    def __init__(self, database: Database, tables: Tables) -> None:
        self._database = database
        self._pruning = Pruning(database, tables)
        self._going_on: Iterator[Removed] | None = None
        self._look_at = 0.0

    def look(self, age: dt.timedelta, seconds: float, stopping: Callable[[], bool]) -> Removed:
        """Remove some of what is older than `age`, if it is time for a look; the next one goes on
        where this one ends.

        :param seconds: how long it may take, about.
        :param stopping: asked between two batches.
        """
        removed: Removed = Counter()
        start = time.monotonic()
        if self._going_on is None and start < self._look_at:
            return removed
        batches = self._going_on or self.prune(age)
        self._going_on, self._look_at = None, start + LOOK_PAUSE  # if it fails
        for batch in batches:
            removed += batch
            if stopping() or time.monotonic() - start >= seconds:
                self._going_on = batches
                break
        else:
            self._look_at = time.monotonic() + LOOK_PAUSE * random.uniform(0.5, 1.5)
        return removed

    def prune(self, age: dt.timedelta) -> Iterator[Removed]:
        """Remove all that is older than `age`; what each batch has removed."""
        batches = self._pruning.batches(self._database.now() - age)
        while True:
            start = time.monotonic()
            removed = next(batches, None)
            if removed is None:
                return
            spent = time.monotonic() - start
            yield removed
            time.sleep(min(PAUSE * spent, LONGEST_PAUSE))
