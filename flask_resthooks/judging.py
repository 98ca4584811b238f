"""Engine: from a receiver's answer to what becomes of the delivery. No database, no network.

transport ──► answer ──► **outcome** ──► settle
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
import re
from collections.abc import Callable

from . import retry
from .intents import Handshake, Intent, Verdict
from .models import HANDSHAKE, PING
from .outbox import Claim, Outcome
from .settings import Settings
from .texts import printable, without_secrets
from .transport import MAX_DETAIL, Answer

log = logging.getLogger(__name__)

MAX_REQUEST_ID = 128

_VISIBLE = re.compile(r"[!-~]+")


class Judge:
    """Says what the answers of one app's receivers mean.

    :param intent: how receivers were asked whether they want to be called; None: they were not.
    :param handshake: what a claim of a handshake is about.
    """

    def __init__(
        self,
        settings: Settings,
        intent: Intent | None,
        handshake: Callable[[Claim], Handshake],
    ) -> None:
        self._settings = settings
        self._intent = intent
        self._handshake = handshake

    def outcome(self, claim: Claim, answer: Answer, now: dt.datetime, chance: float) -> Outcome:
        """What came of a claim.

        :param now: the time of the settle; the answer came just before.
        :param chance: a random number from 0 up to 1, for the jitter.
        """
        settings = self._settings
        asked = retry.parse_retry_after(answer.headers.get("retry-after"), now)
        # Of a test, its owner wants to see what comes of it now.
        once = claim.kind == PING
        decision = retry.decide(
            answer.status,
            attempts=claim.tries,
            schedule=settings.retry_schedule[:1] if once else settings.retry_schedule,
            jitter=settings.retry_jitter,
            chance=chance,
            retry_after=asked,
            retry_after_limit=settings.retry_after_limit,
        )
        refused = decision.status != "delivered"
        outcome = Outcome(
            claim,
            decision.status,
            started_at=now - dt.timedelta(seconds=answer.duration),
            duration=answer.duration,
            status_code=answer.status,
            error=answer.error,
            detail=_storable(answer.detail)[:MAX_DETAIL],
            response=_storable(answer.body.decode("utf-8", "replace")),
            request_id=_request_id(answer),
            reason=decision.reason,
            next_at=None if decision.delay is None else now + dt.timedelta(seconds=decision.delay),
            disable=decision.reason if decision.gone else None,
            wait=min(asked, settings.retry_after_limit) if refused and asked else None,
        )
        return self._of_handshake(outcome, answer) if claim.kind == HANDSHAKE else outcome

    def fault(self, claim: Claim, detail: str, now: dt.datetime) -> Outcome:
        """What becomes of a claim of which no request could be made.

        :param detail: what is wrong, fit for its owner.
        """
        decision = retry.decide_fault(claim.faults + 1, detail)
        return Outcome(
            claim,
            decision.status,
            started_at=now,
            duration=0.0,
            error="internal",
            detail=detail,
            reason=decision.reason,
            next_at=None if decision.delay is None else now + dt.timedelta(seconds=decision.delay),
            fault=True,
        )

    def _of_handshake(self, outcome: Outcome, answer: Answer) -> Outcome:
        # A receiver that echoes what it was sent must not have us show the secret to the owner,
        # who would confirm somebody else's URL with it.
        outcome = dataclasses.replace(outcome, response="")
        if outcome.status != "delivered":
            return outcome
        assert self._intent is not None and answer.status is not None
        secret = None
        try:
            handshake = self._handshake(outcome.claim)
            secret = handshake.secret
            verdict = self._intent.judge(handshake, answer.status, answer.headers)
            if not isinstance(verdict, Verdict) or not isinstance(verdict.reason, str):
                raise TypeError(f"judge returned {type(verdict).__name__}, and no Verdict")
        except Exception as error:  # an app's own strategy: the others are to be settled
            log.error(
                "the answer to the handshake %s is not understood",
                outcome.claim.delivery_id,
                exc_info=without_secrets(error, [secret]),
            )
            return dataclasses.replace(
                outcome, status="failed", error="internal", reason="its intent cannot be judged"
            )
        if verdict.confirmed:
            return dataclasses.replace(outcome, confirmed=True, rate=verdict.rate)
        # An app's own strategy may hand on what a receiver wrote; and this is logged.
        reason = printable(_storable(verdict.reason)[:MAX_DETAIL]) or None
        if verdict.waits:
            return dataclasses.replace(outcome, detail=reason or "")
        return dataclasses.replace(outcome, status="failed", reason=reason, detail=reason or "")


def without_texts(outcome: Outcome) -> Outcome:
    """The same, without anything that the receiver has written."""
    return dataclasses.replace(outcome, detail="", response="", request_id=None)


def _request_id(answer: Answer) -> str | None:
    given = answer.headers.get("x-request-id", "")
    return given if len(given) <= MAX_REQUEST_ID and _VISIBLE.fullmatch(given) else None


def _storable(text: str) -> str:
    """PostgreSQL stores no NUL; and no text should hold lone surrogates."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
