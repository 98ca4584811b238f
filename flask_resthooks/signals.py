"""Ground: what an app can listen to (blinker). They fire in the worker, after the state is
committed.

* `subscription_disabled` (sender: the Flask app; `subscription_id`, `reason`)
* `delivery_failed` (sender: the Flask app; `delivery_id`, `subscription_id`, `event_id`, `reason`)
"""

from __future__ import annotations

from blinker import NamedSignal as Signal
from blinker import Namespace

__all__ = ["Signal", "delivery_failed", "subscription_disabled"]

_signals = Namespace()

subscription_disabled = _signals.signal("resthooks-subscription-disabled")
delivery_failed = _signals.signal("resthooks-delivery-failed")
