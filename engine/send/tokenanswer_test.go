package send

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// tokenServer is a token endpoint in the test's process: it answers each request as a function says, and notes what it was asked with.
type tokenServer struct {
	asked  []*http.Request
	bodies []string
	answer func(n int, r *http.Request) (status int, header http.Header, body string)
}

func (e *tokenServer) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host != "auth.example" {
		return &http.Response{StatusCode: http.StatusOK, Proto: "HTTP/1.1", Header: http.Header{}, Body: http.NoBody, Request: r}, nil
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	e.asked, e.bodies = append(e.asked, r), append(e.bodies, string(body))
	status, header, text := e.answer(len(e.asked), r)
	return &http.Response{StatusCode: status, Proto: "HTTP/1.1", Header: header, Body: io.NopCloser(strings.NewReader(text)), Request: r}, nil
}

// tokenRequest is a request whose token comes from tokenServer.
func tokenRequest() Request {
	r := requestTo("https://endpoint.example/")
	r.OAuth2, r.TokenKey = &OAuth2{TokenURL: "https://auth.example/token", ClientID: "client", ClientSecret: "s3kret-of-the-client"}, "7"
	r.RetryAfterMax = time.Hour
	return r
}

// tokenOf returns the token that an answer with status 200 gives, and the detail of the error if it gives none.
func tokenOf(t *testing.T, contentType, body string) (authorization string, lifetime time.Duration, detail string) {
	t.Helper()
	e := &tokenServer{answer: func(int, *http.Request) (int, http.Header, string) {
		return 200, http.Header{"Content-Type": {contentType}}, body
	}}
	r := tokenRequest()
	r.OAuth2.AuthStyle = AuthStyleHeader
	g, err := newTokens("hookbolt/1").get(t.Context(), &r, e)
	if err != nil {
		return "", 0, err.Error()
	}
	if !g.token.expiresAt.IsZero() {
		lifetime = g.token.expiresAt.Sub(g.token.gotAt)
	}
	return g.authorization(), lifetime, ""
}

// TestTokenType: the type is told by its meaning, and what is sent has the one spelling that all endpoints read.
func TestTokenType(t *testing.T) {
	for _, value := range []string{`"Bearer"`, `"bearer"`, `"BEARER"`, `"bEaReR "`, `""`, `null`, `"BearerToken"`, `"bearer_token"`, `"Bearer Token"`, `"access_token"`, `"JWT"`,
		`"urn:ietf:params:oauth:token-type:access_token"`, `"urn:ietf:params:oauth:token-type:jwt"`} {
		if got, _, detail := tokenOf(t, "application/json", `{"access_token":"t0k.en","token_type":`+value+`}`); got != "Bearer t0k.en" {
			t.Errorf("%s: sent %q: %s", value, got, detail)
		}
	}
	if got, _, detail := tokenOf(t, "application/json", `{"access_token":"bearer t0k.en"}`); got != "Bearer t0k.en" {
		t.Errorf("with the scheme in the token: sent %q: %s", got, detail)
	}
	const unknown = "an unknown type"
	for value, want := range map[string]string{
		`"mac"`: `type "mac"`, `"DPoP"`: `type "DPoP"`, `"N_A"`: `type "N_A"`, `"Basic"`: `type "Basic"`, `"pop"`: `type "pop"`, `7`: `type "7"`,
		`"urn:ietf:params:oauth:token-type:saml2"`: `type "urn:ietf:params:oauth:token-type:saml2"`,
		`"mac\n"`: `type "mac"`, `"m\u0001ac"`: unknown, `"<b>"`: unknown, `"é"`: unknown, `["Bearer"]`: unknown, `{}`: unknown, `"` + strings.Repeat("a", 41) + `"`: unknown,
		`"s3kret-of-the-client"`: unknown, `"s3kret-of"`: unknown, `"x-s3kret-of-the-client"`: unknown,
	} {
		_, _, detail := tokenOf(t, "application/json", `{"access_token":"t0k.en","token_type":`+value+`}`)
		if detail != "the token endpoint answered 200 with a token of "+want+"; hookbolt sends Bearer tokens" {
			t.Errorf("%s: %s, want …%s…", value, detail, want)
		}
	}
}

