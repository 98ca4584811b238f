"""What the CRM keeps, and what of it is told to those who subscribe."""

import hashlib

from flask_sqlalchemy import SQLAlchemy
from marshmallow import Schema, fields, validate
from sqlalchemy.orm import Mapped, mapped_column

from flask_resthooks import RESTHooks

db = SQLAlchemy()
hooks = RESTHooks(db)


def hash_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


class Account(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    key_hash: Mapped[str] = mapped_column(unique=True)


class ContactSchema(Schema):
    id = fields.Integer(dump_only=True)
    name = fields.String(required=True, validate=validate.Length(1, 200))
    email = fields.Email(load_default=None)
    notes_private = fields.String(load_default="", load_only=True)  # written, but never shown


@hooks.resource("contact", schema=ContactSchema, owner="account_id", description="A contact")
class Contact(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(db.ForeignKey(Account.id), index=True)
    name: Mapped[str]
    email: Mapped[str | None]
    notes_private: Mapped[str]


class InvoiceSchema(Schema):
    id = fields.Integer(dump_only=True)
    contact_id = fields.Integer(required=True)
    cents = fields.Integer(required=True, validate=validate.Range(1, 10**12))
    paid = fields.Boolean(dump_only=True)


class Invoice(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(db.ForeignKey(Account.id), index=True)
    contact_id: Mapped[int]  # no foreign key: an invoice outlives its contact
    cents: Mapped[int] = mapped_column(db.BigInteger)
    paid: Mapped[bool] = mapped_column(default=False)


# Not every change of an invoice is worth telling: this event is emitted where it happens.
hooks.event_type("invoice.paid", schema=InvoiceSchema, description="An invoice was paid.")
