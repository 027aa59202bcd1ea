package send

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// ok answers 200.
func ok(http.ResponseWriter, *http.Request) {}

// inEach runs a test in a bubble for each of the protocols.
func inEach(t *testing.T, protocols []string, test func(t *testing.T, protocol string)) {
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { test(t, protocol) }) })
	}
}

// golang/go#30702, #36026, #39337: an HTTP/2 connection that has died silently is found by a ping, and the attempt that waits on it is made
// again on a new one. The endpoint has lost no try.
func TestSilentDeathIsFoundByPing(t *testing.T) {
	inEach(t, []string{"HTTP/2.0"}, func(t *testing.T, protocol string) {
		p, done := newPeer(protocol, ok, nil)
		defer done()
		wantDelivered(t, p.attempt(t, testTimeout))
		p.die()
		outcomes := p.attempts(t, 5, 15*time.Second)
		wantRepeats(t, outcomes, 5, RepeatLost)
		for _, a := range outcomes {
			if a.Duration > pingAfter+pingTimeout {
				t.Errorf("it took %v", a.Duration)
			}
		}
		// A connection that nobody uses is looked after as well: the next attempt does not meet it.
		p.die()
		time.Sleep(pingAfter + pingTimeout)
		synctest.Wait()
		if a := p.attempt(t, testTimeout); !a.Delivered() || a.Repeated != "" || a.Reused {
			t.Errorf("after the ping: %+v", a)
		}
	})
}

// An endpoint that answers pings and takes its time is not dead.
func TestPingsLeaveSlowEndpointsAlone(t *testing.T) {
	inEach(t, []string{"HTTP/2.0"}, func(t *testing.T, protocol string) {
		p, done := newPeer(protocol, func(http.ResponseWriter, *http.Request) { time.Sleep(time.Minute) }, nil)
		defer done()
		wantRepeats(t, p.attempts(t, 5, 2*time.Minute), 0, "")
		if a := p.attempt(t, 2*time.Minute); !a.Delivered() || !a.Reused {
			t.Errorf("%+v", a)
		}
	})
}

// Of the connections to a host that has gone silently, only those that attempts are on already cost an attempt. No later attempt is sent
// into one of them, not even while others still wait on it.
func TestTimeoutRetiresConnections(t *testing.T) {
	inEach(t, protocols, func(t *testing.T, protocol string) {
		const warm, short, long = 6, 2 * time.Second, 4 * time.Second // before a ping can tell
		p, done := newPeer(protocol, func(http.ResponseWriter, *http.Request) { time.Sleep(time.Millisecond) }, nil)
		defer done()
		wantRepeats(t, p.attempts(t, warm, testTimeout), 0, "")
		p.die()
		var waiting sync.WaitGroup
		for range 2 {
			for _, timeout := range []time.Duration{short, long} {
				waiting.Go(func() {
					if a := p.attempt(t, timeout); a.Error != ErrorTimeout || !a.Reused {
						t.Errorf("into a dead connection: %+v", a)
					}
				})
			}
		}
		time.Sleep(short)
		synctest.Wait()
		before := p.dials()
		outcomes := p.attempts(t, warm, testTimeout)
		wantRepeats(t, outcomes, 0, "")
		for _, a := range outcomes {
			if a.Duration > time.Second || a.Reused && protocol != "HTTP/2.0" {
				t.Errorf("after the timeout: %+v", a)
			}
		}
		if p.dials() == before {
			t.Error("no new connection was made")
		}
		waiting.Wait()
		// The new connections stay, although attempts on those before them have timed out since.
		for _, a := range p.attempts(t, warm, testTimeout) {
			if !a.Delivered() || !a.Reused {
				t.Errorf("in the end: %+v", a)
			}
		}
	})
}

