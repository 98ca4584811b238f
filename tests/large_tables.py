"""Large tables: a history of 28 days, retries that wait, subscriptions of many owners.

All of it is made by the databases themselves, by numbers: the event `n`, the delivery `n`. Indexes
are taken away for the fill, and made again as they were.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from flask_resthooks import ids
from flask_resthooks.models import Tables, host_of, utcnow

DAY_MS = 86_400_000
HISTORY_DAYS = 28
"""Less than what is kept: nothing of it is removed while it is measured."""

PER_OWNER = 5
"""Subscriptions of an owner."""

PER_EVENT = 2
"""Deliveries of an event."""

RETRIES_FROM, RETRIES_DAYS = 2, 5
"""Days from now on when the first retry falls due, and over which they are spread. Filled tables
can be used again until then."""

PATTERNS = ("*", "contact.*", "contact.create", "contact.update", "invoice.paid")
LARGE = ("resthooks_event", "resthooks_delivery", "resthooks_attempt")
TABLES = (*LARGE, "resthooks_subscription", "resthooks_subscription_event")


@dataclass(frozen=True)
class Size:
    """How large the tables are.

    :param history: deliveries that have come to their end, with an attempt each.
    :param retries: deliveries that wait for another attempt, of other subscriptions.
    :param lively: owners whose first subscription gets what happens while it is measured, and who
        have no other one that does.
    """

    history: int
    retries: int
    subscriptions: int
    lively: int

    @property
    def events(self) -> int:
        return max(self.history // PER_EVENT, self.retries, 1)

    @property
    def owners(self) -> int:
        return max(self.subscriptions // PER_OWNER, self.lively)


def fill(engine: sa.Engine, size: Size, log: Callable[[str], None]) -> None:
    """Fill empty tables."""
    start = time.monotonic()
    now = int(utcnow().timestamp() * 1000)
    first = now - HISTORY_DAYS * DAY_MS
    if engine.dialect.name == "sqlite":
        statements = _statements(size, now, first, _sqlite)
        _fill_sqlite(engine, statements, log)
    else:
        statements = _statements(size, now, first, _postgresql)
        _fill_postgresql(engine, statements, size, log)
    log(f"filled in {time.monotonic() - start:.0f} s")


def aim(engine: sa.Engine, tables: Tables, size: Size, target_url: str) -> None:
    """Have the lively owners' first subscriptions go to another receiver."""
    table = tables.subscription
    owners = [str(owner) for owner in range(size.lively)]
    with engine.begin() as connection:
        connection.execute(
            table.update()
            .where(table.c.owner.in_(owners), table.c.events.cast(sa.Text) == '["*"]')
            .values(target_url=target_url, host=host_of(target_url))
        )


def sizes(engine: sa.Engine) -> str:
    """What the tables take on disk, with their indexes."""
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            bytes_ = pages * connection.exec_driver_sql("PRAGMA page_size").scalar_one()
            return f"{bytes_ / 1e9:.2f} GB in all"
        parts = []
        for name in TABLES:
            table, whole = connection.exec_driver_sql(
                f"SELECT pg_table_size('{name}'), pg_total_relation_size('{name}')"
            ).one()
            parts.append(f"{name[10:]} {table / 1e9:.2f} + {(whole - table) / 1e9:.2f} GB")
        return ", ".join(parts) + " (rows + indexes)"


@dataclass(frozen=True)
class _Dialect:
    """How a database says it.

    :param series: a table `s` of the numbers `n` below so many; what comes before SELECT.
    :param hex: a number in so many hex digits.
    :param time: of milliseconds since the epoch.
    :param text: of a number.
    :param json: what a text says.
    """

    series: Callable[[int], tuple[str, str]]
    hex: Callable[[str, int], str]
    time: Callable[[str], str]
    text: Callable[[str], str]
    json: Callable[[str], str]


_sqlite = _Dialect(
    lambda count: (
        f"WITH RECURSIVE s(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM s WHERE n + 1 < {count}) ",
        "s",
    ),
    lambda number, digits: f"printf('%0{digits}x', {number})",
    lambda ms: f"strftime('%Y-%m-%d %H:%M:%f', ({ms}) / 1000.0, 'unixepoch') || '000'",
    lambda number: f"CAST({number} AS TEXT)",
    lambda text: text,
)
_postgresql = _Dialect(
    lambda count: ("", f"generate_series(0::bigint, {count}::bigint - 1) AS s(n)"),
    lambda number, digits: f"lpad(to_hex({number}), {digits}, '0')",
    lambda ms: f"to_timestamp(({ms}) / 1000.0)",
    lambda number: f"({number})::text",
    lambda text: f"({text})::json",
)


