package engine

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// Webhook is a customer's subscription: an endpoint and its settings, for one content or for all. Its JSON form is the one
// that is stored; what the API shows is httpapi's choice.
type Webhook struct {
	ID uint32 `json:"id"`
	// Revision grows with each change. A delivery remembers the one that it was queued under.
	Revision  uint64    `json:"revision"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`

	URL string `json:"url"`
	// ContentID is the content that the webhook is for; nil means every content.
	ContentID *uuid.UUID `json:"content_id"`
	Name      string     `json:"name"`
	// Active is the off switch: an inactive webhook gets nothing new, and what waits for it is cancelled.
	Active bool `json:"active"`
	// Paused is the hold: the lane keeps everything until it is cleared. PauseReason says why; "" while it is not paused.
	Paused      bool   `json:"paused"`
	PauseReason string `json:"pause_reason"`
	// Delay is the span from a session's finish to the firing, IncompleteDelay that from its start; whole seconds.
	Delay           int64 `json:"delay"`
	IncompleteDelay int64 `json:"incomplete_delay"`
	SendAnswers     bool  `json:"send_answers"`
	SendLeads       bool  `json:"send_leads"`
	SendIncomplete  bool  `json:"send_incomplete"`
	// Timeout, MaxInFlight and RetrySchedule take the place of the configuration's values; nil means those.
	Timeout       *Duration   `json:"timeout"`
	MaxInFlight   *int        `json:"max_in_flight"`
	RetrySchedule *[]Duration `json:"retry_schedule"`
	// Secret signs; it is never logged.
	Secret Secret `json:"secret"`
}

// Limits of a webhook's settings.
const (
	MaxDelay          = 31_536_000 // seconds: a year
	MinTimeout        = time.Second
	MaxTimeout        = 2 * time.Minute
	maxMaxInFlight    = 1000
	maxRetrySteps     = 50
	maxRetryStep      = 30 * 24 * time.Hour
	maxURLBytes       = 2048
	maxNameCharacters = 200
)

// defaultWebhook is a webhook before anything is set: the defaults of spec.md, "Webhooks".
func defaultWebhook() Webhook {
	return Webhook{Active: true, Delay: 10, IncompleteDelay: 60, SendAnswers: true, SendLeads: true}
}

func seconds(n int64) time.Duration { return time.Duration(n) * time.Second }

// Duration is a span that is written as in "15s" or "2h45m" in JSON and TOML.
type Duration time.Duration

// MarshalText writes the span without the zero units that time.Duration would show: "5m", not "5m0s".
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(text []byte) error {
	span, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf(`must be a duration, such as "15s", "5m" or "2h" (got %q)`, excerpt(text))
	}
	*d = Duration(span)
	return nil
}

// Secret is the key that signs a webhook's deliveries, in the form of Standard Webhooks: "whsec_" and base64.
type Secret string

const secretPrefix = "whsec_"

// newSecret makes a secret of 32 random bytes.
func newSecret() Secret {
	key := make([]byte, 32)
	rand.Read(key) // never fails (crypto/rand)
	return Secret(secretPrefix + base64.StdEncoding.EncodeToString(key))
}

// Key returns the bytes that sign. The error says what a secret must look like; it never repeats the secret.
func (s Secret) Key() ([]byte, error) {
	encoded, ok := strings.CutPrefix(string(s), secretPrefix)
	key, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || len(key) < 24 || len(key) > 64 {
		return nil, fmt.Errorf("must be %s followed by the base64 of 24 to 64 bytes", secretPrefix)
	}
	return key, nil
}

// String keeps the secret out of text, LogValue out of logs: a JSON log would otherwise not ask String.
func (s Secret) String() string { return secretPrefix + "…" }

// LogValue is what a log shows.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// WebhookPatch is a change of settings, or the settings of a new webhook.
type WebhookPatch struct{ apply []func(*Webhook) }

