"""A bench: one database, its app, workers, receivers and traffic, for the rounds of one fault.

It also keeps the account of what a fault explains: which deliveries may come twice, and why.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa

from .comparison import Committed, Comparison, Sent, Subscriber, compare, missing
from .processes import Crash, Web, Worker
from .receivers import Notebook, Receiver
from .traffic import Traffic
from .workload import OWNERS, Happening, Lane

SETTINGS: dict[str, Any] = {
    "RESTHOOKS_REQUIRE_HTTPS": False,
    "RESTHOOKS_ALLOWED_NETWORKS": ["127.0.0.0/8"],
    "RESTHOOKS_TIMEOUT": 4,  # a machine may be as slow: what timed out for that comes again
    "RESTHOOKS_CONNECT_TIMEOUT": 4,
    "RESTHOOKS_LEASE": 15,
    "RESTHOOKS_SWEEP_INTERVAL": 1,
    "RESTHOOKS_RETRY_SCHEDULE": [0, 0.2, 0.5] + 97 * [1],  # so nothing is given up
    "RESTHOOKS_DISABLE_AFTER": 0,
}
"""Short times, so that a fault and its end take seconds."""

PATTERNS = (("*",), ("contact.*", "order.create"), ("order.update", "contact.delete"))
"""What the subscriptions of each owner want; one receiver serves one of each owner."""

EXPOSED = (10.0, 1.0)
"""Seconds before and after a fault of the database within which a POST may not be settled: a settle
may have been waiting for its turn on SQLite for some time when the fault came."""

READ = 0.15
"""Seconds in which a receiver has read what a killed worker had sent."""


class Redis(Protocol):
    """What the laboratory needs of a Redis; see `tests/servers.py`."""

    @property
    def url(self) -> str: ...
    def client(self, **options: Any) -> Any: ...
    def close_clients(self) -> None: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def freeze(self) -> None: ...
    def thaw(self) -> None: ...


class Postgres(Protocol):
    """What the laboratory needs of a PostgreSQL; see `tests/servers.py`."""

    directory: Path

    def create_database(self) -> str: ...
    def drop_database(self, url: str) -> None: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...


class Bench:
    """Set up, and taken down at the end of the `with` block.

    :param home: a directory of its own.
    :param data: where an SQLite's file is to be; None: in `home`.
    :param disk: how `data` can be filled, see `disk.py`.
    :param config: of the app, over `SETTINGS`.
    :param short: whether faults are to be short, too.
    """

    def __init__(
        self,
        database: str,
        redis: Redis,
        postgres: Callable[[], Postgres],
        home: Path,
        *,
        data: Path | None = None,
        disk: str = "",
        config: dict[str, Any] | None = None,
        pause: float = 0.03,
        short: bool = False,
    ) -> None:
        self.database = database
        self.redis = redis
        self.home = home
        self.short = short
        self.data = data or home
        self.disk = disk
        self.wrong: list[str] = []
        self.allowed: Counter[Sent] = Counter()
        self.remarks: list[str] = []
        self.workers: list[Worker] = []
        self.later: list[tuple[float, Callable[[], None]]] = []
        self._exposed: set[tuple[Sent, str]] = set()
        self._windows: list[tuple[float, float]] = []
        self._children = 0
        redis.start()
        redis.client().flushall()
        redis.close_clients()
        self._postgres: Postgres | None = None
        if database == "postgresql":
            self._postgres = postgres()
            self._postgres.start()
            self.url = self._postgres.create_database()
        else:
            self.url = f"sqlite:///{self.data / 'faults.db'}"
        # The laboratory itself waits for whoever has SQLite's lock.
        patience = {"timeout": 30} if database == "sqlite" else {}
        self.engine = sa.create_engine(self.url, poolclass=sa.NullPool, connect_args=patience)
        if database == "postgresql":
            self._make_durable()
        self.config = {
            **SETTINGS,
            "SQLALCHEMY_DATABASE_URI": self.url,
            "RESTHOOKS_REDIS_URL": redis.url,
            "INTENTIONS": str(home / "intentions"),
            **(config or {}),
        }
        self.notebook = Notebook()
        self.receivers = [Receiver(self.notebook) for _ in PATTERNS]
        self._labels: dict[str, str] = {}
        self.web = Web(self.config, self._log("web"))
        self.subscribers = [
            self._subscribe(owner, number) for owner in OWNERS for number in range(len(PATTERNS))
        ]
        self.traffic = Traffic(lambda: self.web.port, pause)

    def __enter__(self) -> Bench:  # Self needs Python 3.11
        return self

    def __exit__(self, *error: object) -> None:
        self.redis.start()
        for worker in self.workers:
            worker.kill()
        self.web.kill()
        for receiver in self.receivers:
            receiver.close()
        self.engine.dispose()
        if self._postgres is not None:
            self._postgres.start()
            self._postgres.drop_database(self.url)

    @property
    def postgres(self) -> Postgres:
        assert self._postgres is not None
        return self._postgres

    def _make_durable(self) -> None:
        """What was committed must outlive a crash of the server, if not of the machine."""
        name = sa.make_url(self.url).database
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for setting in ("synchronous_commit = on", "deadlock_timeout = '20ms'"):
                connection.exec_driver_sql(f'ALTER DATABASE "{name}" SET {setting}')

    def _subscribe(self, owner: str, number: int) -> Subscriber:
        label = f"{owner}-{number}"
        wish = {
            "target_url": f"http://127.0.0.1:{self.receivers[number].port}/{label}",
            "events": list(PATTERNS[number]),
        }
        connection = http.client.HTTPConnection("127.0.0.1", self.web.port, timeout=30)
        headers = {"Content-Type": "application/json", "X-Owner": owner}
        connection.request("POST", "/api/v1/subscriptions", json.dumps(wish), headers)
        answer = connection.getresponse()
        made = json.loads(answer.read())
        connection.close()
        assert answer.status == 201, made
        self._labels[made["id"]] = label
        return Subscriber(label, owner, PATTERNS[number], made["secret"])

    def _log(self, name: str) -> Path:
        self._children += 1
        return self.home / f"{self._children:03}-{name}.log"

    # Processes

    def start_worker(self, crash: Crash | None = None, clock_ahead: float | None = None) -> Worker:
        worker = Worker(self.config, self._log("worker"), crash, clock_ahead)
        self.workers.append(worker)
        return worker

    def restart_web(self, crash: Crash | None = None) -> None:
        self.web.kill()
        self.web = Web(self.config, self._log("web"), crash)

    def said(self) -> str:
        """Everything that the processes have logged."""
        logs = sorted(self.home.glob("*.log"))
        return "".join(log.read_text(errors="replace") for log in logs)

    # Traffic

    @contextlib.contextmanager
    def busy(self, name: str, lanes: int, least: int) -> Iterator[None]:
        """Traffic goes on. The name of a round makes its transactions."""
        made = [Lane(f"{name}.{number}", name) for number in range(lanes)]
        with self.traffic.going_on(made, least):
            yield

    def wait_for_hooks(self, limit: float = 40.0) -> None:
        """Until hooks come, so that the next fault finds something to break."""
        if not self.notebook.wait_for(self.notebook.count + 1, limit):
            self.wrong.append(f"no hook came for {limit:g} s")

    def sleep(self, chance: random.Random, low: float, high: float) -> None:
        time.sleep(chance.uniform(low, high))

    # What may come twice

    def claimed(self) -> set[tuple[Sent, str]]:
        """What is claimed and not settled now, and by which lease."""
        question = sa.text(
            "SELECT subscription_id, event_id, lease FROM resthooks_delivery"
            " WHERE status = 'sending'"
        )
        with self.engine.connect() as connection:
            rows = connection.execute(question).all()
        return {((self._labels[of], event_id), lease) for of, event_id, lease in rows}

    def expose(self, *, unsent: bool = False) -> None:
        """A worker has just died: what it had sent and not settled may come again.

        :param unsent: also what it had claimed and not sent: it may be only asleep.
        """
        time.sleep(READ)
        received = {receipt.sent for receipt in self.notebook.receipts}
        # What waits for the end of its lease was counted when its own worker died.
        claimed = self.claimed() - self._exposed
        if not unsent:
            claimed = {(sent, lease) for sent, lease in claimed if sent in received}
        self._exposed |= claimed
        self.allowed.update(sent for sent, _ in claimed)

    @contextlib.contextmanager
    def exposed(self) -> Iterator[None]:
        """The database is away: what is sent meanwhile may not be settled, and come again."""
        start = time.time() - EXPOSED[0]
        try:
            yield
        finally:
            self._windows.append((start, time.time() + EXPOSED[1]))

    def _all_allowed(self) -> Counter[Sent]:
        allowed = self.allowed + self.notebook.unanswered
        if not self._windows:
            return allowed
        receipts = self.notebook.receipts
        # An attempt is written down by its settle.
        unsettled = Counter(receipt.sent for receipt in receipts) - self._attempts()
        during = Counter(
            receipt.sent
            for receipt in receipts
            if any(start <= receipt.at <= end for start, end in self._windows)
        )
        return allowed + (during & unsettled)

    def _attempts(self) -> Counter[Sent]:
        question = sa.text(
            "SELECT subscription_id, event_id, count(*) FROM resthooks_attempt AS attempt"
            " JOIN resthooks_delivery AS delivery ON delivery.id = attempt.delivery_id"
            " GROUP BY subscription_id, event_id"
        )
        with self.engine.connect() as connection:
            rows = connection.execute(question).all()
        return Counter({(self._labels[of], event_id): count for of, event_id, count in rows})

    # The end

    def waiting(self) -> int:
        """Events without deliveries, and deliveries that have not come to their end."""
        question = sa.text(
            "SELECT (SELECT count(*) FROM resthooks_event WHERE fanned_out_at IS NULL)"
            " + (SELECT count(*) FROM resthooks_delivery WHERE due_at IS NOT NULL)"
        )
        with self.engine.connect() as connection:
            return int(connection.scalar(question) or 0)

    def committed(self) -> list[Committed]:
        question = sa.text("SELECT at, happenings FROM ledger")
        with self.engine.connect() as connection:
            rows = connection.execute(question).all()
        made: list[Committed] = []
        for at, happenings in rows:
            told = json.loads(happenings) if isinstance(happenings, str) else happenings
            made += [Committed(Happening(**one), at) for one in told]
        return made

    def wait_until_quiet(self, limit: float) -> bool:
        """Whether all that was committed is sent and settled within `limit` seconds."""
        committed = self.committed()
        until = time.monotonic() + limit
        while time.monotonic() < until:
            self.do_later(all_of_it=False)
            with contextlib.suppress(sa.exc.OperationalError):
                receipts = self.notebook.receipts
                if not missing(committed, self.subscribers, receipts) and not self.waiting():
                    time.sleep(READ)
                    return True
            time.sleep(0.1)
        return False

    def do_later(self, *, all_of_it: bool) -> None:
        """Do what a round has put off, as far as its time has come."""
        now = time.monotonic()
        for moment, act in list(self.later):
            if all_of_it:
                time.sleep(max(0.0, moment - time.monotonic()))
            if all_of_it or moment <= now:
                self.later.remove((moment, act))
                act()

    def compare(self) -> tuple[Comparison, int]:
        """The comparison, and how many duplicates the faults explain at most."""
        allowed = self._all_allowed()
        compared = compare(self.committed(), self.subscribers, self.notebook.receipts, allowed)
        self._check_intentions()
        return compared, sum(allowed.values())

    def _check_intentions(self) -> None:
        intended = {
            json.loads(line)["name"]
            for line in Path(self.config["INTENTIONS"]).read_bytes().splitlines()
        }
        with self.engine.connect() as connection:
            done = set(connection.scalars(sa.text("SELECT name FROM ledger")))
        if not done <= intended:
            self.wrong.append(f"committed and never asked for: {sorted(done - intended)[:5]}")

    def states(self) -> str:
        """Where deliveries are, for the report of a loss."""
        question = sa.text(
            "SELECT status, count(*), min(due_at) FROM resthooks_delivery GROUP BY 1"
        )
        with self.engine.connect() as connection:
            return "; ".join(map(str, connection.execute(question)))
