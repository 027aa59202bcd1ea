package send

import (
	"cmp"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync"
)

// beginningBytes is how many bytes are remembered of what a peer has sent: enough for a status line up to the status.
const beginningBytes = 12

// peerConn is a connection that lets its peer have the last word, and remembers how the peer began.
//
// An endpoint may answer before it has read the whole request, and reset the connection then: 413 of a server that limits requests, 401 of
// one that wants credentials. The write that fails says less than the answer, but net/http reports whichever it sees first. So a failed
// write is no error here: the read that follows returns what the peer has sent, then the error.
type peerConn struct {
	net.Conn

	mu       sync.Mutex // guards what follows
	wrote    bool       // something, since the request began
	writeErr error      // of the first write that failed after that
	readErr  error      // of a read; net/http closes the connection then, and the write that is under way would say only that
	first    []byte     // what the peer has sent first since the request began, at most beginningBytes
}

// innermost returns the peerConn below TLS; nil if there is none.
func innermost(c net.Conn) *peerConn {
	for {
		switch outer := c.(type) {
		case *tls.Conn:
			c = outer.NetConn()
		case *peerConn:
			return outer
		default:
			return nil
		}
	}
}

// begin is called before each request. Some servers greet whoever connects, such as those of SSH and SMTP: what came on a connection before
// its first request belongs to that.
func (c *peerConn) begin(reused bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wrote, c.writeErr = false, nil
	if reused {
		c.first = nil
	}
}

// beginning returns what the peer has sent first since the request began.
func (c *peerConn) beginning() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.first
}

// cut reports whether the connection broke while the request was written.
func (c *peerConn) cut() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writeErr != nil
}

func (c *peerConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	if room := beginningBytes - len(c.first); n > 0 && room > 0 {
		c.first = append(c.first, b[:min(n, room)]...)
	}
	if n == 0 && err != nil {
		c.readErr = cmp.Or(c.writeErr, err)
		return 0, c.readErr
	}
	return n, err
}

// Write fails if nothing of the request was sent: net/http sends it on another connection then.
func (c *peerConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wrote = c.wrote || n > 0
	if errors.Is(err, net.ErrClosed) && c.readErr != nil {
		return n, c.readErr
	}
	if err != nil && c.wrote && !errors.Is(err, net.ErrClosed) && !errors.Is(err, os.ErrDeadlineExceeded) {
		c.writeErr = cmp.Or(c.writeErr, err)
		return len(b), nil
	}
	return n, err
}