// A timeout does not end what others have on the same HTTP/2 connection; the last of them closes it.
func TestRetiredConnectionServesItsRequests(t *testing.T) {
	inEach(t, []string{"HTTP/2.0"}, func(t *testing.T, protocol string) {
		p, done := newPeer(protocol, func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-time.After(10 * time.Second):
			case <-r.Context().Done():
			}
		}, nil)
		defer done()
		outcome := make(chan Outcome, 1)
		go func() { outcome <- p.attempt(t, time.Minute) }()
		time.Sleep(time.Second)
		if a := p.attempt(t, time.Second); a.Error != ErrorTimeout || !a.Reused {
			t.Fatalf("the attempt that times out: %+v", a)
		}
		second := p.attempt(t, time.Minute)
		if !second.Delivered() || second.Reused {
			t.Errorf("after the timeout: %+v", second)
		}
		if a := <-outcome; !a.Delivered() || a.Repeated != "" || a.Duration != 10*time.Second {
			t.Errorf("the attempt that was on the connection: %+v", a)
		}
		synctest.Wait()
		if pool := poolOf(p.sender); p.dials() != 2 || len(pool.hosts[hostKey{"https", "example.com"}].all) != 1 {
			t.Errorf("%d connections were made; %+v are kept", p.dials(), pool.hosts)
		}
	})
}

// An attempt whose response never ends holds no connection back, and its host is taken for dead as well.
func TestBodyThatTimesOutRetires(t *testing.T) {
	inEach(t, protocols, func(t *testing.T, protocol string) {
		first := true
		p, done := newPeer(protocol, func(w http.ResponseWriter, r *http.Request) {
			if w.Header(); first {
				first = false
				w.WriteHeader(http.StatusOK)
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			}
		}, nil)
		defer done()
		wantDelivered(t, p.attempt(t, time.Second)) // the status has decided
		if a := p.attempt(t, time.Second); !a.Delivered() || a.Reused {
			t.Errorf("%+v", a)
		}
	})
}

// closing serves HTTP/1. It answers the first requests of a connection, and ends the connection at the next one in the way that end says.
func closing(answers int, end func(p *peer, conn net.Conn, r *bufio.Reader)) func(*peer, net.Conn) {
	return func(p *peer, conn net.Conn) {
		r := bufio.NewReader(conn)
		for range answers {
			if takeRequest(r) != nil {
				return
			}
			p.requests.Add(1)
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
		end(p, conn, r)
	}
}

// swallow takes a request and says nothing.
func swallow(p *peer, _ net.Conn, r *bufio.Reader) {
	if takeRequest(r) == nil {
		p.requests.Add(1)
	}
}

// nodejs/node#20256, golang/go#22158, hyperium/hyper#3553: a server closes a kept connection just as it is used. Nothing of it is the
// endpoint's failure, and the trace tells of it: the endpoint has seen as many requests as attempts and repeats.
func TestClosedAsItIsUsed(t *testing.T) {
	inEach(t, protocols[:2], func(t *testing.T, protocol string) {
		p, done := newPeer(protocol, nil, closing(1, swallow))
		defer done()
		var outcomes []Outcome
		for range 30 {
			outcomes = append(outcomes, p.attempt(t, testTimeout))
		}
		wantRepeats(t, outcomes, 15+14, RepeatClosed) // a connection serves one request, and the next attempt finds it
		if n := p.requests.Load(); n != 30+29 {
			t.Errorf("the endpoint has seen %d requests for 30 attempts and 29 repeats", n)
		}
	})
}

// What is sent again is the same message: same id, same timestamp, same signature, same bytes.
func TestRepeatIsTheSameRequest(t *testing.T) {
	inEach(t, protocols[:1], func(t *testing.T, protocol string) {
		var seen []string
		p, done := newPeer(protocol, nil, func(_ *peer, conn net.Conn) {
			r := bufio.NewReader(conn)
			for first := true; ; first = false {
				req, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				body, _ := io.ReadAll(req.Body)
				seen = append(seen, fmt.Sprint(req.Header, string(body)))
				if !first {
					return
				}
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			}
		})
		defer done()
		p.attempt(t, testTimeout)
		time.Sleep(time.Second)
		if a := p.attempt(t, testTimeout); a.Repeated != RepeatClosed || a.Sent.Signature == "" {
			t.Errorf("%+v", a)
		}
		if len(seen) != 3 || seen[1] != seen[2] || seen[0] == seen[1] || !strings.Contains(seen[1], `{"n":1}`) {
			t.Errorf("requests:\n%s", strings.Join(seen, "\n"))
		}
	})
}

// Only a connection that was used before, and has given no byte of an answer, is no news about the endpoint.
func TestNoRepeat(t *testing.T) {
	for name, test := range map[string]struct {
		answers int
		end     func(p *peer, conn net.Conn, r *bufio.Reader)
		class   ErrorClass // "" for any
	}{
		"a new connection that is closed": {0, swallow, ErrorReset},
		"one byte of an answer": {1, func(p *peer, conn net.Conn, r *bufio.Reader) {
			swallow(p, conn, r)
			io.WriteString(conn, "H")
		}, ""},
		"an interim answer": {1, func(p *peer, conn net.Conn, r *bufio.Reader) {
			swallow(p, conn, r)
			io.WriteString(conn, "HTTP/1.1 103 Early Hints\r\n\r\n")
		}, ErrorReset},
		"a malformed answer": {1, func(p *peer, conn net.Conn, r *bufio.Reader) {
			swallow(p, conn, r)
			io.WriteString(conn, "nonsense\r\n\r\n")
		}, ErrorProtocol},
		"a timeout": {1, func(p *peer, conn net.Conn, r *bufio.Reader) {
			swallow(p, conn, r)
			io.Copy(io.Discard, conn)
		}, ErrorTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			inEach(t, protocols[:2], func(t *testing.T, protocol string) {
				p, done := newPeer(protocol, nil, closing(test.answers, test.end))
				defer done()
				for range test.answers {
					wantDelivered(t, p.attempt(t, testTimeout))
				}
				a := p.attempt(t, testTimeout)
				if a.Delivered() || test.class != "" && a.Error != test.class || a.Repeated != "" || p.requests.Load() != int32(test.answers)+1 || a.Reused != (test.answers > 0) {
					t.Errorf("%+v; the endpoint has seen %d requests", a, p.requests.Load())
				}
			})
		})
	}
}

