"""A host app with Flask-Migrate, in a process of its own: Alembic's `env.py` sets up logging.

Run as `migrate_host.py DATABASE_URL FOLDER`, with a JSON list of commands on standard input, each a
list of words after `flask`. There are some more: `write N`, a revision of the first N steps as if
there were no more of them (one more than there are: with `TO_COME`); `read`, which prints the
revisions; and `forget`, which drops all tables and the revisions. Prints for each command its exit
status and output, as JSON.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import flask
import sqlalchemy as sa
from flask.cli import ScriptInfo
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy

from flask_resthooks import RESTHooks
from flask_resthooks.migrations import STEPS, AddColumn, AddIndex
from flask_resthooks.migrations.revision import write

TO_COME = (
    AddColumn("resthooks_host", lambda: sa.Column("note", sa.Text, server_default="a:b 100%")),
    AddIndex("resthooks_delivery", "resthooks_delivery_new", ("status", "id"), "status = 'failed'"),
    AddIndex("resthooks_event", "resthooks_event_new", ("id", "kind"), unique=True),
)
"""What a step could bring: a default that needs quoting, and indexes of big tables."""


def make_app(url: str, binds: bool) -> tuple[flask.Flask, SQLAlchemy]:
    db = SQLAlchemy(metadata=sa.MetaData(naming_convention={"uq": "uq_%(column_0_label)s"}))
    hooks = RESTHooks(db)

    class Note(db.Model):  # type: ignore[name-defined, misc]
        id = db.Column(db.Integer, primary_key=True)
        text = db.Column(db.String(50), unique=True)

    app = flask.Flask("migrate_host")
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    if binds:
        app.config["SQLALCHEMY_BINDS"] = {"other": f"sqlite:///{os.getcwd()}/other.db"}
    db.init_app(app)
    hooks.init_app(app)
    return app, db


def run(app: flask.Flask, db: SQLAlchemy, words: list[str]) -> int:
    if words[0] == "write":
        steps = (*STEPS, TO_COME)[: int(words[1])]
        with app.app_context():
            for path in write(app.extensions, db.engine, db.metadata, steps=steps):
                print(path)
        return 0
    if words[0] == "read":
        print(*(path.read_text() for path in Path("migrations/versions").glob("*.py")))
        return 0
    if words[0] == "forget":
        with app.app_context():
            reflected = sa.MetaData()
            reflected.reflect(db.engine)
            reflected.drop_all(db.engine)
        shutil.rmtree("migrations")
        return 0
    try:
        app.cli.main(words, "flask", obj=ScriptInfo(create_app=lambda: app), standalone_mode=False)
    except SystemExit as end:
        return int(end.code or 0)
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
        return 1
    return 0


def main(url: str, folder: str, commands: Any) -> None:
    os.chdir(folder)
    binds = any("--multidb" in words for words in commands)
    app, db = make_app(url, binds)
    results = []
    for words in commands:
        Migrate(app, db)  # anew: it keeps something of each command
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            status = run(app, db, words)
        results.append([status, said.getvalue()])
    with app.app_context():
        db.engine.dispose()
    print(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], json.load(sys.stdin))
