package engine

import (
	"bufio"
	"bytes"
	"compress/gzip"
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
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
)

// sendPatience bounds an attempt that is not meant to time out.
const sendPatience = 20 * time.Second

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// testSender makes a sender as the engine does, with a transport of its own.
func testSender(t *testing.T, allow ...netip.Prefix) (*sender, *http.Transport) {
	t.Helper()
	s := newSender(Config{AllowNetworks: allow, Version: "1.2.3"})
	t.Cleanup(s.transports.closeIdleConnections)
	return s, s.transports.of(&Webhook{}).(*http.Transport)
}

// attempt makes one attempt at an endpoint and checks what holds for every one: the outcome is of one piece, and its detail holds
// nothing of the URL's path and query.
func attempt(t *testing.T, s *sender, endpoint string, timeout time.Duration) Attempt {
	t.Helper()
	w := &Webhook{URL: endpoint, Secret: newSecret()}
	a, err := s.send(t.Context(), w, &Delivery{ID: uuid.New()}, []byte(`{"n":1}`), timeout)
	if err != nil {
		t.Fatalf("no attempt: %v", err)
	}
	if (a.Error == "") != (a.ErrorDetail == "") || (a.Error == "" || a.Error == ErrorStatus) != (a.Status != 0) || a.Duration <= 0 || a.StartedAt.IsZero() {
		t.Errorf("the attempt contradicts itself: %+v", a)
	}
	for _, part := range []string{"sekret", "token", "/hidden"} {
		if strings.Contains(a.ErrorDetail, part) {
			t.Errorf("the detail holds %q of the URL: %s", part, a.ErrorDetail)
		}
	}
	if len(a.Response) > maxResponseBytes {
		t.Errorf("%d bytes of the answer are kept", len(a.Response))
	}
	return a
}

// secretPath is the part of a URL that no detail may hold.
const secretPath = "/hidden?token=sekret"

func wantDelivered(t *testing.T, a Attempt) {
	t.Helper()
	if !a.Delivered() || a.Status != 200 {
		t.Fatalf("got %d, %s: %s; want a success", a.Status, a.Error, a.ErrorDetail)
	}
}

// serveRaw runs handle on each connection to a port of 127.0.0.1 and returns the port and the number of connections so far.
func serveRaw(t *testing.T, handle func(conn *net.TCPConn)) (address string, accepted *atomic.Int32) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepted = new(atomic.Int32)
	var work sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	work.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			accepted.Add(1)
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			work.Go(func() {
				defer conn.Close()
				handle(conn.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		mu.Lock()
		for _, conn := range conns {
			conn.Close()
		}
		mu.Unlock()
		work.Wait()
	})
	return listener.Addr().String(), accepted
}

// takeRequest reads one request to its end.
func takeRequest(r *bufio.Reader) error {
	req, err := http.ReadRequest(r)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, req.Body)
	return err
}

// answering gives the same bytes as the answer to each request, and keeps the connection.
func answering(answer string) func(*net.TCPConn) {
	return func(conn *net.TCPConn) {
		for r := bufio.NewReader(conn); takeRequest(r) == nil; {
			io.WriteString(conn, answer)
		}
	}
}

