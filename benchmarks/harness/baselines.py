"""What is measured beside us: bare loops of a client, and one RQ job per delivery."""

from __future__ import annotations

import asyncio
import sqlite3
import uuid

import requests
import rq

from .bench import Bench
from .processes import LIMIT, kill, rq_worker
from .receivers import Receiver, rate
from .results import Sample
from .sender import counted

BODY = b'{"id":"evt_' + b"0" * 32 + b'","type":"contact.create","data":{"note":"'
BODY += b"x" * (1000 - len(BODY) - 3) + b'"}}'

_HEADERS = {
    "content-type": "application/json",
    "webhook-timestamp": "1700000000",
    "webhook-signature": "v1," + "A" * 44,
    "x-hook-event": "contact.create",
    "x-hook-signature": "a" * 64,
    "user-agent": "flask-resthooks/0",
}

SIMPLE, DEFAULT = "rq.worker.SimpleWorker", "rq.Worker"


def _ids(number: int) -> list[str]:
    return [f"evt_{uuid.uuid4().hex}" for _ in range(number)]


def _sample(made: list[str], receiver: Receiver) -> Sample:
    return Sample(rate(receiver.arrivals()), counted(made, receiver))


def session(receiver: Receiver, number: int) -> Sample:
    """POSTs a second of a bare `requests.Session`, one after the other; nothing is made, signed
    or written down."""
    made = _ids(number)
    receiver.forget()
    with requests.Session() as client:
        for id_ in made:
            client.post(
                receiver.url(), data=BODY, headers={**_HEADERS, "webhook-id": id_}, timeout=15
            )
    return _sample(made, receiver)


def aiohttp_loop(receiver: Receiver, number: int, concurrency: int) -> Sample:
    """The same of aiohttp, so many at a time."""
    made = _ids(number)
    receiver.forget()
    asyncio.run(_post_all(receiver.url(), made, concurrency))
    return _sample(made, receiver)


async def _post_all(url: str, made: list[str], concurrency: int) -> None:
    import aiohttp

    left = iter(made)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:

        async def post_some() -> None:
            for id_ in left:
                headers = {**_HEADERS, "webhook-id": id_}
                async with client.post(url, data=BODY, headers=headers) as answer:
                    await answer.read()

        await asyncio.gather(*(post_some() for _ in range(concurrency)))


def job_per_delivery(bench: Bench, receiver: Receiver, number: int, worker_class: str) -> Sample:
    """Deliveries a second of one RQ job each, from the first POST to the last."""
    log = str(bench.directory / "obvious.db")
    with sqlite3.connect(log) as connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS log (url TEXT, status INT, started REAL, duration REAL)"
        )
    connection.close()
    made = _ids(number)
    queue = rq.Queue("obvious", connection=bench.redis.client())
    for id_ in made:
        headers = {**_HEADERS, "webhook-id": id_}
        queue.enqueue("obvious.deliver", receiver.url(), BODY.decode(), headers)
    receiver.forget()
    worker = rq_worker("obvious", bench.redis.url, worker_class, "--burst", OBVIOUS_LOG=log)
    try:
        assert worker.wait(LIMIT) == 0
    finally:
        kill(worker)
    return _sample(made, receiver)
