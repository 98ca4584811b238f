"""The page: what was measured, between marks; the prose around them is written by people.

A block stands between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->`. Blocks of what was not
measured are left as they are, and so are its lines in the table of bars.
"""

from __future__ import annotations

import re

from .results import Figure, Results, Section, Table

BARS, MACHINE = "bars", "machine"

_HEADING = re.compile(r"^#+ +(.*?) *$", re.MULTILINE)
_HEAD = ("figure", "bar", "measured", "deliveries", "lost", "twice")


def written(page: str, results: Results) -> str:
    """The page with all that was measured in it.

    :raises ValueError: if the page has no block for it.
    """
    for name, section in results.sections.items():
        page = with_block(page, name, _block(section, results.days[name]))
    page = with_block(page, BARS, _bars(results, page))
    machine = Table(("", ""), list(results.machine.items()))
    return with_block(page, MACHINE, as_text(machine))


def block(page: str, name: str) -> str:
    """What stands in a block.

    :raises ValueError: if the page has none of that name.
    """
    return _find(page, name)[1]


def with_block(page: str, name: str, text: str) -> str:
    """The page with another text in that block."""
    found = _find(page, name)
    return f"{page[: found.start(1)]}\n{text}\n{page[found.end(1) :]}"


def _find(page: str, name: str) -> re.Match[str]:
    mark = re.escape(name)
    found = re.search(f"<!-- bench:{mark} -->(.*?)<!-- /bench:{mark} -->", page, re.DOTALL)
    if found is None:
        raise ValueError(f"the page has no place for {name!r}")
    return found


def as_text(table: Table) -> str:
    """A table of Markdown."""
    lines = [table.head, ["---"] * len(table.head), *table.rows]
    return "\n".join("|" + "".join(f" {cell} |" if cell else " |" for cell in one) for one in lines)


def shown(number: float) -> str:
    """A number for people: three digits that count."""
    if abs(number) >= 100:
        return f"{number:,.0f}"
    return f"{number:.1f}" if abs(number) >= 10 else f"{number:.2f}"


def measured(figure: Figure) -> str:
    """The value of a figure, and the rounds that it is the median of."""
    value = f"{shown(figure.value)} {figure.unit}".strip()
    if figure.bar is not None and not figure.bar.reached(figure.value):
        value = f"**{value}: not reached**"
    if len(figure.rounds) > 1:
        value += f" ({shown(min(figure.rounds))} to {shown(max(figure.rounds))})"
    return value


def line(figure: Figure) -> list[str]:
    """The line of a figure."""
    counts = ["", "", ""]
    if (count := figure.count).wanted:
        counts = [f"{number:,}" for number in (count.wanted, count.lost, count.twice)]
    bar = f"{figure.bar} {figure.unit}".strip() if figure.bar else ""
    return [figure.name, bar, measured(figure), *counts]


def _bars(results: Results, page: str) -> str:
    """A line for each figure that has a bar, with those of what was not measured this time, in the
    order of their sections on the page."""
    anchors = {name: anchor(page, name) for name in results.sections}
    rows: list[tuple[str, list[str]]] = []
    for name, section in results.sections.items():
        for figure in section.figures:
            if figure.bar is not None:
                first, *others = line(figure)
                rows.append((anchors[name], [f"[{first}](#{anchors[name]})", *others]))
    for old in block(page, BARS).splitlines():
        found = re.match(r"\| \[.*?\]\(#(.*?)\) \|", old)
        if found and found[1] not in anchors.values():
            rows.append((found[1], [cell.strip() for cell in old.strip("|").split("|")]))
    order = [_anchor(heading) for heading in _HEADING.findall(page)]
    rows.sort(key=lambda row: order.index(row[0]))
    return as_text(Table(_HEAD, [cells for _, cells in rows]))


def anchor(page: str, name: str) -> str:
    """What leads to the heading above a block."""
    headings = _HEADING.findall(page[: _find(page, name).start()])
    return _anchor(headings[-1])


def _anchor(heading: str) -> str:
    """As GitHub and its like make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _block(section: Section, day: str) -> str:
    parts = [as_text(Table(_HEAD, [line(figure) for figure in section.figures]))]
    parts += [as_text(table) for table in section.tables]
    parts += section.notes
    parts.append(f"Measured on {day}.")
    return "\n\n".join(parts)
