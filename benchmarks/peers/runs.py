"""One peer, set up afresh: its database, its Redis, its receiver, and its processes."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from registry import Peer, Worker

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parents[1] / "tests"))

from servers import RedisServer  # noqa: E402  (found by the line above)

ACT_TIMEOUT = 90
QUIET = 10.0
"""Seconds without a new arrival after which nothing more is expected."""


class Run:
    """Use it as a context: everything ends with it.

    :param options: beside those of the worker.
    """

    def __init__(
        self, peer: Peer, binaries: Path, worker: Worker, options: dict[str, Any] | None = None
    ) -> None:
        self.peer = peer
        self.binaries = binaries
        self.worker = worker
        self.options = {**worker.options, **(options or {})}
        self.secret = ""
        self._ending = contextlib.ExitStack()
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Run:  # Self needs Python 3.11
        self.directory = Path(self._ending.enter_context(tempfile.TemporaryDirectory()))
        try:
            redis_server = RedisServer()
            self._ending.callback(redis_server.close)
            self._redis = redis_server.url
            self._ending.callback(self.kill)
            receiver = subprocess.Popen(
                [sys.executable, str(HERE / "counting.py")], stdout=subprocess.PIPE, text=True
            )
            self._ending.callback(end, receiver)
            assert receiver.stdout is not None
            self.port = int(receiver.stdout.readline())
            url = f"http://127.0.0.1:{self.port}/"
            self.secret = self.act("prepare", url)["secret"] or ""
            self.act("prepare", url, bare=True)
        except BaseException:
            self._ending.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending.close()

    def act(self, *arguments: str | int, bare: bool = False) -> dict[str, Any]:
        """What the app answers; see `apps/acts.py`.

        :param bare: the same app, without the peer.
        """
        done = subprocess.run(
            self._command(*arguments),
            cwd=HERE / "apps",
            env=self._environment({}, bare=bare),
            capture_output=True,
            text=True,
            timeout=ACT_TIMEOUT,
        )
        if done.returncode:
            raise RuntimeError(f"{self.peer.name}: {arguments} failed:\n{done.stderr[-3000:]}")
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer

    def save(self, first: int, count: int) -> float:
        """Seconds that so many saves took. An app whose own threads deliver stays."""
        if self.worker.commands:
            return float(self.act("save", first, count)["seconds"])
        return float(self.start_act("save", first, count)["seconds"])

    def start_act(self, *arguments: str | int, wait: bool = True) -> dict[str, Any]:
        """The same in a process that stays; without its answer if that is not waited for."""
        path = self.directory / "answer"
        path.unlink(missing_ok=True)
        self._start(self._command(*arguments), self._environment({}) | {"PEER_ANSWER": str(path)})
        deadline = time.monotonic() + ACT_TIMEOUT
        while wait and not path.exists():
            if time.monotonic() > deadline or self._processes[-1].poll() is not None:
                raise RuntimeError(f"{self.peer.name}: {arguments} failed:\n{self.log()[-3000:]}")
            time.sleep(0.02)
        return json.loads(path.read_text()) if wait else {}

    def start_workers(self, **options: Any) -> None:
        for program, *arguments in self.worker.commands:
            self._start([str(self.binaries / program), *arguments], self._environment(options))

    def kill(self) -> None:
        """End every process that was started, and all of their children, by `kill -9`."""
        while self._processes:
            process = self._processes.pop()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def receiver(self, path: str) -> dict[str, Any]:
        """See `counting.py`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", f"/{path}")
            answer: dict[str, Any] = json.load(connection.getresponse())
            return answer
        finally:
            connection.close()

    def wait(self, count: int, timeout: float, quiet: float = QUIET) -> dict[str, Any]:
        """The receiver's report once it took so many records, or nothing comes any more."""
        deadline = time.monotonic() + timeout
        seen, since = -1, time.monotonic()
        while True:
            report = self.receiver("report")
            now = time.monotonic()
            if report["posts"] != seen:
                seen, since = report["posts"], now
            if len(report["taken"]) >= count or now - since > quiet or now > deadline:
                return report
            time.sleep(0.2)

    def wait_for_a_post(self, timeout: float = 60.0) -> None:
        deadline = time.monotonic() + timeout
        while not self.receiver("report")["posts"]:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.peer.name} sends nothing:\n{self.log()[-3000:]}")
            time.sleep(0.05)

    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def _command(self, *arguments: str | int) -> list[str]:
        return [str(self.binaries / "python"), self.peer.app, *map(str, arguments)]

    def _environment(self, options: dict[str, Any], *, bare: bool = False) -> dict[str, str]:
        told = {**self.options, **options, "bare": bare}
        return {
            **os.environ,
            "PYTHONPATH": str(HERE / "apps"),
            "PEER": "bare" if bare else self.peer.name,
            "PEER_DATABASE": str(self.directory / ("bare.db" if bare else "peer.db")),
            "PEER_REDIS": self._redis,
            "PEER_OPTIONS": json.dumps(told),
            "DJANGO_SETTINGS_MODULE": "shop.settings",
        }

    def _start(self, command: list[str], environment: dict[str, str]) -> None:
        with (self.directory / "log").open("ab") as log:
            self._processes.append(
                subprocess.Popen(
                    command,
                    cwd=HERE / "apps",
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    text=True,
                    start_new_session=True,  # so that all of it can be killed
                )
            )


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
