"""The app that is measured: a tracked model, and the same one untracked. `FLASK_APP=bench_app`."""

from __future__ import annotations

import json
import os
from typing import Any

import flask
import marshmallow as ma
import sqlalchemy as sa
from flask_sqlalchemy import SQLAlchemy

from flask_resthooks import RESTHooks

db = SQLAlchemy()
hooks = RESTHooks(db)


class ContactSchema(ma.Schema):
    id = ma.fields.Integer()
    name = ma.fields.String()
    email = ma.fields.String()
    city = ma.fields.String()
    note = ma.fields.String()


class Columns:
    id = db.Column(db.Integer, primary_key=True)
    account_id = db.Column(db.Integer)
    name = db.Column(db.String(100))
    email = db.Column(db.String(100))
    city = db.Column(db.String(100))
    note = db.Column(db.Text)


@hooks.resource("contact", schema=ContactSchema, owner="account_id")
class Tracked(Columns, db.Model):  # type: ignore[name-defined, misc]
    pass


class Untracked(Columns, db.Model):  # type: ignore[name-defined, misc]
    pass


@hooks.owner_loader
def owner() -> str:
    return flask.request.headers.get("X-Owner", "1")


def create_app(config: dict[str, Any] | None = None) -> flask.Flask:
    app = flask.Flask("bench_app")
    app.config.update(config or json.loads(os.environ["BENCH_CONFIG"]))
    db.init_app(app)
    hooks.init_app(app)
    _add_view(app, db, Tracked)
    return app


def without_hooks(database_url: str) -> tuple[flask.Flask, SQLAlchemy, Any]:
    """An app with the same model and no flask_resthooks at all."""
    bare = SQLAlchemy()

    class Bare(bare.Model):  # type: ignore[name-defined, misc]
        id = bare.Column(bare.Integer, primary_key=True)
        account_id = bare.Column(bare.Integer)
        name = bare.Column(bare.String(100))
        email = bare.Column(bare.String(100))
        city = bare.Column(bare.String(100))
        note = bare.Column(bare.Text)

    app = flask.Flask("bare_app")
    app.config["SQLALCHEMY_DATABASE_URI"] = database_url
    bare.init_app(app)
    _add_view(app, bare, Bare)
    return app, bare, Bare


def _add_view(app: flask.Flask, database: SQLAlchemy, model: Any) -> None:
    """A request that reads and changes nothing."""

    def contacts() -> list[str]:
        newest = sa.select(model).order_by(model.id.desc()).limit(10)
        return [contact.name for contact in database.session.scalars(newest)]

    app.add_url_rule("/contacts", view_func=contacts)
