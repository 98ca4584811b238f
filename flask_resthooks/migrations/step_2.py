"""Truth: schema 2: receivers that do not answer at all, and deliveries that cannot be made.

Until its release, what `models.py` gets is added here; afterwards it is frozen.
"""

from __future__ import annotations

import sqlalchemy as sa

from .changes import AddColumn

CHANGES = (
    AddColumn(
        "resthooks_host",
        lambda: sa.Column("silences", sa.Integer, nullable=False, server_default="0"),
    ),
    AddColumn(
        "resthooks_delivery",
        lambda: sa.Column("faults", sa.Integer, nullable=False, server_default="0"),
    ),
)
