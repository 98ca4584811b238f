"""The how-tos say what is true: their code runs against an app, a worker and a receiver."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import socket
import subprocess
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import marshmallow
import pytest
from servers import Inbox
from whole_app import WholeApp, serving

import flask_resthooks
from flask_resthooks import signals, signing, transport
from flask_resthooks.guard import Guard
from flask_resthooks.transport import Answer
from tests.integration.hostile_players import speaks_plainly
from tests.integration.receivers import Receiver, answering

HOW_TO = Path(flask_resthooks.__file__).parent.parent / "docs" / "how-to"


def blocks(page: str, language: str) -> list[str]:
    text = (HOW_TO / f"{page}.md").read_text()
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```", text, re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(block) for _, block in found]


class World(WholeApp):
    """With what a page's fragments take for granted."""

    def __init__(self, url: str, redis_url: str, **config: Any) -> None:
        super().__init__(url, redis_url, **config)
        self.told: list[tuple[str, str]] = []
        self.names: dict[str, Any] = {
            "__name__": "fragments",
            "app": self.app,
            "db": self.db,
            "hooks": self.hooks,
            "Schema": marshmallow.Schema,
            "fields": marshmallow.fields,
            "tell": lambda owner, text: self.told.append((owner, text)),
        }

    def run(self, page: str) -> dict[str, Any]:
        for text in blocks(page, "python"):
            if not re.match(r"# \w+\.py\n", text):
                exec(compile(text, page, "exec"), self.names)
        return self.names

    def emit(self, number: int) -> None:
        with self.app.app_context():
            self.hooks.emit("thing.happened", {"number": number}, owner="1")
            self.db.session.commit()


@pytest.fixture
def world(database_url: str, redis_url: str) -> Iterator[World]:
    made = World(database_url, redis_url)
    yield made
    made.close()


def test_what_curl_sends_is_taken() -> None:
    import example_app

    app = example_app.create_app({"SQLALCHEMY_DATABASE_URI": "sqlite://"})
    for page in sorted(HOW_TO.glob("*.md")):
        text = "\n".join(blocks(page.stem, "sh")).replace("\\\n", " ")
        for line in re.findall(r"^curl .*", text, re.MULTILINE):
            import shlex

            words = shlex.split(line)
            data = words[words.index("-d") + 1] if "-d" in words else None
            method = words[words.index("-X") + 1] if "-X" in words else "POST" if data else "GET"
            path = "/" + words[-1].split("/", 3)[3]
            endpoint, _ = app.url_map.bind("").match(path, method)
            view = app.view_functions[endpoint].view_class
            assert hasattr(view, method.lower()), (page, line)
            if data:
                json.loads(data)


def test_ed25519(sqlite_url: str, redis_url: str, inbox: Inbox, tmp_path: Path) -> None:
    [text] = [block for block in blocks("rotate-a-secret", "python") if block.startswith("# ed")]
    (tmp_path / "ed25519.py").write_text(text)
    spec = importlib.util.spec_from_file_location("ed25519", tmp_path / "ed25519.py")
    assert spec and spec.loader
    by_hand = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(by_hand)
    world = World(sqlite_url, redis_url)
    world.hooks.event_type("thing.happened")
    world.start()
    made = world.subscribe(inbox.url())
    path = f"/subscriptions/{made['id']}/secret/rotate"
    public = world.call("POST", path, {"signature": "v1a"}).json["secret"]
    world.emit(1)
    world.drain()
    (hook,) = inbox.requests
    kinds = [one.partition(",")[0] for one in hook.headers["webhook-signature"].split(" ")]
    assert kinds == ["v1a", "v1"]
    assert by_hand.verify(public, hook.headers, hook.body)["data"] == {"number": 1}
    inbox.verify(hook, made["secret"])
    with pytest.raises(ValueError, match="signature"):
        by_hand.verify(public, hook.headers, hook.body + b" ")
    other = signing.shown_secret(signing.new_secret("v1a"))
    with pytest.raises(ValueError, match="signature"):
        by_hand.verify(other, hook.headers, hook.body)
    world.close()


