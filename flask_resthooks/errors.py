"""Ground: what can go wrong, by name."""

from __future__ import annotations


class RESTHooksError(Exception):
    """Base of everything that flask_resthooks raises."""


class ConfigurationError(RESTHooksError, ValueError):
    """A setting or a registration is wrong; the message names it and says what is allowed."""


class KeyMissing(ConfigurationError):
    """A secret is sealed with a key that `RESTHOOKS_ENCRYPTION_KEYS` lacks; it says with which."""


class SchemaMismatch(ConfigurationError):
    """The database's tables are not those of this version; it says what to run."""


class UnknownEventType(RESTHooksError, KeyError):
    """An event type was used that nobody registered; the message lists those that exist."""

    __str__ = Exception.__str__  # KeyError's shows the message in quotes


class CaptureError(RESTHooksError):
    """An event could not be made from a record; the transaction must not be committed without."""


class SignatureError(RESTHooksError):
    """A hook's signature headers are missing, malformed, too old or wrong."""


class AddressRefused(RESTHooksError):
    """A target URL or address may not be called; the message says why.

    :param reason: the message, for whoever gave the URL. It tells nothing of the network inside.
    :param detail: for the operator's log: with the address that a name stands for, and the networks
        that are allowed. By default, the reason is all there is to say.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail or reason
