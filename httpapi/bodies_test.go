package httpapi

import (
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

// TestEveryBodyHasItsLimit sends an endless body to each call. None reads more of it than its own limit; what anybody may call reads least.
func TestEveryBodyHasItsLimit(t *testing.T) {
	f := newFixture(t, Config{MaxBodyBytes: 8 << 20})
	f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/"}`)
	for _, rt := range apiOf(f).routes() {
		most := maxSettings
		switch {
		case rt.allowedRoles&anybody != 0:
			most = maxSignIn
		case rt.path == "/v1/events":
			most = 8 << 20
		}
		for name, length := range map[string]int64{"chunked": -1, "declared": 8 << 20} {
			body := &endless{}
			r := f.request(rt.method, strings.NewReplacer(":id", "1", ":poltio_user_id", "1").Replace(rt.path), "")
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.Body, r.ContentLength = io.NopCloser(io.LimitReader(body, 8<<20)), length
			f.serve(r)
			if body.read > 2*most {
				t.Errorf("%s %s, %s: %d bytes were read, of at most %d", rt.method, rt.path, name, body.read, most)
			}
		}
	}
	wantNothingReserved(t, apiOf(f))
}

// apiOf returns the API of a fixture.
func apiOf(f *fixture) *API { return f.h.(observed).h.(*API) }

func wantNothingReserved(t *testing.T, a *API) {
	t.Helper()
	for name, b := range map[string]*bodyBudget{"small": a.bodies.small, "large": a.bodies.large, "sign-in": a.bodies.signIn} {
		if n, _ := b.values(); n != 0 || len(b.by) != 0 {
			t.Errorf("%d bytes of %s bodies are reserved after the end", n, name)
		}
	}
}

// stalled is a body whose bytes have come up to a point.
type stalled struct {
	io.Reader
	read chan struct{} // receives a value once the reader is used up
	rest chan struct{} // closed to let the body end
}

func newStalled(text string) *stalled {
	return &stalled{strings.NewReader(text), make(chan struct{}, 1), make(chan struct{})}
}

func (s *stalled) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err == io.EOF {
		s.read <- struct{}{}
		<-s.rest
	}
	return n, err
}

func (s *stalled) Close() error { return nil }

// Bodies that are under way are bounded together, and those of an address more so. Large ones leave room for small ones, and the other way
// round; a body of the greatest size is accepted where nobody else has a large one.
func TestBodyBudget(t *testing.T) {
	f := newFixture(t, Config{MaxBodyBytes: 32 << 20})
	const one, two, three = "192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1"
	done := make(chan int, 1000)
	var held []*stalled
	hold := func(address string, arrived, length int) {
		b := newStalled(strings.Repeat(" ", arrived))
		r := f.request("POST", "/v1/events", "")
		r.Body, r.ContentLength, r.RemoteAddr = b, int64(length), address
		go func() { done <- f.serve(r).Code }()
		<-b.read
		held = append(held, b)
	}
	refused := func(address, body string, chunked bool) bool {
		r := f.request("POST", "/v1/events", body)
		r.RemoteAddr = address
		if chunked {
			r.ContentLength = -1
		}
		rec := f.serve(r)
		if rec.Code == http.StatusServiceUnavailable && rec.Header().Get("Retry-After") == "" {
			t.Error("503 without Retry-After")
		}
		return rec.Code == http.StatusServiceUnavailable
	}
	release := func() {
		for _, b := range held {
			close(b.rest)
		}
		for range held {
			if code := <-done; code == http.StatusServiceUnavailable {
				t.Error("a held body is refused")
			}
		}
		held = nil
		wantNothingReserved(t, apiOf(f))
	}
	spaces := func(n int) string { return strings.Repeat(" ", n) }

	for range largeBudget >> 21 {
		hold(one, 10, 1<<20) // it reserves what it declares
	}
	if !refused(one, spaces(1<<20), false) || !refused(one, spaces(1<<20), true) {
		t.Error("an address has more than half of the budget for large bodies")
	}
	if refused(two, spaces(1<<20), false) || refused(two, spaces(1<<20), true) {
		t.Error("another address is refused")
	}
	for range largeBudget>>21 - largeBudget>>23 {
		hold(two, 10, 1<<20)
	}
	if !refused(two, spaces(1<<20), false) {
		t.Error("an address with much has a part of the last eighth")
	}
	if refused(three, spaces(1<<20), false) {
		t.Error("an address with little is refused")
	}
	if refused(one, start(sessionA)+spaces(smallBody-1000), false) || refused(one, start(sessionB)+spaces(smallBody-1000), true) {
		t.Error("a small body is refused because of large ones")
	}
	release()

	for range smallBudget / smallBody / 2 {
		hold(one, smallBody-minRead, -1) // it reserves what has come
	}
	if !refused(one, start(sessionA)+spaces(smallBody-1000), false) {
		t.Error("an address has more than half of the budget for small bodies")
	}
	if refused(two, start(sessionA)+spaces(smallBody-1000), false) {
		t.Error("another address is refused")
	}
	if refused(one, spaces(1<<20), false) {
		t.Error("a large body is refused because of small ones")
	}
	f.want(200, "GET", "/v1/webhooks", "") // no call without a body is concerned
	release()

	if refused(one, spaces(32<<20), false) || refused(one, spaces(32<<20), true) {
		t.Error("a body of the greatest size is refused where there is no other")
	}
	hold(one, 10, 32<<20)
	if !refused(two, spaces(100<<10), false) {
		t.Error("a large body is accepted beside one of the greatest size")
	}
	release()
}

