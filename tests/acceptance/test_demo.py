"""`make demo`, as a user runs it: what it shows, and that nothing of it is left."""

from __future__ import annotations

import json
import os
import queue
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import psutil
import pytest

import example_app

ROOT = Path(example_app.__file__).parent.parent
LIMIT = 60.0
"""Seconds; generous, for a machine that is busy with other tests."""


class Running:
    """The demo in a process of its own, in a temporary directory of its own."""

    def __init__(self, *command: str) -> None:
        # Not pytest's: paths of unix sockets are short.
        self.directory = Path(tempfile.mkdtemp(prefix="demo-", dir="/tmp"))
        self._mark = uuid.uuid4().hex
        self._lines: queue.Queue[str | None] = queue.Queue()
        self.printed: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", *(command or ("-m", "example_app.demo"))],
            cwd=ROOT,
            env={
                **os.environ,
                "TMPDIR": str(self.directory),
                "DEMO_MARK": self._mark,
                "SPT_NOENV": "1",  # RQ's title of a process is not to take the mark's place
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self.left():
            process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        shutil.rmtree(self.directory)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def read_until(self, pattern: str) -> str:
        """The next line that matches."""
        end = time.monotonic() + LIMIT
        while True:
            line = self._lines.get(timeout=max(end - time.monotonic(), 0.01))
            assert line is not None, "\n".join(self.printed)
            self.printed.append(line)
            if re.search(pattern, line):
                return line

    def end(self) -> int:
        """Wait for it; its exit status."""
        status = self.process.wait(LIMIT)
        while (line := self._lines.get(timeout=LIMIT)) is not None:
            self.printed.append(line)
        return status

    def left(self) -> list[psutil.Process]:
        """Every process of it that runs."""
        found = []
        for process in psutil.process_iter():
            try:
                gone = process.status() == psutil.STATUS_ZOMBIE
                if not gone and process.environ().get("DEMO_MARK") == self._mark:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def assert_nothing_is_left(self) -> None:
        assert self.left() == []
        assert list(self.directory.iterdir()) == []


@pytest.fixture
def demo() -> Iterator[Running]:
    with Running() as demo:
        yield demo


def shown(lines: list[str]) -> list[str]:
    return [line.split()[1] for line in lines if line.startswith("▸") and "verified" in line]


def call(curl: str) -> None:
    """Do what a printed line has curl do."""
    words = iter(shlex.split(curl)[1:])
    headers, data, url = {}, None, ""
    for word in words:
        if word == "-H":
            name, _, value = next(words).partition(": ")
            headers[name] = value
        elif word == "-d":
            data = next(words).encode()
        else:
            url = word
    request = urllib.request.Request(url, data, headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=LIMIT) as answer:
        assert json.loads(answer.read())


def test_one_round_shows_three_hooks_and_leaves_nothing_behind() -> None:
    with Running("-m", "example_app.demo", "--once") as demo:
        assert demo.end() == 0, "\n".join(demo.printed)
        assert shown(demo.printed) == ["contact.create", "contact.update", "contact.delete"]
        assert 'previous {"email": "ada@example.com"}' in "\n".join(demo.printed)
        assert "notes_private" not in "\n".join(demo.printed)
        demo.assert_nothing_is_left()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_the_demo_runs_until_it_is_ended_and_its_curl_lines_work(
    demo: Running, how: signal.Signals
) -> None:
    for _ in range(3):  # every one that is printed
        call(demo.read_until("^  curl ").strip())
    assert demo.read_until("^▸").split()[1] == "contact.create"
    assert "Grace" in demo.read_until("data")
    os.killpg(demo.process.pid, how)  # as a terminal does
    assert demo.end() == 0, "\n".join(demo.printed)
    demo.assert_nothing_is_left()


def test_ended_while_it_starts_it_leaves_nothing_behind(demo: Running) -> None:
    time.sleep(0.9)
    demo.process.send_signal(signal.SIGTERM)
    demo.end()
    demo.assert_nothing_is_left()


AT_THE_WORST_MOMENT = """
import os, signal, subprocess, sys
from example_app import demo

class Popen(subprocess.Popen):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        os.kill(os.getpid(), signal.SIGTERM)

subprocess.Popen = Popen
sys.argv[1:] = []
sys.exit(demo.main())
"""


def test_ended_while_its_worker_starts_it_leaves_no_worker_behind() -> None:
    with Running("-c", AT_THE_WORST_MOMENT) as demo:
        assert demo.end() == 0, "\n".join(demo.printed)
        demo.assert_nothing_is_left()


@pytest.mark.parametrize(
    ("worker", "message"),
    [
        ("import time; time.sleep(60)", "FAILED: the hook contact.create is missing"),
        ("raise SystemExit(3)", "FAILED: the worker ended with 3"),
    ],
)
def test_without_hooks_it_fails_and_says_which_one_is_missing(worker: str, message: str) -> None:
    driver = (
        "import sys; from example_app import demo; demo.HOOK_LIMIT = 1;"
        f"demo.WORKER = [sys.executable, '-c', {worker!r}]; sys.argv[1:] = ['--once'];"
        "sys.exit(demo.main())"
    )
    with Running("-c", driver) as demo:
        assert demo.end() == 1
        assert message in "\n".join(demo.printed)
        demo.assert_nothing_is_left()


def test_the_example_app_is_small() -> None:
    sources = [path for path in (ROOT / "example_app").glob("*.py") if path.name != "demo.py"]
    lines = [line for path in sources for line in path.read_text().splitlines() if line.strip()]
    assert len(lines) < 150