def test_what_was_missed(world: World, inbox: Inbox) -> None:
    world.hooks.event_type("thing.happened")
    world.start()
    page = world.run("get-what-was-missed")
    made = world.subscribe(inbox.url())
    inbox.answer = lambda request: (500, {"X-Request-Id": "abc"}, b"down")
    for number in range(5):
        world.emit(number)
    world.drain()
    inbox.clear()
    inbox.answer = lambda request: 200
    with serving(world.app) as url:
        page["API"] = f"{url}/api/v1"
        page["session"].trust_env = False
        failed = list(page["failures"](made["id"], made["created_at"]))
        assert len(failed) == 5
        delivery, attempt = failed[0]
        assert (delivery["status"], attempt["status_code"]) == ("failed", 500)
        assert (attempt["response"], attempt["request_id"]) == ("down", "abc")
        page["resend"](delivery["id"])
        world.drain()
        assert len(inbox.requests) == 1
        world.call("PATCH", f"/subscriptions/{made['id']}", {"active": False})
        world.emit(5)
        world.drain()
        world.call("PATCH", f"/subscriptions/{made['id']}", {"active": True})
        page["time"] = types.SimpleNamespace(sleep=lambda seconds: world.drain())
        recovery = page["recover"](made["id"], made["created_at"])
        assert (recovery["status"], recovery["released"]) == ("done", 5)
        ids = [request.headers["webhook-id"] for request in inbox.requests]
        assert len(ids) == len(set(ids)) == 6
        seen: list[int] = []
        last = page["poll"](lambda event: seen.append(event["data"]["number"]))
        assert seen == [0, 1, 2, 3, 4, 5]
        world.emit(6)
        world.emit(7)
        last = page["poll"](lambda event: seen.append(event["data"]["number"]), last)
        assert seen == list(range(8))
        assert page["poll"](seen.append, last) == last
        page["session"].close()


def test_failures_are_told_of(world: World, inbox: Inbox) -> None:
    page = world.run("be-told-of-failures")
    config = world.app.config
    assert config["RESTHOOKS_DISABLE_AFTER"] == 259200
    config.update(RESTHOOKS_RETRY_SCHEDULE=[0])
    world.hooks.event_type("thing.happened")
    world.start()
    made = world.subscribe(inbox.url())
    for code in (500, 410, 200):
        inbox.answer = lambda request, code=code: code
        world.emit(1)
        world.drain()
        world.call("PATCH", f"/subscriptions/{made['id']}", {"active": True})
    world.emit(1)
    world.drain()
    assert [owner for owner, _ in world.told] == ["1", "1"]
    assert "410 Gone" in world.told[0][1]
    assert "gets hooks again" in world.told[1][1]
    signals.subscription_disabled.disconnect(page["on_disabled"])
    signals.subscription_recovered.disconnect(page["on_recovered"])
    signals.delivery_failed.disconnect(page["on_failed"])


def test_the_owners_right_is_asked(world: World, inbox: Inbox) -> None:
    page = world.run("ask-the-owners-right")
    world.start()
    made = world.subscribe(inbox.url())
    with world.app.app_context():
        session = world.db.session
        session.add(page["Membership"](account_id=1, project_id=1))
        session.add_all(page["Task"](account_id=1, project_id=n, title="x") for n in (1, 2))
        session.commit()
    world.drain()
    assert len(inbox.requests) == 1
    cancelled = world.call("GET", f"/subscriptions/{made['id']}/deliveries?status=cancelled").json
    [one] = cancelled["data"]
    assert (one["reason"], one["attempts"]) == ("the owner may not see it any more", 0)
    assert [e["data"]["project_id"] for e in world.call("GET", "/events").json["data"]] == [1]
    with world.app.app_context():
        session.add(page["Membership"](account_id=1, project_id=2))
        session.commit()
    answer = world.call(
        "POST", f"/subscriptions/{made['id']}/recover", {"since": made["created_at"]}
    )
    assert answer.status_code == 202
    world.drain()
    assert len(inbox.requests) == 2
    with world.app.app_context():
        page["forget"](1)
        assert world.call("GET", "/subscriptions").json["data"] == []
        session.add(page["Task"](account_id=1, project_id=1, title="x"))
        session.commit()
    world.drain()
    assert len(inbox.requests) == 2