func TestResponseIsKeptUpToItsBound(t *testing.T) {
	s, _ := testSender(t, loopback...)
	for _, size := range []int{0, 1, 1023, 1024, 1025, 5000} {
		body := strings.Repeat("0123456789abcde\n", size/16+1)[:size]
		address, _ := serveRaw(t, answering(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", size, body)))
		a := attempt(t, s, "http://"+address+secretPath, sendPatience)
		wantDelivered(t, a)
		if want := body[:min(size, 1024)]; string(a.Response) != want {
			t.Errorf("%d bytes of %d are kept, or others", len(a.Response), size)
		}
	}
}

func TestEndlessBody(t *testing.T) {
	const enough, timeout = 256 << 20, 10 * time.Second
	written := make(chan int, 1)
	address, _ := serveRaw(t, func(conn *net.TCPConn) {
		r := bufio.NewReader(conn)
		if takeRequest(r) != nil {
			return
		}
		io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
		chunk, total := bytes.Repeat([]byte("x"), 64<<10), 0
		for total < enough {
			n, err := conn.Write(chunk)
			total += n
			if err != nil {
				break
			}
		}
		io.Copy(io.Discard, r) // until the other side has had enough
		written <- total
	})
	s, _ := testSender(t, loopback...)
	a := attempt(t, s, "http://"+address+secretPath, timeout)
	wantDelivered(t, a)
	if string(a.Response) != strings.Repeat("x", 1024) {
		t.Errorf("%d bytes are kept", len(a.Response))
	}
	if a.Duration >= timeout {
		t.Errorf("it took %s: the body was waited for", a.Duration)
	}
	if n := <-written; n >= enough {
		t.Errorf("%d bytes of the body were taken", n)
	}
}

// A body that stalls or breaks does not undo the success that the status has said.
func TestBrokenBody(t *testing.T) {
	s, _ := testSender(t, loopback...)
	for name, after := range map[string]func(*net.TCPConn, *bufio.Reader){
		"stalls": func(_ *net.TCPConn, r *bufio.Reader) { io.Copy(io.Discard, r) },
		"ends":   func(*net.TCPConn, *bufio.Reader) {},
	} {
		address, _ := serveRaw(t, func(conn *net.TCPConn) {
			r := bufio.NewReader(conn)
			if takeRequest(r) == nil {
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun")
				after(conn, r)
			}
		})
		timeout := sendPatience
		if name == "stalls" {
			timeout = 500 * time.Millisecond // the wait is for this
		}
		a := attempt(t, s, "http://"+address+secretPath, timeout)
		wantDelivered(t, a)
		if string(a.Response) != "begun" {
			t.Errorf("%s: %q is kept", name, a.Response)
		}
	}
}

func TestConnectionIsUsedAgain(t *testing.T) {
	body := strings.Repeat("y", 1024)
	// What ends the body lies beyond the transport's buffer of 4 KiB: it takes a read past the last byte that is kept.
	chunked := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: "
	chunked += strings.Repeat("x", 4096-len(chunked)-len("\r\n\r\n400\r\n")-len(body)) + "\r\n\r\n400\r\n" + body + "\r\n0\r\n\r\n"
	for name, tc := range map[string]struct {
		answer string
		want   int32 // connections for three attempts
	}{
		"no body": {"HTTP/1.1 204 No Content\r\n\r\n", 1},
		"length":  {"HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n" + body, 1},
		"chunked": {chunked, 1},
		"failure": {"HTTP/1.1 500 No\r\nContent-Length: 1024\r\n\r\n" + body, 1},
		"larger":  {"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + body, 3},
	} {
		t.Run(name, func(t *testing.T) {
			address, accepted := serveRaw(t, answering(tc.answer+strings.Repeat("z", map[bool]int{true: 98976}[name == "larger"])))
			s, _ := testSender(t, loopback...)
			for range 3 {
				if a := attempt(t, s, "http://"+address+secretPath, sendPatience); a.Status == 0 {
					t.Fatalf("got %s: %s", a.Error, a.ErrorDetail)
				}
			}
			if n := accepted.Load(); n != tc.want {
				t.Errorf("%d connections, want %d", n, tc.want)
			}
		})
	}
}

func TestNoCompression(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	io.WriteString(z, strings.Repeat("bomb", 1<<18))
	z.Close()
	asked := make(chan []string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Header.Values("Accept-Encoding")
		w.Header().Set("Content-Encoding", "gzip")
		w.Write(packed.Bytes())
	}))
	defer server.Close()
	s, _ := testSender(t, loopback...)
	a := attempt(t, s, server.URL+secretPath, sendPatience)
	wantDelivered(t, a)
	if got := <-asked; len(got) != 0 {
		t.Errorf("it asked for %q", got)
	}
	if !bytes.Equal(a.Response, packed.Bytes()[:min(packed.Len(), 1024)]) {
		t.Errorf("the body was decoded: %.40q", a.Response)
	}
}

func TestRequestAsSent(t *testing.T) {
	type request struct {
		*http.Request
		body []byte
	}
	requests := make(chan request, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requests <- request{r, body}
	}))
	defer server.Close()
	s, _ := testSender(t, loopback...)
	w, d, payload := &Webhook{URL: server.URL + secretPath, Secret: newSecret()}, &Delivery{ID: uuid.New()}, []byte(`{"a": "ü"}`)
	a, err := s.send(t.Context(), w, d, payload, sendPatience)
	if err != nil {
		t.Fatal(err)
	}
	wantDelivered(t, a)
	r := <-requests
	if r.Method != "POST" || r.URL.String() != secretPath || !bytes.Equal(r.body, payload) || r.ContentLength != int64(len(payload)) {
		t.Errorf("got %s %s %q", r.Method, r.URL, r.body)
	}
	for name, want := range map[string]string{
		"User-Agent": "hookbolt/1.2.3", "Content-Type": "application/json", "Content-Length": strconv.Itoa(len(payload)),
		HeaderID: d.ID.String(), HeaderTimestamp: strconv.FormatInt(a.StartedAt.Unix(), 10), HeaderSignature: r.Header.Get(HeaderSignature),
	} {
		if got := r.Header.Values(name); len(got) != 1 || got[0] != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
		r.Header.Del(name)
	}
	// Nothing else: with an Idempotency-Key, for one, the transport would send a request again by itself, unseen.
	if len(r.Header) != 0 {
		t.Errorf("it sent %v, too", r.Header)
	}
}

