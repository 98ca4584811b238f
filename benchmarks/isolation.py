"""`make isolation`: what one bad target costs the others. Both databases.

100 deliveries to a good receiver, alone; and with 10,000 before them to a black hole (it takes
connections and says nothing), to a host that refuses connections, to six black holes; and with
10,000 of another owner to a receiver that is as good. Seconds from the commit to the last arrival,
by a real worker.
"""

from __future__ import annotations

import contextlib
import socket
import statistics
import sys
import time

from harness.bench import DATABASES, Bench
from harness.processes import working
from harness.receivers import black_hole
from servers import Inbox

GOOD, BAD = 100, 10_000
HOLES = 6
PATIENCE = 120.0


def refused() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}/"


def measure(bench: Bench, kind: str, bad: list[str], *, before: float) -> float:
    """Seconds that the good ones take, with a new database and a new worker.

    :param bad: URLs that get 10,000 deliveries, all of them together.
    :param before: seconds for which these are being sent already.
    """
    with bench.sender(kind) as sender, Inbox() as inbox, working(sender.config):
        for number, url in enumerate(bad):
            sender.subscribe(url, 100 + number)
        sender.subscribe(inbox.url())
        sender.commit(1)
        inbox.wait_for(1, timeout=PATIENCE)
        for number in range(len(bad)):
            sender.commit(BAD // len(bad), owner=100 + number)
        if bad:
            deadline = time.monotonic() + PATIENCE
            while sender.waiting() and time.monotonic() < deadline:
                time.sleep(0.05)
            time.sleep(before)
        start = time.monotonic()
        sender.commit(GOOD)
        inbox.wait_for(1 + GOOD, timeout=PATIENCE)
        return time.monotonic() - start


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    with contextlib.ExitStack() as stack:
        bench = stack.enter_context(Bench(rounds=rounds))
        holes = [stack.enter_context(black_hole()) for _ in range(HOLES)]
        busy = stack.enter_context(Inbox())
        cases: dict[str, tuple[list[str], float]] = {
            "alone": ([], 0.0),
            "a black hole, at once": (holes[:1], 0.0),
            "a black hole, for 3 s": (holes[:1], 3.0),
            "6 black holes, for 3 s": (holes, 3.0),
            "refused connections": ([refused()], 0.0),
            "another owner's good receiver": ([busy.url()], 0.0),
        }
        for kind in bench.databases:
            alone = 0.0
            for case, (bad, before) in cases.items():
                times = [measure(bench, kind, bad, before=before) for _ in range(rounds)]
                median = statistics.median(times)
                alone = alone or median
                print(
                    f"{DATABASES[kind]:10} {case:30} {median:6.2f} s, {median / alone:5.2f} times; "
                    f"bound {2 * alone + 1:.2f} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()
