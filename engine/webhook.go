package engine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
)

// Webhook is a customer's subscription: an endpoint and its settings, for one content or for all. Its JSON form is the one
// that is stored; what the API shows is httpapi's choice.
type Webhook struct {
	ID uint32 `json:"id"`
	// Revision grows with each change. A delivery remembers the one that it was queued under.
	Revision uint64 `json:"revision"`
	// CancelledUpTo is the revision before the last change that cancelled something: deliveries that were claimed under it, or an earlier
	// one, may be covered.
	CancelledUpTo uint64    `json:"cancelled_up_to,omitzero"`
	CreatedAt     time.Time `json:"created_at"`
	UpdatedAt     time.Time `json:"updated_at"`

	URL string `json:"url"`
	// ContentID is the content that the webhook is for; nil means every content.
	ContentID *uuid.UUID `json:"content_id"`
	Name      string     `json:"name"`
	// Operations tells that it gets operational events, and no sessions. There is one at the most, which the engine makes itself.
	Operations bool `json:"operations,omitzero"`
	// Active is the off switch: an inactive webhook gets nothing new, and what waits for it is cancelled.
	Active bool `json:"active"`
	// Paused holds the lane: deliveries are kept until the webhook is resumed. PauseReason says why; "" while it is not paused.
	Paused      bool   `json:"paused"`
	PauseReason string `json:"pause_reason"`
	// ResumedAt is when the webhook was last resumed; zero if it never was.
	ResumedAt time.Time `json:"resumed_at,omitzero"`
	// Delay is the span from a session's finish to the firing, IncompleteDelay that from its start; whole seconds.
	Delay           int64 `json:"delay"`
	IncompleteDelay int64 `json:"incomplete_delay"`
	SendAnswers     bool  `json:"send_answers"`
	SendLeads       bool  `json:"send_leads"`
	SendIncomplete  bool  `json:"send_incomplete"`
	// SendUpdates also fires when something of the payload changes after the complete one was built.
	SendUpdates bool `json:"send_updates,omitzero"`
	// Timeout, MaxInFlight and RetrySchedule replace the values of the configuration; nil means the configuration's.
	Timeout       *Duration   `json:"timeout"`
	MaxInFlight   *int        `json:"max_in_flight"`
	RetrySchedule *[]Duration `json:"retry_schedule"`
	// RateLimit is the maximum number of attempts a second, evenly spaced; nil means no limit.
	RateLimit *float64 `json:"rate_limit,omitempty"`
	// ContentType is that of the body; "" for that of every payload.
	ContentType string `json:"content_type,omitzero"`
	// Filter, Transform and URLValues are programs in jq, which shape what is sent; nil for none. See build.go.
	Filter    *string `json:"filter,omitempty"`
	Transform *string `json:"transform,omitempty"`
	URLValues *string `json:"url_values,omitempty"`
	// HTTP2 is whether attempts may use HTTP/2. Nil means that they may: those of a webhook that an older version has stored do.
	HTTP2 *bool `json:"http2,omitempty"`
	// Method is the method of each request; "" means POST, which is what most have.
	Method string `json:"method,omitempty"`
	// Success are the statuses that deliver beside 2xx.
	Success []int `json:"success,omitempty"`
	// TLS is how the endpoint is spoken to over TLS; nil means the defaults.
	TLS *TLS `json:"tls,omitempty"`
	// AllowNetworks are special-purpose addresses that this webhook may connect to, beside those of the configuration.
	AllowNetworks []netip.Prefix `json:"allow_networks,omitempty"`
	// Headers, BasicAuth and OAuth2 are what the endpoint wants to see; only one of them fills Authorization.
	Headers   map[string]Header `json:"headers,omitempty"`
	BasicAuth *BasicAuth        `json:"basic_auth,omitempty"`
	OAuth2    *OAuth2           `json:"oauth2,omitempty"`
	// Secret signs; it is never logged.
	Secret Secret `json:"secret"`
	// PreviousSecrets are the ones before it whose overlap lasted when Secret took their place, newest first; no more than sign.
	PreviousSecrets []PreviousSecret `json:"previous_secrets,omitempty"`
	// Signature is what signs beside Secret; nil for nothing.
	Signature *Signature `json:"signature,omitempty"`
}

