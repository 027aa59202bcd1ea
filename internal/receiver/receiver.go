// Package receiver is an endpoint for tests: it prints the webhooks that it receives, checks their signatures, and can simulate failures.
// "hookbolt listen" and the demo run it.
//
// Of the domain it knows only the check of signatures. It does not know the server, its settings or commands.
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

// Options are the settings of a receiver. The zero value answers 200 at once and checks no signatures.
type Options struct {
	// Secret is the webhook's secret; with "" signatures are not checked.
	Secret string
	// PublicKey is a public key (whpk_…) of the webhook's signatures v1a; with "" they are not checked.
	PublicKey string
	// HMAC is the header with the HMAC of the body to check.
	HMAC HMAC
	// Status is the response status; 0 means 200. With Fail it is the status for the failed attempts, and 0 means 500.
	Status int
	// Delay is the wait before each response. It ends early if the client disconnects.
	Delay time.Duration
	// Fail is how many attempts of each delivery fail, the first ones.
	Fail int
	// Name, if set, returns what to print as the name of a request, instead of its method and path.
	Name func(Receipt) string
	// Received, if set, is called with each request before the response is sent.
	Received func(Receipt)
}

// Validate returns what is wrong with the options, by the names of the flags of "hookbolt listen".
func (o *Options) Validate() error {
	if o.Secret != "" {
		if err := CheckSecret(o.Secret); err != nil {
			return fmt.Errorf("-secret %w", err)
		}
	}
	if o.PublicKey != "" {
		if err := CheckPublicKey(o.PublicKey); err != nil {
			return fmt.Errorf("-public-key %w", err)
		}
	}
	switch h := o.HMAC; {
	case (h.Header == "") != (h.Secret == "") || h.Header == "" && h.Prefix+h.Encoding != "":
		return errors.New("-hmac-header and -hmac-secret go together, with -hmac-prefix and -hmac-encoding if they are needed")
	case h.Encoding != "" && h.Encoding != "hex" && h.Encoding != "base64":
		return fmt.Errorf("-hmac-encoding must be hex or base64 (got %q)", h.Encoding)
	}
	if o.Status != 0 && (o.Status < 200 || o.Status > 599) {
		return fmt.Errorf("-status must be 200 to 599 (got %d)", o.Status)
	}
	if o.Delay < 0 || o.Fail < 0 {
		return errors.New("-delay and -fail must not be negative")
	}
	return nil
}

// Receiver is an endpoint. It may serve requests concurrently.
type Receiver struct {
	opts Options
	out  io.Writer // gets each request in one Write

	mu       sync.Mutex
	attempts map[string]int // by webhook-id; guarded by mu
}

// Receipt is a received request.
type Receipt struct {
	At time.Time
	ID string // webhook-id; "" if there is none
	// Attempt counts the requests with this ID, from 1.
	Attempt int
	// Verdict is nil for valid signatures, ErrUnchecked if none is checked, else what is wrong with the signature.
	Verdict error
	// Status is the response status.
	Status int
	Body   []byte
}

const (
	maxReceivedBody = 10 << 20
	// maxCounted is how many deliveries are kept in the count of attempts. When it is exceeded, the counts start again.
	maxCounted = 100_000
)

// New returns a receiver that prints requests to out.
func New(out io.Writer, opts Options) *Receiver {
	return &Receiver{opts: opts, out: out, attempts: make(map[string]int)}
}

// Manner describes how the receiver responds, for people.
func (rec *Receiver) Manner() string {
	s := fmt.Sprint(rec.answer(1))
	if rec.opts.Fail > 0 {
		s += fmt.Sprintf(" to the first %d of each delivery's attempts, then 200", rec.opts.Fail)
	}
	if rec.opts.Delay > 0 {
		s += fmt.Sprintf(", after %s", rec.opts.Delay)
	}
	if !rec.opts.checks() {
		return s + "; signatures are not checked"
	}
	return s + "; signatures are checked"
}

// answer returns the status for a delivery's n-th attempt.
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

// Serve answers requests until ctx ends, and closes the listener. It does not wait for delayed responses, which may take long.
func (rec *Receiver) Serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{Handler: rec, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, IdleTimeout: 2 * time.Minute}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// ServeHTTP prints and answers a request.
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
	got.Verdict = rec.opts.verify(r.Header, body, got.At)
	rec.show(r, got, err)
	if rec.opts.Received != nil {
		rec.opts.Received(got)
	}
	if rec.opts.Delay > 0 {
		select {
		case <-time.After(rec.opts.Delay):
		case <-r.Context().Done():
			fmt.Fprintf(rec.out, "%s  %s  the client disconnected after %s, before the response\n\n",
				time.Now().Format(clock), text.Printable(got.ID), time.Since(got.At).Round(time.Millisecond))
			return
		}
	}
	w.WriteHeader(got.Status)
	fmt.Fprintf(w, "answered %d by hookbolt listen\n", got.Status) // shown as the response in the delivery's attempts
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
