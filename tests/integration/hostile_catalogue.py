"""The catalogue of hostile receivers: what each does, and what must be recorded of it.

A raw socket server each. They run in a process of their own (`hostile_servers`), so that what the
test measures of its own process is the sender's alone.
"""

from __future__ import annotations

import base64
import gzip
import re
from dataclasses import dataclass
from typing import Literal

from tests.integration.hostile_players import (
    GIGABYTE,
    TOO_LARGE,
    at_once,
    closes_in_the_handshake,
    drip,
    drips_in_the_handshake,
    flood,
    half_close,
    never_reads,
    reads_slowly,
    refuses_to_read,
    repeat,
    reset,
    says,
    speaks_plainly,
    stalls_in_the_handshake,
    wait,
)
from tests.integration.receivers import Handler

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
# 256 MiB of zeros, as `brotli` writes them.
BROTLI_BOMB = base64.b64decode(
    "z///f/gnAOKxQCD3/p/////wTwDEYQGA7v0/////4Z8AiMMiAN37f/7//8M/ARCHBQC69//8//+HfwIgDgsAdO//+f//D/8E"
    "QBwWAOje//P//x/+CYA4LADQvf/n//8//BMAcVgAoHv/z///f/gnAOKwAED3/p/////wTwDEYQGA7v0/////4Z8AiMMCAN37"
    "f/7//8M/ARCHBQC69//8//+HfwIgDgsAdO//+f//D/8EQBwWAOje//P//x/+CYA4LADQvf/P//9//BMAcVgAoHv/Dw=="
)

TLS = Literal["", "good", "wrong name", "expired", "self-signed", "unknown"]


