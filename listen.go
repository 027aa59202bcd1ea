package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode"

	"hookbolt/engine"
)

// listen runs an endpoint that shows what it gets, until ctx ends.
func listen(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("listen", flag.ContinueOnError)
	addr := fs.String("addr", "127.0.0.1:9000", "listen on `ADDRESS`")
	rec := newReceiver(&lockedWriter{w: stdout})
	fs.Func("secret", "check signatures with the webhook's `SECRET` (whsec_…)", func(s string) error {
		rec.secret = engine.Secret(s)
		_, err := rec.secret.Key()
		return err
	})
	fs.IntVar(&rec.status, "status", 0, "answer `N` instead of 200; with -fail, to the attempts that fail")
	fs.DurationVar(&rec.delay, "delay", 0, "wait for `SPAN`, such as 20s, before each answer")
	fs.IntVar(&rec.fail, "fail", 0, "fail the first `N` attempts of each delivery, then answer 200")
	if err := parseFlags(fs, args, stdout, "Runs an endpoint that prints the webhooks that it gets and checks their signatures."); err != nil {
		return err
	}
	if rec.status != 0 && (rec.status < 200 || rec.status > 599) {
		return usageError{fmt.Errorf("listen: -status must be 200 to 599 (got %d)", rec.status)}
	}
	if rec.delay < 0 || rec.fail < 0 {
		return usageError{errors.New("listen: -delay and -fail must not be negative")}
	}
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	fmt.Fprintf(stdout, "Listening on http://%s/ and answering %s. Ctrl-C ends.\n\n", listener.Addr(), rec.manner())
	return rec.serve(ctx, listener)
}

// receiver is an endpoint that shows what it gets, checks the signatures, and can be told to misbehave. listen runs one, demo
// one for each of its webhooks. Its fields are set before it serves.
type receiver struct {
	// secret is the webhook's; "" leaves signatures unchecked.
	secret engine.Secret
	// status is the answer; 0 means 200. With fail it is the answer to the attempts that fail, and 0 means 500.
	status int
	// delay is how long an answer takes, unless the client goes away first.
	delay time.Duration
	// fail is how many attempts of each delivery fail.
	fail int
	// name, if it is set, says what a request is about, on the first line of what is shown.
	name func(receipt) string
	// received, if it is set, is called with each request before it is answered.
	received func(receipt)
	out      io.Writer // gets each request in one Write

	mu       sync.Mutex
	attempts map[string]int // by webhook-id; guarded by mu
}

// receipt is a request that a receiver got.
type receipt struct {
	At time.Time
	ID string // webhook-id; "" if there is none
	// Attempt counts the requests with this ID, from 1.
	Attempt int
	// Verdict is errUnchecked, nil, or what is wrong with the signature.
	Verdict error
	// Status is the answer.
	Status int
	Body   []byte
}

var errUnchecked = errors.New("not checked")

const (
	maxReceivedBody = 10 << 20
	// maxIndented is the deepest JSON that is indented: the text grows with each level, and a payload has five.
	maxIndented = 20
	// maxShown bounds what is printed of any other body, in bytes.
	maxShown = 4 << 10
	// maxCounted is how many deliveries have their attempts counted; beyond it the count begins anew.
	maxCounted = 100_000
)

func newReceiver(out io.Writer) *receiver {
	return &receiver{out: out, attempts: make(map[string]int)}
}

// manner says how the receiver deals with requests.
func (rec *receiver) manner() string {
	s := fmt.Sprint(rec.answer(1))
	if rec.fail > 0 {
		s += fmt.Sprintf(" to the first %d of each delivery's attempts, then 200", rec.fail)
	}
	if rec.delay > 0 {
		s += fmt.Sprintf(", after %s", rec.delay)
	}
	if rec.secret == "" {
		return s + "; signatures are not checked"
	}
	return s + "; signatures are checked"
}

// answer is the status for a delivery's n-th attempt.
func (rec *receiver) answer(n int) int {
	switch {
	case rec.fail > 0 && n > rec.fail:
		return http.StatusOK
	case rec.status != 0:
		return rec.status
	case rec.fail > 0:
		return http.StatusInternalServerError
	}
	return http.StatusOK
}

