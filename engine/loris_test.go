package engine_test

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
)

// lorises takes connections and answers each with a byte a second, for ever: some never come to the end of their header, the others
// never to that of their body.
type lorises struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
	came  chan struct{} // a value for each connection
}

func newLorises(t *testing.T) *lorises {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &lorises{Listener: listener, came: make(chan struct{}, 1<<16)}
	end := make(chan struct{})
	var work sync.WaitGroup
	work.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				if _, err := conn.Read(make([]byte, 1)); err != nil { // the request has begun
					return
				}
				l.mu.Lock()
				begin := "HTTP/1.1 200 OK\r\nX-Loris: "
				if len(l.conns)%2 == 0 {
					begin = "HTTP/1.1 500 No\r\n\r\n"
				}
				conn.Write([]byte(begin))
				l.conns = append(l.conns, conn)
				l.mu.Unlock()
				l.came <- struct{}{}
			})
		}
	})
	work.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
			}
			l.mu.Lock()
			for _, conn := range l.conns {
				conn.SetWriteDeadline(time.Now()) // a full buffer is no reason to wait
				conn.Write([]byte("z"))
			}
			l.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		close(end)
		listener.Close()
		work.Wait()
		for _, conn := range l.conns {
			conn.Close()
		}
	})
	return l
}

// TestSlowLorises: a thousand endpoints that take for ever, each with a backlog, cost a good one next to nothing, for each lane has its
// first attempt beyond the global limit; and they cost hookbolt a bounded number of goroutines and bounded memory.
func TestSlowLorises(t *testing.T) {
	hooks, floor := 1000, 100*time.Millisecond
	if raced {
		hooks, floor = 200, 500*time.Millisecond
	}
	const backlog, deliveries = 10, 300
	l := newLive(t, filepath.Join(t.TempDir(), "hookbolt.db"))
	url, arrivals := endpoint(t)
	l.hook(fmt.Sprintf(`{"url":%q,"delay":0,"content_id":%q}`, url, contentB))
	p99 := func() time.Duration {
		lags := make([]time.Duration, deliveries)
		for i := range lags {
			at := time.Now()
			l.fill(1, contentB, func(int) time.Time { return at })
			lags[i] = (<-arrivals).Sub(at)
		}
		slices.Sort(lags)
		return lags[deliveries*99/100]
	}
	p99() // warm
	alone := p99()

	slow := newLorises(t)
	for i := range hooks {
		l.hook(fmt.Sprintf(`{"url":"http://%s/%d","delay":0,"content_id":%q,"timeout":"2m"}`, slow.Addr(), i, contentA))
	}
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	goroutines := runtime.NumGoroutine()
	l.fill(backlog, contentA, func(int) time.Time { return time.Now() })
	atOnce := hooks + 256 // the first of each lane, and delivery.max_in_flight beyond them
	for range atOnce {
		<-slow.came
	}
	p99() // while what is claimed ahead is built
	beside := p99()
	runtime.GC()
	runtime.ReadMemStats(&after)
	goroutines = runtime.NumGoroutine() - goroutines
	grown := int64(after.HeapAlloc) - int64(before.HeapAlloc) + int64(after.StackInuse) - int64(before.StackInuse)
	t.Logf("p99 of the lag: %v alone, %v beside %d slow attempts; %d goroutines and %d MiB more", alone, beside, atOnce, goroutines, grown>>20)

	// Below the floor the machine's own noise is larger than what is measured. Without lanes it would be minutes.
	if limit := max(2*alone, floor); beside > limit {
		t.Errorf("p99 of the lag is %v, alone it was %v", beside, alone)
	}
	if len(slow.came) != 0 {
		t.Errorf("%d attempts more than %d at once", len(slow.came), atOnce)
	}
	// Three goroutines for an attempt and its connection, one for each of the deliveries that are claimed ahead.
	if most := 3*atOnce + 2*(hooks+256) + 200; goroutines > most {
		t.Errorf("%d goroutines for %d attempts, want at most %d", goroutines, atOnce, most)
	}
	if most := int64(128) << 20; grown > most {
		t.Errorf("%d MiB for %d attempts", grown>>20, atOnce)
	}
	if o, err := l.Overview(context.Background()); err != nil || o.Due+o.InFlight < int64(hooks*(backlog-1)) {
		t.Errorf("the backlog is gone: %+v, %v", o, err)
	}
}