// An endpoint that closes the new connection as well gets no third request.
func TestOneRepeatAtMost(t *testing.T) {
	inEach(t, protocols[:2], func(t *testing.T, protocol string) {
		var conns atomic.Int32
		p, done := newPeer(protocol, nil, func(p *peer, conn net.Conn) {
			if conns.Add(1) <= 3 {
				closing(1, swallow)(p, conn)
			} else {
				closing(0, swallow)(p, conn)
			}
		})
		defer done()
		// Three connections are kept. None of the others is tried before the new one.
		var warm sync.WaitGroup
		for range 3 {
			warm.Go(func() { p.attempt(t, testTimeout) })
		}
		warm.Wait()
		before := p.requests.Load()
		a := p.attempt(t, testTimeout)
		if a.Error != ErrorReset || a.Repeated != RepeatClosed || a.Reused || p.requests.Load() != before+2 {
			t.Errorf("%+v; the endpoint has seen %d more requests", a, p.requests.Load()-before)
		}
	})
}

// If there is no new connection to be had, the attempt fails with that, and tells that the request was sent.
func TestRepeatWithoutConnection(t *testing.T) {
	inEach(t, protocols[:2], func(t *testing.T, protocol string) {
		p, done := newPeer(protocol, nil, closing(1, swallow))
		defer done()
		wantDelivered(t, p.attempt(t, testTimeout))
		poolOf(p.sender).dialNet = func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
		}
		if a := p.attempt(t, testTimeout); a.Error != ErrorRefused || a.Repeated != RepeatClosed || a.Reused || a.Sent.Signature == "" {
			t.Errorf("%+v", a)
		}
	})
}

