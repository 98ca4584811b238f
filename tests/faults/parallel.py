"""Several faults at a time, each in a process that has a laboratory with servers of its own."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context

from tests.servers import PostgresServer, RedisServer

from .laboratory import Laboratory, Result, named


@dataclass(frozen=True, slots=True)
class Order:
    """A campaign that is to be run."""

    fault: str
    database: str
    seed: int
    rounds: int
    short: bool


def run(orders: Sequence[Order], jobs: int) -> Iterator[Result]:
    """Their results, as they come."""
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for future in as_completed([pool.submit(_campaign, order) for order in orders]):
            yield future.result()


@functools.cache
def _laboratory() -> Laboratory:
    return Laboratory(RedisServer(), functools.cache(PostgresServer))


def _campaign(order: Order) -> Result:
    return _laboratory().campaign(
        [named(order.fault)],
        order.database,
        seed=order.seed,
        rounds=order.rounds,
        short=order.short,
    )
