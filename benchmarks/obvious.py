"""The obvious design, to compare with: one RQ job per delivery, `requests.post`, a row of log."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Mapping

import requests


def deliver(url: str, body: str, headers: Mapping[str, str]) -> None:
    start = time.time()
    answer = requests.post(url, data=body, headers=headers, timeout=15)
    with sqlite3.connect(os.environ["OBVIOUS_LOG"], timeout=15) as connection:
        connection.execute(
            "INSERT INTO log (url, status, started, duration) VALUES (?, ?, ?, ?)",
            (url, answer.status_code, start, time.time() - start),
        )
    connection.close()


def nothing(number: int) -> None:
    """A job that only says when it ran: what RQ itself takes until then."""
    now = time.time()
    with open(os.environ["OBVIOUS_LOG"], "a") as log:
        log.write(f"{now:.6f} {number}\n")
