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

// generator posts sessions, over a connection for each of its goroutines.
type generator struct {
	url, token  string
	client      *http.Client
	connections int
	batch       int // sessions of a request
	nonce       string
	targets     []target
	sessions    *template
}

// requestTimeout is how long an acknowledgement may take until the request counts as failed.
const requestTimeout = time.Minute

// newClient makes a client that keeps as many connections as it is used by goroutines.
func newClient(connections int) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil // what is measured is the server
	transport.MaxConnsPerHost, transport.MaxIdleConnsPerHost, transport.MaxIdleConns = connections, connections, connections
	transport.ResponseHeaderTimeout = requestTimeout // Client.Timeout would cost a goroutine for each request
	return &http.Client{Transport: transport}
}

// phase is a span of a run with a tally of its own. It lasts until an instant.
type phase struct {
	until time.Time
	tally *tally
}

// phaseAt returns the phase that an instant is in; nil after the last one.
func phaseAt(phases []phase, at time.Time) *phase {
	for i := range phases {
		if at.Before(phases[i].until) {
			return &phases[i]
		}
	}
	return nil
}

// fullSpeed posts a request after the other on each connection until the last phase is over.
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

// overtime is how long after its end the late requests of a steady rate are still sent.
const overtime = 10 * time.Second

// steady posts requests at even spans, rate sessions a second, from an instant until the last phase is over. A request that finds no free
// connection at its instant is sent as soon as there is one; all is counted from the instant.
func (g *generator) steady(ctx context.Context, rate float64, from time.Time, phases []phase) {
	between := float64(g.batch) / rate * float64(time.Second)
	closing := phases[len(phases)-1].until.Add(overtime)
	var next atomic.Int64
	g.each(func(c *connection) {
		for {
			instant := from.Add(time.Duration(float64(next.Add(1)-1) * between))
			p := phaseAt(phases, instant)
			if p == nil || !sleep(ctx, time.Until(instant)) {
				return
			}
			if time.Now().After(closing) {
				p.tally.unsent.Add(1)
				continue
			}
			c.post(ctx, p.tally, instant)
		}
	})
}

// givenUp is after how many refusals in a row a connection posts no more of an amount: some 10 s.
const givenUp = 200

// amount posts so many sessions, rounded up to whole requests, as fast as it goes. What is refused is made up for by others, unless the
// server goes on refusing.
func (g *generator) amount(ctx context.Context, sessions int64, t *tally) {
	var begun atomic.Int64
	g.each(func(c *connection) {
		for refused := 0; refused < givenUp && ctx.Err() == nil; {
			if refused == 0 && begun.Add(int64(g.batch))-int64(g.batch) >= sessions {
				return
			}
			if refused++; c.post(ctx, t, time.Now()) {
				refused = 0
			}
		}
	})
}

// each runs a function for each connection and waits for all.
func (g *generator) each(work func(*connection)) {
	var working sync.WaitGroup
	for range g.connections {
		working.Go(func() {
			work(&connection{generator: g, body: newBody(g.sessions, g.batch, g.nonce)})
		})
	}
	working.Wait()
}

// connection is one of the generator's goroutines.
type connection struct {
	*generator
	body *body
}

// pauseAfterError keeps a generator from spinning while the server refuses.
const pauseAfterError = 50 * time.Millisecond

// post sends a request with new sessions, notes what came of it, and tells whether it was accepted. Its instant is when it was due to be
// sent.
func (c *connection) post(ctx context.Context, t *tally, instant time.Time) bool {
	number := t.take(c.batch)
	c.body.fill(t.index, number, c.targets, instant)
	if err := c.send(ctx); err != nil {
		if ctx.Err() != nil {
			return false
		}
		t.refuse(err)
		// The transport may still read the old one where the answer came early.
		c.body = newBody(c.sessions, c.batch, c.nonce)
		sleep(ctx, pauseAfterError)
		return false
	}
	t.acknowledgement.record(time.Since(instant))
	owed := int64(0)
	for i := range int64(c.batch) {
		if c.targets[(number+i)%int64(len(c.targets))].owed {
			t.expected.set(number + i)
			owed++
		}
	}
	t.owed.Add(owed)
	t.accepted.Add(int64(c.batch))
	return true
}

// send posts the body. Its error is nil if the answer is 202.
func (c *connection) send(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+"/v1/events", bytes.NewReader(c.body.text))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusAccepted {
		return &answerError{"POST /v1/events", resp.Status, answer}
	}
	return nil
}

// answerError is an answer of the server that is not the one that was wanted.
type answerError struct {
	call, status string
	body         []byte
}

func (e *answerError) Error() string {
	return fmt.Sprintf("%s: %s: %.300s", e.call, e.status, strings.TrimSpace(string(e.body)))
}
