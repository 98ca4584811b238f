"""What each statement costs the database: how it goes about it, and how much it reads for that.

A `Watch` explains the statements of an engine while they are executed, with the parameters that
they are executed with, and in the state that the database is in. On SQLite by `EXPLAIN QUERY PLAN`
and by counting the steps of its machine; on PostgreSQL by `EXPLAIN (ANALYZE)` of the statement as
it is prepared, which is undone before it is executed in earnest.

The large tables have tens of thousands of rows, and a batch has tens: whatever reads a whole table,
or a whole index, or everything that waits, is far beyond the limits.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
import sqlalchemy as sa

MOST_ROWS = 1500
"""Rows that one part of a plan may read, or sort."""

MOST_BLOCKS = 200, 6
"""Blocks that a scan of PostgreSQL's may touch: so many, and so many for each row and each time
that it is begun anew. What was deleted or changed just now is passed over, too."""

MOST_STEPS = 25_000
"""Steps of SQLite's machine for one statement; it takes five at least for a row that it looks at
and passes over."""

STEPS = 100
"""After so many of SQLite's steps we are told."""

SAMPLES = 6
"""How often one statement is explained."""

PLANNED = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")

_PARAMETER = re.compile(r"%\((\w+)\)s")
_SCAN = re.compile(r"\bSCAN (?:TABLE )?(\w*resthooks_\w+)\b(?! .*USING (?:COVERING )?INDEX)")
_WHOLE_INDEX = re.compile(r"\bSCAN (?:TABLE )?(\w*resthooks_\w+)\b.*USING (?:COVERING )?INDEX")
_AUTOMATIC = re.compile(r"\b(\w*resthooks_\w+) .*AUTOMATIC")


@dataclass(frozen=True)
class Finding:
    """Something that does not stay as it is when the tables grow.

    :param act: what was done when it was found.
    :param what: it is.
    """

    act: str
    what: str
    statement: str
    plan: str

    def __str__(self) -> str:
        return f"{self.act}: {self.what}\n{self.statement}\n{self.plan}\n"