// webhookSetting reads a setting's value, checks it, and returns how to set it. isNull means "the default again".
type webhookSetting func(r *jsonReader, isNull bool) func(*Webhook)

// boolSetting is a setting that is true or false.
func boolSetting(field func(*Webhook) *bool) webhookSetting {
	return func(r *jsonReader, isNull bool) func(*Webhook) {
		d := defaultWebhook()
		value := *field(&d)
		if !isNull {
			value = r.boolean()
		}
		return func(w *Webhook) { *field(w) = value }
	}
}

// delaySetting is a setting in whole seconds.
func delaySetting(field func(*Webhook) *int64) webhookSetting {
	return func(r *jsonReader, isNull bool) func(*Webhook) {
		d := defaultWebhook()
		value := *field(&d)
		if !isNull {
			if value = r.integer(); value < 0 || value > MaxDelay {
				r.fail("must be whole seconds, 0 to %d (got %d)", MaxDelay, value)
			}
		}
		return func(w *Webhook) { *field(w) = value }
	}
}

// webhookSettings are the settings that a caller can give, by their names in JSON.
var webhookSettings = map[string]webhookSetting{
	"url": func(r *jsonReader, isNull bool) func(*Webhook) {
		if isNull {
			r.fail("has no default: it must be an http or https URL")
			return nil
		}
		raw := r.str()
		if err := checkURL(raw); err != nil && r.field == nil {
			r.fail("%v", err)
		}
		return func(w *Webhook) { w.URL = raw }
	},
	"content_id": func(r *jsonReader, isNull bool) func(*Webhook) {
		if isNull {
			return func(w *Webhook) { w.ContentID = nil }
		}
		id := r.uuid()
		return func(w *Webhook) { w.ContentID = &id }
	},
	"name": func(r *jsonReader, isNull bool) func(*Webhook) {
		name := ""
		if !isNull {
			if name = r.str(); utf8.RuneCountInString(name) > maxNameCharacters {
				r.fail("must have at most %d characters", maxNameCharacters)
			}
		}
		return func(w *Webhook) { w.Name = name }
	},
	"active": boolSetting(func(w *Webhook) *bool { return &w.Active }),
	"paused": func(r *jsonReader, isNull bool) func(*Webhook) {
		paused := !isNull && r.boolean()
		return func(w *Webhook) {
			switch {
			case !paused:
				w.PauseReason = ""
			case !w.Paused:
				w.PauseReason = "paused by hand"
			}
			w.Paused = paused
		}
	},
	"delay":            delaySetting(func(w *Webhook) *int64 { return &w.Delay }),
	"incomplete_delay": delaySetting(func(w *Webhook) *int64 { return &w.IncompleteDelay }),
	"send_answers":     boolSetting(func(w *Webhook) *bool { return &w.SendAnswers }),
	"send_leads":       boolSetting(func(w *Webhook) *bool { return &w.SendLeads }),
	"send_incomplete":  boolSetting(func(w *Webhook) *bool { return &w.SendIncomplete }),
	"timeout": func(r *jsonReader, isNull bool) func(*Webhook) {
		if isNull {
			return func(w *Webhook) { w.Timeout = nil }
		}
		d := r.duration()
		if time.Duration(d) < MinTimeout || time.Duration(d) > MaxTimeout {
			r.fail("must be %s to %s (got %s)", Duration(MinTimeout), Duration(MaxTimeout), d)
		}
		return func(w *Webhook) { w.Timeout = &d }
	},
	"max_in_flight": func(r *jsonReader, isNull bool) func(*Webhook) {
		if isNull {
			return func(w *Webhook) { w.MaxInFlight = nil }
		}
		n := r.integer()
		if n < 1 || n > maxMaxInFlight {
			r.fail("must be 1 to %d (got %d)", maxMaxInFlight, n)
		}
		return func(w *Webhook) { w.MaxInFlight = new(int(n)) }
	},
	"retry_schedule": func(r *jsonReader, isNull bool) func(*Webhook) {
		if isNull {
			return func(w *Webhook) { w.RetrySchedule = nil }
		}
		steps := []Duration{}
		r.array(func(int) { steps = append(steps, r.duration()) })
		if err := CheckRetrySchedule(steps); err != nil {
			r.fail("%v", err)
		}
		return func(w *Webhook) { w.RetrySchedule = &steps }
	},
	"secret": func(r *jsonReader, isNull bool) func(*Webhook) {
		if isNull {
			return func(w *Webhook) { w.Secret = newSecret() }
		}
		s := Secret(r.str())
		if _, err := s.Key(); err != nil {
			r.fail("%v", err)
		}
		return func(w *Webhook) { w.Secret = s }
	},
}

