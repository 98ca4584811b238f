"""Truth: the tables.

Core tables on the app's own metadata, so that `db.create_all()` and Alembic see them. No mapped
classes: an app's declarative base may be anything (dataclasses, custom metaclasses), and the
pipeline works on sets of rows.

How the rows relate: an `event` is written by the app's own transaction; a fan-out makes one
`delivery` of it per matching `subscription`; each POST leaves an `attempt`. What is due is found
by `due_at` alone: it is NULL on a delivery that has come to its end, the time of the next attempt
on one that waits, and the end of the lease on one that is being sent. Beside them stand the `log`,
one row that numbers the events as they are fanned out; a `host` per receiver's host that asked for
slowness; a `recovery` per wish to get what was missed; and an `answer` per request with an
`Idempotency-Key`.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from . import ids
from .errors import AddressRefused, ConfigurationError
from .guard import urls
from .guard.ports import DEFAULT

UTC = dt.timezone.utc
OWNER_LENGTH = 255
URL_LENGTH = 2048
HOST_LENGTH = 300

EVENT, PING, HANDSHAKE, NOTICE = KINDS = ("event", "ping", "handshake", "notice")
"""Kinds of events and of deliveries: what an app's records did, what an owner asked for to test a
receiver, what asks a receiver whether it wants to be called, and the word that it is over."""

EXPIRING = ("active", "pending")
"""The statuses of a subscription that time makes `expired`."""


def utcnow() -> dt.datetime:
    """Now, aware, in UTC: the clock of everything that is given no other."""
    return dt.datetime.now(UTC)


class UTCDateTime(sa.types.TypeDecorator[dt.datetime]):
    """An aware time, in UTC, on every database.

    To a database it is a plain `sa.DateTime(timezone=True)`, and so it stands in revisions that
    Alembic's autogenerate writes: they need no import of ours. Alembic writes `sa.` and the type's
    `repr` for a type of SQLAlchemy's own, and tells that by the module of its class.
    """

    __module__ = "sqlalchemy.types"
    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def __repr__(self) -> str:
        return repr(self.impl)

    def __reduce__(self) -> tuple[Any, ...]:  # pickle looks where `__module__` says
        return _utc_date_time, ()

    def column_expression(self, column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        return _within_years(column)

    def process_bind_param(self, value: dt.datetime | None, dialect: Any) -> dt.datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def bind_processor(self, dialect: sa.Dialect) -> Any:
        """As SQLAlchemy's own, but SQLite's texts are written by Python, in a fifth of the time."""
        if dialect.name != "sqlite":
            return super().bind_processor(dialect)

        def text(value: dt.datetime | None) -> str | None:
            given = self.process_bind_param(value, dialect)
            return None if given is None else given.isoformat(" ", "microseconds")

        return text

    def process_result_value(self, value: dt.datetime | None, dialect: Any) -> dt.datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class _within_years(FunctionElement[dt.datetime]):
    """A time that Python knows, too: PostgreSQL's `infinity` is the year 9999."""

    inherit_cache = True

    def __init__(self, column: sa.ColumnElement[Any]) -> None:
        super().__init__(column)
        self.type = column.type


@compiles(_within_years)
def _clamped(element: _within_years, compiler: Any, **options: Any) -> str:
    column = compiler.process(element.clauses, **options)
    first, last = (f"timestamptz '{year}-01-01 00:00:00+00'" for year in ("0002", "9999"))
    return (
        f"CASE WHEN {column} > {last} THEN {last} WHEN {column} < {first} THEN {first} "
        f"ELSE {column} END"
    )


@compiles(_within_years, "sqlite")
def _as_it_is(element: _within_years, compiler: Any, **options: Any) -> str:
    return str(compiler.process(element.clauses, **options))


def _utc_date_time() -> UTCDateTime:
    return UTCDateTime()


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
    """The tables of one metadata."""

    event: sa.Table
    subscription: sa.Table
    subscription_event: sa.Table
    delivery: sa.Table
    attempt: sa.Table
    log: sa.Table
    host: sa.Table
    recovery: sa.Table
    answer: sa.Table


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
        log=_table(metadata, "resthooks_log", _log),
        host=_table(metadata, "resthooks_host", _host),
        recovery=_table(metadata, "resthooks_recovery", _recovery),
        answer=_table(metadata, "resthooks_answer", _answer),
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
        sa.Column("kind", sa.String(10), nullable=False, default=EVENT),
        sa.Column("type", sa.String(100), nullable=False),
        sa.Column("owner", sa.String(OWNER_LENGTH), nullable=False),
        # Identifies the record that it happened to: "contact:17"; NULL if none is known.
        sa.Column("resource", sa.String(255)),
        # Where that record can be fetched; NULL if nobody said.
        sa.Column("url", sa.Text),
        sa.Column("created_at", UTCDateTime, nullable=False),
        # JSON texts, made once by the transaction that the event tells of, and sent as they are.
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("previous", sa.Text),
        fanned_out_at,
        # Its place in the log of events, given after the commit: see `outbox/log.py`.
        sa.Column("position", number),
        _partial_index("resthooks_event_not_fanned_out", "sequence", where=fanned_out_at.is_(None)),
        sa.Index("resthooks_event_of_owner", "owner", "id"),
        sa.Index("resthooks_event_log", "owner", "position"),
    ]