// serve answers requests until ctx ends, and closes the listener. It does not wait for delayed answers: nobody who ends a
// misbehaving endpoint wants to.
func (rec *receiver) serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{Handler: rec, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, IdleTimeout: 2 * time.Minute}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// ServeHTTP shows and answers a request.
func (rec *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	got := receipt{At: time.Now(), ID: r.Header.Get(engine.HeaderID)}
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
	got.Verdict = errUnchecked
	if rec.secret != "" {
		got.Verdict = engine.Verify(r.Header, rec.secret, body, got.At)
	}
	rec.show(r, got, err)
	if rec.received != nil {
		rec.received(got)
	}
	if rec.delay > 0 {
		select {
		case <-time.After(rec.delay):
		case <-r.Context().Done():
			fmt.Fprintf(rec.out, "%s  %s  the client went away after %s, without an answer\n\n",
				time.Now().Format(clock), printable(got.ID), time.Since(got.At).Round(time.Millisecond))
			return
		}
	}
	w.WriteHeader(got.Status)
	fmt.Fprintf(w, "answered %d by hookbolt listen\n", got.Status) // what a delivery's attempts show as the response
}

// count returns which attempt of a delivery this is.
func (rec *receiver) count(id string) int {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if _, ok := rec.attempts[id]; !ok && len(rec.attempts) == maxCounted {
		clear(rec.attempts)
	}
	rec.attempts[id]++
	return rec.attempts[id]
}

const clock = "15:04:05.000"

// show prints a request. What it prints of it is made harmless for a terminal first.
func (rec *receiver) show(r *http.Request, got receipt, readErr error) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  ", got.At.Format(clock))
	if rec.name != nil {
		fmt.Fprintf(&b, "%s  ", printable(rec.name(got)))
	} else {
		fmt.Fprintf(&b, "%s %s  ", printable(r.Method), printable(r.URL.EscapedPath()))
	}
	if got.ID == "" {
		b.WriteString("no webhook-id  ")
	} else {
		fmt.Fprintf(&b, "%s  attempt %d  ", printable(got.ID), got.Attempt)
	}
	switch {
	case got.Verdict == nil:
		b.WriteString("signature ok")
	case errors.Is(got.Verdict, errUnchecked):
		b.WriteString("signature not checked (start with -secret to check)")
	default:
		fmt.Fprintf(&b, "signature WRONG: %v", got.Verdict)
	}
	fmt.Fprintf(&b, "  answered %d", got.Status)
	if rec.delay > 0 {
		fmt.Fprintf(&b, " after %s", rec.delay)
	}
	b.WriteByte('\n')
	b.WriteString(pretty(got.Body))
	if readErr != nil {
		fmt.Fprintf(&b, "[the body ended early: %v]\n", readErr)
	}
	b.WriteByte('\n')
	io.WriteString(rec.out, b.String())
}

// pretty returns a body with its JSON indented and its text as it came; anything else is cut short.
func pretty(body []byte) string {
	if len(bytes.TrimSpace(body)) == 0 {
		return "[no body]\n"
	}
	var b bytes.Buffer
	if depth(body) <= maxIndented && json.Indent(&b, body, "", "  ") == nil {
		return printable(b.String()) + "\n"
	}
	if len(body) > maxShown {
		return fmt.Sprintf("%s\n[and %d bytes more]\n", printable(string(body[:maxShown])), len(body)-maxShown)
	}
	return printable(string(body)) + "\n"
}

// depth is how deep a body nests, if it is JSON.
func depth(body []byte) int {
	most, now, quoted := 0, 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && quoted:
			i++
		case quoted:
		case c == '[' || c == '{':
			now++
			most = max(most, now)
		case c == ']' || c == '}':
			now--
		}
	}
	return most
}

// printable takes out what could steer a terminal: control characters but for line ends and tabs, and broken UTF-8, in which
// some terminals see control characters as well.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

// lockedWriter lets several goroutines write to one place, a Write at a time.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
