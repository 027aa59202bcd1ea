package engine

import (
	"net/netip"
	"time"
	"unicode/utf8"

	"hookbolt/engine/jsonread"
	"hookbolt/engine/send"
)

// Limits of a webhook's settings.
const (
	MaxDelay          = 31_536_000 // seconds: a year
	MinTimeout        = time.Second
	MaxTimeout        = 2 * time.Minute
	MaxMaxInFlight    = 1000
	MinRateLimit      = 0.001
	MaxRateLimit      = 10_000.0
	maxRetrySteps     = 50
	maxRetryStep      = 30 * 24 * time.Hour
	maxAllowNetworks  = 64
	maxNameCharacters = 200
	MaxOverlap        = 30 * 24 * time.Hour
)

// defaultOverlap is how long a secret signs on after its rotation, unless the caller says: a day to change an endpoint.
const defaultOverlap = 24 * time.Hour

// WebhookPatch is a change of settings, or the settings of a new webhook.
type WebhookPatch struct {
	apply []func(*Webhook)
	// revision is the one that the change was made for; nil means any.
	revision *uint64
}

// IfRevision returns the change for a webhook of that revision only: who has seen another one does not know what he overwrites.
func (p WebhookPatch) IfRevision(revision uint64) WebhookPatch {
	p.revision = &revision
	return p
}

// webhookSetting reads a setting's value, checks it, and returns how to set it. isNull means "the default again".
type webhookSetting func(r *jsonread.Reader, isNull bool) func(*Webhook)

// boolSetting is a setting that is true or false.
func boolSetting(field func(*Webhook) *bool) webhookSetting {
	return func(r *jsonread.Reader, isNull bool) func(*Webhook) {
		d := DefaultWebhook()
		value := *field(&d)
		if !isNull {
			value = r.Bool()
		}
		return func(w *Webhook) { *field(w) = value }
	}
}

// delaySetting is a setting in whole seconds.
func delaySetting(field func(*Webhook) *int64) webhookSetting {
	return func(r *jsonread.Reader, isNull bool) func(*Webhook) {
		d := DefaultWebhook()
		value := *field(&d)
		if !isNull {
			if value = r.Integer(); value < 0 || value > MaxDelay {
				r.Fail("must be whole seconds, 0 to %d (got %d)", MaxDelay, value)
			}
		}
		return func(w *Webhook) { *field(w) = value }
	}
}

