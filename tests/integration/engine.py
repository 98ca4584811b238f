"""Drains of a `World`, at its time, with a real transport; loopback may be called."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

from world import World

from flask_resthooks import intents, settings, transport
from flask_resthooks.drain import Drain
from flask_resthooks.guard import Guard
from flask_resthooks.outbox import Outcome, Settled

LOOPBACK = {"RESTHOOKS_REQUIRE_HTTPS": False, "RESTHOOKS_ALLOWED_NETWORKS": ["127.0.0.0/8"]}


class Engine:
    """
    :param drain: options of each `Drain`.
    :param config: settings, by their names in lower case.
    """

    def __init__(self, world: World, drain: dict[str, Any] | None = None, **config: Any) -> None:
        names = {f"RESTHOOKS_{name.upper()}": value for name, value in config.items()}
        self.world = world
        self.drain = drain or {}
        self.settings = settings.from_config({**LOOPBACK, **names}, intents.Intents())
        self.transport = transport.create(
            "requests",
            guard=Guard(
                require_https=self.settings.require_https,
                allowed_networks=self.settings.allowed_networks,
            ),
            concurrency=self.settings.concurrency,
            connect_timeout=self.settings.connect_timeout,
            timeout=self.settings.timeout,
            response_limit=self.settings.response_limit,
        )
        self.told: list[tuple[list[Outcome], Settled]] = []

    def run(
        self,
        time_slice: float = 30,
        stopping: Callable[[], bool] = lambda: False,
        chance: float = 0.0,
    ) -> dt.datetime | None:
        options = {
            "intent": intents.Intents().get(self.settings.intent),
            "settled": lambda outcomes, settled: self.told.append((outcomes, settled)),
            **self.drain,
        }
        drain = Drain(
            self.world.outbox,
            self.transport,
            self.settings,
            stopping=stopping,
            chance=lambda: chance,
            **options,
        )
        return drain.run(time_slice)