@dataclass(frozen=True)
class Case:
    """
    :param status, error: of the attempt.
    :param detail: a regular expression for the whole of its detail.
    :param waits: the attempt lasts until its time is over.
    :param https: it is called as https; `tls` is what it speaks itself.
    :param body: of the request, if it is to be a long one.
    :param response: what is kept of the answer's body.
    """

    name: str
    serve: Handler
    status: int | None
    error: str | None = None
    detail: str = ""
    waits: bool = False
    https: bool = False
    tls: TLS = ""
    body: bytes = b"{}"
    response: bytes | None = None

    @property
    def host(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-") + ".example"


def sized(status: str, body: bytes, *fields: bytes) -> bytes:
    lines = b"".join(line + b"\r\n" for line in (b"Content-Length: %d" % len(body), *fields))
    return b"HTTP/1.1 " + status.encode() + b"\r\n" + lines + b"\r\n" + body


def fields(count: int) -> bytes:
    return b"".join(b"%04x:\r\n" % number for number in range(count))


OK = sized("200 OK", b"ok")
CONTROLS = (
    bytes(range(32)) + b"\x1b[2J\x1b]0;gone\x07\x7f\xc2\x9b31m\xe2\x80\xae" + b"\r\nINFO forged"
)
NOT_UTF8 = b"\xff\xfe\xc3\x28\xed\xa0\x80\xf5ok"
SCRIPT = b"<html><script>alert(document.cookie)</script>\"'</html>"

TIMEOUT = "the attempt took longer than [0-9.]+ seconds"
NOT_HTTP = "the answer is not HTTP: "
TOO_LONG = NOT_HTTP + "its head is too long: it goes on with .+"
IN_HEAD = "the connection was closed amid the answer's head"
IN_BODY = "the connection was closed amid the answer's body"


def begins(text: str) -> str:
    return NOT_HTTP + re.escape(f"it begins with {text}")


def length(text: str) -> str:
    return NOT_HTTP + re.escape(f"its Content-Length is {text}")


def chunk(text: str) -> str:
    return NOT_HTTP + re.escape(f"a chunk of its body begins with {text}")


SLOW = [
    Case("drips its head", says(then=drip(HEAD)), None, "timeout", TIMEOUT, waits=True),
    Case(
        "drips its body",
        says(HEAD + b"Content-Length: 900\r\n\r\n", then=drip(b"x")),
        *(200, "timeout", TIMEOUT, True),
    ),
    Case(
        "drips a body without a length",
        says(HEAD + b"\r\n", then=drip(b"x")),
        *(200, "timeout", TIMEOUT, True),
    ),
    Case("never answers", says(then=wait), None, "timeout", TIMEOUT, waits=True),
    Case("never reads", never_reads, None, "timeout", TIMEOUT, waits=True, body=b"x" * 20_000_000),
    Case(
        "reads slowly", reads_slowly, None, "timeout", TIMEOUT, waits=True, body=b"x" * 20_000_000
    ),
    Case(
        "headers without end, slowly",
        says(HEAD, then=repeat(b"a: b\r\n", 0.01)),
        *(None, "timeout", TIMEOUT, True),
    ),
    Case(
        "1xx for ever, slowly",
        says(then=repeat(b"HTTP/1.1 102 Processing\r\n\r\n", 0.01)),
        *(None, "timeout", TIMEOUT, True),
    ),
    Case(
        "chunks without end, slowly",
        says(CHUNKED, then=repeat(b"1\r\nx\r\n", 0.01)),
        *(200, "timeout", TIMEOUT, True),
    ),
    Case(
        "trailers without end, slowly",
        says(CHUNKED + b"0\r\n", then=repeat(b"a: b\r\n", 0.01)),
        *(200, "timeout", TIMEOUT, True),
    ),
    Case(
        "stops amid its body",
        says(HEAD + b"Content-Length: 10\r\n\r\nok", then=wait),
        *(200, "timeout", TIMEOUT, True),
    ),
    Case(
        "stalls in the TLS handshake",
        stalls_in_the_handshake,
        *(None, "timeout", TIMEOUT, True, True),
    ),
    Case(
        "drips in the TLS handshake",
        drips_in_the_handshake,
        *(None, "timeout", TIMEOUT, True, True),
    ),
]

LONG = [
    Case(
        "a body of 1 GB",
        says(HEAD + b"Content-Length: %d\r\n\r\n" % GIGABYTE, then=flood(b"x")),
        200,
        response=b"x" * 1024,
    ),
    Case(
        "a body of 1 GB without a length",
        says(HEAD + b"\r\n", then=flood(b"x")),
        200,
        response=b"x" * 1024,
    ),
    Case(
        "a gzip bomb",
        says(sized("200 OK", gzip.compress(bytes(20_000_000), mtime=0), b"Content-Encoding: gzip")),
        200,
        response=gzip.compress(bytes(20_000_000), mtime=0)[:1024],
    ),
    Case(
        "a brotli bomb",
        says(sized("200 OK", BROTLI_BOMB, b"Content-Encoding: br"), then=wait),
        200,
        response=BROTLI_BOMB,
    ),
    Case(
        "gzip as transfer coding",
        says(HEAD + b"Transfer-Encoding: gzip\r\n\r\n" + gzip.compress(bytes(500), mtime=0)),
        200,
        response=gzip.compress(bytes(500), mtime=0),
    ),
    Case(
        "headers without end",
        says(HEAD, then=flood(b"x-header: value\r\n")),
        *(None, "protocol", TOO_LONG),
    ),
    Case(
        "a header of 100 MB",
        says(HEAD + b"x-header: ", then=flood(b"x", 100_000_000)),
        *(None, "protocol", TOO_LONG),
    ),
    Case(
        "10,000 headers",
        says(HEAD + fields(10_000).replace(b":", b": value") + b"\r\n", then=wait),
        *(None, "protocol", TOO_LONG),
    ),
    Case(
        "9,000 headers that fit",
        says(HEAD + b"Content-Length: 2\r\n" + fields(9_000) + b"\r\nok", then=wait),
        200,
        response=b"ok",
    ),
    Case("chunks without end", says(CHUNKED, then=flood(b"1\r\nx\r\n")), 200, response=b"x" * 1024),
    Case(
        "a chunk extension without end",
        says(CHUNKED + b"1;", then=flood(b"x")),
        *(200, "protocol", NOT_HTTP + "the first line of a chunk is too long: .+"),
    ),
    Case(
        "extensions of every chunk",
        says(CHUNKED, then=flood(b"1;" + b"x" * 4000 + b"\r\nx\r\n")),
        200,
        response=b"x" * 1024,
    ),
    Case(
        "trailers without end",
        says(CHUNKED + b"2\r\nok\r\n0\r\n", then=flood(b"a: b\r\n")),
        *(200, "protocol", NOT_HTTP + "what comes after its body is too long: .+"),
        response=b"ok",
    ),
    Case(
        "a chunk of 16 EiB",
        says(CHUNKED + b"ffffffffffffffff\r\n", then=flood(b"x")),
        200,
        response=b"x" * 1024,
    ),
    Case(
        "a chunk of more digits than there are",
        says(CHUNKED + b"f" * 17 + b"\r\n", then=wait),
        *(200, "protocol", chunk(repr("f" * 17 + "\r\n"))),
    ),
    Case(
        "1xx for ever",
        says(then=flood(b"HTTP/1.1 100 Continue\r\n\r\n")),
        *(None, "protocol", f"{TOO_LONG}|{begins('')}.+"),
    ),
]

EARLY = [
    Case("answers before reading and closes", refuses_to_read, 413),
    Case("answers before reading and stays", at_once(TOO_LARGE, wait), 413),
    Case("answers twice", says(OK + OK, then=wait), 200, response=b"ok"),
    Case(
        "redirects to itself",
        says(sized("302 Found", b"", b"Location: /"), then=wait),
        302,
    ),
    Case(
        "redirects to itself with the method kept",
        says(sized("308 Permanent Redirect", b"", b"Location: /"), then=wait),
        308,
    ),
]

NOT = [
    Case("HTTP/0.9", says(b"<html>\nhello</html>\n"), None, "protocol", begins(r"'<html>\n'")),
    Case(
        "SSH",
        says(b"SSH-2.0-OpenSSH_9.9\r\n"),
        None,
        "protocol",
        begins(r"'SSH-2.0-OpenSSH_9.9\r\n'"),
    ),
    Case("no status", says(b"HTTP/1.1\r\n\r\n"), None, "protocol", begins(r"'HTTP/1.1\r\n'")),
    Case(
        "a status that is no number",
        says(b"HTTP/1.1 abc OK\r\n\r\n"),
        *(None, "protocol", begins(r"'HTTP/1.1 abc OK\r\n'")),
    ),
    Case(
        "status 000",
        says(b"HTTP/1.1 000 OK\r\n\r\n"),
        None,
        "protocol",
        begins(r"'HTTP/1.1 000 OK\r\n'"),
    ),
    Case(
        "a NUL in the status",
        says(b"HTTP/1.1 2\x0000 OK\r\n\r\n"),
        *(None, "protocol", begins(r"'HTTP/1.1 2\x0000 OK\r\n'")),
    ),
    Case("HTTP/2", says(b"HTTP/2 200\r\n\r\n"), None, "protocol", begins(r"'HTTP/2 200\r\n'")),
    Case(
        "escapes for the terminal",
        says(b"\x1b]0;gone\x07\x1b[2J\r\n"),
        *(None, "protocol", begins(r"'\x1b]0;gone\x07\x1b[2J\r\n'")),
    ),
    Case(
        "a NUL in a header",
        says(HEAD + b"a: \0\r\nb\0: c\r\nContent-Length: 2\r\n\r\nok"),
        200,
        response=b"ok",
    ),
    Case(
        "two lengths in two lines",
        says(HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok"),
        200,
        response=b"ok",
    ),
    Case(
        "two lengths in one line",
        says(HEAD + b"Content-Length: 2, 3\r\n\r\nok"),
        *(200, "protocol", length("'2, 3'")),
    ),
    Case(
        "a negative length",
        says(HEAD + b"Content-Length: -1\r\n\r\nok"),
        *(200, "protocol", length("'-1'")),
    ),
    Case(
        "a NUL in the length",
        says(HEAD + b"Content-Length: 2\0\r\n\r\nok"),
        *(200, "protocol", length(r"'2\x00'")),
    ),
    Case(
        "a length and chunks",
        says(HEAD + b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        200,
        response=b"ok",
    ),
    Case(
        "a chunk size that is none",
        says(CHUNKED + b"zz\r\nok\r\n"),
        *(200, "protocol", chunk(r"'zz\r\n'")),
    ),
    Case(
        "a negative chunk size",
        says(CHUNKED + b"-1\r\nok\r\n"),
        *(200, "protocol", chunk(r"'-1\r\n'")),
    ),
    Case(
        "a chunk that is longer than it says",
        says(CHUNKED + b"2\r\nokay\r\n0\r\n\r\n"),
        *(200, "protocol", NOT_HTTP + "a chunk of its body is followed by 'ay'"),
        response=b"ok",
    ),
]

CLOSED = [
    Case(
        "closes at once", says(), None, "connection", "the connection was closed without an answer"
    ),
    Case("resets at once", says(then=reset), None, "connection", "Connection reset by peer"),
    Case("closes amid its head", says(HEAD + b"Content-Le"), None, "connection", IN_HEAD),
    Case(
        "closes its half amid its head",
        says(HEAD + b"Co", then=half_close),
        None,
        "connection",
        IN_HEAD,
    ),
    Case(
        "closes amid its body",
        says(HEAD + b"Content-Length: 10\r\n\r\nok"),
        *(200, "connection", IN_BODY),
    ),
    Case("closes amid a chunk", says(CHUNKED + b"5\r\nok"), 200, "connection", IN_BODY),
    Case(
        "closes its half amid a chunk",
        says(CHUNKED + b"5\r\nok", then=half_close),
        200,
        "connection",
        IN_BODY,
    ),
]

OF_TLS = [
    Case(
        "a certificate of another name",
        says(OK),
        *(None, "tls", "the certificate is refused: Hostname mismatch, .*'a-certificate-of-.+"),
        https=True,
        tls="wrong name",
    ),
    Case(
        "an expired certificate",
        says(OK),
        *(None, "tls", "the certificate is refused: certificate has expired"),
        https=True,
        tls="expired",
    ),
    Case(
        "a self-signed certificate",
        says(OK),
        *(None, "tls", "the certificate is refused: self.signed certificate"),
        https=True,
        tls="self-signed",
    ),
    Case(
        "a certificate of an unknown authority",
        says(OK),
        *(None, "tls", "the certificate is refused: unable to get local issuer certificate"),
        https=True,
        tls="unknown",
    ),
    Case(
        "plain HTTP at a TLS port",
        speaks_plainly,
        *(None, "tls", "TLS failed: (wrong version number|record layer failure)"),
        https=True,
    ),
    Case(
        "closes in the TLS handshake",
        closes_in_the_handshake,
        *(None, "tls", "TLS failed: unexpected eof while reading"),
        https=True,
    ),
    Case(
        "answers twice over TLS",
        says(OK + OK, then=wait),
        200,
        https=True,
        tls="good",
        response=b"ok",
    ),
    Case(
        "closes amid its body over TLS",
        says(HEAD + b"Content-Length: 10\r\n\r\nok"),
        *(200, "connection", IN_BODY),
        https=True,
        tls="good",
    ),
]

TEXTS = [
    Case("control characters", says(sized("500 No", CONTROLS)), 500, response=CONTROLS),
    Case("invalid UTF-8", says(sized("500 No", NOT_UTF8)), 500, response=NOT_UTF8),
    Case(
        "HTML and script",
        says(sized("500 No", SCRIPT, b"Content-Type: text/html")),
        500,
        response=SCRIPT,
    ),
    Case(
        "control characters in headers",
        says(
            sized(
                "500 No\x1b[2J",
                b"",
                *(n + b": \x1b[2J\x00" for n in (b"X-Request-Id", b"Location")),
            )
        ),
        500,
    ),
]

CASES = [*SLOW, *LONG, *EARLY, *NOT, *CLOSED, *OF_TLS, *TEXTS]
