"""The examples in the OpenAPI document."""

from __future__ import annotations

from typing import Any

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="

SUBSCRIPTION: dict[str, Any] = {
    "id": "sub_01936f8b2c4e5f6a7b8c9d0e1f2a3b4c",
    "target_url": "https://hooks.example.com/crm",
    "events": ["contact.create", "contact.update"],
    "status": "active",
    "active": True,
    "description": "Keeps the newsletter's list up to date.",
    "metadata": {"team": "marketing"},
    "format": "standard",
    "payload": "full",
    "signature": "v1",
    "header_names": ["Authorization"],
    "rate": None,
    "expires_at": None,
    "expiry_notice": False,
    "confirm_until": None,
    "created_at": "2026-01-15T09:30:00Z",
    "updated_at": "2026-01-15T09:30:00Z",
    "disabled_reason": None,
}
CREATED = {**SUBSCRIPTION, "secret": SECRET}

CREATE: dict[str, Any] = {
    "one": {
        "summary": "One event type",
        "value": {"target_url": "https://hooks.example.com/crm", "event": "contact.create"},
    },
    "several": {
        "summary": "All events of a resource, until a date",
        "value": {
            "target_url": "https://hooks.example.com/crm",
            "events": ["contact.*"],
            "description": "Keeps the newsletter's list up to date.",
            "metadata": {"team": "marketing"},
            "headers": {"Authorization": "Bearer of-the-receivers-own"},
            "expires_at": "2099-12-31T23:59:59Z",
        },
    },
}
REPLACE: dict[str, Any] = {
    "url": {
        "summary": "Another URL, everything else as by default",
        "value": {"target_url": "https://hooks.example.com/v2/crm", "events": ["contact.*"]},
    }
}
CHANGE: dict[str, Any] = {
    "pause": {"summary": "Pause", "value": {"active": False}},
    "resume": {"summary": "Resume", "value": {"active": True}},
}

ROTATION: dict[str, Any] = {
    "soon": {"summary": "The former secret signs for an hour more", "value": {"overlap": 3600}},
    "now": {"summary": "It ends at once", "value": {"overlap": 0}},
}
PING: dict[str, Any] = {
    "ping": {"summary": "A hook resthooks.ping", "value": {}},
    "sample": {"summary": "The sample of an event type", "value": {"event": "contact.create"}},
}
RECOVER: dict[str, Any] = {
    "since": {"summary": "Since a time", "value": {"since": "2026-01-15T00:00:00Z"}}
}
RECOVERY: dict[str, Any] = {
    "id": "rec_01936f8b2c4e5f6a7b8c9d0e1f2a3b4c",
    "subscription_id": SUBSCRIPTION["id"],
    "status": "running",
    "since": "2026-01-15T00:00:00Z",
    "until": "2026-01-15T09:30:00Z",
    "examined": 1500,
    "released": 42,
    "created_at": "2026-01-15T09:30:00Z",
    "finished_at": None,
}
EVENT: dict[str, Any] = {
    "id": "evt_01936f8b2c4e5f6a7b8c9d0e1f2a3b4c",
    "type": "contact.update",
    "timestamp": "2026-01-15T09:30:00Z",
    "sequence": 42,
    "resource": "contact:17",
    "url": "https://crm.example.com/contacts/17",
    "data": {"id": 17, "name": "Ada Lovelace", "email": "ada@example.org"},
    "previous": {"email": "ada@example.com"},
}

DELIVERY: dict[str, Any] = {
    "id": "dlv_01936f8b2c4e5f6a7b8c9d0e1f2a3b4c",
    "kind": "event",
    "subscription_id": SUBSCRIPTION["id"],
    "event_id": "evt_01936f8b2c4e5f6a7b8c9d0e1f2a3b4c",
    "event_type": "contact.create",
    "resource": "contact:17",
    "status": "pending",
    "reason": None,
    "attempts": 1,
    "next_attempt_at": "2026-01-15T09:30:05Z",
    "created_at": "2026-01-15T09:30:00Z",
    "finished_at": None,
}

ATTEMPT: dict[str, Any] = {
    "id": "att_01936f8b2c4e5f6a7b8c9d0e1f2a3b4c",
    "number": 1,
    "started_at": "2026-01-15T09:30:00Z",
    "duration": 0.213,
    "status_code": 503,
    "error": None,
    "detail": "",
    "response": "Down for maintenance",
    "request_id": "8f14e45f-ceea-467f-a8b6-d4c1a51e2c6b",
    "next_attempt_at": "2026-01-15T09:30:05Z",
}

EVENT_TYPE: dict[str, Any] = {
    "name": "contact.create",
    "description": "A contact was created.",
    "version": "1",
    "deprecated": False,
    "payload": "full",
}

SAMPLE: dict[str, Any] = {
    "id": "evt_01936f8b2c4e5f6a7b8c9d0e1f2a3b4c",
    "type": "contact.create",
    "timestamp": "2026-01-15T09:30:00Z",
    "sequence": 0,
    "data": {"id": 17, "name": "Ada Lovelace"},
}

ERROR: dict[str, Any] = {
    "code": 422,
    "status": "Unprocessable Entity",
    "message": "What was sent is not valid; see errors.",
    "errors": {"target_url": ["the scheme 'http' is refused: only https is allowed"]},
    "error_code": "validation_error",
    "request_id": "req_2f1c8a7be0d94e0b8a54c6f3e1d7b9a0",
}


def page(entry: dict[str, Any]) -> dict[str, Any]:
    """A list's only page, with one entry."""
    return {"data": [entry], "next_cursor": None}


EVENT_TYPE_WITH_SCHEMA = {
    **EVENT_TYPE,
    "schema": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {"id": {"type": "integer"}, "name": {"type": "string"}},
    },
}
