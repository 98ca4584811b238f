"""Processes beside the benchmark: workers of `bench_app`, RQ's own workers; what they cost."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from . import BENCHMARKS

BIN = Path(sys.executable).parent
LIMIT = 1800.0
"""Seconds that anything may take here."""

_TICKS = os.sysconf("SC_CLK_TCK")


def environment(config: Mapping[str, Any]) -> dict[str, str]:
    """Of a process that has `bench_app` for its app."""
    return {
        **os.environ,
        "FLASK_APP": "bench_app",
        "PYTHONPATH": _python_path(),
        "BENCH_CONFIG": json.dumps(dict(config)),
    }


def _python_path() -> str:
    before = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(BENCHMARKS), *([before] if before else [])])


def flask_worker(config: Mapping[str, Any], *options: str) -> subprocess.Popen[bytes]:
    """A `flask resthooks worker`, in a process of its own."""
    return subprocess.Popen(
        [str(BIN / "flask"), "resthooks", "worker", *options],
        cwd=BENCHMARKS,
        env=environment(config),
        stderr=subprocess.DEVNULL,
    )


@contextlib.contextmanager
def working(config: Mapping[str, Any], *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """The same, as long as it is needed; then it is killed."""
    worker = flask_worker(config, *options)
    try:
        yield worker
    finally:
        kill(worker)


def burst(config: Mapping[str, Any], *options: str) -> None:
    """Have a new worker do all that is due."""
    worker = flask_worker(config, "--burst", *options)
    try:
        status = worker.wait(LIMIT)
    finally:
        kill(worker)
    assert status == 0, f"the worker has ended with {status}"


def rq_worker(
    queue: str, redis_url: str, worker_class: str, *options: str, **variables: str
) -> subprocess.Popen[bytes]:
    """A worker of RQ's own, whose jobs are in `obvious.py`."""
    return subprocess.Popen(
        [
            *[str(BIN / "rq"), "worker", queue, "--quiet", *options],
            *["--url", redis_url, "--worker-class", worker_class],
        ],
        cwd=BENCHMARKS,
        env={**os.environ, "PYTHONPATH": _python_path(), **variables},
    )


def kill(process: subprocess.Popen[Any]) -> None:
    """End a process at once, if it has not ended."""
    process.kill()
    process.wait()


def rss(pid: int) -> float:
    """Memory of a process in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has used, with those of its children, ended or not."""
    processes: dict[int, tuple[int, float]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            # The name before may hold anything, but no more than one of these at its end.
            words = stat.read_text().rpartition(")")[2].split()
            own, of_ended = sum(map(int, words[11:13])), sum(map(int, words[13:15]))
            processes[int(stat.parent.name)] = int(words[1]), (own + of_ended) / _TICKS
    family = {pid}
    while more := {one for one, (parent, _) in processes.items() if parent in family} - family:
        family |= more
    return sum(processes[one][1] for one in family if one in processes)
