package send

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// tokenEndpoint gives out tokens t1, t2, …, and notes what it was asked with.
type tokenEndpoint struct {
	*httptest.Server
	mu       sync.Mutex
	asked    []*http.Request
	bodies   []string
	answer   func(n int, w http.ResponseWriter) // nil: a token for an hour
	issued   int
	lifetime int // seconds; 0: an hour
}

func newTokenEndpoint(t *testing.T) *tokenEndpoint {
	e := &tokenEndpoint{}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		e.mu.Lock()
		defer e.mu.Unlock()
		e.asked = append(e.asked, r)
		e.bodies = append(e.bodies, string(body))
		if e.answer != nil {
			e.answer(len(e.asked), w)
			return
		}
		e.issued++
		lifetime := e.lifetime
		if lifetime == 0 {
			lifetime = 3600
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{"access_token": fmt.Sprintf("token-%d", e.issued), "token_type": "bearer", "expires_in": lifetime})
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *tokenEndpoint) requests() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.asked)
}

// protected is an endpoint that wants one of some tokens, and notes what it got.
type protected struct {
	*httptest.Server
	mu    sync.Mutex
	valid []string
	got   []string
}

func newProtected(t *testing.T, valid ...string) *protected {
	p := &protected{valid: valid}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.got = append(p.got, r.Header.Get("Authorization"))
		if !slices.Contains(p.valid, r.Header.Get("Authorization")) {
			w.WriteHeader(401)
			io.WriteString(w, "not you: "+r.Header.Get("Authorization"))
		}
	}))
	t.Cleanup(p.Close)
	return p
}

// oauth2 returns settings in the standard form.
func (e *tokenEndpoint) oauth2(scopes ...Credential) *OAuth2 {
	return &OAuth2{TokenURL: Credential(e.URL + "/token?hidden=sekret"), ClientID: "me", ClientSecret: "sekret/+ü", Scopes: append([]Credential{"send"}, scopes...)}
}

// sendWith makes one attempt with a token.
func sendWith(t *testing.T, s *Sender, endpoint string, o *OAuth2) Outcome {
	t.Helper()
	return sendTo(t, s, endpoint, Request{OAuth2: o, TokenKey: "7"})
}

func TestOAuth2StandardForm(t *testing.T) {
	auth, endpoint := newTokenEndpoint(t), newProtected(t, "Bearer token-1")
	s, _ := testSender(t, loopback...)
	for i := range 3 {
		a := sendWith(t, s, endpoint.URL, auth.oauth2("more"))
		wantDelivered(t, a)
		if (a.Phases.Token > 0) != (i == 0) || a.Phases.FirstByte < a.Phases.Token {
			t.Errorf("phases: %+v", a.Phases)
		}
	}
	if auth.requests() != 1 {
		t.Errorf("%d requests for a token that holds for an hour", auth.requests())
	}
	r := auth.asked[0]
	user, password, _ := r.BasicAuth()
	if user != "me" || password != "sekret%2F%2B%C3%BC" || r.Header.Get("User-Agent") != "hookbolt/1.2.3" || r.Method != "POST" || r.URL.Path != "/token" ||
		r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
		t.Errorf("asked by %s %s as %q %q: %v", r.Method, r.URL, user, password, r.Header)
	}
	if auth.bodies[0] != "grant_type=client_credentials&scope=send+more" {
		t.Errorf("asked with %s", auth.bodies[0])
	}
}

