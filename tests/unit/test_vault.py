from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_resthooks import signing, vault
from flask_resthooks.errors import ConfigurationError
from flask_resthooks.vault import MARK_LENGTH, Vault, make_key

OLD, NEW, OTHER = (base64.urlsafe_b64encode(bytes([n]) * 32).decode() for n in (1, 2, 3))
SECRET = "whsec_aHVudGVyMi1odW50ZXIyLWh1bnRlcjItaHVudGVyMg=="
TEXTS = st.text(st.characters(codec=None), max_size=60)  # surrogates included
OPEN = Vault()


def mark(key: str) -> str:
    return "fernet:" + hashlib.sha256(base64.urlsafe_b64decode(key)).hexdigest()[:8]


def everything_told_by(error: BaseException | None) -> str:
    """Messages, arguments and attributes of an error and of all that it was raised from."""
    told = []
    while error is not None:
        told += [*traceback.format_exception_only(error), repr(error.args), repr(vars(error))]
        told += [repr(getattr(error, name, None)) for name in ("object", "doc", "__notes__")]
        error = error.__cause__ or error.__context__
    return "".join(told)


# There and back.

NOT_BY_CHANCE = 8
"""Characters of a text that stand in 140 random ones less than once in a trillion times."""


@given(TEXTS)
@settings(max_examples=300)
def test_what_is_sealed_opens_as_it_was_and_does_not_show(text: str) -> None:
    safe = Vault([OLD])
    sealed = safe.seal(text)
    assert safe.open(sealed) == text
    assert re.fullmatch(r"fernet:[0-9a-f]{8}:[A-Za-z0-9_=-]+", sealed)
    assert len(text) < NOT_BY_CHANCE or text not in sealed
    assert safe.seal(text) != sealed


@given(TEXTS)
def test_without_keys_everything_stays_as_it_is_unless_it_looks_sealed(text: str) -> None:
    if not text.startswith("fernet:"):
        assert OPEN.seal(text) == text
        assert OPEN.open(text) == text
        assert OPEN.reseal(text) == text
        assert OPEN.is_current(text)
        assert Vault.mark_of(text) is None


@given(TEXTS.filter(lambda text: not text.startswith("fernet:")))
def test_what_was_stored_before_there_were_keys_opens_and_can_be_sealed(text: str) -> None:
    safe = Vault([OLD])
    assert safe.open(text) == text
    assert not safe.is_current(text)
    sealed = safe.reseal(text)
    assert sealed != text and safe.is_current(sealed)
    assert safe.open(sealed) == text


def test_nothing_is_nothing() -> None:
    safe = Vault([OLD])
    assert safe.seal_or_none(None) is None
    assert safe.open_or_none(None) is None
    sealed = safe.seal_or_none(SECRET)
    assert sealed is not None and sealed != SECRET
    assert safe.open_or_none(sealed) == SECRET
    assert safe.open(safe.seal("")) == ""


@pytest.mark.parametrize("text", ["fernet:", "fernet:x", "fernet:01234567:gAAAAA"])
def test_a_text_that_looks_sealed_is_sealed_or_refused(text: str) -> None:
    safe = Vault([OLD])
    assert safe.open(safe.seal(text)) == text
    with pytest.raises(ValueError, match="needs a key") as raised:
        OPEN.seal(text)
    assert text == "fernet:" or text not in everything_told_by(raised.value)


def test_what_is_sealed_twice_is_opened_twice() -> None:
    safe = Vault([OLD])
    sealed = safe.seal(SECRET)
    assert safe.open(safe.seal(sealed)) == sealed


def test_the_token_is_fernets_own() -> None:
    sealed = Vault([OLD]).seal(SECRET)
    assert Fernet(OLD).decrypt(sealed.split(":")[2]) == SECRET.encode()


# Marks, and rotation.


def test_a_mark_is_what_a_sealed_text_begins_with() -> None:
    sealed = Vault([OLD]).seal(SECRET)
    assert sealed[:MARK_LENGTH] == Vault.mark_of(sealed) == mark(OLD)
    assert Vault.mark_of(sealed[:MARK_LENGTH]) == mark(OLD)
    assert Vault([NEW, OLD]).key_marks == {mark(OLD), mark(NEW)}
    assert OPEN.key_marks == frozenset()
    assert MARK_LENGTH == 15


@pytest.mark.parametrize(
    "stored",
    ["", SECRET, "fernet", "fernet:", "fernet:0123456", "fernet:0123456g:x", "fernet:012345678:x",
     "fernet:0123456A:x", " fernet:01234567:x", "FERNET:01234567:x", "fernet:01234567\n"],
)  # fmt: skip
def test_what_has_no_mark_has_none(stored: str) -> None:
    assert Vault.mark_of(stored) is None


