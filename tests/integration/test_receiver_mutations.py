"""Ten thousand hooks of which something was changed: none gets in, and each is refused alike."""

from __future__ import annotations

import base64
import io
import itertools
import json
import random
import string
from collections.abc import Callable
from typing import Any

import flask
import pytest
from test_receiver import NOW, PRIVATE, PUBLIC, SECRET, hook
from werkzeug.test import EnvironBuilder

from flask_resthooks import signing
from flask_resthooks.errors import SignatureError
from flask_resthooks.receiver import Event, HookRefused, MemoryReplayStore, receive
from flask_resthooks.receiver.events import FORMATS

COUNT = 10_000
SEED = 20_260_115

ID, TIMESTAMP, SIGNATURE = "HTTP_WEBHOOK_ID", "HTTP_WEBHOOK_TIMESTAMP", "HTTP_WEBHOOK_SIGNATURE"
SIGNED_HEADERS = (ID, TIMESTAMP, SIGNATURE)
UNSIGNED_HEADERS = (
    "CONTENT_TYPE",
    "HTTP_X_HOOK_EVENT",
    "HTTP_X_HOOK_FORMAT",
    "HTTP_X_HOOK_SECRET",
    "HTTP_X_HOOK_SEQUENCE",
    "HTTP_X_HOOK_SIGNATURE",
    "HTTP_X_HOOK_TEST",
    "HTTP_USER_AGENT",
    "HTTP_CONTENT_ENCODING",
    "HTTP_ACCEPT_CHARSET",
)

Environ = dict[str, Any]

# What a WSGI server can bring is Latin-1; some bring more.
ODD = [
    "",
    " ",
    ",",
    "v1",
    "v1,",
    "v1a,",
    "v1,v1,",
    "v2,x",
    "None",
    "null",
    "0",
    "-1",
    "+5",
    " 5",
    "5.0",
    "1e9",
    "1_0",
    "nan",
    "inf",
    "1" * 30,
    "9" * 5000,
    "0" * 20 + "1",
    "0x1f",
    str(NOW) + ".0",
    "0" + str(NOW),
    str(NOW) + " ",
    " " + str(NOW),
    "-" + str(NOW),
    str(NOW * 1000),
    "".join(chr(0xFF10 + int(digit)) for digit in str(NOW)),
    "".join(chr(0x660 + int(digit)) for digit in str(NOW)),
    "²",
    "é",
    "\x00",
    "\x7f",
    "\xa0",
    "\xff" * 40,
    "\ud800",
    "\udcff",
    "\u2028",
    "a\r\nb",
    "\t",
    "../../etc/passwd",
    "' or 1=1 --",
    "%00",
    "{}",
    "evt_1.5",
    "standard",
    "bare",
    "resthooks.ping",
    "resthooks.handshake",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/json; charset=utf-16",
    "v1," * 5000,
    "v1,\xe9 " * 500,
]

BODIES: list[Callable[[random.Random, bytes], bytes]] = [
    lambda rng, body: b"",
    lambda rng, body: body + b" ",
    lambda rng, body: b" " + body,
    lambda rng, body: b"\xef\xbb\xbf" + body,
    lambda rng, body: body[: rng.randrange(len(body))],
    lambda rng, body: body * 2,
    lambda rng, body: bytes(reversed(body)),
    lambda rng, body: body.decode().encode("utf-16"),
    lambda rng, body: json.dumps(json.loads(body), indent=rng.choice([None, 1])).encode() + b"\n",
    lambda rng, body: body.replace(b"Ada", b"Eve"),
    lambda rng, body: body.replace(b"17", b"18"),
    lambda rng, body: body.replace(b"evt_", b"evt-") + b" " * (b"evt_" not in body),
    lambda rng, body: rng.randbytes(rng.randrange(1, 200)),
    lambda rng, body: b"[" * 10_000 + b"]" * 10_000,
    lambda rng, body: b"9" * 10_000,
    lambda rng, body: rng.choice([b"NaN", b"1e999", b'"\\ud800"', b'"\xff"', b"null", b"{}"]),
    lambda rng, body: body + b"A" * 100_000,
    lambda rng, body: _bit_flipped(rng, body),
    lambda rng, body: _byte_replaced(rng, body),
    lambda rng, body: _cut_out(rng, body),
]


