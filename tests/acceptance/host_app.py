"""The app of the acceptance tests: `FLASK_APP=host_app` for workers, imported by the tests.

Its configuration is the JSON in the environment variable `HOST_CONFIG`.
"""

from __future__ import annotations

import json
import os
from typing import Any

import flask
import marshmallow as ma
from flask_sqlalchemy import SQLAlchemy

from flask_resthooks import RESTHooks

db = SQLAlchemy()
hooks = RESTHooks(db)


class ContactSchema(ma.Schema):
    id = ma.fields.Integer()
    name = ma.fields.String()


@hooks.resource("contact", schema=ContactSchema, owner="account_id")
class Contact(db.Model):  # type: ignore[name-defined, misc]
    id = db.Column(db.Integer, primary_key=True)
    account_id = db.Column(db.Integer, nullable=False)
    name = db.Column(db.String(100), nullable=False)
    private = db.Column(db.String(100))


hooks.event_type("invoice.paid", description="An invoice was paid.")


@hooks.owner_loader
def current_owner() -> str | None:
    return flask.request.headers.get("X-Owner")


def create_app(config: dict[str, Any] | None = None) -> flask.Flask:
    app = flask.Flask("host_app")
    app.config.update(config or json.loads(os.environ["HOST_CONFIG"]))
    db.init_app(app)
    hooks.init_app(app)
    return app
