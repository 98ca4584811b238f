from __future__ import annotations

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flask_resthooks.lanes import MOST_KNOWN, SLOW_AFTER, Lanes

LATER = SLOW_AFTER + 0.1


def filled(places: int, host_places: int = 0, **counts: int) -> Lanes:
    """Lanes with so many items each, `host_lane=count`."""
    lanes = Lanes(places, host_places)
    for name, count in counts.items():
        host = name.partition("_")[0]
        for number in range(count):
            lanes.add(f"{name}{number}", name, host, 0.0)
    return lanes


def begun(lanes: Lanes, now: float = 0.0) -> list[str]:
    found = []
    while (item := lanes.begin(now)) is not None:
        found.append(item)
    return found


def of(items: list[str], lane: str) -> list[str]:
    return [item for item in items if item.startswith(lane)]


def test_a_new_lane_gets_a_quarter_of_the_places() -> None:
    assert len(begun(filled(32, a=100))) == 8
    assert len(begun(filled(1, a=100))) == 1


def test_lanes_take_turns() -> None:
    assert begun(filled(6, a=3, b=1, c=3)) == ["a0", "b0", "c0"]
    assert begun(filled(12, a=3, b=1, c=3)) == ["a0", "b0", "c0", "a1", "c1", "a2", "c2"]


def test_who_answers_at_once_gets_all_places() -> None:
    lanes = filled(32, a=100)
    lanes.end(begun(lanes)[0], 0.1)
    assert lanes.pace("a", "a", 0.1) == "quick"
    assert len(begun(lanes, 0.1)) == 25  # with the 7 in flight, all 32


def test_who_does_not_answer_gets_half_of_them() -> None:
    lanes = filled(32, a=100)
    first = begun(lanes)
    lanes.review(LATER)
    assert lanes.pace("a", "a", LATER) == "slow"
    assert len(first + begun(lanes, LATER)) == 16


def test_all_that_do_not_answer_at_once_leave_a_quarter_to_the_others() -> None:
    lanes = filled(32, a=100, b=100, c=100, d=100)
    first = begun(lanes)
    assert len(first) == 24
    for now in (0.5, LATER):
        lanes.review(now)
        assert begun(lanes, now) == []
    for number in range(20):
        lanes.add(f"good{number}", "good", "good", LATER)
    assert begun(lanes, LATER) == ["good0"]
    lanes.end("good0", LATER + 0.1)
    assert begun(lanes, LATER + 0.1) == [f"good{number}" for number in range(1, 9)]
    lanes.end(first[0], LATER + 0.2)
    assert begun(lanes, LATER + 0.2) == ["good9"]


def test_new_ones_show_how_they_are_however_many_are_slow() -> None:
    lanes = filled(32, a=100, b=100, c=100, d=100)
    begun(lanes)
    for number in range(10):
        for lane in "pqr":
            lanes.add(f"{lane}{number}", lane, lane, 0.5)
    assert begun(lanes, 0.5) == ["p0", "q0", "r0"]


def test_slow_ones_get_an_eighth_whatever_the_quick_ones_have_to_send() -> None:
    lanes = filled(64, quick=10_000, slow=100)
    for item in begun(lanes):
        if item.startswith("quick"):
            lanes.end(item, 0.1)
    lanes.review(LATER)
    for item in of(begun(lanes, LATER), "quick"):
        lanes.end(item, LATER)
    slow = [item for item in lanes._of_item if item.startswith("slow")]
    assert len(slow) == 100
    for item in [item for item in slow if item in lanes._lanes["slow"].begun]:
        lanes.end(item, 2 * LATER)
    assert len(of(begun(lanes, 2 * LATER), "slow")) == 8


def test_however_many_are_new_a_place_stays_for_who_is_quick() -> None:
    lanes = filled(64, good=1)
    lanes.end(begun(lanes)[0], 0.1)
    for number in range(300):
        lanes.add(f"new{number}", f"new{number}", f"host{number}", 0.2)
    assert len(begun(lanes, 0.2)) == 56
    for number in range(20):
        lanes.add(f"good{number}", "good", "good", 0.3)
    assert begun(lanes, 0.3) == [f"good{number}" for number in range(8)]


def test_a_slow_one_that_answers_at_once_again_is_quick() -> None:
    lanes = filled(4, a=10)
    first = begun(lanes)
    lanes.review(LATER)
    lanes.end(first[0], LATER)
    assert lanes.pace("a", "a", LATER) == "slow"
    (second, _) = begun(lanes, LATER)
    lanes.end(second, LATER + 0.1)
    assert lanes.pace("a", "a", LATER + 0.1) == "quick"


def test_a_new_lane_of_a_slow_host_is_slow_from_its_beginning() -> None:
    lanes = filled(8, h_a=5, h_b=5)
    begun(lanes)
    lanes.review(LATER)
    assert lanes.pace("h_c", "h", LATER) == "slow"
    assert lanes.pace("other", "other", LATER) == "new"
    lanes.add("c0", "h_c", "h", LATER)
    assert lanes.pace("h_c", "h", LATER) == "slow"


def test_a_host_of_which_others_get_answers_is_not_slow() -> None:
    lanes = filled(8, h_a=5, h_b=5)
    first = begun(lanes)
    lanes.end(of(first, "h_b")[0], LATER)  # took too long
    lanes.add("b9", "h_b", "h", LATER)
    for item in begun(lanes, LATER):
        lanes.end(item, LATER + 0.1)
    lanes.review(LATER + 0.2)
    assert lanes.pace("h_c", "h", LATER + 0.2) == "new"


