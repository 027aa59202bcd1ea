package httpapi

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pipeListener serves connections that never touch the network, so that fake time works.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	close(l.closed)
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.IPAddr{} }

// startServer serves a fixture on pipes and returns a way to connect.
func startServer(t *testing.T, f *fixture) (dial func() net.Conn) {
	l := &pipeListener{make(chan net.Conn), make(chan struct{})}
	server := NewServer(f.h, slog.New(slog.NewTextHandler(f.log, nil)))
	server.Protocols = new(http.Protocols)
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true) // in the place of TLS's
	ended := make(chan error)
	go func() { ended <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Close()
		if err := <-ended; err != http.ErrServerClosed {
			t.Error(err)
		}
	})
	return func() net.Conn {
		ours, theirs := net.Pipe()
		l.conns <- theirs
		t.Cleanup(func() { ours.Close() })
		return ours
	}
}

func TestServerHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Config{})
		f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/"}`)
		f.want(202, "POST", "/v1/events", start(sessionA))
		c := startServer(t, f)()
		in := bufio.NewReader(c)
		for _, target := range []string{"/", "/healthz", "/metrics", "/v1/webhooks", "/v1/webhooks/1", "/v1/webhooks/1/secret", "/v1/sessions/" + sessionA, "/v1/deliveries", "/hookbolt.js", "/nothing"} {
			status := make(map[string]int)
			for _, method := range []string{"GET", "HEAD"} { // on one connection: a stray body would be read as the next answer
				fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: localhost\r\n\r\n", method, target)
				resp, err := http.ReadResponse(in, &http.Request{Method: method})
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(resp.Body)
				if err != nil {
					t.Fatal(err)
				}
				if (len(body) == 0) != (method == "HEAD") {
					t.Errorf("%s %s: %d bytes", method, target, len(body))
				}
				status[method] = resp.StatusCode
			}
			if status["GET"] != status["HEAD"] {
				t.Errorf("%s: %v", target, status)
			}
		}
	})
}

// TestServerTimeouts shows what slow and idle clients get, in fake time.
func TestServerTimeouts(t *testing.T) {
	for _, c := range []struct {
		name, send string
		after      time.Duration
		want       string // what the answer begins with; "" for none
	}{
		{"no request", "", 10 * time.Second, ""},
		{"half a header", "POST /v1/events HTTP/1.1\r\nHost: loc", 10 * time.Second, ""},
		{"half a body", "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n" + start(sessionA), 30 * time.Second, "HTTP/1.1 408 "},
		{"half a chunk", "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n" + start(sessionA), 30 * time.Second, "HTTP/1.1 408 "},
		{"idle", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 2 * time.Minute, "HTTP/1.1 200 "},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, Config{})
				conn := startServer(t, f)()
				began := time.Now()
				if _, err := io.WriteString(conn, c.send); err != nil {
					t.Fatal(err)
				}
				answer, err := io.ReadAll(conn) // until the server hangs up
				if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took < c.after || took > c.after+time.Second {
					t.Errorf("the server hung up after %s, want %s", took, c.after)
				}
				if got := string(answer); !strings.HasPrefix(got, c.want) || c.want == "" && got != "" {
					t.Errorf("got %q", got)
				}
				nothingStored(t, f)
			})
		})
	}
}

func TestServerLargeInput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Config{MaxBodyBytes: 1000})
		dial := startServer(t, f)
		for _, c := range []struct{ send, want string }{
			{"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n", "HTTP/1.1 431 "},
			{"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1001\r\nExpect: 100-continue\r\n\r\n", "HTTP/1.1 413 "},
			{"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n" + strings.Repeat(" ", 2000) + "\r\n", "HTTP/1.1 413 "},
		} {
			conn := dial()
			go io.WriteString(conn, c.send) // the server may hang up before it has read all
			status := make([]byte, len(c.want))
			if _, err := io.ReadFull(conn, status); err != nil || string(status) != c.want {
				t.Errorf("got %q, %v; want %q", status, err, c.want)
			}
			conn.Close()
			time.Sleep(time.Second) // net/http lingers half a second, lest the client miss the answer
		}
	})
}
