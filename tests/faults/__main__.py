"""`python -m tests.faults`: inject faults, count, print the table; 1 if anything was lost."""

from __future__ import annotations

import argparse
import sys
import time

from .fault import BOTH, Fault
from .laboratory import FAULTS, Result, named
from .parallel import Order, run
from .table import as_text, order, write

ROUNDS = 20
"""Of each fault; of each that kills the worker, `KILLS`: there are nine."""

KILLS = 12

SHORT_ROUNDS = 3


def _rounds(fault: Fault, given: int | None, short: bool) -> int:
    if given is not None:
        return given
    if short:
        return SHORT_ROUNDS
    return KILLS if fault.family == "kills" else ROUNDS


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least one")
    return number


def parser() -> argparse.ArgumentParser:
    """Of the command's options."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the first round; then one more")
    parser.add_argument("--fault", action="append", help="its name; several times for several")
    parser.add_argument("--rounds", type=_positive, help="of each fault")
    parser.add_argument("--database", choices=[*BOTH, "both"], default="both")
    parser.add_argument("--short", action="store_true", help="a few short rounds of each")
    parser.add_argument("--jobs", type=int, default=3, help="faults at a time")
    parser.add_argument("--list", action="store_true", help="show the faults and end")
    parser.add_argument("--write", action="store_true", help="write docs/reference/faults.md")
    return parser


def main() -> int:
    options = parser().parse_args()
    if options.list:
        for fault in FAULTS:
            print(f"{fault.name} ({', '.join(fault.databases)}): {fault.what}")
        return 0
    try:
        faults = [named(name) for name in options.fault] if options.fault else FAULTS
    except LookupError as error:
        parser().error(str(error.args[0]))
    databases = BOTH if options.database == "both" else (options.database,)
    chosen = [(fault, one) for fault in faults for one in fault.databases if one in databases]
    if not chosen:
        parser().error(f"none of these faults is one of {options.database}")
    start = time.monotonic()
    results: list[Result] = []
    # The longest first, so that none is left over at the end.
    chosen.sort(key=lambda pair: pair[0].name not in ("PostgreSQL frozen", "SQLite locked"))
    orders = [
        Order(
            fault.name,
            database,
            options.seed,
            _rounds(fault, options.rounds, options.short),
            options.short,
        )
        for fault, database in chosen
    ]
    for result in run(orders, options.jobs):
        results.append(result)
        print(as_text([result]), flush=True)
        for failure in result.failures:
            print(f"    {failure}", flush=True)
    results = order(results)
    seconds = time.monotonic() - start
    print(f"\n{as_text(results)}\n\n{seconds:.0f} s, seeds from {options.seed}")
    if options.write:
        write(results, seconds, options.seed)
    return 1 if any(result.failures for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
