package engine

import (
	"cmp"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"hookbolt/engine/jsonread"
	"hookbolt/engine/send"

	"github.com/google/uuid"
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
	minRetryStep      = time.Second
	maxRetryStep      = 30 * 24 * time.Hour
	maxAllowNetworks  = 64
	maxNameCharacters = 200
	minSuccess        = 300 // below are 2xx, which deliver anyway, and 1xx, which are no answers yet
	maxSuccess        = 599
	maxSuccesses      = 16
	// A secret is whsec_ and the base64 of 24 to 64 bytes.
	minSecretLength = len("whsec_") + 32
	maxSecretLength = len("whsec_") + 88
)

// delayLimits are those of the two delays, in seconds.
var delayLimits = Limits{Minimum: 0, Maximum: MaxDelay}

// Settings are the settings of a webhook that a caller can give, in the order in which the API answers. Reading, defaults, the API, the
// platform's API, the form of the page, apply, dump and the tests of openapi.yaml and docs go by this table.
var Settings = []Setting{
	{
		Name: "url", Required: "an http or https URL", Limits: Limits{MaxLength: send.MaxURLBytes}, Effect: EffectAttempt,
		value: field(func(w *Webhook) *string { return &w.URL }, "", readURL),
	},
	{
		Name: "content_id", Effect: EffectCancel,
		value: optional(func(w *Webhook) **uuid.UUID { return &w.ContentID }, (*jsonread.Reader).UUID),
		cancels: func(before, after *Webhook) CancelScope {
			if after.ContentID != nil && (before.ContentID == nil || *before.ContentID != *after.ContentID) {
				return CancelContent
			}
			return ""
		},
	},
	{
		Name: "name", Limits: Limits{MaxLength: maxNameCharacters}, Effect: EffectNone,
		value: field(func(w *Webhook) *string { return &w.Name }, "", readName),
	},
	{
		Name: "active", Effect: EffectCancel,
		value: boolean(func(w *Webhook) *bool { return &w.Active }, true),
		cancels: func(before, after *Webhook) CancelScope {
			if before.Active && !after.Active {
				return CancelAll
			}
			return ""
		},
	},
	{
		Name: "paused", KeptByFile: true, Effect: EffectHold,
		value: value{
			get:    func(w *Webhook) any { return w.Paused },
			preset: func(w *Webhook) { w.pauseByHand(false) },
			read: func(r *jsonread.Reader) func(*Webhook) {
				paused := r.Bool()
				return func(w *Webhook) { w.pauseByHand(paused) }
			},
		},
	},
	{
		Name: "delay", Limits: delayLimits, Effect: EffectDue,
		value: field(func(w *Webhook) *int64 { return &w.Delay }, 10, readDelay),
	},
	{
		Name: "send_answers", Effect: EffectPayload,
		value: boolean(func(w *Webhook) *bool { return &w.SendAnswers }, true),
	},
	{
		Name: "send_leads", Effect: EffectPayload,
		value: boolean(func(w *Webhook) *bool { return &w.SendLeads }, true),
	},
	{
		Name: "send_incomplete", Effect: EffectCancel,
		value: boolean(func(w *Webhook) *bool { return &w.SendIncomplete }, false),
		cancels: func(before, after *Webhook) CancelScope {
			if before.SendIncomplete && !after.SendIncomplete {
				return CancelIncomplete
			}
			return ""
		},
	},
	{
		Name: "incomplete_delay", Limits: delayLimits, Effect: EffectDue,
		value: field(func(w *Webhook) *int64 { return &w.IncompleteDelay }, 60, readDelay),
	},
	{
		Name: "send_updates", Effect: EffectCancel,
		value: boolean(func(w *Webhook) *bool { return &w.SendUpdates }, false),
		cancels: func(before, after *Webhook) CancelScope {
			if before.SendUpdates && !after.SendUpdates {
				return CancelUpdates
			}
			return ""
		},
	},
	{
		Name: "timeout", Limits: Limits{Spans: spans(MinTimeout, MaxTimeout)}, Effect: EffectAttempt,
		value: optional(func(w *Webhook) **Duration { return &w.Timeout }, readTimeout),
	},
	{
		Name: "max_in_flight", Limits: Limits{Minimum: 1, Maximum: MaxMaxInFlight}, Effect: EffectAttempt,
		value: optional(func(w *Webhook) **int { return &w.MaxInFlight }, readMaxInFlight),
	},
	{
		Name: "retry_schedule", Limits: Limits{MaxItems: maxRetrySteps, Spans: spans(minRetryStep, maxRetryStep)}, Effect: EffectAttempt,
		value: optional(func(w *Webhook) **[]Duration { return &w.RetrySchedule }, readRetrySchedule),
	},
	{
		Name: "rate_limit", Limits: Limits{Minimum: MinRateLimit, Maximum: MaxRateLimit}, Effect: EffectAttempt,
		value: optional(func(w *Webhook) **float64 { return &w.RateLimit }, readRateLimit),
	},
	{
		Name: "http2", Effect: EffectAttempt,
		value: value{
			get:    func(w *Webhook) any { return w.mayUseHTTP2() },
			preset: func(w *Webhook) { w.HTTP2 = nil },
			read: func(r *jsonread.Reader) func(*Webhook) {
				if r.Bool() {
					return func(w *Webhook) { w.HTTP2 = nil }
				}
				return func(w *Webhook) { w.HTTP2 = new(false) }
			},
		},
	},
	{
		Name: "content_type", Limits: Limits{MaxLength: maxContentType}, Effect: EffectPayload,
		value: value{
			get:    func(w *Webhook) any { return w.contentType() },
			preset: func(w *Webhook) { w.ContentType = "" },
			read: func(r *jsonread.Reader) func(*Webhook) {
				contentType := readContentType(r)
				return func(w *Webhook) { w.ContentType = contentType }
			},
		},
	},
	{
		Name: "filter", Program: true, Limits: Limits{MaxLength: maxProgram}, Effect: EffectPayload,
		value: field(func(w *Webhook) **string { return &w.Filter }, nil, readProgram),
	},
	{
		Name: "transform", Program: true, Limits: Limits{MaxLength: maxProgram}, Effect: EffectPayload,
		value: field(func(w *Webhook) **string { return &w.Transform }, nil, readProgram),
	},
	{
		Name: "url_values", Program: true, Limits: Limits{MaxLength: maxProgram}, Effect: EffectPayload,
		value: field(func(w *Webhook) **string { return &w.URLValues }, nil, readProgram),
	},
	{
		Name: "method", Effect: EffectAttempt,
		value: value{
			get:    func(w *Webhook) any { return w.method() },
			preset: func(w *Webhook) { w.Method = "" },
			read: func(r *jsonread.Reader) func(*Webhook) {
				method := readMethod(r)
				return func(w *Webhook) { w.Method = method }
			},
		},
	},
	{
		Name: "success", Limits: Limits{Minimum: minSuccess, Maximum: maxSuccess, MaxItems: maxSuccesses}, Effect: EffectAttempt,
		value: field(func(w *Webhook) *[]int { return &w.Success }, nil, readSuccess).
			shownAs(func(w *Webhook) any { return append([]int{}, w.Success...) }),
	},
	{
		Name: "tls", Secret: true, OfHost: true, Parts: []string{"ca", "cert", "key"}, Effect: EffectAttempt,
		value: field(func(w *Webhook) **TLS { return &w.TLS }, nil, readTLS).shownAs(showTLS).merged(tlsMembers).leaving(leaveTLS),
	},
	{
		Name: "allow_networks", Limits: Limits{MaxItems: maxAllowNetworks}, Effect: EffectAttempt,
		value: field(func(w *Webhook) *[]netip.Prefix { return &w.AllowNetworks }, nil, readNetworks).
			shownAs(func(w *Webhook) any { return append([]netip.Prefix{}, w.AllowNetworks...) }),
	},
	{
		Name: "headers", Secret: true, OfHost: true, Limits: Limits{MaxProperties: maxHeaders}, Effect: EffectAttempt,
		value: field(func(w *Webhook) *map[string]Header { return &w.Headers }, nil, readWebhookHeaders).shownAs(headerNames).merged(headerMembers).namedByCaller(),
	},
	{
		Name: "basic_auth", Secret: true, OfHost: true, Parts: []string{"username", "password"}, Effect: EffectAttempt,
		value: field(func(w *Webhook) **BasicAuth { return &w.BasicAuth }, nil, readBasicAuth).
			shownAsSet(func(w *Webhook) bool { return w.BasicAuth != nil }).merged(basicAuthMembers),
	},
	{
		Name: "oauth2", Secret: true, OfHost: true, Parts: []string{"token_url", "client_id", "client_secret"}, Effect: EffectAttempt,
		value: field(func(w *Webhook) **OAuth2 { return &w.OAuth2 }, nil, readOAuth2).
			shownAsSet(func(w *Webhook) bool { return w.OAuth2 != nil }).merged(oauth2Members),
	},
	{
		// It stays with a webhook that moves to another host, as secret does: no signature reveals what made it.
		Name: "signature", Secret: true, Partly: true, Parts: []string{"secret"}, Effect: EffectAttempt,
		value: value{
			get:    shownSignature,
			preset: func(w *Webhook) { w.Signature = nil },
			read:   readSignature,
		}.merged(signatureMembers),
	},
	{
		// A secret that is set has no overlap, and earlier ones end as well: this gets rid of secrets that have leaked. Answers do not
		// mention it: each webhook has one.
		Name: "secret", Secret: true, KeptByFile: true, Limits: Limits{MinLength: minSecretLength, MaxLength: maxSecretLength}, Effect: EffectAttempt,
		value: value{
			null: func(w *Webhook) { w.Secret, w.PreviousSecrets = send.NewSecret(), nil },
			read: func(r *jsonread.Reader) func(*Webhook) {
				s := readSecret(r)
				return func(w *Webhook) { w.Secret, w.PreviousSecrets = s, nil }
			},
		},
	},
}