// A connection that was closed before anything was written costs nothing, and is no repeat.
func TestClosedBeforeItIsUsed(t *testing.T) {
	inEach(t, protocols[:2], func(t *testing.T, protocol string) {
		p, done := newPeer(protocol, nil, closing(1, func(*peer, net.Conn, *bufio.Reader) {}))
		defer done()
		for range 5 {
			if a := p.attempt(t, testTimeout); !a.Delivered() || a.Repeated != "" {
				t.Errorf("%+v", a)
			}
			synctest.Wait()
		}
		if p.requests.Load() != 5 || p.dials() != 5 {
			t.Errorf("%d requests, %d connections", p.requests.Load(), p.dials())
		}
	})
}

// An attempt does not outlast its time because nobody reads the connection that it wants to use again.
func TestReaderStaysAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		w := newWire(near, func() {})
		w.rest()
		ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
		defer cancel()
		if began := time.Now(); w.take(ctx) || time.Since(began) != testTimeout {
			t.Errorf("the connection could be used, or was waited for too long: %v", time.Since(began))
		}
	})
}

// frames serves HTTP/2 by hand. It answers the first requests of a connection, and hands the next one to end.
func frames(answers int, end func(f *http2.Framer, conn net.Conn, stream uint32)) func(*peer, net.Conn) {
	return func(p *peer, conn net.Conn) {
		if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		f := http2.NewFramer(conn, conn)
		f.WriteSettings()
		for left := answers; ; {
			frame, err := f.ReadFrame()
			if err != nil {
				return
			}
			ended, stream := false, frame.Header().StreamID
			switch frame := frame.(type) {
			case *http2.PingFrame:
				f.WritePing(true, frame.Data)
			case *http2.HeadersFrame: // of a GET
				ended = frame.StreamEnded()
			case *http2.DataFrame:
				ended = frame.StreamEnded()
			}
			if !ended {
				continue
			}
			p.requests.Add(1)
			if left--; left < 0 {
				end(f, conn, stream)
				continue
			}
			answer200(f, stream)
		}
	}
}

func answer200(f *http2.Framer, stream uint32) {
	var block bytes.Buffer
	hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
	f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true})
}

// What an HTTP/2 peer may do to a request on a connection that has served others. golang/go#47635 tells of PROTOCOL_ERROR.
func TestHTTP2Ends(t *testing.T) {
	for name, test := range map[string]struct {
		end    func(f *http2.Framer, conn net.Conn, stream uint32)
		reason Repeat // "" if the request is not repeated
	}{
		"closed": {func(_ *http2.Framer, conn net.Conn, _ uint32) { conn.Close() }, RepeatClosed},
		"GOAWAY that leaves the request out": {func(f *http2.Framer, _ net.Conn, stream uint32) {
			f.WriteGoAway(stream-2, http2.ErrCodeNo, nil)
		}, RepeatRefused},
		"GOAWAY, then closed": {func(f *http2.Framer, conn net.Conn, stream uint32) {
			f.WriteGoAway(stream, http2.ErrCodeNo, nil)
			conn.Close()
		}, RepeatClosed},
		"refused stream":         {func(f *http2.Framer, _ net.Conn, s uint32) { f.WriteRSTStream(s, http2.ErrCodeRefusedStream) }, RepeatRefused},
		"stream of a wrong kind": {func(f *http2.Framer, _ net.Conn, s uint32) { f.WriteRSTStream(s, http2.ErrCodeProtocol) }, RepeatRefused},
		"internal error":         {func(f *http2.Framer, _ net.Conn, s uint32) { f.WriteRSTStream(s, http2.ErrCodeInternal) }, ""},
		"cancelled":              {func(f *http2.Framer, _ net.Conn, s uint32) { f.WriteRSTStream(s, http2.ErrCodeCancel) }, ""},
		"calm":                   {func(f *http2.Framer, _ net.Conn, s uint32) { f.WriteRSTStream(s, http2.ErrCodeEnhanceYourCalm) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			inEach(t, []string{"HTTP/2.0"}, func(t *testing.T, protocol string) {
				p, done := newPeer(protocol, nil, frames(2, test.end))
				defer done()
				for range 2 {
					wantDelivered(t, p.attempt(t, testTimeout))
				}
				a := p.attempt(t, testTimeout)
				if test.reason == "" {
					if a.Error != ErrorReset || a.Repeated != "" || p.requests.Load() != 3 {
						t.Errorf("%+v; the endpoint has seen %d requests", a, p.requests.Load())
					}
					return
				}
				wantRepeats(t, []Outcome{a}, 1, test.reason)
				if p.requests.Load() != 4 || p.dials() != 2 {
					t.Errorf("the endpoint has seen %d requests on %d connections", p.requests.Load(), p.dials())
				}
			})
		})
	}
}

