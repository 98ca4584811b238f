"""Ground: from what an attempt ran into to the `Answer` that tells of it.

What an owner reads in `detail` is ours, or the receiver's own beginning in quotes: no address of
our network, no header that was sent, no control character.
"""

from __future__ import annotations

import errno
import logging
import re
import ssl
import time
from collections.abc import Mapping

from ..errors import AddressRefused
from ..texts import printable
from . import KEPT_HEADERS, MAX_DETAIL, Answer, Error, http1

log = logging.getLogger(__name__)

_NO_LETTER_OR_DIGIT = re.compile(r"[^0-9A-Za-z]+")
# What a header's value can be (RFC 9110, section 5.5).
_CONTROL = re.compile(r"[^\t\x20-\x7e\x80-\xff]")


STALE = (
    ConnectionResetError,
    ConnectionAbortedError,
    BrokenPipeError,
    ssl.SSLEOFError,
    ssl.SSLZeroReturnError,
)
"""What a connection that had gone stale while it idled answers with."""

STALE_LIMIT = 0.1
"""Seconds after a request's sending in which a stale connection fails; whoever fails later has read
it, and may have worked on it."""

_SCARCE = frozenset({errno.EMFILE, errno.ENFILE})


class Failed(Exception):
    """An attempt failed for a reason that is known where it is raised."""

    def __init__(self, word: Error, detail: str) -> None:
        super().__init__(detail)
        self.word = word
        self.detail = detail


def lacks_descriptors(failure: Exception) -> bool:
    """Whether this process, or this machine, has no file descriptor left: no fault of a
    receiver's."""
    return isinstance(failure, OSError) and failure.errno in _SCARCE


def without_descriptors() -> Failed:
    """What it means that there was still none when room had been made: it is given back."""
    return Failed("not_started", "this process has too many files open; nothing was sent")


def answer(
    response: http1.Response | None,
    failure: Exception | None,
    start: float,
    *,
    sent: Mapping[str, str],
    response_limit: int,
) -> Answer:
    """The answer of an attempt that has come to its end.

    :param response: as far as it has come; None if nothing was sent.
    :param failure: what ended the attempt before its time.
    :param start: the `time.monotonic()` of its start.
    :param sent: the headers of the request: no part of their values is shown.
    """
    status: int | None = None
    headers: Mapping[str, str] = {}
    body = b""
    if response is not None and response.understood:
        status = response.status
        body = bytes(response.body[:response_limit])
        headers = {
            name: value
            for name, value in response.fields.items()
            if name in KEPT_HEADERS and not _CONTROL.search(value)
        }
    duration = time.monotonic() - start
    if failure is None:
        return Answer(status, None, "", body, headers, duration)
    word, detail = _describe(failure)
    if word == "protocol" and _repeats(detail, sent):
        detail = "the answer is not HTTP: it repeats what was sent"
    shown = printable(detail[:MAX_DETAIL])
    return Answer(status, word, shown, body, headers, duration, word != "not_started")


def late() -> Answer:
    """Of an attempt whose turn came too late."""
    return Answer(
        status=None,
        error="not_started",
        detail="its time was over before its turn came; nothing was sent",
        started=False,
    )


def _repeats(detail: str, headers: Mapping[str, str]) -> bool:
    """Whether a part of a header's value is in the beginning of an answer that is not HTTP.

    Letters and digits are compared, and eight of them are a part: `detail` has been cut and quoted.
    """
    said = _NO_LETTER_OR_DIGIT.sub("", detail)
    for value in headers.values():
        sent = _NO_LETTER_OR_DIGIT.sub("", value)
        size = min(len(sent), 8)
        if size >= 4 and any(sent[i : i + size] in said for i in range(len(sent) - size + 1)):
            return True
    return False


def _describe(failure: Exception) -> tuple[Error, str]:
    """The word for a failure, and what to tell people of it."""
    detail = str(failure) or type(failure).__name__
    if isinstance(failure, Failed):
        return failure.word, failure.detail
    if isinstance(failure, AddressRefused):
        log.warning("a hook was not sent: %s", failure.detail)
        return "address_refused", failure.reason
    if isinstance(failure, ssl.SSLCertVerificationError):
        return "tls", f"the certificate is refused: {failure.verify_message or detail}"
    if isinstance(failure, (ssl.SSLError, ssl.CertificateError)):
        # Without the place in OpenSSL's source, which changes from version to version.
        reason = getattr(failure, "reason", None)
        return "tls", f"TLS failed: {reason.replace('_', ' ').lower()}" if reason else detail
    if isinstance(failure, TimeoutError):
        return "timeout", detail
    if isinstance(failure, OSError):
        return "connection", failure.strerror or detail
    if isinstance(failure, http1.NotHTTP):
        return "protocol", f"the answer is not HTTP: {detail}"
    log.error("an attempt failed for a reason of our own", exc_info=failure)
    return "internal", f"{type(failure).__name__}: {failure}"
