"""`RESTHooks` in an app: settings, several apps, every kind of `db`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flask
import flask_smorest
import marshmallow as ma
import pytest
import sqlalchemy as sa
from flask_sqlalchemy import SQLAlchemy
from flask_sqlalchemy.session import Session

import flask_resthooks
from flask_resthooks import RESTHooks
from flask_resthooks.errors import ConfigurationError, RESTHooksError, UnknownEventType


class ThingSchema(ma.Schema):
    id = ma.fields.Integer()
    name = ma.fields.String()


MakeApp = Callable[..., flask.Flask]


@pytest.fixture
def make_app(tmp_path: Path) -> Iterator[MakeApp]:
    made: list[tuple[flask.Flask, SQLAlchemy]] = []

    def make(db: SQLAlchemy, hooks: RESTHooks | None, **config: Any) -> flask.Flask:
        app = flask.Flask(f"app_{len(made)}")
        app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path}/{len(made)}.db"
        # Nobody listens there: commits are to succeed all the same.
        app.config["RESTHOOKS_REDIS_URL"] = "redis://127.0.0.1:1/0"
        app.config.update(config)
        db.init_app(app)
        if hooks is not None:
            hooks.init_app(app)
            made.append((app, db))
        with app.app_context():
            db.create_all()
        return app

    yield make
    for app, db in made:
        # Ends the thread that waits for Redis, though it may only be about to begin.
        app.extensions["resthooks"].wakeups._is_failing = lambda: False
        with app.app_context():
            db.session.remove()
            for engine in db.engines.values():
                engine.dispose()


def thing(db: SQLAlchemy, hooks: RESTHooks, bind: str | None = None, **options: Any) -> Any:
    @hooks.resource("thing", schema=ThingSchema, owner="owner", **options)
    class Thing(db.Model):  # type: ignore[name-defined, misc]
        __bind_key__ = bind
        id = db.Column(db.Integer, primary_key=True)
        owner = db.Column(db.String(10))
        name = db.Column(db.String(100))

    return Thing


def types(db: SQLAlchemy, hooks: RESTHooks) -> list[str]:
    event = hooks.tables.event
    with db.engine.connect() as connection:
        return list(connection.scalars(sa.select(event.c.type).order_by(event.c.sequence)))


def test_one_resthooks_serves_several_apps_in_one_process(make_app: MakeApp) -> None:
    db = SQLAlchemy()
    hooks = RESTHooks(db)
    hooks.owner_loader(lambda: "1")
    Thing = thing(db, hooks)
    one = make_app(db, hooks, RESTHOOKS_URL_PREFIX="/one", RESTHOOKS_REQUIRE_HTTPS=False)
    two = make_app(db, hooks, RESTHOOKS_URL_PREFIX="/two")
    url = {"target_url": "http://93.184.216.34/", "events": ["*"]}
    assert one.test_client().post("/one/subscriptions", json=url).status_code == 201
    answer = two.test_client().post("/two/subscriptions", json=url)
    assert answer.status_code == 422
    assert "https" in answer.get_json()["errors"]["target_url"][0]
    assert len(one.test_client().get("/one/subscriptions").get_json()["data"]) == 1
    assert two.test_client().get("/two/subscriptions").get_json()["data"] == []
    with one.app_context():
        db.session.add(Thing(owner="1", name="a"))
        db.session.commit()
        assert types(db, hooks) == ["thing.create"]
    with two.app_context():
        assert types(db, hooks) == []


def test_the_routes_of_the_host_keep_their_errors(make_app: MakeApp) -> None:
    db = SQLAlchemy()
    hooks = RESTHooks(db)
    app = make_app(db, hooks)

    @app.errorhandler(404)
    def lost(error: Exception) -> tuple[str, int]:
        return "the host's own", 404

    @app.get("/gone")
    def gone() -> None:
        flask.abort(404)

    client = app.test_client()
    assert client.get("/gone").text == client.get("/nowhere").text == "the host's own"
    answer = client.get("/api/v1/subscriptions")
    assert (answer.status_code, answer.get_json()["error_code"]) == (401, "not_authenticated")


def test_an_app_without_flask_smorest_keeps_its_error_pages_and_may_add_it_later(
    make_app: MakeApp,
) -> None:
    db = SQLAlchemy()
    app = make_app(db, RESTHooks(db))
    assert app.test_client().get("/nowhere").mimetype == "text/html"
    assert app.test_client().get("/openapi.json").status_code == 404
    app.config.update(API_TITLE="Own", API_VERSION="1", OPENAPI_VERSION="3.0.3")
    app.config["OPENAPI_URL_PREFIX"] = "/"
    app._got_first_request = False
    flask_smorest.Api(app)
    assert app.test_client().get("/openapi.json").status_code == 200


def test_the_routes_are_documented_in_the_api_of_the_host(make_app: MakeApp) -> None:
    db = SQLAlchemy()
    hooks = RESTHooks(db)
    app = flask.Flask("host")
    app.config.update(
        API_TITLE="Host",
        API_VERSION="2",
        OPENAPI_VERSION="3.0.3",
        SQLALCHEMY_DATABASE_URI="sqlite://",
    )
    db.init_app(app)
    api = flask_smorest.Api(app)
    hooks.init_app(app)
    document = api.spec.to_dict()
    assert document["info"]["title"] == "Host"
    assert "/api/v1/subscriptions" in document["paths"]
    with app.app_context():
        db.engine.dispose()


def test_an_unknown_setting_stops_init_app(make_app: MakeApp) -> None:
    db = SQLAlchemy()
    with pytest.raises(ConfigurationError, match=r"no setting RESTHOOKS_TIMEOT; .*TIMEOUT"):
        make_app(db, RESTHooks(db), RESTHOOKS_TIMEOT=5)


def test_a_lease_that_an_attempt_could_outlast_stops_init_app(make_app: MakeApp) -> None:
    db = SQLAlchemy()
    with pytest.raises(ConfigurationError, match="RESTHOOKS_LEASE"):
        make_app(db, RESTHooks(db), RESTHOOKS_LEASE=15, RESTHOOKS_TIMEOUT=15)


def test_a_database_that_cannot_work_stops_init_app() -> None:
    db = SQLAlchemy()
    app = flask.Flask("unfit")

    class Engine:
        dialect = type("Dialect", (), {"name": "mysql"})

    class Unfit:
        metadata, session = db.metadata, db.session
        engine = Engine()

    app.extensions["sqlalchemy"] = db
    hooks = RESTHooks(db)
    hooks.db = Unfit()  # type: ignore[assignment]
    with pytest.raises(ConfigurationError, match="sqlite and postgresql, not on mysql"):
        hooks.init_app(app)


def test_an_app_cannot_be_given_twice(make_app: MakeApp) -> None:
    db = SQLAlchemy()
    hooks = RESTHooks(db)
    app = make_app(db, hooks)
    with pytest.raises(ConfigurationError, match="already"):
        hooks.init_app(app)


def test_a_model_with_a_bind_key_is_captured(make_app: MakeApp, tmp_path: Path) -> None:
    db = SQLAlchemy()
    hooks = RESTHooks(db)
    Thing = thing(db, hooks, bind="other")
    app = make_app(db, hooks, SQLALCHEMY_BINDS={"other": f"sqlite:///{tmp_path}/other.db"})
    with app.app_context():
        db.session.add(Thing(owner="1", name="a"))
        db.session.commit()
        assert types(db, hooks) == ["thing.create"]


def test_a_session_class_of_the_host_works(make_app: MakeApp) -> None:
    class Own(Session):
        pass

    db = SQLAlchemy(session_options={"class_": Own, "expire_on_commit": False})
    hooks = RESTHooks(db)
    Thing = thing(db, hooks)
    app = make_app(db, hooks)
    with app.app_context():
        assert isinstance(db.session(), Own)
        db.session.add(Thing(owner="1", name="a"))
        db.session.commit()
        assert types(db, hooks) == ["thing.create"]


def test_the_legacy_query_is_seen(make_app: MakeApp) -> None:
    db = SQLAlchemy()
    hooks = RESTHooks(db)
    Thing = thing(db, hooks)
    app = make_app(db, hooks)
    with app.app_context():
        db.session.add_all([Thing(owner="1", name="a"), Thing(owner="1", name="b")])
        db.session.commit()
        Thing.query.filter_by(name="a").update({"name": "c"})
        db.session.commit()
        Thing.query.delete()
        db.session.commit()
        assert types(db, hooks) == [
            *["thing.create"] * 2,
            "thing.update",
            *["thing.delete"] * 2,
        ]


def test_the_app_sees_its_wake_ups_and_another_app_does_not(make_app: MakeApp) -> None:
    db = SQLAlchemy()
    hooks = RESTHooks(db)
    Thing = thing(db, hooks)
    one, two = make_app(db, hooks), make_app(db, hooks)
    woken: list[str] = []
    for app in (one, two):
        wakeups = app.extensions["resthooks"].wakeups
        wakeups.wake = lambda name=app.name: woken.append(name)
    with two.app_context():
        db.session.add(Thing(owner="1", name="a"))
        db.session.commit()
        db.session.commit()
    assert woken == [two.name]


def test_verbs_choose_what_happens(make_app: MakeApp) -> None:
    db = SQLAlchemy()
    hooks = RESTHooks(db)
    Thing = thing(db, hooks, verbs=("delete",))
    app = make_app(db, hooks)
    with app.app_context():
        made = Thing(owner="1", name="a")
        db.session.add(made)
        db.session.commit()
        db.session.delete(made)
        db.session.commit()
        assert types(db, hooks) == ["thing.delete"]
    assert list(hooks.event_types) == ["thing.delete"]


def test_an_event_can_be_emitted(make_app: MakeApp) -> None:
    db = SQLAlchemy()
    hooks = RESTHooks(db)
    hooks.event_type("invoice.paid", description="An invoice was paid.")
    app = make_app(db, hooks)
    with app.app_context():
        hooks.emit("invoice.paid", {"total": 5}, owner=1)
        db.session.rollback()
        hooks.emit("invoice.paid", {"total": 7}, owner=1, resource="invoice:7")
        db.session.commit()
        with db.engine.connect() as connection:
            (row,) = connection.execute(hooks.tables.event.select())
        assert (row.owner, row.resource, row.data) == ("1", "invoice:7", '{"total":7}')
        with pytest.raises(UnknownEventType, match=r"no event type 'invoice.lost'; known: invoice"):
            hooks.emit("invoice.lost", {}, owner=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "Two Words"}, "'Two Words'"),
        ({"verbs": ("made",)}, "allowed are 'create', 'update', 'delete'"),
        ({"verbs": ()}, "allowed are 'create', 'update', 'delete'"),
        ({"watch": "name"}, "sequence of attribute names"),
        ({"schema": dict}, "must be a marshmallow schema"),
    ],
)
def test_a_bad_registration_is_named(arguments: dict[str, Any], message: str) -> None:
    hooks = RESTHooks(SQLAlchemy())
    given: dict[str, Any] = {"name": "thing", "schema": ThingSchema, "owner": "x", **arguments}
    with pytest.raises(ConfigurationError, match=message):
        hooks.resource(given.pop("name"), **given)(type("Model", (), {}))


def test_the_public_names_are_these() -> None:
    assert sorted(flask_resthooks.__all__) == ["RESTHooks", "RESTHooksError", "__version__"]
    assert flask_resthooks.RESTHooks is RESTHooks
    with pytest.raises(AttributeError):
        flask_resthooks.RESTHook  # noqa: B018  (the access is the test)


def test_an_owner_id_that_is_too_long_is_named_before_the_commit(make_app: MakeApp) -> None:
    db = SQLAlchemy()
    hooks = RESTHooks(db)
    hooks.event_type("thing.done")

    @hooks.resource("thing", schema=ThingSchema, owner=lambda thing: "x" * 300)
    class Thing(db.Model):  # type: ignore[name-defined, misc]
        id = db.Column(db.Integer, primary_key=True)

    app = make_app(db, hooks)
    with app.app_context():
        db.session.add(Thing())
        with pytest.raises(RESTHooksError, match="300 characters; 255 are allowed"):
            db.session.commit()
        db.session.rollback()
        with pytest.raises(RESTHooksError, match="300 characters"):
            hooks.emit("thing.done", {}, owner="x" * 300)
        db.session.rollback()


def test_a_second_resource_of_a_model_or_name_is_refused_as_a_whole() -> None:
    db = SQLAlchemy()
    hooks = RESTHooks(db)
    Thing = thing(db, hooks, verbs=("create",))
    with pytest.raises(ConfigurationError, match="thing"):
        hooks.resource("other", schema=ThingSchema, owner="owner")(Thing)

    class Other(db.Model):  # type: ignore[name-defined, misc]
        id = db.Column(db.Integer, primary_key=True)

    with pytest.raises(ConfigurationError, match=r"'thing.create' is registered already"):
        hooks.resource("thing", schema=ThingSchema, owner="owner")(Other)
    hooks.resource("other", schema=ThingSchema, owner="owner", verbs=("delete",))(Other)
    assert list(hooks.event_types) == ["thing.create", "other.delete"]
