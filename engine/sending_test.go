package engine

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"hookbolt/engine/send"

	"github.com/google/uuid"
)

// TestNewRequest has every field of a request come from the webhook, the delivery or the arguments.
func TestNewRequest(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	w := &Webhook{
		ID: 12, URL: "https://a.example/", AllowNetworks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		Headers: map[string]Header{"X-Key": {Value: "k"}}, BasicAuth: &BasicAuth{Username: "u", Password: "p"}, OAuth2: &OAuth2{TokenURL: "https://auth.example/"},
		HTTP2: new(false), URLValues: new("{}"), TLS: &TLS{MinVersion: "1.3"}, Method: "PUT", Success: []int{302},
		Secret: "whsec_new", PreviousSecrets: []PreviousSecret{{"whsec_old", now.Add(time.Nanosecond)}, {"whsec_older", now}},
		Signature: &Signature{
			Header: "X-Sig", Prefix: "p=", Encoding: send.EncodingHex, Secret: "new", PreviousSecrets: []Previous[Credential]{{"old", now.Add(1)}, {"older", now}},
			Key: "whsk_new", PreviousKeys: []Previous[SigningKey]{{"whsk_old", now.Add(1)}, {"whsk_older", now}},
		},
	}
	d := &Delivery{Attempts: 3, ID: uuid.New(), Kind: KindUpdate, ContentType: "text/plain", URLValues: "a=b", NextAttemptAt: now.Add(-time.Second)}
	want := send.Request{
		URL: w.URL, URLValues: "a=b", HasURLValues: true, AllowNetworks: w.AllowNetworks, NoHTTP2: true, TLS: w.TLS, Method: "PUT", Success: []int{302}, Timeout: time.Minute,
		Headers: w.Headers, BasicAuth: w.BasicAuth, OAuth2: w.OAuth2, TokenKey: "12",
		ID: d.ID.String(), ContentType: "text/plain", Kind: "update", Payload: []byte("{}"), Secrets: []Secret{"whsec_new", "whsec_old"}, DueAt: d.NextAttemptAt,
		Keys: []SigningKey{"whsk_new", "whsk_old"}, BodySignature: &send.BodySignature{Header: "X-Sig", Prefix: "p=", Encoding: send.EncodingHex, Key: "old"},
	}
	got := newRequest(w, d, []byte("{}"), now, time.Minute)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	for f, v := range reflect.ValueOf(got).Fields() {
		if v.IsZero() && f.Name != "RetryAfterMax" && f.Name != "Mail" && f.Name != "MaySend" { // which Engine.attempt sets, since they are of the configuration or of the claim
			t.Errorf("%s is never set", f.Name)
		}
	}
}

// TestRequestHeader compares what an attempt's record shows of the header with what has arrived, and with what is shown of an attempt to
// come.
func TestRequestHeader(t *testing.T) {
	var arrived http.Header
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { arrived = r.Header }))
	defer server.Close()
	s := newSender(Config{AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Version: "1.2.3"}, slog.New(slog.DiscardHandler))
	defer s.CloseIdleConnections()
	w := &Webhook{
		ID: 1, URL: server.URL, Secret: send.NewSecret(), PreviousSecrets: []PreviousSecret{{send.NewSecret(), time.Now().Add(time.Hour)}},
		Headers:   map[string]Header{"X-Api-Key": {Value: "open sesame"}},
		Signature: &Signature{Header: "X-Hub-Signature-256", Prefix: "sha256=", Encoding: send.EncodingHex, Key: send.NewSigningKey()},
	}
	d, payload := &Delivery{ID: uuid.New(), Kind: KindUpdate}, []byte(`{"n":1}`)
	outcome, err := s.Send(t.Context(), newRequest(w, d, payload, time.Now(), 20*time.Second))
	a := Attempt{Outcome: outcome}
	if err != nil || !a.Delivered() {
		t.Fatalf("%+v: %v", a, err)
	}
	shown := a.RequestHeader(d)
	for _, f := range shown {
		if want := arrived.Get(f.Name); want == "" || f.Value != want && f != (HeaderField{Name: "X-Api-Key", Value: "…"}) {
			t.Errorf("%s: shown as %q, arrived as %q", f.Name, f.Value, want)
		}
	}
	if strings.Count(arrived.Get(HeaderSignature), "v1,") != 2 || strings.Count(arrived.Get(HeaderSignature), "v1a,") != 1 || arrived.Get(HeaderKind) != "update" || arrived.Get(HeaderID) != d.ID.String() || arrived.Get("User-Agent") != "hookbolt/1.2.3" {
		t.Errorf("arrived: %v", arrived)
	}
	e := &Engine{}
	e.snapshot.Store(&snapshot{sender: s})
	told, err := e.RequestHeader(w, d, payload, a.StartedAt)
	if err != nil || !slices.Equal(told, shown) || len(told) != 8 {
		t.Errorf("of an attempt to come %v is shown, of one that was made %v: %v", told, shown, err)
	}
	if (&Attempt{}).RequestHeader(d) != nil {
		t.Error("a header is shown of an attempt that has sent none")
	}
}

// Whatever prints a webhook prints none of its secrets.
func TestSecretsOfAWebhookAreNotPrinted(t *testing.T) {
	secret := send.NewSecret()
	key := SigningKey("whsk_" + secret[6:])
	w := Webhook{Secret: secret, PreviousSecrets: []PreviousSecret{{Secret: secret}}, Signature: &Signature{
		Secret: Credential(secret), PreviousSecrets: []Previous[Credential]{{Secret: Credential(secret)}}, Key: key, PreviousKeys: []Previous[SigningKey]{{Secret: key}},
	}}
	if text := fmt.Sprintf("%v %+v %+v %v %+v", w, w, &w, *w.Signature, w.Signature); strings.Contains(text, string(secret[6:20])) || !strings.Contains(text, "whsec_…") {
		t.Errorf("printed as %s", text)
	}
}
