// Package bench measures a hookbolt server: how many sessions it takes in, how fast it acknowledges and delivers them, and what that costs.
//
// A generator posts finished sessions over keep-alive connections, a sink is the endpoint of the webhooks. Both are net/http, as people
// have it, and share the machine with the server. The package knows the server by its HTTP API alone, and as a process: it imports
// nothing of its inside.
//
// Every session of a run has a number, which travels in its custom_id and comes back in the payload. So the sink tells exactly which
// sessions are missing and which came twice, with a bit for each. A payload's session_end_date is the instant at which its request was
// due to be sent: the lag is the span from there, and the webhook's delay, to the arrival.
//
// A steady rate is an open loop: the instants of the requests are fixed in advance, a request that is late is sent as soon as a
// connection is free, and all is counted from its instant. So a server that stands still for a second has that second in the figures of
// every request that should have been sent meanwhile ("no coordinated omission").
package bench
