"""Routes of a subscription's secret: to look at it, and to replace it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from .. import formats, signing
from ..models import utcnow
from . import examples
from . import schemas as s
from .checks import secret_errors
from .errors import APIError, invalid
from .idempotency import once
from .subscriptions import ID_PARAMETER, NO_STORE, SubscriptionView
from .views import operation

MAX_SECRETS = 5
"""Secrets of one subscription that sign at the same time."""


class Secret(SubscriptionView):
    path_parameters = (ID_PARAMETER,)

    @operation("get_secret", 200, s.RESTHooksSecretSchema, example={"secret": examples.SECRET})
    def get(self, query: dict[str, Any], subscription_id: str) -> Any:
        """Get the secret that a subscription's hooks are verified with"""
        row = self.owned(subscription_id)
        secret = self.context.vault.open(row["secret"])
        return {"secret": signing.shown_secret(secret)}, 200, NO_STORE


class SecretRotation(SubscriptionView):
    path_parameters = (ID_PARAMETER,)

    @operation(
        "rotate_secret",
        200,
        s.RESTHooksSecretSchema,
        example={"secret": examples.SECRET},
        body=s.RESTHooksRotationSchema,
        body_examples=examples.ROTATION,
        problems=[409],
        idempotent=True,
    )
    def post(self, query: dict[str, Any], given: dict[str, Any], subscription_id: str) -> Any:
        """Replace the secret

        The former one signs, too, until the overlap is over: `webhook-signature` holds a signature
        of each.
        """

        self.context.check_seals()

        def rotate() -> Any:
            row = self.locked(subscription_id)
            kind = given.get("signature", row["signature"])
            errors = secret_errors({**given, "signature": kind})
            if errors:
                raise invalid(errors)
            secret = given["secret"] if "secret" in given else signing.new_secret(kind)
            now = utcnow()
            former = _former(row, now, given["overlap"])
            values = {
                "secret": self.context.vault.seal(secret),
                "signature": kind,
                "former_secrets": former,
            }
            self.rows.change(row, lambda row: values)
            return {"secret": signing.shown_secret(secret)}, 200, NO_STORE

        return once(self, rotate)


def _former(row: Mapping[str, Any], now: dt.datetime, overlap: float) -> list[dict[str, str]]:
    """Those that sign beside the new one.

    :raises APIError: 409, if they are too many.
    """
    kept = [
        former
        for former in row["former_secrets"]
        if dt.datetime.fromisoformat(former["until"]) > now
    ]
    if overlap:
        until = now + dt.timedelta(seconds=overlap)
        kept.insert(0, {"secret": row["secret"], "until": until.isoformat()})
    if len(kept) >= MAX_SECRETS:
        soonest = min(dt.datetime.fromisoformat(former["until"]) for former in kept)
        raise APIError(
            409,
            f"{MAX_SECRETS} secrets at most sign at once; the next one of them ends at "
            f"{formats.rfc3339(soonest)}. "
            "With an overlap of 0, the present one ends now.",
            error_code="too_many_secrets",
        )
    return kept
