"""`make mutants`: change the code of four rooms in every way that mutmut knows; do the unit tests
of these rooms notice?

Writes the figures into `docs/reference/mutants.md`, where every mutant that survives is explained.
Fails if a room's tests notice less than `ENOUGH` of its mutants, and if one survives that the page
does not explain.

With arguments, which are mutmut's, it goes on where the last run has ended.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reference" / "mutants.md"
MUTANTS = ROOT / "mutants"
LOG = ROOT / "mutants.log"
MUTMUT = [str(Path(sys.executable).with_name("mutmut"))]
ROOMS = ("retry", "signing", "formats", "guard")
ENOUGH = 90.0

KILLED = {1, 3}
"""Exit statuses of tests that notice a mutant; there are others, of one that never ends."""
SURVIVED = {0, 5, 33}
"""No test failed, or there is none that runs the code."""


def main() -> int:
    if not sys.argv[1:]:
        shutil.rmtree(MUTANTS, ignore_errors=True)  # mutmut believes what it has found before
    with LOG.open("w") as log:  # thousands of lines, but for who watches it
        seen = None if sys.stdout.isatty() else log
        ended = subprocess.run([*MUTMUT, "run", *sys.argv[1:]], cwd=ROOT, stdout=seen)
    if ended.returncode:
        print(LOG.read_text()[-5000:])
        return ended.returncode
    results = {room: statuses(room) for room in ROOMS}
    rows = {room: Counter(map(fate, found.values())) for room, found in results.items()}
    page = PAGE.read_text()
    page = re.sub(r"(?s)(<!-- figures -->\n).*?(<!-- end -->)", rf"\1{table(rows)}\2", page)
    PAGE.write_text(page)
    print(table(rows))
    few = [room for room, row in rows.items() if percent(row) < ENOUGH]
    explained = page.replace("\\|", "|")  # as it has to stand in a table
    survivors = [name for found in results.values() for name in found if fate(found[name]) == "s"]
    unexplained = {
        name: changed for name in survivors if (changed := change(name)) not in explained
    }
    for name, changed in unexplained.items():
        print(f"{name} survives, and {PAGE.name} does not explain it:\n    {changed}")
    if few:
        print(f"less than {ENOUGH:g} % are noticed in: {', '.join(few)}")
    return int(bool(few or unexplained))


def statuses(room: str) -> dict[str, int | None]:
    """The exit status of the tests of each mutant of a room: a module, or a package."""
    found: dict[str, int | None] = {}
    package = MUTANTS / "flask_resthooks"
    for meta in sorted([*package.glob(f"{room}.py.meta"), *package.glob(f"{room}/**/*.py.meta")]):
        found.update(json.loads(meta.read_text())["exit_code_by_key"])
    return found


def fate(status: int | None) -> str:
    return "k" if status in KILLED else "s" if status in SURVIVED else "t"


def percent(row: Counter[str]) -> float:
    return 100 * (row["k"] + row["t"]) / max(row.total(), 1)


def table(rows: dict[str, Counter[str]]) -> str:
    lines = [
        "| room | mutants | noticed | of these, by not ending | survive | noticed, in % |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    total: Counter[str] = sum(rows.values(), Counter())
    for room, row in [*((f"`{room}`", row) for room, row in rows.items()), ("all", total)]:
        counts = (row.total(), row["k"] + row["t"], row["t"], row["s"])
        lines.append(f"| {room} | {' | '.join(map(str, counts))} | {percent(row):.1f} |")
    return "\n".join(lines) + "\n"


def change(name: str) -> str:
    """What a mutant does: the lines that it puts in, without spaces around them."""
    shown = subprocess.run([*MUTMUT, "show", name], cwd=ROOT, capture_output=True, text=True)
    per_sign: dict[str, list[str]] = defaultdict(list)
    for line in shown.stdout.splitlines():
        if line[:1] in "+-" and line[:3] not in ("+++", "---"):
            per_sign[line[0]].append(line[1:].strip())
    return " ".join(per_sign["+"] or per_sign["-"])


if __name__ == "__main__":
    sys.exit(main())
