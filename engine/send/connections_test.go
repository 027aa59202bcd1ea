package send

import (
	"bufio"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// dice are random numbers that goroutines share.
type dice struct {
	mu  sync.Mutex
	rng *rand.Rand
}

func (d *dice) below(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rng.IntN(n)
}

// moody serves an endpoint that answers each request on a new connection, and may end a connection that is used again, in any way that its
// protocol has for it.
func moody(protocol string, d *dice) func(p *peer, conn net.Conn) {
	if protocol == "HTTP/2.0" {
		return func(p *peer, conn net.Conn) {
			frames(1+d.below(6), func(f *http2.Framer, conn net.Conn, stream uint32) {
				switch d.below(3) {
				case 0:
					f.WriteGoAway(stream-2, http2.ErrCodeNo, nil)
				case 1:
					f.WriteGoAway(stream-2, http2.ErrCodeEnhanceYourCalm, []byte("too many pings"))
				}
				conn.Close()
			})(p, conn)
		}
	}
	return func(p *peer, conn net.Conn) {
		r := bufio.NewReader(conn)
		for used := false; takeRequest(r) == nil; used = true {
			if p.requests.Add(1); used && d.below(4) == 0 {
				return
			}
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			if d.below(8) == 0 { // closed after the answer, without a word
				return
			}
		}
	}
}

// TestHealthyEndpointLosesNoAttempt is a simulation: an endpoint that always works, whose connections end in every way and now and then die
// silently. An attempt fails only if it was sent into a connection of HTTP/1 that had died, and only in the round that finds it out. The
// endpoint gets no request that is neither an attempt nor a repeat; it may not get those that went into connections which it had closed.
func TestHealthyEndpointLosesNoAttempt(t *testing.T) {
	for seed := range uint64(4) {
		inEach(t, protocols, func(t *testing.T, protocol string) {
			d := &dice{rng: rand.New(rand.NewPCG(seed, 0))}
			p, done := newPeer(protocol, nil, moody(protocol, d))
			defer done()
			var attempts, repeats, swallowed int32
			round := func(died bool) {
				for _, a := range p.attempts(t, 1+d.below(5), 15*time.Second) {
					attempts++
					if a.Repeated != "" {
						repeats++
					}
					if died && (a.Error == ErrorTimeout || a.Repeated == RepeatLost) {
						swallowed++
					}
					if !a.Delivered() && !(died && protocol != "HTTP/2.0" && a.Error == ErrorTimeout && a.Reused) {
						t.Errorf("seed %d: %s: %s, died %t, repeated %q", seed, a.Error, a.ErrorDetail, died, a.Repeated)
					}
				}
			}
			for range 12 {
				for range 1 + d.below(4) {
					round(false)
					time.Sleep(time.Duration(d.below(4)) * time.Second)
				}
				synctest.Wait()
				p.die()
				time.Sleep(time.Duration(d.below(100)) * time.Second)
				round(true)
			}
			if got := p.requests.Load(); got > attempts+repeats-swallowed || got < attempts-swallowed {
				t.Errorf("seed %d: %d requests for %d attempts and %d repeats, of which %d went into dead connections", seed, got, attempts, repeats, swallowed)
			}
		})
	}
}

// TestNothingIsLeft: connections that nobody uses are closed, and the pool forgets their hosts.
func TestNothingIsLeft(t *testing.T) {
	inEach(t, protocols, func(t *testing.T, protocol string) {
		p, done := newPeer(protocol, ok, nil)
		defer done()
		wantRepeats(t, p.attempts(t, 5, testTimeout), 0, "")
		pool := poolOf(p.sender)
		synctest.Wait()
		pool.mu.Lock()
		kept := len(pool.hosts)
		pool.mu.Unlock()
		time.Sleep(idleConnTimeout + time.Second)
		synctest.Wait()
		pool.mu.Lock()
		defer pool.mu.Unlock()
		if kept != 1 || len(pool.hosts) != 0 {
			t.Errorf("hosts: %d, then %d", kept, len(pool.hosts))
		}
	})
}
