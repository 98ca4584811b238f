"""What a fault is to the laboratory."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .bench import Bench

BOTH = ("sqlite", "postgresql")
NONE_EXPLAINED = "none"
UNSETTLED = "what was sent and not settled at the kills"
WINDOW = "what was sent while the database was away, and never settled"


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that breaks.

    :param family: tests and tables group faults by it.
    :param what: what is done, for the page.
    :param inject: does it once, while traffic goes on.
    :param explains: which duplicates it explains, for the page.
    :param workers: that run all the time; 0: each round starts its own.
    :param lanes: clients of the app.
    :param least: transactions that each client does in a round, at least.
    :param config: of the app.
    :param heal: done after the last round.
    :param trace: one of these texts must be in the logs after several rounds: the fault happened.
    :param clock: whether the workers' clock can be stepped.
    :param disk: whether the SQLite file needs a disk that can be filled.
    """

    name: str
    family: str
    what: str
    inject: Callable[[Bench, random.Random], None]
    explains: str = NONE_EXPLAINED
    databases: tuple[str, ...] = BOTH
    workers: int = 1
    lanes: int = 2
    least: int = 8
    pause: float = 0.03
    config: Mapping[str, Any] = field(default_factory=dict)
    heal: Callable[[Bench], None] = lambda bench: None
    trace: tuple[str, ...] = ()
    clock: bool = False
    disk: bool = False
