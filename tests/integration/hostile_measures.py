"""What the receivers of the catalogue cost a transport: time and memory.

`python -m tests.integration.hostile_measures` writes `docs/reference/hostile-receivers.md`.
"""

from __future__ import annotations

import gc
import os
import socket
import tempfile
import tracemalloc
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from flask_resthooks.guard import Guard
from flask_resthooks.transport import TRANSPORTS, Request, Transport
from tests.integration.hostile_catalogue import CASES
from tests.integration.hostile_players import DRIP
from tests.integration.hostile_servers import Fleet, fleet
from tests.integration.receivers import Receiver, answering

TIMEOUT = 0.6
"""Seconds; who waits for it waits alone, so it is short."""

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "hostile-receivers.md"

INTRODUCTION = """# Hostile receivers

What the tests have receivers do, each a raw socket server, and what is recorded of the attempt: its
`status_code`, its `error` and its `detail`. Made by `python -m tests.integration.hostile_measures`,
with each of the transports; `tests/integration/test_hostile_receivers.py` checks the same at each
run, one receiver at a time, and all at once beside a good one, whose hooks arrive while the others
are still being waited for.

The reason is the same, whichever transport: both read answers with the same reader. Each attempt
ends within `RESTHOOKS_TIMEOUT` and one second ({timeout:g} seconds here, so that who drips sends a
byte every {drip:g} seconds), and lets the worker grow by less than 2 MB: the last two columns are
seconds, and what Python had allocated at most, in kB. A 2xx with an error is a delivered hook all
the same: the receiver has said that it has it.

Of connections that receivers keep open, 64 or twice `RESTHOOKS_CONCURRENCY` are kept, whichever is
more, with two descriptors each (`asyncio`: one), however many receivers there are: shown with 400,
and with 10,000 by `RESTHOOKS_HOSTILE=10000`.

| receiver | status | error | detail | {names} |
| --- | --- | --- | --- | {lines} |
"""

NAMES = sorted({place: name for name, place in sorted(TRANSPORTS.items())}.values())
"""Of each transport, one of its names."""


def resolver(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
    """Every receiver has a host of its own, on this machine."""
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]


def make(name: str, receivers: Fleet, **options: Any) -> Transport:
    module, _, class_name = TRANSPORTS[name].partition(":")
    settings = {
        "concurrency": 4,
        "connect_timeout": TIMEOUT,
        "timeout": TIMEOUT,
        "response_limit": 1024,
        "ca_file": receivers.ca_file,
    }
    guard = Guard(require_https=False, allowed_networks=["127.0.0.0/8"], resolver=resolver)
    transport: Transport = getattr(import_module(module), class_name)(
        guard, **{**settings, **options}
    )
    return transport


def warm_up(transport: Transport, receivers: Fleet) -> None:
    """What is made once is not a receiver's doing."""
    with Receiver(answering()) as good:
        for _ in range(8):
            assert transport.submit(Request(good.url(), {}, b"{}")).result(60).status == 200
    with_tls = next(case for case in CASES if case.tls == "good")
    transport.submit(Request(receivers.url(with_tls), {}, b"{}")).result(60)


class Memory:
    """How far this process grows: what Python allocates, and what the system gives."""

    def __enter__(self) -> Memory:
        gc.collect()
        tracemalloc.start()
        self._before = tracemalloc.get_traced_memory()[0]
        self._resident_before = None
        if os.path.exists("/proc/self/clear_refs"):
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
            self._resident_before = _status("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        self.allocated = tracemalloc.get_traced_memory()[1] - self._before
        tracemalloc.stop()
        self.resident = 0
        if self._resident_before is not None:
            self.resident = _status("VmHWM") - self._resident_before


def _status(field: str) -> int:
    text = Path("/proc/self/status").read_text()
    return int(text.partition(f"{field}:")[2].split()[0]) * 1024


def rows(transports: list[Transport], receivers: Fleet) -> Iterator[str]:
    """A row of the table for each of them."""
    for case in CASES:
        measured = []
        for transport in transports:
            with Memory() as memory:
                answer = transport.submit(Request(receivers.url(case), {}, case.body)).result(60)
            measured.append(f"{answer.duration:.2f} s, {memory.allocated / 1000:.0f} kB")
        detail = answer.detail.replace("|", "\\|")
        error = f"`{answer.error}`" if answer.error else ""
        cells = [case.name, str(answer.status or ""), error, f"`{detail}`" if detail else ""]
        yield f"| {' | '.join(cells + measured)} |\n"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, fleet(Path(folder)) as receivers:
        transports = [make(name, receivers) for name in NAMES]
        for transport in transports:
            warm_up(transport, receivers)
        introduction = INTRODUCTION.format(
            timeout=TIMEOUT,
            drip=DRIP,
            names=" | ".join(f"`{name}`" for name in NAMES),
            lines=" | ".join("---" for _ in NAMES),
        )
        PAGE.write_text(introduction + "".join(rows(transports, receivers)))
        for transport in transports:
            transport.close()


if __name__ == "__main__":
    main()
