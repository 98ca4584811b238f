"""What the schemas cannot judge of a subscription that is made or changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import own_headers, signing
from ..errors import ConfigurationError
from ..event_types import patterns_of
from .context import Context
from .errors import invalid
from .parsing import flatten, readable
from .targets import TargetCheck


class Checks:
    """Judges what callers of one app give, and makes columns of it."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._targets = TargetCheck(context.guard)

    def columns(self, given: Mapping[str, Any], owner: str) -> dict[str, Any]:
        """What was given, as columns of a subscription; and `active`, if it was given.

        Resolving a name may take a while: nobody is to wait for a connection or a lock meanwhile.

        :raises APIError: 422.
        """
        values = dict(given)
        errors: dict[str, list[str]] = {}
        if "target_url" in values:
            objection = self._targets.objection(values["target_url"])
            if objection is not None:
                errors["target_url"] = [objection]
        field = "event" if "event" in values else "events"
        if field in values:
            values["events"] = [values.pop(field)] if field == "event" else values[field]
            unknown = self._unknown_events(values["events"], owner)
            if unknown:
                errors[field] = unknown
        if "headers" in values:
            objections = own_headers.check(values["headers"])
            errors |= flatten({"headers": objections}) if objections else {}
        if "secret" in values or "signature" in values:
            errors |= secret_errors(values)
        if errors:
            raise invalid(errors)
        return self._sealed(values)

    def _sealed(self, values: dict[str, Any]) -> dict[str, Any]:
        if "headers" in values:
            headers = values["headers"]
            if headers:
                self._context.check_seals()
            values["header_names"] = list(headers)
            values["headers"] = (
                self._context.vault.seal(own_headers.dump(headers)) if headers else None
            )
        return values

    def _unknown_events(self, names: list[str], owner: str) -> list[str]:
        types = self._context.event_types
        seen = [name for name in types if types[name].seen_by(owner)]
        matching = {pattern for name in seen for pattern in patterns_of(name)}
        unknown = [readable(name) for name in names if name not in matching]
        if not unknown:
            return []
        listed = ", ".join(map(repr, unknown[:10]))
        return [f"no event type is matched by {listed}; known: {', '.join(seen) or 'none'}"]


def secret_errors(given: Mapping[str, Any]) -> dict[str, list[str]]:
    """What is wrong with a secret, and with the kind of signature that it is for."""
    kind = given.get("signature", signing.V1)
    if kind == signing.V1A and not signing.crypto_available():
        return {"signature": ["v1a is not available here; v1 is"]}
    try:
        if "secret" in given:
            signing.check_secret(given["secret"], kind)
    except ConfigurationError as rule:
        return {"secret": [str(rule)]}
    return {}
