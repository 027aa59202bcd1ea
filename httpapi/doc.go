// Package httpapi is hookbolt's HTTP face: routes, JSON, tokens, problem answers and the metrics of all that. It knows the engine and
// nothing below it.
//
// # Routes
//
//	POST   /v1/events                      takes session events in; 202 means that they are on disk
//	OPTIONS /v1/events                     tells a browser whether a page of another origin may send events
//	POST   /v1/webhooks                    makes a webhook; 201 with its secret
//	GET    /v1/webhooks                    lists them by id (?content_id=&limit=&cursor=)
//	GET    /v1/webhooks/:id                one webhook, with its delivery counts
//	PATCH  /v1/webhooks/:id                changes settings; null sets a default again
//	DELETE /v1/webhooks/:id                removes it and cancels what waits; 204
//	GET    /v1/webhooks/:id/secret         the present secret
//	POST   /v1/webhooks/:id/rotate-secret  gives it the next secret, with an overlap; 200 with the secret
//	POST   /v1/webhooks/:id/test           queues a sample payload; 202 with the delivery
//	POST   /v1/webhooks/:id/replay    sends deliveries again, or those that are missing; 202 with the count, 200 if it is a dry run
//	GET    /v1/webhooks/:id/preview   a session's payload as it would be sent now (?session_id=&as_of=)
//	GET    /v1/sessions/:id                a folded session, its events, its deliveries
//	DELETE /v1/sessions/:id                erases it: its events, its deliveries, what waits; 200 with how much
//	DELETE /v1/visitors/:poltio_user_id    erases all sessions of a visitor; 200 with how much
//	GET    /v1/deliveries                  newest first, what waits by its next attempt (?webhook_id=&session_id=&status=&since=&until=&limit=&cursor=)
//	GET    /v1/deliveries/:id              one delivery, with its payload and attempts
//	POST   /v1/deliveries/:id/retry        makes it due now; 202 with the delivery
//	POST   /v1/deliveries/:id/cancel       ends one that waits; 200 with the delivery, 409 if it does not wait
//	GET    /v1/backup                      a snapshot of the database, a file; 409 while another one is sent, 507 without room for it
//	GET    /hookbolt.js                    what a page loads to send its visitors' events; anybody may
//	GET    /v1/payload.schema.json         the JSON Schema of what an endpoint gets
//	GET    /openapi.yaml                   all of this, as OpenAPI 3.1
//	GET    /healthz                        the process answers
//	GET    /readyz                         the database takes writes and the engine runs
//	GET    /metrics                        Prometheus text
//	GET    /platform/account/profile       the one organization that there is, for tools of the hosted platform
//	GET    /platform/hooks/web             webhooks by the platform's names, in pages (?page=&per_page=&public_id=)
//	POST   /platform/hooks/web             makes one; 201
//	GET    /platform/hooks/web/:id         one of them
//	PUT    /platform/hooks/web/:id         changes what the body has
//	DELETE /platform/hooks/web/:id         removes it
//	GET    /platform/hooks/web/:id/logs    its deliveries, newest first, in pages (?page=&per_page=)
//
// HEAD works wherever GET does. A PATCH that changes nothing leaves updated_at as it is. The routes themselves are a table in api.go, which a test holds against this one. The pages at / are in
// package ui.
//
// # Who may call
//
// Admin tokens open everything (the pages from a cookie as well), ingest tokens POST /v1/events, metrics tokens GET /metrics; /healthz,
// /readyz, /hookbolt.js and the two descriptions need none. Without any admin token everything is open, but only to requests whose Host is
// loopback, and not to web pages of other sites: see gate. Pages of the origins in Config.CORSOrigins may POST /v1/events with an ingest
// token, and read the answer.
//
// # Errors
//
// Every error is an RFC 9457 problem. What is wrong with input is told in errors, a list of index, field and detail; the field of a
// bad query parameter or path segment is its name.
package httpapi
