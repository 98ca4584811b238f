"""Truth: the tables.

Core tables on the app's own metadata, so that `db.create_all()` and Alembic see them. No mapped
classes: an app's declarative base may be anything (dataclasses, custom metaclasses), and the
pipeline works on sets of rows.

How the rows relate: an `event` is written by the app's own transaction; a fan-out makes one
`delivery` of it per matching `subscription`; each POST leaves an `attempt`. What is due is found
by `due_at` alone: it is NULL on a delivery that has come to its end, the time of the next attempt
on one that waits, and the end of the lease on one that is being sent.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from . import ids
from .errors import ConfigurationError

UTC = dt.timezone.utc
OWNER_LENGTH = 255
URL_LENGTH = 2048


def utcnow() -> dt.datetime:
    """Now, aware, in UTC: the clock of everything that is given no other."""
    return dt.datetime.now(UTC)


class UTCDateTime(sa.types.TypeDecorator[dt.datetime]):
    """An aware time, in UTC, on every database."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, dialect: Any) -> dt.datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: dt.datetime | None, dialect: Any) -> dt.datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def owner_id(owner: Any) -> str:
    """An owner's id as it is stored.

    :raises ConfigurationError: if it is too long.
    """
    made = str(owner)
    if len(made) > OWNER_LENGTH:
        raise ConfigurationError(
            f"the owner's id {made[:40]!r}… has {len(made)} characters; {OWNER_LENGTH} are allowed"
        )
    return made


@dataclass(frozen=True, slots=True)
class Tables:
    """The five tables of one metadata."""

    event: sa.Table
    subscription: sa.Table
    subscription_event: sa.Table
    delivery: sa.Table
    attempt: sa.Table


def _id(**options: Any) -> sa.Column[str]:
    return sa.Column("id", sa.String(ids.LENGTH), **options)


def define(metadata: sa.MetaData) -> Tables:
    """The tables on `metadata`; made if they are not there yet."""
    return Tables(
        event=_table(metadata, "resthooks_event", _event),
        subscription=_table(metadata, "resthooks_subscription", _subscription),
        subscription_event=_table(metadata, "resthooks_subscription_event", _subscription_event),
        delivery=_table(metadata, "resthooks_delivery", _delivery),
        attempt=_table(metadata, "resthooks_attempt", _attempt),
    )


def _table(metadata: sa.MetaData, name: str, columns: Any) -> sa.Table:
    if name in metadata.tables:
        return metadata.tables[name]
    return sa.Table(name, metadata, *columns(), sqlite_autoincrement=name == "resthooks_event")


def _event() -> list[sa.schema.SchemaItem]:
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    # The mark by which a fan-out finds what it has not done yet: NULL.
    fanned_out_at = sa.Column("fanned_out_at", UTCDateTime)
    return [
        # Handed out before the commit: a greater number does not mean a later commit.
        sa.Column("sequence", number, primary_key=True, autoincrement=True),
        _id(nullable=False, unique=True),
        sa.Column("type", sa.String(100), nullable=False),
        sa.Column("owner", sa.String(OWNER_LENGTH), nullable=False),
        # Identifies the record that it happened to: "contact:17"; NULL if none is known.
        sa.Column("resource", sa.String(255)),
        sa.Column("created_at", UTCDateTime, nullable=False),
        # JSON texts, made once by the transaction that the event tells of, and sent as they are.
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("previous", sa.Text),
        fanned_out_at,
        sa.Index(
            "resthooks_event_not_fanned_out",
            "sequence",
            sqlite_where=fanned_out_at.is_(None),
            postgresql_where=fanned_out_at.is_(None),
        ),
        sa.Index("resthooks_event_of_owner", "owner", "id"),
    ]


def _subscription() -> list[sa.schema.SchemaItem]:
    return [
        _id(primary_key=True),
        sa.Column("owner", sa.String(OWNER_LENGTH), nullable=False),
        sa.Column("target_url", sa.String(URL_LENGTH), nullable=False),
        # As the owner gave them; `subscription_event` is what the fan-out looks up.
        sa.Column("events", sa.JSON, nullable=False),
        sa.Column("status", sa.String(10), nullable=False),
        sa.Column("description", sa.Text, nullable=False, default=""),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("format", sa.String(20), nullable=False, default="standard"),
        sa.Column("payload", sa.String(10), nullable=False, default="full"),
        sa.Column("secret", sa.Text, nullable=False),
        sa.Column("expires_at", UTCDateTime),
        sa.Column("disabled_reason", sa.Text),
        sa.Column("created_at", UTCDateTime, nullable=False),
        sa.Column("updated_at", UTCDateTime, nullable=False),
        sa.Index("resthooks_subscription_of_owner", "owner", "id"),
    ]


def _subscription_event() -> list[sa.schema.SchemaItem]:
    return [
        # No two patterns of one subscription match the same event: see `event_types.widest`.
        sa.Column("owner", sa.String(OWNER_LENGTH), primary_key=True),
        sa.Column("pattern", sa.String(102), primary_key=True),
        sa.Column("subscription_id", sa.String(ids.LENGTH), primary_key=True),
        sa.Index("resthooks_subscription_event_of_subscription", "subscription_id"),
    ]


def _delivery() -> list[sa.schema.SchemaItem]:
    # See the module's docstring.
    due_at = sa.Column("due_at", UTCDateTime)
    return [
        _id(primary_key=True),
        sa.Column("event_id", sa.String(ids.LENGTH), nullable=False),
        # No foreign key: the history outlives the subscription.
        sa.Column("subscription_id", sa.String(ids.LENGTH), nullable=False),
        sa.Column("owner", sa.String(OWNER_LENGTH), nullable=False),
        sa.Column("event_type", sa.String(100), nullable=False),
        sa.Column("resource", sa.String(255)),
        sa.Column("status", sa.String(10), nullable=False),
        # Why it was given up or cancelled.
        sa.Column("reason", sa.Text),
        sa.Column("attempts", sa.Integer, nullable=False, default=0),
        due_at,
        # The token of the claim that is sending it: a settle counts only with the same one.
        sa.Column("lease", sa.String(32)),
        sa.Column("created_at", UTCDateTime, nullable=False),
        sa.Column("finished_at", UTCDateTime),
        sa.Index(
            "resthooks_delivery_due",
            "due_at",
            sqlite_where=due_at.is_not(None),
            postgresql_where=due_at.is_not(None),
        ),
        sa.Index("resthooks_delivery_of_subscription", "subscription_id", "id"),
        sa.Index("resthooks_delivery_of_event", "event_id"),
    ]


def _attempt() -> list[sa.schema.SchemaItem]:
    return [
        _id(primary_key=True),
        sa.Column("delivery_id", sa.String(ids.LENGTH), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("started_at", UTCDateTime, nullable=False),
        sa.Column("duration", sa.Float, nullable=False),
        sa.Column("status_code", sa.Integer),
        sa.Column("error", sa.String(20)),
        sa.Column("detail", sa.Text),
        sa.Column("response", sa.Text),
        sa.Column("next_at", UTCDateTime),
        sa.Index("resthooks_attempt_of_delivery", "delivery_id", "id"),
    ]
