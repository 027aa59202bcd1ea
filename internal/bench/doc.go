// Package bench measures a hookbolt server: how many sessions it accepts, how fast it acknowledges and delivers them, and at what cost.
//
// A generator posts finished sessions over keep-alive connections. A sink is the endpoint of the webhooks. Both use net/http, as most
// clients and endpoints in Go do, and share the machine with the server. The package uses the server only through its HTTP API and as a
// process.
//
// Every session of a run has a number, which is part of its custom_id and comes back in the payload. The sink keeps a bit for each number,
// so it knows exactly which sessions are missing and which arrived twice. A payload's session_end_date is the time at which its request was
// due to be sent. The lag is the time from there, plus the webhook's delay, to the arrival.
//
// A steady rate is an open loop: the send times of the requests are fixed in advance, a late request is sent as soon as a connection is
// free, and every duration is measured from the scheduled send time. So a pause of the server shows in the figures of all requests that
// were due meanwhile ("no coordinated omission").
package bench
