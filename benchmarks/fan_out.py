"""`make bench`, second part: a fan-out among 100 subscriptions, and among 100,000 of 10,000
owners, to the same number of receivers. Both databases; medians of one run."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "tests"), str(HERE.parent / "tests" / "integration")]

from servers import PostgresServer  # noqa: E402  (found by the line above)
from world import World  # noqa: E402

from flask_resthooks import ids  # noqa: E402

EVENTS, OWNERS_WITH_EVENTS = 500, 10
PATTERNS = (["*"], ["contact.*"], ["contact.create"], ["contact.update", "invoice.paid"])


def fill(world: World, subscriptions: int, owners: int) -> None:
    made, wishes = [], []
    for number in range(subscriptions):
        owner, subscription = str(number % owners), ids.new(ids.SUBSCRIPTION)
        patterns = PATTERNS[number // owners % len(PATTERNS)]
        made.append(
            {
                "id": subscription,
                "owner": owner,
                "target_url": "https://example.com/",
                "events": patterns,
                "status": "active",
                "metadata": {},
                "secret": "",
                "created_at": world.now,
                "updated_at": world.now,
            }
        )
        wishes += [
            {"owner": owner, "pattern": pattern, "subscription_id": subscription}
            for pattern in patterns
        ]
    with world.engine.begin() as connection:
        connection.execute(world.tables.subscription.insert(), made)
        connection.execute(world.tables.subscription_event.insert(), wishes)


def durations(world: World) -> Iterator[float]:
    for _ in range(7):
        rows = [world.event_row(owner=str(n % OWNERS_WITH_EVENTS)) for n in range(EVENTS)]
        with world.engine.begin() as connection:
            connection.execute(world.tables.event.insert(), rows)
        start = time.perf_counter()
        assert world.outbox.fan_out(EVENTS)[0] == EVENTS
        yield time.perf_counter() - start


def main() -> None:
    postgres = PostgresServer()
    postgres.start()
    try:
        for kind in ("sqlite", "postgresql"):
            medians = []
            for subscriptions, owners in ((100, 10), (100_000, 10_000)):
                with tempfile.TemporaryDirectory() as directory:
                    url = f"sqlite:///{directory}/bench.db"
                    world = World(url if kind == "sqlite" else postgres.create_database())
                    fill(world, subscriptions, owners)
                    medians.append(statistics.median(durations(world)))
                    world.engine.dispose()
            few, many = (1000 * median for median in medians)
            print(
                f"fan-out of {EVENTS} events, {kind:10}: {few:.1f} ms among 100 subscriptions, "
                f"{many:.1f} ms among 100,000: {many / few:.2f} times"
            )
    finally:
        postgres.close()


if __name__ == "__main__":
    main()
