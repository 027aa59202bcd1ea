// Package engine is the domain of hookbolt: session events, webhooks, deliveries, and the loop that sends them. It knows no database
// and no HTTP server. The database is behind the [Store] interface. Package jsonread reads JSON from clients, and package send makes one
// attempt; both know nothing of the domain.
//
// # The walk of an event
//
//  1. [Engine.Ingest] parses the events of a request ([ParseEvents]) and groups them by session ([NewAppend]). It renders the payloads
//     that are due at once for sessions that the request contains as a whole.
//  2. [Store.AppendEvents] opens a transaction and calls [Append.Admit] for each session. Admit is pure. It drops repeated events,
//     decides whether the session is new and whether it finishes, and returns the triggers. The Store makes a delivery for each
//     trigger. When AppendEvents returns nil, all of it is durable, and the request is answered. A request that leads to more than
//     [MaxTriggers] deliveries keeps a [FanOut] in their place: the Store makes them in bounded steps afterwards, so that others
//     do not wait for it.
//  3. A delivery that is due on arrival, and whose lane is open, is claimed in the same transaction. Its attempt starts without a read
//     of the queue. Any other delivery waits in the queue of its lane.
//  4. The loop of [Engine.Run] sleeps until the next delivery is due. It claims what is due with [Store.ClaimDue], within the limits of
//     the lanes.
//  5. A claim first passes a [turnstile]: the deliveries of one session to one webhook are worked on one at a time. A claimed delivery
//     that is scheduled has no payload yet. [Fold] makes the [Session] from its events, [Render] makes the payload, and [Store.Freeze]
//     stores it. All attempts of a delivery send these bytes, under the same id. Freeze refuses a payload that lacks events which have
//     come meanwhile, and cancels the waiting deliveries that it supersedes ([Freeze.Supersede]).
//  6. Package send makes the attempt. [RetryPolicy.After] decides when the next try is due.
//  7. [Store.RecordAttempt] stores the attempt, ends the claim, and moves the delivery to its next state, as [AttemptRecord.Apply]
//     decides.
//
// Admit, Fold, Render, After and Apply are pure functions: they depend on their arguments alone. A session is never stored, only its
// events are. So it can be folded again at any later time, up to any instant.
//
// # The states of a delivery
//
//	event starts or finishes a session            POST /v1/webhooks/:id/test
//	             │                                           │
//	             ▼                                           │
//	       ┌───────────┐  due: fold, render, freeze    ┌─────▼─────┐ 2xx    ┌───────────┐
//	       │ scheduled ├──────────────────────────────▶│  pending  ├───────▶│ delivered │
//	       └─────┬─────┘                               └─┬───┬───▲─┘        └───────────┘
//	cancel,      │                                       │   └───┘ failed attempt: retry later
//	webhook off, │      ┌───────────┐  cancel, off,      │
//	superseded   └─────▶│ cancelled │◀───────────────────┤
//	                    └───────────┘  superseded        │
//	                                       ┌────────┐    │ schedule exhausted
//	                                       │ failed │◀───┘
//	                                       └────────┘
//
// A manual retry moves a delivery from a final state back to pending, with the same id and the same bytes. A delivery that was cancelled
// before it had a payload goes back to scheduled.
//
// An incomplete trigger is removed, and leaves no trace, if its session has finished by the instant of the trigger. A payload that was
// rendered before its delivery was stored is frozen with it: the delivery is pending from the start. If rendering fails, the error is
// recorded as a failed attempt.
//
// # Late events
//
// The events of a session come in any order, and in several requests. Three rules see to it that a payload has them:
//
//   - A trigger settles: it is due no earlier than Config.Settle after the receipt of its request, or the webhook's delay if that is
//     shorter, unless the request has the session as a whole ([FanOut]).
//   - The incomplete trigger counts from the session's start, its first start or vote. Until there is one, the earliest event stands in.
//     The start moves the trigger, once, while it is scheduled ([Trigger.Move]).
//   - Events that change the payload after the complete one was built lead to a delivery of kind update, which has everything. If the
//     webhook does not want updates, they are counted ([Late], [Trigger.LateEffect]).
//
// So a webhook may get a session several times, each time of a later state: incomplete, complete, updates. The newest state arrives last:
// the turnstile keeps two of them from being in flight together, and a payload that is frozen supersedes what still waits of earlier
// states. A replay leaves out what is overtaken ([Delivery.Overtakes]); a manual retry does not.
//
// # The states of a lane
//
//	          5 failed attempts in a row            every attempt has failed for days, or 410
//	┌──────┐ ────────────────────────────▶ ┌─────────┐ ─────────────────────────────────────▶ ┌────────┐
//	│ open │                               │ failing │                                        │ paused │
//	└──────┘ ◀──────────────────────────── └─────────┘                                        └────────┘
//	   ▲      the first success, a new URL                                                         │
//	   └───────────────────────────────────────────────────────────────────────────────────────────┘
//	                                                                          by hand
//
// An open lane makes as many attempts at once, and per second, as its webhook allows. A failing lane makes one attempt at a time, at
// growing intervals ([Health]). A paused lane makes none. A 410 pauses an open lane, too. In all three states new deliveries are queued,
// and no waiting delivery is dropped or loses a retry.
//
// An open lane whose endpoint refuses load, by 429, or 503 with Retry-After, is throttled: it is held for as long as the endpoint asks, and then
// sends at a rate that begins near what the endpoint has taken, and rises slowly ([Throttle]). No delivery loses a retry by that.
//
// # Ownership
//
// Several processes may share one Store. The lanes of a webhook belong to one process at a time. [Store.Watch] tells a process which
// lanes it owns from now on, and which it must yield. Before each attempt the engine asks [Store.Mine] whether it still owns the lane.
// [ErrLost] means that the process no longer owns its lanes: the engine cuts off its attempts, all its claims end, and it watches again.
// A process that has a bbolt file owns all lanes for as long as it runs.
//
// # System events
//
// A system event tells the operator about a problem, or about its end: a paused webhook, an endpoint that has been failing for long, a
// delivery that has failed for good, a full disk. It is a delivery of kind operation to one webhook, which Config.OperationsURL makes.
// See [SystemEventType].
//
// # The guarantee
//
// An acknowledged event is durable. Every delivery that is due is attempted at least once. After a crash only deliveries that were in
// flight, or whose attempt was not recorded yet, are sent again, with the same id and the same bytes. No delivery is sent again once a
// 2xx is recorded for it, unless somebody asks for it.
package engine