def test_an_own_transport(
    sqlite_url: str, redis_url: str, inbox: Inbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [text] = [block for block in blocks("write-a-transport", "python") if block.startswith("# own")]
    (tmp_path / "own_transport.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    # The setting first, and then the app that reads it.
    world = World(sqlite_url, redis_url)
    world.run("write-a-transport")
    world.hooks.event_type("thing.happened")
    world.start()
    made = world.subscribe(inbox.url())
    inbox.answer = lambda request: (500, {"X-Request-Id": "abc"}, b"down")
    world.emit(1)
    world.drain()
    [failed] = world.call("GET", f"/subscriptions/{made['id']}/deliveries").json["data"]
    [attempt] = world.call("GET", f"/deliveries/{failed['id']}/attempts").json["data"]
    seen = [attempt[name] for name in ("status_code", "error", "response", "request_id")]
    assert seen == [500, None, "down", "abc"]
    inbox.answer = lambda request: 200
    inbox.clear()
    world.emit(2)
    world.drain()
    (hook,) = inbox.requests
    inbox.verify(hook, made["secret"])
    world.close()


def test_an_own_transport_keeps_its_promises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [text] = [block for block in blocks("write-a-transport", "python") if block.startswith("# own")]
    (tmp_path / "own_transport.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    answers = [["127.0.0.1"], ["127.0.0.1", "10.0.0.1"]]

    def resolver(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        if host == "nowhere.example":
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        found = answers.pop(0) if host == "rebinding.example" else ["127.0.0.1"]
        return [(socket.AF_INET, 1, 6, "", (address, port)) for address in found]

    def drip(receiver: Receiver, sock: socket.socket) -> None:
        receiver.read_request(sock)
        receiver.drip(sock, b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 1000)

    def flood(receiver: Receiver, sock: socket.socket) -> None:
        receiver.read_request(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n")
        while not receiver.closing.is_set():
            sock.sendall(b"x" * 100_000)

    redirect = b"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/\r\nContent-Length: 0\r\n\r\n"
    own = transport.create(
        "own_transport:OwnTransport",
        guard=Guard(require_https=False, allowed_networks=["127.0.0.0/8"], resolver=resolver),
        concurrency=2,
        connect_timeout=1,
        timeout=1,
        response_limit=10,
    )

    def post(receiver: Receiver, host: str = "hooks.example", **options: Any) -> Answer:
        url = receiver.url(host=host, **options)
        return own.submit(transport.Request(url, {"webhook-id": "msg_1"}, b"{}")).result(20)

    with (
        Receiver(answering()) as good,
        Receiver(answering(redirect)) as redirecting,
        Receiver(answering(b"SSH-2.0\r\n", requests=1)) as other,
        Receiver(speaks_plainly) as plain,
        Receiver(drip) as dripping,
        Receiver(flood) as flooding,
    ):
        answer = post(good)
        assert (answer.status, answer.error, answer.body) == (200, None, b"ok")
        assert b"\r\nHost: hooks.example:" in good.requests[0]
        assert post(good, "rebinding.example").status == 200
        assert post(good, "rebinding.example").error == "address_refused"
        assert post(good, "10.0.0.1").error == "address_refused"
        assert post(good, "nowhere.example").error == "dns"
        assert post(plain, scheme="https").error == "tls"
        assert post(other).error == "protocol"
        answer = post(redirecting)
        assert (answer.status, answer.headers) == (302, {"location": "http://10.0.0.1/"})
        answer = post(dripping)
        assert (answer.status, answer.error, answer.duration < 2) == (200, "timeout", True)
        answer = post(flooding)
        assert (answer.status, answer.body) == (200, b"x" * 10)
    late = transport.Request("https://hooks.example/", {}, b"", start_before=0)
    assert own.submit(late).result(10).error == "not_started"
    own.close()


ZAP = """
const text = require('fs').readFileSync(0, 'utf8');
const holder = { exports: {} };
new Function('module', text)(holder);
const { operation } = holder.exports;
const calls = [];
const answers = { POST: { data: { id: 'sub_1' } }, DELETE: { status: 404 } };
const listed = { data: [{ type: 'contact.create', data: { id: 1 } }] };
const z = { request: async (options) => (calls.push(options), answers[options.method] || listed) };
(async () => {
  const bundle = { targetUrl: 'https://zap.example.com/1', subscribeData: { id: 'sub_1' } };
  const hook = { type: 'contact.create', data: { id: 1 } };
  const made = [
    await operation.performSubscribe(z, bundle),
    await operation.performUnsubscribe(z, bundle),
    await operation.perform(z, { cleanedRequest: hook }),
    await operation.perform(z, { cleanedRequest: { type: 'resthooks.ping', data: {} } }),
    await operation.performList(z, bundle),
  ];
  console.log(JSON.stringify([made, calls]));
})();
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_zapiers_trigger() -> None:
    [code] = blocks("connect-zapier", "js")
    done = subprocess.run(
        ["node", "-e", ZAP], input=code, capture_output=True, text=True, check=True, timeout=30
    )
    made, calls = json.loads(done.stdout)
    assert made == [{"id": "sub_1"}, {}, [{"id": 1}], [], [{"id": 1}]]
    wish = calls[0]["body"]
    assert wish["event"] == "contact.create" and wish["target_url"] == "https://zap.example.com/1"
