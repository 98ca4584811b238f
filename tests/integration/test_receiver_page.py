"""The how-to says what is true: its files run, and do what it says."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest
from servers import RedisServer

import flask_resthooks
from flask_resthooks import signing

PAGE = Path(flask_resthooks.__file__).parent.parent / "docs" / "how-to" / "receive-hooks.md"
FILES = dict(re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```", PAGE.read_text(), re.M | re.S))
SECRET, OTHER = signing.new_secret(), signing.new_secret()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("CRM_SECRET", SECRET)
    monkeypatch.setenv("CRM_SECRET_NEW", OTHER)

    def load(name: str) -> types.ModuleType:
        path = tmp_path / name
        path.write_text(FILES[name])
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None and spec.loader is not None
        made = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, path.stem, made)
        spec.loader.exec_module(made)
        made.app.testing = True
        return made

    return load


def hook(type: str = "contact.create", secret: str = SECRET, **headers: str) -> dict[str, Any]:
    content = {"id": "evt_1", "type": type, "timestamp": "2026-01-15T09:30:00Z", "data": {"id": 1}}
    body, now = json.dumps(content).encode(), int(time.time())
    signed = {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(now),
        "webhook-signature": signing.signer(secret).sign("evt_1", now, body),
    }
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return {"data": body, "headers": {**signed, **named}}


def test_every_file_of_the_page_is_run_here() -> None:
    assert len(FILES) == len(re.findall(r"^```python$", PAGE.read_text(), re.M))
    source = Path(__file__).read_text()
    assert [name for name in FILES if f'"{name}"' not in source] == []


def test_five_lines_receive_hooks(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    client = run("inbox.py").app.test_client()
    assert client.post("/crm", **hook()).status_code == 204
    assert capsys.readouterr().out == "contact.create {'id': 1}\n"
    assert client.post("/crm", **hook(secret=OTHER)).status_code == 400
    lines = FILES["inbox.py"].split("app = Flask(__name__)")[1].split("\n")
    assert len([line for line in lines if line]) <= 5


def test_several_secrets_are_right_while_they_change(run: Any) -> None:
    client = run("rotating.py").app.test_client()
    for secret, expected in ((SECRET, 204), (OTHER, 204), (signing.new_secret(), 400)):
        assert client.post("/crm", **hook(secret=secret)).status_code == expected


def test_a_secret_is_looked_up(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    module = run("tenants.py")
    module.secrets["a"] = [SECRET]
    client = module.app.test_client()
    assert client.post("/crm/a", **hook()).status_code == 204
    assert client.post("/crm/b", **hook()).status_code == 400
    assert capsys.readouterr().out == "a contact.create\n"


def test_a_hook_is_processed_once(
    run: Any,
    redis_url: str,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)
    module = run("once.py")
    client = module.app.test_client()
    assert [client.post("/crm", **hook()).status_code for _ in range(3)] == [204] * 3
    assert capsys.readouterr().out.count("contact.create") == 1
    module.store._client.close()


def test_handshakes_are_answered(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    module = run("handshakes.py")
    client = module.app.test_client()
    answer = client.post("/crm", **hook("resthooks.handshake", X_Hook_Secret="t0ken"))
    assert answer.status_code == 204 and "X-Hook-Secret" not in answer.headers
    assert module.waiting == {"evt_1": "t0ken"}
    granted = client.options("/crm", headers={"WebHook-Request-Origin": "crm.example.com"})
    assert granted.headers["WebHook-Allowed-Rate"] == "600"
    assert client.post("/crm", **hook("resthooks.ping")).status_code == 204
    assert capsys.readouterr().out == ""


def test_a_refusal_is_answered_in_ones_own_way(run: Any) -> None:
    client = run("refusing.py").app.test_client()
    answer = client.post("/crm", **hook(secret=OTHER))
    assert answer.status_code == 400
    assert answer.get_json() == {"error": "no signature in webhook-signature is right"}
    assert client.post("/crm", data=b"x" * (1 << 20 | 1)).status_code == 413


def test_the_tests_of_the_page_pass(tmp_path: Path) -> None:
    for name in ("inbox.py", "test_inbox.py"):
        (tmp_path / name).write_text(FILES[name])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert "2 passed" in done.stdout, done.stdout


def test_a_class_receives_as_the_page_says(run: Any) -> None:
    from flask import Flask
    from flask.views import MethodView

    from flask_resthooks.receiver import receive

    class Crm(MethodView):
        decorators = (receive(SECRET, allowed_origins="*"),)
        provide_automatic_options = False

        def post(self, event: Any) -> str:
            return str(event.type)

    app = Flask(__name__)
    app.add_url_rule("/crm", view_func=Crm.as_view("crm"))
    client = app.test_client()
    assert client.post("/crm", **hook()).text == "contact.create"
    granted = client.options("/crm", headers={"WebHook-Request-Origin": "a.example"})
    assert granted.headers["WebHook-Allowed-Origin"] == "a.example"