func TestTokenLifetime(t *testing.T) {
	const longest = 10 * 365 * 24 * time.Hour
	for value, want := range map[string]time.Duration{
		`3600`: time.Hour, `"3600"`: time.Hour, `" 3600 "`: time.Hour, `3600.0`: time.Hour, `"3599.5"`: 3599500 * time.Millisecond, `3.6e3`: time.Hour, `1`: time.Second,
		`0`: 0, `-1`: 0, `"-1"`: 0, `null`: 0, `""`: 0, `"1h"`: 0, `true`: 0, `[3600]`: 0, `{"s":3600}`: 0, `"NaN"`: 0, `"-Inf"`: 0,
		`9223372036854775807`: longest, `"99999999999999999999999"`: longest, `1e300`: longest, `1e999`: longest,
	} {
		got, lifetime, detail := tokenOf(t, "application/json", `{"access_token":"t","expires_in":`+value+`}`)
		if got != "Bearer t" || lifetime != want {
			t.Errorf("%s: %q for %s, want %s: %s", value, got, lifetime, want, detail)
		}
	}
	if _, lifetime, _ := tokenOf(t, "application/json", `{"access_token":"t"}`); lifetime != 0 {
		t.Errorf("without expires_in: %s", lifetime)
	}
}

// TestTokenAnswers: the content type decides nothing, and each answer without a token says why.
func TestTokenAnswers(t *testing.T) {
	const asJSON, asForm = `{"access_token":"t","token_type":"bearer","expires_in":60}`, "access_token=t&token_type=bearer&expires_in=60"
	for _, contentType := range []string{"application/json", "application/json; charset=utf-16", "text/plain", "text/html; charset=utf-8", "application/x-www-form-urlencoded", "text/javascript", "", "nonsense"} {
		for _, body := range []string{asJSON, "\ufeff" + asJSON, "\r\n" + asJSON + "\n", "\n\ufeff\n" + asJSON, asForm, "\ufeff" + asForm + "\n"} {
			if got, lifetime, detail := tokenOf(t, contentType, body); got != "Bearer t" || lifetime != time.Minute {
				t.Errorf("%q as %s: %q for %s: %s", body, contentType, got, lifetime, detail)
			}
		}
	}
	for body, want := range map[string]string{
		"": " with nothing in place of JSON", " \ufeff\n": " with nothing in place of JSON", "<html>sign in</html>": " with HTML or XML in place of JSON",
		`{"access_token":"t"`: " with broken JSON in place of JSON", asJSON + asJSON: " with broken JSON in place of JSON", "t0ken": " with other text in place of JSON",
		`"t0ken"`: " with other text in place of JSON", `[]`: " with other text in place of JSON", "null": " with other text in place of JSON",
		`{}`: " without an access_token", `{"access_token":""}`: " without an access_token", `{"access_token":null}`: " without an access_token", `{"access_token":{"a":1}}`: " without an access_token", `{"access_token":true}`: " without an access_token", `{"access_token":[]}`: " without an access_token",
		`{"id_token":"x"}`:         " without an access_token",
		`{"access_token":"a b\n"}`: " with a token that is not valid in a header", `{"access_token":"é"}`: " with a token that is not valid in a header",
		`{"error":"invalid_client","error_description":"free text"}`: ": invalid_client", `{"error":"invalid_scope","access_token":"t"}`: ": invalid_scope",
		"error=invalid_grant&error_description=free+text": ": invalid_grant", `{"error":"free text"}`: " with an error that is none of RFC 6749",
		`{"error":{"code":"invalid_client"}}`: " with an error that is none of RFC 6749",
	} {
		if got, _, detail := tokenOf(t, "application/json", body); detail != "the token endpoint answered 200"+want {
			t.Errorf("%q: %q, %q, want …%s", body, got, detail, want)
		}
	}
}

