"""Ground: secrets as the database keeps them: sealed with a key that the database does not have.

A sealed text is `fernet:`, a mark that tells which key it was, and a token of Fernet (AES-128 in
CBC mode and an HMAC-SHA256, of the package `cryptography`): `fernet:1b2c3d4e:gAAAAA…`. What was
stored before there were keys is plain, and opens as itself.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .errors import ConfigurationError, KeyMissing

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

PREFIX = "fernet:"
MARK_LENGTH = len(PREFIX) + 8
"""Characters that a sealed text begins with and that tell its key: `substr(stored, 1, 15)`."""

SETTING = "RESTHOOKS_ENCRYPTION_KEYS"

_KEY = re.compile(r"[A-Za-z0-9_-]{43}=")
_MARKED = re.compile(rf"{PREFIX}[0-9a-f]{{8}}(?=:|\Z)")


class Vault:
    """Seals with the first of its keys, and opens what was sealed with any of them.

    Without keys, nothing is sealed.

    :param keys: each 32 bytes in url-safe base64, as `make_key` makes them.
    :raises ConfigurationError: if one of them is no key; and with keys, if `cryptography` is not
        installed.
    """

    __slots__ = ("_current", "_fernets")

    def __init__(self, keys: Sequence[str] = ()) -> None:
        self._fernets: dict[str, Fernet] = {}
        self._current: str | None = None
        for mark, key in _marked(keys).items():
            self._fernets[mark] = _fernet(key)
            self._current = self._current or mark

    def __repr__(self) -> str:
        return f"<Vault, keys marked: {', '.join(self._fernets) or 'none'}>"

    @property
    def key_marks(self) -> frozenset[str]:
        """The marks of its keys, such as `fernet:1b2c3d4e`."""
        return frozenset(self._fernets)

    def seal(self, text: str) -> str:
        """A text for the database; the same text if there are no keys.

        :raises ValueError: without keys, for a text that begins like a sealed one: it could not be
            told from one. No secret does.
        """
        if self._current is None:
            if text.startswith(PREFIX):
                raise ValueError(f"a text that begins with {PREFIX!r} needs a key to be stored")
            return text
        token = self._fernets[self._current].encrypt(text.encode("utf-8", "surrogatepass"))
        return f"{self._current}:{token.decode()}"

    def open(self, sealed: str) -> str:
        """The text that `seal` was given.

        :raises KeyMissing: if its key is not there.
        :raises ConfigurationError: if it is damaged. Neither the message nor what it was raised
            from tells anything of the text, sealed or open.
        """
        if not sealed.startswith(PREFIX):
            return sealed
        mark = self.mark_of(sealed)
        if mark is None:
            raise ConfigurationError("a sealed secret is damaged: it does not tell its key")
        fernet = self._fernets.get(mark)
        if fernet is None:
            held = ", ".join(_short(mark) for mark in self._fernets) or "none"
            raise KeyMissing(
                f"a secret is sealed with the key marked {_short(mark)}, which is not there: "
                f"{SETTING} must hold it, at any place in the list (the keys that it holds are "
                f"marked: {held})"
            )
        text = _decrypted(fernet, sealed[MARK_LENGTH + 1 :])
        if text is None:
            raise ConfigurationError(
                f"a secret that is sealed with the key marked {_short(mark)} is damaged: it was "
                "cut short or changed since"
            )
        return text

    def seal_or_none(self, text: str | None) -> str | None:
        """`seal`, where there may be nothing to seal."""
        return None if text is None else self.seal(text)

    def open_or_none(self, sealed: str | None) -> str | None:
        """`open`, where there may be nothing to open."""
        return None if sealed is None else self.open(sealed)

    def is_current(self, sealed: str) -> bool:
        """Whether it is as `seal` would leave it: sealed with the first key, plain without keys."""
        if self._current is None:
            return not sealed.startswith(PREFIX)
        return self.mark_of(sealed) == self._current

    def reseal(self, sealed: str) -> str:
        """The same secret sealed with the first key; unchanged if it is so already.

        :raises ConfigurationError: as `open` does.
        """
        return sealed if self.is_current(sealed) else self.seal(self.open(sealed))

    @staticmethod
    def mark_of(stored: str) -> str | None:
        """The mark of what is sealed, `fernet:1b2c3d4e`, from as much of it as `MARK_LENGTH`; None
        if it is plain."""
        marked = _MARKED.match(stored)
        return marked[0] if marked else None


def make_key() -> str:
    """A new key for `RESTHOOKS_ENCRYPTION_KEYS`: 32 random bytes in url-safe base64."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def _marked(keys: Sequence[str]) -> dict[str, bytes]:
    """The bytes of the keys by their marks, in order."""
    marked: dict[str, bytes] = {}
    for position, key in enumerate(keys, 1):
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise ConfigurationError(
                f"{SETTING}: key {position} of {len(keys)} is not 32 bytes in url-safe base64 (44 "
                'characters). Make one: python3 -c "from flask_resthooks.vault import make_key; '
                'print(make_key())"'
            )
        raw = base64.urlsafe_b64decode(key)
        if marked.setdefault(_mark(raw), raw) != raw:
            raise ConfigurationError(
                f"{SETTING}: key {position} of {len(keys)} has by chance the same mark as one "
                "before it; make another"
            )
    return marked


def _mark(key: bytes) -> str:
    return PREFIX + hashlib.sha256(key).hexdigest()[:8]


def _short(mark: str) -> str:
    return mark.removeprefix(PREFIX)


def _fernet(key: bytes) -> Fernet:
    try:
        from cryptography.fernet import Fernet
    except ImportError:
        raise ConfigurationError(
            f"{SETTING} needs the extra: pip install 'flask_resthooks[crypto]'"
        ) from None
    return Fernet(base64.urlsafe_b64encode(key))


def _decrypted(fernet: Fernet, token: str) -> str | None:
    """None if it is damaged. Nothing is raised: the errors of decoding carry what they decode."""
    from cryptography.fernet import InvalidToken

    try:
        return fernet.decrypt(token.encode()).decode("utf-8", "surrogatepass")
    except (InvalidToken, UnicodeError):
        return None