// Behind a trusted proxy, the share of a client is its own.
func TestBodyBudgetBehindProxy(t *testing.T) {
	f := newFixture(t, Config{MaxBodyBytes: 32 << 20, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}})
	from := func(client string, body io.ReadCloser, length int64) *http.Request {
		r := f.request("POST", "/v1/events", "")
		r.Body, r.ContentLength, r.RemoteAddr = body, length, "192.0.2.1:1"
		r.Header.Set("X-Forwarded-For", client)
		return r
	}
	done := make(chan int)
	held := newStalled(strings.Repeat(" ", 10))
	go func() { done <- f.serve(from("203.0.113.1", held, largeBudget/2)).Code }()
	<-held.read
	for client, want := range map[string]int{"203.0.113.1": http.StatusServiceUnavailable, "203.0.113.2": http.StatusBadRequest} {
		body := strings.Repeat("x", 1<<20)
		if rec := f.serve(from(client, io.NopCloser(strings.NewReader(body)), int64(len(body)))); rec.Code != want {
			t.Errorf("%s gets %d, want %d", client, rec.Code, want)
		}
	}
	close(held.rest)
	<-done
}

// A body that ends early, or is too large, leaves nothing reserved.
func TestBodyBudgetAfterErrors(t *testing.T) {
	f := newFixture(t, Config{})
	for _, length := range []int64{-1, 500 << 10, DefaultMaxBodyBytes} {
		r := f.request("POST", "/v1/events", "")
		r.Body, r.ContentLength = io.NopCloser(io.MultiReader(strings.NewReader(strings.Repeat("x", 200<<10)), brokenBody{})), length
		wantProblem(t, f.serve(r), http.StatusBadRequest)
		wantNothingReserved(t, apiOf(f))
	}
}

type brokenBody struct{}

func (brokenBody) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestCallerAddress(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.1:80": "192.0.2.1/32", "[::ffff:192.0.2.1]:80": "192.0.2.1/32", "[2001:db8::1:2:3:4]:80": "2001:db8::/64", "[fe80::1%eth0]:80": "fe80::/64",
		"@": "invalid Prefix",
	} {
		if got := CallerAddress(remote).String(); got != want {
			t.Errorf("%s: got %s, want %s", remote, got, want)
		}
	}
}