func TestOAuth2OwnForm(t *testing.T) {
	for _, tt := range []struct {
		settings    OAuth2
		contentType string
	}{
		{OAuth2{Body: "grant=mine&secret=s%26"}, "application/x-www-form-urlencoded"},
		{OAuth2{Body: `{"apiKey": "k", "n": [1,  2]}`, IsJSON: true}, "application/json"},
		{OAuth2{Body: "<token/>", Headers: map[string]Credential{"Content-Type": "text/xml", "X-A": "1"}}, "text/xml"},
	} {
		auth, endpoint := newTokenEndpoint(t), newProtected(t, "Bearer token-1")
		s, _ := testSender(t, loopback...)
		tt.settings.TokenURL = Credential(auth.URL)
		a := sendWith(t, s, endpoint.URL, &tt.settings)
		wantDelivered(t, a)
		r := auth.asked[0]
		if auth.bodies[0] != string(tt.settings.Body) || r.Header.Get("Content-Type") != tt.contentType || r.Header.Get("Authorization") != "" || auth.requests() != 1 {
			t.Errorf("asked with %q as %s, %q", auth.bodies[0], r.Header.Get("Content-Type"), r.Header.Get("Authorization"))
		}
		if r.Header.Get("X-A") != string(tt.settings.Headers["X-A"]) {
			t.Error("the headers are missing")
		}
	}
}

// A token that was refused is asked for anew, once: what is refused with a new token is a failure like any other.
func TestOAuth2Refused(t *testing.T) {
	auth, endpoint := newTokenEndpoint(t), newProtected(t, "Bearer token-1")
	s, _ := testSender(t, loopback...)
	wantDelivered(t, sendWith(t, s, endpoint.URL, auth.oauth2("more")))
	endpoint.valid = []string{"Bearer token-2"} // the first is revoked
	a := sendWith(t, s, endpoint.URL, auth.oauth2("more"))
	if a.Status != 401 || !a.TokenRejected {
		t.Fatalf("with a revoked token: %+v", a)
	}
	wantDelivered(t, sendWith(t, s, endpoint.URL, auth.oauth2("more")))
	if auth.requests() != 2 {
		t.Errorf("%d tokens asked for, want 2", auth.requests())
	}
	endpoint.valid = nil
	if a := sendWith(t, s, endpoint.URL, auth.oauth2("more")); !a.TokenRejected {
		t.Errorf("%+v", a)
	}
	a = sendWith(t, s, endpoint.URL, auth.oauth2("more"))
	if a.Status != 401 || a.TokenRejected || auth.requests() != 3 {
		t.Errorf("with a token of its own: %+v after %d requests", a, auth.requests())
	}
	if strings.Contains(string(a.Response), "token-3") {
		t.Errorf("the token is kept: %s", a.Response)
	}
}

func TestOAuth2Expiry(t *testing.T) {
	auth, endpoint := newTokenEndpoint(t), newProtected(t, "Bearer token-1", "Bearer token-2")
	auth.lifetime = 5 // less than the margin before the end in which another one is asked for
	s, _ := testSender(t, loopback...)
	wantDelivered(t, sendWith(t, s, endpoint.URL, auth.oauth2("more")))
	wantDelivered(t, sendWith(t, s, endpoint.URL, auth.oauth2("more")))
	if auth.requests() != 2 {
		t.Errorf("%d requests", auth.requests())
	}
	// Other settings, another token.
	auth.lifetime = 0
	endpoint.valid = append(endpoint.valid, "Bearer token-3", "Bearer token-4")
	wantDelivered(t, sendWith(t, s, endpoint.URL, auth.oauth2("more")))
	wantDelivered(t, sendWith(t, s, endpoint.URL, auth.oauth2("other")))
	if auth.requests() != 4 || !strings.HasSuffix(auth.bodies[3], "scope=send+other") {
		t.Errorf("%d requests: %q", auth.requests(), auth.bodies)
	}
}

// Attempts at once share one request for a token.
func TestOAuth2AsksOnce(t *testing.T) {
	auth, endpoint := newTokenEndpoint(t), newProtected(t, "Bearer token-1")
	s, _ := testSender(t, loopback...)
	r := requestTo(endpoint.URL)
	r.OAuth2, r.TokenKey = auth.oauth2(), "7"
	var work sync.WaitGroup
	for range 20 {
		work.Go(func() {
			a, err := s.Send(t.Context(), r)
			if err != nil || !a.Delivered() {
				t.Errorf("%+v, %v", a, err)
			}
		})
	}
	work.Wait()
	if auth.requests() != 1 {
		t.Errorf("%d requests", auth.requests())
	}
	s.ForgetToken("7")
	if len(s.tokens.byKey) != 0 {
		t.Error("the token is kept")
	}
}

