"""What the benchmarks share: servers, receivers, workers, rounds, counts, and the page.

The servers are those of the tests (`tests/servers.py`); importing this package finds them.
"""

from __future__ import annotations

import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parent.parent
ROOT = BENCHMARKS.parent

for _directory in (BENCHMARKS, ROOT / "tests"):
    if str(_directory) not in sys.path:
        sys.path.append(str(_directory))
