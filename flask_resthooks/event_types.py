"""Ground: the event types of an app, their names, and the patterns that match them.

An event type has a dotted name, `noun.verb`: `contact.create`, `invoice.paid`. A subscription
names event types or patterns: `contact.*` is everything that begins with `contact.`, `*` is
everything, as far as its owner sees it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import ConfigurationError, UnknownEventType

log = logging.getLogger(__name__)

MAX_LENGTH = 100
MAX_VERSION = 20
"""Characters of a version."""

PAYLOADS = FULL, THIN = ("full", "thin")
"""What events tell: all that the schema shows, or where to look it up."""

RESERVED = "resthooks"
"""The noun of the event types that are built in: no app can register `resthooks.…`."""

NAME_RULE = (
    "a name is words of a-z, 0-9, - and _, joined by dots: 'contact.create' "
    f"(two words at least, {MAX_LENGTH} characters at most)"
)
_WORD = re.compile(r"[a-z0-9][a-z0-9_-]*")
_NAME = re.compile(rf"{_WORD.pattern}(\.{_WORD.pattern})+")


@dataclass(frozen=True, slots=True)
class EventType:
    """A name with what an integrator must know of it.

    :param name: `noun.verb`.
    :param schema: a marshmallow schema instance that represents an event's `data`, or None when
        dictionaries are emitted as they are.
    :param description: for people; shown by the API.
    :param version: of the schema, as the app counts; shown by the API.
    :param deprecated: whether integrators had better use another one; shown by the API.
    :param public: False: no owner ever sees it, subscribes to it or gets it.
    :param visible_to: callable that takes an owner's id and says whether that owner sees it; None:
        everybody does. Asked often, so it should answer fast.
    :param payload: `full`, or `thin`: then nothing but a record's key and URL is ever told.
    """

    name: str
    schema: Any = None
    description: str = ""
    version: str = "1"
    deprecated: bool = False
    public: bool = True
    visible_to: Callable[[str], bool] | None = None
    payload: str = FULL

    @property
    def restricted(self) -> bool:
        """Whether there may be owners who do not see it."""
        return not self.public or self.visible_to is not None

    def seen_by(self, owner: str) -> bool:
        """Whether an owner sees it. If that cannot be found out, they do not."""
        if not self.public or self.visible_to is None:
            return self.public
        try:
            return bool(self.visible_to(owner))
        except Exception:
            log.exception("whether %s is to be seen is not known, so it is not", self.name)
            return False


class EventTypes(Mapping[str, EventType]):
    """All event types of one `RESTHooks`, by name, in the order of their registration."""

    def __init__(self) -> None:
        self._types: dict[str, EventType] = {}
        self._patterns: dict[str, list[str]] = {}
        self._listeners: list[Callable[[EventType], None]] = []

    def add(self, event_type: EventType) -> EventType:
        """Register an event type.

        :raises ConfigurationError: see `check`.
        """
        self.check(event_type)
        self._patterns[event_type.name] = patterns_of(event_type.name)
        self._types[event_type.name] = event_type
        for listener in self._listeners:
            listener(event_type)
        return event_type

    def check(self, event_type: EventType) -> None:
        """Whether an event type could be registered now.

        :raises ConfigurationError: if its name has not the right form, is reserved or taken, or if
            anything else of it is not what it should be.
        """
        name = event_type.name
        if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > MAX_LENGTH:
            raise ConfigurationError(f"{name!r} cannot name an event type: {NAME_RULE}")
        _check_not_reserved(name)
        if name in self._types:
            raise ConfigurationError(f"the event type {name!r} is registered already")
        version = event_type.version
        if not isinstance(version, str) or not 1 <= len(version) <= MAX_VERSION:
            raise ConfigurationError(
                f"version of {name!r}: {version!r} given; it must be a text of 1 to {MAX_VERSION} "
                "characters"
            )
        if event_type.payload not in PAYLOADS:
            raise ConfigurationError(
                f"payload of {name!r}: {event_type.payload!r} given; allowed are "
                f"{', '.join(map(repr, PAYLOADS))}"
            )
        if event_type.visible_to is not None and not callable(event_type.visible_to):
            raise ConfigurationError(
                f"visible_to of {name!r} must be a callable that takes an owner's id"
            )

    @property
    def thin(self) -> frozenset[str]:
        """Names of those of which nothing but a record's key and URL is told."""
        return frozenset(name for name in self if self[name].payload == THIN)

    def listen(self, listener: Callable[[EventType], None]) -> None:
        """Have `listener` called with each event type, those of now and those of later."""
        for event_type in list(self._types.values()):
            listener(event_type)
        self._listeners.append(listener)

    def __getitem__(self, name: str) -> EventType:
        try:
            return self._types[name]
        except KeyError:
            known = ", ".join(self._types) or "none are registered"
            raise UnknownEventType(f"there is no event type {name!r}; known: {known}") from None

    def __contains__(self, name: object) -> bool:
        return name in self._types

    def __iter__(self) -> Iterator[str]:
        return iter(self._types)

    def __len__(self) -> int:
        return len(self._types)

    def matches_any(self, pattern: str, owner: str | None = None) -> bool:
        """Whether a pattern (or plain name) matches any event type.

        :param owner: only those that this owner sees count; None: all do.
        """
        return any(True for _ in self._matching([pattern], owner))

    def matching(self, patterns: Iterable[str], owner: str | None = None) -> list[str]:
        """The names that any of the patterns matches, in the order of registration.

        :param owner: only those that this owner sees count; None: all do.
        """
        return list(self._matching(patterns, owner))

    def _matching(self, patterns: Iterable[str], owner: str | None) -> Iterator[str]:
        wanted = frozenset(patterns)
        for name, event_type in list(self._types.items()):
            matches = not wanted.isdisjoint(self._patterns[name])
            if matches and (owner is None or event_type.seen_by(owner)):
                yield name


def _check_not_reserved(name: str) -> None:
    if name == RESERVED or name.startswith(f"{RESERVED}."):
        raise ConfigurationError(f"{name!r} is not for apps: {RESERVED!r} is reserved")


def check_word(word: str) -> str:
    """One word of a name: what `resource()` takes.

    :raises ConfigurationError: if it has not the right form, or is reserved.
    """
    if not isinstance(word, str) or not _NAME.fullmatch(f"{word}.x"):
        raise ConfigurationError(
            f"{word!r} cannot be part of an event type's name: words of a-z, 0-9, - and _, "
            "joined by dots"
        )
    _check_not_reserved(word)
    return word


def patterns_of(name: str) -> list[str]:
    """Every pattern that matches the event type `name`, the name itself first.

    >>> patterns_of("contact.create")
    ['contact.create', 'contact.*', '*']
    """
    words = name.split(".")
    wider = [".".join(words[:count]) + ".*" for count in range(len(words) - 1, 0, -1)]
    return [name, *wider, "*"]


def widest(patterns: Iterable[str]) -> list[str]:
    """`patterns` without those that another of them covers: no event matches two of the rest.

    >>> widest(["contact.create", "contact.*", "invoice.paid"])
    ['contact.*', 'invoice.paid']
    """
    given = list(dict.fromkeys(patterns))
    return [pattern for pattern in given if not _wider(pattern) & set(given)]


def _wider(pattern: str) -> set[str]:
    """Every pattern that covers `pattern`, itself excepted."""
    if pattern == "*":
        return set()
    name = pattern[:-2] if pattern.endswith(".*") else pattern
    if name == pattern:
        return set(patterns_of(name)) - {pattern}
    return set(patterns_of(name)) - {name}
