"""A host app with its worker processes, for the acceptance tests."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import host_app
import sqlalchemy as sa
from host_app import Contact, create_app, db
from whole_app import drain

from flask_resthooks import models

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent


class Host:
    """The app in this process; workers in processes of their own, ended with the `with` block."""

    def __init__(self, database_url: str, redis_url: str, **config: Any) -> None:
        self.config = {
            "SQLALCHEMY_DATABASE_URI": database_url,
            "RESTHOOKS_REDIS_URL": redis_url,
            "RESTHOOKS_REQUIRE_HTTPS": False,
            "RESTHOOKS_ALLOWED_NETWORKS": ["127.0.0.0/8"],
            **config,
        }
        self.app = create_app(self.config)
        self.tables = host_app.hooks.tables
        self.workers: list[subprocess.Popen[bytes]] = []
        with self.app.app_context():
            db.create_all()
            self.engine = db.engine

    def __enter__(self) -> Host:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self.workers:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)  # and its scheduler
            worker.wait()
        self.app.extensions["resthooks"].wakeups._failing = False
        with self.app.app_context():
            db.session.remove()
            self.engine.dispose()

    def subscribe(self, target_url: str, *events: str, owner: str = "1") -> dict[str, Any]:
        answer = self.app.test_client().post(
            "/api/v1/subscriptions",
            json={"target_url": target_url, "events": list(events) or ["*"]},
            headers={"X-Owner": owner},
        )
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.get_json()
        return made

    def call(
        self, method: str, path: str, body: Any = None, *, owner: str | None = "1", **headers: str
    ) -> Any:
        """A request to the API; the answer's `json` is what counts."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.app.test_client().open(
            f"/api/v1{path}",
            method=method,
            json=body,
            headers={**({} if owner is None else {"X-Owner": owner}), **given},
        )

    def create(self, count: int = 1, owner: int = 1) -> None:
        with self.app.app_context():
            db.session.add_all(
                Contact(account_id=owner, name=f"contact {number}") for number in range(count)
            )
            db.session.commit()

    def drain(self) -> None:
        """What a worker does with all that is due, in this process: another costs a second."""
        drain(self.app)

    def worker(self, *options: str) -> subprocess.Popen[bytes]:
        """`flask resthooks worker`."""
        return self._start([str(BIN / "flask"), "resthooks", "worker", *options])

    def command(self, *words: str) -> int:
        """`flask resthooks …`; its exit status."""
        return self._start([str(BIN / "flask"), "resthooks", *words]).wait(30)

    def rq_worker(self, *options: str) -> subprocess.Popen[bytes]:
        """A plain `rq worker`."""
        url = self.config["RESTHOOKS_REDIS_URL"]
        command = [str(BIN / "rq"), "worker", "resthooks", "--with-scheduler", "--url", url]
        return self._start([*command, *options])

    def _start(self, command: list[str]) -> subprocess.Popen[bytes]:
        worker = subprocess.Popen(
            command,
            cwd=HERE,
            start_new_session=True,
            env={
                **os.environ,
                "FLASK_APP": "host_app",
                "HOST_CONFIG": json.dumps(self.config),
                "PYTHONPATH": str(HERE),
                "PYTHONWARNINGS": "default",
            },
        )
        self.workers.append(worker)
        return worker

    def end(self, worker: subprocess.Popen[bytes], limit: float = 30) -> int:
        """SIGTERM; the exit status."""
        worker.send_signal(signal.SIGTERM)
        return worker.wait(limit)

    def statuses(self) -> Counter[str]:
        status = self.tables.delivery.c.status
        return self._count(status)

    def _count(self, column: sa.Column[Any]) -> Counter[Any]:
        question = sa.select(column, sa.func.count()).group_by(column)
        with self.engine.connect() as connection:
            return Counter(dict(connection.execute(question).all()))

    def waiting(self) -> int:
        """Events that are not fanned out, and deliveries that have not come to their end."""
        event, delivery = self.tables.event, self.tables.delivery
        with self.engine.connect() as connection:
            events = connection.scalar(
                sa.select(sa.func.count()).select_from(event).where(event.c.fanned_out_at.is_(None))
            )
            deliveries = connection.scalar(
                sa.select(sa.func.count())
                .select_from(delivery)
                .where(delivery.c.due_at.is_not(None))
            )
        return int(events or 0) + int(deliveries or 0)

    def sending(self) -> set[str]:
        """Ids of the events whose delivery is claimed."""
        delivery = self.tables.delivery
        question = sa.select(delivery.c.event_id).where(delivery.c.status == "sending")
        with self.engine.connect() as connection:
            return set(connection.scalars(question))

    def events(self) -> set[str]:
        with self.engine.connect() as connection:
            return set(connection.scalars(sa.select(self.tables.event.c.id)))

    def wait_until_done(self, limit: float = 60) -> None:
        assert until(lambda: self.waiting() == 0, limit), (
            f"{self.waiting()} wait; {self.statuses()}"
        )


def until(condition: Callable[[], bool], limit: float = 20) -> bool:
    end = time.monotonic() + limit
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


__all__ = ["Contact", "Host", "db", "models", "until"]
