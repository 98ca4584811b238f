"""One drain in this process, its steps timed by the processor that they use; seconds, as JSON.

The functions of the steps are wrapped from outside: the package has no trace of it. What a wrapped
function calls of the others counts for those alone. Used by `sections/parts.py`.
"""

from __future__ import annotations

import functools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from typing import Any

import bench_app
import harness  # noqa: F401  (finds what is measured)

from flask_resthooks.jobs import Runner
from flask_resthooks.transport import TRANSPORTS

STEPS = {
    "fan-out": ["flask_resthooks.outbox:Outbox.fan_out"],
    "claim": ["flask_resthooks.outbox:Outbox.claim"],
    "compose: the body": ["flask_resthooks.formats:fitting_body"],
    "compose: headers and signature": ["flask_resthooks.formats:headers"],
    "compose: the rest": ["flask_resthooks.composing:Composer.request"],
    "dispatch": [
        "flask_resthooks.dispatch:Dispatcher.add",
        "flask_resthooks.dispatch:Dispatcher.pump",
    ],
    "judge": ["flask_resthooks.judging:Judge.outcome"],
    "settle": ["flask_resthooks.outbox:Outbox.settle"],
}
HANDING_OVER, SENDING, REST = "hand over to the transport", "send, and read the answer", "the rest"


class Clock:
    """What each step has used, in every thread, without what other steps within it have used."""

    def __init__(self) -> None:
        self._steps: Counter[tuple[int, str]] = Counter()
        self._local = threading.local()

    def wrap(self, step: str, place: str) -> None:
        """Have a function timed from now on; see `find`."""
        owner, name = find(place)
        setattr(owner, name, self.timed(step, getattr(owner, name)))

    def timed(self, step: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed."""
        local, steps, clock = self._local, self._steps, time.thread_time_ns

        @functools.wraps(function)
        def timed(*arguments: Any, **options: Any) -> Any:
            outer = getattr(local, "within", 0)
            local.within = 0
            start = clock()
            try:
                return function(*arguments, **options)
            finally:
                spent = clock() - start
                # A key is of one thread alone: no lock.
                steps[threading.get_ident(), step] += spent - local.within
                local.within = outer + spent

        return timed

    def seconds(self, *, of_thread: int | None = None) -> dict[str, float]:
        """By step."""
        found: dict[str, float] = {}
        for (thread, step), spent in self._steps.items():
            if of_thread in (None, thread):
                found[step] = found.get(step, 0.0) + spent / 1e9
        return found


def find(place: str) -> tuple[Any, str]:
    """A function, given as `module:name` or `module:Class.name`: what has it, and its name.

    :raises LookupError: if there is none.
    """
    module, _, path = place.partition(":")
    owner: Any = import_module(module)
    *classes, name = path.split(".")
    for one in classes:
        owner = getattr(owner, one, None)
    if not hasattr(owner, name):
        raise LookupError(f"there is nothing to be timed at {place} any more: see STEPS")
    return owner, name


def main() -> None:
    app = bench_app.create_app()
    plant = app.extensions["resthooks"].plant
    clock = Clock()
    for step, places in STEPS.items():
        for place in places:
            clock.wrap(step, place)
    clock.wrap(HANDING_OVER, f"{TRANSPORTS[plant.settings.transport]}.submit")
    with app.app_context():
        runner = Runner(plant, threading.Event())
    process, thread = time.process_time(), time.thread_time()
    runner.run()
    process, thread = time.process_time() - process, time.thread_time() - thread
    every, here = clock.seconds(), clock.seconds(of_thread=threading.get_ident())
    found = dict.fromkeys([*STEPS, HANDING_OVER], 0.0) | every
    # What other threads did beside the steps: the transport's, nearly all of it.
    found[SENDING] = process - thread - (sum(every.values()) - sum(here.values()))
    found[REST] = thread - sum(here.values())
    print(json.dumps(found))
    runner.close()


if __name__ == "__main__":
    main()
