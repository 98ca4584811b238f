"""The OpenAPI document is valid and true: schemathesis finds nothing.

Run by `test_api_schemathesis.py` in a process of its own: to find out what the document allows
takes seconds, and pytest-xdist would have every worker do it.

It sends what the document allows and expects it to be accepted, and what the document forbids and
expects it to be refused. Which URLs may be called, which event types there are, and what time it
is, no document can say; `_narrowed` says it, so that no check has to be left out.
"""

from __future__ import annotations

import atexit
import itertools
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from api_host import ADDRESSES, NAMES, Host, host
from hypothesis import strategies as st

from flask_resthooks import signing
from flask_resthooks.api.fields import IdCursor

# Not the formats `uri` and `date-time`: schemathesis feeds them with what it finds in answers and
# examples, where a resource is a URI, and a time in the past.
schemathesis.openapi.format(
    "callable-url",
    st.builds(
        "https://{}/{}".format,
        st.sampled_from([name for name in ADDRESSES if name != "inside.example.com"]),
        st.text("abcxyz0123456789/-_.~%?&=", max_size=50),
    ),
)
# Which state a subscription is in, no document can say either.
HEADERS: dict[str, list[str]] = {
    "If-Match": ["*"],
    "If-None-Match": ["*", '"5d41402a"', 'W/"5d41402a", "x"'],
}
FUTURE = (
    r"^2(099|1[0-9][0-9])-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])[Tt]"
    r"([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]{1,12})?"
    r"([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$"
)
_VISIBLE = r"[\x21-\x7e\xa1-\xac\xae-\xff]"
VALUE = rf"^{_VISIBLE}+([ \t]+{_VISIBLE}+)*$"
"""What a header may hold: any other text is refused."""

SETTINGS = hypothesis.settings(
    max_examples=int(os.environ.get("RESTHOOKS_API_EXAMPLES", "8")),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)


def _narrowed(document: dict[str, Any], ids: dict[str, list[str]]) -> dict[str, Any]:
    """
    :param ids: those that exist, by the names of parameters in paths.
    """
    for path in document["paths"].values():
        for parameter in path.get("parameters", ()):
            if parameter["in"] == "path":
                parameter["schema"]["enum"] = ids[parameter["name"]]
        if "delete" in path:
            doomed = {**parameter, "schema": {"enum": ids["doomed"]}}
            path["delete"]["parameters"].append(doomed)
        for method in path.keys() & {"get", "put", "patch", "delete"}:
            for header in path[method].get("parameters", ()):
                if header["name"] in HEADERS:
                    header["schema"] = {"enum": HEADERS[header["name"]]}
    schemas = document["components"]["schemas"]
    for name in ("SubscriptionCreate", "Rotation"):
        # Which secret is of which kind, and that each is well made.
        schemas[f"RESTHooks{name}"]["properties"]["secret"] = {"enum": [signing.new_secret()]}
        schemas[f"RESTHooks{name}"]["properties"]["signature"] = {"enum": ["v1"]}
    schemas["RESTHooksPing"]["properties"]["event"]["enum"] = list(NAMES)
    schemas["RESTHooksRecover"]["properties"]["since"] = {"type": "string", "pattern": FUTURE}
    for path, parameter in _queries(document):
        if parameter["name"] in ("since", "until"):
            parameter["schema"] = {"type": "string", "pattern": FUTURE}
        elif path == "/api/v1/events" and parameter["name"] in ("after", "cursor"):
            values = ids["event_id"]
            if parameter["name"] == "cursor":
                values = [IdCursor.of(event_id) for event_id in values]
            parameter["schema"] = {"enum": values}
    patterns = [*NAMES, "contact.*", "invoice.*", "*"]
    for name in ("Create", "Replace", "Change"):
        properties = schemas[f"RESTHooksSubscription{name}"]["properties"]
        properties["headers"] = {
            "type": "object",
            "properties": {"X-Team": {"type": "string", "pattern": VALUE}},
            "additionalProperties": False,
        }
        properties["target_url"]["format"] = "callable-url"
        properties["expires_at"] = {"type": ["string", "null"], "pattern": FUTURE}
        properties["event"]["enum"] = patterns
        properties["events"]["items"]["enum"] = patterns
        # OpenAPI 3.0 does not have the word.
        properties["metadata"]["propertyNames"] = {
            "minLength": 1,
            "maxLength": 40,
            "pattern": r"^[^\x00]*$",
        }
    return document


def _queries(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method in methods.keys() & {"get", "post"}:
            for parameter in methods[method].get("parameters", ()):
                if parameter.get("in") == "query":
                    yield path, parameter


_directory = tempfile.TemporaryDirectory()
atexit.register(_directory.cleanup)
HOST = Host(f"sqlite:///{Path(_directory.name)}/test.db", config={"OPENAPI_VERSION": "3.1.0"})
SUBSCRIPTIONS, DOOMED = ([HOST.subscribe()["id"] for _ in range(30)] for _ in range(2))
DELIVERIES = HOST.deliveries(SUBSCRIPTIONS[0], 30)
HOST.attempts(DELIVERIES[0], 30)
EVENTS = HOST.events(30)
RECOVERIES = HOST.recoveries(SUBSCRIPTIONS[0], 30)

SCHEMA = schemathesis.openapi.from_dict(
    _narrowed(
        HOST.client.get("/openapi.json").json,
        {
            "subscription_id": SUBSCRIPTIONS,
            "doomed": DOOMED,
            "delivery_id": DELIVERIES[:3],
            "event_id": EVENTS,
            "recovery_id": RECOVERIES,
            "name": list(NAMES),
        },
    )
)
SCHEMA.app = HOST.app


_numbers = itertools.count()


@schemathesis.hook
def before_call(context: Any, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    """A key that was used once can only be used again for the very same request."""
    key = (case.headers or {}).get("Idempotency-Key")
    if isinstance(key, str) and re.fullmatch("[!-~]{1,255}", key):
        case.headers["Idempotency-Key"] = f"key-{next(_numbers)}"


@SCHEMA.parametrize()
@SETTINGS
def test_the_api_does_what_its_document_says(case: schemathesis.Case) -> None:
    case.call_and_validate()


def test_a_walk_through_the_api_finds_nothing() -> None:
    machine = SCHEMA.as_state_machine()
    machine.run(settings=hypothesis.settings(SETTINGS, max_examples=12, stateful_step_count=5))


@pytest.mark.parametrize("version", ["3.0.3", "3.1.0"])
def test_the_document_is_valid(sqlite_url: str, version: str) -> None:
    with host(sqlite_url, config={"OPENAPI_VERSION": version}) as made:
        document = made.client.get("/openapi.json").json
        assert document["openapi"] == version
        schemathesis.openapi.from_dict(document).validate()
