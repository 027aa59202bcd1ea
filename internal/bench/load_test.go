package bench

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// roundTripper stands in for a server, without a network, so that it can live in a bubble.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func answer(status int) (*http.Response, error) {
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Body: io.NopCloser(strings.NewReader(""))}, nil
}

func testGenerator(connections int, server roundTripper) *generator {
	return &generator{urls: []string{"http://server"}, client: &http.Client{Transport: server}, connections: connections, batch: 1, nonce: "0badcafe", sessions: usualSession,
		targets: []target{{newUUID(), true}}}
}

// A server that stands still has its pause in the figures of all requests that were due meanwhile, not of the one that waited alone.
func TestSteadyCountsFromTheInstant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		g := testGenerator(1, func(*http.Request) (*http.Response, error) {
			if requests++; requests == 1 {
				time.Sleep(time.Second)
			}
			return answer(http.StatusAccepted)
		})
		began, main := time.Now(), &tally{}
		g.steady(t.Context(), 10, began, []phase{{began.Add(2 * time.Second), main}})
		// Due at 0, 100, … 1900 ms. Answered: the first at 1000 ms, those to 1000 ms just then, the others at once.
		c := main.acknowledgement.read()
		if got := main.accepted.Load(); got != 20 || requests != 20 {
			t.Fatalf("%d accepted of %d requests, want 20", got, requests)
		}
		if c.max != time.Second {
			t.Errorf("maximum %v, want 1s", c.max)
		}
		for _, tc := range []struct {
			share float64
			want  time.Duration
		}{{.5, 0}, {.55, 100 * time.Millisecond}, {.75, 500 * time.Millisecond}, {.95, 900 * time.Millisecond}} {
			if got := c.percentile(tc.share); got < tc.want*98/100 || got > tc.want*102/100 {
				t.Errorf("percentile %g: %v, want %v", tc.share, got, tc.want)
			}
		}
		if took := time.Since(began); took != 2*time.Second-100*time.Millisecond {
			t.Errorf("it took %v", took)
		}
	})
}

// The instants of a warm-up count for the warm-up, and what is too late is given up and told.
func TestSteadyIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := testGenerator(2, func(*http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			return answer(http.StatusAccepted)
		})
		began, warm, main := time.Now(), &tally{}, &tally{}
		g.steady(t.Context(), 10, began, []phase{{began.Add(time.Second), warm}, {began.Add(5 * time.Second), main}})
		if warm.accepted.Load() != 10 || warm.unsent.Load() != 0 {
			t.Errorf("warm-up: %d accepted, want its 10", warm.accepted.Load())
		}
		if a, u := main.accepted.Load(), main.unsent.Load(); a+u != 40 || u < 8 {
			t.Errorf("%d accepted, %d unsent, want 40 in all and some unsent", a, u)
		}
		if took := time.Since(began); took < 14*time.Second || took > 17*time.Second {
			t.Errorf("it took %v, want no more than the overtime", took)
		}
	})
}

func TestFullSpeedGoesOnAfterErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		g := testGenerator(1, func(r *http.Request) (*http.Response, error) {
			time.Sleep(10 * time.Millisecond)
			if requests++; requests <= 2 {
				return answer(http.StatusServiceUnavailable)
			}
			return answer(http.StatusAccepted)
		})
		const secret = "Bearer of a secret"
		g.header = http.Header{"Authorization": {secret}}
		began, main := time.Now(), &tally{}
		g.fullSpeed(t.Context(), []phase{{began.Add(time.Second), main}})
		if a, r := main.accepted.Load(), main.refused.Load(); a != 88 || r != 2 { // 2 × (10 + 50) ms are gone
			t.Errorf("%d accepted, %d refused; want 88 and 2", a, r)
		}
		if err := main.firstError(); err == nil || !strings.Contains(err.Error(), "Service Unavailable") || strings.Contains(err.Error(), secret) {
			t.Errorf("the trouble is %v", err)
		}
		if got := main.expected.countMissing(&main.seen); got != 88 {
			t.Errorf("%d are due, want the accepted ones", got)
		}
	})
}

func TestAmount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		g := testGenerator(1, func(*http.Request) (*http.Response, error) {
			if requests++; requests == 2 {
				return answer(http.StatusServiceUnavailable)
			}
			return answer(http.StatusAccepted)
		})
		g.batch = 4
		main := &tally{}
		g.postSessions(t.Context(), 10, main)
		if got := main.accepted.Load(); got != 12 || requests != 4 {
			t.Errorf("%d accepted with %d requests; want 12 with 4", got, requests)
		}

		full, began := &tally{}, time.Now()
		g.client.Transport = roundTripper(func(*http.Request) (*http.Response, error) { return answer(http.StatusServiceUnavailable) })
		g.postSessions(t.Context(), 10, full) // it ends although every request is refused
		if n, took := full.refused.Load(), time.Since(began); n != maxRefusals || took != maxRefusals*pauseAfterError {
			t.Errorf("it gave up after %d refusals and %v", n, took)
		}

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		g.postSessions(ctx, 10, main) // it ends with ctx
		if main.accepted.Load() != 12 {
			t.Error("it went on")
		}
	})
}
