"""The event of django-outbound-webhooks."""

from dataclasses import dataclass

from django_domain_events import event


@event
@dataclass(frozen=True)
class ContactCreated:
    contact_id: int
    name: str
    email: str
    city: str
