"""The comparison finds what it is there for; a laboratory that cannot fail would show nothing."""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import json
from collections.abc import Sequence

import pytest
from standardwebhooks import Webhook

from tests.faults.comparison import Committed, Comparison, Receipt, Subscriber, compare, missing
from tests.faults.workload import Happening

SECRET = "whsec_" + base64.b64encode(bytes(range(24))).decode()
ALL = Subscriber("all", "ann", ("*",), SECRET)
CONTACTS = Subscriber("contacts", "ann", ("contact.*", "order.delete"), SECRET)
OTHERS = Subscriber("others", "bob", ("*",), SECRET)
SUBSCRIBERS = (ALL, CONTACTS, OTHERS)

MADE = Happening("ann", "contact.create", "k1", 1, "m1")
CHANGED = Happening("ann", "contact.update", "k1", 2, "m2")
ORDERED = Happening("ann", "order.create", "k2", 1, "m3")
LEDGER = [Committed(MADE, 100.0), Committed(CHANGED, 101.0), Committed(ORDERED, 102.0)]


def receipt(
    subscriber: Subscriber, happening: Happening, id_: str, at: float, secret: str = SECRET
) -> Receipt:
    data = {"key": happening.key, "version": happening.version, "mark": happening.mark}
    body = json.dumps({"id": id_, "type": happening.type, "data": data})
    signed_at = dt.datetime.fromtimestamp(int(at), dt.timezone.utc)
    headers = {
        "webhook-id": id_,
        "webhook-timestamp": str(int(at)),
        "webhook-signature": Webhook(secret).sign(id_, signed_at, body),
    }
    return Receipt(subscriber.id, headers, body.encode(), at)


RECEIPTS = [
    receipt(ALL, MADE, "e1", 100.5),
    receipt(ALL, CHANGED, "e2", 101.5),
    receipt(ALL, ORDERED, "e3", 104.0),
    receipt(CONTACTS, MADE, "e1", 100.5),
    receipt(CONTACTS, CHANGED, "e2", 101.5),
]


def compared(receipts: Sequence[Receipt]) -> Comparison:
    return compare(LEDGER, SUBSCRIBERS, receipts, {})


def test_what_came_as_it_was_committed_is_all_right() -> None:
    assert compared(RECEIPTS) == Comparison(deliveries=5, worst_delay=2.0)
    assert missing(LEDGER, SUBSCRIBERS, RECEIPTS) == 0


@pytest.mark.parametrize("planted", range(len(RECEIPTS)))
def test_a_planted_loss_is_found(planted: int) -> None:
    receipts = RECEIPTS[:planted] + RECEIPTS[planted + 1 :]
    found = compared(receipts)
    assert len(found.lost) == 1
    assert RECEIPTS[planted].subscription in found.lost[0]
    assert not (found.phantom or found.wrong or found.beyond)
    assert missing(LEDGER, SUBSCRIBERS, receipts) == 1


@pytest.mark.parametrize(
    "planted",
    [
        receipt(ALL, dataclasses.replace(CHANGED, version=3), "e9", 105.0),
        receipt(ALL, dataclasses.replace(CHANGED, mark="of a savepoint"), "e9", 105.0),
        receipt(CONTACTS, ORDERED, "e3", 105.0),  # it does not want it
        receipt(OTHERS, MADE, "e1", 105.0),  # it is not his
        receipt(ALL, MADE, "e9", 105.0),  # one happening as two events
    ],
)
def test_a_planted_phantom_is_found(planted: Receipt) -> None:
    found = compared([*RECEIPTS, planted])
    assert len(found.phantom) == 1
    assert not (found.lost or found.wrong or found.beyond)


def test_a_planted_duplicate_is_found_and_may_be_explained() -> None:
    twice = receipt(ALL, CHANGED, "e2", 130.0)
    found = compared([*RECEIPTS, twice])
    assert found.duplicates == len(found.beyond) == 1
    assert found.worst_delay == 2.0, "the first receipt counts"
    explained = compare(LEDGER, SUBSCRIBERS, [*RECEIPTS, twice], {twice.sent: 1})
    assert (explained.duplicates, explained.beyond) == (1, [])
    other = compare(LEDGER, SUBSCRIBERS, [*RECEIPTS, twice], {RECEIPTS[0].sent: 1})
    assert len(other.beyond) == 1, "one explanation is not good for another delivery"
    thrice = compare(LEDGER, SUBSCRIBERS, [*RECEIPTS, twice, twice], {twice.sent: 1})
    assert (thrice.duplicates, len(thrice.beyond)) == (2, 1)


def test_a_signature_that_does_not_verify_and_a_changed_body_are_found() -> None:
    other = "whsec_" + base64.b64encode(bytes(24)).decode()
    forged = [receipt(ALL, MADE, "e1", 100.5, other), *RECEIPTS[1:]]
    found = compared(forged)
    assert len(found.wrong) == len(found.lost) == 1
    changed = dataclasses.replace(ORDERED, mark="another")
    found = compared([*RECEIPTS, receipt(ALL, changed, "e3", 106.0)])
    assert len(found.wrong) == len(found.phantom) == 1
