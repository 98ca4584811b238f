"""`Link`: whoever follows it sees a whole list, and nothing that he did not ask for."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from api_host import Host
from hypothesis import example, given
from hypothesis import strategies as st
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from flask_resthooks import ids
from flask_resthooks.api.paging import next_link
from flask_resthooks.models import utcnow

# RFC 8288 and RFC 3986: a path and a query, and nothing that could end them.
LINK = re.compile(r"<(/[A-Za-z0-9._~%/-]*\?[A-Za-z0-9._~%&=+*-]*)>; rel=\"next\"")


def followed(host: Host, path: str) -> list[list[dict[str, Any]]]:
    """The pages of a list, by its links alone."""
    pages = []
    url = host.prefix + path
    while True:
        answer = host.client.get(url)
        assert answer.status_code == 200, answer.text
        pages.append(answer.json["data"])
        head = host.client.head(url)
        assert head.headers.getlist("Link") == answer.headers.getlist("Link")
        if answer.json["next_cursor"] is None:
            assert "Link" not in answer.headers
            return pages
        [link] = answer.headers.getlist("Link")
        parsed = LINK.fullmatch(link)
        assert parsed is not None, link
        url = parsed[1]
        assert parse_qs(urlsplit(url).query)["cursor"] == [answer.json["next_cursor"]]


def test_every_list_can_be_followed_by_its_links(acme: Host) -> None:
    made = [acme.subscribe()["id"] for _ in range(5)]
    deliveries = acme.deliveries(made[0], 5)
    attempts = acme.attempts(deliveries[0], 5)
    for path, wanted in (
        ("/subscriptions", None),
        (f"/subscriptions/{made[0]}/deliveries", deliveries[::-1]),
        (f"/deliveries/{deliveries[0]}/attempts", attempts),
    ):
        pages = followed(acme, f"{path}?limit=2")
        assert [len(page) for page in pages] == [2, 2, 1]
        found = [entry["id"] for page in pages for entry in page]
        assert found == wanted if wanted is not None else set(found) == set(made)
    now = utcnow()
    event = {"owner": "acme", "type": "contact.create", "created_at": now, "data": "{}"}
    events = [{**event, "id": ids.new(ids.EVENT), "position": place} for place in range(1, 6)]
    acme.execute(acme.tables.event.insert(), events)
    for query, order in (
        ("limit=2&type=contact.create", events[::-1]),
        (f"limit=2&after={events[0]['id']}", events[1:]),
    ):
        pages = followed(acme, f"/events?{query}")
        assert [entry["id"] for page in pages for entry in page] == [row["id"] for row in order]
    pages = followed(acme, "/event-types?limit=3")
    assert [len(page) for page in pages] == [3, 1]


def test_a_link_keeps_the_filters_and_the_limit(quick: Host) -> None:
    path = f"/subscriptions/{quick.subscribe()['id']}/deliveries"
    quick.deliveries(path.split("/")[2], 4)
    failed = quick.deliveries(path.split("/")[2], 4, status="failed", due_at=None)
    pages = followed(quick, f"{path}/?status=failed&limit=3&tenant=5")
    assert [entry["id"] for page in pages for entry in page] == failed[::-1]


def test_everything_that_is_a_list_has_a_link_in_the_document(quick: Host) -> None:
    document = quick.client.get("/openapi.json").json
    seen = 0
    for path, operations in document["paths"].items():
        answer = operations.get("get", {"responses": {}})["responses"].get("200")
        if answer is None:
            continue
        schema = answer["content"]["application/json"]["schema"].get("$ref", "").rpartition("/")[2]
        properties = document["components"]["schemas"].get(schema, {}).get("properties", {})
        assert ("Link" in answer["headers"]) == ("next_cursor" in properties), path
        seen += "next_cursor" in properties
    assert seen >= 6


def link(query: str, *own: str, path: str = "/api/v1/things", root: str = "") -> str:
    environ = EnvironBuilder(path=path, base_url=f"http://localhost{root}/").get_environ()
    environ["QUERY_STRING"] = query
    return next_link(Request(environ), own, "NEXT")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("", "cursor=NEXT"),
        ("cursor=THIS", "cursor=NEXT"),
        ("cursor=THIS&limit=2", "limit=2&cursor=NEXT"),
        ("x=red&x=blue&limit", "x=red&x=blue&limit=&cursor=NEXT"),
        ("x=1;b=2", "x=1%3Bb%3D2&cursor=NEXT"),
        ("x=b c+d%20e", "x=b+c+d+e&cursor=NEXT"),
        ("limit=%FF&%78=%C3%A9", "limit=%FF&x=%C3%A9&cursor=NEXT"),
        ('x=>; rel="next", </evil', "x=%3E%3B+rel%3D%22next%22%2C+%3C%2Fevil&cursor=NEXT"),
        ("x=%0D%0ASet-Cookie:%20a=b", "x=%0D%0ASet-Cookie%3A+a%3Db&cursor=NEXT"),
    ],
)
def test_our_own_parameters_are_repeated_byte_by_byte(query: str, kept: str) -> None:
    assert link(query, "limit", "x") == f'</api/v1/things?{kept}>; rel="next"'


@pytest.mark.parametrize("name", ["api_key", "token", "sid", "otp", "tenant", "%78", "X", "x[]"])
def test_what_is_the_hosts_is_not_repeated(name: str) -> None:
    assert link(f"{name}=hush&limit=5", "limit") == (
        '</api/v1/things?limit=5&cursor=NEXT>; rel="next"'
    )


def test_a_link_is_right_where_the_app_is_mounted_below_a_path() -> None:
    assert link("", root="/shop").startswith("</shop/api/v1/things?cursor=NEXT>")
    assert link("", root="/sh%C3%B6p%3E").startswith("</sh%C3%B6p%3E/api/v1/things?cursor=NEXT>")


@given(st.binary(max_size=60).map(lambda raw: raw.decode("latin-1")))
@example("&&&=;?#=<>\"'\r\n\x00")
def test_whatever_the_query_is_the_header_is_one_link(query: str) -> None:
    assert LINK.fullmatch(link(query))


def test_a_client_library_finds_the_next_page(quick: Host) -> None:
    for _ in range(3):
        quick.subscribe()
    answer = quick.call("GET", "/subscriptions?limit=2")
    [parsed] = requests.utils.parse_header_links(answer.headers["Link"])
    assert parsed["rel"] == "next"
    assert len(quick.client.get(parsed["url"]).json["data"]) == 1
