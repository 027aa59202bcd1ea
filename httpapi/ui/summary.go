package ui

import (
	"fmt"
	"time"

	"hookbolt/engine"
)

// soon is within what time something is about to happen, so that a page without script had better be asked for again.
const soon = time.Minute

// deliverySummary says what happens to a delivery now.
type deliverySummary struct {
	// Standing says it. When is when it goes on, which completes the sentence; zero if it does not, or nobody knows.
	Summary string
	When    time.Time
	// Soon tells that something is about to happen.
	Soon bool
}

func (p *Pages) deliverySummary(d *engine.Delivery, attempts []engine.Attempt, now time.Time) deliverySummary {
	w, err := p.engine.Webhook(d.WebhookID)
	gone := err != nil || !w.Active && d.Kind != engine.KindTest
	switch d.Status {
	case engine.StatusDelivered:
		return deliverySummary{Summary: fmt.Sprintf("The endpoint has taken it (%d), after %s.", d.LastStatus, counted(int64(d.Attempts), "attempt", "attempts"))}
	case engine.StatusFailed:
		if gone {
			return deliverySummary{Summary: tried(attempts) + " Nothing more is tried."}
		}
		return deliverySummary{Summary: tried(attempts) + " Nothing more is tried, unless you send it again."}
	case engine.StatusCancelled:
		return deliverySummary{Summary: "It was cancelled, by hand or by a change of the webhook: nothing more is sent."}
	}
	said := "Its session's payload is built when it is due."
	switch {
	case len(attempts) > 0:
		said = tried(attempts)
		// Unless somebody has pressed a button since.
		if last := &attempts[len(attempts)-1]; last.NextAt.Equal(d.NextAttemptAt) {
			switch last.NextReason {
			case engine.NextByRetryAfter:
				said += " The endpoint has asked to wait (Retry-After)."
			case engine.NextByToken:
				said += " It is tried again with a new OAuth token."
			}
		}
	case d.Status == engine.StatusPending:
		said = "Its payload is frozen."
	}
	h := p.engine.Health(d.WebhookID)
	until := func(said string, at time.Time) deliverySummary { return deliverySummary{said, at, at.Sub(now) < soon} }
	switch {
	case gone:
		return deliverySummary{Summary: "The webhook is gone or switched off: it is about to be cancelled.", Soon: true}
	case held(&w, d):
		return deliverySummary{Summary: said + " The webhook is paused, so it waits until that is resumed."}
	case h.Failing() && d.Kind != engine.KindTest && h.NextProbeAt.After(now) && d.NextAttemptAt.Before(h.NextProbeAt):
		return until(said+" The endpoint is failing and gets one attempt at a time, the next one", h.NextProbeAt)
	case !d.NextAttemptAt.After(now):
		return deliverySummary{Summary: said + " It is due: its attempt is under way, or has its turn soon.", Soon: true}
	case d.Kind == engine.KindIncomplete && d.Status == engine.StatusScheduled:
		return until("It is sent if the session has not finished by its time,", d.NextAttemptAt)
	case d.Attempts > 0:
		return until(said+" It is tried again", d.NextAttemptAt)
	}
	return until(said+" It is sent", d.NextAttemptAt)
}

// tried says what has come of a delivery's attempts, of which there is one at least, and the last has not led to its end.
func tried(attempts []engine.Attempt) string {
	last := &attempts[len(attempts)-1]
	if last.Delivered() {
		return "It was delivered before, and somebody has sent it again."
	}
	failed := int64(0)
	for i := range attempts {
		if !attempts[i].Delivered() {
			failed++
		}
	}
	if failed == 1 {
		return "1 attempt has failed because " + because(last) + "."
	}
	return thousands(failed) + " attempts have failed, the last one because " + because(last) + "."
}
