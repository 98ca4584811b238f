"""What the comparison with peers says of a signature is found, not believed."""

import hashlib
import hmac
import importlib.util
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from flask_resthooks import signing

PATH = Path(__file__).parents[2] / "benchmarks/peers/signatures.py"
spec = importlib.util.spec_from_file_location("peers_signatures", PATH)
assert spec is not None and spec.loader is not None
signatures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(signatures)

BODY = '{"name": "mark-1"}'
STAMP = "1790000000"


def hexdigest(text: str, secret: str = "s3cret") -> str:
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({"x-signature": f"sha256={hexdigest(BODY)}"}, signatures.PLAIN),
        ({"x-at": STAMP, "x-v1": hexdigest(f"{STAMP}:{BODY}")}, signatures.STAMPED),
        ({"x-id": "7", "x-at": STAMP, "x-v2": hexdigest(f"7.{STAMP}.{BODY}")}, signatures.STAMPED),
        ({"x-id": "7", "x-v2": hexdigest(f"7.{BODY}")}, signatures.PLAIN),
        ({"x-secret": "s3cret"}, signatures.ITSELF),
        ({"x-signature": hexdigest(BODY, "another")}, signatures.NOT),
        ({"x-at": STAMP}, signatures.NOT),
    ],
)
def test_a_signature_is_known_by_its_digest(headers: dict[str, str], found: str) -> None:
    assert signatures.how_signed(headers, BODY, "s3cret") == found


def test_standard_webhooks_are_known() -> None:
    secret = signing.new_secret()
    from datetime import datetime, timezone

    at = datetime.fromtimestamp(int(STAMP), timezone.utc)
    head = "\r\n".join(
        [
            "POST / HTTP/1.1",
            "Webhook-Id: evt_1",
            f"Webhook-Timestamp: {STAMP}",
            f"Webhook-Signature: {Webhook(secret).sign('evt_1', at, BODY)}",
        ]
    )
    headers = signatures.headers_of(head)
    assert signatures.how_signed(headers, BODY, secret) == signatures.STAMPED
