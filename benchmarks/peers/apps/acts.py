"""What each app can be asked to do, in a process of its own: `python APP.py ACT ARGUMENTS`.

`prepare URL` makes the tables and one subscription, and answers its secret; `save FIRST COUNT`
saves so many records, each in a transaction, and answers the seconds that it took; `roll-back
MARK` saves one and rolls back; `stay` does nothing but be there, as an app that was started again.
The answer is one line of JSON; with `PEER_ANSWER` (a path) it is written there, and the process
stays: its threads may have things to deliver. Everything else is told by the environment, too:
`PEER_DATABASE` (a path), `PEER_REDIS` (a URL), and `PEER_OPTIONS` (JSON).
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

DATABASE = os.environ["PEER_DATABASE"]
REDIS = os.environ["PEER_REDIS"]
OPTIONS = json.loads(os.environ.get("PEER_OPTIONS", "{}"))

EMAIL = "ada@example.com"
CITY = "London " * 100  # which makes a body of about 1 kB
STAY = 180  # seconds, if nobody ends it


def main(
    prepare: Callable[[str], str | None],
    save: Callable[[str], None],
    roll_back: Callable[[str], None],
) -> None:
    act, *arguments = sys.argv[1:]
    answer: dict[str, Any] = {}
    if act == "prepare":
        answer = {"secret": prepare(arguments[0])}
    elif act == "save":
        first, count = map(int, arguments)
        start = time.monotonic()
        for number in range(first, first + count):
            save(f"mark-{number}")
        answer = {"seconds": time.monotonic() - start}
    elif act == "roll-back":
        roll_back(f"mark-{arguments[0]}")
    if path := os.environ.get("PEER_ANSWER"):
        made = Path(f"{path}.new")
        made.write_text(json.dumps(answer))
        made.rename(path)
        time.sleep(STAY)
    else:
        print(json.dumps(answer), flush=True)
