"""From the first released schema to this one, with hooks on their way."""

from __future__ import annotations

import datetime as dt
import json
import threading
from collections import Counter
from typing import Any

import sqlalchemy as sa
from host import Host
from servers import Inbox

from flask_resthooks import ids, signing
from flask_resthooks.migrations import STEPS, AddTable
from flask_resthooks.migrations.upgrading import upgrade

LONG_AGO = dt.datetime.now(dt.timezone.utc) - dt.timedelta(hours=1)
SOME = 20


class OldVersion:
    """Leaves rows as the first release did; knows its tables and no others."""

    def __init__(self, url: str, target_url: str) -> None:
        self.engine = sa.create_engine(url)
        list(upgrade(self.engine, sa.MetaData(), STEPS[:1]))
        tables = [each.define(sa.MetaData()) for each in STEPS[0] if isinstance(each, AddTable)]
        self.tables = {table.name.removeprefix("resthooks_"): table for table in tables}
        self.subscription_id = ids.new(ids.SUBSCRIPTION)
        self.put(
            "subscription",
            id=self.subscription_id,
            target_url=target_url,
            host=target_url.split("/")[2],
            events=["*"],
            status="active",
            description="",
            metadata={},
            format="standard",
            payload="full",
            signature="v1",
            secret=signing.new_secret(),
            former_secrets=[],
            header_names=[],
            expiry_notice=False,
            intent_tries=0,
            created_at=LONG_AGO,
            updated_at=LONG_AGO,
        )
        self.put("subscription_event", pattern="*", subscription_id=self.subscription_id)

    def put(self, name: str, *, owner: str | None = "1", **values: Any) -> None:
        row = values if owner is None else {"owner": owner, **values}
        with self.engine.begin() as connection:
            connection.execute(self.tables[name].insert(), row)

    def event(self, fanned_out_at: dt.datetime | None = None) -> str:
        made = ids.new(ids.EVENT)
        data = json.dumps({"id": 1, "name": "old"})
        self.put(
            "event",
            id=made,
            kind="event",
            type="contact.create",
            resource="contact:1",
            created_at=LONG_AGO,
            data=data,
            fanned_out_at=fanned_out_at,
        )
        return made

    def delivery(self, **values: Any) -> str:
        """Of a new event; that one's id."""
        event_id = self.event(fanned_out_at=LONG_AGO)
        made = ids.new(ids.DELIVERY)
        self.put(
            "delivery",
            id=made,
            kind="event",
            event_id=event_id,
            subscription_id=self.subscription_id,
            event_type="contact.create",
            resource="contact:1",
            attempts_before=0,
            booked=False,
            created_at=LONG_AGO,
            **{"attempts": 0, **values},
        )
        for number in range(1, values.get("attempts", 0) + 1):
            self.put(
                "attempt",
                owner=None,
                id=ids.new(ids.ATTEMPT),
                delivery_id=made,
                number=number,
                started_at=LONG_AGO,
                duration=0.1,
                status_code=503,
            )
        return event_id


def test_nothing_on_its_way_is_lost_by_an_upgrade_or_sent_twice(
    database_url: str, redis_url: str, inbox: Inbox
) -> None:
    old = OldVersion(database_url, inbox.url("/hooks"))
    soon = dt.datetime.now(dt.timezone.utc) + dt.timedelta(seconds=5)
    expected = set()
    for _ in range(SOME):
        expected.add(old.event())
        expected.add(old.delivery(status="pending", due_at=LONG_AGO))
        expected.add(old.delivery(status="pending", due_at=soon, attempts=2))
        # Workers that died: of one the lease has ended, of the other it has not.
        expected.add(old.delivery(status="sending", due_at=LONG_AGO, lease="a" * 32))
        expected.add(old.delivery(status="sending", due_at=soon, lease="b" * 32, attempts=1))
    for _ in range(SOME):
        old.delivery(status="delivered", attempts=1, finished_at=LONG_AGO)
        old.delivery(status="failed", attempts=9, finished_at=LONG_AGO, reason="gave up")

    with Host(database_url, redis_url, RESTHOOKS_SWEEP_INTERVAL=2) as host:
        assert host.worker().wait(30) == 1
        stop = threading.Event()

        def go_on() -> None:
            while not stop.wait(0.05):
                expected.add(old.event())

        writer = threading.Thread(target=go_on)
        writer.start()
        try:
            assert host.command("upgrade") == 0
            worker = host.worker()
            inbox.wait_for(SOME * 5, 60)
        finally:
            stop.set()
            writer.join()
        host.wait_until_done()
        assert host.end(worker) == 0
        assert Counter(host.statuses()) == {
            "delivered": len(expected) + SOME,
            "failed": SOME,
        }
    came = Counter(request.headers["webhook-id"] for request in inbox.wait_for(len(expected)))
    assert set(came) == expected
    assert set(came.values()) == {1}
    old.engine.dispose()


def test_a_plain_rq_worker_says_what_to_run_and_goes_on_after_it(
    sqlite_url: str, redis_url: str, inbox: Inbox, capfd: Any
) -> None:
    old = OldVersion(sqlite_url, inbox.url("/hooks"))
    with Host(sqlite_url, redis_url, RESTHOOKS_SWEEP_INTERVAL=2) as host:
        host.create()
        assert host.rq_worker("--burst").wait(60) == 0
        said = capfd.readouterr().err
        assert said.count("no hooks are sent: the database does not fit") == 1
        assert "Traceback" not in said
        assert host.command("upgrade") == 0
        assert host.command("sweep") == 0
        assert host.rq_worker("--burst").wait(60) == 0
        inbox.wait_for(1)
    old.engine.dispose()
