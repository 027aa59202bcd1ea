<?php
// It needs the extension sodium, which is part of PHP.

const PUBLIC_KEY = {{key}};

// verify reports whether a request is genuine and recent, by its signature v1a. Pass the raw body.
function verify(array $headers, string $body): bool
{
    $id = $headers['webhook-id'] ?? '';
    $timestamp = $headers['webhook-timestamp'] ?? '';
    if ($id === '' || !preg_match('/^\d{1,12}$/D', $timestamp) || abs(time() - (int) $timestamp) > 5 * 60) {
        return false;
    }
    $key = base64_decode(substr(PUBLIC_KEY, strlen('whpk_')));
    // There are signatures of other kinds, and after a rotation several of this kind. One of them must match.
    foreach (explode(' ', $headers['webhook-signature'] ?? '') as $entry) {
        [$version, $value] = explode(',', $entry, 2) + ['', ''];
        $signature = base64_decode($value, true);
        if ($version === 'v1a' && $signature !== false && strlen($signature) === SODIUM_CRYPTO_SIGN_BYTES
            && sodium_crypto_sign_verify_detached($signature, "$id.$timestamp.$body", $key)) {
            return true;
        }
    }
    return false;
}