// wanting1 serves HTTP/1.1, and refuses HTTP/2 after the first answers of each connection.
func wanting1(answers int) func(*peer, net.Conn) {
	return func(p *peer, conn net.Conn) {
		if conn.(*tls.Conn).ConnectionState().NegotiatedProtocol != "h2" {
			closing(100, swallow)(p, conn)
			return
		}
		frames(answers, func(f *http2.Framer, _ net.Conn, s uint32) { f.WriteRSTStream(s, http2.ErrCodeHTTP11Required) })(p, conn)
	}
}

// dotnet/runtime#133317: a peer that wants HTTP/1.1 gets it, and its HTTP/2 connections are not used again.
func TestHTTP11RequiredLater(t *testing.T) {
	inEach(t, []string{"HTTP/2.0"}, func(t *testing.T, protocol string) {
		p, done := newPeer(protocol, nil, wanting1(2))
		defer done()
		for range 2 {
			wantDelivered(t, p.attempt(t, testTimeout))
		}
		for _, repeated := range []Repeat{RepeatHTTP1, "", ""} {
			a := p.attempt(t, testTimeout)
			if wantDelivered(t, a); a.Protocol != "HTTP/1.1" || a.Repeated != repeated || a.Reused != (repeated == "") {
				t.Errorf("over %s, repeated %q, reused %t", a.Protocol, a.Repeated, a.Reused)
			}
		}
		synctest.Wait()
		if conns := poolOf(p.sender).hosts[hostKey{"https", "example.com"}].all; p.requests.Load() != 2+2+2 || len(conns) != 1 {
			t.Errorf("the endpoint has seen %d requests; %d connections are kept", p.requests.Load(), len(conns))
		}
	})
}

// What is on the HTTP/2 connection of a peer that wants HTTP/1.1 for another request goes on.
func TestHTTP11RequiredBesideOthers(t *testing.T) {
	inEach(t, []string{"HTTP/2.0"}, func(t *testing.T, protocol string) {
		p, done := newPeer(protocol, nil, func(p *peer, conn net.Conn) {
			if conn.(*tls.Conn).ConnectionState().NegotiatedProtocol != "h2" {
				wanting1(0)(p, conn)
				return
			}
			frames(0, func(f *http2.Framer, _ net.Conn, stream uint32) {
				if stream > 1 {
					f.WriteRSTStream(stream, http2.ErrCodeHTTP11Required)
					time.Sleep(time.Second)
					answer200(f, 1)
				}
			})(p, conn)
		})
		defer done()
		first := make(chan Outcome, 1)
		go func() { first <- p.attempt(t, testTimeout) }()
		synctest.Wait()
		if a := p.attempt(t, testTimeout); !a.Delivered() || a.Repeated != RepeatHTTP1 || a.Reused {
			t.Errorf("%+v", a)
		}
		if a := <-first; !a.Delivered() || a.Repeated != "" || a.Protocol != protocol {
			t.Errorf("beside it: %+v", a)
		}
		synctest.Wait()
		if conns := poolOf(p.sender).hosts[hostKey{"https", "example.com"}].all; len(conns) != 1 {
			t.Errorf("%d connections are kept", len(conns))
		}
	})
}

