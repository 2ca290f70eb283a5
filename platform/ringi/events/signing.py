"""Signatures of webhook deliveries as Standard Webhooks has them (https://www.standardwebhooks.com, version 1.0.0). Pure.

A receiver checks `webhook-signature` against its secret with any library of that name, refuses an old `webhook-timestamp`, and drops a
`webhook-id` that it has seen.
"""

import base64
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime

PREFIX = "whsec_"
KEY_BYTES = 32


def draw_secret() -> str:
    """A new secret: `whsec_` and the base64 of 32 random bytes."""
    return PREFIX + base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def sign(secret: str, *, message_id: str, timestamp: int, body: bytes) -> str:
    """`v1,` and the base64 of HMAC-SHA-256(key, "id.timestamp.body"); `timestamp` is in Unix seconds."""
    key = base64.b64decode(secret.removeprefix(PREFIX))
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


def signed_headers(keys: Sequence[str], *, message_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """The three headers; while a secret is being rotated there are two `keys`, and so two signatures with a space between them."""
    timestamp = int(at.timestamp())
    signatures = (sign(key, message_id=message_id, timestamp=timestamp, body=body) for key in keys)
    return {"webhook-id": message_id, "webhook-timestamp": str(timestamp), "webhook-signature": " ".join(signatures)}
