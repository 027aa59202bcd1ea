package ui

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// soon is the time before an event in which a page without script reloads itself.
const soon = time.Minute

// deliverySummary says what happens to a delivery now.
type deliverySummary struct {
	// Summary says it. When is the time of the next step, which completes the sentence; zero if there is none or it is unknown.
	Summary string
	When    time.Time
	// Soon means that the state is about to change.
	Soon bool
}

func (p *Pages) deliverySummary(d *engine.Delivery, h engine.Health, attempts []engine.Attempt, now time.Time) deliverySummary {
	w, err := p.engine.Webhook(d.WebhookID)
	gone := err != nil || !w.Active && d.Kind != engine.KindTest
	switch d.Status {
	case engine.StatusDelivered:
		return deliverySummary{Summary: fmt.Sprintf("Delivered: the endpoint answered %d after %s.", d.LastStatus, counted(int64(d.Attempts), "attempt", "attempts"))}
	case engine.StatusFiltered:
		return deliverySummary{Summary: "The webhook's filter did not let the session through. Later events of the session ask it again; so does “Send again”."}
	case engine.StatusFailed:
		if d.Parked() {
			return deliverySummary{Summary: "A program of the webhook could not build what to send: " + sentenceEnd(d.BuildError) + " Mend the program, then send this again."}
		}
		if gone {
			return deliverySummary{Summary: tried(attempts) + " No further attempts."}
		}
		return deliverySummary{Summary: tried(attempts) + " No further attempts, unless you send it again."}
	case engine.StatusCancelled:
		if d.SupersededBy != uuid.Nil {
			return deliverySummary{Summary: "A newer delivery of the session has superseded it: that one has all that this one would tell. Nothing more is sent."}
		}
		return deliverySummary{Summary: "It was cancelled by hand or by a change of the webhook. Nothing more is sent."}
	}
	said := "The payload is built when the delivery is due."
	switch {
	case len(attempts) > 0:
		said = tried(attempts)
		// Unless the delivery was rescheduled by hand since.
		if last := &attempts[len(attempts)-1]; last.NextAt.Equal(d.NextAttemptAt) {
			switch last.NextReason {
			case engine.NextByRetryAfter:
				said += " The token endpoint asked to wait (Retry-After)."
			case engine.NextByThrottle:
				said += " The endpoint refused load, which uses up no attempt."
			case engine.NextByToken:
				said += " hookbolt requests a new OAuth token."
			}
		}
	case d.Status == engine.StatusPending:
		said = "The payload is frozen."
	}
	until := func(said string, at time.Time) deliverySummary { return deliverySummary{said, at, at.Sub(now) < soon} }
	switch {
	case gone:
		return deliverySummary{Summary: "The webhook is deleted or switched off. The delivery will be cancelled.", Soon: true}
	case held(&w, d):
		return deliverySummary{Summary: said + " The webhook is paused. Resume it to send this delivery."}
	case h.Failing() && d.Kind != engine.KindTest && h.NextAttemptAt().After(now) && d.NextAttemptAt.Before(h.NextAttemptAt()):
		return until(said+" The endpoint is failing and gets one attempt at a time. The next one starts", h.NextAttemptAt())
	case d.Kind != engine.KindTest && h.Throttle.HeldUntil.After(now) && d.NextAttemptAt.Before(h.Throttle.HeldUntil):
		return until(said+" The webhook's deliveries wait as the endpoint asked. The next attempt starts", h.Throttle.HeldUntil)
	case !d.NextAttemptAt.After(now):
		return deliverySummary{Summary: said + " It is due: an attempt is in progress or starts soon.", Soon: true}
	case d.Kind == engine.KindIncomplete && d.Status == engine.StatusScheduled:
		return until("If the session does not finish, it is sent", d.NextAttemptAt)
	case d.Attempts > 0:
		return until(said+" The next attempt starts", d.NextAttemptAt)
	}
	return until(said+" It is sent", d.NextAttemptAt)
}

// tried summarizes the attempts of a delivery that has at least one and is not finished by the last.
func tried(attempts []engine.Attempt) string {
	last := &attempts[len(attempts)-1]
	if last.Delivered() {
		return "It was delivered before and was sent again by hand."
	}
	failed := int64(0)
	for i := range attempts {
		if !attempts[i].Delivered() {
			failed++
		}
	}
	if failed == 1 {
		return "1 attempt failed: " + because(last) + "."
	}
	return thousands(failed) + " attempts failed. The last error: " + because(last) + "."
}
