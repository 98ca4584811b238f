"""The catalogue of hostile receivers, against every transport, and through a drain."""

from __future__ import annotations

import itertools
import os
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from api_host import Host
from engine import Engine
from world import World

from flask_resthooks import jobs
from flask_resthooks.judging import Judge
from flask_resthooks.models import EVENT, utcnow
from flask_resthooks.transport import Answer, Request, Transport
from tests.integration.hostile_catalogue import CASES, TEXTS, Case
from tests.integration.hostile_measures import NAMES, PAGE, TIMEOUT, Memory, make, warm_up
from tests.integration.hostile_servers import HOLDER, Fleet, fleet
from tests.integration.receivers import OK, Receiver

MEMORY = 2_000_000
"""Bytes by which an attempt may let this process grow."""


@pytest.fixture(scope="module")
def receivers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet(tmp_path_factory.mktemp("hostile")) as made:
        yield made


@pytest.fixture(scope="module", params=NAMES)
def transport(request: pytest.FixtureRequest, receivers: Fleet) -> Iterator[Transport]:
    made = make(request.param, receivers)
    warm_up(made, receivers)
    yield made
    made.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_attempt_ends_in_time_and_in_bounds_with_the_exact_reason(
    transport: Transport, receivers: Fleet, case: Case
) -> None:
    request = Request(receivers.url(case), {"webhook-id": "msg_1"}, case.body)
    with Memory() as memory:
        start = time.monotonic()
        answer = transport.submit(request).result(60)
        lasted = time.monotonic() - start
    assert (answer.status, answer.error) == (case.status, case.error), answer.detail
    assert re.fullmatch(case.detail, answer.detail), answer.detail
    assert answer.detail.isprintable()
    assert lasted < TIMEOUT + 1
    if case.waits:
        assert lasted >= TIMEOUT
    if case.response is not None:
        assert answer.body == case.response
    assert len(answer.body) <= 1024
    assert not re.search(r"[\x00-\x1f\x7f]", "".join(answer.headers.values()))
    assert memory.allocated < MEMORY
    assert memory.resident < MEMORY


def test_the_page_shows_the_catalogue() -> None:
    """`python -m tests.integration.hostile_measures` writes it anew."""
    shown = [row.split(" | ")[:3] for row in PAGE.read_text().splitlines() if row[:2] == "| "]
    assert [[cell.strip("| `") for cell in row] for row in shown[2:]] == [
        [case.name, str(case.status or ""), case.error or ""] for case in CASES
    ]


@pytest.mark.parametrize("https", [False, True])
def test_a_second_answer_is_not_taken_for_that_to_the_next_request(
    transport: Transport, receivers: Fleet, https: bool
) -> None:
    """It would tell of one delivery what was said of another."""
    name = "answers twice over TLS" if https else "answers twice"
    case = next(case for case in CASES if case.name == name)
    for number in range(3):
        answer = transport.submit(Request(receivers.url(case) + str(number), {}, b"{}")).result(60)
        assert (answer.status, answer.error, answer.body) == (200, None, b"ok")


