// Package ui makes hookbolt's pages: what a person sees and does at / in a browser. It knows the engine and nothing below it. Package
// httpapi authenticates requests, finds the status of errors, and counts requests.
//
// # Pages
//
//	GET  /                             the overview: deliveries that wait, outcomes, webhooks that need attention
//	GET  /webhooks                     all webhooks (?after=)
//	GET  /webhooks/:id                 one, with its state, its settings and its latest deliveries
//	POST /webhooks/:id/test            queues a sample and redirects to its delivery
//	POST /webhooks/:id/pause           pauses it
//	POST /webhooks/:id/resume          resumes it
//	POST /webhooks/:id/activate        switches it on
//	GET  /webhooks/:id/deactivate      asks for a confirmation
//	POST /webhooks/:id/deactivate      switches it off and cancels its pending deliveries
//	GET  /webhooks/:id/delete          asks for a confirmation
//	POST /webhooks/:id/delete          deletes it and cancels its pending deliveries
//	GET  /new-webhook                  the form that creates a webhook (?recipe=&session_id=)
//	POST /new-webhook                  shows the form again, with what would be sent; nothing is saved
//	POST /webhooks                     creates it and redirects to its secret
//	GET  /webhooks/:id/edit            the form that edits one (?session_id=)
//	POST /webhooks/:id/edit            shows the form again, with what would be sent; nothing is saved
//	POST /webhooks/:id                 saves it
//	GET  /webhooks/:id/secret          its secret, once after it was made, and code that verifies signatures
//	POST /webhooks/:id/secret          shows its secret again
//	GET  /webhooks/:id/rotate          the form for a new secret
//	POST /webhooks/:id/rotate          replaces its secret
//	GET  /webhooks/:id/replay          the form for a replay, with a count (?status=&since=&until=)
//	POST /webhooks/:id/replay          starts the replay
//	GET  /deliveries                   lists them (?webhook_id=&session_id=&status=&since=&until=&cursor=)
//	GET  /deliveries/:id               one, with its timeline, its payload and its attempts
//	POST /deliveries/:id/retry         makes it due now
//	POST /deliveries/:id/cancel        cancels it if it waits
//	GET  /sessions                     lists them, or finds a session or a person's (?id=&email=&phone=&poltio_user_id=&state=&cursor=)
//	GET  /sessions/:id                 its events, its folded state, its deliveries, and what a webhook would send (?webhook_id=&as_of=&events=all)
//	GET  /sessions/:id/erase           asks for a confirmation
//	POST /sessions/:id/erase           erases it
//	GET  /erase                        counts what is stored of a person, and asks for a confirmation (?email=&phone=&poltio_user_id=)
//	POST /erase                        erases him
//	GET  /play                         a small quiz (?content_id=)
//	POST /play                         accepts its session, or events that were typed in
//
// Those who may only read get the routes with Read, from NewReadOnly: pages without buttons, and without links to forms.
//
// # How they are made
//
// The server renders everything, with html/template, from embedded files. A page is one response, with its style sheet and its script
// inside. Its Content-Security-Policy allows these two by their hashes, and nothing else. So text from a visitor or an endpoint cannot become
// script or style, and nothing is loaded from other places.
//
// A form of a webhook has a preview beside it, which the script renews while somebody types; see formpreview.go.
//
// Every change is a form with method post. The response redirects to a page that shows the result. The script only adds to that. A page
// that is Live requests itself every other second and updates the elements with data-live. Blocks with data-copy get a button that copies
// them.
package ui