func TestOAuth2Failures(t *testing.T) {
	endpoint := newProtected(t)
	asJSON := func(status int, body string) func(int, http.ResponseWriter) {
		return func(_ int, w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			io.WriteString(w, body)
		}
	}
	for name, tt := range map[string]struct {
		answer func(int, http.ResponseWriter)
		detail string
	}{
		"refused":    {asJSON(401, `{"error":"invalid_client","error_description":"sekret"}`), "the token endpoint answered 401: invalid_client"},
		"other text": {asJSON(400, `{"error":"sekret"}`), "the token endpoint answered 400"},
		"broken":     {asJSON(500, "sekret"), "the token endpoint answered 500"},
		"no JSON":    {asJSON(200, "sekret"), "the token endpoint answered 200 with other text in place of JSON"},
		"no token":   {asJSON(200, `{"sekret":1}`), "the token endpoint answered 200 without an access_token"},
		"line break": {asJSON(200, `{"access_token":"sekret\nbad"}`), "the token endpoint answered 200 with a token that is not valid in a header"},
		"redirect": {func(_ int, w http.ResponseWriter) {
			w.Header().Set("Location", "http://127.0.0.1:1/sekret")
			w.WriteHeader(307)
		}, "the token endpoint answered 307"},
		"endless": {func(_ int, w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/json")
			for chunk := strings.Repeat(" ", 1<<16); ; {
				if _, err := io.WriteString(w, chunk); err != nil {
					return
				}
			}
		}, "the token endpoint answered 200 with nothing in place of JSON"},
		"cut off": {func(int, http.ResponseWriter) { panic(http.ErrAbortHandler) }, "token endpoint: EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			auth := newTokenEndpoint(t)
			auth.answer = tt.answer
			s, _ := testSender(t, loopback...)
			a := sendWith(t, s, endpoint.URL, auth.oauth2("more"))
			wantClass(t, a, ErrorOAuth, tt.detail)
			if strings.Contains(a.ErrorDetail, "sekret") {
				t.Errorf("the detail tells too much: %s", a.ErrorDetail)
			}
		})
	}
	if len(endpoint.got) != 0 {
		t.Errorf("it was sent without a token: %q", endpoint.got)
	}

	t.Run("guarded", func(t *testing.T) {
		auth := newTokenEndpoint(t)
		s, _ := testSender(t)
		a := sendWith(t, s, "https://endpoint.invalid/", auth.oauth2())
		wantClass(t, a, ErrorAddressRefused, ": address refused: 127.0.0.1 is not a public address")
		if auth.requests() != 0 || strings.Contains(a.ErrorDetail, "sekret") {
			t.Errorf("%d requests; %s", auth.requests(), a.ErrorDetail)
		}
	})
	t.Run("timeout", func(t *testing.T) {
		auth := newTokenEndpoint(t)
		release := make(chan struct{})
		defer close(release)
		auth.answer = func(int, http.ResponseWriter) { <-release }
		s, _ := testSender(t, loopback...)
		r := requestTo(endpoint.URL)
		r.OAuth2, r.TokenKey, r.Timeout = auth.oauth2(), "7", 300*time.Millisecond
		for range 2 {
			a, err := s.Send(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			wantClass(t, a, ErrorOAuth, "token endpoint: no complete answer within 300ms")
		}
	})
	t.Run("cut off by the end", func(t *testing.T) {
		auth := newTokenEndpoint(t)
		release := make(chan struct{})
		defer close(release)
		ctx, cancel := context.WithCancelCause(t.Context())
		shutdown := errors.New("shutdown")
		auth.answer = func(int, http.ResponseWriter) { cancel(shutdown); <-release }
		s, _ := testSender(t, loopback...)
		r := requestTo(endpoint.URL)
		r.OAuth2, r.TokenKey = auth.oauth2(), "7"
		if a, err := s.Send(ctx, r); err != shutdown {
			t.Errorf("%+v, %v", a, err)
		}
	})
}
