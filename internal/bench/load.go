package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// generator posts sessions. Each of its goroutines has a connection of its own.
type generator struct {
	urls        []string // where requests are posted to, at each process of a server; the connections share them evenly
	header      http.Header
	client      *http.Client
	connections int
	batch       int // sessions in a request
	nonce       string
	targets     []target
	sessions    *template
}

// requestTimeout is the time after which a request without a response counts as failed.
const requestTimeout = time.Minute

// newClient returns a client that keeps this many connections open.
func newClient(connections int) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil // measure the server, not a proxy
	transport.MaxConnsPerHost, transport.MaxIdleConnsPerHost, transport.MaxIdleConns = connections, connections, connections
	transport.ResponseHeaderTimeout = requestTimeout // Client.Timeout would start a goroutine for each request
	return &http.Client{Transport: transport}
}

// phase is a part of a load that has its own tally. It lasts until a fixed time.
type phase struct {
	until time.Time
	tally *tally
}

// phaseAt returns the phase that contains a time; nil after the last phase.
func phaseAt(phases []phase, at time.Time) *phase {
	for i := range phases {
		if at.Before(phases[i].until) {
			return &phases[i]
		}
	}
	return nil
}

// fullSpeed posts one request after another on each connection until the last phase ends.
func (g *generator) fullSpeed(ctx context.Context, phases []phase) {
	g.each(func(c *connection) {
		for ctx.Err() == nil {
			now := time.Now()
			p := phaseAt(phases, now)
			if p == nil {
				return
			}
			c.post(ctx, p.tally, now)
		}
	})
}

// overtime is how long after the end of a steady rate its late requests are still sent.
const overtime = 10 * time.Second

// steady posts requests at even intervals, rate sessions a second, from a time until the last phase ends. A request for which no connection
// is free at its send time is sent as soon as there is one. Durations are measured from the scheduled send time.
func (g *generator) steady(ctx context.Context, rate float64, from time.Time, phases []phase) {
	interval := float64(g.batch) / rate * float64(time.Second)
	closing := phases[len(phases)-1].until.Add(overtime)
	var next atomic.Int64
	g.each(func(c *connection) {
		for {
			sendAt := from.Add(time.Duration(float64(next.Add(1)-1) * interval))
			p := phaseAt(phases, sendAt)
			if p == nil || !sleep(ctx, time.Until(sendAt)) {
				return
			}
			if time.Now().After(closing) {
				p.tally.unsent.Add(1)
				continue
			}
			c.post(ctx, p.tally, sendAt)
		}
	})
}

// maxRefusals is how many refusals in a row end the work of a connection in postSessions. They take about 10 s.
const maxRefusals = 200

// postSessions posts this many sessions at full speed, rounded up to whole requests. Refused requests are repeated with new sessions, unless
// the server refuses maxRefusals in a row.
func (g *generator) postSessions(ctx context.Context, sessions int64, t *tally) {
	var begun atomic.Int64
	g.each(func(c *connection) {
		for refused := 0; refused < maxRefusals && ctx.Err() == nil; {
			if refused == 0 && begun.Add(int64(g.batch))-int64(g.batch) >= sessions {
				return
			}
			if refused++; c.post(ctx, t, time.Now()) {
				refused = 0
			}
		}
	})
}

// each runs a function for each connection, and waits for all calls.
func (g *generator) each(work func(*connection)) {
	var working sync.WaitGroup
	for i := range g.connections {
		working.Go(func() {
			work(&connection{generator: g, url: g.urls[i%len(g.urls)], body: newBody(g.sessions, g.batch, g.nonce)})
		})
	}
	working.Wait()
}

// connection is the state of one of the generator's goroutines.
type connection struct {
	*generator
	url  string
	body *body
}

// pauseAfterError is the wait after a failed request, so that a generator does not spin while the server refuses.
const pauseAfterError = 50 * time.Millisecond

// post sends a request with new sessions, counts the outcome in t, and reports whether it was accepted. sendAt is when it was due to be sent.
func (c *connection) post(ctx context.Context, t *tally, sendAt time.Time) bool {
	number := t.reserve(c.batch)
	c.body.fill(t.index, number, c.targets, sendAt)
	if err := c.send(ctx); err != nil {
		if ctx.Err() != nil {
			return false
		}
		t.refuse(err)
		// If the response came early, the transport may still be reading the old body.
		c.body = newBody(c.sessions, c.batch, c.nonce)
		sleep(ctx, pauseAfterError)
		return false
	}
	t.acknowledgement.record(time.Since(sendAt))
	due := int64(0)
	for i := range int64(c.batch) {
		if c.targets[(number+i)%int64(len(c.targets))].expected {
			t.expected.set(number + i)
			due++
		}
	}
	t.due.Add(due)
	t.accepted.Add(int64(c.batch))
	return true
}

// send posts the body. It returns an error unless the status is 2xx.
func (c *connection) send(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(c.body.text))
	if err != nil {
		return err
	}
	req.Header = c.header
	resp, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return &responseError{"POST " + req.URL.Path, resp.Status, body}
	}
	return nil
}

// responseError is a response with an unexpected status.
type responseError struct {
	call, status string
	body         []byte
}

func (e *responseError) Error() string {
	return fmt.Sprintf("%s: %s: %.300s", e.call, e.status, strings.TrimSpace(string(e.body)))
}