// DefaultWebhook is a webhook before anything is set. It has no URL and no secret yet.
func DefaultWebhook() Webhook {
	var w Webhook
	for i := range Settings {
		if preset := Settings[i].value.preset; preset != nil {
			preset(&w)
		}
	}
	return w
}

// mayUseHTTP2 is the setting http2.
func (w *Webhook) mayUseHTTP2() bool { return w.HTTP2 == nil || *w.HTTP2 }

// Methods are the values of the setting method, the default first. DELETE is not among them: it has no body that an endpoint would read, and
// nothing that a session would delete.
var Methods = []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodGet}

// method is the setting method.
func (w *Webhook) method() string { return cmp.Or(w.Method, Methods[0]) }

// SendsBody reports whether the webhook's requests have the payload as their body. A GET has none.
func (w *Webhook) SendsBody() bool { return send.HasBody(w.Method) }

// spans writes the bounds of a duration.
func spans(shortest, longest time.Duration) string {
	return fmt.Sprintf("%s to %s", Duration(shortest), Duration(longest))
}

// pauseByHand sets or clears the hold. A hold that is there already keeps its reason.
func (w *Webhook) pauseByHand(paused bool) {
	switch {
	case !paused:
		w.PauseReason = ""
	case !w.Paused:
		w.PauseReason = "paused by hand"
	}
	w.Paused = paused
}

