// Package ui is hookbolt's pages: what a person sees at / in a browser, and presses there. It knows the engine and nothing below it;
// httpapi lets requests in, finds the status of errors, and counts.
//
// # Pages
//
//	GET  /                             the overview: what waits, what was delivered, what needs attention
//	GET  /webhooks                     all webhooks (?after=)
//	GET  /webhooks/:id                 one, with its state, its settings and its latest deliveries
//	POST /webhooks/:id/test            queues a sample and leads to it
//	POST /webhooks/:id/pause           holds everything back
//	POST /webhooks/:id/resume          lets it go on
//	POST /webhooks/:id/activate        switches it on
//	GET  /webhooks/:id/deactivate      asks whether it is to be switched off
//	POST /webhooks/:id/deactivate      switches it off and cancels what waits
//	GET  /webhooks/:id/delete          asks whether it is to be deleted
//	POST /webhooks/:id/delete          deletes it and cancels what waits
//	GET  /new-webhook                  the form that creates a webhook
//	POST /webhooks                     creates it, and leads to its secret
//	GET  /webhooks/:id/edit            the form that edits one
//	POST /webhooks/:id                 saves it
//	GET  /webhooks/:id/secret          its secret, once, after it was made; and how to verify a signature
//	POST /webhooks/:id/secret          its secret again
//	GET  /webhooks/:id/rotate          asks how it is to get its next secret
//	POST /webhooks/:id/rotate          gives it the next secret
//	GET  /webhooks/:id/replay          what to send again, and how much that is (?status=&since=&until=)
//	POST /webhooks/:id/replay          sends it again
//	GET  /deliveries                   lists them (?webhook_id=&session_id=&status=&since=&until=&cursor=)
//	GET  /deliveries/:id               one, with its life, its payload and its attempts
//	POST /deliveries/:id/retry         makes it due now
//	POST /deliveries/:id/cancel        ends it, if it waits
//	GET  /sessions                     looks a session up by its id (?id=)
//	GET  /sessions/:id                 its events, what they come to, its deliveries; a payload as it would be sent (?webhook_id=&as_of=&events=all)
//	GET  /sessions/:id/erase           asks whether it is to be erased
//	POST /sessions/:id/erase           erases it
//	GET  /play                         a small quiz (?content_id=)
//	POST /play                         takes its session in, or events that were written down
//
// # How they are made
//
// Everything is rendered here, by html/template, from files that are embedded. A page is one response: its style sheet and its script
// stand in it, and its Content-Security-Policy allows these two by their hashes and nothing else, so that neither a visitor's answer nor
// an endpoint's can become script or style, and nothing is loaded from anywhere.
//
// Everything that changes something is a form with method post, answered with a redirect to a page that shows what came of it. The
// script only adds to that: a page that is Live asks for itself every other second and takes over what has changed in the elements with
// data-live, and blocks with data-copy get a button that copies them.
package ui
