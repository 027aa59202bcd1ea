// Package httpapi is hookbolt's HTTP interface: routes, JSON, tokens, error responses, and metrics of requests. It knows the engine and
// nothing below it.
//
// # Routes
//
//	POST   /v1/events                      accepts session events; 202 means that they are on disk (?partial=)
//	OPTIONS /v1/events                     CORS preflight: may a page of another origin send events? (?partial=)
//	POST   /v1/webhooks                    creates a webhook; 201 with its secret
//	GET    /v1/webhooks                    lists webhooks by id (?content_id=&limit=&cursor=)
//	GET    /v1/webhooks/:id                one webhook, with its delivery counts
//	PATCH  /v1/webhooks/:id                changes settings; null restores a default (?replace=)
//	DELETE /v1/webhooks/:id                deletes it and cancels its pending deliveries; 204
//	GET    /v1/webhooks/:id/secret         the current secret, and that of signature.header
//	GET    /v1/webhooks/:id/public-key     the public keys of signatures v1a (?format=)
//	POST   /v1/webhooks/:id/rotate-secret  replaces a secret or key pair, with an overlap; 200 with the new secrets
//	POST   /v1/webhooks/:id/test           queues a sample payload; 202 with the delivery
//	POST   /v1/webhooks/:id/replay    sends deliveries again, or missing ones; 202 with the count, 200 for a dry run
//	GET    /v1/webhooks/:id/preview   what would be sent for a session now (?session_id=&as_of=)
//	POST   /v1/preview                     what settings that are not saved would send; it changes nothing
//	GET    /v1/sessions                    newest first, in bounded steps (?content_id=&poltio_user_id=&email=&phone=&state=&since=&until=&limit=&cursor=)
//	GET    /v1/sessions/:id                a folded session, its events, its deliveries
//	DELETE /v1/sessions/:id                erases its events and all its deliveries; 200 with their numbers
//	DELETE /v1/visitors/:poltio_user_id    erases all sessions of a visitor; 200 with their numbers
//	POST   /v1/erase                       erases a session, or a person by e-mail, phone or visitor's id; 200 with the numbers
//	GET    /v1/deliveries                  newest first, pending ones by next attempt (?webhook_id=&session_id=&status=&since=&until=&late_events=&limit=&cursor=)
//	GET    /v1/deliveries/:id              one delivery, with its payload and attempts
//	POST   /v1/deliveries/:id/retry        makes it due now; 202 with the delivery
//	POST   /v1/deliveries/:id/cancel       cancels it if it is scheduled or pending; 200 with the delivery, else 409
//	GET    /v1/members                     the processes that share a PostgreSQL database; none with a file
//	GET    /v1/backup                      a snapshot of the database as a file; 409 during another backup or with PostgreSQL, 507 without room on the disk
//	GET    /v1/drain                       how far this process is with giving its lanes to others; 409 with a file
//	POST   /v1/drain                       takes this process out of its fleet; 202, or 409 if there is no other one
//	DELETE /v1/drain                       puts it in again
//	GET    /hookbolt.js                    the script with which a page sends its visitors' events; needs no token
//	GET    /v1/payload.schema.json         the JSON Schema of payloads
//	GET    /openapi.yaml                   the description of this API, as OpenAPI 3.1
//	GET    /healthz                        the process responds
//	GET    /readyz                         the database accepts writes and the engine runs
//	GET    /metrics                        Prometheus text
//	GET    /platform/account/profile       the only organization, for tools of the hosted platform
//	GET    /platform/hooks/web             webhooks with the platform's field names, in pages (?page=&per_page=&public_id=)
//	POST   /platform/hooks/web             creates a webhook; 201
//	GET    /platform/hooks/web/:id         one webhook
//	PUT    /platform/hooks/web/:id         changes the settings in the body
//	DELETE /platform/hooks/web/:id         deletes it
//	GET    /platform/hooks/web/:id/logs    its deliveries, newest first, in pages (?page=&per_page=)
//
// HEAD works wherever GET does. A PATCH that changes nothing leaves updated_at as it is. The table of routes is in api.go; a test compares
// it with this list. The pages at / are in package ui.
//
// # Who may call
//
// Admin tokens allow everything, read tokens everything that changes nothing and reveals no secret, ingest tokens POST /v1/events, metrics
// tokens GET /metrics. The pages also accept the cookie of a browser that has signed in with an admin or read token. /healthz, /readyz,
// /hookbolt.js and the two descriptions need no token. If no admin token is configured, no route needs one, but only requests whose Host is
// loopback are answered, and none from web pages of other origins, except links to pages: see gate. Pages of the origins in
// Config.CORSOrigins may POST /v1/events with an ingest token and read the response.
//
// # Errors
//
// Every error is an RFC 9457 problem. Its member errors lists what is wrong with the input: index, field and detail. For a query parameter
// or a path segment, the field is its name.
package httpapi
