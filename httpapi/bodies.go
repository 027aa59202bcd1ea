package httpapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"
)

// The limits of bodies, beside http.max_body, which is that of events.
const (
	// maxSettings is the largest body of a webhook's settings, as JSON or as a form: several times what all settings can take.
	maxSettings = 256 << 10
	// maxCommand is the largest body of a call that has a few fields.
	maxCommand = 16 << 10
	// maxSignIn is the largest form of the sign-in page. Anybody may send one, so it is no larger than a token and a path need.
	maxSignIn = 16 << 10
)

// The budgets for the bodies that are read at once, in bytes. Whoever may send events may send many bodies together, and slowly. So events
// have two budgets: small bodies do not compete with large ones. A body that is larger than its budget is accepted if it is the only one.
// docs/limits.md says what a byte costs.
const (
	// smallBody is the largest body that counts as small. The script for pages sends no larger ones.
	smallBody    = 64 << 10
	smallBudget  = 8 << 20
	largeBudget  = 16 << 20
	signInBudget = 2 << 20
	// littleOfLarge is one body of the default http.max_body.
	littleOfLarge = 1 << 20
	// parsedAtOnce bounds the large bodies that are parsed and stored at once: parsed, a body takes several times its size. They wait for
	// each other, because their clients cannot hold them up any more.
	parsedAtOnce = 2 << 20
)

// bodyBudget bounds the memory for bodies of one kind. An address has at most half of it, and the last eighth is for addresses that have
// little: otherwise a caller that sends slowly would keep it from all others. Its methods may be called concurrently.
type bodyBudget struct {
	max    int64
	little int64

	mu      sync.Mutex
	used    int64
	by      map[netip.Prefix]int64 // by address; without those that have nothing
	refused uint64
}

func newBodyBudget(most, little int64) *bodyBudget {
	return &bodyBudget{max: most, little: little, by: make(map[netip.Prefix]int64)}
}

// take reserves n bytes for a body of an address that has own bytes already. A body that is too large for the budget is accepted if it is the
// only one.
func (b *bodyBudget) take(address netip.Prefix, n, own int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	of := b.by[address] + n
	fits := b.used+n <= b.max && of <= b.little || b.used+n <= b.max-b.max/8 && of <= b.max/2
	if !fits && b.used > own {
		b.refused++
		return false
	}
	b.used += n
	b.by[address] = of
	return true
}

func (b *bodyBudget) give(address netip.Prefix, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	if b.by[address] -= n; b.by[address] == 0 {
		delete(b.by, address)
	}
}

func (b *bodyBudget) values() (used int64, refused uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used, b.refused
}

// bodyBudgets are the budgets of an API.
type bodyBudgets struct {
	small, large, signIn *bodyBudget
	parsed               *semaphore.Weighted
}

func newBodyBudgets() *bodyBudgets {
	return &bodyBudgets{small: newBodyBudget(smallBudget, smallBody), large: newBodyBudget(largeBudget, littleOfLarge),
		signIn: newBodyBudget(signInBudget, maxSignIn), parsed: semaphore.NewWeighted(parsedAtOnce)}
}

// parse waits until a body of that size may be parsed. The caller must call done.
func (b *bodyBudgets) parse(ctx context.Context, size int) (done func(), err error) {
	if size <= smallBody {
		return func() {}, nil
	}
	weight := int64(min(size, parsedAtOnce))
	if err := b.parsed.Acquire(ctx, weight); err != nil {
		return nil, err
	}
	return func() { b.parsed.Release(weight) }, nil
}

// reservation is what a request has of a budget. A nil one belongs to a body without a budget: those of admins need none.
type reservation struct {
	of     netip.Prefix // the address of the caller
	from   *bodyBudget
	larger *bodyBudget // for more than smallBody; nil: from
	bytes  int64
}

// reserve returns an empty reservation for the body of a request. A body of more than smallBody is to have it from larger.
func (a *API) reserve(r *http.Request, from, larger *bodyBudget) reservation {
	return reservation{of: callerNetwork(a.clientAddr(r)), from: from, larger: larger}
}

// CallerAddress returns what counts as one address in the limits of an address. remote is the address and port of a TCP peer, which may be a
// proxy.
func CallerAddress(remote string) netip.Prefix {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	return callerNetwork(plainAddr(ap.Addr()))
}

// callerNetwork returns what counts as one address: whoever has an IPv6 address has a network of 64 bits.
func callerNetwork(addr netip.Addr) netip.Prefix {
	prefix, _ := addr.Prefix(min(addr.BitLen(), 64)) // the length is valid
	return prefix
}

