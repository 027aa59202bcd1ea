package client_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"hookbolt/internal/client"
	"hookbolt/internal/hookbolttest"
)

func TestMain(m *testing.M) { hookbolttest.Main(m) }

func TestClientFollowsCursors(t *testing.T) {
	p := hookbolttest.Start(t, "serve", "-config", hookbolttest.WriteConfig(t, t.TempDir(), "", ""))
	url := p.URL(t)
	const many = 450 // three pages
	for range many {
		status, answer := hookbolttest.Call(t, "POST", url+"/v1/webhooks", `{"url":"https://example.com/"}`)
		hookbolttest.WantStatus(t, 201, status, answer)
	}
	c := client.New(url+"/", "")
	defer c.Close()
	hooks, err := client.List[struct {
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
		"no token":         {401, "", `{"detail": "a known token is needed"}`, "401 Unauthorized: a known token is needed", ""},
		"a proxy's page":   {502, "", "<html>\n\n<h1>Bad\tGateway</h1>" + strings.Repeat("x", 1000), `502 Bad Gateway: not an answer of hookbolt's; it begins with "<html> <h1>Bad`, strings.Repeat("x", 200)},
		"a redirect":       {301, "https://example.com/x", "", `it points to "https://example.com/x"`, ""},
		"not even JSON":    {200, "", "welcome", "the answer is not what hookbolt says there (", "welcome"},
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
			c := client.New(server.URL, "")
			defer c.Close()
			var out struct{}
			err := c.Call(t.Context(), "GET", "/x", nil, &out)
			if err == nil {
				t.Fatal("no error")
			}
			said := strings.ReplaceAll(err.Error(), server.URL, "URL")
			if !strings.Contains(said, tc.want) || tc.wantMissing != "" && strings.Contains(said, tc.wantMissing) || strings.ContainsAny(said, "\n\x1b") {
				t.Errorf("it says %q, want %q", said, tc.want)
			}
			answered, ok := errors.AsType[*client.StatusError](err)
			if tc.status != 200 && (!ok || answered.Status != tc.status) {
				t.Errorf("%#v is no client.StatusError of status %d", err, tc.status)
			}
		})
	}
}

func TestClientWithoutServer(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	c := client.New(server.URL, "")
	defer c.Close()
	if err := c.Call(t.Context(), "GET", "/v1/webhooks", nil, nil); !errors.Is(err, client.ErrUnreachable) {
		t.Errorf("got %v", err)
	}
	ended, end := context.WithCancelCause(t.Context())
	end(errors.New("signal: of the test"))
	if err := c.Call(ended, "GET", "/v1/webhooks", nil, nil); err == nil || !strings.HasSuffix(err.Error(), ": signal: of the test") {
		t.Errorf("got %v", err)
	}
}

// TestSwitchedProtocols: a server that answers 101 and says nothing more does not hold a call, whose timeout ends no read then.
func TestSwitchedProtocols(t *testing.T) {
	over := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		<-over
	}))
	defer server.Close()
	defer close(over)
	base, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	for name, call := range map[string]func() error{
		"Ready": func() error { return client.Ready(t.Context(), base, client.TrustedCertificates) },
		"Call":  func() error { return client.New(server.URL, "").Call(t.Context(), "GET", "/", nil, nil) },
	} {
		ended := make(chan error, 1)
		go func() { ended <- call() }()
		select {
		case err := <-ended:
			if err == nil || !strings.Contains(err.Error(), "101") {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(30 * time.Second):
			t.Errorf("%s does not end", name)
		}
	}
}
