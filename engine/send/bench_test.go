package send

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// benchPayload is as large as most payloads.
var benchPayload = bytes.Repeat([]byte("x"), 1041)

func BenchmarkSign(b *testing.B) {
	secret, payload := []Secret{NewSecret()}, benchPayload
	id, now := uuid.NewString(), time.Now()
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		if err := sign(make(http.Header), secret, id, now, payload); err != nil {
			b.Fatal(err)
		}
	}
}

// instantEndpoint answers without a network.
type instantEndpoint struct{}

func (instantEndpoint) RoundTrip(r *http.Request) (*http.Response, error) {
	io.Copy(io.Discard, r.Body)
	return &http.Response{StatusCode: http.StatusOK, Proto: "HTTP/1.1", Body: io.NopCloser(strings.NewReader("")),
		Header: http.Header{"Date": {"Fri, 14 Mar 2025 09:27:18 GMT"}, "Content-Length": {"0"}}}, nil
}

// BenchmarkAttempt makes attempts, without what the network costs.
func BenchmarkAttempt(b *testing.B) {
	s := New(Options{Transport: instantEndpoint{}, UserAgent: "hookbolt/dev"})
	r := requestTo("https://hooks.example.com/polls")
	r.Payload = benchPayload
	b.ReportAllocs()
	for b.Loop() {
		if a, err := s.Send(b.Context(), r); err != nil || a.Status != http.StatusOK {
			b.Fatal(a, err)
		}
	}
}

// BenchmarkLoopback makes attempts at a server of this process, over a connection that is kept. What the server costs is part of it.
func BenchmarkLoopback(b *testing.B) {
	for _, http2 := range []bool{false, true} {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }))
		server.EnableHTTP2 = http2
		server.StartTLS()
		defer server.Close()
		b.Run(map[bool]string{false: "HTTP1", true: "HTTP2"}[http2], func(b *testing.B) {
			s, transport := testSender(b, loopback...)
			transport.TLSClientConfig = trustOf(server)
			r := requestTo(server.URL)
			r.Payload = benchPayload
			b.ReportAllocs()
			for b.Loop() {
				if a, err := s.Send(b.Context(), r); err != nil || a.Status != http.StatusOK {
					b.Fatal(a, err)
				}
			}
		})
	}
}
