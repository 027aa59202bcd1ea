package ui

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// deliveryRow is a delivery as tables show it: the part "deliveries" takes a list of them.
type deliveryRow struct {
	engine.Delivery
	// Webhook is what the webhook is called.
	Webhook string
	// Session is uuid.Nil for a delivery that is of none.
	Session uuid.UUID
	// When is the time that matters in its state: when it is tried next, or when it ended. Outcome says in words what came of it so far.
	When    time.Time
	Outcome string
	// Late tells that it waits although it is due, Held that it waits for its webhook to be resumed.
	Late, Held bool
}

// rows prepares deliveries for a table.
func (p *Pages) rows(list []engine.Delivery) []deliveryRow {
	rows := make([]deliveryRow, len(list))
	for i, d := range list {
		rows[i] = deliveryRow{Delivery: d, Webhook: p.webhookName(d.WebhookID), Session: d.SessionID, When: d.FinishedAt, Outcome: outcome(d.LastStatus, d.LastError)}
		if d.Status.Waiting() {
			rows[i].When, rows[i].Late = d.NextAttemptAt, !d.NextAttemptAt.After(time.Now())
			w, err := p.engine.Webhook(d.WebhookID)
			rows[i].Held = err == nil && held(&w, &d)
		}
	}
	return rows
}

// held tells whether a webhook's hold keeps a delivery that waits.
func held(w *engine.Webhook, d *engine.Delivery) bool { return w.Paused && d.Kind != engine.KindTest }

// outcome says what an attempt has come to: "204", "503" or "timeout"; "" if there was none.
func outcome(status int, class engine.ErrorClass) string {
	if status != 0 {
		return strconv.Itoa(status)
	}
	return strings.ReplaceAll(string(class), "_", " ")
}

// webhookName is what a webhook is called: its name, or its endpoint's host and path, or its id if it is gone.
func (p *Pages) webhookName(id uint32) string {
	w, err := p.engine.Webhook(id)
	if err != nil {
		return "webhook " + strconv.FormatUint(uint64(id), 10) + " (deleted)"
	}
	return nameOf(&w)
}

// nameOf is webhookName for a webhook at hand.
func nameOf(w *engine.Webhook) string {
	if w.Name != "" {
		return w.Name
	}
	return endpointOf(w)
}

// endpointOf is where a webhook sends to, without what may be a credential in its URL.
func endpointOf(w *engine.Webhook) string {
	u, err := url.Parse(w.URL)
	if err != nil {
		return "webhook " + strconv.FormatUint(uint64(w.ID), 10)
	}
	return u.Host + u.Path
}

// stateOf is a webhook's state in one word, as the metrics have it: active, failing, paused or inactive.
func stateOf(w *engine.Webhook, h engine.Health) string {
	switch {
	case !w.Active:
		return "inactive"
	case w.Paused:
		return "paused"
	case h.Failing():
		return "failing"
	}
	return "active"
}