def _statements(size: Size, now: int, first: int, of: _Dialect) -> Iterator[tuple[str, str]]:
    """What is made, and the statement that makes it."""
    events, owners = size.events, size.owners
    span = now - first

    def moment(number: str) -> str:
        """Milliseconds since the epoch when the event of this number happened."""
        return f"({first} + ({number}) * {span} / {events})"

    def id_(prefix: str, ms: str, number: str) -> str:
        return f"'{prefix}_' || {of.hex(ms, 12)} || {of.hex(number, 20)}"

    def event_id(number: str) -> str:
        return id_(ids.EVENT, moment(number), number)

    def owner(number: str) -> str:
        return f"(({number}) * 7919 % {owners})"

    def subscription(number: str, nth: str) -> str:
        """The `nth` one of the owner of an event, beginning somewhere."""
        several = max(size.subscriptions // owners, 1)
        which = f"{owner(number)} + (({number}) / {owners} + {nth}) % {several} * {owners}"
        return f"'{ids.SUBSCRIPTION}_{first:012x}' || {of.hex(which, 20)}"

    yield from _subscriptions(size, first, of)
    begin, series = of.series(events)
    data = f"""'{{"id":' || {of.text("n")} || ',"name":"Ada Lovelace","email":"ada@example.com",'
        || '"city":"London"}}'"""
    yield (
        f"{events:,} events",
        f"""INSERT INTO resthooks_event (sequence, id, kind, type, owner, resource, created_at,
            data, fanned_out_at, position) {begin}
        SELECT n + 1, {event_id("n")}, 'event', 'contact.create', {of.text(owner("n"))},
            'contact:' || {of.text("n")}, {of.time(moment("n"))}, {data}, {of.time(moment("n"))},
            n + 1 FROM {series}""",
    )
    yield (
        "the log",
        f"INSERT INTO resthooks_log (id, last_position) VALUES (1, {events})",
    )
    delivery = """INSERT INTO resthooks_delivery (id, kind, event_id, subscription_id, owner,
        event_type, resource, status, attempts, attempts_before, faults, due_at, booked, created_at,
        finished_at)"""
    attempt = """INSERT INTO resthooks_attempt (id, delivery_id, number, started_at, duration,
        status_code, response, next_at)"""
    ms = moment(f"n / {PER_EVENT}")
    event = f"(n / {PER_EVENT})"
    if size.history:
        begin, series = of.series(size.history)
        yield (
            f"{size.history:,} deliveries",
            f"""{delivery} {begin}
            SELECT {id_(ids.DELIVERY, ms, "n")}, 'event', {event_id(event)},
                {subscription(event, f"n % {PER_EVENT}")}, {of.text(owner(event))},
                'contact.create', 'contact:' || {of.text(event)}, 'delivered', 1, 0, 0, NULL, false,
                {of.time(ms)}, {of.time(f"{ms} + 200")} FROM {series}""",
        )
        yield (
            f"{size.history:,} attempts",
            f"""{attempt} {begin}
            SELECT {id_(ids.ATTEMPT, f"{ms} + 100", "n")}, {id_(ids.DELIVERY, ms, "n")}, 1,
                {of.time(f"{ms} + 100")}, 0.1, 200, 'ok', NULL FROM {series}""",
        )
    if not size.retries:
        return
    begin, series = of.series(size.retries)
    last = f"({events - size.retries} + n)"
    ms = moment(last)
    due = f"{now} + {RETRIES_FROM * DAY_MS} + n * {RETRIES_DAYS * DAY_MS} / {size.retries}"
    # Their ids begin with another digit than those of the history at the same time.
    other = f"'{ids.DELIVERY}_' || {of.hex(ms, 12)} || 'f' || {of.hex('n', 19)}"
    yield (
        f"{size.retries:,} retries",
        f"""{delivery} {begin}
        SELECT {other}, 'event', {event_id(last)}, {subscription(last, str(PER_EVENT))},
            {of.text(owner(last))}, 'contact.create', 'contact:' || {of.text(last)}, 'pending', 1,
            0, 0, {of.time(due)}, false, {of.time(ms)}, NULL FROM {series}""",
    )
    yield (
        f"{size.retries:,} attempts of retries",
        f"""{attempt} {begin}
        SELECT '{ids.ATTEMPT}_' || {of.hex(f"{ms} + 100", 12)} || 'f' || {of.hex("n", 19)},
            {other}, 1, {of.time(f"{ms} + 100")}, 0.1, 503, 'busy', {of.time(due)}
            FROM {series}""",
    )


def _subscriptions(size: Size, first: int, of: _Dialect) -> Iterator[tuple[str, str]]:
    """Those of the lively owners get all, by their first one, or next to nothing."""
    begin, series = of.series(size.subscriptions)
    owner, nth = f"(n % {size.owners})", f"(n / {size.owners})"
    others = " ".join(f"WHEN {nth} % 5 = {i} THEN '{name}'" for i, name in enumerate(PATTERNS))
    pattern = (
        f"CASE WHEN {owner} < {size.lively} AND {nth} = 0 THEN '*' "
        f"WHEN {owner} < {size.lively} THEN 'invoice.paid' {others} END"
    )
    id_ = f"'{ids.SUBSCRIPTION}_{first:012x}' || {of.hex('n', 20)}"
    host = f"'hooks' || {of.text('(n % 5000)')} || '.example.com'"
    events = of.json(f"""'["' || {pattern} || '"]'""")
    yield (
        f"{size.subscriptions:,} subscriptions",
        f"""INSERT INTO resthooks_subscription (id, owner, target_url, host, events, status,
            description, metadata, format, payload, signature, secret, former_secrets, header_names,
            expiry_notice, intent_tries, created_at, updated_at) {begin}
        SELECT {id_}, {of.text(owner)}, 'https://' || {host} || '/' || {of.text("n")},
            {host} || ':443', {events}, 'active', '', {of.json("'{}'")}, 'standard', 'full', 'v1',
            'whsec_' || {of.hex("n", 32)}, {of.json("'[]'")}, {of.json("'[]'")}, false, 0,
            {of.time(str(first))}, {of.time(str(first))} FROM {series}""",
    )
    yield (
        "their patterns",
        f"""INSERT INTO resthooks_subscription_event (owner, pattern, subscription_id) {begin}
        SELECT {of.text(owner)}, {pattern}, {id_} FROM {series}""",
    )


def _fill_sqlite(
    engine: sa.Engine, statements: Iterator[tuple[str, str]], log: Callable[[str], None]
) -> None:
    with engine.connect() as connection:
        raw: Any = connection.connection.dbapi_connection
        raw.commit()
        kept = raw.execute("PRAGMA journal_mode").fetchone()[0]
        for pragma in (
            *("journal_mode=OFF", "synchronous=OFF", "cache_size=-1000000", "temp_store=MEMORY"),
            "threads=2",
        ):
            raw.execute(f"PRAGMA {pragma}").fetchall()
        indexes = raw.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND "
            f"tbl_name IN {LARGE}"
        ).fetchall()
        for name, _ in indexes:
            raw.execute(f"DROP INDEX {name}")
        for what, statement in statements:
            with _timed(what, log):
                raw.execute(statement)
        for name, made_by in indexes:
            with _timed(name, log):
                raw.execute(made_by)
        raw.commit()
        raw.execute(f"PRAGMA journal_mode={kept}").fetchall()
        connection.invalidate()  # with all that was set


