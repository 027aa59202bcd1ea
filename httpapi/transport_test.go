package httpapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"strings"
	"testing"
)

// TestStrictTransport: hookbolt has browsers insist on HTTPS only over TLS of its own, and not for the whole of localhost.
func TestStrictTransport(t *testing.T) {
	f := newFixture(t, Config{AdminTokens: []string{"admin"}})
	for _, c := range []struct {
		name, host, forwarded string
		tls                   *tls.ConnectionState
		want                  string
	}{
		{"TLS", "hooks.example.com", "", new(tls.ConnectionState), "max-age=2592000"},
		{"TLS on a port", "hooks.example.com:8443", "", new(tls.ConnectionState), "max-age=2592000"},
		{"plain HTTP", "hooks.example.com", "", nil, ""},
		{"TLS of a proxy", "hooks.example.com", "https", nil, ""},
		{"TLS on localhost", "localhost:8443", "", new(tls.ConnectionState), ""},
		{"TLS on a loopback address", "127.0.0.1", "", new(tls.ConnectionState), ""},
	} {
		for _, target := range []string{"/healthz", "/", "/nothing/here", "/v1/webhooks", "/metrics"} {
			r := f.request("GET", target, "")
			r.Host, r.TLS = c.host, c.tls
			if c.forwarded != "" {
				r.Header.Set("X-Forwarded-Proto", c.forwarded)
			}
			if got := f.serve(r).Header().Get("Strict-Transport-Security"); got != c.want {
				t.Errorf("%s, %s: %q", c.name, target, got)
			}
		}
	}
}

// brokenWriter is a client that has hung up.
type brokenWriter struct{ header http.Header }

func (w brokenWriter) Header() http.Header       { return w.header }
func (w brokenWriter) WriteHeader(int)           {}
func (w brokenWriter) Write([]byte) (int, error) { return 0, errors.New("write: broken pipe") }

// TestClientsHangUp: a client that hangs up during its answer is no error of hookbolt's, whatever it has asked for.
func TestClientsHangUp(t *testing.T) {
	f := newFixture(t, Config{Backup: func(context.Context) (Snapshot, error) {
		return &snapshot{Reader: bytes.NewReader(make([]byte, 1000))}, nil
	}})
	for _, target := range []string{"/metrics", "/v1/backup", "/v1/webhooks", "/openapi.yaml", "/hookbolt.js", "/", "/nothing/here"} {
		for _, encoding := range []string{"", "gzip"} {
			r := f.request("GET", target, "")
			r.Header.Set("Accept-Encoding", encoding)
			r.Header.Set("Accept", "text/html")
			f.h.(observed).h.ServeHTTP(brokenWriter{http.Header{}}, r)
		}
	}
	if got := f.log.withoutAudit(); got != "" {
		t.Errorf("logged: %s", got)
	}
	// A collector that fails is still told: see TestStoreGone.
	if got := f.want(200, "GET", "/metrics", ""); !strings.Contains(got, "hookbolt_http_requests_total") {
		t.Error(got)
	}
}
