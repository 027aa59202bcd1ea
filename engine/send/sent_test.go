package send

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestSentHeader compares what is kept of a request's header with what has arrived.
func TestSentHeader(t *testing.T) {
	var arrived http.Header
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { arrived = r.Header }))
	defer server.Close()
	s, _ := testSender(t, loopback...)
	r := requestTo(server.URL)
	r.Secrets = append(r.Secrets, NewSecret())
	r.Keys, r.BodySignature = []SigningKey{NewSigningKey()}, &BodySignature{"X-Hub-Signature-256", "sha256=", EncodingHex, "a secret of its own"}
	r.Headers, r.BasicAuth = map[string]Header{"X-Api-Key": {Value: "open sesame"}, "A-Header": {Value: "x"}}, &BasicAuth{"ada", "pass word"}
	a, err := s.Send(t.Context(), r)
	if err != nil || !a.Delivered() {
		t.Fatalf("%+v: %v", a, err)
	}
	kept := a.Sent.Header(&r, a.StartedAt)
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
	// All that arrived is kept, except for what HTTP itself needs.
	for name := range arrived {
		if name != "Content-Length" && name != "Accept-Encoding" && !slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) }) {
			t.Errorf("%s is not kept", name)
		}
	}
	if strings.Count(a.Sent.Signature, "v1,") != 2 || strings.Count(a.Sent.Signature, " v1a,") != 1 || !strings.HasPrefix(a.Sent.BodySignature.Value, "sha256=") {
		t.Errorf("signatures %q and %q", a.Sent.Signature, a.Sent.BodySignature)
	}
	if text := fmt.Sprint(kept); strings.Contains(text, "sesame") || strings.Contains(text, r.BasicAuth.authorization()) {
		t.Errorf("a credential is kept: %s", text)
	}
	// The preview of a request is what is kept of it.
	preview, err := s.Preview(r, a.StartedAt)
	if err != nil || !slices.Equal(preview, kept) {
		t.Errorf("preview %v, kept %v: %v", preview, kept, err)
	}
}

// TestSentHeaderWithToken: the header Authorization that OAuth sets is named in the preview and in what is kept; its value is in neither.
func TestSentHeaderWithToken(t *testing.T) {
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
	r := requestTo(server.URL)
	r.OAuth2, r.TokenKey = &OAuth2{TokenURL: Credential(auth.URL), Body: "x"}, "1"
	at := time.Now()
	preview, err := s.Preview(r, at)
	if err != nil || asked != 0 || preview[len(preview)-1] != (HeaderField{"Authorization", "…"}) {
		t.Errorf("preview %v: %v; %d tokens fetched, want none", preview, err, asked)
	}
	a, err := s.Send(t.Context(), r)
	if err != nil || !a.Delivered() || !slices.Equal(a.Sent.Credentials, []string{"Authorization"}) || strings.Contains(fmt.Sprintf("%+v", a), "opensesame") {
		t.Errorf("%+v: %v", a, err)
	}
	// Without a token nothing is sent to the endpoint.
	auth.Close()
	s.ForgetToken(r.TokenKey)
	if a, err = s.Send(t.Context(), r); err != nil || a.Error != ErrorOAuth || a.Sent.Header(&r, a.StartedAt) != nil {
		t.Errorf("without a token: %+v, %v", a, err)
	}
	r.Secrets = []Secret{"none"}
	if preview, err = s.Preview(r, at); err == nil || preview != nil {
		t.Errorf("a secret that cannot sign: preview %v, %v", preview, err)
	}
}

// TestNothingSent: an attempt that has sent no header keeps none.
func TestNothingSent(t *testing.T) {
	s, _ := testSender(t)
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	if a := try(t, s, server.URL, testTimeout); a.Error != ErrorAddressRefused || a.Sent.Header(&Request{}, a.StartedAt) != nil {
		t.Errorf("refused by the guard: %+v", a)
	}
	s, _ = testSender(t, loopback...)
	if a := try(t, s, server.URL, testTimeout); a.Error != ErrorRefused || a.Sent.Header(&Request{}, a.StartedAt) != nil {
		t.Errorf("connection refused: %+v", a)
	}
}