def _subscription() -> list[sa.schema.SchemaItem]:
    status = sa.Column("status", sa.String(10), nullable=False)
    expires_at = sa.Column("expires_at", UTCDateTime)
    return [
        _id(primary_key=True),
        sa.Column("owner", sa.String(OWNER_LENGTH), nullable=False),
        sa.Column("target_url", sa.String(URL_LENGTH), nullable=False),
        # Name and port of the target.
        sa.Column("host", sa.String(HOST_LENGTH), nullable=False, default=_host_of_row),
        # As the owner gave them; `subscription_event` is what the fan-out looks up.
        sa.Column("events", sa.JSON, nullable=False),
        status,
        sa.Column("description", sa.Text, nullable=False, default=""),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("format", sa.String(20), nullable=False, default="standard"),
        sa.Column("payload", sa.String(10), nullable=False, default="full"),
        sa.Column("signature", sa.String(10), nullable=False, default="v1"),
        # Sealed (`vault.py`) if the app has encryption keys, like everything secret below.
        sa.Column("secret", sa.Text, nullable=False),
        # Rotated away, and signing still: [{"secret": …, "until": RFC 3339}], the newest first.
        sa.Column("former_secrets", sa.JSON, nullable=False, default=list),
        # The receiver's own headers: a JSON object's text; NULL if there are none.
        sa.Column("headers", sa.Text),
        sa.Column("header_names", sa.JSON, nullable=False, default=list),
        expires_at,
        sa.Column("expiry_notice", sa.Boolean, nullable=False, default=False),
        sa.Column("disabled_reason", sa.Text),
        # When the receiver showed its intent to get hooks at this very URL.
        sa.Column("confirmed_at", UTCDateTime),
        # Of the handshake that goes on.
        sa.Column("intent_id", sa.String(ids.LENGTH)),
        sa.Column("intent_secret", sa.Text),
        sa.Column("intent_until", UTCDateTime),
        sa.Column("intent_tries", sa.Integer, nullable=False, default=0),
        # Deliveries per minute that the receiver has granted; NULL: as many as there are.
        sa.Column("rate", sa.Float),
        # When the next turn can be, at that rate; those before are taken.
        sa.Column("booked_until", UTCDateTime),
        # Before that, nothing is sent: its receiver asked for it, by `Retry-After`.
        sa.Column("turn_at", UTCDateTime),
        # Since when every attempt has failed; NULL if the last one did not.
        sa.Column("failing_since", UTCDateTime),
        # When a delivery was given up, or all of it disabled; NULL after the next success.
        sa.Column("failed_at", UTCDateTime),
        sa.Column("created_at", UTCDateTime, nullable=False),
        sa.Column("updated_at", UTCDateTime, nullable=False),
        sa.Index("resthooks_subscription_of_owner", "owner", "id"),
        _partial_index(
            "resthooks_subscription_expiring",
            "expires_at",
            where=sa.and_(expires_at.is_not(None), status.in_(EXPIRING)),
        ),
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
    status = sa.Column("status", sa.String(10), nullable=False)
    return [
        _id(primary_key=True),
        sa.Column("kind", sa.String(10), nullable=False, default=EVENT),
        sa.Column("event_id", sa.String(ids.LENGTH), nullable=False),
        # No foreign key: the history outlives the subscription.
        sa.Column("subscription_id", sa.String(ids.LENGTH), nullable=False),
        sa.Column("owner", sa.String(OWNER_LENGTH), nullable=False),
        sa.Column("event_type", sa.String(100), nullable=False),
        sa.Column("resource", sa.String(255)),
        status,
        # Why it was given up or cancelled.
        sa.Column("reason", sa.Text),
        sa.Column("attempts", sa.Integer, nullable=False, default=0),
        # How many attempts there were when it was released again: the schedule began anew then.
        sa.Column("attempts_before", sa.Integer, nullable=False, default=0),
        # How often it could not be made into a request, by no fault of its receiver.
        sa.Column("faults", sa.Integer, nullable=False, server_default="0"),
        due_at,
        # Whether that is a turn which was booked for it, at its receiver's rate.
        sa.Column("booked", sa.Boolean, nullable=False, default=False),
        # The token of the claim that is sending it: a settle counts only with the same one.
        sa.Column("lease", sa.String(32)),
        sa.Column("created_at", UTCDateTime, nullable=False),
        sa.Column("finished_at", UTCDateTime),
        _partial_index("resthooks_delivery_due", "due_at", where=due_at.is_not(None)),
        _partial_index(
            "resthooks_delivery_waiting", "subscription_id", "due_at", where=due_at.is_not(None)
        ),
        sa.Index("resthooks_delivery_of_subscription", "subscription_id", "id"),
        _partial_index(
            "resthooks_delivery_failed", "subscription_id", "id", where=status == "failed"
        ),
        # A subscription gets an event once, whoever makes the delivery.
        sa.Index("resthooks_delivery_of_event", "event_id", "subscription_id", unique=True),
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
        # What the receiver calls it: its answer's `X-Request-Id`.
        sa.Column("request_id", sa.String(128)),
        sa.Column("next_at", UTCDateTime),
        sa.Index("resthooks_attempt_of_delivery", "delivery_id", "id"),
    ]


def _log() -> list[sa.schema.SchemaItem]:
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return [
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        # Of all events that were given one. Its row is locked by whoever gives more, until these
        # are committed: so they become visible in their order.
        sa.Column("last_position", number, nullable=False),
    ]


def _host() -> list[sa.schema.SchemaItem]:
    return [
        # Name and port of a receiver that has answered 429, 502 or 504, or not at all.
        sa.Column("host", sa.String(HOST_LENGTH), primary_key=True),
        # Before that, nothing is sent to it.
        sa.Column("turn_at", UTCDateTime, nullable=False),
        # How often it has answered so without a success in between.
        sa.Column("strikes", sa.Integer, nullable=False),
        # How often no answer came of it at all, without any answer in between.
        sa.Column("silences", sa.Integer, nullable=False, server_default="0"),
    ]


def _recovery() -> list[sa.schema.SchemaItem]:
    # When its next step is due; NULL when it has come to its end.
    due_at = sa.Column("due_at", UTCDateTime)
    return [
        _id(primary_key=True),
        sa.Column("subscription_id", sa.String(ids.LENGTH), nullable=False),
        sa.Column("owner", sa.String(OWNER_LENGTH), nullable=False),
        sa.Column("status", sa.String(10), nullable=False),
        # What happened from `since` to `until` is looked at.
        sa.Column("since", UTCDateTime, nullable=False),
        sa.Column("until", UTCDateTime, nullable=False),
        # Whatever event has this id or a smaller one was looked at.
        sa.Column("cursor", sa.String(ids.LENGTH), nullable=False),
        sa.Column("examined", sa.Integer, nullable=False, default=0),
        sa.Column("released", sa.Integer, nullable=False, default=0),
        due_at,
        # Seconds that the last wait for the receiver took.
        sa.Column("pause", sa.Float, nullable=False, default=0.0),
        sa.Column("created_at", UTCDateTime, nullable=False),
        sa.Column("finished_at", UTCDateTime),
        _partial_index("resthooks_recovery_due", "due_at", where=due_at.is_not(None)),
        sa.Index("resthooks_recovery_of_subscription", "subscription_id", "id"),
    ]


def _answer() -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("owner", sa.String(OWNER_LENGTH), primary_key=True),
        # The request's `Idempotency-Key`.
        sa.Column("key", sa.String(255), primary_key=True),
        # Of method, path and body.
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("status_code", sa.Integer, nullable=False),
        # A JSON object's text.
        sa.Column("headers", sa.Text, nullable=False),
        # As it was sent; sealed, for it may hold a secret.
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("created_at", UTCDateTime, nullable=False),
        # Named here: the app's metadata may have a convention for names, without one for indexes.
        sa.Index("ix_resthooks_answer_created_at", "created_at"),
    ]


def host_of(url: str) -> str:
    """Name and port of a target, in the guard's one form: `hooks.example.com:443`.

    By the parser that the connection goes by: one host in many spellings would have many shares.
    """
    try:
        target, _ = urls.parse(url, DEFAULT)
    except AddressRefused:  # it is refused at each attempt
        return url[:HOST_LENGTH]
    return f"{target.host}:{target.port}"[:HOST_LENGTH]


def _host_of_row(context: Any) -> str:
    return host_of(context.get_current_parameters()["target_url"])


def _partial_index(name: str, *columns: str, where: sa.ColumnElement[bool]) -> sa.Index:
    return sa.Index(name, *columns, sqlite_where=where, postgresql_where=where)
