"""Ground: what can go wrong, by name."""

from __future__ import annotations


class RESTHooksError(Exception):
    """Base of everything that flask_resthooks raises."""


class AddressRefused(RESTHooksError):
    """A target URL or address may not be called; the message says why and what is allowed."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
