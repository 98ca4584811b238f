"""What the schemas have in common."""

from __future__ import annotations

from typing import Any

SUBSCRIPTION_STATUSES = ("pending", "active", "inactive", "disabled", "expired")
RECOVERY_STATUSES = ("pending", "running", "done", "cancelled")
DELIVERY_STATUSES = ("pending", "sending", "delivered", "failed", "cancelled")

MAX_PATTERN = 102
"""Characters of an event type, or of a pattern."""


def described(description: str, **more: Any) -> dict[str, Any]:
    """A field's `metadata`: its part of the OpenAPI document."""
    return {"description": description, **more}
