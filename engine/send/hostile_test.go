package send

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
)

// hostileGrowth is the most that one attempt may allocate, whatever the endpoint does. What the endpoint of the test allocates for
// itself counts as well.
const hostileGrowth = 5 << 20

// flood writes the same bytes until it has written enough or the other side has had enough, and returns how much that was.
func flood(w io.Writer, chunk []byte, enough int64) (written int64) {
	for written < enough {
		n, err := w.Write(chunk)
		written += int64(n)
		if err != nil {
			break
		}
	}
	return written
}

// TestHostileEndpoints: whatever an endpoint does, an attempt ends as one failed attempt of a class that tells what was wrong, in
// bounded memory; and of an endless answer not much more is taken than is kept.
func TestHostileEndpoints(t *testing.T) {
	const (
		gigabyte = int64(1) << 30
		taken    = int64(16) << 20 // what the system's buffers may have taken before the connection was closed
	)
	chunk := bytes.Repeat([]byte("x"), 64<<10)
	var bomb bytes.Buffer // a MiB in a KiB; gzip files may stand one after another
	z, _ := gzip.NewWriterLevel(&bomb, gzip.BestSpeed)
	z.Write(make([]byte, 1<<20))
	z.Close()

	type hostile struct {
		status  int
		class   ErrorClass
		detail  string
		serve   func(conn net.Conn) int64 // after the request was read; returns how many bytes of an endless answer were written
		enough  int64
		overTLS bool
	}
	for name, h := range map[string]hostile{
		"10 GB in chunks": {500, ErrorStatus, "answered 500", func(conn net.Conn) int64 {
			io.WriteString(conn, "HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n")
			return flood(conn, fmt.Appendf(nil, "%x\r\n%s\r\n", len(chunk), chunk), 10*gigabyte)
		}, 10 * gigabyte, false},
		"a chunk without end": {500, ErrorStatus, "answered 500", func(conn net.Conn) int64 {
			io.WriteString(conn, "HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n")
			return flood(conn, chunk, 10*gigabyte)
		}, 10 * gigabyte, false},
		"1 GB of gzip": {500, ErrorStatus, "answered 500", func(conn net.Conn) int64 {
			io.WriteString(conn, "HTTP/1.1 500 No\r\nContent-Encoding: gzip\r\n\r\n")
			return flood(conn, bomb.Bytes(), gigabyte>>20*int64(bomb.Len()))
		}, 0, false},
		"100 MB of header": {0, ErrorTooLarge, "more than 32768 bytes", func(conn net.Conn) int64 {
			io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
			return flood(conn, []byte(strings.Repeat("X-Header: "+strings.Repeat("v", 1000)+"\r\n", 64)), 100<<20)
		}, 100 << 20, false},
		"a header line without end": {0, ErrorTooLarge, "more than 32768 bytes", func(conn net.Conn) int64 {
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nX: ")
			return flood(conn, chunk, 100<<20)
		}, 100 << 20, false},
		"a status line without end": {0, ErrorTooLarge, "more than 32768 bytes", func(conn net.Conn) int64 {
			io.WriteString(conn, "HTTP/1.1 200 ")
			return flood(conn, chunk, 100<<20)
		}, 100 << 20, false},
		"interim answers without end": {0, ErrorTooLarge, "more than 32768 bytes", func(conn net.Conn) int64 {
			return flood(conn, []byte(strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", 100)), gigabyte)
		}, gigabyte, false},
		"a reset after the request": {0, ErrorReset, "reset the connection", func(conn net.Conn) int64 {
			conn.(*net.TCPConn).SetLinger(0)
			return 0
		}, 0, false},
		"the end after the request": {0, ErrorReset, "closed the connection", func(net.Conn) int64 { return 0 }, 0, false},
		"the end within the header": {0, ErrorReset, "within the header", func(conn net.Conn) int64 {
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nX-Y: z\r\n")
			return 0
		}, 0, false},
		"something else than HTTP": {0, ErrorProtocol, "does not speak HTTP", func(conn net.Conn) int64 {
			io.WriteString(conn, "220 mail.example ESMTP\r\n")
			return 0
		}, 0, false},
		"a status of no class": {0, ErrorProtocol, "three digits", func(conn net.Conn) int64 {
			io.WriteString(conn, "HTTP/1.1 000 Nothing\r\n\r\n")
			return 0
		}, 0, false},
		"switching protocols": {101, ErrorStatus, "answered 101", func(conn net.Conn) int64 {
			io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
			return flood(conn, chunk, gigabyte)
		}, gigabyte, false},
		"an invalid certificate": {0, ErrorTLS, "certificate", func(net.Conn) int64 { return 0 }, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			written := make(chan int64, 1)
			serve := func(conn net.Conn) {
				if takeRequest(bufio.NewReader(conn)) == nil {
					written <- h.serve(conn)
				}
			}
			address, accepted := serveRaw(t, func(conn *net.TCPConn) {
				if h.overTLS {
					server := httptest.NewUnstartedServer(nil)
					server.StartTLS()
					defer server.Close()
					tls.Server(conn, server.TLS).Handshake()
					return
				}
				serve(conn)
			})
			scheme := "http://"
			if h.overTLS {
				scheme = "https://"
			}
			s, _ := testSender(t, loopback...)
			runtime.GC()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			a := try(t, s, scheme+address+secretPath, testTimeout)
			runtime.ReadMemStats(&after)
			wantClass(t, a, h.class, h.detail)
			if a.Status != h.status || accepted.Load() != 1 {
				t.Errorf("status %d, %d connections", a.Status, accepted.Load())
			}
			// All that was allocated, not what is left of it.
			if grown := after.TotalAlloc - before.TotalAlloc; grown > hostileGrowth {
				t.Errorf("%d KiB were allocated", grown>>10)
			}
			if h.enough > 0 {
				if n := <-written; n >= min(h.enough, taken) {
					t.Errorf("%d MiB of the answer were taken", n>>20)
				}
			}
		})
	}
}

// TestHostileHTTP2 is the same for an endpoint that speaks HTTP/2.
func TestHostileHTTP2(t *testing.T) {
	chunk := bytes.Repeat([]byte("x"), 64<<10)
	written := make(chan int64, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/body":
			w.WriteHeader(500)
			written <- flood(w, chunk, 10<<30)
		case "/header":
			for i := range 2000 { // 60 times the limit; more would keep a slow machine busy for longer than the attempt
				w.Header().Set(fmt.Sprintf("X-%d", i), strings.Repeat("v", 1000))
			}
		case "/interim":
			for range 1_000_000 {
				w.WriteHeader(103)
				if r.Context().Err() != nil {
					return
				}
			}
		case "/abort":
			panic(http.ErrAbortHandler)
		}
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	s, transport := testSender(t, loopback...)
	transport.TLSClientConfig = server.Client().Transport.(*http.Transport).TLSClientConfig
	transport.TLSClientConfig.NextProtos = nil
	for path, want := range map[string]struct {
		status int
		class  ErrorClass
	}{
		"/ok": {200, ""}, "/body": {500, ErrorStatus}, "/header": {0, ErrorProtocol}, // for net/http that ends the connection
		"/interim": {0, ErrorTooLarge}, "/abort": {0, ErrorReset},
	} {
		t.Run(path, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			a := try(t, s, server.URL+path, testTimeout)
			runtime.ReadMemStats(&after)
			if a.Status != want.status || a.Error != want.class || a.Status != 0 && a.Protocol != "HTTP/2.0" {
				t.Errorf("got %d by %s, %q: %s", a.Status, a.Protocol, a.Error, a.ErrorDetail)
			}
			if path == "/body" {
				if n := <-written; n > 2<<20 {
					t.Errorf("%d KiB of the answer were taken", n>>10)
				}
				if grown := after.TotalAlloc - before.TotalAlloc; grown > hostileGrowth {
					t.Errorf("%d KiB were allocated", grown>>10)
				}
			}
		})
	}
}
