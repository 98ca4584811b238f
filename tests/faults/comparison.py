"""The comparison: what was committed against what the receivers got. Pure."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from standardwebhooks import Webhook

from .workload import Happening

UTC = dt.timezone.utc

Sent = tuple[str, str]
"""A subscription and a `webhook-id`: what should come once."""


@dataclass(frozen=True, slots=True)
class Committed:
    """A happening that was committed.

    :param at: seconds since the epoch, just before its commit.
    """

    happening: Happening
    at: float


@dataclass(frozen=True, slots=True)
class Subscriber:
    """A subscription as its owner knows it."""

    id: str
    owner: str
    patterns: tuple[str, ...]
    secret: str

    def wants(self, happening: Happening) -> bool:
        kind = happening.type.partition(".")[0]
        matching = {"*", f"{kind}.*", happening.type}
        return happening.owner == self.owner and not matching.isdisjoint(self.patterns)


@dataclass(frozen=True, slots=True)
class Receipt:
    """A POST that came, all of it.

    :param at: seconds since the epoch.
    """

    subscription: str
    headers: Mapping[str, str]
    body: bytes
    at: float

    @property
    def sent(self) -> Sent:
        return self.subscription, self.headers.get("webhook-id", "")


@dataclass(slots=True)
class Comparison:
    """What it came to.

    :param deliveries: that should have come, and so for each subscription.
    :param lost: committed, and not received by a subscription that wants it.
    :param phantom: received, and never committed; a second `webhook-id` for one happening is one.
    :param wrong: receipts whose signature does not verify, or whose body changed between tries.
    :param duplicates: POSTs beyond the first of a `webhook-id` at one subscription.
    :param beyond: those of them that no fault explains.
    :param worst_delay: seconds from the commit to the first receipt.
    """

    deliveries: int = 0
    lost: list[str] = field(default_factory=list)
    phantom: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    duplicates: int = 0
    beyond: list[str] = field(default_factory=list)
    worst_delay: float = 0.0


def compare(
    committed: Sequence[Committed],
    subscribers: Sequence[Subscriber],
    receipts: Sequence[Receipt],
    allowed: Mapping[Sent, int],
) -> Comparison:
    """Compare the ledger with what came.

    :param allowed: how often each may come again, by the faults that there were.
    """
    made = Comparison()
    by_id = {subscriber.id: subscriber for subscriber in subscribers}
    first: dict[tuple[str, Happening], Receipt] = {}
    bodies: dict[Sent, tuple[str, str]] = {}
    times: Counter[Sent] = Counter()
    wanted: Mapping[str, dict[Happening, float]] = defaultdict(dict)
    for one in committed:
        for subscriber in subscribers:
            if subscriber.wants(one.happening):
                wanted[subscriber.id][one.happening] = one.at
    made.deliveries = sum(map(len, wanted.values()))
    for receipt in sorted(receipts, key=lambda receipt: receipt.at):
        times[receipt.sent] += 1
        subscriber = by_id[receipt.subscription]
        told = _told(receipt, subscriber, made)
        if told is None:
            continue
        happening, content = told
        if bodies.setdefault(receipt.sent, content) != content:
            made.wrong.append(f"{receipt.sent}: another body than the first time")
        if happening not in wanted[subscriber.id]:
            made.phantom.append(f"{happening} came to {subscriber.id}, and was never committed")
            continue
        earlier = first.setdefault((subscriber.id, happening), receipt)
        if earlier.sent != receipt.sent:
            made.phantom.append(f"{happening} came as {earlier.sent} and as {receipt.sent}")
    for id_, happenings in wanted.items():
        for happening, at in happenings.items():
            came = first.get((id_, happening))
            if came is None:
                made.lost.append(f"{happening} did not come to {id_}")
            else:
                made.worst_delay = max(made.worst_delay, came.at - at)
    made.duplicates, made.beyond = _duplicates(times, allowed)
    return made


def _told(
    receipt: Receipt, subscriber: Subscriber, made: Comparison
) -> tuple[Happening, tuple[str, str]] | None:
    """What a receipt tells: the happening; and its id and data as they were sent."""
    try:
        signed_at = dt.datetime.fromtimestamp(int(receipt.headers["webhook-timestamp"]), UTC)
        text = receipt.body.decode()
        # Not `verify`, which tells the time of the comparison; receivers judge the timestamp.
        signature = Webhook(subscriber.secret).sign(receipt.sent[1], signed_at, text)
        if signature not in receipt.headers["webhook-signature"].split(" "):
            raise ValueError("the signature does not verify")
        body = json.loads(text)
        data = body["data"]
        happening = Happening(
            subscriber.owner, body["type"], data["key"], data["version"], data["mark"]
        )
    except (ValueError, LookupError, TypeError) as error:
        made.wrong.append(f"{receipt.sent}: {error!r}")
        return None
    if body["id"] != receipt.headers["webhook-id"]:
        made.wrong.append(f"{receipt.sent}: the body has the id {body['id']}")
    return happening, (body["id"], json.dumps(data))


def _duplicates(times: Counter[Sent], allowed: Mapping[Sent, int]) -> tuple[int, list[str]]:
    beyond: list[str] = []
    for sent, count in times.items():
        more = count - 1 - allowed.get(sent, 0)
        if more > 0:
            beyond.append(f"{sent} came {count} times, {more} more than the faults explain")
    return sum(times.values()) - len(times), beyond


def missing(
    committed: Collection[Committed],
    subscribers: Collection[Subscriber],
    receipts: Collection[Receipt],
) -> int:
    """How many deliveries have not come yet, at least: by numbers alone, to wait for them."""
    came = {receipt.sent for receipt in receipts}
    wanted = sum(subscriber.wants(one.happening) for one in committed for subscriber in subscribers)
    return wanted - len(came)
