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

// endpoint is a webhook's endpoint on loopback. It answers 200 until a test sets another status.
type endpoint struct {
	t   *testing.T
	url string

	mu       sync.Mutex
	status   int        // guarded by mu
	text     string     // guarded by mu
	received []received // guarded by mu
}

// received is a request that the endpoint received.
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
		return // the client has disconnected
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.received = append(e.received, received{at: time.Now(), path: r.URL.Path, header: r.Header, body: body})
	w.WriteHeader(e.status)
	fmt.Fprint(w, e.text)
}

// answer sets the status and the text of all further responses.
func (e *endpoint) answer(status int, text string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.status, e.text = status, text
}

// await waits until the endpoint has received at least n requests in all, and returns them in the order of their arrival.
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
