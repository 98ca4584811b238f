"""What a section has found, and the file in which sections of several runs come together."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .counting import Count

NOTHING = Count()


@dataclass(frozen=True, slots=True)
class Bar:
    """What a figure has to reach: `most` or `least` of it."""

    limit: float
    most: bool = False

    def reached(self, value: float) -> bool:
        return value <= self.limit if self.most else value >= self.limit

    def __str__(self) -> str:
        return f"{'≤' if self.most else '≥'} {self.limit:g}"


def least(limit: float) -> Bar:
    """The figure has to be so much, or more."""
    return Bar(limit)


def most(limit: float) -> Bar:
    """The figure has to be so much, or less."""
    return Bar(limit, most=True)


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of a page.

    :param value: the median of the rounds.
    :param unit: empty for a ratio.
    :param rounds: what each round has found.
    """

    name: str
    value: float
    unit: str = ""
    count: Count = NOTHING
    rounds: Sequence[float] = ()
    bar: Bar | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Lines beside the figures, as they are to be shown."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Section:
    """All that a section has found in one run.

    :param notes: sentences for the page: how it was measured this time.
    """

    figures: Sequence[Figure]
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """What one act of one round has found."""

    value: float
    count: Count = NOTHING


def rounds(number: int, acts: Mapping[str, Callable[[], Sample]]) -> dict[str, list[Sample]]:
    """Every act once, and that again and again: what disturbs a round disturbs all acts alike."""
    found: dict[str, list[Sample]] = {name: [] for name in acts}
    for turn in range(number):
        for name, act in acts.items():
            sample = act()
            sample.count.check(name)
            found[name].append(sample)
            print(f"  round {turn + 1}: {name}: {sample.value:,.6g}", flush=True)
    return found


def total(samples: Sequence[Sample]) -> Count:
    """The counts of all of them together."""
    return sum((sample.count for sample in samples), NOTHING)


def median(
    name: str,
    samples: Sequence[Sample],
    unit: str,
    scale: float = 1.0,
    bar: Bar | None = None,
) -> Figure:
    """The figure of one act."""
    values = [sample.value * scale for sample in samples]
    return Figure(name, statistics.median(values), unit, total(samples), values, bar)


def ratio(
    name: str, samples: Sequence[Sample], base: Sequence[Sample], bar: Bar | None = None
) -> Figure:
    """How one act compares to another: the median of the rounds' own ratios."""
    values = [mine.value / its.value for mine, its in zip(samples, base, strict=True)]
    return Figure(name, statistics.median(values), "", total(samples) + total(base), values, bar)


@dataclass(slots=True)
class Results:
    """Sections by name, with the day and the machine of each."""

    sections: dict[str, Section] = field(default_factory=dict)
    days: dict[str, str] = field(default_factory=dict)
    machine: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, section: Section, day: str) -> None:
        self.sections[name] = section
        self.days[name] = day

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1))

    @classmethod
    def read(cls, path: Path) -> Results:
        """What earlier runs have found; nothing if there were none."""
        if not path.exists():
            return cls()
        found = json.loads(path.read_text())
        sections = {name: _section(one) for name, one in found["sections"].items()}
        return cls(sections, found["days"], found["machine"])


def _section(found: dict[str, Any]) -> Section:
    figures = [
        Figure(
            **{
                **one,
                "count": Count(**one["count"]),
                "bar": None if one["bar"] is None else Bar(**one["bar"]),
            }
        )
        for one in found["figures"]
    ]
    return Section(figures, [Table(**table) for table in found["tables"]], found["notes"])
