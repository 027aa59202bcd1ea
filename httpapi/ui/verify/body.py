"""Verifies the HMAC of the body."""
import base64
import hashlib
import hmac

SECRET = {{secret}}
HEADER = {{header}}
PREFIX = {{prefix}}
ENCODING = {{encoding}}


def verify(headers, body):
    """Report whether a request is genuine, by the HMAC of its body. Pass the raw body."""
    digest = hmac.digest(SECRET.encode(), body, hashlib.sha256)
    encoded = digest.hex() if ENCODING == "hex" else base64.b64encode(digest).decode()
    return hmac.compare_digest((PREFIX + encoded).encode(), headers.get(HEADER, "").encode())
