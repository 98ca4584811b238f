"""The figures, as tables between the page's markers."""

from __future__ import annotations

import os
import platform
import re
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from facts import Fact

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/peers.md"


@dataclass
class Figures:
    """Of one peer with one kind of worker, over all rounds."""

    peer: str
    worker: str
    bare: list[float] = field(default_factory=list)  # seconds per save, without the peer
    saves: list[float] = field(default_factory=list)  # and with it
    rates: list[float] = field(default_factory=list)  # deliveries a second
    sent: int = 0
    lost: int = 0
    twice: int = 0
    unfinished: int = 0  # deliveries still to come when a round's time was over


def speeds(found: list[Figures]) -> str:
    ours = max(statistics.median(figures.rates) for figures in found[:1])
    rows = []
    for figures in found:
        rate = statistics.median(figures.rates)
        bare, save = statistics.median(figures.bare), statistics.median(figures.saves)
        lost = f"{figures.lost:,}"
        if figures.unfinished:
            lost += f" ({figures.unfinished:,} to come when time was over)"
        rows.append(
            [
                *(figures.peer, figures.worker, number(rate), f"{rate / ours:.2f}"),
                *(f"{bare * 1000:.2f}", f"{save * 1000:.2f}", f"{(save - bare) * 1000:.2f}"),
                *(f"{figures.sent:,}", lost, f"{figures.twice:,}"),
            ]
        )
    head = [
        *("peer", "what delivers", "deliveries a second", "times ours (first row)"),
        *("ms per save without", "with", "more"),
        *("deliveries", "lost", "twice"),
    ]
    return table(head, rows)


def behaviour(facts: dict[str, Fact]) -> str:
    head = [
        *("peer", "a rollback sends nothing", "sends again after a 500"),
        *("lost by a `kill -9` under way", "refuses private addresses", "signed"),
    ]
    rows = [
        [name, fact.rollback, fact.retry, fact.killed, fact.private, fact.signed]
        for name, fact in facts.items()
    ]
    return table(head, rows)


def machine(rounds: int, versions: dict[str, dict[str, str]], left_out: dict[str, str]) -> str:
    lines = [
        f"{time.strftime('%Y-%m-%d', time.gmtime())}, {platform.system()}, {os.cpu_count()} CPUs "
        f"({platform.machine()}), with a load of {os.getloadavg()[1]:.1f} before it began; medians "
        f"of {rounds} rounds, in turns.",
        "",
    ]
    for name, found in versions.items():
        said = ", ".join(f"{package} {version}" for package, version in found.items())
        lines.append(f"* {name}: {said}")
    lines += [f"* {name}: not measured: {why}" for name, why in left_out.items()]
    return "\n".join(lines)


def number(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 10 else f"{figure:.1f}"


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def filled(text: str, parts: dict[str, str]) -> str:
    """The page with what is between each pair of markers replaced.

    :raises ValueError: if a pair is not there.
    """
    for name, part in parts.items():
        pattern = re.compile(f"(<!-- peers:{name} -->\n).*?(<!-- /peers:{name} -->)", re.DOTALL)
        if not pattern.search(text):
            raise ValueError(f"the page has no markers for {name}")
        text = pattern.sub(lambda found, part=part: f"{found[1]}{part}\n{found[2]}", text)
    return text
