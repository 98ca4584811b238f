"""The obvious design, to compare with: one RQ job per delivery, `requests.post`, a row of log."""

from __future__ import annotations

import os
import sqlite3
import time

import requests


def deliver(url: str, body: str) -> None:
    start = time.time()
    answer = requests.post(url, data=body, headers={"content-type": "application/json"}, timeout=15)
    with sqlite3.connect(os.environ["OBVIOUS_LOG"], timeout=15) as connection:
        connection.execute(
            "INSERT INTO log (url, status, started, duration) VALUES (?, ?, ?, ?)",
            (url, answer.status_code, start, time.time() - start),
        )
    connection.close()
