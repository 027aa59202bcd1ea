package send

import (
	"bytes"
	"io"
	"net/http"
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
