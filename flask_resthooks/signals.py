"""Ground: what an app can listen to (blinker). They fire in the worker, after the state is
committed.

* `subscription_disabled` (sender: the Flask app; `subscription_id`, `reason`)
* `subscription_recovered` (sender: the Flask app; `subscription_id`, `since`): the first hook has
  come through since one was given up, or since the subscription was disabled
* `delivery_failed` (sender: the Flask app; `delivery_id`, `subscription_id`, `event_id`, `reason`)
"""

from __future__ import annotations

from blinker import NamedSignal as Signal
from blinker import Namespace

__all__ = ["Signal", "delivery_failed", "subscription_disabled", "subscription_recovered"]

_signals = Namespace()

subscription_disabled = _signals.signal("resthooks-subscription-disabled")
subscription_recovered = _signals.signal("resthooks-subscription-recovered")
delivery_failed = _signals.signal("resthooks-delivery-failed")
