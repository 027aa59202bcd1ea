package send

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
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
	"testing"
	"time"

	"github.com/google/uuid"
)

// testTimeout bounds an attempt that is not expected to time out.
const testTimeout = 20 * time.Second

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// testSender returns a sender and its transport.
func testSender(t testing.TB, allow ...netip.Prefix) (*Sender, *http.Transport) {
	t.Helper()
	s := New(Options{AllowNetworks: allow, UserAgent: "hookbolt/1.2.3"})
	t.Cleanup(s.CloseIdleConnections)
	return s, poolOf(s).transport
}

// poolOf returns the connections of endpoints without settings of their own.
func poolOf(s *Sender) *pool { return poolFor(s, &Request{}) }

// poolFor returns the connections for a request.
func poolFor(s *Sender, r *Request) *pool {
	transport, _, err := s.transports.of(r)
	if err != nil {
		panic(err)
	}
	return transport.(*pool)
}

// trustOf returns a TLS configuration of a client that trusts a test's server.
func trustOf(server *httptest.Server) *tls.Config {
	return &tls.Config{RootCAs: server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
}

// requestTo returns a request to an endpoint that needs no credentials.
func requestTo(endpoint string) Request {
	return Request{URL: endpoint, Timeout: testTimeout, ID: uuid.NewString(), ContentType: "application/json", Payload: []byte(`{"n":1}`),
		Secrets: []Secret{NewSecret()}, DueAt: time.Now().UTC().Round(0)}
}

// try makes one attempt at an endpoint and checks what holds for each: the outcome is consistent, and its detail holds nothing of the
// URL's path and query.
func try(t *testing.T, s *Sender, endpoint string, timeout time.Duration) Outcome {
	t.Helper()
	r := requestTo(endpoint)
	r.Timeout = timeout
	a, err := s.Send(t.Context(), r)
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

func wantDelivered(t *testing.T, a Outcome) {
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
		a := try(t, s, "http://"+address+secretPath, testTimeout)
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
	a := try(t, s, "http://"+address+secretPath, timeout)
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
		timeout := testTimeout
		if name == "stalls" {
			timeout = 500 * time.Millisecond // the wait is for this
		}
		a := try(t, s, "http://"+address+secretPath, timeout)
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
				if a := try(t, s, "http://"+address+secretPath, testTimeout); a.Status == 0 {
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
	a := try(t, s, server.URL+secretPath, testTimeout)
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
	payload, message := []byte(`{"a": "ü"}`), requestTo(server.URL+secretPath)
	message.Payload = payload
	a, err := s.Send(t.Context(), message)
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
		HeaderID: message.ID, HeaderTimestamp: strconv.FormatInt(a.StartedAt.Unix(), 10), HeaderSignature: r.Header.Get(HeaderSignature),
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
	secret := NewSecret()
	verdict := make(chan error, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		verdict <- Verify(r.Header, secret, body, time.Now())
	}))
	defer server.Close()
	s, _ := testSender(t, loopback...)
	r := requestTo(server.URL)
	r.Secrets = []Secret{secret}
	a, err := s.Send(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	wantDelivered(t, a)
	if err := <-verdict; err != nil {
		t.Error(err)
	}
}

func TestStatuses(t *testing.T) {
	for _, status := range []int{200, 201, 204, 299, 300, 304, 400, 404, 410, 429, 500, 503, 599, 999} {
		address, _ := serveRaw(t, answering(fmt.Sprintf("HTTP/1.1 %d Whatever-token\r\nContent-Length: 0\r\nRetry-After: 7\r\n\r\n", status)))
		s, _ := testSender(t, loopback...)
		a := try(t, s, "http://"+address+secretPath, testTimeout)
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
		a := try(t, s, server.URL+secretPath, testTimeout)
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
	if a := try(t, s, "http://"+address+secretPath, testTimeout); a.Error != ErrorStatus || a.Status != 302 {
		t.Errorf("got %+v, want status 302", a)
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
	cause := errors.New("shutdown")
	go func() {
		<-arrived
		cancel(cause)
	}()
	a, err := s.Send(ctx, requestTo("http://"+address+secretPath))
	if !errors.Is(err, cause) || !a.StartedAt.IsZero() || a.Error != "" || a.Status != 0 {
		t.Errorf("got %+v, %v; want no attempt and the cause", a, err)
	}
}

// newTLSServer returns a server that speaks HTTP/2 and HTTP/1.1.
func newTLSServer(t testing.TB, handle http.HandlerFunc) *httptest.Server {
	server := httptest.NewUnstartedServer(handle)
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of connections that are raced and not used
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}