// An attempt sends its request twice at most.
func TestHTTP11RequiredAfterRepeat(t *testing.T) {
	inEach(t, []string{"HTTP/2.0"}, func(t *testing.T, protocol string) {
		var conns atomic.Int32
		p, done := newPeer(protocol, nil, func(p *peer, conn net.Conn) {
			if conns.Add(1) == 1 {
				frames(1, func(_ *http2.Framer, conn net.Conn, _ uint32) { conn.Close() })(p, conn)
			} else {
				wanting1(0)(p, conn)
			}
		})
		defer done()
		wantDelivered(t, p.attempt(t, testTimeout))
		a := p.attempt(t, testTimeout)
		if a.Repeated != RepeatClosed || a.Error != ErrorReset || !strings.HasSuffix(a.ErrorDetail, "HTTP_1_1_REQUIRED; it wants HTTP/1.1: set http2 = false") || p.requests.Load() != 3 {
			t.Errorf("%+v; the endpoint has seen %d requests", a, p.requests.Load())
		}
		if a := p.attempt(t, testTimeout); !a.Delivered() || a.Repeated != RepeatHTTP1 {
			t.Errorf("the next attempt: %+v", a)
		}
	})
}

// Attempts that begin together share a new HTTP/2 connection. If it ends after it has served one of them, that says as little to the attempt
// that made it as to the others.
func TestSharedNewConnectionEnds(t *testing.T) {
	inEach(t, []string{"HTTP/2.0"}, func(t *testing.T, protocol string) {
		var conns atomic.Int32
		p, done := newPeer(protocol, nil, func(p *peer, conn net.Conn) {
			if conns.Add(1) > 1 {
				frames(10, nil)(p, conn)
				return
			}
			frames(0, func(f *http2.Framer, conn net.Conn, stream uint32) {
				if stream > 1 {
					answer200(f, stream)
					conn.Close()
				}
			})(p, conn)
		})
		defer done()
		first := make(chan Outcome, 1)
		go func() { first <- p.attempt(t, testTimeout) }()
		synctest.Wait()
		if a := p.attempt(t, testTimeout); !a.Delivered() || a.Repeated != "" || !a.Reused {
			t.Errorf("%+v", a)
		}
		wantRepeats(t, []Outcome{<-first}, 1, RepeatClosed)
	})
}

// The new connection of a repeat is its own until it has the answer: others could end it, and there is no second repeat.
func TestRepeatSharesNoConnection(t *testing.T) {
	inEach(t, []string{"HTTP/2.0"}, func(t *testing.T, protocol string) {
		var conns atomic.Int32
		p, done := newPeer(protocol, nil, func(p *peer, conn net.Conn) {
			switch conns.Add(1) {
			case 1:
				frames(1, func(_ *http2.Framer, conn net.Conn, _ uint32) { conn.Close() })(p, conn)
			case 2:
				frames(0, func(f *http2.Framer, _ net.Conn, stream uint32) {
					if stream == 1 {
						time.Sleep(time.Second)
					}
					answer200(f, stream)
				})(p, conn)
			default:
				frames(0, func(f *http2.Framer, conn net.Conn, stream uint32) { answer200(f, stream); conn.Close() })(p, conn)
			}
		})
		defer done()
		wantDelivered(t, p.attempt(t, testTimeout))
		first := make(chan Outcome, 1)
		go func() { first <- p.attempt(t, testTimeout) }()
		synctest.Wait()
		if a := p.attempt(t, testTimeout); !a.Delivered() || a.Reused {
			t.Errorf("beside the repeat: %+v", a)
		}
		wantRepeats(t, []Outcome{<-first}, 1, RepeatClosed)
		if a := p.attempt(t, testTimeout); !a.Delivered() || !a.Reused || p.dials() != 3 { // the one of the repeat takes others now
			t.Errorf("later: %+v, %d connections", a, p.dials())
		}
	})
}

