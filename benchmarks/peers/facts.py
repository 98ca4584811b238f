"""What each peer does when things go wrong, each found by making them go wrong."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import signatures
from registry import Peer
from runs import Run

RETRY_WAIT = 70.0  # seconds: more than the first wait of each peer here
SETTLED = 0.5  # until a worker has fetched ahead what it wants to
DOWN = 15.0  # until the workers are started again: `Peer.quick` gives things up sooner
KILL_WAIT = 40.0
KILLED = 20  # records
ROLLED_BACK = 900
AT_ONCE = 24  # all of them: they wait, most of the time


@dataclass(frozen=True)
class Fact:
    rollback: str
    retry: str
    signed: str
    private: str
    killed: str


def find(peers: dict[Peer, Path]) -> dict[str, Fact]:
    """By the peers' names."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        trials = {}
        for peer, binaries in peers.items():  # the long ones first
            trials[peer.name, "refused"] = pool.submit(refused, peer, binaries)
            trials[peer.name, "killed"] = pool.submit(killed, peer, binaries, {})
            if peer.celery:
                late = {"acks_late": True}
                trials[peer.name, "late"] = pool.submit(killed, peer, binaries, late)
            if peer.guarded is not None:
                trials[peer.name, "private"] = pool.submit(private, peer, binaries)
        found = {key: trial.result() for key, trial in trials.items()}
    facts = {}
    for peer in peers:
        gone = f"{found[peer.name, 'killed']} of {KILLED}"
        if peer.celery:
            gone += f"; {found[peer.name, 'late']} with `task_acks_late`"
        rollback, retry, signed = found[peer.name, "refused"]
        refuses = found.get((peer.name, "private"), "no")
        facts[peer.name] = Fact(rollback, retry, signed, refuses, gone)
    return facts


def refused(peer: Peer, binaries: Path) -> tuple[str, str, str]:
    """A rollback, then three saves whose first POSTs are answered with 500."""
    with Run(peer, binaries, peer.workers[0]) as run:
        run.receiver("refuse-first")
        if run.worker.commands:
            run.act("roll-back", ROLLED_BACK)
        else:
            run.start_act("roll-back", ROLLED_BACK)
        run.save(0, 3)
        run.start_workers()
        run.wait_for_a_post()
        report = run.wait(3, timeout=RETRY_WAIT, quiet=RETRY_WAIT)
        if str(ROLLED_BACK) in report["taken"]:
            report = run.wait(4, timeout=15, quiet=15)
        assert {"0", "1", "2"} <= set(report["asked"]), run.log()[-3000:]
        again = {"0", "1", "2"} <= set(report["taken"])
        return (
            "no: it was sent" if str(ROLLED_BACK) in report["asked"] else "yes",
            f"yes, after {report['last'] - report['first']:.0f} s" if again else "no",
            signatures.how_signed(
                signatures.headers_of(report["sample"][0]), report["sample"][1], run.secret
            ),
        )


def killed(peer: Peer, binaries: Path, options: dict[str, Any]) -> int:
    """Killed while the receiver has a POST and has not answered; how many never came."""
    with Run(peer, binaries, peer.workers[0], {**peer.quick, **options}) as run:
        run.receiver("hold")
        run.save(0, KILLED)
        run.start_workers()
        run.wait_for_a_post()
        time.sleep(SETTLED)
        run.kill()
        time.sleep(DOWN)
        run.receiver("answer")
        if run.worker.commands:
            run.start_workers()
        else:
            run.start_act("stay", wait=False)
        report = run.wait(KILLED, timeout=KILL_WAIT, quiet=KILL_WAIT)
        return KILLED - len(report["taken"])


def private(peer: Peer, binaries: Path) -> str:
    """To 127.0.0.1, with its own defaults; then allowed, to see that it was not for other
    reasons."""
    with Run(peer, binaries, peer.workers[0]) as run:
        run.save(0, 3)
        run.start_workers(**(peer.guarded or {}))
        came = run.wait(1, timeout=30, quiet=30)["posts"]
        run.kill()
        run.save(3, 3)
        run.start_workers()
        allowed = run.wait(3, timeout=30, quiet=30)
        assert {"3", "4", "5"} <= set(allowed["taken"]), run.log()[-3000:]
        return "no" if came else "yes"
