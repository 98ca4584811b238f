"""Ground: the event types of an app, their names, and the patterns that match them.

An event type has a dotted name, `noun.verb`: `contact.create`, `invoice.paid`. A subscription
names event types or patterns: `contact.*` is everything that begins with `contact.`, `*` is
everything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import ConfigurationError, UnknownEventType

MAX_LENGTH = 100
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
    """

    name: str
    schema: Any = None
    description: str = ""


class EventTypes(Mapping[str, EventType]):
    """All event types of one `RESTHooks`, by name, in the order of their registration."""

    def __init__(self) -> None:
        self._types: dict[str, EventType] = {}

    def add(self, event_type: EventType) -> EventType:
        """Register an event type.

        :raises ConfigurationError: if the name has not the right form, or is taken.
        """
        name = event_type.name
        if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > MAX_LENGTH:
            raise ConfigurationError(f"{name!r} cannot name an event type: {NAME_RULE}")
        if name in self._types:
            raise ConfigurationError(f"the event type {name!r} is registered already")
        self._types[name] = event_type
        return event_type

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

    def matches_any(self, pattern: str) -> bool:
        """Whether a pattern (or plain name) matches any registered event type."""
        if not pattern.endswith("*"):
            return pattern in self._types
        return any(pattern in patterns_of(name) for name in self._types)


def check_word(word: str) -> str:
    """One word of a name: what `resource()` takes.

    :raises ConfigurationError: if it has not the right form.
    """
    if not isinstance(word, str) or not _NAME.fullmatch(f"{word}.x"):
        raise ConfigurationError(
            f"{word!r} cannot be part of an event type's name: words of a-z, 0-9, - and _, "
            "joined by dots"
        )
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