def test_a_host_has_no_more_in_flight_than_it_may() -> None:
    lanes = filled(32, 3, h_a=10, h_b=10, other=10)
    first = begun(lanes)
    assert len(of(first, "h_")) == 3
    assert len(of(first, "other")) == 3
    lanes.end(of(first, "h_")[0], 0.1)
    assert len(of(begun(lanes, 0.1), "h_")) == 1


def test_a_lane_whose_host_has_changed_is_another_one() -> None:
    lanes = filled(8, a=5)
    first = begun(lanes)
    lanes.review(LATER)
    lanes.add("new", "a", "elsewhere", LATER)
    assert lanes.pace("a", "elsewhere", LATER) == "new"
    assert begun(lanes, LATER)[0] == "new"
    for item in first:
        lanes.end(item, LATER)


def test_what_was_not_begun_can_be_withdrawn() -> None:
    lanes = filled(4, a=5, b=1)
    first = begun(lanes)
    assert first == ["a0", "b0"]
    assert lanes.withdraw(lambda item: item != "a2") == ["a1", "a3", "a4"]
    assert len(lanes) == 3
    assert lanes.withdraw(lambda item: True) == ["a2"]
    assert begun(lanes) == []
    lanes.add("a9", "a", "a", 0.0)
    lanes.end("a0", 0.1)
    assert begun(lanes, 0.1) == ["a9"]


def test_what_waits_for_slow_ones_beyond_a_number_is_surplus_the_last_ones_first() -> None:
    lanes = filled(8, a=6, b=3, c=20)
    begun(lanes)
    assert list(lanes.surplus(0)) == []
    lanes.review(LATER)
    lanes.end("c0", LATER)
    lanes.add("c99", "c", "c", LATER)
    lanes.begin(LATER)
    slow = lanes.slow
    assert slow == 6 + 3 + 20
    surplus = list(lanes.surplus(slow - 3))
    assert surplus == ["c99", "c19", "c18"]
    assert len(list(lanes.surplus(0))) == len(lanes) - 6  # what is in flight cannot be undone


def test_lanes_of_which_nothing_is_on_its_way_are_forgotten() -> None:
    lanes = Lanes(2)
    for number in range(MOST_KNOWN + 1):
        lanes.add("item", f"lane{number}", f"host{number}", 0.0)
        assert lanes.begin(0.0) == "item"
        lanes.end("item", 0.0)
    lanes.add("item", "kept", "kept", 0.0)
    lanes.begin(0.0)
    lanes.review(0.1)
    assert lanes.pace("lane5", "host5", 0.1) == "new"
    lanes.review(LATER)
    assert lanes.pace("kept", "kept", LATER) == "slow"
    lanes.end("item", LATER)


class AnyOrder(RuleBasedStateMachine):
    """Whatever comes in whatever order, what is said of lanes holds."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.places, self.host_places = 8, 5
        self.lanes = Lanes(self.places, self.host_places)
        self.waiting: dict[str, list[str]] = {}
        self.flying: dict[str, str] = {}
        self.number = 0

    @rule(lane=st.sampled_from(["h_a", "h_b", "i_a", "j_a"]), count=st.integers(1, 6))
    def add(self, lane: str, count: int) -> None:
        for _ in range(count):
            self.number += 1
            item = f"{lane}:{self.number}"
            self.lanes.add(item, lane, lane[0], self.now)
            self.waiting.setdefault(lane, []).append(item)

    @rule()
    def begin(self) -> None:
        item = self.lanes.begin(self.now)
        if item is None:
            return
        lane = item.partition(":")[0]
        assert self.waiting[lane].pop(0) == item
        self.flying[item] = lane
        of_lane = sum(other == lane for other in self.flying.values())
        pace = self.lanes.pace(lane, lane[0], self.now)
        assert of_lane <= self.lanes.limit(pace)
        assert sum(other[0] == lane[0] for other in self.flying.values()) <= self.host_places

    @precondition(lambda self: self.flying)
    @rule(at=st.integers(0, 100))
    def end(self, at: int) -> None:
        item = sorted(self.flying)[at % len(self.flying)]
        del self.flying[item]
        self.lanes.end(item, self.now)

    @rule(seconds=st.sampled_from([0.1, 0.6, 1.5]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def review(self) -> None:
        self.lanes.review(self.now)

    @rule(most=st.integers(0, 10))
    def surplus(self, most: int) -> None:
        some = set(self.lanes.surplus(most))
        taken = self.lanes.withdraw(some.__contains__)
        assert set(taken) == some
        for item in taken:
            self.waiting[item.partition(":")[0]].remove(item)
        assert self.lanes.slow <= max(most, sum(1 for _ in self.flying))

    @invariant()
    def nothing_is_lost(self) -> None:
        assert len(self.lanes) == len(self.flying) + sum(map(len, self.waiting.values()))
        assert len(self.flying) <= self.places

    def teardown(self) -> None:
        # When all answer at once, all that waits is sent.
        for _ in range(1000):
            while (item := self.lanes.begin(self.now)) is not None:
                lane = item.partition(":")[0]
                self.waiting[lane].remove(item)
                self.flying[item] = lane
            if not self.flying:
                break
            for item in list(self.flying):
                self.lanes.end(item, self.now)
                del self.flying[item]
        assert not any(self.waiting.values()) and not self.lanes.slow and len(self.lanes) == 0


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = hypothesis_settings(max_examples=60, stateful_step_count=40, deadline=None)
