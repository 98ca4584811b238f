"""Ground: texts of others, fit for a log or a terminal."""

from __future__ import annotations

import traceback
from collections.abc import Iterable


def printable(text: str) -> str:
    """The same on one line: whatever is not to be seen, such as a line's end or an escape that a
    terminal obeys, becomes `?`."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else "?" for character in text)


def is_unicode(text: str) -> bool:
    """Whether it has no halves of surrogate pairs: no encoding and no database takes these."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def without_secrets(error: Exception, secrets: Iterable[str | None]) -> Exception:
    """What may be logged of an error that an app's code has raised, which was given secrets.

    The error itself; but if it says one of the secrets, or what it came from does, another one that
    tells its type and its place alone.
    """
    said = "".join(traceback.format_exception(error))
    forms = (form for secret in secrets if secret for form in (secret, repr(secret)[1:-1]))
    if not any(form in said for form in forms):
        return error
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return RuntimeError(f"{type(error).__name__}{place}; its message holds a secret")
