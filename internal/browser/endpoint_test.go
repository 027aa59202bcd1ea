package browser

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"hookbolt/engine"
)

// endpoint is a webhook's endpoint on loopback. It answers 200 until a test breaks it.
type endpoint struct {
	t   *testing.T
	url string

	mu       sync.Mutex
	status   int        // guarded by mu
	text     string     // guarded by mu
	received []received // guarded by mu
}

// received is a request as the endpoint got it.
type received struct {
	at     time.Time
	path   string
	header http.Header
	body   []byte
}

// verify returns an error unless the request is signed with that secret.
func (r received) verify(secret string) error {
	return engine.Verify(r.header, engine.Secret(secret), r.body, r.at)
}

// newEndpoint starts an endpoint. It is stopped at the end of the test.
func newEndpoint(t *testing.T) *endpoint {
	e := &endpoint{t: t, status: http.StatusOK}
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	e.url = server.URL
	return e
}

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the sender has gone
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.received = append(e.received, received{at: time.Now(), path: r.URL.Path, header: r.Header, body: body})
	w.WriteHeader(e.status)
	fmt.Fprint(w, e.text)
}

// answer has the endpoint answer every request from now on with that status and text: 500 breaks it, 200 mends it.
func (e *endpoint) answer(status int, text string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.status, e.text = status, text
}

// await waits until at least n requests have come in all and returns them, in the order in which they came.
func (e *endpoint) await(n int) (requests []received) {
	e.t.Helper()
	if !await(func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		requests = e.received[:len(e.received):len(e.received)]
		return len(requests) >= n
	}) {
		e.t.Fatalf("the endpoint has got %d requests after %v, want %d", len(requests), patience, n)
	}
	return requests
}
