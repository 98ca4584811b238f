"""The laboratory's processes: a web server and workers, real ones, which may be killed.

They are forked from a process that has imported everything and done nothing, so that one more
costs a tenth of a second and not a whole one. Each builds an app of its own, and ends when the
laboratory does.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

_HERE = __name__.rpartition(".")[0]

forks = multiprocessing.get_context("forkserver")
forks.set_forkserver_preload(
    [f"{_HERE}.processes", f"{_HERE}.app", f"{_HERE}.crashes", f"{_HERE}.clock", "psycopg"]
)

Crash = tuple[str, int]
"""A point of `crashes.POINTS`, and at which passing."""

START_LIMIT = 30.0
"""Seconds that a web server may take to listen."""


class Child:
    """A process; everything that it says goes to its log.

    :param target: takes `config` and whatever is given beside it.
    """

    def __init__(self, target: Any, log: Path, *arguments: Any) -> None:
        self.log = log
        self._process = forks.Process(
            target=_begin, args=(os.getpid(), str(log), target, arguments), daemon=True
        )
        self._process.start()
        self.pid: int = self._process.pid or 0

    @property
    def running(self) -> bool:
        return self._process.is_alive()

    @property
    def status(self) -> int | None:
        return self._process.exitcode

    def signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()
        self._process.join()

    def wait(self, limit: float) -> bool:
        """Whether it has ended after `limit` seconds at most."""
        self._process.join(limit)
        return not self.running

    def end(self, limit: float = 20.0) -> int | None:
        """SIGTERM; its exit status, None if it had to be killed."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        if self.wait(limit):
            return self.status
        self.kill()
        return None


class Worker(Child):
    """`flask resthooks worker`, of an app of the laboratory.

    :param crash: where it kills itself.
    :param clock_ahead: seconds by which its clock is wrong, of a clock that can be stepped; None:
        the real clock.
    """

    def __init__(
        self,
        config: dict[str, Any],
        log: Path,
        crash: Crash | None = None,
        clock_ahead: float | None = None,
    ) -> None:
        super().__init__(work, log, config, crash, clock_ahead)


class Web(Child):
    """A Flask app, served on loopback by threads."""

    def __init__(self, config: dict[str, Any], log: Path, crash: Crash | None = None) -> None:
        ours, theirs = forks.Pipe(duplex=False)
        super().__init__(serve, log, config, theirs, crash)
        theirs.close()
        with ours:
            if not ours.poll(START_LIMIT):
                raise RuntimeError(f"the web process does not listen; its log: {log}")
            self.port: int = ours.recv()


def work(config: dict[str, Any], crash: Crash | None, clock_ahead: float | None) -> None:
    from flask_resthooks.worker import work

    from . import app, clock, crashes

    if clock_ahead is not None:
        clock.install(clock_ahead)
    made = app.create_app(config)
    if crash is not None:
        crashes.arm(*crash)
    with made.app_context():
        work(made.extensions["resthooks"].plant)


def serve(config: dict[str, Any], ready: Connection, crash: Crash | None) -> None:
    from werkzeug.serving import make_server

    from . import app, crashes

    made = app.create_app(config)
    app.begin_at_once(made)
    app.make_tables(made)
    if crash is not None:
        crashes.arm(*crash)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, made, threaded=True)
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))
    ready.send(server.port)
    ready.close()
    server.serve_forever()


def _begin(laboratory: int, log: str, target: Any, arguments: tuple[Any, ...]) -> None:
    said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor in (1, 2):
        os.dup2(said, descriptor)
    sys.stdout, sys.stderr = (
        os.fdopen(descriptor, "w", buffering=1, closefd=False) for descriptor in (1, 2)
    )
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the laboratory; it ends us
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    threading.Thread(target=_end_with, args=(laboratory,), daemon=True).start()
    target(*arguments)


def _end_with(laboratory: int) -> None:
    while True:
        try:
            os.kill(laboratory, 0)
        except ProcessLookupError:
            os._exit(1)
        time.sleep(1)
