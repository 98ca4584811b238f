"""REST Hooks for Flask: every commit that touches a tracked record sends signed webhooks."""

from __future__ import annotations

__version__ = "0.1.0"