def _bit_flipped(rng: random.Random, body: bytes) -> bytes:
    place = rng.randrange(len(body))
    return body[:place] + bytes([body[place] ^ 1 << rng.randrange(8)]) + body[place + 1 :]


def _byte_replaced(rng: random.Random, body: bytes) -> bytes:
    place = rng.randrange(len(body))
    other = (body[place] + rng.randrange(1, 256)) % 256
    return body[:place] + bytes([other]) + body[place + 1 :]


def _cut_out(rng: random.Random, body: bytes) -> bytes:
    start = rng.randrange(len(body))
    return body[:start] + body[start + rng.randrange(1, 20) :]


def _character_changed(rng: random.Random, value: str) -> str:
    place = rng.randrange(len(value))
    alphabet = string.ascii_letters + string.digits + "+/=,. _-" + "".join(ODD[-30:-20]) + "\xff"
    other = rng.choice([char for char in alphabet if char != value[place]])
    return value[:place] + other + value[place + 1 :]


def _header_changed(rng: random.Random, environ: Environ) -> None:
    """One of the three that are signed or sign: gone, or with another value."""
    name = rng.choice(SIGNED_HEADERS)
    value = environ[name]
    how = rng.randrange(6)
    if how == 0:
        del environ[name]
        return
    if how == 1:
        changed = rng.choice(ODD)
    elif how == 2:
        changed = value[: rng.randrange(len(value))]
    elif how == 3:
        changed = rng.choice(["0", " ", "\t", "+", "x", "\xa0"]) + value
    elif how == 4 and name != SIGNATURE:
        changed = value + rng.choice([" ", "\n", "0", ".0", "," + value, ", " + value, "\x00"])
    else:
        changed = _character_changed(rng, value)
    environ[name] = changed


def _time_changed(rng: random.Random, environ: Environ) -> None:
    """Another time, or the same hook too late: signed, but not now."""
    off = rng.choice([-1, 1]) * rng.choice([1, 60, 299, 301, 3600, 10**6, 10**9])
    environ[TIMESTAMP] = str(max(0, NOW + off))


def _signature_changed(rng: random.Random, environ: Environ) -> None:
    """A signature in another form, of another key, or of other content."""
    right = environ[SIGNATURE]
    version, _, encoded = right.partition(",")
    raw = base64.b64decode(encoded)
    body = environ["wsgi.input"].getvalue()
    other_keys = [signing.new_secret(), signing.new_secret("v1a")]
    other = rng.choice(other_keys)
    kept = SECRET if version == "v1" else PRIVATE
    changed = rng.choice(
        [
            encoded,
            f"{version.upper()},{encoded}",
            f"v2,{encoded}",
            f"{'v1a' if version == 'v1' else 'v1'},{encoded}",
            f"{version};{encoded}",
            f"{version}, {encoded}",
            f"{version},{raw.hex()}",
            f"{version},{encoded.rstrip('=')}",
            f"{version},{encoded}=",
            f"{version},{encoded[:-3]}{_next(encoded[-3])}==",
            f"{version},{base64.urlsafe_b64encode(raw + b'?').decode()}",
            f"{version},{base64.b64encode(raw[::-1]).decode()}",
            f"{version},{base64.b64encode(raw[:-1]).decode()}",
            f"{version},{base64.b64encode(bytes(len(raw))).decode()}",
            f"{version},{base64.b64encode(rng.randbytes(len(raw))).decode()}",
            signing.signer(other).sign(environ[ID], NOW, body),
            signing.signer(kept).sign(environ[ID], NOW, body + rng.randbytes(8)),
            signing.signer(kept).sign(environ[ID], NOW + 7, body),
            signing.signer(kept).sign("evt_another", NOW, body),
            signing.signer(kept).sign("", NOW, body),
            " ".join(["v1," + "A" * 43 + "="] * signing.MAX_SIGNATURES + [right]),
        ]
    )
    environ[SIGNATURE] = changed


