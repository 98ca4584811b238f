"""Secrets stand in no repr and no error, and nothing compares them but in constant time.

What the whole suite logs is searched by `log_guard`.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import logging
import pkgutil
import re
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import flask_resthooks
from flask_resthooks import formats, intents, models, own_headers, signing, vault
from flask_resthooks.composing import Composer
from flask_resthooks.database import Database
from flask_resthooks.errors import KeyMissing
from flask_resthooks.judging import Judge
from flask_resthooks.outbox import Claim
from flask_resthooks.settings import Settings
from flask_resthooks.texts import printable, without_secrets
from flask_resthooks.transport import Answer, Request

PACKAGE = Path(flask_resthooks.__file__).parent
HUSH = "swordfish-0123456789"
SECRETIVE = re.compile(
    r"secret|password|proxy|redis_url|encryption_key|^_?keys?$|^headers$|^_raw$|^body$|^content$"
)
HARMLESS = {
    # name and class: why.
    ("key", "Keyed"): "of a request, chosen by its caller to be told from others",
    ("key", "Representation"): "a record's",
    ("body", "Answer"): "a receiver's",
    ("body", "Opening"): "whether there is one",
    ("proxy_resolves", "Settings"): "whether it does",
}


def modules() -> Iterator[Any]:
    for found in pkgutil.walk_packages([str(PACKAGE)], "flask_resthooks."):
        if ".migrations.versions" not in found.name:
            try:
                yield importlib.import_module(found.name)
            except ImportError as error:  # an extra that is not installed
                assert "flask_resthooks" not in (error.name or "flask_resthooks"), error


def test_no_dataclass_shows_a_field_that_may_hold_a_secret() -> None:
    shown, hidden = set(), set()
    for module in modules():
        for cls in vars(module).values():
            if isinstance(cls, type) and dataclasses.is_dataclass(cls):
                for field in dataclasses.fields(cls):
                    if SECRETIVE.search(field.name):
                        found = (field.name, cls.__name__)
                        (shown if field.repr else hidden).add(found)
    assert shown - HARMLESS.keys() == set()
    assert {("secrets", "Claim"), ("headers", "Request"), ("secret", "Handshake")} <= hidden
    assert {("encryption_keys", "Settings"), ("proxy", "Settings")} <= hidden


def claim(**values: Any) -> Claim:
    event = formats.Event("evt_1", "contact.create", models.utcnow(), 1, '{"name":"Ada"}')
    given = {"secrets": (HUSH,), "headers": HUSH, "intent_secret": HUSH, **values}
    return Claim("dlv_1", "token", 1, event, "1", "sub_1", "https://a.example/", **given)


def test_what_holds_a_secret_does_not_show_it() -> None:
    key, secret, private = vault.make_key(), signing.new_secret(), signing.new_secret("v1a")
    settings = Settings(
        encryption_keys=(key,),
        redis_url=f"redis://u:{HUSH}@localhost/0",
        proxy=f"http://u:{HUSH}@localhost:3128",
    )
    kept = vault.Vault([key])
    holders = [
        claim(),
        Request("https://a.example/", {"authorization": HUSH}, HUSH.encode()),
        Answer(200, headers={"x-hook-secret": HUSH}),
        settings,
        intents.Handshake("sub_1", "https://a.example/", HUSH),
        intents.Opening(headers={"x-hook-secret": HUSH}),
        signing.signer(secret),
        signing.signer(private),
        kept,
        formats.Body(HUSH.encode()),
        Composer(settings, kept, None),
    ]
    for holder in holders:
        for said in (repr(holder), str(holder), f"{holder!r:>10}", repr([holder])):
            for hush in (HUSH, key, secret, private, secret[6:], private[5:]):
                assert hush not in said, type(holder)


class Loose(intents.Ping):
    """An app's own strategy, that says too much."""

    def opening(self, handshake: intents.Handshake) -> intents.Opening:
        raise ValueError(f"cannot ask with {handshake.secret}")

    def judge(self, handshake: Any, status: int, headers: Any) -> Any:
        try:
            raise KeyError(handshake.secret)
        except KeyError as error:
            raise RuntimeError("it is not understood") from error


SPILLS: dict[str, Callable[[vault.Vault], dict[str, Any]]] = {
    "a secret that is none": lambda kept: {"secrets": (HUSH,), "headers": None},
    "a sealed one that is none": lambda kept: {"secrets": (kept.seal(HUSH),), "headers": None},
    "headers that are none": lambda kept: {"headers": kept.seal(HUSH)},
    "headers that are no object": lambda kept: {"headers": f'["{HUSH}"]'},
    "headers that are damaged": lambda kept: {"headers": kept.seal(HUSH)[:-3]},
    "a format that there is not": lambda kept: {
        "format": HUSH,
        "headers": None,
        "secrets": (signing.new_secret(),),
        "intent_secret": HUSH,
    },
    "an opening": lambda kept: {
        "kind": "handshake",
        "headers": kept.seal(own_headers.dump({"x": HUSH})),
        "intent_secret": kept.seal(HUSH),
        "secrets": (kept.seal(signing.new_secret()),),
    },
    "an opening, of an app without keys": lambda kept: {
        "kind": "handshake",
        "headers": None,
        "intent_secret": HUSH,
    },
}