@pytest.mark.parametrize("name", NAMES)
def test_a_neighbour_does_not_notice(
    name: str, receivers: Fleet, sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """All of the catalogue at once, in one drain with a good one."""
    cases = [case for case in CASES if case.body == b"{}"]
    world = World(sqlite_url)
    engine = Engine(
        world, timeout=3, connect_timeout=3, concurrency=2 * len(cases), retry_schedule=[0]
    )
    engine.transport.close()
    engine.transport = make(
        name, receivers, timeout=3, connect_timeout=3, concurrency=2 * len(cases)
    )
    arrived: list[float] = []

    def good(receiver: Receiver, sock: socket.socket) -> None:
        while receiver.read_request(sock):
            arrived.append(time.monotonic())
            sock.sendall(OK)

    ended: list[float] = []
    engine.drain["settled"] = lambda outcomes, settled: (
        engine.told.append((outcomes, settled)),
        ended.extend(time.monotonic() for outcome in outcomes if outcome.error == "timeout"),
    )
    with Receiver(good) as receiver:
        by_subscription = {
            world.subscribe("contact.create", target_url=receivers.url(case)): case
            for case in cases
        }
        neighbour = world.subscribe("contact.*", target_url=receiver.url(host="good.example"))
        world.happen()
        world.happen("contact.update", count=50)
        engine.run()
        engine.transport.close()
    waiting = [case for case in cases if case.waits]
    assert len(ended) == len(waiting) >= 8
    assert len(arrived) == 51
    assert max(arrived) < min(ended)

    outcomes = {
        outcome.claim.subscription_id: outcome
        for told, _ in engine.told
        for outcome in told
        if outcome.claim.subscription_id != neighbour
    }
    deliveries = {row.id: row for row in world.deliveries()}
    checked = 0
    for attempt in world.attempts():
        delivery = deliveries[attempt.delivery_id]
        if delivery.subscription_id == neighbour:
            assert (attempt.status_code, attempt.error) == (200, None)
            continue
        case = by_subscription[delivery.subscription_id]
        checked += 1
        assert (attempt.status_code, attempt.error) == (case.status, case.error), case.name
        assert re.fullmatch(case.detail, attempt.detail or ""), (case.name, attempt.detail)
        delivered = case.status is not None and case.status < 300
        assert delivery.status == ("delivered" if delivered else "failed"), case.name
        if case.response is not None:
            text = case.response.decode("utf-8", "replace").replace("\0", "\ufffd")
            assert attempt.response == text, case.name
        assert jobs._trouble(outcomes[delivery.subscription_id]).isprintable()
    assert checked == len(cases)
    assert all(record.getMessage().isprintable() for record in caplog.records)
    world.engine.dispose()


@pytest.mark.parametrize("case", TEXTS, ids=lambda case: case.name)
def test_what_a_receiver_writes_is_shown_safely(
    transport: Transport, receivers: Fleet, quick: Host, case: Case
) -> None:
    """As text in JSON: no byte of it is one that a terminal or a page obeys."""
    answer = transport.submit(Request(receivers.url(case), {}, b"{}")).result(60)
    [delivery] = quick.deliveries(quick.subscribe()["id"], 1)
    [attempt] = quick.attempts(delivery, 1)
    kept = judged(quick, answer)
    table = quick.tables.attempt
    quick.execute(
        table.update()
        .where(table.c.id == attempt)
        .values(response=kept.response, detail=kept.detail, request_id=kept.request_id)
    )
    shown = quick.call("GET", f"/deliveries/{delivery}/attempts")
    assert shown.content_type == "application/json"
    assert not re.search(rb"[\x00-\x09\x0b-\x1f\x80-\xff]", shown.data)
    [entry] = shown.json["data"]
    assert entry["response"] == answer.body.decode("utf-8", "replace").replace("\0", "\ufffd")
    assert entry["request_id"] is None


def judged(host: Host, answer: Answer) -> Any:
    judge = Judge(host.settings, None, lambda claim: None)  # type: ignore[arg-type, return-value]
    claim: Any = SimpleNamespace(kind=EVENT, tries=1)
    return judge.outcome(claim, answer, utcnow(), 0.0)


@pytest.mark.parametrize("name", NAMES)
def test_receivers_that_keep_connections_open_take_no_descriptors(
    name: str, tmp_path: Path
) -> None:
    """However many they are: what idles is bounded. `RESTHOOKS_HOSTILE=10000` shows it of 10,000.

    The receivers' own process has as many sockets open as there are connections: each transport
    meets a new one.
    """
    count = int(os.environ.get("RESTHOOKS_HOSTILE", "400"))
    with fleet(tmp_path) as receivers:
        transport = make(name, receivers, concurrency=8, timeout=10, connect_timeout=10)
        before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
        urls = (f"http://h{number}.example:{receivers.ports[HOLDER]}/" for number in range(count))
        with Memory() as memory:
            while some := list(itertools.islice(urls, 100)):
                futures: list[Future[Answer]] = [
                    transport.submit(Request(url, {}, b"{}")) for url in some
                ]
                assert {future.result(60).status for future in futures} == {200}
            if before:
                # Two of each connection: 64 that idle and 8 in flight.
                assert len(os.listdir("/proc/self/fd")) - before <= 2 * (64 + 8) + 8
        transport.close()
    # What is known of a URL is kept, of 4,096 of them.
    assert memory.allocated < MEMORY + 1000 * min(count, 4096)
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before
