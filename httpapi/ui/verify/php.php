<?php
// An endpoint that accepts only requests that hookbolt has signed.

const SECRET = {{secret}};
const TOLERANCE = 5 * 60; // seconds
const MAX_BODY = 10 << 20; // bytes

// verify reports whether a request is genuine and recent. Pass the raw body: the signature does not match parsed and re-encoded JSON.
function verify(string $id, string $timestamp, string $signatures, string $body): bool
{
    if ($id === '' || !preg_match('/^\d{1,12}$/D', $timestamp) || abs(time() - (int) $timestamp) > TOLERANCE) {
        return false;
    }
    $key = base64_decode(substr(SECRET, strlen('whsec_')));
    $want = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$timestamp.$body", $key, true));
    // After a rotation there are several signatures. One of them must match.
    foreach (explode(' ', $signatures) as $signature) {
        if (hash_equals($want, $signature)) {
            return true;
        }
    }
    return false;
}

$body = file_get_contents('php://input', false, null, 0, MAX_BODY + 1);
$id = $_SERVER['HTTP_WEBHOOK_ID'] ?? '';
if (strlen($body) > MAX_BODY) {
    http_response_code(413);
    exit;
}
$genuine = verify($id, $_SERVER['HTTP_WEBHOOK_TIMESTAMP'] ?? '', $_SERVER['HTTP_WEBHOOK_SIGNATURE'] ?? '', $body);
if ($_SERVER['REQUEST_METHOD'] !== 'POST' || !$genuine) {
    http_response_code(401);
    exit;
}
$webhook = json_decode($body, true);
// Handle the webhook here. It may arrive more than once, with the same webhook-id.
error_log($id . ' ' . ($webhook['session_id'] ?? ''));
http_response_code(204);