def _fill_postgresql(
    engine: sa.Engine,
    statements: Iterator[tuple[str, str]],
    size: Size,
    log: Callable[[str], None],
) -> None:
    with engine.begin() as connection:
        run = connection.exec_driver_sql
        run("SET LOCAL maintenance_work_mem = '1GB'")
        # New files of this transaction need no write-ahead log, where its level is `minimal`.
        run(f"TRUNCATE {', '.join(LARGE)}")
        again = _without_indexes(connection)
        for what, statement in statements:
            with _timed(what, log):
                run(statement.replace("%", "%%"))
        run(f"SELECT setval(pg_get_serial_sequence('resthooks_event', 'sequence'), {size.events})")
        for made_by in again:
            with _timed(made_by, log):
                run(made_by)
    autocommit = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    with autocommit as connection, _timed("VACUUM ANALYZE", log):  # as autovacuum does
        connection.exec_driver_sql(f"VACUUM ANALYZE {', '.join(TABLES)}")


def _without_indexes(connection: sa.Connection) -> Sequence[str]:
    """Take away the indexes of the large tables; the statements that make them again."""
    run = connection.exec_driver_sql
    constraints = run(
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
        f"WHERE contype IN ('p', 'u') AND conrelid::regclass::text IN {LARGE}"
    ).all()
    for table, name, _ in constraints:
        run(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
    indexes = run(f"SELECT indexname, indexdef FROM pg_indexes WHERE tablename IN {LARGE}").all()
    for name, _ in indexes:
        run(f"DROP INDEX {name}")
    return [
        *(f"ALTER TABLE {table} ADD CONSTRAINT {name} {what}" for table, name, what in constraints),
        *(definition for _, definition in indexes),
    ]


@contextmanager
def _timed(what: str, log: Callable[[str], None]) -> Iterator[None]:
    start = time.monotonic()
    yield
    log(f"  {time.monotonic() - start:6.1f} s: {what}")
