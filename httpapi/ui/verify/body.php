<?php
const SECRET = {{secret}};
const HEADER = {{header}};
const PREFIX = {{prefix}};
const ENCODING = {{encoding}};

// verify reports whether a request is genuine, by the HMAC of its body. Pass the raw body, and headers with names in lower case.
function verify(array $headers, string $body): bool
{
    $digest = hash_hmac('sha256', $body, SECRET, true);
    $want = PREFIX . (ENCODING === 'hex' ? bin2hex($digest) : base64_encode($digest));
    return hash_equals($want, $headers[strtolower(HEADER)] ?? '');
}
