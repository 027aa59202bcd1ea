package engine

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"net/textproto"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"hookbolt/engine/send"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"golang.org/x/net/http/httpguts"
)

// FuzzSettings: whatever comes in for a webhook, a rotation of its secret or a replay, there is either a setting of which encoding/json
// reads the same, that keeps within its limits and outlives being stored, or errors that are short and repeat no credential.
func FuzzSettings(f *testing.F) {
	for _, body := range []string{
		`{"url":"https://example.com/hook?a=b","content_id":"6caaa000-2bd8-4b28-8b9b-bfe1fca94f39","name":"n\u00fc","active":false,"paused":true}`,
		`{"delay":0,"incomplete_delay":31536000,"send_answers":false,"send_leads":false,"send_incomplete":true}`,
		`{"timeout":"1m30s","max_in_flight":1000,"rate_limit":0.5,"http2":false,"method":"PUT","success":[302,409],"retry_schedule":["1s","720h"],"allow_networks":["10.0.0.0/8","::ffff:1.2.3.4","fd00::1"]}`,
		`{"timeout":null,"max_in_flight":null,"rate_limit":null,"http2":null,"method":null,"success":null,"retry_schedule":null,"allow_networks":null,"headers":null,"basic_auth":null,"oauth2":null}`,
		`{"headers":{"X-Api-Key":"k3y-of-mine","authorization":"Bearer t0ken-of-mine"}}`,
		`{"headers":{"x y":"v4lue-of-mine"}}`, `{"headers":{"X":" v4lue-of-mine"}}`, `{"headers":{"X-Y":"ü\t~"}}`,
		`{"basic_auth":{"username":"us3r-of-mine","password":"p4ss-of-mine"}}`, `{"basic_auth":{"username":"a:b-c1-long"}}`,
		`{"oauth2":{"token_url":"https://a.example/t","client_id":"cl1ent-of-mine","client_secret":"s3cret-of-mine","scopes":["a","b:c"]}}`,
		`{"oauth2":{"token_url":"https://a.example/t","body":{"a":[1,{"b":null}]},"headers":{"content-type":"text/x"}}}`,
		`{"oauth2":{"token_url":"https://a.example/t","body":"grant=f00-of-mine"}}`,
		`{"secret":"whsec_MfKQ9r8GKYqTwjUPD8ILPZIo2LaLaSw4VXTqUm6qyHA="}`, `{"secret":null}`, `{"secret":"whsec_b4d-of-mine"}`,
		`{"signature":{"header":"x-hub-signature-256","prefix":"sha256=","encoding":"hex","secret":"s3cret-of-mine","v1a":true}}`, `{"signature":{"secret":"s3cret-of-mine"}}`,
		`{"signature":{"secret_key":"whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbc="}}`, `{"signature":{"v1a":true,"secret_key":null,"header":null,"prefix":null,"encoding":null,"secret":null}}`,
		`{"signature":{"secret_key":"whsk_b4d-of-mine","encoding":"Hex","prefix":" ","header":"webhook-signature"}}`,
		`{"which":"signature.secret","secret":"s3cret-of-mine"}`, `{"which":"signature.secret_key","secret":"whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbc="}`,
		`{"secret":"whsk_b4d-of-mine","which":"signature.secret"}`, `{"which":"all","overlap":"0s"}`, `{"which":"al1-of-mine"}`,
		`{"overlap":"1h30m","secret":"whsec_MfKQ9r8GKYqTwjUPD8ILPZIo2LaLaSw4VXTqUm6qyHA="}`, `{"overlap":"721h"}`, ` {} `,
		`{"status":"missing","since":"2024-01-01T00:00:00Z","until":"2030-01-01T00:00:00.5+01:00","dry_run":true}`, `{"status":"failed","since":null}`,
		`{"status":"any","since":"9999-12-31T23:59:59-01:00"}`, `{"name":"a","name":"b"}`, `{"unknown":[[{}]]}`, "\ufeff" + `{"name":"\ud83d"}`,
		`{"status":"any","since":"2016-12-31t23:59:60z","until":"2016-12-31 15:59:60.5-08:00"}`, `{"url":"` + strings.Repeat("x", 3000) + `"}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		given, body := bytes.Clone(input), bytes.TrimPrefix(input, []byte("\ufeff"))
		if patch, err := ParseWebhookPatch(input); wantObjectOrError(t, body, err) {
			checkPatch(t, body, patch)
		}
		if r, err := ParseReplay(input); wantObjectOrError(t, body, err) {
			checkReplay(t, body, r)
		}
		if len(input) > 0 { // without one, everything has its default
			if r, err := ParseRotation(input); wantObjectOrError(t, body, err) {
				var std struct{ Which, Overlap, Secret *string }
				if err := json.Unmarshal(body, &std); err != nil {
					t.Fatal(err)
				}
				want, _ := time.ParseDuration(*cmp.Or(std.Overlap, new("24h")))
				if r.Overlap != want || r.Overlap < 0 || r.Overlap > 720*time.Hour || string(r.Which) != *cmp.Or(std.Which, new("")) ||
					r.Key == "" && string(r.Secret)+string(r.Text) != *cmp.Or(std.Secret, new("")) {
					t.Fatalf("rotation %d, %q", r.Overlap, string(r.Secret))
				}
				wantSecret(t, cmp.Or(r.Secret, send.NewSecret()))
			}
		}
		if !bytes.Equal(input, given) {
			t.Fatal("parsing has changed the input")
		}
	})
}

// wantObjectOrError holds the outcome of parsing a body against what goes for each: it tells whether the body was accepted.
func wantObjectOrError(t *testing.T, body []byte, err error) bool {
	t.Helper()
	if err == nil {
		var object map[string]json.RawMessage
		if err := json.Unmarshal(body, &object); err != nil || object == nil {
			t.Fatalf("accepted, but encoding/json says: %v", err)
		}
		return true
	}
	errs, ok := errors.AsType[InputErrors](err)
	if !ok || len(errs) == 0 || len(errs) > maxInputErrors {
		t.Fatalf("the error is %#v", err)
	}
	var object any
	json.Unmarshal(body, &object)
	for _, e := range errs {
		if e.Index != 0 || e.Detail == "" || len(e.Detail) > 400 || len(e.Field) > 200 || !utf8.ValidString(e.Detail+e.Field) {
			t.Fatalf("the error is too long, or no text: %q, %q", e.Field, e.Detail)
		}
		for _, secret := range credentialsIn(object, false) {
			// A digit, for the sake of what the fuzzer makes of the messages' own words.
			if len(secret) >= 8 && strings.ContainsAny(secret, "0123456789") && strings.Contains(e.Detail, secret) {
				t.Fatalf("%q stands in %q", secret, e.Detail)
			}
		}
	}
	return false
}

// credentialsIn returns all strings below the keys of settings that hold credentials.
func credentialsIn(value any, within bool) (list []string) {
	switch v := value.(type) {
	case string:
		if within {
			list = append(list, v)
		}
	case []any:
		for _, element := range v {
			list = append(list, credentialsIn(element, within)...)
		}
	case map[string]any:
		for key, member := range v {
			if key != "token_url" { // its host may be named
				list = append(list, credentialsIn(member, within || slices.Contains([]string{"headers", "basic_auth", "oauth2", "secret", "secret_key"}, key))...)
			}
		}
	}
	return list
}

// plainSettings are a webhook's settings as encoding/json reads them.
type plainSettings struct {
	URL             *string            `json:"url"`
	ContentID       *string            `json:"content_id"`
	Name            *string            `json:"name"`
	Active          *bool              `json:"active"`
	Paused          *bool              `json:"paused"`
	Delay           *int64             `json:"delay"`
	IncompleteDelay *int64             `json:"incomplete_delay"`
	SendAnswers     *bool              `json:"send_answers"`
	SendLeads       *bool              `json:"send_leads"`
	SendIncomplete  *bool              `json:"send_incomplete"`
	Timeout         *string            `json:"timeout"`
	MaxInFlight     *int               `json:"max_in_flight"`
	RateLimit       *float64           `json:"rate_limit"`
	HTTP2           *bool              `json:"http2"`
	Method          *string            `json:"method"`
	Success         []int              `json:"success"`
	RetrySchedule   *[]string          `json:"retry_schedule"`
	AllowNetworks   []string           `json:"allow_networks"`
	Headers         map[string]*string `json:"headers"`
	BasicAuth       *map[string]string `json:"basic_auth"`
	OAuth2          *struct {
		TokenURL     string            `json:"token_url"`
		ClientID     string            `json:"client_id"`
		ClientSecret string            `json:"client_secret"`
		Scopes       []string          `json:"scopes"`
		Body         json.RawMessage   `json:"body"`
		Headers      map[string]string `json:"headers"`
	} `json:"oauth2"`
	Secret *string `json:"secret"`
}

func checkPatch(t *testing.T, body []byte, patch WebhookPatch) {
	var std plainSettings
	if err := json.Unmarshal(body, &std); err != nil {
		t.Fatalf("encoding/json reads %s: %v", body, err)
	}
	w := DefaultWebhook()
	for range 2 { // the second time changes nothing
		before := w
		if _, err := patch.applyTo(&w); err != nil {
			t.Fatalf("what was read cannot be applied: %v", err)
		}
		if std.Secret == nil {
			w.Secret = before.Secret // null has made one
		}
		if before.URL == w.URL && !reflect.DeepEqual(before, w) && before.Secret == w.Secret && reflect.DeepEqual(before.Headers, w.Headers) && before.Secret != "" {
			t.Fatalf("once more makes another webhook of it: %+v, %+v", before, w)
		}
	}
	text := func(d *Duration) *string {
		if d == nil {
			return nil
		}
		return new(time.Duration(*d).String())
	}
	spelled := func(s *string) *string {
		if s == nil {
			return nil
		}
		d, _ := time.ParseDuration(*s)
		return new(d.String())
	}
	got := plainSettings{
		URL: orDefault(w.URL, ""), Name: orDefault(w.Name, ""), Active: &w.Active, Paused: &w.Paused, Delay: &w.Delay, IncompleteDelay: &w.IncompleteDelay,
		SendAnswers: &w.SendAnswers, SendLeads: &w.SendLeads, SendIncomplete: &w.SendIncomplete, Timeout: text(w.Timeout), MaxInFlight: w.MaxInFlight,
		RateLimit: w.RateLimit, HTTP2: new(w.mayUseHTTP2()), Method: new(w.method()), Success: w.Success,
	}
	want := std
	want.Name = cmp.Or(nonEmpty(std.Name), nil)
	want.Active, want.Paused = cmp.Or(std.Active, new(true)), cmp.Or(std.Paused, new(false))
	want.SendAnswers, want.SendLeads = cmp.Or(std.SendAnswers, new(true)), cmp.Or(std.SendLeads, new(true))
	want.SendIncomplete, want.HTTP2 = cmp.Or(std.SendIncomplete, new(false)), cmp.Or(std.HTTP2, new(true))
	want.Delay, want.IncompleteDelay = cmp.Or(std.Delay, new(int64(10))), cmp.Or(std.IncompleteDelay, new(int64(60)))
	want.Timeout = spelled(std.Timeout)
	want.Method = cmp.Or(std.Method, new("POST"))
	slices.Sort(want.Success)
	want.ContentID, want.RetrySchedule, want.AllowNetworks, want.Headers, want.BasicAuth, want.OAuth2, want.Secret = nil, nil, nil, nil, nil, nil, nil
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("of %s came %+v", body, w)
	}
	if *got.Delay < 0 || *got.Delay > MaxDelay || *got.IncompleteDelay < 0 || *got.IncompleteDelay > MaxDelay || len(w.URL) > 2048 ||
		utf8.RuneCountInString(w.Name) > 200 || w.Timeout != nil && (*w.Timeout < Duration(time.Second) || *w.Timeout > Duration(2*time.Minute)) ||
		w.MaxInFlight != nil && (*w.MaxInFlight < 1 || *w.MaxInFlight > 1000) || w.RateLimit != nil && !(*w.RateLimit >= 0.001 && *w.RateLimit <= 10_000) {
		t.Fatalf("beyond the limits: %+v", w)
	}
	if w.Paused != (w.PauseReason != "") {
		t.Fatalf("paused %t because of %q", w.Paused, w.PauseReason)
	}
	if std.ContentID == nil != (w.ContentID == nil) || w.ContentID != nil && !strings.EqualFold(w.ContentID.String(), *std.ContentID) {
		t.Fatalf("content %v of %v", w.ContentID, std.ContentID)
	}
	if std.RetrySchedule == nil != (w.RetrySchedule == nil) || w.RetrySchedule != nil && (len(*w.RetrySchedule) != len(*std.RetrySchedule) || len(*w.RetrySchedule) > 50) {
		t.Fatalf("retry schedule %v of %v", w.RetrySchedule, std.RetrySchedule)
	}
	for i, n := range w.AllowNetworks {
		if again, err := ParseNetwork(n.String()); !n.IsValid() || n != n.Masked() || err != nil || again != n || n.Addr().Is4In6() && n.Bits() >= 96 {
			t.Fatalf("network %d: %s of %s: %v", i, n, std.AllowNetworks[i], err)
		}
	}
	if len(w.AllowNetworks) != len(std.AllowNetworks) || len(w.AllowNetworks) > 64 {
		t.Fatalf("networks %v", w.AllowNetworks)
	}
	if std.Secret != nil {
		if string(w.Secret) != *std.Secret {
			t.Fatal("another secret than was given")
		}
		wantSecret(t, w.Secret)
	}
	checkSentCredentials(t, &w, &std)
	stored, err := json.Marshal(w)
	var back Webhook
	if err != nil || json.Unmarshal(stored, &back) != nil {
		t.Fatalf("stored as %s: %v", stored, err)
	}
	if w.AllowNetworks != nil && len(w.AllowNetworks) == 0 || w.Headers != nil && len(w.Headers) == 0 { // stored as none
		back.AllowNetworks, back.Headers = w.AllowNetworks, w.Headers
	}
	if back.OAuth2 != nil && len(w.OAuth2.Headers)+len(w.OAuth2.Scopes) == 0 {
		back.OAuth2.Headers, back.OAuth2.Scopes = w.OAuth2.Headers, w.OAuth2.Scopes
	}
	if !reflect.DeepEqual(back, w) {
		t.Fatalf("%+v\nis stored as %s\nand comes back as %+v", w, stored, back)
	}
}

func orDefault(s, none string) *string {
	if s == none {
		return nil
	}
	return &s
}

func nonEmpty(s *string) *string {
	if s != nil && *s == "" {
		return nil
	}
	return s
}

// checkSentCredentials sends what was set: an endpoint gets what was given, and nothing beside it.
func checkSentCredentials(t *testing.T, w *Webhook, std *plainSettings) {
	if len(w.Headers) != len(std.Headers) {
		t.Fatalf("%d headers of %d", len(w.Headers), len(std.Headers))
	}
	for name, value := range std.Headers {
		if string(w.Headers[textproto.CanonicalMIMEHeaderKey(name)].Value) != *value {
			t.Fatalf("header %q is %q", name, string(w.Headers[name].Value))
		}
	}
	if o := w.OAuth2; o != nil {
		if string(o.TokenURL) != canonical(std.OAuth2.TokenURL) || string(o.ClientID) != std.OAuth2.ClientID || string(o.ClientSecret) != std.OAuth2.ClientSecret ||
			len(o.Scopes) != len(std.OAuth2.Scopes) || len(o.Headers) != len(std.OAuth2.Headers) || o.TokenURL == "" {
			t.Fatalf("of %+v came a token URL %q and others", std.OAuth2, string(o.TokenURL))
		}
		var body string
		if o.IsJSON {
			body = string(std.OAuth2.Body)
		} else if std.OAuth2.Body != nil {
			json.Unmarshal(std.OAuth2.Body, &body)
		}
		if string(o.Body) != body || (body == "") == (o.ClientID == "") {
			t.Fatalf("of the token request %s came %q", std.OAuth2.Body, string(o.Body))
		}
	}
	if w.checkCredentials() != nil {
		return
	}
	sending := *w
	sending.URL, sending.OAuth2, sending.Secret = "http://example.com/", nil, send.NewSecret()
	var sent bytes.Buffer
	s := newSender(Config{Transport: recorder{&sent}}, nil)
	if a, err := s.Send(t.Context(), newRequest(&sending, &Delivery{}, nil, time.Now(), time.Minute)); err != nil || !a.Delivered() {
		t.Fatalf("cannot be sent: %s, %v", a.ErrorDetail, err)
	}
	got, err := http.ReadRequest(bufio.NewReader(&sent))
	if err != nil {
		t.Fatalf("cannot be received: %v", err)
	}
	if sig := w.Signature; sig != nil && sig.Header != "" {
		if value := got.Header.Get(sig.Header); !strings.HasPrefix(value, sig.Prefix) || len(value) == len(sig.Prefix) || len(got.Header.Values(sig.Header)) != 1 {
			t.Fatalf("%s: signed %q", sig.Header, got.Header)
		}
		delete(got.Header, sig.Header)
	}
	for name := range w.Headers {
		if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(string(w.Headers[name].Value)) || got.Header.Get(name) != string(w.Headers[name].Value) {
			t.Fatalf("header %q: %q arrives as %q", name, string(w.Headers[name].Value), got.Header.Get(name))
		}
		delete(got.Header, name)
	}
	if w.BasicAuth != nil {
		user, password, ok := got.BasicAuth()
		if !ok || user != (*std.BasicAuth)["username"] || password != (*std.BasicAuth)["password"] {
			t.Fatalf("basic auth arrives as %q, %q", user, password)
		}
		delete(got.Header, "Authorization")
	}
	for _, own := range []string{"User-Agent", "Content-Length", "Content-Type", HeaderID, HeaderTimestamp, HeaderSignature, HeaderKind} {
		got.Header.Del(own)
	}
	if len(got.Header) > 0 {
		t.Fatalf("header beside what was set: %v", got.Header)
	}
}

// recorder takes the place of the network: it writes down a request, and answers 200.
type recorder struct{ to *bytes.Buffer }

func (r recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := req.Write(r.to); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusOK, Proto: "HTTP/1.1", Body: http.NoBody}, nil
}

// wantSecret asks a library that endpoints use.
func wantSecret(t *testing.T, s Secret) {
	t.Helper()
	key, err := s.Key()
	if err != nil || len(key) < 24 || len(key) > 64 {
		t.Fatalf("a key of %d bytes: %v", len(key), err)
	}
	if _, err := standardwebhooks.NewWebhook(string(s)); err != nil {
		t.Fatal(err)
	}
}

func checkReplay(t *testing.T, body []byte, r Replay) {
	var std struct {
		Status       ReplayScope
		Since, Until *anyTime
		DryRun       *bool `json:"dry_run"`
	}
	if err := json.Unmarshal(body, &std); err != nil {
		t.Fatal(err)
	}
	if r.Scope != std.Status || !r.Since.Equal(cmp.Or(std.Since, new(anyTime)).Time) || !r.Until.Equal(cmp.Or(std.Until, new(anyTime)).Time) ||
		r.DryRun != *cmp.Or(std.DryRun, new(bool)) || !slices.Contains([]ReplayScope{"failed", "any", "missing"}, r.Scope) {
		t.Fatalf("of %s came %+v", body, r)
	}
	stored, err := json.Marshal(r)
	back := Replay{DryRun: r.DryRun}
	if err != nil || json.Unmarshal(stored, &back) != nil || back != r {
		t.Fatalf("%+v is stored as %s and comes back as %+v: %v", r, stored, back, err)
	}
}

// canonical returns the form in which a URL is stored, "" for one that is refused.
func canonical(url string) string {
	stored, _ := send.CanonicalURL(url)
	return stored
}