func (r *jsonReader) duration() Duration {
	var d Duration
	s := r.str()
	if err := d.UnmarshalText([]byte(s)); err != nil {
		r.fail("%v", err)
	}
	return d
}

// CheckRetrySchedule says what is wrong with a retry schedule: the spans after each failed attempt. An empty one means no
// retries.
func CheckRetrySchedule(steps []Duration) error {
	if len(steps) > maxRetrySteps {
		return fmt.Errorf("must have at most %d steps (got %d)", maxRetrySteps, len(steps))
	}
	for _, d := range steps {
		if time.Duration(d) < time.Second || time.Duration(d) > maxRetryStep {
			return fmt.Errorf("each step must be 1s to %s (got %s)", Duration(maxRetryStep), d)
		}
	}
	return nil
}

// ParseWebhookPatch reads settings from a JSON object. A null sets the default again. The error is an InputErrors.
func ParseWebhookPatch(body []byte) (WebhookPatch, error) {
	var patch WebhookPatch
	r := jsonReader{data: body}
	if at := invalidUTF8(body); at >= 0 {
		r.malformed(at, "the text is not valid UTF-8")
	}
	r.object(func(key []byte) bool {
		read, ok := webhookSettings[string(key)]
		if ok {
			patch.apply = append(patch.apply, read(&r, r.null()))
		}
		return ok
	})
	if r.syntax == nil && (r.peek() != 0 || r.pos < len(r.data)) {
		r.unexpected("the end of the body after one object")
	}
	switch {
	case r.syntax != nil:
		return WebhookPatch{}, InputErrors{{Detail: "malformed JSON " + r.place(r.syntax.offset) + ": " + r.syntax.detail}}
	case r.field != nil:
		return WebhookPatch{}, InputErrors{*r.field}
	}
	return patch, nil
}

// checkURL says what is wrong with an endpoint's URL, as far as it shows without a look-up.
func checkURL(raw string) error {
	if len(raw) > maxURLBytes {
		return fmt.Errorf("must have at most %d bytes (got %d)", maxURLBytes, len(raw))
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return fmt.Errorf("must be an http or https URL, such as https://example.com/hook")
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("must be an http or https URL, such as https://example.com/hook (got scheme %q)", excerpt([]byte(u.Scheme)))
	case u.Hostname() == "":
		return fmt.Errorf("must name a host, as in https://example.com/hook")
	case !portFits(u.Port()):
		return fmt.Errorf("port must be 1 to 65535 (got %s)", excerpt([]byte(u.Port())))
	case u.User != nil:
		return fmt.Errorf("must not hold a user name or password")
	case u.Fragment != "":
		return fmt.Errorf("must not have a fragment: it would never be sent")
	}
	return nil
}

// portFits tells whether a URL's port can be connected to; "" means the scheme's own.
func portFits(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return port == "" || err == nil && n > 0
}

// urlHost returns the host of an endpoint's URL that checkURL has passed.
func urlHost(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
}

// plainAddress returns the address that a URL's host is in plain sight: an IP literal, or localhost.
func plainAddress(raw string) (netip.Addr, bool) {
	host := urlHost(raw)
	if host == "localhost" || strings.HasSuffix(host, ".localhost") { // RFC 6761, section 6.3
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), true
	}
	addr, err := netip.ParseAddr(host)
	return addr, err == nil
}

