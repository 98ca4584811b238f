"""The guard over what tests log can fail: each of these tests within a test logs a secret."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]

LEAKS = r"""
import base64
import logging
import os
import subprocess
import sys

import pytest

from flask_resthooks import intents, own_headers, signing, vault

log = logging.getLogger("anything")
SECRET = signing.new_secret()


def test_leak_message():
    log.warning("made %s", SECRET)


def test_leak_below_the_usual_level():
    logging.getLogger("flask_resthooks.deep").debug("made %s", SECRET)


def test_leak_in_a_logger_of_its_own(monkeypatch):
    log.error("made", extra={}, exc_info=ValueError(SECRET))


def test_leak_traceback():
    try:
        raise ValueError(vault.make_key())
    except ValueError:
        log.exception("no")


def test_leak_cause():
    try:
        try:
            raise ValueError(intents.new_secret())
        except ValueError as error:
            raise RuntimeError("no") from error
    except RuntimeError:
        log.exception("no")


def test_leak_private_key():
    log.error(signing.new_secret("v1a"))


def test_leak_header_value():
    stored = own_headers.dump({"authorization": "Bearer swordfish"})
    log.error("sent %s", own_headers.load(stored))


def test_leak_password():
    log.error("cannot connect to redis://user:swordfish@localhost:6379/0")


def test_leak_stderr():
    print(SECRET, file=sys.stderr)


def test_leak_subprocess():
    subprocess.run([sys.executable, "-c", f"import sys; sys.stderr.write('{SECRET}')"])


def test_leak_fork():
    if not (child := os.fork()):
        os.write(2, SECRET.encode())
        os._exit(0)
    os.waitpid(child, 0)


@pytest.fixture
def loud():
    yield
    log.error(SECRET)


def test_leak_in_a_fixture(loud):
    pass


def test_clean():
    log.error("sub_019cd4a40fa1b2c3d4e5f60718293a4b of redis://user:…@localhost, evt_" + "1" * 32)
    log.error("test_a_rather_long_name_of_a_test_that_is_43_c")
    log.error("v1,%s", base64.b64encode(b"\xff" * 32))
    vault.Vault([vault.make_key()]).seal(SECRET)


def test_clean_again():
    log.error("nothing")
"""


def test_a_test_that_tells_a_secret_fails_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "test_leaks.py").write_text(LEAKS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "log_guard", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])},
        capture_output=True,
        text=True,
    )
    failed = set(re.findall(r"^ERROR test_leaks\.py::(\w+)", done.stdout, re.MULTILINE))
    tests = re.findall(r"^def (test_\w+)", LEAKS, re.MULTILINE)
    assert failed == {name for name in tests if name.startswith("test_leak")}, done.stdout
    assert len(failed) == len(tests) - 2
