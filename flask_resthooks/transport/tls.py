"""Ground: TLS by the name of the receiver, whoever makes the connection."""

from __future__ import annotations

import ssl
import threading

import certifi
from urllib3.util.ssl_ import create_urllib3_context


class Contexts:
    """The one context of a transport.

    :param ca_file: certificates to trust instead of those that requests trusts.
    """

    def __init__(self, ca_file: str | None = None) -> None:
        self._ca_file = ca_file
        self._lock = threading.Lock()
        self._made: ssl.SSLContext | None = None

    def get(self) -> ssl.SSLContext:
        """Made once, at the first https URL: reading the certificates takes some time."""
        with self._lock:
            if self._made is None:
                context = create_urllib3_context()
                context.load_verify_locations(self._ca_file or certifi.where())
                context.set_alpn_protocols(["http/1.1"])
                self._made = context
            return self._made
