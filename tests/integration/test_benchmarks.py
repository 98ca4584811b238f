"""`make bench`: its counts find what is lost and what comes twice, and its page keeps the prose."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import requests

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
sys.path.append(str(BENCHMARKS))

import bench  # noqa: E402  (found by the line above)
import sections  # noqa: E402
import taken_apart  # noqa: E402
from harness import page, receivers, results  # noqa: E402
from harness.counting import Count, Miscounted, count  # noqa: E402

PROGRAMS = ["", *filter(None, [shutil.which("nginx")])]
"""What receives: our own receiver, and the nginx if there is one."""

QUICK_LIMIT = 110.0

PAGE = """\
# Page

Before.

## The bars

<!-- bench:bars -->
<!-- /bench:bars -->

## The first, of two

<!-- bench:first -->
old
<!-- /bench:first -->

## Second

Between.

<!-- bench:second -->
kept
<!-- /bench:second -->
<!-- bench:machine --><!-- /bench:machine -->
After.
"""


def post(url: str, *ids: str) -> None:
    with requests.Session() as session:
        for id_ in ids:
            answer = session.post(url, data=b"{}", headers={"webhook-id": id_}, timeout=10)
            assert answer.status_code == 200


def samples(*values: float) -> list[results.Sample]:
    return [results.Sample(value, Count(wanted=10)) for value in values]


# Counts.


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_planted_loss_and_a_planted_duplicate_are_found_at_the_receiver(program: str) -> None:
    with receivers.receive(nginx=program) as receiver:
        post(receiver.url(), "evt_before")
        receiver.wait_for(1, limit=10)
        receiver.forget()
        post(receiver.url(), "evt_1", "evt_2", "evt_2", "evt_stranger")
        receiver.wait_for(4, limit=10)
        arrived = [arrival.id for arrival in receiver.arrivals()]
        found = count(["evt_1", "evt_2", "evt_3"], arrived)
    assert found == Count(wanted=3, lost=1, twice=1, strange=1)
    with pytest.raises(Miscounted, match="1 were lost, 1 came twice, and 1 came that nobody"):
        found.check("planted")


@pytest.mark.parametrize("program", PROGRAMS)
def test_receivers_are_told_apart_by_their_ports_and_arrivals_by_their_times(program: str) -> None:
    begin = time.time()
    with receivers.receive(2, nginx=program) as receiver:
        for number in range(2):
            post(receiver.url(number), "evt_1")
        receiver.wait_for(2, limit=10)
        arrivals = receiver.arrivals()
    assert [(arrival.port, arrival.id) for arrival in arrivals] == [
        (port, "evt_1") for port in receiver.ports
    ]
    assert all(begin - 1 < arrival.at < time.time() + 1 for arrival in arrivals)


def test_a_slow_receiver_answers_later() -> None:
    with receivers.receive(delay=0.2) as receiver:
        begin = time.monotonic()
        post(receiver.url(), "evt_1")
        assert time.monotonic() - begin >= 0.2


@pytest.mark.parametrize("bad", [Count(1, lost=1), Count(1, twice=1), Count(1, strange=1)])
def test_a_round_with_a_wrong_count_ends_the_run(bad: Count) -> None:
    with pytest.raises(Miscounted, match=r"^act: "):
        results.rounds(1, {"act": lambda: results.Sample(1.0, bad)})


def test_what_comes_as_it_should_is_counted_as_nothing_else() -> None:
    found = count(["a", "b"], ["b", "a"])
    assert found.check("all") == Count(wanted=2)


def test_a_wrong_count_makes_the_command_fail(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def measure(given: Any) -> results.Section:
        count(["evt_1"], []).check("planted")
        raise AssertionError("it went on")

    monkeypatch.setattr(
        sys, "argv", ["bench.py", "--only", "commit", "--json", str(tmp_path / "f")]
    )
    monkeypatch.setattr(bench, "Bench", lambda **options: contextlib.nullcontext())
    monkeypatch.setattr(bench.machine, "describe", lambda given: {})
    monkeypatch.setattr(bench.sections, "of", lambda name: measure)
    assert bench.main() == 1
    assert not (tmp_path / "f").exists()


# Figures.


def test_acts_take_turns() -> None:
    turns: list[str] = []

    def act(name: str) -> results.Sample:
        turns.append(name)
        return results.Sample(float(len(turns)))

    found = results.rounds(2, {name: lambda name=name: act(name) for name in "ab"})
    assert turns == ["a", "b", "a", "b"]
    assert [sample.value for sample in found["b"]] == [2, 4]


def test_a_ratio_is_the_median_of_the_ratios_of_the_rounds() -> None:
    # Not the ratio of the medians, which would be 30 / 15.
    found = results.ratio("r", samples(30, 10, 40), samples(15, 1, 40), results.least(3))
    assert (found.value, found.count) == (2, Count(wanted=60))
    assert found.bar is not None and not found.bar.reached(found.value)
    assert results.median("m", samples(3, 1, 2), "ms", 10).value == 20
    assert results.most(2).reached(2) and not results.most(2).reached(2.01)


# The page.


def some_results(value: float = 3.0) -> results.Results:
    figure = results.Figure("a / b", value, "", Count(wanted=1234), [2, 3], results.least(2.5))
    table = results.Table(["x", "y"], [["1", "2"]])
    found = results.Results(machine={"Python": "3"})
    found.add("first", results.Section([figure], [table], ["A note."]), "2026-01-02")
    return found


def test_a_page_gets_its_tables_and_keeps_its_prose() -> None:
    written = page.written(PAGE, some_results())
    assert "| [a / b](#the-first-of-two) | ≥ 2.5 | 3.00 (2.00 to 3.00) | 1,234 | 0 | 0 |" in written
    assert "A note." in written and "2026-01-02" in written and "| Python | 3 |" in written
    assert "old" not in written and "kept" in written
    without = re.compile(r"(<!-- bench:.*? -->).*?(<!-- /bench)", re.DOTALL)
    assert without.sub(r"\1\2", written) == without.sub(r"\1\2", PAGE)
    assert page.written(written, some_results()) == written


def test_bars_of_what_was_not_measured_again_stay_and_a_missed_one_is_marked() -> None:
    before = page.written(PAGE, some_results())
    later = results.Results(machine={"Python": "4"})
    missed = results.Figure("c", 9.0, "ms", bar=results.most(8))
    later.add("second", results.Section([missed]), "2026-03-04")
    written = page.written(before, later)
    assert "| [a / b](#the-first-of-two) | ≥ 2.5 | 3.00 (2.00 to 3.00) | 1,234 | 0 | 0 |" in written
    assert "| [c](#second) | ≤ 8 ms | **9.00 ms: not reached** | | | |" in written
    assert written.index("[a / b]") < written.index("[c]")
    again = page.written(written, some_results(2.0))
    assert again.count("[a / b]") == 1 and "**2.00: not reached**" in again


def test_a_page_without_a_place_for_a_section_is_refused() -> None:
    with pytest.raises(ValueError, match="no place for 'first'"):
        page.written("# Nothing", some_results())


def test_results_of_several_runs_come_together(tmp_path: Path) -> None:
    path = tmp_path / "build" / "figures.json"
    assert results.Results.read(path) == results.Results()
    some_results().write(path)
    found = results.Results.read(path)
    found.add("second", results.Section([], [], []), "2026-03-04")
    found.write(path)
    again = results.Results.read(path)
    assert again == found and list(again.sections) == ["first", "second"]


def test_the_page_of_the_documentation_has_a_place_for_each_section() -> None:
    text = bench.PAGE.read_text()
    for name in (*sections.NAMES, page.BARS, page.MACHINE):
        page.block(text, name)


# A delivery taken apart.


@pytest.mark.parametrize(
    "place", [place for places in taken_apart.STEPS.values() for place in places]
)
def test_what_is_timed_of_a_drain_is_there(place: str) -> None:
    owner, name = taken_apart.find(place)
    assert callable(getattr(owner, name))


def test_what_is_not_there_any_more_is_said() -> None:
    with pytest.raises(LookupError, match=r"Outbox\.gone"):
        taken_apart.find("flask_resthooks.outbox:Outbox.gone")


def test_a_step_within_a_step_counts_once() -> None:
    def burn(seconds: float) -> None:
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass

    clock = taken_apart.Clock()
    inner = clock.timed("inner", lambda: burn(0.02))
    clock.timed("outer", lambda: (burn(0.01), inner(), inner()))()
    seconds = clock.seconds()
    assert 0.04 <= seconds["inner"] < 0.06
    assert 0.01 <= seconds["outer"] < 0.03


# All of it.


def test_a_quick_run_measures_and_writes(tmp_path: Path) -> None:
    target, figures = tmp_path / "page.md", tmp_path / "figures.json"
    target.write_text(bench.PAGE.read_text())
    done = subprocess.run(
        [
            *[sys.executable, str(BENCHMARKS / "bench.py"), "--quick", "--database", "sqlite"],
            *["--only", "slow,commit", "--json", str(figures), "--page", str(target)],
        ],
        capture_output=True,
        text=True,
        timeout=QUICK_LIMIT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = results.Results.read(figures)
    assert list(found.sections) == ["slow", "commit"]
    for section in found.sections.values():
        assert any(figure.bar for figure in section.figures)
        assert any(figure.count.wanted for figure in section.figures)
        for figure in section.figures:
            assert figure.value > 0
            assert (figure.count.lost, figure.count.twice) == (0, 0)
    assert "SQLite: a commit, tracked / without" in page.block(target.read_text(), page.BARS)
