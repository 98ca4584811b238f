"""Engine: puts the claims of one drain on their way, those that may be sent.

claim ──► **request** ──► dispatch ──► transport
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from .composing import Bodies, Composer
from .dispatch import Dispatcher, ours
from .errors import KeyMissing
from .intents import Intent
from .models import EVENT, HANDSHAKE, NOTICE, PING
from .outbox import Claim
from .recording import Recorder
from .settings import Settings
from .transport import Answer
from .window import Window

log = logging.getLogger(__name__)

PUMPED = 16
"""Requests that are made between two looks whether any of them may go."""

KEY_PAUSE = 60.0
"""Seconds until it is tried again what needs a key that is not there."""

Permit = Callable[[Claim], bool]


class Poster:
    """Makes requests of claims, and hands them on.

    :param permit: asked of each claim before it is sent: whether its owner may still be told.
    :param landed: told what came of a claim that is not sent: a failed attempt, or why no request
        can be made of it.
    :param between: called between two claims: making requests of hundreds may take a while.
    """

    def __init__(
        self,
        settings: Settings,
        composer: Composer,
        window: Window,
        dispatcher: Dispatcher,
        recorder: Recorder,
        *,
        permit: Permit | None,
        intent: Intent | None,
        landed: Callable[[Claim, Answer | str], None],
        between: Callable[[float], None],
    ) -> None:
        self._timeout = settings.timeout
        self._composer = composer
        self._window = window
        self._dispatcher = dispatcher
        self._recorder = recorder
        self._permit = permit
        self._intent = intent
        self._landed = landed
        self._between = between

    def post(self, claims: list[Claim], timestamp: int, start_before: float) -> None:
        """Send claims; what is not sent is given back, or comes to nothing.

        :param timestamp: seconds since the epoch, of these attempts.
        :param start_before: the `time.monotonic()` by which each must have begun.
        """
        bodies: Bodies = {}
        refused: list[tuple[Claim, str]] = []
        sealed: list[Claim] = []
        twice: list[Claim] = []
        for number, claim in enumerate(claims):
            now = time.monotonic()
            if now > start_before:  # the app took long to say who may be told
                self._recorder.give_back(claims[number:])
                break
            self._between(now)
            if claim.delivery_id in self._window:  # its lease ended while it was on its way
                twice.append(claim)
                continue
            try:
                objection = self._objection(claim)
            except Exception as error:  # the app does not know now: it may at the next attempt
                log.exception("whether %s may be sent is not known", claim.delivery_id)
                self._window.add(claim)
                self._landed(claim, Answer(None, error="internal", detail=ours(error)))
                continue
            if objection is not None:
                refused.append((claim, objection))
                continue
            try:
                request = self._composer.request(
                    claim, bodies, timestamp=timestamp, start_before=start_before
                )
            except KeyMissing as error:  # nothing is wrong with it: it waits for the operator
                if not sealed:
                    log.error("%s; what needs it waits", error)
                sealed.append(claim)
            except Exception as error:  # this one's own; the others are to be sent
                log.exception("no request can be made of the delivery %s", claim.delivery_id)
                self._window.add(claim)
                self._landed(claim, ours(error))
            else:
                self._window.add(claim, request.body)
                self._dispatcher.add(claim, request)
                if number % PUMPED == 0:
                    self._dispatcher.pump()
        self._dispatcher.pump()
        if twice:
            self._recorder.give_back(twice, self._timeout)
        if sealed:
            self._recorder.give_back(sealed, KEY_PAUSE)
        if refused:
            self._recorder.cancel(refused)

    def _objection(self, claim: Claim) -> str | None:
        """Why a claim is not to be sent at all."""
        if claim.kind == HANDSHAKE and self._intent is None:
            return "receivers are not asked for their intent any more"
        if claim.kind in (PING, NOTICE) and self._intent is not None and not claim.confirmed:
            return "its receiver has not shown that it wants to be called"
        if claim.kind == EVENT and self._permit is not None and not self._permit(claim):
            return "the owner may not see it any more"
        return None