@dataclass
class Watch:
    """
    :param cache_mode: PostgreSQL's `plan_cache_mode`: a plan for these values, or one for all.
    :param seen: how often each statement was executed, by what was done.
    """

    cache_mode: str = "force_custom_plan"
    findings: list[Finding] = field(default_factory=list)
    seen: dict[str, Counter[str]] = field(default_factory=dict)
    executed: int = 0
    _act: str = ""
    _explained: Counter[str] = field(default_factory=Counter)
    _steps: int = 0
    _running: tuple[str, str] | None = None

    @contextmanager
    def doing(self, act: str) -> Iterator[None]:
        """Statements that are executed meanwhile are of this act."""
        before, self._act = self._act, act
        self.seen.setdefault(act, Counter())
        try:
            yield
        finally:
            self._judge_steps()
            self._act = before

    @contextmanager
    def of(self, engine: sa.Engine) -> Iterator[Watch]:
        """Watch an engine."""
        engine.dispose()  # each connection is to be met anew
        listeners = [("before_cursor_execute", self._before)]
        if engine.dialect.name == "sqlite":
            listeners.append(("connect", self._connect))
        for name, listener in listeners:
            sa.event.listen(engine, name, listener)
        try:
            yield self
        finally:
            self._judge_steps()
            for name, listener in listeners:
                sa.event.remove(engine, name, listener)
            engine.dispose()

    def tables_of(self, act: str) -> set[str]:
        """The tables that an act's statements name."""
        found = (re.findall(r"resthooks_[a-z_]+", text) for text in self.seen[act])
        return {name for names in found for name in names}

    def _connect(self, raw: Any, record: Any) -> None:
        def count() -> None:
            self._steps += STEPS

        raw.set_progress_handler(count, STEPS)

    def _before(
        self,
        connection: sa.Connection,
        cursor: Any,
        statement: str,
        parameters: Any,
        context: Any,
        executemany: bool,
    ) -> None:
        self._judge_steps()
        if not statement.lstrip().startswith(PLANNED) or "resthooks_" not in statement:
            return
        self.executed += 1
        self.seen.setdefault(self._act, Counter())[statement] += 1
        self._explained[statement] += 1
        if self._explained[statement] > SAMPLES:
            return
        one = parameters[0] if executemany and parameters else parameters
        raw = connection.connection.dbapi_connection
        if connection.dialect.name == "sqlite":
            self._explain_sqlite(raw, statement, one, executemany)
        else:
            self._explain_postgresql(raw, statement, one)

    def _find(self, what: str, statement: str, plan: str) -> None:
        self.findings.append(Finding(self._act, what, statement, plan))

    # SQLite

    def _explain_sqlite(self, raw: Any, statement: str, one: Any, executemany: bool) -> None:
        rows = raw.execute(f"EXPLAIN QUERY PLAN {statement}", one).fetchall()
        plan = "\n".join(str(row[3]) for row in rows)
        for pattern, what in ((_SCAN, "reads all of"), (_AUTOMATIC, "makes an index of")):
            for table in pattern.findall(plan):
                self._find(f"{what} {table}", statement, plan)
        if _WHOLE_INDEX.search(plan) and "LIMIT" not in statement:
            self._find("reads all of an index", statement, plan)
        self._steps = 0
        self._running = None if executemany else (statement, plan)

    def _judge_steps(self) -> None:
        """Of the statement that has just come to its end: its rows are fetched until then."""
        if self._running is not None and self._steps > MOST_STEPS:
            self._find(f"takes {self._steps:,} steps", *self._running)
        self._running, self._steps = None, 0

    # PostgreSQL

    def _explain_postgresql(self, raw: Any, statement: str, one: Mapping[str, Any]) -> None:
        names = list(dict.fromkeys(_PARAMETER.findall(statement)))
        numbers = {name: f"${number}" for number, name in enumerate(names, 1)}
        text = _PARAMETER.sub(lambda found: numbers[found[1]], statement).replace("%%", "%")
        values = [one[name] for name in names]
        with psycopg.ClientCursor(raw) as cursor:
            given = ", ".join(cursor.mogrify("%s", [value]) for value in values)
            run: Any = cursor.execute
            run("SAVEPOINT plans")
            run(f"SET LOCAL plan_cache_mode = {self.cache_mode}")
            run(f"PREPARE plans AS {text}")
            run(
                "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) "
                f"EXECUTE plans{f'({given})' if given else ''}"
            )
            found = cursor.fetchone()
            run("DEALLOCATE plans")  # before psycopg does, at what it takes for a rollback
            run("ROLLBACK TO SAVEPOINT plans")
        assert found is not None
        plan = found[0] if isinstance(found[0], list) else json.loads(found[0])
        whole = "\n".join(_shown(plan[0]["Plan"]))
        for node in _nodes(plan[0]["Plan"]):
            for what in _problems(node):
                self._find(what, statement, whole)


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


def _read(node: Mapping[str, Any]) -> int:
    """Rows that a part of a plan has looked at, in all."""
    names = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
    return round(sum(node.get(name, 0) for name in names) * node["Actual Loops"])


def _problems(node: Mapping[str, Any]) -> Iterator[str]:
    kind, read = node["Node Type"], _read(node)
    table = node.get("Relation Name", node.get("Index Name", ""))
    if kind == "Seq Scan" and "resthooks_" in table and table != "resthooks_log":
        yield f"reads all of {table}"
    if ("Scan" in kind and "resthooks_" in table) or "Sort" in kind or "Hash" in kind:
        if read > MOST_ROWS:
            yield f"reads {read:,} rows of {table or kind}"
        blocks = node["Shared Hit Blocks"] + node["Shared Read Blocks"]
        some, each = MOST_BLOCKS
        if "Scan" in kind and blocks > some + each * (read + node["Actual Loops"]):
            yield f"touches {blocks:,} blocks of {table} for {read:,} rows"


def _shown(node: Mapping[str, Any], depth: int = 0) -> Iterator[str]:
    names = ("Relation Name", "Index Name", "Index Cond", "Filter", "Rows Removed by Filter")
    facts = [f"{name}: {node[name]}" for name in names if name in node]
    count = f"{node['Actual Rows']} rows in {node['Actual Loops']} loops"
    yield f"{'  ' * depth}{node['Node Type']} ({count}) {'; '.join(facts)}"
    for child in node.get("Plans", ()):
        yield from _shown(child, depth + 1)
