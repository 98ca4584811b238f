"""What is measured, one file each: `measure(bench)` finds the figures of its section."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from harness.bench import Bench
from harness.results import Section

NAMES = (
    "throughput",
    "slow",
    "hanging",
    "commit",
    "latency",
    "workers",
    "parts",
    "memory",
)
"""In their order; the last one takes longer than all others together."""


def of(name: str) -> Callable[[Bench], Section]:
    """The function that measures a section."""
    measure: Callable[[Bench], Section] = import_module(f".{name}", __name__).measure
    return measure
