// Package receiver is an endpoint for webhooks that shows what it gets, checks the signatures, and can be told to misbehave. It is what
// "hookbolt listen" runs, and what the demo has for its webhooks.
//
// It speaks HTTP with whoever calls it. Of the domain it knows the check of a signature, and nothing else: no server, no settings, no
// commands.
package receiver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"hookbolt/internal/text"
)

// Options are how a receiver behaves. The zero value answers 200 at once and checks no signatures.
type Options struct {
	// Secret is the webhook's; "" leaves signatures unchecked.
	Secret string
	// Status is the answer; 0 means 200. With Fail it is the answer to the attempts that fail, and 0 means 500.
	Status int
	// Delay is how long an answer takes, unless the client goes away first.
	Delay time.Duration
	// Fail is how many attempts of each delivery fail.
	Fail int
	// Name, if it is set, says what a request is about, on the first line of what is shown.
	Name func(Receipt) string
	// Received, if it is set, is called with each request before it is answered.
	Received func(Receipt)
}

// Validate returns what is wrong with the options, by the names of the flags of "hookbolt listen".
func (o *Options) Validate() error {
	if o.Status != 0 && (o.Status < 200 || o.Status > 599) {
		return fmt.Errorf("-status must be 200 to 599 (got %d)", o.Status)
	}
	if o.Delay < 0 || o.Fail < 0 {
		return errors.New("-delay and -fail must not be negative")
	}
	return nil
}

// Receiver is an endpoint. Requests may come at the same time.
type Receiver struct {
	opts Options
	out  io.Writer // gets each request in one Write

	mu       sync.Mutex
	attempts map[string]int // by webhook-id; guarded by mu
}

// Receipt is a request that a receiver got.
type Receipt struct {
	At time.Time
	ID string // webhook-id; "" if there is none
	// Attempt counts the requests with this ID, from 1.
	Attempt int
	// Verdict is ErrUnchecked, nil, or what is wrong with the signature.
	Verdict error
	// Status is the answer.
	Status int
	Body   []byte
}

const (
	maxReceivedBody = 10 << 20
	// maxCounted is how many deliveries have their attempts counted; beyond it the count begins anew.
	maxCounted = 100_000
)

// New makes a receiver that shows on out what it gets.
func New(out io.Writer, opts Options) *Receiver {
	return &Receiver{opts: opts, out: out, attempts: make(map[string]int)}
}

// Manner says how the receiver deals with requests.
func (rec *Receiver) Manner() string {
	s := fmt.Sprint(rec.answer(1))
	if rec.opts.Fail > 0 {
		s += fmt.Sprintf(" to the first %d of each delivery's attempts, then 200", rec.opts.Fail)
	}
	if rec.opts.Delay > 0 {
		s += fmt.Sprintf(", after %s", rec.opts.Delay)
	}
	if rec.opts.Secret == "" {
		return s + "; signatures are not checked"
	}
	return s + "; signatures are checked"
}

// answer is the status for a delivery's n-th attempt.
func (rec *Receiver) answer(n int) int {
	switch {
	case rec.opts.Fail > 0 && n > rec.opts.Fail:
		return http.StatusOK
	case rec.opts.Status != 0:
		return rec.opts.Status
	case rec.opts.Fail > 0:
		return http.StatusInternalServerError
	}
	return http.StatusOK
}

// Serve answers requests until ctx ends, and closes the listener. It does not wait for delayed answers: who ends a
// misbehaving endpoint does not want to.
func (rec *Receiver) Serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{Handler: rec, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, IdleTimeout: 2 * time.Minute}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// ServeHTTP shows and answers a request.
func (rec *Receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	got := Receipt{At: time.Now(), ID: r.Header.Get("webhook-id")}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxReceivedBody))
	got.Body = body
	got.Attempt = rec.count(got.ID)
	got.Status = rec.answer(got.Attempt)
	if err != nil {
		got.Status = http.StatusRequestEntityTooLarge
		if _, ok := errors.AsType[*http.MaxBytesError](err); !ok {
			got.Status = http.StatusBadRequest
		}
	}
	got.Verdict = verify(r.Header, rec.opts.Secret, body, got.At)
	rec.show(r, got, err)
	if rec.opts.Received != nil {
		rec.opts.Received(got)
	}
	if rec.opts.Delay > 0 {
		select {
		case <-time.After(rec.opts.Delay):
		case <-r.Context().Done():
			fmt.Fprintf(rec.out, "%s  %s  the client went away after %s, without an answer\n\n",
				time.Now().Format(clock), text.Printable(got.ID), time.Since(got.At).Round(time.Millisecond))
			return
		}
	}
	w.WriteHeader(got.Status)
	fmt.Fprintf(w, "answered %d by hookbolt listen\n", got.Status) // what a delivery's attempts show as the response
}

// count returns which attempt of a delivery this is.
func (rec *Receiver) count(id string) int {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if _, ok := rec.attempts[id]; !ok && len(rec.attempts) == maxCounted {
		clear(rec.attempts)
	}
	rec.attempts[id]++
	return rec.attempts[id]
}
