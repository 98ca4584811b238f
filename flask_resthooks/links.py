"""Engine: which tracked records a flush changes by what it does to other records.

    a tag is deleted ──► **the contacts that show it** ──► `capture` notes them

The unit of work does not count those as changed: it deletes the rows between them by itself, and a
foreign key that is set directly says nothing to the other side. Who shows a record is asked of the
database, so nothing is loaded into the host's session.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from .reader import READ_CHUNK, PrimaryKey, Reader, among_keys, chunks, given_keys
from .record_types import RecordType, RecordTypes


class Link:
    """A relationship that a tracked record may show."""

    def __init__(self, record_type: RecordType, shown: orm.RelationshipProperty[Any]) -> None:
        self.record_type = record_type
        self.target = shown.mapper
        own = record_type.mapper.class_
        other = orm.aliased(shown.mapper)
        keys = [shown.mapper.get_property_by_column(key).key for key in shown.mapper.primary_key]
        self._showing = (
            sa.select(*[getattr(own, name) for name in record_type.key_names])
            .join(getattr(own, shown.key).of_type(other))
            .where(among_keys([getattr(other, key) for key in keys]))
            .distinct()
        )
        # The attributes of the other record that say who shows it.
        self.references: list[str] = []
        if shown.direction is orm.RelationshipDirection.ONETOMANY:
            pairs: list[Any] = list(shown.local_remote_pairs or ())
            near = [record_type.mapper.get_property_by_column(local).key for local, _ in pairs]
            self.references = [self.target.get_property_by_column(far).key for _, far in pairs]
            self._referred_to = sa.select(
                *[getattr(own, name) for name in record_type.key_names]
            ).where(among_keys([getattr(own, name) for name in near]))

    def showing(self, reader: Reader, keys: Iterable[PrimaryKey]) -> Iterator[PrimaryKey]:
        """Who shows one of these records."""
        return _find(reader, self._showing, keys)

    def referred_to(self, reader: Reader, values: Iterable[PrimaryKey]) -> Iterator[PrimaryKey]:
        """To whom these values of `references` refer."""
        return _find(reader, self._referred_to, values)


@dataclass(frozen=True, slots=True)
class Changes:
    """Other records that a flush deletes or moves, and the references of those that it makes."""

    leaving: dict[Link, set[PrimaryKey]]
    coming: dict[Link, set[PrimaryKey]]

    def __bool__(self) -> bool:
        return bool(self.leaving or self.coming)

    def shown_by(self, reader: Reader) -> Iterator[tuple[RecordType, list[PrimaryKey]]]:
        """The tracked records that show them."""
        for link, keys in self.leaving.items():
            yield link.record_type, list(link.showing(reader, keys))
        for link, values in self.coming.items():
            yield link.record_type, list(link.referred_to(reader, values))


class Links:
    """Of all tracked models; decided once for each class of the other records."""

    def __init__(self, record_types: RecordTypes) -> None:
        self._record_types = record_types
        self._all: list[Link] = []
        self._of: dict[type, list[Link]] = {}
        self._known = 0

    def changes(self, session: orm.Session) -> Changes:
        """What a flush is about to do that those who show it do not notice by themselves."""
        leaving: dict[Link, set[PrimaryKey]] = {}
        coming: dict[Link, set[PrimaryKey]] = {}
        if not self._every():
            return Changes(leaving, coming)
        for instance in session.deleted:
            for link in self._links(type(instance)):
                leaving.setdefault(link, set()).add(sa.inspect(instance).identity)
        for instance in session.dirty:
            for link in self._links(type(instance)):
                state = sa.inspect(instance)
                if not state.committed_state.keys().isdisjoint(link.references):
                    leaving.setdefault(link, set()).add(state.identity)
                    _note_references(coming, link, state.dict)
        for instance in session.new:
            for link in self._links(type(instance)):
                _note_references(coming, link, sa.inspect(instance).dict)
        return Changes(leaving, coming)

    def _every(self) -> list[Link]:
        if self._known != len(self._record_types):
            self._known = len(self._record_types)
            self._all = list(self._find_all())
            self._of.clear()
        return self._all

    def _links(self, class_: type) -> list[Link]:
        try:
            return self._of[class_]
        except KeyError:
            mapper: orm.Mapper[Any] = orm.class_mapper(class_)
            links = self._of[class_] = [link for link in self._all if mapper.isa(link.target)]
            return links

    def _find_all(self) -> Iterator[Link]:
        for record_type in self._record_types.tracked():
            resource = record_type.resource
            if resource is None or "update" not in resource.verbs:
                continue
            for shown in record_type.mapper.relationships:
                above = self._record_types.of(shown.parent.class_)
                asked_above = (
                    above is not None and above is not record_type and above.resource is resource
                )
                # Those to an alias cannot be asked for backwards.
                aliased = shown.entity.is_aliased_class
                if record_type.may_show([shown.key]) and not asked_above and not aliased:
                    yield Link(record_type, shown)


def _note_references(
    coming: dict[Link, set[PrimaryKey]], link: Link, values: dict[str, Any]
) -> None:
    found = tuple(values.get(name) for name in link.references)
    # What is None refers to nobody; what is an expression, the database alone knows.
    if found and not any(value is None or isinstance(value, sa.ClauseElement) for value in found):
        coming.setdefault(link, set()).add(found)


def _find(
    reader: Reader, statement: sa.Select[Any], keys: Iterable[PrimaryKey]
) -> Iterator[PrimaryKey]:
    for chunk in chunks(keys, READ_CHUNK):
        for row in reader.session.execute(statement, given_keys(chunk)):
            yield tuple(row)
