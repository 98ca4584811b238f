"""Ground: a text that a regular expression matches.

Found for what people write to describe a text: classes, repetitions, groups, alternatives. Whatever
is found was tried on the expression itself; so what this file does not know of expressions (it
passes over what looks ahead or behind, and knows no backreferences) costs an example, not its
truth.
"""

from __future__ import annotations

import re
import string
import warnings
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

MAX_LENGTH = 1000
"""Characters of a text that is made."""

MAX_PATTERN = 1000
"""Characters of an expression that a text is made for."""

_CHOICES = 4
"""How many alternatives are tried at each `|`."""

_EXTRAS = 40
"""How much more often than it must something is repeated, to come near to a length."""

_LIKED = "a1A" + string.ascii_letters + string.digits + "-_ .@" + string.printable
_QUANTIFIER = re.compile(r"(?:([*+?])|\{(\d*)(,?)(\d*)\})[?+]?")
_OPENING = re.compile(r"\((\?(?::|P?<\w+>|[aiLmsux-]*:|<?[=!]|[aiLmsux]+(?=\))))?")
_CLASS = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|[^1-9])", re.DOTALL)
_NO_CHARACTER = ("\\A", "\\b", "\\B", "\\Z", "\\z")

# Makes a text, from how often to repeat and which alternative to take.
_Part = Callable[[int, int], str]


class _Unknown(Exception):
    """Something that this file does not know of expressions."""


def matching(
    pattern: str, candidates: Iterable[str] = (), shortest: int = 0, longest: int = MAX_LENGTH
) -> str | None:
    """A text in which an expression finds a match; None if none was found.

    :param candidates: texts that are taken if they match.
    :param shortest: its characters, at least.
    :param longest: its characters, at most.
    """
    expression = _compiled(pattern)
    if expression is None:
        return None

    def fits(text: str) -> bool:
        return shortest <= len(text) <= longest and expression.search(text) is not None

    return next(filter(fits, chain(candidates, _made(pattern, shortest, longest))), None)


def _made(pattern: str, shortest: int, longest: int) -> Iterator[str]:
    """Texts that the expression may match, from short to long."""
    if len(pattern) > MAX_PATTERN:
        return
    try:
        make = _Reader(pattern).all()
        near = min(shortest, MAX_LENGTH)
        for choice in range(_CHOICES):
            for extra in (*range(_EXTRAS), *range(max(_EXTRAS, near - _EXTRAS), near + 1)):
                text = make(extra, choice)
                yield text
                yield text.ljust(shortest, "a")
                if len(text) > longest:
                    break
    except (_Unknown, RecursionError):
        return


def _compiled(pattern: str) -> re.Pattern[str] | None:
    with warnings.catch_warnings():
        # Of what may mean something else one day.
        warnings.simplefilter("ignore")
        try:
            return re.compile(pattern)
        except (re.error, OverflowError, RecursionError):
            return None


class _Reader:
    """Reads an expression from left to right."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0

    def all(self) -> _Part:
        part = self._alternatives()
        if self._at < len(self._pattern):
            raise _Unknown
        return part

    def _alternatives(self) -> _Part:
        several = [self._sequence()]
        while self._pattern.startswith("|", self._at):
            self._at += 1
            several.append(self._sequence())
        return lambda extra, choice: several[choice % len(several)](extra, choice)

    def _sequence(self) -> _Part:
        parts: list[_Part] = []
        while self._at < len(self._pattern) and self._pattern[self._at] not in "|)":
            parts.append(self._repeated(self._one()))
        return lambda extra, choice: "".join(part(extra, choice) for part in parts)

    def _one(self) -> _Part:
        character = self._pattern[self._at]
        if character == "(":
            return self._group()
        if character == "[":
            return self._character(self._take(_CLASS))
        if character == "\\":
            escape = self._take(_ESCAPE)
            return _nothing if escape in _NO_CHARACTER else self._character(escape)
        self._at += 1
        if character in "^$":
            return _nothing
        return _always("a" if character == "." else character)

    def _group(self) -> _Part:
        opening = self._take(_OPENING)
        part = self._alternatives()
        if not self._pattern.startswith(")", self._at):
            raise _Unknown
        self._at += 1
        looks_around = opening.endswith(("=", "!"))
        return _nothing if looks_around else part

    def _repeated(self, part: _Part) -> _Part:
        found = _QUANTIFIER.match(self._pattern, self._at)
        if found is None:
            return part
        sign, low, comma, high = found.groups()
        if not sign and not low and not high:
            return part  # a brace that means itself
        self._at = found.end()
        least = int(low or 0) if not sign else (1 if sign == "+" else 0)
        most = {"?": 1, "*": MAX_LENGTH, "+": MAX_LENGTH}.get(sign)
        if most is None:
            most = int(high) if high else (MAX_LENGTH if comma else least)

        def repeated(extra: int, choice: int) -> str:
            text, times = part(extra, choice), min(least + extra, max(least, most))
            if len(text) * times > MAX_LENGTH:
                raise _Unknown
            return text * times

        return repeated

    def _character(self, source: str) -> _Part:
        own = _compiled(source)
        if own is None:
            raise _Unknown
        found = next(filter(own.fullmatch, _LIKED + source), None)
        if found is None:
            raise _Unknown
        return _always(found)

    def _take(self, expression: re.Pattern[str]) -> str:
        found = expression.match(self._pattern, self._at)
        if found is None:
            raise _Unknown
        self._at = found.end()
        return found[0]


def _nothing(extra: int, choice: int) -> str:
    return ""


def _always(character: str) -> _Part:
    return lambda extra, choice: character
