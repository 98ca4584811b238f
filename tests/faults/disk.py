"""A disk that can be full: a small tmpfs; where mounting is not permitted, a limit for files."""

from __future__ import annotations

import contextlib
import resource
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

SIZE = "32m"

TMPFS, LIMIT = "tmpfs", "RLIMIT_FSIZE"


@contextlib.contextmanager
def small(directory: Path) -> Iterator[str]:
    """Make `directory` a small disk; how: `TMPFS`, or `LIMIT` if that must do."""
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "faults", str(directory)]
    try:
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    try:
        yield TMPFS if mounted else LIMIT
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(directory)], check=False)


@contextlib.contextmanager
def no_growth(pids: Iterable[int], files: Iterable[Path]) -> Iterator[None]:
    """Let no file of these processes grow beyond the largest of `files`."""
    most = max(file.stat().st_size for file in files)
    limited = []
    try:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, hard))
                limited.append((pid, hard))
        yield
    finally:
        for pid, hard in limited:
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
