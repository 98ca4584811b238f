"""marshmallow fields that take exactly what the OpenAPI document says of them.

marshmallow's own are lenient: a boolean may be "yes", a list a dictionary, a time without a zone;
and a string may hold what PostgreSQL does not store.
"""

from __future__ import annotations

import base64
import datetime as dt
import re
from typing import Any

import marshmallow as ma
from marshmallow import fields, validate

from .. import formats

NO_NUL = r"^[^\x00]*$"

END_OF_TIME = dt.datetime(9000, 1, 1, tzinfo=dt.timezone.utc)
"""What a caller's times lie before. Python's end with the year 9999, and a driver of PostgreSQL
reads a time in the session's zone: there the last hours in UTC may be of the year 10000."""

_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:)(\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)


def documented(options: dict[str, Any], **more: Any) -> dict[str, Any]:
    """`options` of a field, with more in its part of the OpenAPI document."""
    return {**options, "metadata": {**more, **options.get("metadata", {})}}


class Text(fields.String):
    """A string that every database can store.

    :param max_length: in characters.
    """

    def __init__(self, *, max_length: int, min_length: int = 0, **options: Any) -> None:
        length = validate.Length(min=min_length or None, max=max_length)
        super().__init__(validate=length, **documented(options, pattern=NO_NUL))

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        if not isinstance(value, str):
            raise self.make_error("invalid")
        if "\0" in value:
            raise ma.ValidationError("Must not contain the character NUL.")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise ma.ValidationError("Must not contain half of a surrogate pair.")
        return value


class Flag(fields.Boolean):
    """true or false, and nothing that looks like it."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        if not isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return value


class Moment(fields.DateTime):
    """A time as RFC 3339 has it, with its zone, before `END_OF_TIME`."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        moment = parse_rfc3339(value) if isinstance(value, str) else None
        if moment is None:
            raise ma.ValidationError("Not a time of RFC 3339, such as 2030-12-31T23:59:59Z.")
        if moment >= END_OF_TIME:
            raise ma.ValidationError(f"Must be before {formats.rfc3339(END_OF_TIME)}.")
        return moment

    def _serialize(self, value: Any, attr: Any, obj: Any, **kwargs: Any) -> Any:
        return None if value is None else formats.rfc3339(value)


class Names(fields.List):  # type: ignore[type-arg]  # generic in marshmallow 4 only
    """A list of strings, not empty."""

    def __init__(self, inner: Text, *, max_items: int, **options: Any) -> None:
        super().__init__(inner, validate=validate.Length(min=1, max=max_items), **options)

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        if not isinstance(value, list):
            raise self.make_error("invalid")
        return super()._deserialize(value, attr, data, **kwargs)


class Metadata(fields.Dict):
    """An object of strings, for the caller's own use.

    :param max_keys: how many.
    """

    def __init__(self, *, max_keys: int, keys: Text, values: Text, **options: Any) -> None:
        def few(value: dict[str, str]) -> None:
            if len(value) > max_keys:
                raise ma.ValidationError(f"More than {max_keys} keys.")

        super().__init__(
            keys=keys, values=values, validate=few, **documented(options, maxProperties=max_keys)
        )


class Headers(fields.Dict):
    """An object of whatever: `own_headers` judges it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        if not isinstance(value, dict):
            raise self.make_error("invalid")
        return value


class Number(fields.Float):
    """A number in JSON, and nothing that looks like it; from 0.

    :param maximum: the greatest that is allowed.
    """

    def __init__(self, *, maximum: float, **options: Any) -> None:
        super().__init__(validate=validate.Range(min=0, max=maximum), **options)

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.make_error("invalid", input=value)
        return float(value)


class Limit(fields.Integer):
    """How many entries a page may have, in a query string."""

    def __init__(self, *, maximum: int, default: int, **options: Any) -> None:
        size = validate.Range(min=1, max=maximum)
        super().__init__(validate=size, load_default=default, **options)

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        if not re.fullmatch(r"[0-9]{1,9}", value):
            raise self.make_error("invalid", input=value)
        return int(value)


class IdCursor(fields.String):
    """Where a page begins: after the entry with this id.

    :param prefix: of the ids of the list's entries.
    """

    # An id's 32 hex digits are 16 bytes; in base64url, two bits of the last character count.
    PATTERN = r"^[A-Za-z0-9_-]{21}[AQgw]$"

    def __init__(self, prefix: str, **options: Any) -> None:
        super().__init__(**documented(options, pattern=self.PATTERN))
        self._prefix = prefix

    @staticmethod
    def of(entry_id: str) -> str:
        raw = bytes.fromhex(entry_id.partition("_")[2])
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        if not re.fullmatch(self.PATTERN, value, re.ASCII) or value.endswith("\n"):
            raise ma.ValidationError("Not a cursor that a list has answered.")
        return f"{self._prefix}_{base64.urlsafe_b64decode(value + '==').hex()}"


class NameCursor(fields.String):
    """Where a page begins: after the entry with this name."""

    PATTERN = r"^([0-9a-f]{2}){1,100}$"

    def __init__(self, **options: Any) -> None:
        super().__init__(**documented(options, pattern=self.PATTERN))

    @staticmethod
    def of(name: str) -> str:
        return name.encode().hex()

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        if not re.fullmatch(self.PATTERN, value) or value.endswith("\n"):
            raise ma.ValidationError("Not a cursor that a list has answered.")
        return bytes.fromhex(value).decode("utf-8", "replace")


def parse_rfc3339(text: str) -> dt.datetime | None:
    """The time that a text of RFC 3339 tells, in UTC; None if it is none."""
    parts = _RFC3339.fullmatch(text)
    if parts is None:
        return None
    date, hours_minutes, seconds, fraction, zone = parts.groups()
    seconds = "59" if seconds == "60" else seconds  # a leap second
    fraction = (fraction or "")[:6].ljust(6, "0")
    zone = "+00:00" if zone in "Zz" else zone
    try:
        moment = dt.datetime.fromisoformat(f"{date}T{hours_minutes}{seconds}.{fraction}{zone}")
        return moment.astimezone(dt.timezone.utc)
    except (ValueError, OverflowError):
        return None
