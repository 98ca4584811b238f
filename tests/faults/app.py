"""The app of the laboratory: it does the workload's transactions, and keeps a ledger of them.

The ledger is the app's own and knows nothing of flask_resthooks: what a transaction should make
happen is written by that very transaction, so after any crash a row of the ledger says that it was
committed, and no row says that it was not.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

import flask
import marshmallow as ma
import sqlalchemy as sa
from flask_sqlalchemy import SQLAlchemy

from flask_resthooks import RESTHooks

from .workload import Operation

db = SQLAlchemy()
hooks = RESTHooks(db)

ledger = sa.Table(
    "ledger",
    db.metadata,
    sa.Column("name", sa.String(100), primary_key=True),
    # Seconds since the epoch, just before the commit.
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("happenings", sa.JSON, nullable=False),
)

contended = sa.Table(
    "contended",
    db.metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("value", sa.Integer, nullable=False),
)
"""One row that every transaction changes, if the app is configured so: for conflicts."""


class Shown(ma.Schema):
    key = ma.fields.String()
    version = ma.fields.Integer()
    mark = ma.fields.String()


class _Record:
    key = sa.Column(sa.String(100), primary_key=True)
    owner = sa.Column(sa.String(20), nullable=False)
    version = sa.Column(sa.Integer, nullable=False)
    mark = sa.Column(sa.String(100), nullable=False)
    hidden = sa.Column(sa.String(100))


@hooks.resource("contact", schema=Shown, owner="owner")
class Contact(_Record, db.Model):  # type: ignore[name-defined, misc]
    pass


@hooks.resource("order", schema=Shown, owner="owner")
class Order(_Record, db.Model):  # type: ignore[name-defined, misc]
    pass


MODELS: dict[str, Any] = {"contact": Contact, "order": Order}


@hooks.owner_loader
def current_owner() -> str | None:
    return flask.request.headers.get("X-Owner")


def create_app(config: dict[str, Any]) -> flask.Flask:
    app = flask.Flask("faults")
    app.config.update(config)
    db.init_app(app)
    hooks.init_app(app)
    app.post("/transactions")(do_transaction)
    return app


def begin_at_once(app: flask.Flask) -> None:
    """Have SQLite's transactions be such from their first statement on, as SQLAlchemy advises.

    Python's driver begins one before the first change only, so that a savepoint that comes before
    it is a transaction of its own: its release commits half of what the app does.
    """
    with app.app_context():
        engine = db.engine
    if engine.dialect.name != "sqlite":
        return

    @sa.event.listens_for(engine, "connect")
    def leave_it_to_us(connection: Any, record: Any) -> None:
        connection.isolation_level = None

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def make_tables(app: flask.Flask) -> None:
    with app.app_context():
        db.create_all()
        with db.engine.begin() as connection:
            if connection.scalar(sa.select(contended.c.id)) is None:
                connection.execute(contended.insert().values(id=1, value=0))


def do_transaction() -> Any:
    """Do one of the workload's transactions; again, if it was asked for twice, is done once."""
    asked = flask.request.get_json()
    config = flask.current_app.config
    _intend(config["INTENTIONS"], asked["name"])
    before = sa.select(ledger.c.name).where(ledger.c.name == asked["name"])
    if db.session.execute(before).first():
        return {"done": "before"}
    for operation in asked["operations"]:
        _do(operation)
    if config.get("CONTENDED"):
        counted = contended.update().values(value=contended.c.value + 1)
        db.session.execute(counted)
    if asked["rolled_back"]:
        db.session.flush()
        db.session.rollback()
        return {"done": "rolled back"}
    db.session.execute(
        ledger.insert().values(name=asked["name"], at=time.time(), happenings=asked["happenings"])
    )
    db.session.commit()
    return {"done": "committed"}


def _intend(path: str, name: str) -> None:
    """Log what is going to be tried: one write, which no kill cuts in two."""
    with open(path, "ab", buffering=0) as log:
        log.write(json.dumps({"name": name, "pid": os.getpid()}).encode() + b"\n")


def _do(operation: Operation) -> None:
    do = operation["do"]
    if do == "savepoint":
        savepoint = db.session.begin_nested()
        for inner in operation["operations"]:
            _do(inner)
        if operation["kept"]:
            savepoint.commit()
        else:
            db.session.flush()
            savepoint.rollback()
        return
    model = MODELS[operation["kind"]]
    if do == "create":
        names = ("key", "owner", "version", "mark")
        db.session.add(model(**{name: operation[name] for name in names}))
        return
    if do == "bulk":
        db.session.execute(
            sa.update(model)
            .where(model.key.in_(operation["keys"]))
            .values(version=model.version + 1, mark=operation["mark"])
        )
        return
    record = db.session.get_one(model, operation["key"])
    if do == "delete":
        db.session.delete(record)
    elif do == "quiet":
        record.hidden = operation["mark"]
    else:
        record.owner = operation["owner"]
        record.version, record.mark = operation["version"], operation["mark"]
