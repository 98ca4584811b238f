"""Secrets that are replaced while thousands of hooks go out."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from host import Host
from servers import Inbox, Request

from flask_resthooks import signing

COUNT = 2000
SLACK = 2.0
"""Seconds between a claim, which takes the secrets that are valid, and the signature."""


@dataclass
class Valid:
    """A secret, and from when to when it signs: seconds since the epoch."""

    secret: str
    since: float
    until: float = float("inf")

    def signs(self, request: Request) -> bool:
        at = float(request.headers["webhook-timestamp"])
        if not self.since - SLACK <= at <= self.until + SLACK:
            return False
        try:
            signing.verify(self.secret, request.headers, request.body, now=at)
        except signing.SignatureError:
            return False
        return True


def test_every_hook_verifies_with_a_secret_that_was_valid_then(
    database_url: str, redis_url: str, inbox: Inbox
) -> None:
    with Host(database_url, redis_url) as host:
        subscription = host.subscribe(inbox.url(), "contact.*")
        path = f"/subscriptions/{subscription['id']}/secret"
        valid = [Valid(subscription["secret"], 0)]
        inbox.delay = 0.05  # so that no secret is in use for less than what is claimed ahead
        host.worker()

        def create() -> None:
            for _ in range(COUNT // 50):
                host.create(50)

        creating = threading.Thread(target=create)
        creating.start()
        # At once, with an overlap that ends while hooks still go out, and with a long one.
        for share, overlap in ((0.2, 0.0), (0.4, 1.0), (0.6, 3600.0)):
            inbox.wait_for(int(COUNT * share), 120)
            answer = host.call("POST", f"{path}/rotate", {"overlap": overlap})
            assert answer.status_code == 200, answer.text
            now = time.time()
            valid[-1].until = now + overlap
            valid.append(Valid(answer.json["secret"], now))
        creating.join()
        requests = inbox.wait_for(COUNT, 120)
        host.wait_until_done()
        assert host.statuses() == {"delivered": COUNT}
        assert len({request.headers["webhook-id"] for request in requests}) == COUNT
        used = [[one for one in valid if one.signs(request)] for request in requests]
        assert all(used)
        for one in valid:  # the test is worth something: all of them were in use
            assert any(one in found for found in used)
        both = [r for r in requests if len(r.headers["webhook-signature"].split(" ")) > 1]
        assert both
        # What is over signs no more.
        time.sleep(max(0.0, valid[1].until + 2 * SLACK - time.time()))
        host.create()
        last = inbox.wait_for(COUNT + 1, 20)[-1]
        assert not any(one.signs(last) for one in valid[:2])
        assert all(one.signs(last) for one in valid[2:])
