"""The end of `make coverage`: how many of the package's branches were taken, and whether that is
enough.

coverage.py's own percentage is one of statements and branches together.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ENOUGH = 95.0


def main(report: Path) -> int:
    counts = json.loads(report.read_text())["totals"]
    taken, all_of_them = counts["covered_branches"], counts["num_branches"]
    percent = 100 * taken / all_of_them
    print(f"{taken} of {all_of_them} branches: {percent:.1f} % (at least {ENOUGH:g} % are wanted)")
    return int(percent < ENOUGH)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
