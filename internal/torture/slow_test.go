package torture

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// unboundedBodies takes bodies of up to 1 GiB, any number of them at once.
var unboundedBodies = mutantFlock.shared("unbounded",
	edit{file: "httpapi/bodies.go", old: "\tif r.ContentLength > most {\n",
		new: "\tmost = mutated(\"unbounded\", most<<10, most)\n\tif r.ContentLength > most {\n"},
	edit{file: "httpapi/bodies.go", old: "if !fits && b.used > own {", new: "if !fits && b.used > own && !mutant(\"unbounded\") {"})

// latencyFloor is the latency that nobody holds against a machine which does other things as well, as those do that run the short form.
func latencyFloor() time.Duration { return scale(5*time.Second, 50*time.Millisecond) }

// maxMemory is how much more memory misuse may take. Garbage piles up to 128 MiB in all while a server is busy.
const maxMemory = 128 << 20

// Producers that send a byte now and then, and bodies beyond all measure, beside normal load: the normal requests hardly notice, and
// memory stays bounded.
func TestMisuse(t *testing.T) {
	experiment(t)
	m := misuseRound(t, build(t))
	summarize(t, "misuse: %v", m)
	if m.busy > max(2*m.quiet, latencyFloor()) {
		t.Errorf("p99 is %v, %v without misuse", m.busy, m.quiet)
	}
	if m.more > maxMemory {
		t.Errorf("memory grows by %d MiB", m.more>>20)
	}
}

func TestMisuseControl(t *testing.T) {
	experiment(t)
	line := caught(t, "bodies of any size", func(*rand.Rand) *verdict {
		m := misuseRound(t, build(t, unboundedBodies...))
		if m.more <= maxMemory {
			return &verdict{}
		}
		return &verdict{trouble: []string{m.String()}}
	})
	if line != "" {
		summarize(t, "misuse, control %q: caught: %s", "bodies of any size", line)
	}
}

type misuse struct {
	quiet, busy time.Duration // p99 of normal requests
	more        int64         // memory
	slow, huge  int           // connections held, bodies sent
}

func (m misuse) String() string {
	return fmt.Sprintf("%d slow connections, %d huge bodies: p99 %v (%v without), memory %+d MiB", m.slow, m.huge,
		m.busy.Round(100*time.Microsecond), m.quiet.Round(100*time.Microsecond), m.more>>20)
}

func misuseRound(t *testing.T, binary string) misuse {
	g := newRig(t, rigOptions{binary: binary})
	s := g.setUp()
	load := g.produce(8)
	span := scale(1500*time.Millisecond, 30*time.Second)
	pass(span/2, s.exited) // to the memory and the caches that the load itself takes
	g.latency.reset()
	before := watchMemory(s, span)
	m := misuse{quiet: percentile(g.latency.reset(), 0.99), slow: 300}
	stop := make(chan struct{})
	var misusers sync.WaitGroup
	host := strings.TrimPrefix(s.url(), "http://")
	for i := range m.slow {
		misusers.Go(func() { trickle(host, i, stop) })
	}
	var mu sync.Mutex
	for range 4 {
		misusers.Go(func() {
			for !isClosed(stop) {
				flood(s.url())
				mu.Lock()
				m.huge++
				mu.Unlock()
				pass(20*time.Millisecond, stop)
			}
		})
	}
	flooded := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return m.huge >= 8
	}
	m.more = watchMemory(s, span) - before
	await(30*time.Second, func() bool { // on a slow machine
		m.more = max(m.more, s.memory()-before)
		return flooded()
	})
	m.busy = percentile(g.latency.reset(), 0.99)
	close(stop)
	misusers.Wait()
	load.halt()
	g.finish(s).hold(t)
	return m
}

// watchMemory returns the most memory that a server has in use during a span.
func watchMemory(s *server, span time.Duration) int64 {
	var most int64
	await(span, func() bool {
		most = max(most, s.memory())
		return !s.running()
	})
	return most
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// trickle holds a connection and sends a byte now and then: of a header that never ends, of a body that was announced, or nothing.
func trickle(host string, n int, stop <-chan struct{}) {
	heads := []string{"", "POST /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ",
		"POST /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\n", "POST /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"}
	for !isClosed(stop) {
		c, err := net.Dial("tcp", host)
		if err != nil {
			pass(100*time.Millisecond, stop)
			continue
		}
		head := heads[n%len(heads)]
		_, err = io.WriteString(c, head)
		for err == nil && !isClosed(stop) {
			pass(200*time.Millisecond, stop)
			if head != "" {
				_, err = io.WriteString(c, "1")
			}
		}
		c.Close()
	}
}

// flood sends 64 MiB as one body, as far as it is taken.
func flood(url string) {
	client := newClient()
	defer client.CloseIdleConnections()
	// A reader of unknown size makes it chunked.
	resp, err := client.Post(url+"/v1/events", "application/json", io.LimitReader(endless{}, 64<<20))
	if err != nil {
		return
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if resp.StatusCode == http.StatusAccepted {
		panic("64 MiB of blanks are no events")
	}
}

// endless is white space without end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}
