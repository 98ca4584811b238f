"""A virtual environment for each peer, in `build/peers/`: two of them have one module's name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from registry import Peer

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / "build" / "peers"
INSTALL_TIMEOUT = 300


class Unavailable(Exception):
    """A peer cannot be installed here; the message says why."""


def prepare(peer: Peer) -> Path:
    """Its environment's `bin`, which is made if it is not there.

    :raises Unavailable: if no Python is new enough, or pip fails.
    """
    if not peer.packages:
        return Path(sys.executable).parent
    home = HOME / peer.name
    stamp = home / "installed"
    if not stamp.exists() or stamp.read_text() != " ".join(peer.packages):
        shutil.rmtree(home, ignore_errors=True)
        made = subprocess.run(
            [python_from(peer.python), "-m", "venv", str(home)], capture_output=True, text=True
        )
        if made.returncode:
            raise Unavailable(made.stderr[-500:])
        pip = [str(home / "bin/python"), "-m", "pip", "install", "--quiet"]
        found = subprocess.run(
            [*pip, "--disable-pip-version-check", *peer.packages],
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT,
        )
        if found.returncode:
            raise Unavailable(found.stderr[-500:])
        stamp.write_text(" ".join(peer.packages))
    return home / "bin"


def python_from(oldest: tuple[int, int]) -> str:
    for python in pythons():
        check = f"import sys, venv; sys.exit(sys.version_info < {oldest!r})"
        try:
            if not subprocess.run(
                [python, "-c", check], capture_output=True, timeout=20
            ).returncode:
                return python
        except (OSError, subprocess.TimeoutExpired):
            continue
    raise Unavailable("it needs Python {}.{}, which is not here".format(*oldest))


def pythons() -> Iterator[str]:
    """The one that compares, then newer ones: on the path, then pyenv's."""
    yield sys.executable
    for minor in range(11, 16):
        if (found := shutil.which(f"python3.{minor}")) is not None:
            yield found
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for found_here in sorted(versions.glob("3.1[1-9]*/bin/python")):
        yield str(found_here)


def versions(binaries: Path, names: tuple[str, ...]) -> dict[str, str]:
    """The installed versions of packages that are there, by name; `python` is one."""
    script = (
        "import importlib.metadata as m, json, platform\n"
        "found = {'python': platform.python_version()}\n"
        f"for name in {names!r}:\n"
        "    try: found[name] = m.version(name)\n"
        "    except m.PackageNotFoundError: pass\n"
        "print(json.dumps(found))"
    )
    answer = subprocess.run(
        [str(binaries / "python"), "-c", script], check=True, capture_output=True, text=True
    )
    found: dict[str, str] = json.loads(answer.stdout)
    return found