def _next(character: str) -> str:
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
    return alphabet[(alphabet.index(character) + 1) % 64]


def _body_changed(rng: random.Random, environ: Environ) -> None:
    before = environ["wsgi.input"].getvalue()
    after = rng.choice(BODIES)(rng, before)
    environ["wsgi.input"] = io.BytesIO(after)
    environ["CONTENT_LENGTH"] = str(len(after))


def _length_changed(rng: random.Random, environ: Environ) -> None:
    """The server reads another number of bytes, or is told none."""
    length = int(environ["CONTENT_LENGTH"])
    environ["CONTENT_LENGTH"] = rng.choice(
        [str(rng.randrange(length)), str(length + 1), "-1", "x", "", "9" * 30, "0"]
    )


def _parts_moved(rng: random.Random, environ: Environ) -> None:
    """The same bytes are signed, divided in another way."""
    body = environ["wsgi.input"].getvalue()
    where = rng.randrange(3)
    if where == 0:
        environ[ID] += f".{NOW}"
    elif where == 1:
        environ[TIMESTAMP] = f"{NOW}.{body[:5].decode('latin-1')}"
        environ["wsgi.input"] = io.BytesIO(body[5:])
        environ["CONTENT_LENGTH"] = str(len(body) - 5)
    else:
        environ[ID], environ[TIMESTAMP] = "evt", f"1.{NOW}"


def _format_contradicted(rng: random.Random, environ: Environ) -> None:
    """A header, which is not signed, calls the body something else."""
    right = environ["HTTP_X_HOOK_FORMAT"]
    environ["HTTP_X_HOOK_FORMAT"] = rng.choice([name for name in FORMATS if name != right])


MUTATIONS: list[Callable[[random.Random, Environ], None]] = [
    _header_changed,
    _header_changed,
    _time_changed,
    _signature_changed,
    _signature_changed,
    _body_changed,
    _body_changed,
    _length_changed,
    _parts_moved,
    _format_contradicted,
]


def _unsigned_changed(rng: random.Random, environ: Environ) -> None:
    for name in rng.sample(UNSIGNED_HEADERS, rng.randrange(4)):
        if rng.random() < 0.3:
            environ.pop(name, None)
        else:
            environ[name] = rng.choice([*ODD, *FORMATS])


def originals() -> list[Environ]:
    """Genuine hooks of every format and kind of signature."""
    handshake = {"type": "resthooks.handshake", "kind": "handshake", "X_Hook_Secret": "t0ken"}
    variants: list[dict[str, str]] = [{}, {"type": "contact.create"}, handshake]
    variants.append({"type": "resthooks.ping", "kind": "ping"})
    return [
        EnvironBuilder(
            path="/crm",
            method="POST",
            **hook(secret=secret, format=format, id=f"evt_{number}", **variant),
        ).get_environ()
        for number, (secret, format, variant) in enumerate(
            itertools.product((SECRET, PRIVATE), FORMATS, variants)
        )
    ]


@pytest.fixture
def receiver() -> tuple[Callable[[Environ], tuple[int, dict[str, str]]], list[Event], list[Any]]:
    app = flask.Flask(__name__)
    app.testing = True  # any other exception comes out of the app, and fails the test
    accepted: list[Event] = []
    errors: list[Any] = []

    @app.post("/crm")
    @receive(
        [SECRET, PUBLIC],
        replay=MemoryReplayStore(),
        pings=True,
        max_bytes=50_000,
        clock=lambda: float(NOW),
    )
    def crm(event: Event) -> None:
        accepted.append(event)

    @app.errorhandler(Exception)
    def handle(error: Exception) -> Any:
        errors.append(error)
        if isinstance(error, HookRefused):
            return error
        raise error

    def send(environ: Environ) -> tuple[int, dict[str, str]]:
        answer: list[Any] = []
        # What a server does, and no more: ten thousand are to take seconds.
        app.wsgi_app(environ, lambda status, headers, error=None: answer.extend((status, headers)))
        status, headers = answer
        return int(status.split(" ")[0]), dict(headers)

    return send, accepted, errors


