"""What the views need of one app."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .. import formats
from ..event_types import EventTypes
from ..guard import Guard
from ..intents import Handshake, Intent
from ..models import Tables
from ..representation import Resource
from ..settings import Settings
from ..vault import Vault

if TYPE_CHECKING:
    from flask_sqlalchemy import SQLAlchemy


@dataclass(frozen=True, slots=True)
class Context:
    """What the views need of one app.

    :param owner: the id of the caller's owner; None if nobody is known, which is answered with 401.
    :param wake: asks for a drain; to be called after a commit that made something due.
    :param vault: seals what is secret.
    :param check_seals: raises `KeyMissing` if there is something in the database that the vault
        cannot open; to be called before something is sealed.
    :param intent: how receivers are asked whether they want to be called; None: they are not.
    :param permits: whether an owner may (still) be told of an event.
    :param resources: the model and the resource behind an event type; None for one that is emitted.
    """

    db: SQLAlchemy
    tables: Tables
    event_types: EventTypes
    settings: Settings
    guard: Guard
    owner: Callable[[], str | None]
    wake: Callable[[], None] = lambda: None
    vault: Vault = field(default_factory=Vault)
    check_seals: Callable[[], None] = lambda: None
    intent: Intent | None = None
    permits: Callable[[str, formats.Event], bool] = lambda owner, event: True
    resources: Callable[[str], tuple[type, Resource] | None] = lambda name: None

    def opening_event(self, subscription_id: str, target_url: str) -> str:
        """The event type of what asks a receiver for its intent."""
        assert self.intent is not None
        handshake = Handshake(subscription_id, target_url, "", self.settings.origin)
        return self.intent.opening(handshake).event_type
