"""What a section is given: servers, receivers, senders, and how much of everything to do."""

from __future__ import annotations

import contextlib
import itertools
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from servers import PostgresServer, RedisServer

from .sender import Sender

DATABASES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


class DurablePostgres(PostgresServer):
    """The tests' server, which loses nothing by a power cut: as PostgreSQL comes."""

    def _launch(self, command: Sequence[str], ready: Callable[[], bool], **options: Any) -> None:
        # fsync, synchronous_commit, full_page_writes
        durable = [part.removesuffix("=off") + "=on" * part.endswith("=off") for part in command]
        super()._launch(durable, ready, **options)

    @property
    def pid(self) -> int:
        """Of the process whose children serve the connections."""
        assert self._process is not None
        return self._process.pid


def _leave(number: int, frame: object) -> None:
    sys.exit(128 + number)


class Bench:
    """One run.

    :param databases: of `DATABASES`.
    :param quick: do a hundredth of everything: to see that it works, not to measure.
    :param memory: deliveries for which a worker's memory is looked at.
    """

    def __init__(
        self,
        *,
        rounds: int,
        databases: Sequence[str] = tuple(DATABASES),
        quick: bool = False,
        memory: int = 1_000_000,
    ) -> None:
        self.rounds = rounds
        self.databases = databases
        self.quick = quick
        self.memory = memory
        signal.signal(signal.SIGTERM, _leave)  # or what was started would go on
        self._stack = contextlib.ExitStack()
        self._numbers = itertools.count(1)
        try:
            self.redis = RedisServer()
            self._stack.callback(self.redis.close)
            temporary = tempfile.TemporaryDirectory(prefix="resthooks-bench-")
            self.directory = Path(self._stack.enter_context(temporary))
            self.postgres: DurablePostgres | None = None
            if "postgresql" in databases:
                self.postgres = DurablePostgres()
                self._stack.callback(self.postgres.close)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()

    def some(self, number: int) -> int:
        """So many; few of them in a quick run."""
        return max(number // 100, 3) if self.quick else number

    def database_url(self, kind: str) -> str:
        """Of a new, empty database."""
        if kind == "postgresql":
            assert self.postgres is not None
            return self.postgres.create_database()
        return f"sqlite:///{self.directory}/bench-{next(self._numbers)}.db"

    @contextlib.contextmanager
    def sender(self, kind: str, **settings: Any) -> Iterator[Sender]:
        """An app on a new database, with a queue of its own."""
        queue = f"bench-{next(self._numbers)}"
        url = self.database_url(kind)
        sender = Sender(url, self.redis.url, RESTHOOKS_QUEUE=queue, **settings)
        try:
            yield sender
        finally:
            sender.close()