func TestSignatureAsSent(t *testing.T) {
	secret := newSecret()
	verdict := make(chan error, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		verdict <- Verify(r.Header, secret, body, time.Now())
	}))
	defer server.Close()
	s, _ := testSender(t, loopback...)
	a, err := s.send(t.Context(), &Webhook{URL: server.URL, Secret: secret}, &Delivery{ID: uuid.New()}, []byte(`{}`), sendPatience)
	if err != nil {
		t.Fatal(err)
	}
	wantDelivered(t, a)
	if err := <-verdict; err != nil {
		t.Error(err)
	}
}

func wantClass(t *testing.T, a Attempt, want ErrorClass, detail string) {
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
		}, sendPatience, ErrorReset, ""},
		{"reset at once", "http", func(conn *net.TCPConn) { conn.SetLinger(0) }, sendPatience, ErrorReset, ""},
		{"no answer", "http", once(""), sendPatience, ErrorReset, "EOF"},
		{"half a header", "http", once("HTTP/1.1 200 OK\r\nX: y\r\n"), sendPatience, ErrorReset, "EOF"},
		{"rubbish", "http", once("SSH-2.0-OpenSSH_9.9\r\n\r\n"), sendPatience, ErrorProtocol, "malformed HTTP"},
		{"echo", "http", func(conn *net.TCPConn) { io.Copy(conn, conn) }, sendPatience, ErrorProtocol, "malformed HTTP"},
		{"bad length", "http", once("HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n"), sendPatience, ErrorProtocol, ""},
		{"large header", "http", once("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 33<<10) + "\r\nContent-Length: 0\r\n\r\n"), sendPatience, ErrorTooLarge, "32768"},
		{"endless header", "http", repeating("HTTP/1.1 200 OK\r\n", strings.Repeat("X: 123456789\r\n", 100)), sendPatience, ErrorTooLarge, "32768"},
		{"1xx flood", "http", repeating("", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"), sendPatience, ErrorTooLarge, "32768"},
		{"silence", "http", silent, 50 * time.Millisecond, ErrorTimeout, "no complete answer within 50ms"},
		{"slow header", "http", func(conn *net.TCPConn) {
			if takeRequest(bufio.NewReader(conn)) == nil {
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nX:")
				silent(conn)
			}
		}, 50 * time.Millisecond, ErrorTimeout, "no complete answer within 50ms"},
		{"silence for a handshake", "https", silent, 50 * time.Millisecond, ErrorTimeout, "no complete answer within 50ms"},
		{"not TLS", "https", func(conn *net.TCPConn) { // the port of an SSH or an SMTP server
			io.WriteString(conn, "220 mail.example.com ESMTP\r\n")
			silent(conn)
		}, sendPatience, ErrorTLS, "TLS"},
		{"end within the handshake", "https", func(conn *net.TCPConn) { conn.Read(make([]byte, 1<<16)) }, sendPatience, ErrorReset, "EOF"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			address, _ := serveRaw(t, tc.handle)
			s, _ := testSender(t, loopback...)
			a := attempt(t, s, tc.scheme+"://"+address+secretPath, tc.timeout)
			wantClass(t, a, tc.want, tc.detail)
			if tc.want == ErrorTimeout && (a.Duration < tc.timeout || a.Duration > sendPatience/2) {
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
		wantDelivered(t, attempt(t, s, "http://"+address+secretPath, sendPatience))
	})
	t.Run("a few 1xx", func(t *testing.T) {
		address, _ := serveRaw(t, answering("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
		s, _ := testSender(t, loopback...)
		wantDelivered(t, attempt(t, s, "http://"+address+secretPath, sendPatience))
	})
	t.Run("refused", func(t *testing.T) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listener.Close()
		s, _ := testSender(t, loopback...)
		wantClass(t, attempt(t, s, "http://"+listener.Addr().String()+secretPath, sendPatience), ErrorRefused, "connection refused")
	})
	t.Run("dns", func(t *testing.T) { // no look-up: a name's label has at most 63 characters
		s, _ := testSender(t, loopback...)
		wantClass(t, attempt(t, s, "http://"+strings.Repeat("a", 64)+".invalid"+secretPath, sendPatience), ErrorDNS, "lookup")
	})
	t.Run("bad URL", func(t *testing.T) {
		s, _ := testSender(t, loopback...)
		a := attempt(t, s, "http://127.0.0.1/hidden%zz?token=sekret", sendPatience)
		wantClass(t, a, ErrorInternal, "make request")
		if strings.Contains(a.ErrorDetail, "%zz") {
			t.Errorf("the detail holds a part of the path: %s", a.ErrorDetail)
		}
	})
	t.Run("bad secret", func(t *testing.T) {
		address, accepted := serveRaw(t, silent)
		s, _ := testSender(t, loopback...)
		w := &Webhook{URL: "http://" + address + secretPath, Secret: "whsec_c2hvcnQ="}
		a, err := s.send(t.Context(), w, &Delivery{ID: uuid.New()}, nil, sendPatience)
		if err != nil {
			t.Fatal(err)
		}
		wantClass(t, a, ErrorInternal, "signing secret: must be whsec_")
		if strings.Contains(a.ErrorDetail, "c2hvcnQ") || accepted.Load() != 0 {
			t.Errorf("the secret was told, or sent: %s", a.ErrorDetail)
		}
	})
}

func TestStatuses(t *testing.T) {
	for _, status := range []int{200, 201, 204, 299, 300, 304, 400, 404, 410, 429, 500, 503, 599, 999} {
		address, _ := serveRaw(t, answering(fmt.Sprintf("HTTP/1.1 %d Whatever-token\r\nContent-Length: 0\r\nRetry-After: 7\r\n\r\n", status)))
		s, _ := testSender(t, loopback...)
		a := attempt(t, s, "http://"+address+secretPath, sendPatience)
		var want ErrorClass
		if status > 299 {
			want = ErrorStatus
		}
		if a.Status != status || a.Error != want || want != "" && !strings.HasPrefix(a.ErrorDetail, fmt.Sprintf("the endpoint answered %d", status)) {
			t.Errorf("%d: got %d, %q: %s", status, a.Status, a.Error, a.ErrorDetail)
		}
		if asked := status == 429 || status == 503; (a.RetryAfter == 7*time.Second) != asked || !asked && a.RetryAfter != 0 {
			t.Errorf("%d: retry after %s", status, a.RetryAfter)
		}
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		var followed atomic.Bool
		mux := http.NewServeMux()
		mux.HandleFunc("/elsewhere", func(http.ResponseWriter, *http.Request) { followed.Store(true) })
		mux.HandleFunc("/hidden", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "/elsewhere?token=sekret")
			w.WriteHeader(status)
			io.WriteString(w, "moved")
		})
		server := httptest.NewServer(mux)
		s, _ := testSender(t, loopback...)
		a := attempt(t, s, server.URL+secretPath, sendPatience)
		server.Close()
		wantClass(t, a, ErrorStatus, fmt.Sprintf("the endpoint answered %d %s", status, http.StatusText(status)))
		if a.Status != status || string(a.Response) != "moved" || followed.Load() {
			t.Errorf("got %d %q; followed: %t", a.Status, a.Response, followed.Load())
		}
	}
}

// A redirect to nowhere is a failed attempt whose detail repeats nothing of it either.
func TestBadRedirect(t *testing.T) {
	address, _ := serveRaw(t, answering("HTTP/1.1 302 Found\r\nLocation: http://%zz"+secretPath+"\r\nContent-Length: 0\r\n\r\n"))
	s, _ := testSender(t, loopback...)
	if a := attempt(t, s, "http://"+address+secretPath, sendPatience); a.Error != ErrorStatus || a.Status != 302 {
		t.Errorf("got %+v, want status 302", a)
	}
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
		wantClass(t, attempt(t, s, server.URL+secretPath, sendPatience), ErrorTLS, "certificate")
	})
	t.Run("another name's certificate", func(t *testing.T) {
		server, pool := newServer(t, asIs)
		s, transport := testSender(t, loopback...)
		transport.TLSClientConfig = &tls.Config{RootCAs: pool}
		wantClass(t, attempt(t, s, strings.Replace(server.URL, "127.0.0.1", "localhost", 1)+secretPath, sendPatience), ErrorTLS, "localhost")
	})
	t.Run("old version", func(t *testing.T) {
		server, pool := newServer(t, func(s *httptest.Server) {
			s.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
		})
		s, transport := testSender(t, loopback...)
		transport.TLSClientConfig = &tls.Config{RootCAs: pool}
		wantClass(t, attempt(t, s, server.URL+secretPath, sendPatience), ErrorTLS, "version")
	})
	t.Run("plain HTTP", func(t *testing.T) {
		server := httptest.NewUnstartedServer(http.NotFoundHandler())
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.Start()
		defer server.Close()
		s, _ := testSender(t, loopback...)
		wantClass(t, attempt(t, s, strings.Replace(server.URL, "http:", "https:", 1)+secretPath, sendPatience), ErrorTLS, "does not look like a TLS handshake")
	})
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("trusted, HTTP/2: %t", http2), func(t *testing.T) {
			server, pool := newServer(t, func(s *httptest.Server) { s.EnableHTTP2 = http2 })
			s, transport := testSender(t, loopback...)
			transport.TLSClientConfig = &tls.Config{RootCAs: pool}
			a := attempt(t, s, server.URL+secretPath, sendPatience)
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
		class, detail := classify(tc.err, time.Second)
		if class != tc.want || detail == "" || strings.Contains(detail, "sekret") {
			t.Errorf("%v: got %q: %s; want %q", tc.err, class, detail, tc.want)
		}
	}
}

// An attempt that is cut off says nothing about the endpoint.
func TestCutOffAttempt(t *testing.T) {
	arrived := make(chan struct{}, 1)
	address, _ := serveRaw(t, func(conn *net.TCPConn) {
		r := bufio.NewReader(conn)
		if takeRequest(r) == nil {
			arrived <- struct{}{}
			io.Copy(io.Discard, r)
		}
	})
	s, _ := testSender(t, loopback...)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	cause := errors.New("the grace has ended")
	go func() {
		<-arrived
		cancel(cause)
	}()
	w := &Webhook{URL: "http://" + address + secretPath, Secret: newSecret()}
	a, err := s.send(ctx, w, &Delivery{ID: uuid.New()}, nil, sendPatience)
	if !errors.Is(err, cause) || !a.StartedAt.IsZero() || a.Error != "" || a.Status != 0 {
		t.Errorf("got %+v, %v; want no attempt and the cause", a, err)
	}
}
