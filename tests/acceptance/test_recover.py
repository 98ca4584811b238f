"""What a subscription missed for hours comes, all of it and once, while new hooks go out.

Thousands in `make test`; `make recover` measures it with 100,000 (`benchmarks/recover.py`).
"""

from __future__ import annotations

import sqlalchemy as sa
from host import Host, until
from servers import Inbox

COUNT = 1500


def test_what_was_missed_while_disabled_comes_all_of_it_and_once(
    database_url: str, redis_url: str, inbox: Inbox
) -> None:
    with Host(database_url, redis_url) as host:
        inbox.answer = lambda request: 410 if request.path == "/gone" else 200
        made = host.subscribe(inbox.url("/gone"), "contact.*")
        path = f"/subscriptions/{made['id']}"
        host.worker()
        host.create()
        assert until(lambda: host.call("GET", path).json["status"] == "disabled")
        for _ in range(COUNT // 500):
            host.create(500)
        host.create(300, owner=2)
        host.wait_until_done()
        refused = host.call("POST", f"{path}/recover", {"since": made["created_at"]})
        assert (refused.status_code, refused.json["error_code"]) == (409, "subscription_not_active")
        inbox.clear()
        resumed = {"active": True, "target_url": inbox.url("/back")}
        assert host.call("PATCH", path, resumed).json["status"] == "active"
        answer = host.call("POST", f"{path}/recover", {"since": made["created_at"]})
        assert answer.status_code == 202
        host.create(5)
        progress = []

        def done() -> bool:
            shown = host.call("GET", answer.headers["Location"].removeprefix("/api/v1")).json
            progress.append(shown["released"])
            return bool(shown["status"] == "done")

        assert until(done, 90)
        host.wait_until_done()
        ids = [request.headers["webhook-id"] for request in inbox.requests]
        assert len(ids) == len(set(ids)) == COUNT + 1 + 5
        assert progress == sorted(progress)
        assert progress[-1] == COUNT + 1
        table = host.tables.event
        mine = sa.select(table.c.id).where(table.c.owner == "1")
        with host.engine.connect() as connection:
            assert set(ids) == set(connection.scalars(mine))
        [listed] = host.call("GET", f"{path}/recover").json["data"]
        assert listed["released"] == COUNT + 1


def test_one_delivery_is_sent_again_and_its_history_is_kept(
    sqlite_url: str, redis_url: str, inbox: Inbox
) -> None:
    inbox.answer = lambda request: 500
    with Host(sqlite_url, redis_url, RESTHOOKS_RETRY_SCHEDULE=[0, 0]) as host:
        made = host.subscribe(inbox.url())
        host.create()
        host.drain()
        path = f"/subscriptions/{made['id']}/deliveries?status=failed"
        [delivery] = host.call("GET", path).json["data"]
        assert delivery["attempts"] == 2
        inbox.answer = lambda request: 200
        again = host.call("POST", f"/deliveries/{delivery['id']}/resend")
        assert (again.status_code, again.json["status"]) == (202, "pending")
        host.drain()
        shown = host.call("GET", f"/deliveries/{delivery['id']}").json
        assert (shown["status"], shown["attempts"]) == ("delivered", 3)
        attempts = host.call("GET", f"/deliveries/{delivery['id']}/attempts").json["data"]
        assert [one["status_code"] for one in attempts] == [500, 500, 200]
        assert len({request.headers["webhook-id"] for request in inbox.requests}) == 1
        # Also what was delivered: the receiver may have lost it.
        assert host.call("POST", f"/deliveries/{delivery['id']}/resend").status_code == 202
        host.drain()
        assert len(inbox.requests) == 4
