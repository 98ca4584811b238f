"""flask-integration: its event log, in the same transaction as the record, and its own threads."""

from __future__ import annotations

import secrets
from typing import Any

import flask
from acts import CITY, DATABASE, EMAIL, OPTIONS, main
from flask_integration import FlaskIntegration, FlaskIntegrationBase, event
from flask_integration.db import get_engine
from flask_integration.models import Base as PeerBase
from pydantic import BaseModel
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    pass


class Contact(Base):
    __tablename__ = "contact"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    email: Mapped[str]
    city: Mapped[str]


class ContactCreated(BaseModel):
    id: int
    name: str
    email: str
    city: str


class Shop(FlaskIntegrationBase):
    name = "shop"

    @event(payload=ContactCreated)
    def contact_created(self) -> Any:
        """A contact was saved."""


app = flask.Flask("shop")
app.config["INTEGRATION_DELIVERY_WORKERS"] = OPTIONS.get("workers", 4)  # 4 are the peer's default
engine = create_engine(f"sqlite:///{DATABASE}", connect_args={"timeout": 60})
shop = Shop()
FlaskIntegration(app, shop, url_prefix="/api", engine=engine)


def prepare(url: str) -> str:
    PeerBase.metadata.create_all(get_engine(app))
    Base.metadata.create_all(engine)
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    secret = secrets.token_hex(16)
    shop.subscribe("contact_created", url, secret=secret)
    return secret


def add(session: Session, mark: str) -> None:
    contact = Contact(name=mark, email=EMAIL, city=CITY)
    session.add(contact)
    session.flush()
    if not OPTIONS.get("bare"):
        shop.contact_created(id=contact.id, name=mark, email=EMAIL, city=CITY, session=session)


def save(mark: str) -> None:
    with Session(engine) as session:
        add(session, mark)
        session.commit()


def roll_back(mark: str) -> None:
    with Session(engine) as session:
        add(session, mark)
        session.rollback()


if __name__ == "__main__":
    with app.app_context():
        main(prepare, save, roll_back)
