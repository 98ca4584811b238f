"""Engine: a record as its schema shows it, read from the database as the transaction sees it.

    commit ──► `capture` notes who was touched ──► **before and after, represented** ──► event row

Both are read on the connection of the host's session, but not by that session (`Reader`, `plain`).
What is compared and sent is therefore what the database holds: server defaults, computed columns
and coerced types included. The host's session is left as it was: nothing is refreshed, expired or
kept alive.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import orm

from . import formats
from .errors import CaptureError
from .models import owner_id
from .reader import IdentityKey, PrimaryKey

RESOURCE_LENGTH = 255


@dataclass(frozen=True, slots=True)
class Resource:
    """What is told of a model's records, and to whom.

    :param name: `contact`; its event types are `contact.create`, `.update` and `.delete`.
    :param schema: a marshmallow schema instance; what it dumps is an event's `data`.
    :param owner: the attribute (dotted: `account.id`) or the callable that names a record's owner;
        None names nobody, and then nobody is told.
    :param verbs: those that make events.
    :param url: where a record can be fetched.
    :param watch: attributes; an update makes an event only if one of them changed. None: whatever
        the schema shows.
    :param payload: `full`, or `thin`: then nothing but the record's key and URL is ever told.
    """

    name: str
    schema: Any
    owner: str | Callable[[Any], Any]
    verbs: tuple[str, ...] = ("create", "update", "delete")
    url: Callable[[Any], str] | None = None
    watch: tuple[str, ...] | None = None
    payload: str = formats.FULL


@dataclass(frozen=True, slots=True)
class Representation:
    """A record at one moment.

    :param key: `contact:17`; see `RecordType.name_of`.
    :param owner: None if nobody is to be told.
    :param data: JSON text; if it is too long to be told, its hash, which tells whether it changed.
    :param watched: the values of `Resource.watch`.
    :param url: where it can be fetched; None if nobody said.
    """

    resource: Resource
    key: str
    owner: str | None
    data: str
    watched: tuple[Any, ...]
    url: str | None = None
    too_long: bool = False


class Found(NamedTuple):
    """A record as it was read.

    :param values: of its attributes, if it was read without the ORM: see `plain`.
    :param instance: otherwise; good until the next record is asked for.
    """

    key: IdentityKey
    values: dict[str, Any] | None = None
    instance: Any = None

    @property
    def class_(self) -> type:
        """The mapped class; of a record with subclasses, its own."""
        made: type = self.key[0] if self.instance is None else type(self.instance)
        return made

    def value(self, name: str) -> Any:
        """Of one attribute."""
        return getattr(self.instance, name) if self.values is None else self.values[name]


def owner_of(resource: Resource, found: Found) -> str | None:
    """To whom a record's events are told; None: to nobody.

    :raises CaptureError: if that cannot be found out.
    """
    try:
        return _owner_of(resource, found)
    except Exception as error:
        raise capture_error(resource, found, error) from error


def url_of(resource: Resource, instance: Any) -> str | None:
    """Where a record can be fetched; None if nobody said."""
    url = None if resource.url is None else resource.url(instance)
    return None if url is None else str(url)


def watched_of(resource: Resource, found: Found) -> tuple[Any, ...]:
    """The values of `Resource.watch`, which can be compared with those of another reading."""
    return tuple(_comparable(found.value(name)) for name in resource.watch or ())


def capture_error(resource: Resource, found: Found, error: Exception) -> CaptureError:
    """Why no event can be made."""
    # For the app's own log, so with the key even if the schema does not show it.
    return CaptureError(
        f"no event can be made from {name_with_key(resource, found.key[1])} "
        f"(resource {resource.name!r}): {type(error).__name__}: {error}"
    )


def name_with_key(resource: Resource, primary_key: PrimaryKey) -> str:
    """`contact:17`, whatever the schema shows."""
    return f"{resource.name}:{','.join(map(str, primary_key))}"


def _owner_of(resource: Resource, found: Found) -> str | None:
    if callable(resource.owner):
        owner = resource.owner(found.instance)
    else:
        first, *rest = resource.owner.split(".")
        owner = found.value(first)
        for name in rest:
            if owner is None:
                break
            owner = getattr(owner, name)
    return None if owner is None else owner_id(owner)


def _comparable(value: Any) -> Any:
    """Records of two sessions are equal if they have the same identity."""
    if isinstance(value, list | tuple | set | frozenset):
        return [_comparable(item) for item in value]
    state = sa.inspect(value, raiseerr=False)
    return (state.mapper, state.identity) if isinstance(state, orm.InstanceState) else value
