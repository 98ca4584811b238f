"""`make bench`: what a delivery costs, and what a commit costs, as ratios within one run.

Everything runs on this machine, in rounds, all sides of a comparison in turn; a figure is the
median of its rounds. The figures are kept in a file, so that sections of several runs come together
on one page. It fails if one delivery is lost or comes twice.
"""

from __future__ import annotations

import argparse
import datetime as dt
import sys
import time
from pathlib import Path

import sections
from harness import ROOT, machine, page
from harness.bench import DATABASES, Bench
from harness.counting import Miscounted
from harness.results import Results

PAGE = ROOT / "docs" / "performance.md"
KEPT = ROOT / "build" / "bench.json"
ROUNDS = 5
LONG = "memory"
"""The section that is measured only if it is asked for."""


def _names(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    for name in names:
        if name not in sections.NAMES:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(sections.NAMES)}")
    return names


def _databases(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in DATABASES:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(DATABASES)}")
    return names


def parser() -> argparse.ArgumentParser:
    """Of the command's options."""
    parser = argparse.ArgumentParser(prog="bench.py", description=__doc__)
    everything = [name for name in sections.NAMES if name != LONG]
    parser.add_argument("--only", type=_names, default=everything, help="sections, with commas")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--database", type=_databases, default=list(DATABASES))
    parser.add_argument("--memory", type=int, default=1_000_000, help="deliveries of that section")
    parser.add_argument("--quick", action="store_true", help="a hundredth of it, to see it work")
    parser.add_argument("--json", type=Path, help="the file of figures; build/bench.json")
    parser.add_argument("--page", type=Path, help="the page to write; docs/performance.md")
    return parser


def main() -> int:
    """Measure; the exit status."""
    options = parser().parse_args()
    if not options.quick:  # else what is no measurement would be kept for one
        options.json = options.json or KEPT
        options.page = options.page or PAGE
    if options.page and not options.page.exists():
        print(f"there is no page {options.page} to write the figures into", file=sys.stderr)
        return 2
    begin = time.monotonic()
    results = Results.read(options.json) if options.json else Results()
    rounds = 1 if options.quick else options.rounds
    with Bench(
        rounds=rounds, databases=options.database, quick=options.quick, memory=options.memory
    ) as bench:
        results.machine = machine.describe(bench)
        for name in options.only:
            print(f"{name}, after {time.monotonic() - begin:.0f} s", flush=True)
            try:
                section = sections.of(name)(bench)
            except Miscounted as error:
                print(error, file=sys.stderr)
                return 1
            results.add(name, section, dt.date.today().isoformat())
            for figure in section.figures:
                print("  " + " | ".join(page.line(figure)), flush=True)
            for table in section.tables:
                print(page.as_text(table), flush=True)
            if options.json:
                results.write(options.json)
            if options.page:
                options.page.write_text(page.written(options.page.read_text(), results))
    print(f"measured in {time.monotonic() - begin:.0f} s")
    if options.quick:
        print("This was to see it work: of so few, the figures say nothing. Nothing was kept.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
