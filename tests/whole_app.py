"""A whole app in the process of the tests: its API, its drains, its commands."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import flask
from flask_sqlalchemy import SQLAlchemy
from werkzeug.serving import make_server

from flask_resthooks import RESTHooks, jobs


class WholeApp:
    """An app whose owner is "1"; it may be told more until it is started."""

    def __init__(self, url: str, redis_url: str, **config: Any) -> None:
        self.db = SQLAlchemy()
        self.hooks = RESTHooks(self.db)
        self.hooks.owner_loader(lambda: "1")
        self.app = flask.Flask("world")
        self.app.config.update(
            {
                "SQLALCHEMY_DATABASE_URI": url,
                "RESTHOOKS_REDIS_URL": redis_url,
                "RESTHOOKS_REQUIRE_HTTPS": False,
                "RESTHOOKS_ALLOWED_NETWORKS": ["127.0.0.0/8"],
                "RESTHOOKS_RETRY_SCHEDULE": [0],
                **config,
            }
        )

    def start(self) -> None:
        self.db.init_app(self.app)
        self.hooks.init_app(self.app)
        with self.app.app_context():
            self.db.create_all()

    def close(self) -> None:
        with self.app.app_context():
            self.db.session.remove()
            self.db.engine.dispose()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        return self.app.test_client().open(f"/api/v1{path}", method=method, json=body)

    def subscribe(self, url: str, **fields: Any) -> dict[str, Any]:
        answer = self.call("POST", "/subscriptions", {"target_url": url, "events": ["*"], **fields})
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json
        return made

    def drain(self) -> None:
        drain(self.app)

    def command(self, *words: str) -> Any:
        """`flask resthooks …`"""
        return self.app.test_cli_runner().invoke(args=["resthooks", *words])


def drain(app: flask.Flask) -> None:
    """What a worker does with all that is due."""
    runner = jobs.Runner(app.extensions["resthooks"].plant)
    try:
        runner.run()
    finally:
        runner.close()


@contextlib.contextmanager
def serving(app: flask.Flask) -> Iterator[str]:
    """An app on loopback; its URL."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