// On a new connection, too, a peer may say that it has not processed the request. It is taken at its word once.
func TestHTTP2RefusedOnNewConnection(t *testing.T) {
	inEach(t, []string{"HTTP/2.0"}, func(t *testing.T, protocol string) {
		p, done := newPeer(protocol, nil, frames(0, func(f *http2.Framer, _ net.Conn, s uint32) { f.WriteRSTStream(s, http2.ErrCodeRefusedStream) }))
		defer done()
		a := p.attempt(t, testTimeout)
		if a.Error != ErrorReset || a.Repeated != RepeatRefused || a.Reused || p.requests.Load() != 2 {
			t.Errorf("%+v; the endpoint has seen %d requests", a, p.requests.Load())
		}
		p2, done := newPeer(protocol, nil, frames(0, func(_ *http2.Framer, conn net.Conn, _ uint32) { conn.Close() }))
		defer done()
		if a := p2.attempt(t, testTimeout); a.Error != ErrorReset || a.Repeated != "" || p2.requests.Load() != 1 {
			t.Errorf("closed: %+v; the endpoint has seen %d requests", a, p2.requests.Load())
		}
	})
}

// Bytes behind an answer, or before one is asked for, are in no case the next answer, and nobody is told of them in the log.
func TestNothingIsReadAsTheNextAnswer(t *testing.T) {
	const forged = "HTTP/1.1 299 Forged\r\nContent-Length: 0\r\n\r\n"
	for name, answer := range map[string]struct {
		text   string
		status int
		later  string // sent when the client has had the answer
	}{
		"204 with a length":            {"HTTP/1.1 204 No Content\r\nContent-Length: 42\r\n\r\n", 204, forged},
		"204 with chunks":              {"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", 204, forged},
		"304 with a length":            {"HTTP/1.1 304 Not Modified\r\nContent-Length: 42\r\n\r\n", 304, forged},
		"205 with a length":            {"HTTP/1.1 205 Reset Content\r\nContent-Length: 2\r\n\r\nok", 205, forged},
		"interim answer with a length": {"HTTP/1.1 103 Early Hints\r\nContent-Length: 42\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, forged},
		"two answers at once":          {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" + forged, 200, ""},
		"a body and more":              {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + forged, 200, ""},
		"204 with a body":              {"HTTP/1.1 204 No Content\r\nContent-Length: 42\r\n\r\n" + forged, 204, ""},
		"unasked, later":               {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, forged},
		"408, later":                   {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			inEach(t, protocols[:2], func(t *testing.T, protocol string) {
				var logged bytes.Buffer
				log.SetOutput(&logged)
				defer log.SetOutput(io.Discard)
				p, done := newPeer(protocol, nil, func(p *peer, conn net.Conn) {
					r := bufio.NewReader(conn)
					for takeRequest(r) == nil {
						p.requests.Add(1)
						io.WriteString(conn, answer.text)
						time.Sleep(time.Millisecond) // the client has put the connection away
						if answer.later != "" {
							io.WriteString(conn, answer.later)
						}
					}
				})
				defer done()
				for i := range 6 {
					a := p.attempt(t, testTimeout)
					if a.Status != answer.status || a.Repeated != "" || a.Reused {
						t.Errorf("%d: got %d, repeated %q, reused %t; want %d on a new connection", i, a.Status, a.Repeated, a.Reused, answer.status)
					}
					if i%2 == 0 && answer.later != "" && strings.Contains(name, "later") || i%2 == 1 {
						time.Sleep(time.Second)
						synctest.Wait()
					}
				}
				synctest.Wait()
				if answer.later != "" && logged.Len() > 0 {
					t.Errorf("logged: %s", logged.String())
				}
			})
		})
	}
}

// What is no body of its own, or is said to be empty, leaves the connection as it is.
func TestAnswersThatMayBeFollowed(t *testing.T) {
	for _, text := range []string{"HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 304 Not Modified\r\n\r\n",
		"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"} {
		inEach(t, protocols[:2], func(t *testing.T, protocol string) {
			p, done := newPeer(protocol, nil, func(_ *peer, conn net.Conn) {
				for r := bufio.NewReader(conn); takeRequest(r) == nil; {
					io.WriteString(conn, text)
				}
			})
			defer done()
			for i := range 3 {
				if a := p.attempt(t, testTimeout); a.Status == 0 || a.Reused != (i > 0) {
					t.Errorf("%q, %d: %+v", text, i, a)
				}
			}
		})
	}
}

// Token endpoints close their connections as others do. #oauth2 libraries leave it to the transport.
func TestTokenRequestIsRepeated(t *testing.T) {
	inEach(t, protocols[:2], func(t *testing.T, protocol string) {
		const token = `{"access_token":"t","token_type":"bearer"}`
		seen := make(map[string]int)
		p, done := newPeer(protocol, nil, func(p *peer, conn net.Conn) {
			r := bufio.NewReader(conn)
			for answered := false; ; {
				req, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				body, _ := io.ReadAll(req.Body)
				seen[req.URL.Path]++
				if req.URL.Path == "/token" && answered {
					return // as it is used
				}
				if answered = true; req.URL.Path == "/token" {
					fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(token), token)
				} else if string(body) != `{"n":1}` {
					t.Errorf("body %q", body)
				} else {
					io.WriteString(conn, "HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")
				}
			}
		})
		defer done()
		for i := range 3 {
			r := requestTo(p.url)
			r.OAuth2, r.TokenKey = &OAuth2{TokenURL: Credential(p.url + "token"), Body: "grant"}, "1"
			a, err := p.sender.Send(t.Context(), r)
			if err != nil || a.Status != 401 || a.Repeated != "" || len(a.TokenRepeats) != min(i, 1) {
				t.Errorf("%d: %+v, %v", i, a, err)
			}
			p.sender.ForgetToken("1")
		}
		if seen["/token"] != 3+2 || seen["/"] != 3 {
			t.Errorf("requests: %v", seen)
		}
	})
}

