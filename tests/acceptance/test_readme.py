"""README and docs say what is true: their code runs, their commands and tables are ours."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
import types
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import flask
import flask.cli
import flask_migrate.cli
import marshmallow
import pytest
import rq.cli
import sqlalchemy as sa
from faults import __main__ as laboratory
from faults.laboratory import named
from flask_sqlalchemy import SQLAlchemy
from servers import Inbox, Request

import example_app
import flask_resthooks
from flask_resthooks import RESTHooks, settings, signing, transport
from flask_resthooks.api import schemas
from flask_resthooks.api.schemas import words

ROOT = Path(flask_resthooks.__file__).parent.parent
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = [README, *sorted(DOCS.rglob("*.md"))]
BIN = Path(sys.executable).parent
LIMIT = 60.0

ON_LOOPBACK = {
    "FLASK_RESTHOOKS_REQUIRE_HTTPS": "false",
    "FLASK_RESTHOOKS_ALLOWED_NETWORKS": '["127.0.0.0/8"]',
}


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    fences = re.findall(
        rf"^( *)```{language}\n(.*?)^\1```", page.read_text(), re.MULTILINE | re.DOTALL
    )
    return [textwrap.dedent(text) for _, text in fences]


def named_blocks(page: Path) -> dict[str, str]:
    """Those Python blocks that are whole files: their first line is a comment with the name."""
    found = [(re.match(r"# (\w+\.py)\n", text), text) for text in blocks(page, "python")]
    return {match[1]: text for match, text in found if match}


def commands(page: Path) -> list[str]:
    text = "\n".join(blocks(page, "sh")).replace("\\\n", " ")
    return [line for line in map(str.strip, text.splitlines()) if line]


def module(path: Path, text: str) -> types.ModuleType:
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    made = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, path.stem, made)  # Flask finds its root path there
        spec.loader.exec_module(made)
    return made


class Curl:
    """A command line, taken apart."""

    def __init__(self, line: str) -> None:
        self.headers: dict[str, str] = {}
        self.method, self.data, self.url = "GET", None, ""
        words = iter(shlex.split(line)[1:])
        for word in words:
            if word == "-H":
                name, _, value = next(words).partition(": ")
                self.headers[name] = value
            elif word == "-d":
                self.method, self.data = "POST", next(words)
            elif word == "-X":
                self.method = next(words)
            else:
                assert not word.startswith("-"), f"what is {word}?"
                self.url = word

    @property
    def path(self) -> str:
        return "/" + self.url.split("/", 3)[3]

    def send(self, url: str) -> Any:
        request = urllib.request.Request(
            url,
            None if self.data is None else self.data.encode(),
            self.headers,
            method=self.method,
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=LIMIT) as answer:
            return json.loads(answer.read())


def curls(page: Path) -> list[Curl]:
    return [Curl(line) for line in commands(page) if line.startswith("curl ")]


# The README's app.


@pytest.fixture
def readme_app(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[types.ModuleType]:
    for name, value in {**ON_LOOPBACK, "FLASK_RESTHOOKS_REDIS_URL": redis_url}.items():
        monkeypatch.setenv(name, value)
    made = module(tmp_path / "app.py", named_blocks(README)["app.py"])
    monkeypatch.setitem(sys.modules, "app", made)
    made.app = made.create_app()
    yield made
    with made.app.app_context():
        made.db.session.remove()
        made.db.engine.dispose()


def first_hook(readme_app: types.ModuleType, inbox: Inbox) -> tuple[Request, str]:
    """Do as the README says; what arrives, and the secret."""
    client = readme_app.app.test_client()
    [subscribe] = [curl for curl in curls(README) if curl.path == "/api/v1/subscriptions"]
    wish = json.loads(subscribe.data or "")
    assert wish["target_url"].startswith("https://")
    wish["target_url"] = inbox.url("/crm")
    made = client.post(subscribe.path, json=wish, headers=subscribe.headers)
    assert made.status_code == 201
    contact = {"name": "Ada", "email": "ada@example.com", "notes": "calls at 7"}
    assert client.post("/contacts", json=contact, headers=subscribe.headers).status_code == 201
    [burst] = [line for line in commands(README) if "worker --burst" in line]
    directory = Path(readme_app.__file__ or "").parent
    words = shlex.split(burst, comments=True)
    subprocess.run([str(BIN / words[0]), *words[1:]], cwd=directory, check=True, timeout=LIMIT)
    [request] = inbox.requests
    return request, made.get_json()["secret"]


def test_the_readmes_app_sends_a_hook_that_the_readmes_receivers_believe(
    readme_app: types.ModuleType, inbox: Inbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, secret = first_hook(readme_app, inbox)
    body = json.loads(request.body)
    assert body["type"] == request.headers["x-hook-event"] == "contact.create"
    assert body["data"] == {"id": 1, "name": "Ada", "email": "ada@example.com"}
    monkeypatch.setenv("HOOK_SECRET", secret)
    tampered = request.body.replace(b"Ada", b"Eve")
    pages = {
        README: ("inbox.py", "receiver.py"),
        DOCS / "how-to" / "verify-a-hook.md": ("inbox.py",),
    }
    for page, name in [(page, name) for page, names in pages.items() for name in names]:
        receiver = module(tmp_path / name, named_blocks(page)[name])
        client = receiver.app.test_client()
        path = next(
            rule.rule for rule in receiver.app.url_map.iter_rules() if "POST" in rule.methods
        )
        headers = dict(request.headers)
        assert client.post(path, data=request.body, headers=headers).status_code == 204
        assert client.post(path, data=tampered, headers=headers).status_code == 400
        assert client.post(path, data=request.body).status_code == 400
        broken = {**headers, "webhook-signature": "v1"}
        assert client.post(path, data=request.body, headers=broken).status_code == 400
    by_hand = module(tmp_path / "by_hand.py", named_blocks(README)["by_hand.py"])
    assert by_hand.verify(secret, request.headers, request.body) == body
    with pytest.raises(ValueError, match="signature"):
        by_hand.verify(secret, request.headers, tampered)
    with pytest.raises(KeyError):
        by_hand.verify(secret, {}, request.body)


def test_a_hook_looks_like_the_one_in_the_readme(
    readme_app: types.ModuleType, inbox: Inbox
) -> None:
    request, _ = first_hook(readme_app, inbox)
    headers, body, _ = shown_hook()
    assert headers.keys() == {name for name in request.headers if name not in CONNECTION}, (
        "the README shows other headers"
    )
    assert [*body] == [*json.loads(request.body), "previous"]
    assert headers["user-agent"] == request.headers["user-agent"]


CONNECTION = {"host", "content-length", "accept-encoding", "accept", "connection"}


def shown_hook() -> tuple[dict[str, str], dict[str, Any], bytes]:
    [text] = blocks(README, "http")
    head, _, body = text.rstrip("\n").partition("\n\n")
    headers = dict(line.split(": ", 1) for line in head.splitlines()[1:])
    return headers, json.loads(body), body.encode()


def test_the_hook_in_the_readme_is_signed_with_the_secret_in_the_readme() -> None:
    headers, body, raw = shown_hook()
    secret = re.search(r"whsec_[A-Za-z0-9+/=]{20,}", README.read_text())
    assert secret
    signing.verify(secret[0], headers, raw, now=int(headers["webhook-timestamp"]))
    assert headers["x-hook-signature"] == signing.hook_signature(signing.key_of(secret[0]), raw)
    assert (headers["webhook-id"], headers["x-hook-event"]) == (body["id"], body["type"])


# The tutorial, with its own processes.


class Terminal:
    """Runs commands in a directory; ends them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.running: list[subprocess.Popen[str]] = []

    def start(self, line: str, env: dict[str, str]) -> subprocess.Popen[str]:
        words = shlex.split(line)
        process = subprocess.Popen(
            [str(BIN / words[0]), *words[1:]],
            cwd=self.directory,
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.running.append(process)
        return process

    def close(self) -> None:
        # The worker last: it takes the embedded Redis down.
        for process in sorted(self.running, key=lambda process: "worker" in process.args):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(LIMIT)
            finally:
                process.kill()
                process.wait()
            assert process.stdout is not None
            process.stdout.close()


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    # Not pytest's directory: the path of Redis' socket is short.
    directory = Path(tempfile.mkdtemp(prefix="tutorial-", dir="/tmp"))
    terminal = Terminal(directory)
    yield terminal
    terminal.close()
    shutil.rmtree(directory)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def wait_for(port: int) -> None:
    end = time.monotonic() + LIMIT
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < end, "the server does not come up"
            time.sleep(0.05)


def test_the_tutorial_leads_to_the_first_hooks(terminal: Terminal) -> None:
    page = DOCS / "tutorial.md"
    for name, text in named_blocks(page).items():
        (terminal.directory / name).write_text(text)
    ports = {"5000": str(free_port()), "5001": str(free_port())}

    def here(text: str) -> str:
        return re.sub("500[01]", lambda match: ports[match[0]], text)

    lines = [here(line) for line in commands(page)]
    exported = dict(shlex.split(line)[1].split("=", 1) for line in lines if "export " in line)
    assert exported == ON_LOOPBACK
    app, worker = [line for line in lines if line.startswith("flask --app shop")]
    [inbox] = [line for line in lines if line.startswith("HOOK_SECRET=")]
    subscribe, order, ship = [Curl(line) for line in lines if line.startswith("curl ")]

    terminal.start(app, exported)
    wait_for(int(ports["5000"]))
    terminal.start(worker, exported)
    secret = subscribe.send(subscribe.url)["secret"]
    inbox = inbox.removesuffix(" &").replace("whsec_…", secret).split(" ", 1)[1]
    printing = terminal.start(inbox, {"HOOK_SECRET": secret}).stdout
    assert printing is not None
    wait_for(int(ports["5001"]))
    order.send(order.url)
    text = page.read_text()
    hooks = (line.strip() for line in printing if line.startswith("order."))
    first = next(hooks)
    assert f"`{first}`" in text
    ship.send(ship.url)
    second = next(hooks)
    assert second.startswith("order.update")
    assert second.endswith("{'status': 'new'}")


# The fragments of the other pages.


class Setting:
    """What the fragments of a page take for granted."""

    def __init__(self, directory: Path) -> None:
        self.db = SQLAlchemy()
        self.hooks = RESTHooks(self.db)
        self.app = flask.Flask("fragments", root_path=str(directory))
        self.app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{directory / 'fragments.db'}"
        self.namespace: dict[str, Any] = {
            "__name__": "fragments",
            "app": self.app,
            "db": self.db,
            "hooks": self.hooks,
            "Schema": marshmallow.Schema,
            "fields": marshmallow.fields,
        }
        for name in ("Contact", "Login", "Ticket", "Note"):
            shows = {"id": marshmallow.fields.Integer(), "status": marshmallow.fields.String()}
            self.namespace[f"{name}Schema"] = marshmallow.Schema.from_dict(shows)

    def run(self, page: Path) -> dict[str, Any]:
        for text in blocks(page, "python"):
            if not re.match(r"# \w+\.py\n", text):
                exec(compile(text, name_of(page), "exec"), self.namespace)
        return self.namespace

    def start(self) -> None:
        self.app.config["RESTHOOKS_REDIS_URL"] = "redis://127.0.0.1:1/0"
        self.db.init_app(self.app)
        self.hooks.init_app(self.app)
        self.app.extensions["resthooks"].wakeups.wake = lambda: None
        self.db.create_all()

    def events(self) -> list[tuple[str, str, Any]]:
        event = self.hooks.tables.event
        rows = self.db.session.execute(sa.select(event).order_by(event.c.sequence)).all()
        return [(row.type, row.owner, json.loads(row.data)) for row in rows]


@pytest.fixture
def setting(tmp_path: Path) -> Iterator[Setting]:
    setting = Setting(tmp_path)
    with setting.app.app_context():
        yield setting
        setting.db.session.remove()
        setting.db.engine.dispose()


def test_what_is_sent_is_chosen_as_the_page_says(setting: Setting) -> None:
    names = setting.run(DOCS / "how-to" / "choose-what-is-sent.md")
    setting.start()
    session = setting.db.session
    contact = names["Contact"](account_id=1, name="Ada", notes="x", tags=[names["Tag"](name="vip")])
    login, ticket = names["Login"](account_id=1), names["Ticket"](account_id=1, status="new")
    session.add_all([contact, login, ticket, names["Note"](author_id=7), names["Note"]()])
    session.commit()
    shown = {"id": 1, "full_name": "Ada", "tags": ["vip"]}
    made = setting.events()
    assert sorted((name, owner) for name, owner, _ in made) == [
        ("contact.create", "1"),
        ("login.create", "1"),
        ("note.create", "7"),
        ("ticket.create", "1"),
    ]
    assert shown in [data for _, _, data in made]
    contact.notes, ticket.views = "y", 5
    session.delete(login)
    session.commit()
    assert setting.events() == made
    ticket.status = "open"
    session.commit()
    assert [name for name, _, _ in setting.events()[len(made) :]] == ["ticket.update"]


def test_explicit_events_are_emitted_as_the_page_says(setting: Setting) -> None:
    names = setting.run(DOCS / "how-to" / "emit-explicit-events.md")
    setting.start()
    invoice = names["Invoice"](account_id=1, cents=500)
    setting.db.session.add(invoice)
    names["pay"](invoice)
    names["finish"](17, 1)
    names["import_contacts"]([names["Contact"](account_id=2, name="Ada")])
    assert [(name, owner) for name, owner, _ in setting.events()] == [
        ("invoice.paid", "1"),
        ("report.ready", "1"),
        ("contact.create", "2"),
    ]


@pytest.mark.parametrize("page", ["run-in-production", "test-on-loopback"])
def test_the_settings_that_a_page_shows_are_accepted(setting: Setting, page: str) -> None:
    setting.run(DOCS / "how-to" / f"{page}.md")
    assert settings.from_config(setting.app.config).allowed_networks
    setting.start()


def test_no_code_of_a_page_is_left_out() -> None:
    run = {README, *(DOCS / "how-to").glob("*.md"), DOCS / "tutorial.md"}
    for page in PAGES:
        assert page in run or not blocks(page, "python"), name_of(page)
    for page in (README, DOCS / "tutorial.md"):
        assert len(named_blocks(page)) == len(blocks(page, "python"))


# Commands.


def without_environment(line: str) -> list[str]:
    words = shlex.split(line.removesuffix("&"), comments=True)
    while words and re.match(r"[A-Z_]+=", words[0]):
        words.pop(0)
    return words


def check_command(command: click.Command, words: list[str]) -> None:
    """Whether the command and each option of it are there, and are given values that it takes."""
    context = click.Context(command)
    options = {name: option for option in command.params for name in option.opts}
    words = list(words)
    while words:
        word = words.pop(0)
        if word.startswith("-"):
            assert word in options, f"{command.name} has no option {word}"
            option = options[word]
            if not getattr(option, "is_flag", False):
                option.type_cast_value(context, words.pop(0))
        elif isinstance(command, click.Group):
            inner = command.get_command(context, word)
            assert inner is not None, f"{command.name} has no command {word}"
            return check_command(inner, words)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_commands_of_a_page_exist(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASK_DEBUG", "0")
    built_in = flask.cli.FlaskGroup()
    everything = {**built_in.commands, **example_app.create_app().cli.commands}
    everything["db"] = flask_migrate.cli.db
    group = click.Group("flask", everything, params=built_in.params)
    targets = re.findall(r"^([\w.-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for line in commands(page):
        program, *words = without_environment(line)
        if program == "flask":
            check_command(group, words)
        elif program == "rq":
            check_command(rq.cli.main, words)
        elif program == "make":
            assert words[0] in targets
        elif words[:2] == ["-m", "tests.faults"]:
            options = laboratory.parser().parse_args(words[2:])
            assert all(map(named, options.fault or ()))
        else:
            assert program in ("curl", "export", "pip", "python3", "."), f"not checked: {line}"


def test_what_curl_calls_is_there(readme_app: types.ModuleType) -> None:
    for curl in curls(README):
        app = example_app.create_app() if ":8000" in curl.url else readme_app.app
        endpoint, _ = app.url_map.bind("").match(curl.path, curl.method)
        assert endpoint


# Tables.


@pytest.mark.parametrize("script", [["make_settings.py", "--check"], ["check_links.py"]])
def test_generated_pages_are_up_to_date_and_links_lead_somewhere(script: list[str]) -> None:
    command = [sys.executable, str(DOCS / script[0]), *script[1:]]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def rows(page: Path, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading."""
    below = page.read_text().partition(f"{heading}\n")[2]
    table = re.search(r"((?:^\|.*\|\n)+)", below, re.MULTILINE)
    assert table, heading
    split = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table[1].splitlines()]
    return [[cell.strip() for cell in cells] for cells in split[2:]]


def words_of(cells: list[list[str]]) -> list[str]:
    return [word for row in cells for word in re.findall(r"`([^`]+)`", row[0])]


METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def test_the_reference_has_every_route_and_no_other() -> None:
    app = example_app.create_app()
    prefix = app.extensions["resthooks"].settings.url_prefix
    there = set()
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith("resthooks."):
            view = app.view_functions[rule.endpoint].view_class
            path = re.sub(r"<(?:\w+:)?(\w+)>", r"<\1>", rule.rule.removeprefix(prefix))
            there |= {(path, method) for method in METHODS if hasattr(view, method.lower())}
    documented, path = set(), ""
    for cells in rows(DOCS / "reference" / "api.md", "# API"):
        path = cells[0].strip("`") or path
        documented.add((path, cells[1].strip("`")))
    assert documented == there


@pytest.mark.parametrize(
    ("heading", "shown"),
    [
        (
            "## Subscription",
            schemas.RESTHooksSubscriptionSchema().fields.keys()
            | schemas.RESTHooksSubscriptionCreateSchema().fields.keys(),
        ),
        ("## Delivery", schemas.RESTHooksDeliverySchema().fields.keys()),
        ("## Attempt", schemas.RESTHooksAttemptSchema().fields.keys()),
    ],
)
def test_the_reference_has_every_field_and_no_other(heading: str, shown: set[str]) -> None:
    assert sorted(words_of(rows(DOCS / "reference" / "api.md", heading))) == sorted(shown)


def test_the_reference_has_every_word_for_what_went_wrong() -> None:
    page = DOCS / "reference" / "hooks.md"
    words = words_of(rows(page, "## Words for what went wrong"))
    assert words == [word for word in transport.ERRORS if word != "not_started"]


def test_the_readme_has_every_status() -> None:
    text = README.read_text()
    heads = ("| of a subscription | |", "| of a delivery | |")
    subscription, delivery = (
        re.findall(r"^\| `(\w+)` \|", text.partition(head)[2].partition("\n\n")[0], re.MULTILINE)
        for head in heads
    )
    assert delivery == list(words.DELIVERY_STATUSES)
    assert {*subscription, "pending"} == set(words.SUBSCRIPTION_STATUSES)


def test_the_design_names_every_room() -> None:
    text = (DOCS / "explanation" / "design.md").read_text().partition("## Rooms and floors")[2]
    package = Path(flask_resthooks.__file__).parent
    files = {path.name for path in package.glob("[!_]*.py")}
    rooms = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    assert set(re.findall(r"`(\w+(?:\.py|/))`", text)) == files | rooms
