// Package engine is the domain of hookbolt and the loop that drives it: session events, the fold that turns them into a
// session, triggers, the payload, and the delivery of webhooks with retries. Two packages below know no domain: jsonread reads JSON
// from clients, and send makes one attempt.
//
// # The life of a session
//
// A session is never stored, only its events are. [ParseEvents] reads and validates a request, [Admit] decides what its
// events mean for a session (is it new, does it finish, which webhooks are triggered), and [Fold] turns all events of a
// session, at any later time, into the [Session] that [BuildPayload] writes down. All four are pure.
//
// # The life of a delivery
//
//	event starts or finishes a session            POST /v1/webhooks/:id/test
//	             │                                           │
//	             ▼                                           │
//	       ┌───────────┐  due: fold, build, freeze     ┌─────▼─────┐ 2xx    ┌───────────┐
//	       │ scheduled ├──────────────────────────────▶│  pending  ├───────▶│ delivered │
//	       └─────┬─────┘                               └─┬───┬───▲─┘        └───────────┘
//	cancel,      │                                       │   └───┘ failed attempt: retry later
//	webhook off  │      ┌───────────┐  cancel, off       │
//	             └─────▶│ cancelled │◀───────────────────┤
//	                    └───────────┘      ┌────────┐    │ schedule exhausted
//	                                       │ failed │◀───┘
//	                                       └────────┘
//
// A manual retry takes a delivery from any of the three final states back to pending, under the same id and with the same
// bytes; or back to scheduled, if it was cancelled before it had any. An incomplete trigger whose session has finished by its
// instant goes without a trace. What is due as soon as it is there, and whose lane is open, is pending from the start: its payload is
// frozen with the events, and it is sent without a look at the lane. A payload that cannot be built from what is stored counts as a
// failed attempt.
//
// # The life of a lane
//
//	          5 failed attempts in a row            every attempt has failed for days, or 410
//	┌──────┐ ────────────────────────────▶ ┌─────────┐ ─────────────────────────────────────▶ ┌────────┐
//	│ open │                               │ failing │                                        │ paused │
//	└──────┘ ◀──────────────────────────── └─────────┘                                        └────────┘
//	   ▲      the first success, a new URL                                                         │
//	   └───────────────────────────────────────────────────────────────────────────────────────────┘
//	                                                                          by hand
//
// An open lane makes as many attempts at once, and in a second, as its webhook allows. A failing one makes one at a time, with growing
// intervals ([Health]). A paused one makes none. In all three states what comes in is queued, and nothing that waits is dropped or uses
// up a try. 410 pauses an open lane as well.
//
// # Operational events
//
// What the operator should know (a webhook that was paused, an endpoint that fails for long, a delivery that has failed for good, a disk
// that runs full) is a delivery, too, of kind operation, to the one webhook that Config.OperationsURL makes. It is queued in the transaction
// of what it tells of.
//
// # The guarantee
//
// An acknowledged event is on disk; every delivery that is due is attempted at least once; after a crash only what was in
// flight or not yet recorded is sent again, under the same id and with the same bytes; nothing is sent again after its 2xx
// was recorded, unless somebody asks for it.
//
// The engine knows no database: what it needs of one is the [Store] interface, in the domain's own verbs.
package engine
