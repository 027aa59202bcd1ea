package engine

import "github.com/google/uuid"

// CancelScope says which of the waiting deliveries of a webhook a cancellation ends.
type CancelScope string

// The reasons for which waiting deliveries no longer fit their webhook.
const (
	CancelAll        CancelScope = "all"           // the webhook was switched off or deleted
	CancelIncomplete CancelScope = "incomplete"    // send_incomplete was turned off
	CancelUpdates    CancelScope = "updates"       // send_updates was turned off
	CancelContent    CancelScope = "other_content" // content_id was changed
)

// Cancellation cancels waiting deliveries of a webhook that are older than a change of its settings. Once the change is stored, none of the
// covered deliveries is sent. A job cancels them afterwards, in bounded steps.
type Cancellation struct {
	WebhookID uint32 `json:"webhook_id"`
	// Revision is the webhook's revision before the change: later deliveries are not covered.
	Revision uint64      `json:"revision"`
	Scope    CancelScope `json:"scope"`
	// ContentID is the content that still fits, for CancelContent.
	ContentID uuid.UUID `json:"content_id,omitzero"`
}

// Covers reports whether the cancellation covers a waiting delivery.
func (c *Cancellation) Covers(d *Delivery) bool {
	if d.WebhookID != c.WebhookID || d.WebhookRevision > c.Revision {
		return false
	}
	switch c.Scope {
	case CancelIncomplete:
		return d.Kind == KindIncomplete
	case CancelUpdates:
		// One whose payload is built stays: it may have superseded a delivery that has not reached the endpoint.
		return d.Kind == KindUpdate && d.Status == StatusScheduled
	case CancelContent:
		return d.Kind.OfSession() && d.ContentID != c.ContentID
	}
	return true
}

// Cancellations returns the cancellations of a change of settings from before to after. A deletion, which is no change, cancels everything.
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
