"""What formats say in words, and at the very edges: found by `make mutants`."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from flask_resthooks import formats, signing
from flask_resthooks.errors import ConfigurationError
from flask_resthooks.formats import (
    BARE,
    CLOUDEVENTS,
    FULL,
    STANDARD,
    THIN,
    Event,
    Recipient,
    body,
    fitting_body,
    thin_data,
)

NOW = dt.datetime(2026, 1, 15, 9, 30, tzinfo=dt.timezone.utc)
SOURCE = "https://crm.example.com/api"


def event(data: str = "{}", previous: str | None = None) -> Event:
    url = "https://crm.example.com/contacts/17"
    return Event("evt_1", "contact.update", NOW, 42, data, previous, "contact:17", url)


def test_each_refusal_says_what_there_is() -> None:
    with pytest.raises(ValueError) as refused:
        body(event(), Recipient("", "", STANDARD, "half"))
    assert str(refused.value) == "there is no payload 'half'; known: full, thin"
    for ask in (
        lambda: body(event(), Recipient("", "", "xml")),
        lambda: formats.content_type("xml"),
    ):
        with pytest.raises(ValueError) as refused:
            ask()
        known = "standard, resthooks, bare, cloudevents"
        assert str(refused.value) == f"there is no format 'xml'; known: {known}"
    with pytest.raises(ConfigurationError) as misconfigured:
        formats.check_source("a b")
    assert str(misconfigured.value) == (
        "'a b' is no source of CloudEvents; it must be a URI or a path, such as "
        "'https://app.example.com' or '/shop', and not empty"
    )
    with pytest.raises(ValueError) as refused:
        formats.headers(event(), b"{}", signers=[], timestamp=1, user_agent="x")
    assert str(refused.value) == "a hook is not sent without a signature"
    with pytest.raises(TypeError) as impossible:
        formats.to_json(1j)
    assert str(impossible.value) == "a complex (1j) has no place in JSON"


@pytest.mark.parametrize("limit", [10_000, 500, 1])
def test_a_body_that_has_to_fit_names_its_source_however_short_it_gets(limit: int) -> None:
    recipient = Recipient("", "", CLOUDEVENTS)
    made = fitting_body(event(json.dumps("x" * 1000)), recipient, limit=limit, source=SOURCE)
    told = json.loads(made.content)
    assert told["source"] == SOURCE
    assert ("x" * 1000 in str(told), made.payload) == (limit > 1000, FULL if limit > 1000 else THIN)
    if limit < 1000:
        assert ("url" in str(told["data"])) and (told["data"]["url"] is None) == (limit == 1)


def test_a_body_as_long_as_the_limit_fits() -> None:
    long = event(json.dumps("x" * 1000))
    for payload in (FULL, THIN):
        exact = body(long, Recipient("", "", STANDARD, payload))
        for short in (0, 1):
            made = fitting_body(long, Recipient("", ""), limit=len(exact) - short)
            assert (made.content == exact) == (short == 0), payload


def test_data_of_the_same_words_as_thin_ones_are_not_thin() -> None:
    own = '{"resource":"contact:17","name":"Ada"}'
    kept = thin_data(event())
    for data, previous, payload in (
        (own, None, FULL),
        (kept, '{"resource":null}', FULL),
        (own, "{}", FULL),
        (kept, None, THIN),
    ):
        made = fitting_body(event(data, previous), Recipient("", "", BARE), limit=10_000)
        assert (made.payload, made.content) == (payload, data.encode())
        told = json.loads(body(event(data, previous)))
        assert told.get("payload") == (THIN if payload == THIN else None)
        assert ("previous" in told) == (previous is not None)


def test_cloudevents_have_no_delete_characters_in_previous() -> None:
    told = json.loads(body(event(previous='{"name":"a\x7fb"}'), Recipient("", "", CLOUDEVENTS)))
    assert told["previous"] == '{"name":"a\\u007fb"}'


def test_the_first_plain_signature_is_the_one_beside() -> None:
    secrets = [signing.new_secret("v1a"), signing.new_secret(), signing.new_secret()]
    signers = [signing.signer(secret) for secret in secrets]
    made = formats.headers(event(), b"{}", signers=signers, timestamp=1, user_agent="x")
    assert made["x-hook-signature"] == signers[1].hook_signature(b"{}")
