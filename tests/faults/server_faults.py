"""Faults of Redis, and of receivers: nothing of them may cost a hook; those of Redis, nothing."""

from __future__ import annotations

import contextlib
import functools
import random

from .bench import Bench
from .fault import Fault
from .receivers import TROUBLES

TROUBLED = 0.3
"""Which part of the requests a receiver fails."""


def kill_redis(low: float, high: float, bench: Bench, chance: random.Random) -> None:
    """It comes back empty: it has no persistence."""
    bench.sleep(chance, 0.0, 0.3)
    bench.redis.stop()
    bench.sleep(chance, low, high)
    bench.redis.start()


def freeze_redis(bench: Bench, chance: random.Random) -> None:
    bench.sleep(chance, 0.0, 0.3)
    bench.redis.freeze()
    bench.sleep(chance, 0.5, 1.0 if bench.short else 2.5)
    bench.redis.thaw()


def fill_redis(bench: Bench, chance: random.Random) -> None:
    bench.sleep(chance, 0.0, 0.3)
    client = bench.redis.client()
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", 1)
    bench.sleep(chance, 0.5, 1.5)
    client.config_set("maxmemory", 0)
    bench.redis.close_clients()


def flush_redis(bench: Bench, chance: random.Random) -> None:
    client = bench.redis.client()
    for _ in range(5):
        bench.sleep(chance, 0.0, 0.15)
        client.flushall()
    bench.redis.close_clients()


def heal_redis(bench: Bench) -> None:
    bench.redis.start()
    bench.redis.client().config_set("maxmemory", 0)
    bench.redis.close_clients()


def trouble(what: str, bench: Bench, chance: random.Random) -> None:
    """All receivers, some of the time."""
    with contextlib.ExitStack() as stack:
        for receiver in bench.receivers:
            stack.enter_context(receiver.making(what, TROUBLED, chance))
        bench.sleep(chance, 0.5, 1.0)


FAULTS = [
    Fault(
        "Redis killed",
        "redis",
        "SIGKILL; away for up to 1.5 s, and back empty",
        functools.partial(kill_redis, 0.3, 1.5),
        heal=heal_redis,
        trace=("Redis",),
    ),
    Fault(
        "Redis restarted empty",
        "redis",
        "SIGKILL, and back at once",
        functools.partial(kill_redis, 0.0, 0.0),
        heal=heal_redis,
    ),
    Fault(
        "Redis frozen",
        "redis",
        "SIGSTOP for up to 2.5 s: it takes connections and does not answer",
        freeze_redis,
        heal=heal_redis,
        trace=("no wake-up could be sent", "Redis is away", "did not take a wake-up"),
    ),
    Fault(
        "Redis out of memory",
        "redis",
        "`maxmemory 1` with `noeviction`, for up to 1.5 s",
        fill_redis,
        heal=heal_redis,
        trace=("maxmemory",),
    ),
    Fault("Redis flushed", "redis", "`FLUSHALL`, five times a round", flush_redis, heal=heal_redis),
    *(
        Fault(
            f"receivers {what}",
            "receivers",
            f"every receiver fails three requests in ten: {how}",
            functools.partial(trouble, what),
            explains="what receivers had read and not acknowledged",
        )
        for what, how in zip(
            TROUBLES,
            (
                "it reads and closes without an answer",
                "it reads and resets the connection",
                "it sends half of an answer's head and closes its side",
            ),
            strict=True,
        )
    ),
]
