"""What becomes of a subscription's status when its owner changes it. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from ..models import host_of
from .errors import invalid


def first_status(active: bool, *, asks: bool) -> str:
    """The status of a new subscription.

    :param asks: whether receivers are asked for their intent.
    """
    if not active:
        return "inactive"
    return "pending" if asks else "active"


def changed(
    row: Mapping[str, Any], values: Mapping[str, Any], *, asks: bool, now: dt.datetime
) -> dict[str, Any]:
    """More columns that change with those that the owner has given.

    :param row: as it is.
    :param values: new values of its columns, and maybe `active`.
    :param asks: whether receivers are asked for their intent.
    :returns: with `status` `pending` if the receiver has to be asked now; without `active`.
    :raises APIError: 422, if it is to be active though it has expired.
    """
    status, active = row["status"], values.get("active")
    made: dict[str, Any] = {}
    moved = "target_url" in values and values["target_url"] != row["target_url"]
    if moved:
        made |= {
            "host": host_of(values["target_url"]),
            "confirmed_at": None,
            "rate": None,
            "turn_at": None,
            "failing_since": None,
        }
    expires_at = values.get("expires_at", row["expires_at"])
    over = expires_at is not None and expires_at <= now
    if active is False:
        return made | {"status": "inactive", "disabled_reason": None}
    prolonged = status == "expired" and "expires_at" in values and not over
    begins = (active is True and status != "active") or prolonged
    if begins and over:
        raise invalid({"active": ["It has expired: give a later expires_at, or null."]})
    if begins:
        made |= {"disabled_reason": None, "failing_since": None, "turn_at": None}
    confirmed = row["confirmed_at"] is not None and not moved
    if begins or (moved and status in ("active", "pending")):
        made["status"] = "active" if confirmed or not asks else "pending"
    return made
