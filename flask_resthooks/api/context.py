"""What the views need of one app."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..event_types import EventTypes
from ..guard import Guard
from ..models import Tables
from ..settings import Settings

if TYPE_CHECKING:
    from flask_sqlalchemy import SQLAlchemy


@dataclass(frozen=True, slots=True)
class Context:
    """What the views need of one app.

    :param owner: the id of the caller's owner; None if nobody is known, which is answered with 401.
    """

    db: SQLAlchemy
    tables: Tables
    event_types: EventTypes
    settings: Settings
    guard: Guard
    owner: Callable[[], str | None]
