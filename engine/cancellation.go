package engine

import "github.com/google/uuid"

// CancelScope says which of the waiting deliveries of a webhook a cancellation ends.
type CancelScope string

// The reasons for which waiting deliveries stop fitting their webhook.
const (
	CancelAll        CancelScope = "all"           // switched off or deleted
	CancelIncomplete CancelScope = "incomplete"    // told to send no incomplete sessions
	CancelContent    CancelScope = "other_content" // moved to another content
)

// Cancellation ends what waits for a webhook since before a change of its settings. It is a mark first: from the moment that
// the change is stored nothing that it covers is sent. A job removes the covered deliveries afterwards, in bounded steps.
type Cancellation struct {
	WebhookID uint32 `json:"webhook_id"`
	// Revision is the webhook's revision before the change: later deliveries are not covered.
	Revision uint64      `json:"revision"`
	Scope    CancelScope `json:"scope"`
	// ContentID is the content that still fits, for CancelContent.
	ContentID uuid.UUID `json:"content_id,omitzero"`
}

// Covers tells whether the cancellation ends a waiting delivery.
func (c *Cancellation) Covers(d *Delivery) bool {
	if d.WebhookID != c.WebhookID || d.WebhookRevision > c.Revision {
		return false
	}
	switch c.Scope {
	case CancelIncomplete:
		return d.Kind == KindIncomplete
	case CancelContent:
		return d.Kind.OfSession() && d.ContentID != c.ContentID
	}
	return true
}

// Cancellations returns what a change of settings from before to after cancels. (A deletion cancels everything; it is no change.)
func Cancellations(before, after *Webhook) []Cancellation {
	var list []Cancellation
	for i := range Settings {
		cancels := Settings[i].cancels
		if cancels == nil {
			continue
		}
		c := Cancellation{WebhookID: before.ID, Revision: before.Revision, Scope: cancels(before, after)}
		switch c.Scope {
		case "":
			continue
		case CancelAll: // the others are part of it
			return []Cancellation{c}
		case CancelContent:
			c.ContentID = *after.ContentID
		}
		list = append(list, c)
	}
	return list
}
