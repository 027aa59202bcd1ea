package engine

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// TestRequestHeader holds what is kept of a request's header against what has arrived.
func TestRequestHeader(t *testing.T) {
	var arrived http.Header
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { arrived = r.Header }))
	defer server.Close()
	s, _ := testSender(t, loopback...)
	now := time.Now()
	w := &Webhook{
		ID: 1, URL: server.URL, Secret: newSecret(), PreviousSecrets: []PreviousSecret{{newSecret(), now.Add(time.Hour)}},
		Headers: map[string]Credential{"X-Api-Key": "open sesame", "A-Header": "x"}, BasicAuth: &BasicAuth{"ada", "pass word"},
	}
	d, payload := &Delivery{ID: uuid.New()}, []byte(`{"n":1}`)
	a, err := s.send(t.Context(), w, d, payload, sendPatience)
	if err != nil || !a.Delivered() {
		t.Fatalf("%+v: %v", a, err)
	}
	kept := a.RequestHeader(d)
	secret := []string{"A-Header", "Authorization", "X-Api-Key"}
	var names []string
	for _, f := range kept {
		names = append(names, f.Name)
		want := arrived.Get(f.Name)
		if slices.Contains(secret, f.Name) {
			want = "…"
		}
		if f.Value != want || arrived.Get(f.Name) == "" {
			t.Errorf("%s: kept %q, arrived %q", f.Name, f.Value, arrived.Get(f.Name))
		}
	}
	// All that arrived is kept, but for what HTTP itself needs.
	for name := range arrived {
		if name != "Content-Length" && name != "Accept-Encoding" && !slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) }) {
			t.Errorf("%s is not kept", name)
		}
	}
	if strings.Count(a.Sent.Signature, "v1,") != 2 {
		t.Errorf("signature %q", a.Sent.Signature)
	}
	if text := fmt.Sprint(kept); strings.Contains(text, "sesame") || strings.Contains(text, w.BasicAuth.authorization()) {
		t.Errorf("a credential is kept: %s", text)
	}
	// What is told of an attempt now is told of one that was made then.
	e := &Engine{}
	e.snapshot.Store(&snapshot{sender: s})
	told, err := e.RequestHeader(w, d, payload, a.StartedAt)
	if err != nil || !slices.Equal(told, kept) {
		t.Errorf("told %v, kept %v: %v", told, kept, err)
	}
}

// TestRequestHeaderWithToken has Authorization filled by OAuth: named in what is told of an attempt and of one to come, and not shown.
func TestRequestHeaderWithToken(t *testing.T) {
	asked := 0
	auth := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"access_token":"opensesame"}`)
	}))
	defer auth.Close()
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	s, _ := testSender(t, loopback...)
	w := &Webhook{ID: 1, URL: server.URL, Secret: newSecret(), OAuth2: &OAuth2{TokenURL: Credential(auth.URL), Body: "x"}}
	d, payload := &Delivery{ID: uuid.New()}, []byte(`{"n":1}`)
	e := &Engine{}
	e.snapshot.Store(&snapshot{sender: s})
	at := time.Now()
	told, err := e.RequestHeader(w, d, payload, at)
	if err != nil || asked != 0 || told[len(told)-1] != (HeaderField{"Authorization", "…"}) {
		t.Errorf("told %v: %v; %d tokens asked for, want none", told, err, asked)
	}
	a, err := s.send(t.Context(), w, d, payload, sendPatience)
	if err != nil || !a.Delivered() || !slices.Equal(a.Sent.Credentials, []string{"Authorization"}) || strings.Contains(fmt.Sprintf("%+v", a), "opensesame") {
		t.Errorf("%+v: %v", a, err)
	}
	// Without a token nothing goes to the endpoint.
	auth.Close()
	s.tokens.forget(w.ID)
	if a, err = s.send(t.Context(), w, d, payload, sendPatience); err != nil || a.Error != ErrorOAuth || a.RequestHeader(d) != nil {
		t.Errorf("without a token: %+v, %v", a, err)
	}
	w.Secret = "none"
	if told, err = e.RequestHeader(w, d, payload, at); err == nil || told != nil {
		t.Errorf("a secret that cannot sign: told %v, %v", told, err)
	}
}

// TestNothingSent shows that no header is told of an attempt that has not sent one.
func TestNothingSent(t *testing.T) {
	s, _ := testSender(t)
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	if a := attempt(t, s, server.URL, sendPatience); a.Error != ErrorAddressRefused || a.RequestHeader(&Delivery{}) != nil {
		t.Errorf("refused by the guard: %+v", a)
	}
	s, _ = testSender(t, loopback...)
	if a := attempt(t, s, server.URL, sendPatience); a.Error != ErrorRefused || a.RequestHeader(&Delivery{}) != nil {
		t.Errorf("nobody listens: %+v", a)
	}
}
