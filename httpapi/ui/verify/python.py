"""An endpoint that accepts only requests that hookbolt has signed."""
import base64
import hashlib
import hmac
import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

SECRET = {{secret}}
ENDPOINT = {{url}}  # the URL that hookbolt posts to

KEY = base64.b64decode(SECRET.removeprefix("whsec_"))
TOLERANCE = 5 * 60  # seconds
MAX_BODY = 10 << 20  # bytes


def verify(headers, body):
    """Report whether a request is genuine and recent. Pass the raw body: the signature does not match parsed and re-encoded JSON."""
    webhook_id = headers.get("webhook-id", "")
    timestamp = headers.get("webhook-timestamp", "")
    if not webhook_id or not (timestamp.isascii() and timestamp.isdigit()) or len(timestamp) > 12:
        return False
    if abs(time.time() - int(timestamp)) > TOLERANCE:
        return False
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    want = b"v1," + base64.b64encode(hmac.digest(KEY, signed, hashlib.sha256))
    # After a rotation there are several signatures. One of them must match.
    signatures = headers.get("webhook-signature", "").split(" ")
    return any([hmac.compare_digest(s.encode(), want) for s in signatures])


class Endpoint(BaseHTTPRequestHandler):
    def do_POST(self):
        try:
            size = int(self.headers.get("content-length", ""))
        except ValueError:
            size = -1
        if not 0 <= size <= MAX_BODY:
            return self.answer(413)
        body = self.rfile.read(size)
        if not verify(self.headers, body):
            return self.answer(401)
        webhook = json.loads(body)
        # Handle the webhook here. It may arrive more than once, with the same webhook-id.
        print(self.headers["webhook-id"], webhook.get("session_id"), flush=True)
        self.answer(204)

    def answer(self, status):
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()


# Behind a reverse proxy, the URL has the proxy's port: listen on another port, and let the proxy forward to it.
port = urlsplit(ENDPOINT).port or 9000
server = ThreadingHTTPServer(("127.0.0.1", port), Endpoint)
print(f"listening on 127.0.0.1:{port} for {ENDPOINT!a}", flush=True)
server.serve_forever()
