"""The OpenAPI document is valid and true, by schemathesis; see `schemathesis_suite.py`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SUITE = Path(__file__).with_name("schemathesis_suite.py")


@pytest.mark.timeout(240)
def test_schemathesis_finds_nothing() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(SUITE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=230)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    assert "passed" in done.stdout
