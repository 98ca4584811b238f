"""Engine: whose POST is next. Pure: it is told the time.

claim ──► **lanes** ──► transport

What goes to one subscription is a lane. Every POST holds a place until its receiver has answered,
and there are few places: a receiver that does not answer would soon hold all of them. So a lane is
given places by how its receiver is known: all of them if it answers at once, a quarter if nobody
knows yet, a half if it is slow. Those that do not answer at once have three quarters together; of
the rest, a new lane gets one place, to show how it is. The lanes that have something to send take
turns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

SLOW_AFTER = 1.0
"""Seconds after which a receiver that has not answered yet is a slow one."""

NEW_PARTS, SLOW_PARTS, SPARE_PARTS = 4, 2, 4
"""Of so many parts of all places one is for a lane that nobody knows, for a slow one, and kept for
those that answer at once."""

LEAST_PARTS = 8
"""Of so many parts of all places slow ones get one, whatever the others have to send; and one is
kept from new ones, however many they are."""

MOST_KNOWN = 10_000
"""Lanes that are remembered while nothing of them is on its way."""

Pace = Literal["new", "quick", "slow"]


@dataclass(slots=True, eq=False)
class _Lane:
    name: str
    host: str
    pace: Pace = "new"
    waiting: deque[str] = field(default_factory=deque)
    # By item: when it was begun; the oldest first.
    begun: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _Host:
    in_flight: int = 0
    slow: int = 0  # lanes
    quick_at: float = float("-inf")


class Lanes:
    """Items, known by their names, on their way to several receivers.

    :param places: how many may be in flight.
    :param host_places: how many may be in flight to one host; 0: any number.
    """

    def __init__(self, places: int, host_places: int = 0) -> None:
        self._places = places
        self._host_places = host_places or places
        parts: dict[Pace, int] = {"new": NEW_PARTS, "quick": 1, "slow": SLOW_PARTS}
        self._limits = {pace: max(places // of_pace, 1) for pace, of_pace in parts.items()}
        self._unsure_places = max(places - places // SPARE_PARTS, 1)
        least = max(places // LEAST_PARTS, 1)
        self._slow_least = least
        self._shown_places = max(places - least, 1)
        self._lanes: dict[str, _Lane] = {}
        self._hosts: dict[str, _Host] = {}
        self._of_item: dict[str, _Lane] = {}
        self._active: dict[_Lane, None] = {}  # those with something in flight
        # Those that have something waiting: slow ones, and the others.
        self._turns: dict[bool, deque[_Lane]] = {True: deque(), False: deque()}
        self._in_flight = 0
        self._unsure_in_flight = 0  # of those that are not quick
        self._slow_in_flight = 0

    def __len__(self) -> int:
        """How many items wait or are in flight."""
        return len(self._of_item)

    def add(self, item: str, lane: str, host: str, now: float) -> None:
        """Have an item wait for its turn."""
        row = self._lanes.get(lane)
        if row is None or row.host != host:
            row = self._new_lane(lane, host, now)
        self._of_item[item] = row
        if not row.waiting:
            self._turns[row.pace == "slow"].append(row)
        row.waiting.append(item)

    def begin(self, now: float) -> str | None:
        """The next item that may go, which is in flight from now on; None if none may."""
        if self._in_flight >= self._places:
            return None
        slow_first = self._slow_in_flight < self._slow_least
        found = None
        for slow in (slow_first, not slow_first):
            if found is None and (not slow or self._unsure_in_flight < self._unsure_places):
                found = self._next(self._turns[slow])
        if found is None:
            return None
        item = found.waiting.popleft()
        if found.waiting:
            self._turns[found.pace == "slow"].append(found)
        found.begun[item] = now
        self._active[found] = None
        self._in_flight += 1
        self._unsure_in_flight += found.pace != "quick"
        self._slow_in_flight += found.pace == "slow"
        self._hosts[found.host].in_flight += 1
        return item

    def end(self, item: str, now: float) -> None:
        """An item in flight has come back."""
        lane = self._of_item.pop(item)
        took = now - lane.begun.pop(item)
        if not lane.begun:
            del self._active[lane]
        self._in_flight -= 1
        self._unsure_in_flight -= lane.pace != "quick"
        self._slow_in_flight -= lane.pace == "slow"
        host = self._hosts[lane.host]
        host.in_flight -= 1
        if took < SLOW_AFTER:
            host.quick_at = now
            self._set_pace(lane, "quick")
        else:
            self._set_pace(lane, "slow")

    def review(self, now: float) -> None:
        """See who has become slow; to be called several times a second."""
        for lane in self._active:
            oldest = next(iter(lane.begun.values()))
            if now - oldest >= SLOW_AFTER:
                self._set_pace(lane, "slow")
        for lane in list(self._turns[False]):
            if lane.pace == "new" and self._is_slow(lane.host, now):
                self._set_pace(lane, "slow")
        if len(self._lanes) > MOST_KNOWN:
            self._forget()

    def withdraw(self, wanted: Callable[[str], bool]) -> list[str]:
        """Take back the items for which `wanted` is true and that were not begun."""
        taken: list[str] = []
        for turns in self._turns.values():
            for lane in list(turns):
                some = [item for item in lane.waiting if wanted(item)]
                if some:
                    taken += some
                    left = set(some)
                    lane.waiting = deque(item for item in lane.waiting if item not in left)
                    if not lane.waiting:
                        turns.remove(lane)
        for item in taken:
            del self._of_item[item]
        return taken

    def surplus(self, most: int) -> Iterator[str]:
        """Those that wait for slow receivers, beyond `most` of all that go to such: the last ones
        first."""
        slow = self.slow
        queues = [list(lane.waiting) for lane in self._turns[True]]
        while slow > most and (longest := max(queues, key=len, default=[])):
            slow -= 1
            yield longest.pop()

    @property
    def slow(self) -> int:
        """How many items wait for, or are in flight to, slow receivers."""
        return self._slow_in_flight + sum(len(lane.waiting) for lane in self._turns[True])

    def pace(self, lane: str, host: str, now: float) -> Pace:
        """How a receiver is known."""
        row = self._lanes.get(lane)
        if row is not None and row.host == host:
            return row.pace
        return "slow" if self._is_slow(host, now) else "new"

    def limit(self, pace: Pace) -> int:
        """How many places a lane of this pace may hold."""
        return self._limits[pace]

    def _new_lane(self, name: str, host: str, now: float) -> _Lane:
        # A lane whose host has changed lives on in what is in flight of it.
        lane = self._lanes[name] = _Lane(name, host)
        self._hosts.setdefault(host, _Host())
        if self._is_slow(host, now):
            self._set_pace(lane, "slow")
        return lane

    def _forget(self) -> None:
        """Drop the lanes of which nothing is on its way, and their hosts."""
        kept = dict.fromkeys(self._of_item.values())
        self._lanes = {name: lane for name, lane in self._lanes.items() if lane in kept}
        hosts = {lane.host for lane in kept}
        self._hosts = {name: host for name, host in self._hosts.items() if name in hosts}
        for host in self._hosts.values():
            host.slow = 0
        for lane in kept:
            self._hosts[lane.host].slow += lane.pace == "slow"

    def _next(self, turns: deque[_Lane]) -> _Lane | None:
        """The next lane that may begin something, taken out of its place."""
        room = self._unsure_in_flight < self._unsure_places
        shows = self._unsure_in_flight < self._shown_places
        for _ in range(len(turns)):
            lane = turns.popleft()
            if (
                len(lane.begun) < self.limit(lane.pace)
                and self._hosts[lane.host].in_flight < self._host_places
                and (lane.pace == "quick" or room or (shows and not lane.begun))
            ):
                return lane
            turns.append(lane)
        return None

    def _is_slow(self, host: str, now: float) -> bool:
        known = self._hosts.get(host)
        return known is not None and known.slow > 0 and now - known.quick_at >= SLOW_AFTER

    def _set_pace(self, lane: _Lane, pace: Pace) -> None:
        if lane.pace == pace:
            return
        self._unsure_in_flight += ((pace != "quick") - (lane.pace != "quick")) * len(lane.begun)
        before, after = lane.pace == "slow", pace == "slow"
        self._slow_in_flight += (after - before) * len(lane.begun)
        lane.pace = pace
        if before == after:
            return
        self._hosts[lane.host].slow += 1 if after else -1
        if lane.waiting:
            self._turns[before].remove(lane)
            self._turns[after].append(lane)
