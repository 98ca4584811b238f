"""The machine that was measured on, and the versions of what is on it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sqlite3
import subprocess
from importlib import metadata
from pathlib import Path

import psycopg
from sqlalchemy import make_url

from .bench import Bench

LIBRARIES = ("flask", "sqlalchemy", "psycopg", "rq", "redis", "requests", "urllib3", "aiohttp")
DURABILITY = ("fsync", "synchronous_commit", "full_page_writes", "shared_buffers")


def describe(bench: Bench) -> dict[str, str]:
    """What stands in the page's table."""
    told = {
        "processors": f"{os.cpu_count()} of {_processor()}",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GB",
        "kernel": f"{platform.system()} {platform.release()}",
        "file system": _file_system(bench.directory),
        "Python": platform.python_version(),
        "SQLite": f"{sqlite3.sqlite_version}, write-ahead log, `synchronous=FULL`",
    }
    if bench.postgres is not None:
        told["PostgreSQL"] = _postgres(bench.postgres.create_database())
    told["Redis"] = f"{bench.redis.client().info('server')['redis_version']}, nothing on disk"
    told["receiver"] = _receiver()
    told["libraries"] = ", ".join(f"{name} {_version(name)}" for name in LIBRARIES)
    return told


def _processor() -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


def _file_system(directory: Path) -> str:
    best = ("", "unknown")
    for line in Path("/proc/mounts").read_text().splitlines():
        _, at, kind, *_ = line.split()
        if directory.is_relative_to(at) and len(at) >= len(best[0]):
            best = at, kind
    return best[1]


def _postgres(url: str) -> str:
    parts = make_url(url)
    with psycopg.connect(
        host=str(parts.query["host"]), user=parts.username, dbname=parts.database
    ) as connection:
        found = [connection.execute(f"SHOW {name}").fetchone() for name in DURABILITY]
        version = connection.info.parameter_status("server_version")
    settings = ", ".join(
        f"`{name}={row[0] if row else ''}`" for name, row in zip(DURABILITY, found, strict=True)
    )
    return f"{version}, on a unix socket, {settings}"


def _receiver() -> str:
    program = shutil.which("nginx")
    if program is None:
        return "`benchmarks/receiver.py`, one process (there is no nginx)"
    said = subprocess.run([program, "-v"], capture_output=True, text=True).stderr
    return f"nginx {said.rpartition('/')[2].strip()}, one process, writes a line of log per POST"


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "(not there)"
