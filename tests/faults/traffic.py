"""The traffic: clients that have the app do the workload's transactions, while faults happen.

A client asks again until it is certain that a transaction was done: so what comes next in its lane
finds the records that it expects, whatever has happened to the app meanwhile.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator

from .workload import Lane, Transaction

ANSWER_LIMIT = 15.0
"""Seconds for an answer of the app."""

RETRY_PAUSE = 0.1

CERTAIN_LIMIT = 90.0
"""Seconds after which a client gives up, and the round with it."""


class Uncertain(RuntimeError):
    """A transaction could not be done, long after the last fault."""


class Traffic:
    """What the clients of one bench do.

    :param port: of the app, which may change.
    :param pause: seconds between two transactions of a lane.
    """

    def __init__(self, port: Callable[[], int], pause: float) -> None:
        self._port = port
        self._pause = pause
        self._lock = threading.Lock()
        self.done = 0
        self.refused = 0
        self.wrong: list[str] = []

    @contextlib.contextmanager
    def going_on(self, lanes: list[Lane], least: int) -> Iterator[None]:
        """Keep the lanes busy; at the end, until each has done `least` transactions."""
        stop = threading.Event()
        threads = [
            threading.Thread(target=self._drive, args=(lane, stop, least), daemon=True)
            for lane in lanes
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def _drive(self, lane: Lane, stop: threading.Event, least: int) -> None:
        done = 0
        try:
            while done < least or not stop.is_set():
                self._do(next(lane))
                done += 1
                stop.wait(self._pause) if done >= least else time.sleep(self._pause)
        except Uncertain as error:
            with self._lock:
                self.wrong.append(f"lane {lane.name}: {error}")

    def _do(self, transaction: Transaction) -> None:
        body = json.dumps(transaction.as_json())
        until = time.monotonic() + CERTAIN_LIMIT
        while not self._ask(body):
            with self._lock:
                self.refused += 1
            if time.monotonic() > until:
                raise Uncertain(f"the app does not do {transaction.name}")
            time.sleep(RETRY_PAUSE)
        with self._lock:
            self.done += 1

    def _ask(self, body: str) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port(), timeout=ANSWER_LIMIT)
        try:
            connection.request("POST", "/transactions", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            return answer.status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