// TestAuthStyle: with a style that is set, the endpoint is asked once; without one, a second time only if the credentials may have been missed.
func TestAuthStyle(t *testing.T) {
	inBody := func(r *http.Request) bool { return r.Header.Get("Authorization") == "" }
	token := `{"access_token":"t"}`
	onlyBody := func(_ int, r *http.Request) (int, http.Header, string) {
		if inBody(r) {
			return 200, nil, token
		}
		return 400, nil, `{"error":"invalid_request"}`
	}
	always := func(status int, body string) func(int, *http.Request) (int, http.Header, string) {
		return func(int, *http.Request) (int, http.Header, string) { return status, nil, body }
	}
	for _, tc := range []struct {
		name   string
		style  AuthStyle
		answer func(int, *http.Request) (int, http.Header, string)
		styles string // of the requests
		detail string
	}{
		{"auto, header", AuthStyleAuto, always(200, token), "header", ""},
		{"auto, body", AuthStyleAuto, onlyBody, "header body", ""},
		{"body", AuthStyleBody, onlyBody, "body", ""},
		{"header", AuthStyleHeader, onlyBody, "header", "the token endpoint answered 400: invalid_request"},
		{"refused alike", AuthStyleAuto, always(401, `{"error":"invalid_client"}`), "header body", "the token endpoint answered 401: invalid_client"},
		{"refused otherwise", AuthStyleAuto, func(n int, _ *http.Request) (int, http.Header, string) {
			return 400 + n, nil, `{"error":"invalid_client"}`
		}, "header body", "the token endpoint answered 401: invalid_client; with the client's credentials in the body, the token endpoint answered 402: invalid_client"},
		{"busy", AuthStyleAuto, always(503, ""), "header", "the token endpoint answered 503"},
		{"too many", AuthStyleAuto, always(429, ""), "header", "the token endpoint answered 429"},
		{"accepted", AuthStyleAuto, always(200, `{"access_token":"t","token_type":"mac"}`), "header", `the token endpoint answered 200 with a token of type "mac"; hookbolt sends Bearer tokens`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := &tokenServer{answer: tc.answer}
			s := New(Options{Transport: e, UserAgent: "hookbolt/1"})
			r := tokenRequest()
			r.OAuth2.AuthStyle = tc.style
			a, err := s.Send(t.Context(), r)
			if err != nil || a.ErrorDetail != tc.detail || a.Delivered() != (tc.detail == "") {
				t.Errorf("got %q, %v; want %q", a.ErrorDetail, err, tc.detail)
			}
			var styles []string
			for i, asked := range e.asked {
				const inForm = "client_id=client&client_secret=s3kret-of-the-client&grant_type=client_credentials"
				switch {
				case inBody(asked) && e.bodies[i] == inForm:
					styles = append(styles, "body")
				case !inBody(asked) && e.bodies[i] == "grant_type=client_credentials":
					styles = append(styles, "header")
				}
			}
			if got := strings.Join(styles, " "); got != tc.styles || len(styles) != len(e.asked) {
				t.Errorf("asked by %q, want %q: %q", got, tc.styles, e.bodies)
			}
			if tc.detail != "" {
				return
			}
			// What was accepted is remembered.
			s.tokens.byKey["7"].token = nil
			if a, err := s.Send(t.Context(), r); err != nil || !a.Delivered() || len(e.asked) != len(styles)+1 {
				t.Errorf("the next token took %d requests: %+v, %v", len(e.asked)-len(styles), a, err)
			}
		})
	}
}

// TestTokenRetryAfter: a token endpoint that asks for a wait is not asked before its end, by no attempt; their retries come then.
func TestTokenRetryAfter(t *testing.T) {
	for _, status := range []int{429, 503} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := &tokenServer{answer: func(n int, _ *http.Request) (int, http.Header, string) {
					if n == 1 {
						return status, http.Header{"Retry-After": {"120"}}, ""
					}
					return 200, nil, `{"access_token":"t"}`
				}}
				s := New(Options{Transport: e})
				r := tokenRequest()
				until := time.Now().Add(2 * time.Minute)
				detail := fmt.Sprintf("the token endpoint answered %d, and asked not to be called before %s", status, until.UTC().Format(time.RFC3339))
				for range 3 {
					a, err := s.Send(t.Context(), r)
					if err != nil || a.Error != ErrorOAuth || a.ErrorDetail != detail || a.RetryAfter != time.Until(until) || len(e.asked) != 1 {
						t.Errorf("after %d requests: %+v, %v", len(e.asked), a, err)
					}
					time.Sleep(30 * time.Second)
				}
				// Other settings are another client.
				other := tokenRequest()
				other.OAuth2.ClientID = "other"
				other.TokenKey = "8"
				if a, err := s.Send(t.Context(), other); err != nil || !a.Delivered() || len(e.asked) != 2 {
					t.Errorf("another webhook: %+v, %v", a, err)
				}
				time.Sleep(30 * time.Second)
				if a, err := s.Send(t.Context(), r); err != nil || !a.Delivered() || len(e.asked) != 3 || a.RetryAfter != 0 {
					t.Errorf("after the wait: %+v, %v", a, err)
				}
			})
		})
	}
}

// TestTokenRetryAfterBounded: the wait has the bound that is set for endpoints, and only 429 and 503 ask for one.
func TestTokenRetryAfterBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		status, asked := 429, "86400"
		e := &tokenServer{answer: func(int, *http.Request) (int, http.Header, string) {
			return status, http.Header{"Retry-After": {asked}}, ""
		}}
		s := New(Options{Transport: e})
		r := tokenRequest()
		r.OAuth2.AuthStyle = AuthStyleBody
		for i, tc := range []struct {
			status int
			asked  string
			most   time.Duration
			want   time.Duration
		}{{429, "86400", time.Hour, time.Hour}, {429, "60", 0, 0}, {500, "60", time.Hour, 0}, {401, "60", time.Hour, 0}, {503, "soon", time.Hour, 0}, {503, "7", time.Hour, 7 * time.Second}} {
			status, asked, r.RetryAfterMax = tc.status, tc.asked, tc.most
			a, err := s.Send(t.Context(), r)
			if err != nil || a.RetryAfter != tc.want || a.Error != ErrorOAuth || len(e.asked) != i+1 {
				t.Errorf("%+v: %+v after %d requests, %v", tc, a, len(e.asked), err)
			}
			time.Sleep(tc.want)
		}
	})
}
