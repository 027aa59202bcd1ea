package send

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"
)

func wantClass(t *testing.T, a Outcome, want ErrorClass, detail string) {
	t.Helper()
	if a.Error != want || !strings.Contains(a.ErrorDetail, detail) {
		t.Errorf("got %q: %s; want %q: …%s…", a.Error, a.ErrorDetail, want, detail)
	}
}

func TestErrorClasses(t *testing.T) {
	once := func(answer string) func(*net.TCPConn) {
		return func(conn *net.TCPConn) {
			if takeRequest(bufio.NewReader(conn)) == nil {
				io.WriteString(conn, answer)
			}
		}
	}
	silent := func(conn *net.TCPConn) { io.Copy(io.Discard, conn) }
	repeating := func(first, again string) func(*net.TCPConn) {
		return func(conn *net.TCPConn) {
			if takeRequest(bufio.NewReader(conn)) != nil {
				return
			}
			io.WriteString(conn, first)
			for {
				if _, err := io.WriteString(conn, again); err != nil {
					return
				}
			}
		}
	}
	for _, tc := range []struct {
		name    string
		scheme  string
		handle  func(*net.TCPConn)
		timeout time.Duration
		want    ErrorClass
		detail  string
	}{
		{"reset", "http", func(conn *net.TCPConn) {
			takeRequest(bufio.NewReader(conn))
			conn.SetLinger(0)
		}, testTimeout, ErrorReset, ""},
		{"reset at once", "http", func(conn *net.TCPConn) { conn.SetLinger(0) }, testTimeout, ErrorReset, ""},
		{"no answer", "http", once(""), testTimeout, ErrorReset, "closed the connection without an answer"},
		{"half a header", "http", once("HTTP/1.1 200 OK\r\nX: y\r\n"), testTimeout, ErrorReset, "closed the connection within the header"},
		{"rubbish", "http", once("SSH-2.0-OpenSSH_9.9\r\n\r\n"), testTimeout, ErrorProtocol, "SSH"},
		{"echo", "http", func(conn *net.TCPConn) { io.Copy(conn, conn) }, testTimeout, ErrorProtocol, "the echo protocol"},
		{"bad length", "http", once("HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n"), testTimeout, ErrorProtocol, ""},
		{"large header", "http", once("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 33<<10) + "\r\nContent-Length: 0\r\n\r\n"), testTimeout, ErrorTooLarge, "32768"},
		{"endless header", "http", repeating("HTTP/1.1 200 OK\r\n", strings.Repeat("X: 123456789\r\n", 100)), testTimeout, ErrorTooLarge, "32768"},
		{"1xx flood", "http", repeating("", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"), testTimeout, ErrorTooLarge, "32768"},
		{"silence", "http", silent, 50 * time.Millisecond, ErrorTimeout, "the timeout of 50ms ended while waiting"},
		{"slow header", "http", func(conn *net.TCPConn) {
			if takeRequest(bufio.NewReader(conn)) == nil {
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nX:")
				silent(conn)
			}
		}, 50 * time.Millisecond, ErrorTimeout, "the timeout of 50ms ended within the header"},
		{"silence for a handshake", "https", silent, 50 * time.Millisecond, ErrorTimeout, "the timeout of 50ms ended during the TLS handshake"},
		{"not TLS", "https", func(conn *net.TCPConn) { // the port of an SSH or an SMTP server
			io.WriteString(conn, "220 mail.example.com ESMTP\r\n")
			silent(conn)
		}, testTimeout, ErrorTLS, "TLS"},
		{"end within the handshake", "https", func(conn *net.TCPConn) { conn.Read(make([]byte, 1<<16)) }, testTimeout, ErrorReset, "closed the connection during the TLS handshake"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			address, _ := serveRaw(t, tc.handle)
			s, _ := testSender(t, loopback...)
			a := try(t, s, tc.scheme+"://"+address+secretPath, tc.timeout)
			wantClass(t, a, tc.want, tc.detail)
			if tc.want == ErrorTimeout && (a.Duration < tc.timeout || a.Duration > testTimeout/2) {
				t.Errorf("it took %s, not %s", a.Duration, tc.timeout)
			}
			if a.Status != 0 || a.Response != nil {
				t.Errorf("an answer was taken: %d %q", a.Status, a.Response)
			}
		})
	}

	t.Run("header within the bound", func(t *testing.T) {
		address, _ := serveRaw(t, answering("HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 24<<10)+"\r\nContent-Length: 0\r\n\r\n"))
		s, _ := testSender(t, loopback...)
		wantDelivered(t, try(t, s, "http://"+address+secretPath, testTimeout))
	})
	t.Run("a few 1xx", func(t *testing.T) {
		address, _ := serveRaw(t, answering("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
		s, _ := testSender(t, loopback...)
		wantDelivered(t, try(t, s, "http://"+address+secretPath, testTimeout))
	})
	t.Run("refused", func(t *testing.T) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listener.Close()
		s, _ := testSender(t, loopback...)
		wantClass(t, try(t, s, "http://"+listener.Addr().String()+secretPath, testTimeout), ErrorRefused, "connection refused")
	})
	t.Run("dns", func(t *testing.T) { // no look-up: a name's label has at most 63 characters
		s, _ := testSender(t, loopback...)
		wantClass(t, try(t, s, "http://"+strings.Repeat("a", 64)+".invalid"+secretPath, testTimeout), ErrorDNS, "no such host")
	})
	t.Run("bad URL", func(t *testing.T) {
		s, _ := testSender(t, loopback...)
		a := try(t, s, "http://127.0.0.1/hidden%zz?token=sekret", testTimeout)
		wantClass(t, a, ErrorInternal, "make request")
		if strings.Contains(a.ErrorDetail, "%zz") {
			t.Errorf("the detail holds a part of the path: %s", a.ErrorDetail)
		}
	})
	t.Run("bad secret", func(t *testing.T) {
		address, accepted := serveRaw(t, silent)
		s, _ := testSender(t, loopback...)
		r := requestTo("http://" + address + secretPath)
		r.Secrets = []Secret{"whsec_c2hvcnQ="}
		a, err := s.Send(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		wantClass(t, a, ErrorInternal, "signing secret: must be whsec_")
		if strings.Contains(a.ErrorDetail, "c2hvcnQ") || accepted.Load() != 0 {
			t.Errorf("the secret was told, or sent: %s", a.ErrorDetail)
		}
	})
}

func TestTLS(t *testing.T) {
	newServer := func(t *testing.T, change func(*httptest.Server)) (*httptest.Server, *x509.CertPool) {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) }))
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		change(server)
		server.StartTLS()
		t.Cleanup(server.Close)
		pool := x509.NewCertPool()
		pool.AddCert(server.Certificate())
		return server, pool
	}
	asIs := func(*httptest.Server) {}
	t.Run("unknown certificate", func(t *testing.T) {
		server, _ := newServer(t, asIs)
		s, _ := testSender(t, loopback...)
		wantClass(t, try(t, s, server.URL+secretPath, testTimeout), ErrorTLS, "certificate")
	})
	t.Run("another name's certificate", func(t *testing.T) {
		server, pool := newServer(t, asIs)
		s, transport := testSender(t, loopback...)
		transport.TLSClientConfig = &tls.Config{RootCAs: pool}
		wantClass(t, try(t, s, strings.Replace(server.URL, "127.0.0.1", "localhost", 1)+secretPath, testTimeout), ErrorTLS, "localhost")
	})
	t.Run("old version", func(t *testing.T) {
		server, pool := newServer(t, func(s *httptest.Server) {
			s.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
		})
		s, transport := testSender(t, loopback...)
		transport.TLSClientConfig = &tls.Config{RootCAs: pool}
		wantClass(t, try(t, s, server.URL+secretPath, testTimeout), ErrorTLS, "version")
	})
	t.Run("plain HTTP", func(t *testing.T) {
		server := httptest.NewUnstartedServer(http.NotFoundHandler())
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.Start()
		defer server.Close()
		s, _ := testSender(t, loopback...)
		wantClass(t, try(t, s, strings.Replace(server.URL, "http:", "https:", 1)+secretPath, testTimeout), ErrorTLS, "plain HTTP")
	})
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("trusted, HTTP/2: %t", http2), func(t *testing.T) {
			server, pool := newServer(t, func(s *httptest.Server) { s.EnableHTTP2 = http2 })
			s, transport := testSender(t, loopback...)
			transport.TLSClientConfig = &tls.Config{RootCAs: pool}
			a := try(t, s, server.URL+secretPath, testTimeout)
			wantDelivered(t, a)
			if want := map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[http2]; string(a.Response) != want {
				t.Errorf("over %s, want %s", a.Response, want)
			}
		})
	}
}

// TestClassify has what real sockets on 127.0.0.1 do not bring about.
func TestClassify(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want ErrorClass
	}{
		{&net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "example.com", IsNotFound: true}}, ErrorDNS},
		{&net.OpError{Op: "dial", Err: &net.DNSError{Err: "i/o timeout", Name: "example.com", IsTimeout: true}}, ErrorTimeout},
		{&net.OpError{Op: "dial", Err: syscall.ENETUNREACH}, ErrorRefused},
		{&net.OpError{Op: "dial", Err: syscall.EHOSTUNREACH}, ErrorRefused},
		{&net.OpError{Op: "dial", Err: syscall.ETIMEDOUT}, ErrorTimeout},
		{&net.OpError{Op: "write", Err: syscall.EPIPE}, ErrorReset},
		{&net.OpError{Op: "read", Err: syscall.ECONNRESET}, ErrorReset},
		{fmt.Errorf("transport connection broken: %w", io.ErrUnexpectedEOF), ErrorReset},
		{errors.New("http: server closed idle connection"), ErrorReset},
		{&net.OpError{Op: "remote error", Err: tls.AlertError(40)}, ErrorTLS},
		{context.DeadlineExceeded, ErrorTimeout},
		{errors.New("something new"), ErrorProtocol},
	} {
		class, detail := classify(tc.err, situation{timeout: time.Second})
		if class != tc.want || detail == "" || strings.Contains(detail, "sekret") {
			t.Errorf("%v: got %q: %s; want %q", tc.err, class, detail, tc.want)
		}
	}
}
