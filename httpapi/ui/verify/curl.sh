#!/usr/bin/env bash
# Posts a signed sample to the endpoint, as hookbolt would, and then a forged one. An endpoint that verifies signatures accepts only the first.
set -euo pipefail
secret={{secret}}
url={{url}}

id=$(openssl rand -hex 16)
timestamp=$(date +%s)
body='{"complete_session":true,"answers":[],"leads":[],"result":null}'

# The signature is the HMAC-SHA256 of "id.timestamp.body". The key is the decoded base64 after whsec_.
key=$(printf %s "${secret#whsec_}" | openssl base64 -d -A | od -An -v -tx1 | tr -d ' \n')
sign() {
	printf %s "$id.$timestamp.$1" | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | openssl base64 -A
}
post() {
	curl -sS --globoff --path-as-is -o /dev/null -w '%{http_code}' -H 'content-type: application/json' -H "webhook-id: $id" \
		-H "webhook-timestamp: $timestamp" -H "webhook-signature: v1,$1" --data-binary "$body" --url "$url"
}

genuine=$(post "$(sign "$body")")
forged=$(post "$(sign "$body, forged")")
echo "genuine: $genuine"
echo "forged:  $forged"
[[ $genuine == 2* ]] || { echo "The endpoint refuses a genuine request."; exit 1; }
[[ $forged != 2* ]] || { echo "The endpoint accepts a forged request: it does not verify signatures."; exit 1; }
echo "The endpoint verifies signatures."
