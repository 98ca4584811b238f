"""Ground: takes a URL apart, once.

Grammar alone: who may be called is judged by those who ask. It is the only parser on the way: what
it finds is checked, resolved, connected to and sent, and no library reads the URL again.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import quote

from ..errors import AddressRefused
from .networks import Address
from .ports import DEFAULT

MAX_URL_LENGTH = 8192
MAX_HOST_LENGTH = 253

# IDNA 2003 (the codec of the standard library) and IDNA 2008 (browsers, resolvers of today) send
# these letters to different hosts.
_AMBIGUOUS_IN_IDNA = re.compile("[\u00df\u03c2\u200c\u200d]")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^#]*)(?:#.*)?", re.DOTALL)
_AUTHORITY = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([0-9]{0,6}))?")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")
# What RFC 3986 lets stand in a path and a query, and "%", which is taken as it comes.
_URL_CHARACTERS = "%/?:@!$&'()*+,;=-._~[]"
# Control, format, surrogate, private and unassigned characters.
_INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Cn")
# Format characters that names may hold; IDNA judges them.
_JOINERS = "\u200c\u200d"


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that was taken apart once: what was checked is what is connected to.

    `url` is normalised (scheme and host in lower case, host as ASCII or as the canonical form of
    an address, no default port, no fragment, never without a path), `host` has no brackets.
    """

    url: str
    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """The value of the `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT[self.scheme] else f"{host}:{self.port}"

    @property
    def path(self) -> str:
        """Path and query: what stands in the request line."""
        return self.url[len(self.scheme) + 3 + len(self.authority) :]


def parse(url: str, schemes: Collection[str]) -> tuple[Target, Address | None]:
    """Take a URL apart.

    :param schemes: those that are allowed, of `ports.DEFAULT`.
    :returns: the target, and the address if its host is one, in whatever form.
    :raises AddressRefused: if it is no URL, has another scheme, or carries a user.
    """
    if not isinstance(url, str):
        raise AddressRefused(f"the URL must be a string, not {type(url).__name__}")
    if len(url) > MAX_URL_LENGTH:
        raise AddressRefused(f"the URL is longer than {MAX_URL_LENGTH} characters")
    for character in url:
        if character == "\\" or character.isspace() or not _is_visible(character):
            raise AddressRefused(
                f"the URL contains {character!r}: whitespace, control characters and "
                "backslashes must be percent-encoded"
            )
    parts = _URL.fullmatch(url)
    if parts is None:
        raise AddressRefused("this is no absolute URL: it must look like https://host/path")
    scheme, authority, path = parts[1].lower(), parts[2], parts[3]
    if scheme not in schemes:
        allowed = " and ".join(schemes) + (" are" if len(schemes) > 1 else " is")
        raise AddressRefused(f"the scheme {scheme!r} is refused: only {allowed} allowed")
    if "@" in authority:
        raise AddressRefused(
            "the URL carries a user name or password: only host and port are allowed before "
            "the path"
        )
    split = _AUTHORITY.fullmatch(authority)
    if split is None:
        raise AddressRefused(
            f"{authority!r} is no host: a name, an address or an IPv6 address in brackets is "
            "allowed, and a port of digits"
        )
    host = _host(split[1])
    port = int(split[2]) if split[2] else DEFAULT[scheme]
    bare = Target("", scheme, str(host), port)
    slash = "" if path.startswith("/") else "/"
    whole = f"{scheme}://{bare.authority}{slash}{quote(path, safe=_URL_CHARACTERS)}"
    return Target(whole, scheme, str(host), port), None if isinstance(host, str) else host


def _is_visible(character: str) -> bool:
    return character in _JOINERS or unicodedata.category(character) not in _INVISIBLE


def _host(text: str) -> str | Address:
    """The host in the one form that it is resolved or connected in."""
    if text.startswith("["):
        return _literal_v6(text[1:-1])
    if "%" in text:
        raise AddressRefused(
            f"the host {text!r} is percent-encoded: only plain names and addresses are allowed"
        )
    # Full-width digits and the other dots come out as ASCII here, before anything is judged.
    name = unicodedata.normalize("NFKC", text).replace("\u3002", ".").lower()
    name = name.removesuffix(".")
    if not name:
        raise AddressRefused("the URL has no host: a name or an address is needed")
    if not name.isascii():
        name = _idna(name)
    if len(name) > MAX_HOST_LENGTH:
        raise AddressRefused(f"the host is longer than {MAX_HOST_LENGTH} characters")
    labels = name.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise AddressRefused(
            f"{name!r} is no host name: labels of at most 63 letters, digits and hyphens, "
            "separated by dots, are allowed"
        )
    if not _NUMBER.fullmatch(labels[-1]):
        return name
    address = _inet_aton(labels)
    if address is None:
        raise AddressRefused(f"{name!r} ends in a number but is no IPv4 address")
    return address


def _literal_v6(text: str) -> IPv6Address:
    if "%" in text:
        raise AddressRefused(f"[{text}] names a zone of this machine")
    try:
        return IPv6Address(text)
    except ValueError:
        raise AddressRefused(f"[{text}] is no IPv6 address") from None


def _idna(name: str) -> str:
    if _AMBIGUOUS_IN_IDNA.search(name):
        raise AddressRefused(
            f"the host {name!r} holds a letter that standards read differently: only its ASCII "
            "form (xn--…) is allowed"
        )
    try:
        return name.encode("idna").decode("ascii").lower()
    except UnicodeError:
        raise AddressRefused(
            f"{name!r} is no host name: only names that IDNA can write in ASCII are allowed"
        ) from None


def _inet_aton(labels: list[str]) -> IPv4Address | None:
    """An IPv4 address in any of the forms that `inet_aton` and browsers read, or None.

    One to four numbers, decimal, octal (leading 0) or hexadecimal (leading 0x); the last one
    fills the bytes that are left ("127.1", "2130706433", "0x7f.0.1").
    """
    if len(labels) > 4 or not all(_NUMBER.fullmatch(label) for label in labels):
        return None
    try:
        *leading, last = map(_number, labels)
    except ValueError:  # an octal number with an 8 or a 9
        return None
    if any(number > 255 for number in leading) or last >= 256 ** (4 - len(leading)):
        return None
    value = last
    for position, number in enumerate(leading):
        value += number << (8 * (3 - position))
    return IPv4Address(value)


def _number(text: str) -> int:
    if text.startswith("0x"):
        return int(text[2:] or "0", 16)
    return int(text, 8 if text[0] == "0" else 10)
