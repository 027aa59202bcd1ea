package torture

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
)

// unnotedRepeat sends requests once more and tells nobody.
var unnotedRepeat = mutantFlock.shared("unnoted-repeat", edit{file: "engine/send/pool.go", old: "\t\tif !sent {\n",
	new: "\t\tif !sent || mutant(\"unnoted-repeat\") {\n"})

// The log of attempts tells the truth: an endpoint that breaks connections in every way gets exactly as many requests under each id
// as attempts are recorded for it, and requests that were sent once more within them.
func TestRequestsAreAttempts(t *testing.T) {
	experiment(t)
	v := hostileRound(t, build(t), scale(1500, 20_000), manner{hostile: true})
	summarize(t, "requests = attempts + repeats: %d requests, %d attempts and %d repeats in the log, %d deliveries, lost %d",
		v.Requests, v.Attempts, v.Repeats, v.Due, v.Lost)
	v.hold(t)
	if v.Requests != v.Attempts+v.Repeats {
		t.Errorf("%d requests at the endpoint, %d attempts and %d repeats in the log", v.Requests, v.Attempts, v.Repeats)
	}
}

// An endpoint that closes connections while they are kept alive, which nobody can know of who is about to use one: what is written then
// never was at the endpoint. It is sent once more, and the log says so.
func TestRequestsAreAttemptsIdle(t *testing.T) {
	experiment(t)
	v := hostileRound(t, build(t), scale(600, 10_000), manner{hostile: true, idle: true})
	summarize(t, "requests = attempts + repeats, idle connections closed: %d requests, %d attempts and %d repeats in the log, of which %d have arrived twice; "+
		"%d deliveries, lost %d", v.Requests, v.Attempts, v.Repeats, v.Again, v.Due, v.Lost)
	v.hold(t)
	if v.Requests != v.Attempts+v.Again {
		t.Errorf("%d requests at the endpoint, %d attempts and %d repeats in the log", v.Requests, v.Attempts, v.Again)
	}
}

func TestRequestsAreAttemptsControl(t *testing.T) {
	experiment(t)
	var v *verdict
	line := caught(t, "repeats that are not noted", func(*rand.Rand) *verdict {
		v = hostileRound(t, build(t, unnotedRepeat...), 300, manner{hostile: true})
		return v
	})
	if line != "" {
		summarize(t, "requests = attempts + repeats, control %q: caught, %d requests, %d attempts and %d repeats in the log", "repeats that are not noted",
			v.Requests, v.Attempts, v.Repeats)
	}
}

func hostileRound(t *testing.T, binary string, requests int, m manner) *verdict {
	hooks := make([]hook, 8)
	for i := range hooks {
		hooks[i] = hook{path: fmt.Sprintf("/%d", i), answers: true}
	}
	g := newRig(t, rigOptions{binary: binary, hooks: hooks, manner: m, backlog: 500, delivery: `timeout = "1s"`})
	s := g.setUp()
	load := g.produce(4)
	if !await(scale(time.Minute, 10*time.Minute), func() bool { return g.receiver.total() >= requests || !s.running() }) {
		g.books.complain("only %d requests in that time", g.receiver.total())
	}
	load.halt()
	return g.finish(s)
}

// total is how many requests have come.
func (v *receiver) total() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.requests
}

// maxStreak is how many requests in a row a hostile receiver fails at a path: after 5, hookbolt would hold back.
const maxStreak = 2

// serveHostile answers by hand, so that it can do to a connection what net/http's server does not. It reads whatever comes, also on a
// connection that it has closed for writing: each request that was written is counted.
func (v *receiver) serveHostile(l net.Listener) {
	streaks := &streaks{byPath: make(map[string]int)}
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		v.connState(c, http.StateNew)
		go func() {
			defer v.connState(c, http.StateClosed)
			defer c.Close()
			in := bufio.NewReader(c)
			for v.answer(c, in, streaks) {
			}
		}()
	}
}

type streaks struct {
	mu     sync.Mutex
	byPath map[string]int // failures in a row
}

// may tells whether a request may be failed, and counts it.
func (s *streaks) may(path string, fail bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !fail || s.byPath[path] >= maxStreak {
		s.byPath[path] = 0
		return false
	}
	s.byPath[path]++
	return true
}

// answer reads a request and answers it, in a way. It tells whether the connection goes on.
func (v *receiver) answer(c net.Conn, in *bufio.Reader, s *streaks) bool {
	r, err := http.ReadRequest(in)
	if err != nil {
		return false
	}
	if r.Method == http.MethodGet { // of quiesce
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		return true
	}
	id, err := uuid.Parse(r.Header.Get("webhook-id"))
	if err != nil {
		v.ledger.complain("a request without a webhook-id: %v", r.Header)
		return false
	}
	n := v.begin(id, r.URL.Path)
	defer v.end(r.URL.Path)
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return false
	}
	k := v.read(id, r.URL, body)
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"
	dice := v.dice(id, n)
	if !s.may(r.URL.Path, dice.IntN(100) < 40) {
		v.ledger.arrive(k)
		switch dice.IntN(5) {
		case 0: // and an end, announced
			io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nOK")
			return false
		case 1: // cut short: a success, for the status says so
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nOK")
			return false
		case 2: // and, perhaps, an end that comes unannounced; what is sent all the same is read
			if v.manner.idle {
				io.WriteString(c, ok)
				c.(*net.TCPConn).CloseWrite()
				return true
			}
		}
		io.WriteString(c, ok)
		return true
	}
	switch dice.IntN(24) {
	case 0, 1, 2, 3:
		io.WriteString(c, "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")
		return true
	case 4: // later than anybody waits
		pass(1200*time.Millisecond, nil)
		io.WriteString(c, ok)
		return false
	case 5, 6, 7, 8, 9: // reset
		c.(*net.TCPConn).SetLinger(0)
		return false
	case 10, 11, 12, 13, 14: // half a head
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Le")
		return false
	case 15, 16, 17, 18, 19: // no HTTP
		io.WriteString(c, "what?\r\n\r\n")
		return false
	}
	return false // closed without a word: on a connection that was kept, it might as well have been dead before
}
