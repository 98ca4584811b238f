"""The CRM's own API. It does not know of hooks, but for the one event that is emitted."""

from flask import request
from flask_smorest import Blueprint, abort

from .models import Account, Contact, ContactSchema, Invoice, InvoiceSchema, db, hash_of, hooks

blueprint = Blueprint("crm", __name__)


@hooks.owner_loader
def my_id() -> int | None:
    """The account whose API key is in `Authorization: Bearer …`."""
    key_hash = hash_of((request.authorization and request.authorization.token) or "")
    return db.session.scalar(db.select(Account.id).filter_by(key_hash=key_hash))


def mine(model, **wanted):
    return db.select(model).filter_by(account_id=my_id() or abort(401), **wanted)


def save(record):
    db.session.add(record)
    db.session.commit()
    return record


@blueprint.get("/contacts")
@blueprint.response(200, ContactSchema(many=True))
def list_contacts():
    return db.session.scalars(mine(Contact))


@blueprint.post("/contacts")
@blueprint.arguments(ContactSchema)
@blueprint.response(201, ContactSchema)
def create_contact(values):
    return save(Contact(account_id=my_id() or abort(401), **values))


@blueprint.put("/contacts/<int:contact_id>")
@blueprint.arguments(ContactSchema)
@blueprint.response(200, ContactSchema)
def change_contact(values, contact_id):
    contact = db.first_or_404(mine(Contact, id=contact_id))
    for name, value in values.items():
        setattr(contact, name, value)
    return save(contact)


@blueprint.delete("/contacts/<int:contact_id>")
@blueprint.response(204)
def delete_contact(contact_id):
    db.session.delete(db.first_or_404(mine(Contact, id=contact_id)))
    db.session.commit()


@blueprint.post("/invoices")
@blueprint.arguments(InvoiceSchema)
@blueprint.response(201, InvoiceSchema)
def create_invoice(values):
    contact = db.first_or_404(mine(Contact, id=values["contact_id"]))
    return save(Invoice(account_id=contact.account_id, **values))


@blueprint.post("/invoices/<int:invoice_id>/pay")
@blueprint.response(200, InvoiceSchema)
def pay_invoice(invoice_id):
    invoice = db.first_or_404(mine(Invoice, id=invoice_id))
    if not invoice.paid:
        invoice.paid = True
        hooks.emit("invoice.paid", invoice, owner=invoice.account_id)
    return save(invoice)