// errBusy is the problem for a body that exceeds its budget.
var errBusy = &problem{Status: http.StatusServiceUnavailable, Detail: "too many request bodies are being received; nothing of this one was stored, send it again",
	header: map[string]string{"Retry-After": "1"}}

// grow makes the reservation that large.
func (r *reservation) grow(to int64) error {
	switch {
	case r == nil || to <= r.bytes:
		return nil
	case to > smallBody && r.larger != nil:
		if !r.larger.take(r.of, to, 0) {
			return errBusy
		}
		r.release()
		r.from, r.larger, r.bytes = r.larger, nil, to
		return nil
	case !r.from.take(r.of, to-r.bytes, r.bytes):
		return errBusy
	}
	r.bytes = to
	return nil
}

// release gives everything back.
func (r *reservation) release() {
	r.from.give(r.of, r.bytes)
	r.bytes = 0
}

// maxPresize is how much memory is allocated for a body before it arrives. Beyond that the buffer grows with the body, so that a client
// cannot make the server allocate more than it sends.
const maxPresize = 16 << 10

// minRead is the least room for a read. The last read finds the end, and needs room, too.
const minRead = 512

// readBody reads the whole body of a request, of at most most bytes. It reserves a body's length before it reads it; if the length is not
// known, it reserves more with each step. The caller must release the reservation, whatever is returned. readBody ignores the
// Content-Type, because curl -d calls every body a form.
func readBody(r *http.Request, most int64, res *reservation) ([]byte, error) {
	for _, coding := range r.Header["Content-Encoding"] {
		if !strings.EqualFold(coding, "identity") {
			return nil, &problem{Status: http.StatusUnsupportedMediaType, Detail: "a body must come without Content-Encoding",
				header: map[string]string{"Accept-Encoding": "identity"}}
		}
	}
	if r.ContentLength > most {
		return nil, &http.MaxBytesError{Limit: most}
	}
	length := max(r.ContentLength, 0)
	if err := res.grow(length); err != nil {
		return nil, err
	}
	if r.ContentLength >= 0 {
		most = length // net/http gives no more
	}
	// Do not replace r.Body: net/http handles an unread body better if it is its own.
	body, err := readAll(http.MaxBytesReader(nil, r.Body, most), make([]byte, 0, min(length, maxPresize)+minRead), most, res)
	if err == nil {
		return body, nil
	}
	if _, ok := errors.AsType[*problem](err); ok {
		return nil, err
	}
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, tooLarge
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, &problem{Status: http.StatusRequestTimeout, Detail: "the body did not arrive in time"}
	}
	return nil, &problem{Status: http.StatusBadRequest, Detail: "the body could not be read to its end"}
}

// readAll reads to the end of a body into buf, which it replaces by one of at most twice the size when it is full.
func readAll(body io.Reader, buf []byte, most int64, res *reservation) ([]byte, error) {
	for {
		n, err := body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case err == io.EOF:
			return buf, nil
		case err != nil:
			return nil, err
		case len(buf) < cap(buf):
			continue
		}
		size := min(2*int64(cap(buf)), most+minRead)
		if err := res.grow(min(size, most)); err != nil {
			return nil, err
		}
		buf = append(make([]byte, 0, max(size, int64(len(buf))+minRead)), buf...)
	}
}

var (
	bodyBytesDesc = prometheus.NewDesc("hookbolt_http_body_bytes",
		"Bytes of request bodies that are being received or stored: small (events, up to 64 KiB), large (events), sign_in.", []string{"kind"}, nil)
	bodiesRefusedDesc = prometheus.NewDesc("hookbolt_http_bodies_refused_total",
		"Requests that were answered 503 because too many bytes of bodies were under way.", []string{"kind"}, nil)
)

// Describe implements prometheus.Collector.
func (b *bodyBudgets) Describe(ch chan<- *prometheus.Desc) {
	ch <- bodyBytesDesc
	ch <- bodiesRefusedDesc
}

// Collect implements prometheus.Collector.
func (b *bodyBudgets) Collect(ch chan<- prometheus.Metric) {
	for kind, budget := range map[string]*bodyBudget{"small": b.small, "large": b.large, "sign_in": b.signIn} {
		used, refused := budget.values()
		ch <- prometheus.MustNewConstMetric(bodyBytesDesc, prometheus.GaugeValue, float64(used), kind)
		ch <- prometheus.MustNewConstMetric(bodiesRefusedDesc, prometheus.CounterValue, float64(refused), kind)
	}
}