// Matches tells whether the webhook is for that content.
func (w *Webhook) Matches(contentID uuid.UUID) bool {
	return w.ContentID == nil || *w.ContentID == contentID
}

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

// Covers tells whether the cancellation ends a waiting delivery; contentID is that of its session.
func (c *Cancellation) Covers(d *Delivery, contentID uuid.UUID) bool {
	if d.WebhookID != c.WebhookID || d.WebhookRevision > c.Revision {
		return false
	}
	switch c.Scope {
	case CancelIncomplete:
		return d.Kind == KindIncomplete
	case CancelContent:
		return d.Kind != KindTest && contentID != c.ContentID
	}
	return true
}

// cancellations says what a change from before to after ends. (Deletion ends everything; it is no change.)
func cancellations(before, after *Webhook) []Cancellation {
	c := Cancellation{WebhookID: before.ID, Revision: before.Revision, Scope: CancelAll}
	if before.Active && !after.Active {
		return []Cancellation{c}
	}
	var list []Cancellation
	if before.SendIncomplete && !after.SendIncomplete {
		c.Scope = CancelIncomplete
		list = append(list, c)
	}
	if after.ContentID != nil && (before.ContentID == nil || *before.ContentID != *after.ContentID) {
		c.Scope, c.ContentID = CancelContent, *after.ContentID
		list = append(list, c)
	}
	return list
}

// WebhookSet is all webhooks, and the cancellations that are not carried out yet, at one moment. It is immutable.
type WebhookSet struct {
	all       []*Webhook // by id
	byID      map[uint32]*Webhook
	byContent map[uuid.UUID][]*Webhook // active ones for one content
	forAll    []*Webhook               // active ones for every content
	cancels   map[uint32][]Cancellation
}

// NewWebhookSet makes a set; it keeps the webhooks that it is given.
func NewWebhookSet(hooks []*Webhook, cancels []Cancellation) *WebhookSet {
	s := &WebhookSet{
		all:       slices.SortedFunc(slices.Values(hooks), func(a, b *Webhook) int { return int(int64(a.ID) - int64(b.ID)) }),
		byID:      make(map[uint32]*Webhook, len(hooks)),
		byContent: make(map[uuid.UUID][]*Webhook),
		cancels:   make(map[uint32][]Cancellation),
	}
	for _, w := range s.all {
		s.byID[w.ID] = w
		switch {
		case !w.Active:
		case w.ContentID == nil:
			s.forAll = append(s.forAll, w)
		default:
			s.byContent[*w.ContentID] = append(s.byContent[*w.ContentID], w)
		}
	}
	for _, c := range cancels {
		s.cancels[c.WebhookID] = append(s.cancels[c.WebhookID], c)
	}
	return s
}

// All returns the webhooks in the order of their ids.
func (s *WebhookSet) All() []*Webhook { return s.all }

// Get returns the webhook with that id, nil if there is none (any more).
func (s *WebhookSet) Get(id uint32) *Webhook { return s.byID[id] }

// EachMatching calls f for each active webhook that is for that content.
func (s *WebhookSet) EachMatching(contentID uuid.UUID, f func(*Webhook)) {
	for _, w := range s.byContent[contentID] {
		f(w)
	}
	for _, w := range s.forAll {
		f(w)
	}
}

// Cancellations returns those of a webhook that are not carried out yet.
func (s *WebhookSet) Cancellations(webhookID uint32) []Cancellation { return s.cancels[webhookID] }

// Covered tells whether a waiting delivery is covered by a cancellation; contentID is that of its session.
func (s *WebhookSet) Covered(d *Delivery, contentID uuid.UUID) bool {
	for i := range s.cancels[d.WebhookID] {
		if s.cancels[d.WebhookID][i].Covers(d, contentID) {
			return true
		}
	}
	return false
}
