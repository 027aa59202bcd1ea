package httpapi

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"hookbolt/internal/teststore"
)

const (
	quizPage  = "https://quiz.example.com"
	otherPage = "https://quiz.example.com:8443"
)

// fromPage makes a request as a browser sends it for a page of an origin, with a token unless it is "".
func (f *fixture) fromPage(origin, token, method, target, body string) *httptest.ResponseRecorder {
	r := f.request(method, target, body)
	r.Host = "hooks.example.com"
	r.Header.Set("Origin", origin)
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	if method == "OPTIONS" {
		r.Header.Set("Access-Control-Request-Method", "POST")
		r.Header.Set("Access-Control-Request-Headers", "authorization")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return f.serve(r)
}

// corsHeaders are the headers of an answer that let pages of other origins do something.
func corsHeaders(rec *httptest.ResponseRecorder) string {
	var list []string
	for _, name := range []string{"Allow-Origin", "Allow-Methods", "Allow-Headers", "Allow-Credentials", "Expose-Headers", "Max-Age"} {
		if value, ok := rec.Header()["Access-Control-"+name]; ok {
			list = append(list, name+": "+strings.Join(value, "|"))
		}
	}
	return strings.Join(list, "; ")
}

// TestPreflight shows what a browser is told that asks whether a page may send events.
func TestPreflight(t *testing.T) {
	const granted = "; Allow-Methods: POST; Allow-Headers: authorization, content-type; Max-Age: 7200"
	tokens := Config{AdminTokens: []string{"admin"}, IngestTokens: []string{"ingest"}}
	none, two, all, open := tokens, tokens, tokens, Config{CORSOrigins: []string{quizPage}}
	two.CORSOrigins, all.CORSOrigins = []string{"http://localhost:3000", quizPage}, []string{"*"}
	for _, c := range []struct {
		name, origin string
		cfg          Config
		want         string // "" for a refusal
	}{
		{"listed", quizPage, two, "Allow-Origin: " + quizPage + granted},
		{"listed first", "http://localhost:3000", two, "Allow-Origin: http://localhost:3000" + granted},
		{"another port", otherPage, two, ""},
		{"another scheme", "http://quiz.example.com", two, ""},
		{"a name below", "https://evil.quiz.example.com", two, ""},
		{"a longer name", "https://quiz.example.com.evil.com", two, ""},
		{"another case", "https://QUIZ.example.com", two, ""},
		{"no origin of its own", "null", two, ""},
		{"star", "*", two, ""},
		{"anything of all", otherPage, all, "Allow-Origin: *" + granted},
		{"no origin of its own of all", "null", all, "Allow-Origin: *" + granted},
		{"none is listed", quizPage, none, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			rec := newFixture(t, c.cfg).fromPage(c.origin, "", "OPTIONS", "/v1/events", "")
			if got := corsHeaders(rec); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if c.want == "" {
				if p := wantProblem(t, rec, http.StatusForbidden); !strings.Contains(p.Detail, "http.cors_origins") {
					t.Errorf("detail %q", p.Detail)
				}
			} else if rec.Code != http.StatusNoContent || rec.Body.Len() > 0 {
				t.Errorf("got %d %q", rec.Code, rec.Body)
			}
			if vary := rec.Header().Get("Vary"); (vary == "Origin") != (len(c.cfg.CORSOrigins) > 1) {
				t.Errorf("Vary %q", vary)
			}
		})
	}
	t.Run("no admin token", func(t *testing.T) {
		r := newFixture(t, open).request("OPTIONS", "/v1/events", "")
		r.Header.Set("Origin", quizPage)
		rec := newFixture(t, open).serve(r)
		wantProblem(t, rec, http.StatusForbidden)
		if got := corsHeaders(rec); got != "" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("no page", func(t *testing.T) {
		rec := newFixture(t, two).do("OPTIONS", "/v1/events", "")
		if rec.Code != http.StatusNoContent || rec.Header().Get("Allow") != "OPTIONS, POST" || corsHeaders(rec) != "" {
			t.Errorf("got %d, %v", rec.Code, rec.Header())
		}
	})
}

// TestPagesReadAnswers shows that a page of a listed origin can read every answer to its events, good or bad, and no other page can, nor
// the answer to anything else.
func TestPagesReadAnswers(t *testing.T) {
	f := newFixture(t, Config{AdminTokens: []string{"admin"}, IngestTokens: []string{"ingest"}, MetricsTokens: []string{"metrics"},
		CORSOrigins: []string{quizPage}, MaxBodyBytes: 1000})
	for _, c := range []struct {
		name, token, body string
		want              int
	}{
		{"accepted", "ingest", start(sessionA), 202},
		{"bad", "ingest", "nonsense", 400},
		{"no token", "", start(sessionA), 401},
		{"unknown token", "wrong", start(sessionA), 401},
		{"token for something else", "metrics", start(sessionA), 403},
		{"too large", "ingest", strings.Repeat(" ", 1001), 413},
	} {
		for _, origin := range []string{quizPage, otherPage, ""} {
			rec := f.fromPage(origin, c.token, "POST", "/v1/events", c.body)
			want := ""
			if origin == quizPage {
				want = "Allow-Origin: " + quizPage
			}
			if got := corsHeaders(rec); got != want || rec.Code != c.want || rec.Header().Get("Vary") != "Origin" {
				t.Errorf("%s from %q: got %d with %q, Vary %q; want %d with %q", c.name, origin, rec.Code, got, rec.Header().Get("Vary"), c.want, want)
			}
		}
	}
	for _, route := range everyRoute {
		if route.target == "/v1/events" && route.method != "GET" && route.method != "PUT" || route.target == "/hookbolt.js" {
			continue
		}
		if rec := f.fromPage(quizPage, "admin", route.method, route.target, route.body); corsHeaders(rec) != "" {
			t.Errorf("%s %s: got %q", route.method, route.target, corsHeaders(rec))
		}
	}
	teststore.Close(t, f.store)
	rec := f.fromPage(quizPage, "ingest", "POST", "/v1/events", start(sessionB))
	if wantProblem(t, rec, http.StatusServiceUnavailable); corsHeaders(rec) != "Allow-Origin: "+quizPage {
		t.Errorf("without a database: got %q", corsHeaders(rec))
	}
}

// TestAdminTokenInAPage shows that a page of another origin has no use for an admin token, so that whoever puts one into it hears of it
// before anybody finds it there. A token that is of both kinds is an ingest token, too.
func TestAdminTokenInAPage(t *testing.T) {
	for _, origins := range [][]string{{quizPage}, {"*"}} {
		f := newFixture(t, Config{AdminTokens: []string{"admin", "both"}, IngestTokens: []string{"ingest", "both"}, CORSOrigins: origins})
		rec := f.fromPage(quizPage, "admin", "POST", "/v1/events", start(sessionA))
		if p := wantProblem(t, rec, http.StatusForbidden); !strings.Contains(p.Detail, "http.ingest_tokens") || corsHeaders(rec) == "" {
			t.Errorf("detail %q with %q", p.Detail, corsHeaders(rec))
		}
		f.token = "admin"
		nothingStored(t, f)
		f.want(202, "POST", "/v1/events", start(sessionA)) // not from a page
		for _, token := range []string{"ingest", "both"} {
			if rec := f.fromPage(quizPage, token, "POST", "/v1/events", start(sessionA)); rec.Code != 202 {
				t.Errorf("%s token: got %d", token, rec.Code)
			}
		}
	}
}
