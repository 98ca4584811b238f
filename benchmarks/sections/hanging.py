"""A hundred receivers of which one never answers: what the others notice of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from harness.bench import Bench
from harness.counting import count
from harness.processes import working
from harness.receivers import Receiver, black_hole, rate, receive
from harness.results import Sample, Section, least, median, ratio, rounds
from harness.sender import EVENT_LOOP, Sender

RECEIVERS, EVENTS = 100, 200
LIMIT = 300.0


def measure(bench: Bench) -> Section:
    kind, good = bench.databases[0], RECEIVERS - 1
    acts: dict[str, Callable[[], Sample]] = {}
    with contextlib.ExitStack() as stack:
        receiver = stack.enter_context(receive(good))
        hole = stack.enter_context(black_hole())
        for name in ("without", "with one that hangs"):
            sender = stack.enter_context(bench.sender(kind, RESTHOOKS_TRANSPORT=EVENT_LOOP))
            hanging = None if name == "without" else sender.subscribe(hole)
            for number in range(good):
                sender.subscribe(receiver.url(number))
            acts[name] = _act(sender, receiver, bench.some(EVENTS), hanging)
        found = rounds(bench.rounds, acts)
    figures = [median(f"{good} receivers, {name}", some, "/s") for name, some in found.items()]
    with_it, without = found["with one that hangs"], found["without"]
    bar = least(0.9)
    figures.append(ratio(f"{good} receivers, with one that hangs / without", with_it, without, bar))
    return Section(figures)


def _act(
    sender: Sender, receiver: Receiver, events: int, hanging: str | None
) -> Callable[[], Sample]:
    """Deliveries a second to all but the one that hangs, until the last of them has come."""

    def act() -> Sample:
        sender.empty()
        made = sender.fill(events)
        receiver.forget()
        wanted = [(port, id_) for port in receiver.ports for id_ in made]
        with working(sender.config):
            receiver.wait_for(len(wanted), LIMIT)
            sender.wait_until_settled(LIMIT, besides=hanging)
            arrivals = receiver.arrivals()
        return Sample(rate(arrivals), count(wanted, [(one.port, one.id) for one in arrivals]))

    return act
