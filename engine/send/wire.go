package send

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
)

// errUnasked ends an idle connection on which bytes have arrived.
var errUnasked = errors.New("bytes arrived on an idle connection")

// wire is a network connection that is read by net/http. While it rests, between the requests of HTTP/1, nothing is to arrive: bytes that
// arrive are dropped, with the connection. (So is the end of TLS, which is a few bytes.)
//
// net/http reads a connection only when it has nothing left of what it has read before. So bytes that came along with the last answer, and
// are not part of it, are noticed by what does not happen: net/http closes the connection and does not read again. take waits for either.
type wire struct {
	net.Conn
	onClose func() // called once, in a goroutine of its own
	written atomic.Int64

	mu      sync.Mutex
	moved   sync.Cond // the reader began to wait, or the connection was closed
	reading bool      // a Read is under way; guarded by mu, as what follows
	resting bool
	closed  bool
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
	return n, err
}

func (w *wire) Write(p []byte) (int, error) {
	n, err := w.Conn.Write(p)
	w.written.Add(int64(n))
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

// rest says that the answer is complete.
func (w *wire) rest() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.resting = true
}

// take ends the rest for a request. It reports whether the connection can be used.
func (w *wire) take() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for !w.reading && !w.closed {
		w.moved.Wait()
	}
	w.resting = false
	return !w.closed
}
