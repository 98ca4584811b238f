"""No statement costs more because the tables have grown: what each one reads, on both databases.

On SQLite without statistics, as an app's is, and with them; on PostgreSQL with a plan that is made
for the values at hand, and with the one plan that a prepared statement gets in the end; with
statistics that mislead, for they were made while everything was to be done at once; and while the
tables are small, for a prepared statement keeps the plan that it got then: it must be by an index.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import sqlalchemy as sa
import traffic
from api_host import Host
from plans import Finding, Watch
from world import World

from flask_resthooks.outbox import pruning, retention

KINDS = (
    "sqlite",
    "sqlite analyzed",
    "postgresql custom",
    "postgresql generic",
    "postgresql misled custom",
    "postgresql misled generic",
    "postgresql small generic",
)

ACTS = {
    "fan out": {"resthooks_event", "resthooks_delivery", "resthooks_subscription_event"},
    "claim": {"resthooks_delivery", "resthooks_subscription", "resthooks_host", "resthooks_event"},
    "settle": {"resthooks_delivery", "resthooks_attempt", "resthooks_subscription"},
    "recover": {"resthooks_recovery", "resthooks_event", "resthooks_delivery"},
    "prune": {"resthooks_event", "resthooks_delivery", "resthooks_attempt", "resthooks_host"},
}
"""Some of what is done, and tables that it has to do with: else nothing was watched."""


@dataclass
class Filled:
    """Large tables, and what watches their statements."""

    kind: str
    url: str
    world: World

    def watch(self) -> Watch:
        return Watch(f"force_{self.kind.rpartition(' ')[2]}_plan")


@pytest.fixture(params=KINDS)
def filled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Filled]:
    if request.param.startswith("postgresql"):
        server = request.getfixturevalue("postgres_server")
        server.start()
        url = server.create_database()
    else:
        url = f"sqlite:///{tmp_path_factory.mktemp('plans')}/test.db"
    world = World(url)
    if "small" in request.param:
        traffic.fill(world, traffic.SMALL, traffic.SMALL_OTHERS)
    else:
        traffic.fill(world)
    if "misled" in request.param:
        with traffic.all_at_once(world):
            analyze(world)
    elif request.param != "sqlite":
        analyze(world)
    yield Filled(request.param, url, world)
    world.engine.dispose()
    if request.param.startswith("postgresql"):
        server.drop_database(url)


def analyze(world: World) -> None:
    autocommit = world.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    with autocommit as connection:
        sqlite = connection.dialect.name == "sqlite"
        connection.exec_driver_sql("ANALYZE" if sqlite else "VACUUM ANALYZE")


def told(findings: list[Finding]) -> str:
    different = {finding.statement + finding.what[:5]: finding for finding in findings}
    return "\n".join(str(finding) for finding in different.values())


@pytest.mark.timeout(300)
def test_no_statement_reads_more_as_the_tables_grow(
    filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one test: to fill the tables takes longer than all the rest."""
    if "small" in filled.kind:
        the_pipeline_works_by_indexes(filled, monkeypatch)
        return
    bad_statements_are_found(filled)
    good_statements_are_not(filled)
    the_api_lists_by_an_index(filled)
    the_pipeline_works_by_indexes(filled, monkeypatch)


