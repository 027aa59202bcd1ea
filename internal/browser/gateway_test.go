package browser

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
)

// gateway is a reverse proxy between pages and hookbolt. It forwards every request until a test sets a fault.
type gateway struct {
	t     *testing.T
	url   string
	proxy *httputil.ReverseProxy

	mu    sync.Mutex
	fault fault         // guarded by mu
	calls []string      // guarded by mu; the method and path of each request
	held  chan struct{} // guarded by mu; the next request with events waits until it is closed
}

// fault is a fault of a gateway.
type fault string

const (
	works    fault = ""
	down     fault = "down"     // connections are reset
	busy     fault = "busy"     // events get a 503 that pages can read
	unheard  fault = "unheard"  // events reach hookbolt, but its response is lost
	throttle fault = "throttle" // events get a 429 that pages of other origins cannot read, as from a proxy
)

// newGateway starts a gateway to a server. It is stopped at the end of the test.
func newGateway(t *testing.T, s *server) *gateway {
	t.Helper()
	to, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{t: t, proxy: &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(to) },
		Transport: &http.Transport{DisableKeepAlives: true},
		ErrorLog:  log.New(io.Discard, "", 0), // pages that are closed abort their requests
	}}
	front := httptest.NewServer(g)
	t.Cleanup(front.Close)
	g.url = front.URL
	return g
}

func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	g.calls = append(g.calls, r.Method+" "+r.URL.Path)
	fault, post := g.fault, r.Method == http.MethodPost
	var held chan struct{}
	if post {
		held, g.held = g.held, nil
	}
	g.mu.Unlock()
	if held != nil {
		<-held
	}
	switch {
	case fault == down:
		panic(http.ErrAbortHandler)
	case fault == busy && post:
		w.Header().Set("Access-Control-Allow-Origin", "*")
		http.Error(w, "busy", http.StatusServiceUnavailable)
	case fault == throttle && post:
		http.Error(w, "slow down", http.StatusTooManyRequests)
	case fault == unheard && post:
		g.proxy.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	default:
		g.proxy.ServeHTTP(w, r)
	}
}

// set sets or clears the fault.
func (g *gateway) set(f fault) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fault = f
}

// hold lets others overtake the next request with events: it goes on when release is called.
func (g *gateway) hold() (release func()) {
	held := make(chan struct{})
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held = held
	release = sync.OnceFunc(func() { close(held) })
	g.t.Cleanup(release)
	return release
}

// count returns the number of requests with this method and path.
func (g *gateway) count(method, path string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(slices.Collect(func(yield func(string) bool) {
		for _, call := range g.calls {
			if call == method+" "+path && !yield(call) {
				return
			}
		}
	}))
}

// awaitPosts waits until at least n requests with events have arrived.
func (g *gateway) awaitPosts(n int) {
	g.t.Helper()
	if !await(func() bool { return g.count("POST", "/v1/events") >= n }) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.t.Fatalf("fewer than %d requests with events: %s", n, strings.Join(g.calls, ", "))
	}
}