def test_each_key_opens_what_it_sealed_and_the_first_one_seals() -> None:
    by_old, by_new = Vault([OLD]).seal(SECRET), Vault([NEW]).seal(SECRET)
    for keys in ([NEW, OLD], [OLD, NEW], [OTHER, NEW, OLD]):
        safe = Vault(keys)
        assert safe.open(by_old) == safe.open(by_new) == SECRET
        assert Vault.mark_of(safe.seal(SECRET)) == mark(keys[0])


def test_what_is_sealed_anew_needs_the_former_key_no_more() -> None:
    by_old = Vault([OLD]).seal(SECRET)
    rotating = Vault([NEW, OLD])
    assert not rotating.is_current(by_old)
    by_new = rotating.reseal(by_old)
    assert Vault([NEW]).open(by_new) == SECRET
    assert rotating.is_current(by_new)
    assert rotating.reseal(by_new) == by_new
    with pytest.raises(ConfigurationError):
        Vault([NEW]).reseal(by_old)


@given(st.lists(st.sampled_from([OLD, NEW, OTHER]), max_size=5), st.sampled_from([OLD, NEW]))
def test_a_secret_opens_if_and_only_if_its_key_is_there(keys: list[str], key: str) -> None:
    safe, sealed = Vault(keys), Vault([key]).seal(SECRET)
    assert (Vault.mark_of(sealed) in safe.key_marks) == (key in keys)
    assert safe.is_current(sealed) == (keys[:1] == [key])
    if key in keys:
        assert safe.open(sealed) == SECRET
    else:
        with pytest.raises(ConfigurationError):
            safe.open(sealed)


def test_the_same_key_twice_is_the_same_key() -> None:
    # The last character of 32 bytes in base64 has two bits that say nothing.
    spelt_otherwise = OLD[:-2] + chr(ord(OLD[-2]) + 1) + "="
    assert base64.urlsafe_b64decode(spelt_otherwise) == base64.urlsafe_b64decode(OLD)
    safe = Vault([OLD, spelt_otherwise, OLD])
    assert len(safe.key_marks) == 1
    assert Vault([spelt_otherwise]).open(safe.seal(SECRET)) == SECRET


def test_two_keys_of_one_mark_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault, "_mark", lambda key: "fernet:00000000")
    with pytest.raises(ConfigurationError, match="key 2 of 2 has by chance the same mark"):
        Vault([OLD, NEW])


# Keys that are missing or bad.


@pytest.mark.parametrize("keys", [[], [NEW], [NEW, OTHER]])
def test_a_missing_key_is_a_clear_error_that_tells_no_secret(keys: list[str]) -> None:
    sealed = Vault([OLD]).seal(SECRET)
    with pytest.raises(ConfigurationError) as raised:
        Vault(keys).open(sealed)
    message = str(raised.value)
    assert mark(OLD).removeprefix("fernet:") in message
    assert "RESTHOOKS_ENCRYPTION_KEYS must hold it" in message
    for key in keys:
        assert mark(key).removeprefix("fernet:") in message
    told = everything_told_by(raised.value)
    assert not any(word in told for word in (SECRET, sealed[16:], OLD, *keys))


@given(st.data())
@settings(max_examples=300)
def test_a_damaged_secret_is_an_error_that_tells_nothing_of_it(data: st.DataObject) -> None:
    safe = Vault([OLD])
    sealed = safe.seal(SECRET)
    at = data.draw(st.integers(len("fernet:"), len(sealed) - 1))
    put = data.draw(st.sampled_from(["", "A", "b", "=", "é", "\0", "\ud800", "\n"]))
    damaged = sealed[:at] + put + sealed[at + 1 :]
    if data.draw(st.booleans()):
        damaged = damaged[:at]
    try:
        opened = safe.open(damaged)
    except ConfigurationError as error:
        told = everything_told_by(error)
        assert SECRET not in told
        assert sealed[MARK_LENGTH + 1 :][:20] not in told
        assert error.__context__ is None
    else:
        assert opened == SECRET


def test_what_fernet_sealed_but_is_no_text_is_an_error_that_does_not_carry_it() -> None:
    sealed = f"{mark(OLD)}:{Fernet(OLD).encrypt(b'hunter2 ' + bytes([0xFF])).decode()}"
    with pytest.raises(ConfigurationError, match="damaged") as raised:
        Vault([OLD]).open(sealed)
    assert "hunter2" not in everything_told_by(raised.value)