@pytest.mark.parametrize("spill", SPILLS)
def test_what_goes_wrong_with_a_request_says_no_secret(spill: str) -> None:
    kept = vault.Vault([vault.make_key()])
    composer = Composer(Settings(), kept, Loose())
    with pytest.raises(Exception) as e:
        composer.request(claim(**SPILLS[spill](kept)), {}, timestamp=1, start_before=0.0)
    said = "".join(traceback.format_exception(e.value))
    assert HUSH not in said and HUSH not in repr(e.value)
    assert str(e.value)


def test_a_missing_key_is_still_told_as_one() -> None:
    sealed = vault.Vault([vault.make_key()]).seal(HUSH)
    with pytest.raises(KeyMissing, match="RESTHOOKS_ENCRYPTION_KEYS"):
        Composer(Settings(), vault.Vault(), None).request(
            claim(secrets=(sealed,), headers=None), {}, timestamp=1, start_before=0.0
        )


def test_a_strategy_that_says_too_much_of_an_answer_is_logged_without_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    handshake = intents.Handshake("sub_1", "https://a.example/", HUSH)
    judge = Judge(Settings(), Loose(), lambda claim: handshake)
    outcome = judge.outcome(claim(kind="handshake"), Answer(200), models.utcnow(), 0.0)
    assert outcome.reason == "its intent cannot be judged"
    [record] = caplog.records
    whole = logging.Formatter().format(record)
    assert HUSH not in whole
    # What is wrong, and where, is still there.
    assert "RuntimeError at " in whole and "test_secrets_kept.py:" in whole


def test_an_error_without_a_secret_is_logged_as_it_is() -> None:
    error = ValueError("of no importance")
    assert without_secrets(error, [HUSH, "", None]) is error
    told = without_secrets(ValueError(f"it was {HUSH}"), [HUSH])
    assert str(told) == "ValueError; its message holds a secret"


def test_what_is_not_to_be_seen_is_shown_as_a_question_mark() -> None:
    assert printable("Zoë 1") == "Zoë 1"
    assert printable("a\r\nb\0\x1b[31m\u2028\ud800\u202e") == "a??b??[31m???"


def test_what_a_database_refuses_is_told_without_its_parameters() -> None:
    """A receiver's answer, which is kept, may repeat the headers that it was sent."""
    engine = sa.create_engine("sqlite://")
    refused = pytest.raises(sa.exc.IntegrityError, match="NOT NULL")
    with refused as e, Database(engine).transaction() as connection:
        connection.execute(sa.text("CREATE TABLE t (a TEXT, b TEXT NOT NULL)"))
        connection.execute(sa.text("INSERT INTO t (a) VALUES (:a)"), {"a": HUSH})
    engine.dispose()
    assert HUSH not in "".join(traceback.format_exception(e.value))
    assert "INSERT INTO t" in str(e.value)


# Comparisons.

_SECRET_NAME = re.compile(r"secret|signature|password|token|digest|hmac|fernet", re.IGNORECASE)


def comparisons(source: str) -> Iterator[str]:
    """Every `==` and `!=` of what sounds like a secret."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Compare):
            continue
        if not any(isinstance(operator, ast.Eq | ast.NotEq) for operator in node.ops):
            continue
        sides = [node.left, *node.comparators]
        # A constant is no secret; an empty one asks whether there is any.
        if any(isinstance(side, ast.Constant) for side in sides):
            continue
        parts = [part for side in sides for part in ast.walk(side)]
        words = [getattr(part, name, "") for part in parts for name in ("id", "attr", "value")]
        if any(isinstance(word, str) and _SECRET_NAME.search(word) for word in words):
            yield ast.unparse(node)


def test_no_secret_is_compared_in_a_time_that_tells_how_much_of_it_is_right() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}: {text}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for text in comparisons(path.read_text())
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "given == secret",
        "row['intent_secret'] != given",
        "self._token == other",
        "hmac.new(key, body).hexdigest() == request.headers['x']",
        "given == table.c.secret",
    ],
)
def test_such_a_comparison_would_be_found(source: str) -> None:
    assert list(comparisons(source))


def test_what_is_compared_in_constant_time_is_what_callers_send() -> None:
    """The three ways in: a signature, the secret of a handshake, and its confirmation."""
    calls = {
        f"{path.relative_to(PACKAGE)}"
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "hmac.compare_digest"
    }
    assert calls == {"intents.py", "signing.py"}
    confirmation = (PACKAGE / "api" / "confirmation.py").read_text()
    assert "intents.same(" in confirmation
