package send

import (
	"cmp"
	"context"
	"errors"
	"net"
	"os"
	"sync"
)

// errUnasked ends an idle connection on which bytes have arrived.
var errUnasked = errors.New("bytes arrived on an idle connection")

// beginningBytes is how many bytes are remembered of what a peer has sent: enough for a status line up to the status.
const beginningBytes = 12

// wire is a network connection that is read and written by net/http. It does what net/http does not:
//
// While it rests, between the requests of HTTP/1, nothing is to arrive: bytes that arrive are dropped, with the connection. (So is the end of
// TLS, which is a few bytes.) net/http reads a connection only when it has nothing left of what it has read before. So bytes that came along
// with the last answer, and are not part of it, are noticed by what does not happen: net/http closes the connection and does not read again.
// take waits for either.
//
// It lets its peer have the last word. An endpoint may answer before it has read the whole request, and reset the connection then: 413 of a
// server that limits requests, 401 of one that wants credentials. The write that fails says less than the answer, but net/http reports
// whichever it sees first. So a failed write is no error here: the read that follows returns what the peer has sent, then the error.
//
// It remembers how the peer began.
type wire struct {
	net.Conn
	onClose func() // called once, in a goroutine of its own

	mu       sync.Mutex
	moved    sync.Cond // the reader began to wait, or the connection was closed
	reading  bool      // a Read is under way; guarded by mu, as what follows
	resting  bool
	closed   bool
	wrote    bool   // something, since the request began; over HTTP/2, since the first one did
	writeErr error  // of the first write that failed after that
	readErr  error  // of a read; net/http closes the connection then, and the write that is under way would say only that
	first    []byte // what the peer has sent first since the request began, at most beginningBytes
}

func newWire(nc net.Conn, onClose func()) *wire {
	w := &wire{Conn: nc, onClose: onClose}
	w.moved.L = &w.mu
	return w
}

func (w *wire) Read(p []byte) (int, error) {
	w.mu.Lock()
	w.reading = true
	w.moved.Broadcast()
	w.mu.Unlock()
	n, err := w.Conn.Read(p)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reading = false
	if n > 0 && w.resting {
		return 0, errUnasked
	}
	if room := beginningBytes - len(w.first); n > 0 && room > 0 {
		w.first = append(w.first, p[:min(n, room)]...)
	}
	if n == 0 && err != nil {
		w.readErr = cmp.Or(w.writeErr, err)
		return 0, w.readErr
	}
	return n, err
}

// Write fails if nothing of the request was sent: it is sent on another connection then.
func (w *wire) Write(p []byte) (int, error) {
	n, err := w.Conn.Write(p)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrote = w.wrote || n > 0
	if errors.Is(err, net.ErrClosed) && w.readErr != nil {
		return n, w.readErr
	}
	if err != nil && w.wrote && !errors.Is(err, net.ErrClosed) && !errors.Is(err, os.ErrDeadlineExceeded) {
		w.writeErr = cmp.Or(w.writeErr, err)
		return len(p), nil
	}
	return n, err
}

func (w *wire) Close() error {
	w.mu.Lock()
	first := !w.closed
	w.closed = true
	w.moved.Broadcast()
	w.mu.Unlock()
	if first {
		go w.onClose()
	}
	return w.Conn.Close()
}

func (w *wire) isClosed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed
}

// beginFirst says that the first request follows. Some servers greet whoever connects, such as those of SSH and SMTP: what came before it
// belongs to it.
func (w *wire) beginFirst() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrote, w.writeErr = false, nil
}

// rest says that the answer is complete.
func (w *wire) rest() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.resting = true
}

// take ends the rest for a request. It reports whether the connection can be used. It closes one whose reader does not come back before ctx
// ends: over TLS, what a peer sends unasked may make the reader write, and the peer may not read that.
func (w *wire) take(ctx context.Context) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.reading && !w.closed {
		defer context.AfterFunc(ctx, func() { w.Close() })()
	}
	for !w.reading && !w.closed {
		w.moved.Wait()
	}
	w.resting = false
	w.wrote, w.writeErr, w.first = false, nil, nil
	return !w.closed
}

// hasWritten reports whether something was sent since the request began.
func (w *wire) hasWritten() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wrote
}

// cut reports whether the connection broke while the request was written.
func (w *wire) cut() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.writeErr != nil
}

// beginning returns what the peer has sent first since the request began.
func (w *wire) beginning() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.first
}