// headerNames is what answers have of a webhook's headers: true for each name.
func headerNames(w *Webhook) any {
	names := make(map[string]bool)
	for name := range w.Headers {
		names[name] = true
	}
	return names
}

func readURL(r *jsonread.Reader) string {
	canonical, err := send.CanonicalURL(r.Text())
	if err != nil {
		r.Fail("%v", err)
	}
	return canonical
}

func readName(r *jsonread.Reader) string {
	name := r.Text()
	if utf8.RuneCountInString(name) > maxNameCharacters {
		r.Fail("must have at most %d characters", maxNameCharacters)
	}
	return name
}

func readDelay(r *jsonread.Reader) int64 {
	n := r.Integer()
	if n < 0 || n > MaxDelay {
		r.Fail("must be whole seconds, 0 to %d (got %d)", MaxDelay, n)
	}
	return n
}

func readTimeout(r *jsonread.Reader) Duration {
	d := readDuration(r)
	if time.Duration(d) < MinTimeout || time.Duration(d) > MaxTimeout {
		r.Fail("must be %s (got %s)", spans(MinTimeout, MaxTimeout), d)
	}
	return d
}

func readMaxInFlight(r *jsonread.Reader) int {
	n := r.Integer()
	if n < 1 || n > MaxMaxInFlight {
		r.Fail("must be 1 to %d (got %d)", MaxMaxInFlight, n)
	}
	return int(n)
}

func readRetrySchedule(r *jsonread.Reader) []Duration {
	steps := []Duration{}
	r.Array(func(int) { steps = append(steps, readDuration(r)) })
	if err := CheckRetrySchedule(steps); err != nil {
		r.Fail("%v", err)
	}
	return steps
}

func readRateLimit(r *jsonread.Reader) float64 {
	n := r.Decimal()
	if n < MinRateLimit || n > MaxRateLimit {
		r.Fail("must be %v to %v deliveries a second (got %v)", MinRateLimit, MaxRateLimit, n)
	}
	return n
}

// readMethod reads a method. It returns "" for the default: what is stored of webhooks that do not set it stays as it was.
func readMethod(r *jsonread.Reader) string {
	method := r.Text()
	if !slices.Contains(Methods, method) {
		r.Fail("must be %s or %s, in capital letters (got %q)", strings.Join(Methods[:len(Methods)-1], ", "), Methods[len(Methods)-1], jsonread.Excerpt(method))
	}
	if method == Methods[0] {
		return ""
	}
	return method
}

// readSuccess reads statuses. They are kept in order, so that a list is one list in any order.
func readSuccess(r *jsonread.Reader) []int {
	list := []int{}
	r.Array(func(int) {
		status := int(r.Integer())
		switch {
		case status >= 200 && status < minSuccess:
			r.Fail("must be %d to %d (got %d): every 2xx delivers anyway", minSuccess, maxSuccess, status)
		case status < minSuccess || status > maxSuccess:
			r.Fail("must be %d to %d (got %d)", minSuccess, maxSuccess, status)
		case slices.Contains(list, status):
			r.Fail("is there twice (%d)", status)
		}
		list = append(list, status)
	})
	if len(list) > maxSuccesses {
		r.Fail("must have at most %d statuses (got %d)", maxSuccesses, len(list))
	}
	slices.Sort(list)
	return list
}

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

func readWebhookHeaders(r *jsonread.Reader) map[string]Header { return readHeaders(r, false) }

func readSecret(r *jsonread.Reader) Secret {
	s := Secret(r.Text())
	if _, err := s.Key(); err != nil {
		r.Fail("%v", err)
	}
	return s
}

func readDuration(r *jsonread.Reader) Duration {
	var d Duration
	s := r.Text()
	if err := d.UnmarshalText([]byte(s)); err != nil {
		r.Fail("%v", err)
	}
	return d
}