// webhookSettings are the settings that a caller can give, by their names in JSON.
var webhookSettings = map[string]webhookSetting{
	"url": func(r *jsonread.Reader, isNull bool) func(*Webhook) {
		if isNull {
			r.Fail("has no default: it must be an http or https URL")
			return nil
		}
		raw := r.Text()
		if err := send.CheckURL(raw); err != nil {
			r.Fail("%v", err)
		}
		return func(w *Webhook) { w.URL = raw }
	},
	"content_id": func(r *jsonread.Reader, isNull bool) func(*Webhook) {
		if isNull {
			return func(w *Webhook) { w.ContentID = nil }
		}
		id := r.UUID()
		return func(w *Webhook) { w.ContentID = &id }
	},
	"name": func(r *jsonread.Reader, isNull bool) func(*Webhook) {
		name := ""
		if !isNull {
			if name = r.Text(); utf8.RuneCountInString(name) > maxNameCharacters {
				r.Fail("must have at most %d characters", maxNameCharacters)
			}
		}
		return func(w *Webhook) { w.Name = name }
	},
	"active": boolSetting(func(w *Webhook) *bool { return &w.Active }),
	"paused": func(r *jsonread.Reader, isNull bool) func(*Webhook) {
		paused := !isNull && r.Bool()
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
	"timeout": func(r *jsonread.Reader, isNull bool) func(*Webhook) {
		if isNull {
			return func(w *Webhook) { w.Timeout = nil }
		}
		d := readDuration(r)
		if time.Duration(d) < MinTimeout || time.Duration(d) > MaxTimeout {
			r.Fail("must be %s to %s (got %s)", Duration(MinTimeout), Duration(MaxTimeout), d)
		}
		return func(w *Webhook) { w.Timeout = &d }
	},
	"max_in_flight": func(r *jsonread.Reader, isNull bool) func(*Webhook) {
		if isNull {
			return func(w *Webhook) { w.MaxInFlight = nil }
		}
		n := r.Integer()
		if n < 1 || n > MaxMaxInFlight {
			r.Fail("must be 1 to %d (got %d)", MaxMaxInFlight, n)
		}
		return func(w *Webhook) { w.MaxInFlight = new(int(n)) }
	},
	"retry_schedule": func(r *jsonread.Reader, isNull bool) func(*Webhook) {
		if isNull {
			return func(w *Webhook) { w.RetrySchedule = nil }
		}
		steps := []Duration{}
		r.Array(func(int) { steps = append(steps, readDuration(r)) })
		if err := CheckRetrySchedule(steps); err != nil {
			r.Fail("%v", err)
		}
		return func(w *Webhook) { w.RetrySchedule = &steps }
	},
	"rate_limit": func(r *jsonread.Reader, isNull bool) func(*Webhook) {
		if isNull {
			return func(w *Webhook) { w.RateLimit = nil }
		}
		n := r.Decimal()
		if n < MinRateLimit || n > MaxRateLimit {
			r.Fail("must be %v to %v deliveries a second (got %v)", MinRateLimit, MaxRateLimit, n)
		}
		return func(w *Webhook) { w.RateLimit = &n }
	},
	"allow_networks": func(r *jsonread.Reader, isNull bool) func(*Webhook) {
		var list []netip.Prefix
		if !isNull {
			list = readNetworks(r)
		}
		return func(w *Webhook) { w.AllowNetworks = list }
	},
	"headers": func(r *jsonread.Reader, isNull bool) func(*Webhook) {
		var headers map[string]Credential
		if !isNull {
			headers = readHeaders(r, false)
		}
		return func(w *Webhook) { w.Headers = headers }
	},
	"basic_auth": func(r *jsonread.Reader, isNull bool) func(*Webhook) {
		var b *BasicAuth
		if !isNull {
			b = readBasicAuth(r)
		}
		return func(w *Webhook) { w.BasicAuth = b }
	},
	"oauth2": func(r *jsonread.Reader, isNull bool) func(*Webhook) {
		var o *OAuth2
		if !isNull {
			o = readOAuth2(r)
		}
		return func(w *Webhook) { w.OAuth2 = o }
	},
	"secret": func(r *jsonread.Reader, isNull bool) func(*Webhook) {
		// Without an overlap, and earlier ones end as well: this is how secrets that have leaked are got rid of.
		if isNull {
			return func(w *Webhook) { w.Secret, w.PreviousSecrets = send.NewSecret(), nil }
		}
		s := readSecret(r)
		return func(w *Webhook) { w.Secret, w.PreviousSecrets = s, nil }
	},
}

func readSecret(r *jsonread.Reader) Secret {
	s := Secret(r.Text())
	if _, err := s.Key(); err != nil {
		r.Fail("%v", err)
	}
	return s
}

// readNetworks reads a list of networks.
func readNetworks(r *jsonread.Reader) []netip.Prefix {
	list := []netip.Prefix{}
	r.Array(func(int) {
		n, err := ParseNetwork(r.Text())
		if err != nil {
			r.Fail("%v", err)
		}
		list = append(list, n)
	})
	if len(list) > maxAllowNetworks {
		r.Fail("must have at most %d networks (got %d)", maxAllowNetworks, len(list))
	}
	return list
}

func readDuration(r *jsonread.Reader) Duration {
	var d Duration
	s := r.Text()
	if err := d.UnmarshalText([]byte(s)); err != nil {
		r.Fail("%v", err)
	}
	return d
}

// ParseWebhookPatch reads settings from a JSON object. A null sets the default again. The error is an InputErrors.
func ParseWebhookPatch(body []byte) (WebhookPatch, error) {
	var patch WebhookPatch
	err := parseObject(body, func(r *jsonread.Reader, key []byte) bool {
		read, ok := webhookSettings[string(key)]
		if ok {
			patch.apply = append(patch.apply, read(r, r.Null()))
		}
		return ok
	})
	if err != nil {
		return WebhookPatch{}, err
	}
	return patch, nil
}

// Rotation is how a webhook gets its next secret.
type Rotation struct {
	// Overlap is how long the present secret signs beside the next one, 0 to MaxOverlap; 0: it stops at once.
	Overlap time.Duration
	// Secret is the next secret; "" has one made.
	Secret Secret
}

// ParseRotation reads a rotation from a JSON object, in which both fields may be left out or null. Without a body the overlap is a
// day and the secret is made. The error is an InputErrors.
func ParseRotation(body []byte) (Rotation, error) {
	rotation := Rotation{Overlap: defaultOverlap}
	if len(body) == 0 {
		return rotation, nil
	}
	err := parseObject(body, func(r *jsonread.Reader, key []byte) bool {
		switch string(key) {
		case "overlap":
			if r.Null() {
				break
			}
			d := readDuration(r)
			if d < 0 || time.Duration(d) > MaxOverlap {
				r.Fail("must be 0s to %s (got %s)", Duration(MaxOverlap), d)
			}
			rotation.Overlap = time.Duration(d)
		case "secret":
			if !r.Null() {
				rotation.Secret = readSecret(r)
			}
		default:
			return false
		}
		return true
	})
	if err != nil {
		return Rotation{}, err
	}
	return rotation, nil
}