def copied(environ: Environ) -> Environ:
    return {**environ, "wsgi.input": io.BytesIO(environ["wsgi.input"].getvalue())}


def test_what_is_mutated_is_accepted_before(receiver: Any) -> None:
    send, accepted, errors = receiver
    answers = [send(copied(environ)) for environ in originals()]
    echoed = [headers for _, headers in answers if headers.get("X-Hook-Secret") == "t0ken"]
    assert errors == []
    assert {status for status, _ in answers} == {200, 204}
    assert (len(answers), len(accepted), len(echoed)) == (32, 24, 8)


def test_of_ten_thousand_mutated_hooks_none_is_accepted_and_each_is_refused_alike(
    receiver: Any,
) -> None:
    send, accepted, errors = receiver
    rng = random.Random(SEED)
    genuine = originals()
    for number in range(COUNT):
        original = rng.choice(genuine)
        environ = copied(original)
        _unsigned_changed(rng, environ)
        environ["HTTP_X_HOOK_FORMAT"] = original["HTTP_X_HOOK_FORMAT"]
        mutations = rng.sample(MUTATIONS, rng.choice([1, 1, 1, 2, 3]))
        for mutate in mutations:
            try:
                mutate(rng, environ)
            except (LookupError, ValueError, RecursionError):
                continue  # an earlier one has taken away what this one changes
        if not is_changed(original, environ):
            environ[ID] = "evt_x"
        status, headers = send(environ)
        what = (number, [mutate.__name__ for mutate in mutations], environ)
        assert status in (400, 413), what
        assert "X-Hook-Secret" not in headers, what
        assert len(errors) == number + 1, what
        assert type(errors[-1]) is HookRefused and isinstance(errors[-1], SignatureError), what
    assert accepted == []


def is_changed(original: Environ, environ: Environ) -> bool:
    """Whether what is signed, or what it is said to be, is another: two mutations may undo each
    other, and some bytes may be what they were."""
    body, before = environ["wsgi.input"].getvalue(), original["wsgi.input"].getvalue()
    right = original[SIGNATURE]
    return (
        body != before
        or any(environ.get(name) != original[name] for name in (ID, TIMESTAMP, "CONTENT_LENGTH"))
        or right not in environ.get(SIGNATURE, "").split(" ")[: signing.MAX_SIGNATURES]
        or environ["HTTP_X_HOOK_FORMAT"] != original["HTTP_X_HOOK_FORMAT"]
    )


def test_a_header_that_is_not_signed_changes_nothing_that_is(receiver: Any) -> None:
    """Two thousand more: of a body that names its id, another event never comes."""
    send, accepted, errors = receiver
    rng = random.Random(SEED)
    genuine = [
        environ
        for environ in originals()
        if environ["HTTP_X_HOOK_FORMAT"] != "bare"
        and environ["HTTP_X_HOOK_EVENT"].startswith("contact.")
    ]
    for number in range(2_000):
        original = rng.choice(genuine)
        secret = SECRET if original[SIGNATURE].startswith("v1,") else PRIVATE
        variant = hook(
            secret=secret,
            id=f"evt_{number}",
            type=original["HTTP_X_HOOK_EVENT"],
            format=original["HTTP_X_HOOK_FORMAT"],
        )
        environ = EnvironBuilder(path="/crm", method="POST", **variant).get_environ()
        _unsigned_changed(rng, environ)
        status, headers = send(environ)
        assert "X-Hook-Secret" not in headers
        if status == 204:
            event = accepted.pop()
            assert (event.id, event.type) == (f"evt_{number}", original["HTTP_X_HOOK_EVENT"])
            assert (event.data, event.sequence) == ({"id": 17, "name": "Ada"}, 42)
        else:
            assert status == 400 and type(errors.pop()) is HookRefused
        assert accepted == [] and errors == []