// A webhook may want no HTTP/2.
func TestNoHTTP2(t *testing.T) {
	s := New(Options{AllowNetworks: loopback, UserAgent: "hookbolt/1.2.3"})
	defer s.CloseIdleConnections()
	server := newTLSServer(t, ok)
	for _, no := range []bool{false, true, false, true} {
		r := requestTo(server.URL)
		r.NoHTTP2 = no
		poolFor(s, &r).transport.TLSClientConfig = trustOf(server)
		a, err := s.Send(t.Context(), r)
		if want := map[bool]string{false: "HTTP/2.0", true: "HTTP/1.1"}[no]; err != nil || a.Protocol != want {
			t.Errorf("got %s, want %s: %+v, %v", a.Protocol, want, a, err)
		}
	}
	if len(s.transports.pools) != 2 {
		t.Errorf("%d pools", len(s.transports.pools))
	}
}

// An attempt that may not be made any more is not sent, however it got its connection, and the pool serves the next one. What a closed connection has swallowed
// is not sent again: the attempt has failed.
func TestMaySend(t *testing.T) {
	inEach(t, protocols, func(t *testing.T, protocol string) {
		p, done := newPeer(protocol, ok, nil)
		defer done()
		for _, connection := range []string{"new", "kept"} {
			r := requestTo(p.url)
			r.MaySend = func() bool { return false }
			before := p.requests.Load()
			if a, err := p.sender.Send(t.Context(), r); !errors.Is(err, ErrWithdrawn) || p.requests.Load() != before {
				t.Errorf("on a %s connection: %+v, %v, %d requests", connection, a, err, p.requests.Load()-before)
			}
			wantDelivered(t, p.attempt(t, testTimeout))
		}
	})
	synctest.Test(t, func(t *testing.T) {
		p, done := newPeer("HTTP/1.1", nil, func(p *peer, conn net.Conn) {
			in := bufio.NewReader(conn)
			for range 2 {
				r, err := http.ReadRequest(in)
				if err != nil {
					return
				}
				io.Copy(io.Discard, r.Body)
				if p.requests.Add(1) == 2 {
					return // without an answer
				}
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			}
		})
		defer done()
		wantDelivered(t, p.attempt(t, testTimeout))
		r := requestTo(p.url)
		asked := 0
		r.MaySend = func() bool { asked++; return asked == 1 }
		a, err := p.sender.Send(t.Context(), r)
		if err != nil || a.Delivered() || a.Error == "" || asked != 2 || p.requests.Load() != 2 {
			t.Errorf("%+v, %v; asked %d times, %d requests", a, err, asked, p.requests.Load())
		}
	})
}
