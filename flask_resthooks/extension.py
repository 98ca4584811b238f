"""Top: the `RESTHooks` object. Wiring alone: what is wired is in the rooms below."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import flask
import flask_smorest
import marshmallow as ma

from . import cli, formats, models, settings
from .api import Context, create_blueprint, webhooks
from .authorization import Authorize, Event
from .capture import Capture, Resource
from .database import Database, check_dialect
from .errors import ConfigurationError
from .event_types import FULL, EventType, EventTypes, check_word
from .guard import Guard
from .intents import Intent, Intents
from .jobs import Plant
from .schema import explain_errors
from .sealing import check_seals
from .settings import Settings
from .vault import Vault
from .wakeups import Wakeups

if TYPE_CHECKING:
    from flask_sqlalchemy import SQLAlchemy

log = logging.getLogger(__name__)

VERBS = ("create", "update", "delete")
_HAPPENED = {"create": "was created", "update": "was changed", "delete": "was deleted"}

Model = TypeVar("Model", bound=type)
OwnerLoader = Callable[[], Any]
Owner = TypeVar("Owner", bound=OwnerLoader)
Asked = TypeVar("Asked", bound=Authorize)


@dataclass(frozen=True, slots=True)
class State:
    """What one app has of a `RESTHooks`: `app.extensions["resthooks"]`."""

    settings: Settings
    event_types: EventTypes
    guard: Guard
    wakeups: Wakeups
    plant: Plant


class RESTHooks:
    """REST Hooks for the Flask apps that use one Flask-SQLAlchemy `db`.

    :param db: gets the tables `resthooks_*` on its metadata; its session is listened to.
    :param app: initialised at once if given; see `init_app`.
    """

    def __init__(self, db: SQLAlchemy, app: flask.Flask | None = None) -> None:
        self.db = db
        self.tables = models.define(db.metadata)
        self.event_types = EventTypes()
        self.intents = Intents()
        self._resources: dict[str, tuple[type, Resource]] = {}
        self._owner_loader: OwnerLoader | None = None
        self._authorize: Authorize | None = None
        self._capture = Capture(self.tables, self.event_types, self._wake)
        self._capture.listen(db.session)
        if app is not None:
            self.init_app(app)

    def resource(
        self,
        name: str,
        *,
        schema: ma.Schema | type[ma.Schema],
        owner: str | Callable[[Any], Any],
        verbs: Sequence[str] = VERBS,
        url: Callable[[Any], str] | None = None,
        watch: Sequence[str] | None = None,
        description: str = "",
        payload: str = FULL,
        version: str = "1",
        deprecated: bool = False,
        public: bool = True,
        visible_to: Callable[[str], bool] | None = None,
    ) -> Callable[[Model], Model]:
        """Track a model: a class decorator.

        Every commit that creates, changes or deletes one of its records makes an event
        `<name>.create`, `<name>.update` or `<name>.delete`.

        :param name: the noun of the event types.
        :param schema: a marshmallow schema, represents a record as `data`. What it does not show
            is never sent.
        :param owner: whose record it is: the name of an attribute, or a callable that takes the
            record. A record whose owner is None makes no events.
        :param verbs: those of create, update and delete that make events.
        :param url: callable that takes a record and returns its URL in the app's API.
        :param watch: names of the attributes whose change makes an update; None: all that the
            schema shows.
        :param description: of the resource, for the API.
        :param payload: `full`, or `thin`: then only a record's key and URL are ever told.
        :param version: of the schema, as you count; shown by the API.
        :param deprecated: whether integrators had better use another one; shown by the API.
        :param public: False: no owner sees these event types, or gets their events.
        :param visible_to: callable that takes an owner's id and says whether that owner sees them.
        :raises ConfigurationError: if any of these is wrong.
        """
        check_word(name)
        verbs = tuple(verbs)
        unknown = [verb for verb in verbs if verb not in VERBS]
        if unknown or not verbs:
            raise ConfigurationError(
                f"verbs of {name!r}: {', '.join(map(repr, unknown)) or 'none'} given; "
                f"allowed are {', '.join(map(repr, VERBS))}"
            )
        if isinstance(watch, str):
            raise ConfigurationError(f"watch of {name!r} must be a sequence of attribute names")
        tracked = Resource(
            name=name,
            schema=_schema(schema, name),
            owner=owner,
            verbs=verbs,
            url=url,
            watch=None if watch is None else tuple(watch),
            payload=payload,
        )

        def track(model: Model) -> Model:
            what = description or f"A {name}"
            made = [
                EventType(
                    f"{name}.{verb}",
                    tracked.schema,
                    f"{what} {_HAPPENED[verb]}.",
                    version=version,
                    deprecated=deprecated,
                    public=public,
                    visible_to=visible_to,
                    payload=payload,
                )
                for verb in verbs
            ]
            for event_type in made:
                self.event_types.check(event_type)
            self._capture.track(model, tracked)
            for event_type in made:
                self._resources[event_type.name] = (model, tracked)
                self.event_types.add(event_type)
            return model

        return track

    def event_type(
        self,
        name: str,
        *,
        schema: ma.Schema | type[ma.Schema] | None = None,
        description: str = "",
        payload: str = FULL,
        version: str = "1",
        deprecated: bool = False,
        public: bool = True,
        visible_to: Callable[[str], bool] | None = None,
    ) -> EventType:
        """Register an event type for `emit`.

        :param name: `noun.verb`.
        :param schema: represents what is emitted; None: dictionaries are sent as they are.
        :param description: for the API; the other parameters are those of `resource`.
        :raises ConfigurationError: if the name is malformed or taken.
        """
        made = None if schema is None else _schema(schema, name)
        return self.event_types.add(
            EventType(
                name,
                made,
                description,
                version=version,
                deprecated=deprecated,
                public=public,
                visible_to=visible_to,
                payload=payload,
            )
        )

    def emit(
        self,
        event_type: str,
        value: Any,
        *,
        owner: Any,
        resource: str | None = None,
        url: str | None = None,
    ) -> str:
        """Have an event happen, in the current transaction of `db.session`.

        It goes out when that commits, and never if it is rolled back.

        :param event_type: a registered one.
        :param value: a record, represented by the event type's schema, or a dictionary.
        :param owner: whose event it is.
        :param resource: what it happened to, such as `invoice:17`.
        :param url: where that can be fetched.
        :returns: the event's id.
        :raises UnknownEventType: if nobody registered it.
        """
        return self._capture.emit(
            self.db.session, event_type, value, owner, resource=resource, url=url
        )

    def owner_loader(self, loader: Owner) -> Owner:
        """Decorator for the function that says whose request it is: an owner's id, or None.

        Called in each request to the API. None, and no loader at all, are answered with 401.
        """
        self._owner_loader = loader
        return loader

    def authorize(self, authorize: Asked) -> Asked:
        """Decorator for the function that says whether an owner may still be told of an event.

        Called with the owner's id and the event (`id`, `type`, `timestamp`, `sequence`, `resource`,
        `url`, `data`, `previous`). In the worker, in an app context, before each attempt: after a
        false answer the delivery is `cancelled`; what it raises is logged, and it is asked again at
        the next attempt. And in the API, for each event of the log and each sample that is shown.
        """
        self._authorize = authorize
        return authorize

    def intent(self, name: str, strategy: Intent) -> Intent:
        """Register a way to ask receivers whether they want to be called, before `init_app`.

        :param name: for the setting `RESTHOOKS_INTENT`.
        :raises ConfigurationError: if the name is malformed or taken, or this is no strategy.
        """
        return self.intents.add(name, strategy)

    def init_app(self, app: flask.Flask, api: flask_smorest.Api | None = None) -> None:
        """Bring REST Hooks into an app: read its settings, register the API and the commands.

        :param api: the app's flask-smorest `Api`; the routes are documented in its OpenAPI. None:
            the app's own if it has one already, else one is made.
        :raises ConfigurationError: if a setting is unknown or bad, or the database unfit.
        """
        if "resthooks" in app.extensions:
            raise ConfigurationError("this app has been given to a RESTHooks already")
        chosen = settings.from_config(app.config, self.intents)
        self._check_database(app)
        vault = Vault(chosen.encryption_keys)
        intent = self.intents.get(chosen.intent)
        guard = Guard(
            require_https=chosen.require_https,
            allowed_networks=chosen.allowed_networks,
            denied_networks=chosen.denied_networks,
            nat64_prefixes=chosen.nat64_prefixes,
        )
        wakeups = Wakeups(chosen)
        plant = Plant(
            app=app,
            engine=lambda: _engine(app, self.db),
            tables=self.tables,
            settings=chosen,
            guard=guard,
            wakeups=wakeups,
            event_types=self.event_types,
            vault=vault,
            intent=intent,
            authorize=lambda: self._authorize,
        )
        app.extensions["resthooks"] = State(chosen, self.event_types, guard, wakeups, plant)
        context = Context(
            db=self.db,
            tables=self.tables,
            event_types=self.event_types,
            settings=chosen,
            guard=guard,
            owner=self._owner,
            wake=wakeups.wake,
            vault=vault,
            check_seals=_once(
                lambda: check_seals(Database(_engine(app, self.db)), self.tables, vault)
            ),
            intent=intent,
            permits=self._permits,
            resources=self._resources.get,
        )
        theirs = api or _api_of(app)
        ours = theirs or _own_api(app)
        # A host that has no `Api` publishes no document: then there is one beside our routes.
        document = None if theirs else lambda: ours.spec.to_dict()
        ours.register_blueprint(create_blueprint(context, document))
        webhooks.install(ours.spec, self.event_types, format=chosen.format, source=chosen.source)
        app.cli.add_command(cli.commands)

    def _check_database(self, app: flask.Flask) -> None:
        if "sqlalchemy" not in app.extensions:
            return  # db.init_app comes later; a worker checks it again
        engine = _engine(app, self.db)
        check_dialect(engine.dialect.name)
        explain_errors(engine, app.extensions)

    def _owner(self) -> str | None:
        owner = None if self._owner_loader is None else self._owner_loader()
        # What an app's code for "nobody" may be; an owner's id can be 0.
        nobody = owner is None or owner is False or owner == ""
        return None if nobody else models.owner_id(owner)

    def _permits(self, owner: str, event: formats.Event) -> bool:
        """In doubt, nothing is shown: hooks can be tried again, an answer cannot."""
        try:
            return self._authorize is None or bool(self._authorize(owner, Event(event)))
        except Exception:
            log.exception("whether %s may be seen is not known", event.id)
            return False

    def _wake(self) -> None:
        """After a commit with events. An app that was not initialised has no queue to wake."""
        if not flask.has_app_context():
            return
        state = flask.current_app.extensions.get("resthooks")
        if state is not None:
            state.wakeups.wake()


def _once(act: Callable[[], None]) -> Callable[[], None]:
    """Does it at the first call, and again until it has not failed."""
    done = False

    def at_first() -> None:
        nonlocal done
        if not done:
            act()
            done = True

    return at_first


def _engine(app: flask.Flask, db: SQLAlchemy) -> Any:
    with app.app_context():
        return db.engine


def _schema(schema: ma.Schema | type[ma.Schema], name: str) -> ma.Schema:
    made = schema() if isinstance(schema, type) else schema
    if not isinstance(made, ma.Schema):
        raise ConfigurationError(
            f"the schema of {name!r} must be a marshmallow schema, not {schema!r}"
        )
    return made


def _api_of(app: flask.Flask) -> flask_smorest.Api | None:
    """The app's own `Api`, if it has one already."""
    apis = app.extensions.get("flask-smorest", {}).get("apis", {})
    return apis[""]["ext_obj"] if "" in apis else None


def _own_api(app: flask.Flask) -> flask_smorest.Api:
    """An `Api` that leaves everything else of the app alone."""
    document = {"title": app.name, "version": "1", "openapi_version": "3.1.0"}
    return _QuietApi(app, spec_kwargs=document, config_prefix="RESTHOOKS_API_")


class _QuietApi(flask_smorest.Api):  # type: ignore[misc]  # it has no types
    """An `Api` for our routes alone: the app's error pages stay the app's."""

    def _register_error_handlers(self) -> None:
        pass  # the blueprint has its own
