"""What goes in and out, as marshmallow schemas.

Names that begin with `RESTHooks` become components of the host's OpenAPI document, where a
`Subscription` may mean something else.
"""

from __future__ import annotations

from .answers import (
    AboutSubscription,
    RESTHooksAttemptListSchema,
    RESTHooksAttemptSchema,
    RESTHooksConfirmedSchema,
    RESTHooksDeliveryListSchema,
    RESTHooksDeliverySchema,
    RESTHooksErrorSchema,
    RESTHooksEventListSchema,
    RESTHooksEventSchema,
    RESTHooksEventTypeListSchema,
    RESTHooksEventTypeSampleSchema,
    RESTHooksEventTypeSchema,
    RESTHooksEventTypeWithSchemaSchema,
    RESTHooksRecoveryListSchema,
    RESTHooksRecoverySchema,
    RESTHooksSecretSchema,
    RESTHooksSubscriptionCreatedSchema,
    RESTHooksSubscriptionListSchema,
    RESTHooksSubscriptionSchema,
)
from .bodies import (
    RULES,
    RESTHooksConfirmationSchema,
    RESTHooksPingSchema,
    RESTHooksRecoverSchema,
    RESTHooksRotationSchema,
    RESTHooksSubscriptionChangeSchema,
    RESTHooksSubscriptionCreateSchema,
    RESTHooksSubscriptionReplaceSchema,
)
from .queries import (
    AttemptQuery,
    DeliveryQuery,
    EventQuery,
    EventTypeQuery,
    EventTypeSampleQuery,
    NoQuery,
    RecoveryQuery,
    SubscriptionQuery,
)

__all__ = [
    "RULES",
    "AboutSubscription",
    "AttemptQuery",
    "DeliveryQuery",
    "EventQuery",
    "EventTypeQuery",
    "EventTypeSampleQuery",
    "NoQuery",
    "RESTHooksAttemptListSchema",
    "RESTHooksAttemptSchema",
    "RESTHooksConfirmationSchema",
    "RESTHooksConfirmedSchema",
    "RESTHooksDeliveryListSchema",
    "RESTHooksDeliverySchema",
    "RESTHooksErrorSchema",
    "RESTHooksEventListSchema",
    "RESTHooksEventSchema",
    "RESTHooksEventTypeListSchema",
    "RESTHooksEventTypeSampleSchema",
    "RESTHooksEventTypeSchema",
    "RESTHooksEventTypeWithSchemaSchema",
    "RESTHooksPingSchema",
    "RESTHooksRecoverSchema",
    "RESTHooksRecoveryListSchema",
    "RESTHooksRecoverySchema",
    "RESTHooksRotationSchema",
    "RESTHooksSecretSchema",
    "RESTHooksSubscriptionChangeSchema",
    "RESTHooksSubscriptionCreateSchema",
    "RESTHooksSubscriptionCreatedSchema",
    "RESTHooksSubscriptionListSchema",
    "RESTHooksSubscriptionReplaceSchema",
    "RESTHooksSubscriptionSchema",
    "RecoveryQuery",
    "SubscriptionQuery",
]