def the_pipeline_works_by_indexes(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PAUSE", 0.0)
    # These tables are not so large that an index is better than all of it for 500 rows.
    for name, some in (("LEAST_EVENTS", 20), ("MOST_EVENTS", 20), ("AT_ONCE", 100)):
        monkeypatch.setattr(pruning, name, some)
    watch = filled.watch()
    pipeline = traffic.Traffic(filled.world, watch.doing)
    with watch.of(filled.world.engine):
        pipeline.run()
    with watch.doing("capture"):
        traffic.captured(filled.url, watch.of)
    assert not watch.findings, told(watch.findings)
    for act, tables in ACTS.items():
        assert watch.tables_of(act) >= tables
    assert all(watch.seen.values()), [act for act, some in watch.seen.items() if not some]


LISTS = (
    "/subscriptions",
    "/subscriptions/{id}",
    "/subscriptions/{id}/deliveries",
    "/subscriptions/{id}/deliveries?status=failed",
    "/subscriptions/{id}/deliveries?event_type=invoice.paid&since=2020-01-01T00:00:00Z",
    "/subscriptions/{id}/recover",
    "/events",
    "/events?type=contact.create&limit=5",
    "/events?resource=contact:none&since=2020-01-01T00:00:00Z",
)
"""Filters that no index knows (`event_type`, `resource`, `type`, times of events) look through what
an owner or a subscription has; never through what others have."""


def the_api_lists_by_an_index(filled: Filled) -> None:
    table = filled.world.tables.subscription
    with filled.world.engine.connect() as connection:
        mine = sa.select(table.c.id).where(table.c.owner == "1").order_by(table.c.id).limit(1)
        id_ = connection.execute(mine).scalar_one()
    host = Host(filled.url)
    host.owner = "1"
    watch = filled.watch()
    with host.app.app_context():
        engine = host.db.engine
    try:
        with watch.of(engine):
            for path in LISTS:
                with watch.doing(path):
                    answer = host.call("GET", path.format(id=id_))
                assert answer.status_code == 200, answer.json
            (delivery, *_) = host.call("GET", f"/subscriptions/{id_}/deliveries").json["data"]
            for path in (f"/deliveries/{delivery['id']}", f"/deliveries/{delivery['id']}/attempts"):
                with watch.doing(path):
                    assert host.call("GET", path).status_code == 200
    finally:
        host.close()
    assert all(watch.seen[path] for path in LISTS)
    assert not watch.findings, told(watch.findings)


BAD = (
    "SELECT id FROM resthooks_delivery WHERE status = 'cancelled' LIMIT 1",
    "SELECT count(*) FROM resthooks_attempt",
    "SELECT count(*) FROM resthooks_delivery WHERE due_at IS NOT NULL",
    "SELECT id FROM resthooks_event WHERE resource = 'contact:none' ORDER BY id LIMIT 1",
    "SELECT subscription_id FROM resthooks_delivery ORDER BY created_at DESC LIMIT 1",
    "UPDATE resthooks_delivery SET reason = NULL WHERE lease = 'none'",
    "DELETE FROM resthooks_event WHERE created_at < '2000-01-01'",
    "SELECT id FROM resthooks_subscription WHERE host = 'nowhere.example:443'",
    """SELECT id FROM resthooks_delivery WHERE substr(subscription_id, 1, 9) = 'no'
        ORDER BY subscription_id, id LIMIT 1""",
    """SELECT count(*) FROM resthooks_attempt JOIN resthooks_delivery
        ON resthooks_attempt.delivery_id = resthooks_delivery.id WHERE attempts = 9""",
)
"""Each reads all of something: a table, an index, all that waits."""


def bad_statements_are_found(filled: Filled) -> None:
    for statement in BAD:
        watch = filled.watch()
        with (
            watch.of(filled.world.engine) as watched,
            watched.doing("something bad"),
            filled.world.engine.begin() as connection,
        ):
            connection.exec_driver_sql(statement)
        assert watch.findings, statement
        assert watch.findings[0].statement == statement


def good_statements_are_not(filled: Filled) -> None:
    watch = filled.watch()
    with (
        watch.of(filled.world.engine) as watched,
        watched.doing("something good"),
        filled.world.engine.connect() as connection,
    ):
        newest = "SELECT id FROM resthooks_delivery ORDER BY id DESC LIMIT 50"
        (first, *_) = connection.exec_driver_sql(newest).scalars().all()
        one = sa.select(filled.world.tables.delivery).where(
            filled.world.tables.delivery.c.id == first
        )
        assert len(connection.execute(one).all()) == 1
    assert watch.executed == 2
    assert not watch.findings, told(watch.findings)
