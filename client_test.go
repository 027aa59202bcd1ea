package main

import (
	"context"
	"errors"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// clientOf makes the client that a command with these flags would have.
func clientOf(t *testing.T, args ...string) (*client, error) {
	t.Helper()
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	connect := clientFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	c, err := connect()
	if err == nil {
		t.Cleanup(c.close)
	}
	return c, err
}

func TestClientFollowsCursors(t *testing.T) {
	p := start(t, "serve", "-config", writeConfig(t, t.TempDir(), "", ""))
	url := p.url(t)
	const many = 450 // three pages
	for range many {
		status, answer := call(t, "POST", url+"/v1/webhooks", `{"url":"https://example.com/"}`)
		wantStatus(t, 201, status, answer)
	}
	c, err := clientOf(t, "-url", url+"/")
	if err != nil {
		t.Fatal(err)
	}
	hooks, err := list[struct {
		ID int `json:"id"`
	}](t.Context(), c, "/v1/webhooks")
	if err != nil || len(hooks) != many {
		t.Fatalf("%d webhooks, %v", len(hooks), err)
	}
	for i, hook := range hooks {
		if hook.ID != i+1 {
			t.Fatalf("webhook %d has id %d", i, hook.ID)
		}
	}
}

func TestClientToken(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte(`"` + r.Header.Get("Authorization") + `"`))
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(file, []byte("token-of-the-file\r\nanother-one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		variable string
		flags    []string
		want     string
	}{
		{"", nil, ""},
		{"token-of-the-environment", nil, "Bearer token-of-the-environment"},
		{"token-of-the-environment", []string{"-token-file", file}, "Bearer token-of-the-file"},
	} {
		t.Setenv(tokenVariable, tc.variable)
		c, err := clientOf(t, append(tc.flags, "-url", server.URL)...)
		if err != nil {
			t.Fatal(err)
		}
		var got string
		if err := c.call(t.Context(), "GET", "/", nil, &got); err != nil || got != tc.want {
			t.Errorf("with %q and %v: sent %q, %v; want %q", tc.variable, tc.flags, got, err, tc.want)
		}
	}
	if _, err := clientOf(t, "-token-file", file+".not"); err == nil || !strings.Contains(err.Error(), "-token-file: ") {
		t.Errorf("got %v, want an error that names the flag", err)
	}
	for _, base := range []string{"127.0.0.1:8080", "", "ftp://example.com", "http://user:secret@example.com", "http:///x", "http://a/?b=c"} {
		_, err := clientOf(t, "-url", base)
		if _, ok := errors.AsType[usageError](err); !ok {
			t.Errorf("-url %q: %v, want a usage error", base, err)
		}
	}
}

// What is wrong is told in one line, whatever has answered.
func TestClientErrors(t *testing.T) {
	for name, tc := range map[string]struct {
		status            int
		header, body      string
		want, wantMissing string
	}{
		"a problem": {409, "", `{"detail": "another\nbackup\u001b[31m is sent"}`, "GET URL/x: 409 Conflict: another backup[31m is sent", ""},
		"input": {400, "", `{"detail": "url: one (and 1 more in errors)", "errors": [{"field": "url", "detail": "one"}, {"field": "", "detail": "two"}]}`,
			"GET URL/x: 400 Bad Request: url: one; two", ""},
		"no token":         {401, "", `{"detail": "a known token is needed"}`, "a known token is needed; set HOOKBOLT_TOKEN", ""},
		"a proxy's page":   {502, "", "<html>\n\n<h1>Bad\tGateway</h1>" + strings.Repeat("x", 1000), `502 Bad Gateway: not an answer of hookbolt's; is -url right? It begins with "<html> <h1>Bad`, strings.Repeat("x", 200)},
		"a redirect":       {301, "https://example.com/x", "", `it points to "https://example.com/x"; is -url right?`, ""},
		"not even JSON":    {200, "", "welcome", "the answer is not what hookbolt says there: is -url right?", "welcome"},
		"a strange status": {599, "", "", "599 (a status without a name)", ""},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if tc.header != "" {
					w.Header().Set("Location", tc.header)
				}
				w.WriteHeader(tc.status)
				w.Write([]byte(tc.body))
			}))
			defer server.Close()
			c := newClient(server.URL, "")
			defer c.close()
			var out struct{}
			err := c.call(t.Context(), "GET", "/x", nil, &out)
			if err == nil {
				t.Fatal("no error")
			}
			said := strings.ReplaceAll(err.Error(), server.URL, "URL")
			if !strings.Contains(said, tc.want) || tc.wantMissing != "" && strings.Contains(said, tc.wantMissing) || strings.ContainsAny(said, "\n\x1b") {
				t.Errorf("it says %q, want %q", said, tc.want)
			}
			answered, ok := errors.AsType[*answerError](err)
			if tc.status != 200 && (!ok || answered.Status != tc.status) {
				t.Errorf("%#v is no answerError of status %d", err, tc.status)
			}
		})
	}
}

// TestClientURLWithPassword: what is refused because of a password is not told with it.
func TestClientURLWithPassword(t *testing.T) {
	_, err := clientOf(t, "-url", "https://me:sekret@hooks.example.com")
	if err == nil || !strings.HasSuffix(err.Error(), `-url must be an http or https URL, such as https://hooks.example.com (got "https://me:xxxxx@hooks.example.com")`) {
		t.Errorf("got %v", err)
	}
}

func TestClientWithoutServer(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	c := newClient(server.URL, "")
	defer c.close()
	if err := c.call(t.Context(), "GET", "/v1/webhooks", nil, nil); err == nil || !strings.HasSuffix(err.Error(), "; -url says where the server is") {
		t.Errorf("got %v", err)
	}
	ended, end := context.WithCancelCause(t.Context())
	end(errors.New("signal: of the test"))
	if err := c.call(ended, "GET", "/v1/webhooks", nil, nil); err == nil || !strings.HasSuffix(err.Error(), ": signal: of the test") {
		t.Errorf("got %v", err)
	}
}
