"""Verifies signatures v1a. It needs the package cryptography: pip install cryptography"""
import base64
import time

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

PUBLIC_KEY = {{key}}

KEY = Ed25519PublicKey.from_public_bytes(base64.b64decode(PUBLIC_KEY.removeprefix("whpk_")))
TOLERANCE = 5 * 60  # seconds


def verify(headers, body):
    """Report whether a request is genuine and recent, by its signature v1a. Pass the raw body."""
    webhook_id = headers.get("webhook-id", "")
    timestamp = headers.get("webhook-timestamp", "")
    if not webhook_id or not (timestamp.isascii() and timestamp.isdigit()) or len(timestamp) > 12:
        return False
    if abs(time.time() - int(timestamp)) > TOLERANCE:
        return False
    content = f"{webhook_id}.{timestamp}.".encode() + body
    # There are signatures of other kinds, and after a rotation several of this kind. One of them must match.
    for signature in headers.get("webhook-signature", "").split(" "):
        version, _, value = signature.partition(",")
        try:
            if version == "v1a":
                KEY.verify(base64.b64decode(value), content)
                return True
        except (InvalidSignature, ValueError):
            pass
    return False
