"""`make peers`: other senders of webhooks beside this one, on one machine, one receiver each time.

Each peer gets a virtual environment in `build/peers/`, by its name from the package index, and a
small app with one model (`apps/`). Round by round, in turns: so many saves with the peer and
without it, one after the other; then its own workers are started, and the time from the first
delivery to the last is taken. Then things are made to go wrong (`facts.py`). The tables go into
docs/reference/peers.md.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import time
from pathlib import Path

import environments
import facts
import page
from registry import PEERS, Peer
from runs import Run

ROUND_TIMEOUT = 40.0
"""Seconds that the deliveries of one round may take."""

CLIENTS = ("httpx", "httpx2")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    names = sorted({peer.name for peer in PEERS})
    parser.add_argument(
        "--only",
        nargs="+",
        choices=names,
        metavar="PEER",
        help=f"and not the others ({', '.join(names)}); prints the tables alone",
    )
    parser.add_argument("--no-facts", action="store_true")
    parser.add_argument("--no-page", action="store_true", help="print the tables alone")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started ends, too
    chosen = [peer for peer in PEERS if not options.only or peer.name in options.only]
    ready: dict[Peer, Path] = {}
    left_out: dict[str, str] = {}
    for peer in chosen:
        try:
            ready[peer] = environments.prepare(peer)
        except environments.Unavailable as why:
            left_out[peer.name] = str(why).strip()
    names = ("django", "celery", "flask", "sqlalchemy", "requests")
    versions = {
        # Ours is installed beside its tests, which bring clients that it does not use.
        peer.name: environments.versions(
            binaries, (peer.name, *names, *(peer.packages and CLIENTS))
        )
        for peer, binaries in ready.items()
    }
    parts = {"machine": page.machine(options.rounds, versions, left_out)}
    parts["speeds"] = page.speeds(measure(ready, options.rounds))
    if not options.no_facts:
        parts["facts"] = page.behaviour(facts.find(ready))
    print("\n\n".join(parts.values()))
    if not (options.no_page or options.only):
        page.PAGE.write_text(page.filled(page.PAGE.read_text(), parts))


def measure(ready: dict[Peer, Path], rounds: int) -> list[page.Figures]:
    with contextlib.ExitStack() as ending:
        runs = [
            ending.enter_context(Run(peer, binaries, worker))
            for peer, binaries in ready.items()
            for worker in peer.workers
        ]
        found = [page.Figures(run.peer.name, run.worker.label) for run in runs]
        for turn in range(rounds):
            for run, figures in zip(runs, found, strict=True):
                one_round(run, figures, turn)
                print(
                    f"round {turn + 1}: {figures.peer}, {figures.worker}: "
                    f"{figures.rates[-1]:,.0f}/s, {figures.saves[-1] * 1000:.2f} ms per save",
                    flush=True,
                )
    return found


def one_round(run: Run, figures: page.Figures, turn: int) -> None:
    count = run.worker.records
    run.receiver("forget")
    bare = run.act("save", turn * count, count, bare=True)["seconds"]
    figures.bare.append(bare / count)
    figures.saves.append(run.save(turn * count, count) / count)
    start = time.monotonic()
    run.start_workers()
    report = run.wait(count, ROUND_TIMEOUT)
    run.kill()
    taken = len(report["taken"])
    missing = count - taken
    if time.monotonic() - start >= ROUND_TIMEOUT:
        figures.unfinished += missing
    else:
        figures.lost += missing
    figures.sent += count
    figures.twice += sum(report["taken"].values()) - taken
    seconds = report["last"] - report["first"]
    figures.rates.append((taken - 1) / seconds if seconds else 0.0)


if __name__ == "__main__":
    main()
