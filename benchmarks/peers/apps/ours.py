"""flask_resthooks, with the app of the other benchmarks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import flask
from acts import CITY, DATABASE, EMAIL, OPTIONS, REDIS, main

sys.path.append(str(Path(__file__).resolve().parents[2]))

import bench_app

URL = f"sqlite:///{DATABASE}"
CONFIG = {
    "SQLALCHEMY_DATABASE_URI": URL,
    "RESTHOOKS_REDIS_URL": REDIS,
    "RESTHOOKS_REQUIRE_HTTPS": False,
    "RESTHOOKS_ALLOWED_NETWORKS": ["127.0.0.0/8"],
    **{name: value for name, value in OPTIONS.items() if name.isupper()},
}


def create_app() -> flask.Flask:
    return bench_app.create_app(CONFIG)


def prepare(url: str) -> str | None:
    if OPTIONS.get("bare"):
        app, db, _ = bench_app.without_hooks(URL)
    else:
        app, db = create_app(), bench_app.db
    with app.app_context():
        db.create_all()
        with db.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    if OPTIONS.get("bare"):
        return None
    wish = {"target_url": url, "events": ["*"]}
    answer = app.test_client().post("/api/v1/subscriptions", json=wish)
    assert answer.status_code == 201, answer.text
    return str(answer.json["secret"])  # type: ignore[index]


def act() -> None:
    model: Any = bench_app.Tracked
    app, db = None, bench_app.db
    if OPTIONS.get("bare"):
        app, db, model = bench_app.without_hooks(URL)
    app = app or create_app()

    def add(mark: str) -> None:
        db.session.add(model(account_id=1, name=mark, email=EMAIL, city=CITY))
        db.session.flush()

    def save(mark: str) -> None:
        add(mark)
        db.session.commit()

    def roll_back(mark: str) -> None:
        add(mark)
        db.session.rollback()

    with app.app_context():
        main(prepare, save, roll_back)


if __name__ == "__main__":
    act()
