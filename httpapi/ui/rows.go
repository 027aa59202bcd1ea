package ui

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// deliveryRow is a row of a table of deliveries, for the template part "deliveries".
type deliveryRow struct {
	engine.Delivery
	// Webhook is the webhook's name.
	Webhook string
	// Session is uuid.Nil for a delivery without a session.
	Session uuid.UUID
	// When is the next attempt or the end, depending on the status. Outcome is the outcome of the last attempt.
	When    time.Time
	Outcome string
	// Late means that the delivery is due but waits. Held means that it waits because its webhook is paused.
	Late, Held bool
	// Superseded means that a newer delivery of its session has superseded it. Lacks says how many late events it lacks; "" for none.
	Superseded bool
	Lacks      string
}

// rows prepares deliveries for a table.
func (p *Pages) rows(list []engine.Delivery) []deliveryRow {
	rows := make([]deliveryRow, len(list))
	for i, d := range list {
		rows[i] = deliveryRow{Delivery: d, Webhook: p.webhookName(d.WebhookID), Session: d.SessionID, When: d.FinishedAt, Outcome: outcome(d.LastStatus, d.LastError),
			Superseded: d.SupersededBy != uuid.Nil, Lacks: lateEvents(&d)}
		if d.Status.Waiting() {
			rows[i].When, rows[i].Late = d.NextAttemptAt, !d.NextAttemptAt.After(time.Now())
			w, err := p.engine.Webhook(d.WebhookID)
			rows[i].Held = err == nil && held(&w, &d)
		}
	}
	return rows
}

// held reports whether a pause of the webhook holds a delivery back.
func held(w *engine.Webhook, d *engine.Delivery) bool { return w.Paused && d.Kind != engine.KindTest }

// outcome describes an attempt's outcome: "204", "503" or "timeout"; "" if there was no attempt.
func outcome(status int, class engine.ErrorClass) string {
	if status != 0 {
		return strconv.Itoa(status)
	}
	return strings.ReplaceAll(string(class), "_", " ")
}

// webhookName is the webhook's name, or its endpoint's host and path, or its id if it is deleted.
func (p *Pages) webhookName(id uint32) string {
	w, err := p.engine.Webhook(id)
	if err != nil {
		return "webhook " + strconv.FormatUint(uint64(id), 10) + " (deleted)"
	}
	return nameOf(&w)
}

// nameOf is webhookName for a webhook that the caller has.
func nameOf(w *engine.Webhook) string {
	if w.Name != "" {
		return w.Name
	}
	return endpointOf(w)
}

// endpointOf is the endpoint of a webhook without the parts of the URL that may have credentials.
func endpointOf(w *engine.Webhook) string {
	u, err := url.Parse(w.URL)
	if err != nil {
		return "webhook " + strconv.FormatUint(uint64(w.ID), 10)
	}
	return u.Host + u.EscapedPath()
}

// stateOf is a webhook's state as in the metrics: active, failing, throttled, paused or inactive.
func stateOf(w *engine.Webhook, h engine.Health) string {
	switch {
	case !w.Active:
		return "inactive"
	case w.Paused:
		return "paused"
	case h.Failing():
		return "failing"
	}
	if _, throttled := h.Throttled(time.Now()); throttled {
		return "throttled"
	}
	return "active"
}