// PreviousSecret is a Previous of Webhook.Secret.
type PreviousSecret = Previous[Secret]

// Previous is a secret or key that was replaced by another one, and that still signs during an overlap.
type Previous[T any] struct {
	Secret T `json:"secret"`
	// SignsUntil is the end of the overlap, in UTC: attempts that start earlier are signed with the secret, others are not.
	SignsUntil time.Time `json:"signs_until"`
}

// MaxSecrets is how many secrets of a kind may sign a webhook's attempts, the present one included: spec.md, "Delivery".
const MaxSecrets = 3

// equals tells whether two webhooks are stored alike, which is what counts: there an empty list is as good as none.
func (w *Webhook) equals(other *Webhook) bool {
	a, errA := json.Marshal(w)
	b, errB := json.Marshal(other)
	return errA == nil && errB == nil && bytes.Equal(a, b)
}

// Tag names the present state of the settings: it is another one after each change. The time is part of it, because a database that is
// restored from a backup counts its revisions from there.
func (w *Webhook) Tag() string {
	return strconv.FormatUint(w.Revision, 10) + "-" + strconv.FormatInt(w.UpdatedAt.UnixNano(), 36)
}

// fitsTag returns ErrPrecondition unless the webhook has one of these tags. Nil means any.
func (w *Webhook) fitsTag(tags []string) error {
	if tags == nil || slices.Contains(tags, w.Tag()) {
		return nil
	}
	return fmt.Errorf("%w: webhook %d has the tag %s", ErrPrecondition, w.ID, w.Tag())
}

// tokenURL returns where the webhook gets its OAuth tokens, "" if it needs none.
func (w *Webhook) tokenURL() Credential {
	if w.OAuth2 == nil {
		return ""
	}
	return w.OAuth2.TokenURL
}

// wants tells whether a delivery of that kind, of a session of that content, fits the settings.
func (w *Webhook) wants(kind Kind, contentID uuid.UUID) bool {
	if w.Operations || kind == KindOperation {
		return w.Operations && kind == KindOperation
	}
	return (w.ContentID == nil || *w.ContentID == contentID) && (kind != KindIncomplete || w.SendIncomplete)
}

// Overlapping returns the previous secrets that sign an attempt that starts at that time, newest first.
func (w *Webhook) Overlapping(at time.Time) []PreviousSecret {
	return overlapping(w.PreviousSecrets, at)
}

// signingSecrets returns the secrets that sign an attempt that starts at that time, newest first: the present one at least.
func (w *Webhook) signingSecrets(at time.Time) []Secret {
	return signing(w.Secret, w.PreviousSecrets, at)
}

// overlapping returns those that sign at that time, newest first.
func overlapping[T any](previous []Previous[T], at time.Time) []Previous[T] {
	var list []Previous[T]
	for _, p := range previous {
		if p.SignsUntil.After(at) && len(list) < MaxSecrets-1 {
			list = append(list, p)
		}
	}
	return list
}

// signing returns the present secret, and those that sign beside it at that time, newest first.
func signing[T any](present T, previous []Previous[T], at time.Time) []T {
	list := []T{present}
	for _, p := range overlapping(previous, at) {
		list = append(list, p.Secret)
	}
	return list
}

// rotate puts a secret in the place of the present one, which signs beside it until now + overlap; earlier ones as long as they
// were to, but for the oldest if there would be more than MaxSecrets. The result shares nothing with previous.
func rotate[T comparable](present T, previous []Previous[T], to T, overlap time.Duration, now time.Time) []Previous[T] {
	all := slices.Concat([]Previous[T]{{present, now.Add(overlap)}}, previous)
	// A rotation may restore an earlier secret: no secret signs twice.
	all = slices.DeleteFunc(all, func(p Previous[T]) bool { return p.Secret == to })
	return overlapping(all, now)
}

// rotate replaces Secret.
func (w *Webhook) rotate(to Secret, overlap time.Duration, now time.Time) {
	w.PreviousSecrets = rotate(w.Secret, w.PreviousSecrets, to, overlap, now)
	w.Secret = to
}