BAD_KEYS = [
    "",
    "hunter2",
    OLD[:-1],
    OLD + "=",
    OLD + "\n",
    " " + OLD,
    OLD.replace("=", ""),
    base64.urlsafe_b64encode(b"x" * 31).decode(),
    base64.urlsafe_b64encode(b"x" * 33).decode(),
    base64.b64encode(b"\xff" * 32).decode(),
    "é" * 43 + "=",
    None,
    b"x" * 32,
    OLD.encode(),
    7,
    [OLD],
]


@pytest.mark.parametrize("bad", BAD_KEYS, ids=range(len(BAD_KEYS)))
@pytest.mark.parametrize("before", [[], [NEW]])
def test_a_bad_key_is_named_by_its_place_and_not_shown(bad: Any, before: list[str]) -> None:
    keys = [*before, bad, NEW]
    with pytest.raises(ConfigurationError) as raised:
        Vault(keys)
    message = str(raised.value)
    assert f"key {len(before) + 1} of {len(keys)} is not 32 bytes" in message
    assert "RESTHOOKS_ENCRYPTION_KEYS" in message
    told = everything_told_by(raised.value)
    assert NEW not in told
    assert not isinstance(bad, str) or len(bad) < 7 or bad.strip() not in told


def test_a_list_that_is_a_string_is_no_list_of_keys() -> None:
    with pytest.raises(ConfigurationError, match="key 1 of 44"):
        Vault(OLD)


def test_made_keys_are_keys_and_differ() -> None:
    keys = {make_key() for _ in range(50)}
    assert len(keys) == 50
    assert len(Vault([*keys]).key_marks) == 50
    assert all(Fernet(key) for key in keys)


def test_the_command_of_the_message_makes_a_key() -> None:
    with pytest.raises(ConfigurationError) as raised:
        Vault(["x"])
    program = re.search(r'python3 -c "(.*)"', str(raised.value))
    assert program
    done = subprocess.run([sys.executable, "-c", program[1]], capture_output=True, text=True)
    assert Vault([done.stdout.strip()]).key_marks


# What does not show, and what is not there.


def test_a_vault_shows_marks_and_no_keys() -> None:
    shown = repr(Vault([OLD, NEW])) + str(Vault([OLD, NEW]))
    assert mark(OLD) in shown and mark(NEW) in shown
    assert OLD not in shown and OLD[:10] not in shown
    assert repr(OPEN) == "<Vault, keys marked: none>"
    assert not hasattr(Vault([OLD]), "__dict__")


def test_without_cryptography_keys_are_an_error_that_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sealed = Vault([OLD]).seal(SECRET)
    monkeypatch.setitem(sys.modules, "cryptography.fernet", None)
    with pytest.raises(ConfigurationError, match=r"flask_resthooks\[crypto\]"):
        Vault([OLD])
    with pytest.raises(ConfigurationError, match="key 1 of 1 is not"):
        Vault(["x"])
    assert Vault().open(Vault().seal(SECRET)) == SECRET
    assert Vault.mark_of(sealed) == mark(OLD)
    with pytest.raises(ConfigurationError, match="must hold it"):
        Vault().open(sealed)
    assert make_key()


def test_cryptography_is_imported_by_a_vault_with_keys_and_not_before() -> None:
    # Under another package's name: what else flask_resthooks imports is not this module's doing.
    program = f"""
import sys, types
package = sys.modules["alone"] = types.ModuleType("alone")
package.__path__ = [{str(Path(vault.__file__).parent)!r}]
from alone.vault import Vault, make_key
assert Vault().open("x") == "x"
key = make_key()
assert "cryptography" not in sys.modules
Vault([key])
assert "cryptography.fernet" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


@given(st.lists(st.binary(min_size=24, max_size=64), max_size=3))
def test_secrets_of_any_length_fit(raws: list[bytes]) -> None:
    safe = Vault([OLD])
    for raw in raws:
        secret = signing.PREFIX + base64.b64encode(raw).decode()
        assert safe.open(safe.seal(secret)) == secret
        assert len(safe.seal(secret)) < 300


def test_the_commands_of_the_page_make_a_key_and_tell_its_mark() -> None:
    page = Path(vault.__file__).parents[1] / "docs" / "how-to" / "encrypt-secrets.md"
    programs = re.findall(r'^python3 -c "(.*)"$', page.read_text(), re.MULTILINE)
    make, tell = [[sys.executable, "-c", program] for program in programs]
    key = subprocess.run(make, capture_output=True, text=True, check=True).stdout
    told = subprocess.run(tell, input=key, capture_output=True, text=True, check=True).stdout
    assert told == mark(key.strip()) + "\n"
