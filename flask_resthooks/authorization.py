"""Engine: the owner's right to be told, asked again when a delivery is about to be sent.

claim ──► **may its owner still see that?** ──► sent, or cancelled
"""

from __future__ import annotations

import datetime as dt
import json
import logging
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from . import formats
from .event_types import EventType, EventTypes
from .outbox import Claim, Sight

if TYPE_CHECKING:
    from flask import Flask


log = logging.getLogger(__name__)


class Event:
    """What happened, for `@hooks.authorize`."""

    def __init__(self, event: formats.Event) -> None:
        self._event = event
        self.id: str = event.id
        self.type: str = event.type
        self.timestamp: dt.datetime = event.timestamp
        self.sequence: int = event.sequence
        #: What it happened to, such as `contact:17`, or None.
        self.resource: str | None = event.resource
        #: Where that can be fetched, or None.
        self.url: str | None = event.url

    def __repr__(self) -> str:
        return f"<Event {self.id} {self.type}>"

    @cached_property
    def data(self) -> Any:
        """As it was captured; to whoever wants a thin payload less is told."""
        return json.loads(self._event.data)

    @cached_property
    def previous(self) -> dict[str, Any] | None:
        """The former values of what changed; None if it is no update."""
        given = self._event.previous
        return None if given is None else json.loads(given)


Authorize = Callable[[str, Event], bool]


class Authorization:
    """Asks one app what its owners may see. In an app context of its own, each time.

    :param authorize: the app's, called with an owner's id and an event; None: nobody is asked.
    """

    def __init__(
        self, app: Flask, event_types: EventTypes, authorize: Authorize | None = None
    ) -> None:
        self._app = app
        self._event_types = event_types
        self._authorize = authorize
        self._restricted = {name for name in event_types if event_types[name].restricted}

    @property
    def sight(self) -> Sight:
        """Which owners see the event types that not everybody sees, for a fan-out.

        In doubt they do: it is asked again before anything is sent.
        """
        return Sight(self._restricted, self._may_see)

    def permits(self, claim: Claim) -> bool:
        """Whether the owner of a claim may still be told.

        :raises Exception: whatever the app raises; then that is not known yet.
        """
        event = claim.event
        if self._authorize is None and event.type not in self._restricted:
            return True
        with self._app.app_context():
            if event.type in self._restricted and not _sees(
                self._event_types[event.type], claim.owner
            ):
                return False
            return self._authorize is None or bool(self._authorize(claim.owner, Event(event)))

    def _may_see(self, name: str, owner: str) -> bool:
        try:
            with self._app.app_context():
                return _sees(self._event_types[name], owner)
        except Exception:
            log.exception("whether %s may be seen is not known yet", name)
            return True


def _sees(event_type: EventType, owner: str) -> bool:
    """`EventType.seen_by`, but what the app raises is raised."""
    if not event_type.public or event_type.visible_to is None:
        return event_type.public
    return bool(event_type.visible_to(owner))
