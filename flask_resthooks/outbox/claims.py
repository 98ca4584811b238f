"""Truth: what a claim hands out, and what a settle takes back.

Values: nobody changes them. Those of which there are thousands a second are not frozen, which would
make each of them take three times as long to make.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field

from .. import formats


@dataclass(slots=True)
class Claim:
    """A delivery that this process may send until its lease ends.

    What is secret is as the database has it: sealed, if the app has encryption keys.

    :param lease: the token of the claim; `settle` counts only while it is the delivery's.
    :param number: of the attempt to be made, from 1.
    :param tries: the same, since its schedule began: a delivery that is released again begins anew.
    :param secrets: those that sign, the newest first.
    :param headers: the receiver's own; None if there are none.
    :param intent_id: of the handshake that goes on, or None; so is `intent_secret`.
    :param confirmed: whether its receiver has shown its intent to get hooks at this URL.
    :param faults: how often it could not be made into a request.
    :param probe: it is the one that finds out whether its host gives answers again.
    """

    delivery_id: str
    lease: str
    number: int
    event: formats.Event
    owner: str
    subscription_id: str
    target_url: str
    secrets: tuple[str, ...] = field(repr=False)
    kind: str = "event"
    tries: int = 1
    format: str = formats.STANDARD
    payload: str = "full"
    headers: str | None = field(default=None, repr=False)
    host: str = ""
    intent_id: str | None = None
    intent_secret: str | None = field(default=None, repr=False)
    confirmed: bool = False
    faults: int = 0
    probe: bool = False


@dataclass(slots=True)
class Outcome:
    """What came of a claim, and what is to become of its delivery.

    :param status: `delivered`, `failed` or `pending`.
    :param next_at: when it falls due again; only when `pending`.
    :param disable: why its subscription is to be disabled, or None.
    :param response: what the receiver answered, cut to the limit.
    :param request_id: what the receiver calls the request, or None.
    :param wait: seconds for which its receiver asked us to wait, or None.
    :param confirmed: the receiver has shown its intent to get hooks.
    :param rate: deliveries per minute that it granted with that; None: as many as there are.
    :param fault: no request could be made of it: that says nothing about its receiver.
    """

    claim: Claim
    status: str
    started_at: dt.datetime
    duration: float
    status_code: int | None = None
    error: str | None = None
    detail: str = ""
    response: str = ""
    request_id: str | None = None
    reason: str | None = None
    next_at: dt.datetime | None = None
    disable: str | None = None
    wait: float | None = None
    confirmed: bool = False
    rate: float | None = None
    fault: bool = False


@dataclass(frozen=True, slots=True)
class Settled:
    """What a settle did.

    :param held: ids of the deliveries whose lease was still ours.
    :param disabled: ids of the subscriptions that were active until now, with the reason.
    :param recovered: ids of the subscriptions that get hooks again, with the time since when they
        had not.
    """

    held: frozenset[str]
    disabled: Mapping[str, str]
    recovered: Mapping[str, dt.datetime]
