"""Truth: schema 1, the tables of the first release.

Frozen: it says what there was, not what there is (that is `models.py`), and names nothing of it.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from .changes import AddTable


def _time(name: str, **options: Any) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), **options)


def _number() -> Any:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


def _event() -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("sequence", _number(), primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(36), nullable=False, unique=True),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("type", sa.String(100), nullable=False),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("resource", sa.String(255)),
        sa.Column("url", sa.Text),
        _time("created_at", nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("previous", sa.Text),
        _time("fanned_out_at"),
        sa.Column("position", _number()),
        sa.Index("resthooks_event_not_fanned_out", "sequence", **_where("fanned_out_at IS NULL")),
        sa.Index("resthooks_event_of_owner", "owner", "id"),
        sa.Index("resthooks_event_log", "owner", "position"),
    ]


def _subscription() -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("target_url", sa.String(2048), nullable=False),
        sa.Column("host", sa.String(300), nullable=False),
        sa.Column("events", sa.JSON, nullable=False),
        sa.Column("status", sa.String(10), nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("format", sa.String(20), nullable=False),
        sa.Column("payload", sa.String(10), nullable=False),
        sa.Column("signature", sa.String(10), nullable=False),
        sa.Column("secret", sa.Text, nullable=False),
        sa.Column("former_secrets", sa.JSON, nullable=False),
        sa.Column("headers", sa.Text),
        sa.Column("header_names", sa.JSON, nullable=False),
        _time("expires_at"),
        sa.Column("expiry_notice", sa.Boolean, nullable=False),
        sa.Column("disabled_reason", sa.Text),
        _time("confirmed_at"),
        sa.Column("intent_id", sa.String(36)),
        sa.Column("intent_secret", sa.Text),
        _time("intent_until"),
        sa.Column("intent_tries", sa.Integer, nullable=False),
        sa.Column("rate", sa.Float),
        _time("booked_until"),
        _time("turn_at"),
        _time("failing_since"),
        _time("failed_at"),
        _time("created_at", nullable=False),
        _time("updated_at", nullable=False),
        sa.Index("resthooks_subscription_of_owner", "owner", "id"),
        sa.Index(
            "resthooks_subscription_expiring",
            "expires_at",
            **_where("expires_at IS NOT NULL AND status IN ('active', 'pending')"),
        ),
    ]


def _subscription_event() -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("owner", sa.String(255), primary_key=True),
        sa.Column("pattern", sa.String(102), primary_key=True),
        sa.Column("subscription_id", sa.String(36), primary_key=True),
        sa.Index("resthooks_subscription_event_of_subscription", "subscription_id"),
    ]


def _delivery() -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("event_id", sa.String(36), nullable=False),
        sa.Column("subscription_id", sa.String(36), nullable=False),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("event_type", sa.String(100), nullable=False),
        sa.Column("resource", sa.String(255)),
        sa.Column("status", sa.String(10), nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("attempts_before", sa.Integer, nullable=False),
        _time("due_at"),
        sa.Column("booked", sa.Boolean, nullable=False),
        sa.Column("lease", sa.String(32)),
        _time("created_at", nullable=False),
        _time("finished_at"),
        sa.Index("resthooks_delivery_due", "due_at", **_where("due_at IS NOT NULL")),
        sa.Index(
            "resthooks_delivery_waiting",
            "subscription_id",
            "due_at",
            **_where("due_at IS NOT NULL"),
        ),
        sa.Index("resthooks_delivery_of_subscription", "subscription_id", "id"),
        sa.Index(
            "resthooks_delivery_failed", "subscription_id", "id", **_where("status = 'failed'")
        ),
        sa.Index("resthooks_delivery_of_event", "event_id", "subscription_id", unique=True),
    ]


def _attempt() -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("delivery_id", sa.String(36), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        _time("started_at", nullable=False),
        sa.Column("duration", sa.Float, nullable=False),
        sa.Column("status_code", sa.Integer),
        sa.Column("error", sa.String(20)),
        sa.Column("detail", sa.Text),
        sa.Column("response", sa.Text),
        sa.Column("request_id", sa.String(128)),
        _time("next_at"),
        sa.Index("resthooks_attempt_of_delivery", "delivery_id", "id"),
    ]


def _log() -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("last_position", _number(), nullable=False),
    ]


def _host() -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("host", sa.String(300), primary_key=True),
        _time("turn_at", nullable=False),
        sa.Column("strikes", sa.Integer, nullable=False),
    ]


def _recovery() -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("subscription_id", sa.String(36), nullable=False),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("status", sa.String(10), nullable=False),
        _time("since", nullable=False),
        _time("until", nullable=False),
        sa.Column("cursor", sa.String(36), nullable=False),
        sa.Column("examined", sa.Integer, nullable=False),
        sa.Column("released", sa.Integer, nullable=False),
        _time("due_at"),
        sa.Column("pause", sa.Float, nullable=False),
        _time("created_at", nullable=False),
        _time("finished_at"),
        sa.Index("resthooks_recovery_due", "due_at", **_where("due_at IS NOT NULL")),
        sa.Index("resthooks_recovery_of_subscription", "subscription_id", "id"),
    ]


def _answer() -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("owner", sa.String(255), primary_key=True),
        sa.Column("key", sa.String(255), primary_key=True),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("status_code", sa.Integer, nullable=False),
        sa.Column("headers", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        _time("created_at", nullable=False),
        sa.Index("ix_resthooks_answer_created_at", "created_at"),
    ]


CHANGES = (
    # Numbers are not used again when the newest rows are removed.
    AddTable("resthooks_event", _event, {"sqlite_autoincrement": True}),
    AddTable("resthooks_subscription", _subscription),
    AddTable("resthooks_subscription_event", _subscription_event),
    AddTable("resthooks_delivery", _delivery),
    AddTable("resthooks_attempt", _attempt),
    AddTable("resthooks_log", _log),
    AddTable("resthooks_host", _host),
    AddTable("resthooks_recovery", _recovery),
    AddTable("resthooks_answer", _answer),
)
