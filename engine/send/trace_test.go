package send

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/net/http2"
)

// addressesOf returns a resolver whose name server answers with these addresses.
func addressesOf(t *testing.T, addresses ...[4]byte) *net.Resolver {
	t.Helper()
	return answeringNameServer(t, func(m *dnsmessage.Message) {
		if m.Questions[0].Type != dnsmessage.TypeA {
			return
		}
		for _, a := range addresses {
			m.Answers = append(m.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET}, Body: &dnsmessage.AResource{A: a}})
		}
	})
}

// A dead address of two takes half of the attempt's time, and the other one gets the rest.
func TestSecondAddressHasItsTime(t *testing.T) {
	address, accepted := serveRaw(t, answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
	_, port, _ := net.SplitHostPort(address)
	s, _ := testSender(t, loopback...)
	var mu sync.Mutex
	var left []time.Duration
	d := net.Dialer{Resolver: addressesOf(t, [4]byte{127, 0, 0, 2}, [4]byte{127, 0, 0, 1}),
		ControlContext: func(ctx context.Context, _, address string, _ syscall.RawConn) error {
			deadline, ok := ctx.Deadline()
			if !ok {
				t.Errorf("dialling %s has no end", address)
			}
			mu.Lock()
			defer mu.Unlock()
			left = append(left, time.Until(deadline))
			if len(left) == 1 {
				return os.ErrDeadlineExceeded // as if its share were over
			}
			return nil
		}}
	poolOf(s).dialNet = d.DialContext
	const timeout = 2 * time.Minute
	wantDelivered(t, try(t, s, "http://endpoint.example:"+port+secretPath, timeout))
	if len(left) != 2 || left[0] > timeout/2 || left[0] < timeout/3 || left[1] < timeout/2 || accepted.Load() != 1 {
		t.Errorf("the addresses had %v of %s, %d connections", left, timeout, accepted.Load())
	}
}

// silentConn is a connection whose peer says nothing.
type silentConn struct{ net.Conn }

func (c silentConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// Connecting and the handshake may take as long as the attempt, and no longer: neither limit is one of hookbolt's.
func TestDialsLastAsLongAsTheAttempt(t *testing.T) {
	for name, tc := range map[string]struct {
		dial    dialFunc
		timeout time.Duration
		detail  string
	}{
		"connecting": {func(ctx context.Context, network, address string) (net.Conn, error) {
			<-ctx.Done()
			return nil, &net.OpError{Op: "dial", Net: network, Err: os.ErrDeadlineExceeded}
		}, 2 * time.Minute, "the timeout of 2m ended before a connection was made"},
		"handshake": {func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go io.Copy(io.Discard, theirs)
			return silentConn{ours}, nil
		}, time.Minute, "the timeout of 1m ended during the TLS handshake with ; does this port speak TLS?"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := New(Options{})
				defer s.CloseIdleConnections()
				ended := make(chan time.Duration, 1)
				started := time.Now()
				poolOf(s).dialNet = func(ctx context.Context, network, address string) (net.Conn, error) {
					conn, err := tc.dial(ctx, network, address)
					if err != nil {
						ended <- time.Since(started)
						return nil, err
					}
					return &telling{conn, sync.OnceFunc(func() { ended <- time.Since(started) })}, nil
				}
				a := try(t, s, "https://192.0.2.1"+secretPath, tc.timeout)
				if a.Error != ErrorTimeout || a.ErrorDetail != tc.detail || a.Duration != tc.timeout {
					t.Errorf("after %s: %q: %s", a.Duration, a.Error, a.ErrorDetail)
				}
				if lasted := <-ended; lasted != tc.timeout {
					t.Errorf("the dial lasted %s", lasted)
				}
			})
		})
	}
}

// telling tells when a connection is closed.
type telling struct {
	net.Conn
	closed func()
}

func (c *telling) Close() error { c.closed(); return c.Conn.Close() }

// A connection that an attempt has made serves others after that one's time.
func TestConnectionOutlivesItsAttempt(t *testing.T) {
	inEach(t, protocols, func(t *testing.T, protocol string) {
		p, done := newPeer(protocol, func(http.ResponseWriter, *http.Request) { time.Sleep(time.Second) }, nil)
		defer done()
		for i := range 3 {
			if a := p.attempt(t, 2*time.Second); !a.Delivered() || a.Reused != (i > 0) {
				t.Errorf("%d: %+v", i, a)
			}
			time.Sleep(5 * time.Second)
		}
	})
}

// The answer counts that came before the reset, whichever of the two net/http notices first.
func TestAnswerBeforeReset(t *testing.T) {
	for range 50 {
		row := atSituation{"large request", early("HTTP/1.1 413 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"), ErrorStatus, 413,
			"the endpoint answered 413 Request Entity Too Large; the payload is larger than it takes"}
		if row.run(t); t.Failed() {
			return
		}
	}
}

// A redirect may repeat a credential, also where its target is cut.
func TestRedirectRepeatsNoCredential(t *testing.T) {
	const key = "s3kret-Key-of-mine"
	for fill := 100; fill < 170; fill++ {
		s, endpoint := movedTo("301", "http://example.com/"+strings.Repeat("x", fill)+key)(t)
		r := requestTo(endpoint)
		r.Headers = map[string]Header{"X-Key": {Value: key}}
		a, err := s.Send(t.Context(), r)
		if err != nil || a.Status != 301 || !strings.Contains(a.ErrorDetail, "moved to http://example.com/xxx") || strings.Contains(a.ErrorDetail, key[:minRedacted]) {
			t.Fatalf("%d: %d, %v: %s", fill, a.Status, err, a.ErrorDetail)
		}
		s.CloseIdleConnections()
	}
}

// An endpoint that requires HTTP/1.1 gets the same message over it, within the same attempt. The next attempt uses that connection.
func TestHTTP11Required(t *testing.T) {
	var got []string
	var mu sync.Mutex
	s, endpoint := over2(func(f *http2.Framer) {
		f.WriteRSTStream(1, http2.ErrCodeHTTP11Required)
		for frame, err := f.ReadFrame(); err == nil; frame, err = f.ReadFrame() {
			if data, ok := frame.(*http2.DataFrame); ok && data.StreamEnded() {
				f.WriteRSTStream(data.StreamID, http2.ErrCodeHTTP11Required)
			}
		}
	}, func(conn net.Conn) {
		for r := bufio.NewReader(conn); ; {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			body, _ := io.ReadAll(req.Body)
			mu.Lock()
			got = append(got, req.Header.Get(HeaderID)+" "+req.Header.Get(HeaderSignature)+" "+string(body))
			mu.Unlock()
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})(t)
	r := requestTo(endpoint + secretPath)
	for _, repeated := range []Repeat{RepeatHTTP1, ""} {
		a, err := s.Send(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		wantDelivered(t, a)
		if a.Repeated != repeated || a.Reused != (repeated == "") {
			t.Errorf("repeated %q, reused %t", a.Repeated, a.Reused)
		}
		if a.Protocol != "HTTP/1.1" || !strings.Contains(got[len(got)-1], r.ID+" "+a.Sent.Signature+" "+string(r.Payload)) {
			t.Errorf("over %s, %q; sent %q", a.Protocol, got, a.Sent.Signature)
		}
	}
	if len(got) != 2 {
		t.Errorf("%d requests over HTTP/1.1", len(got))
	}
}

// What no socket on 127.0.0.1 brings about: errors of connect(2) and limits that are not the attempt's.
func TestClassifyLimits(t *testing.T) {
	at := situation{phase: phaseConnect, address: "192.0.2.1:443", timeout: 90 * time.Second}
	dial := func(err error) error { return &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", err)} }
	for _, tc := range []struct {
		err  error
		at   situation
		want string
	}{
		{dial(syscall.ENETUNREACH), at, "connecting to 192.0.2.1:443: network is unreachable; this machine has no route to this address; IPv6, maybe?"},
		{dial(syscall.EHOSTUNREACH), at, "connecting to 192.0.2.1:443: no route to host; a router says that no way leads to this address; is it right, and the host up?"},
		{dial(syscall.EACCES), at, "connecting to 192.0.2.1:443: permission denied; a firewall or a policy of this machine forbids it"},
		{dial(syscall.ETIMEDOUT), at, "connecting to 192.0.2.1:443: connection timed out; the limit is this machine's; does a firewall drop the packets?"},
		{&net.OpError{Op: "proxyconnect", Err: dial(syscall.ENETUNREACH)}, situation{phase: phaseConnect, address: "192.0.2.1:443", proxy: "proxy:1"},
			"connecting to the proxy proxy:1: network is unreachable; this machine has no route to this address; IPv6, maybe?"},
		{&net.DNSError{Err: "i/o timeout", Name: "a.example", IsTimeout: true}, situation{phase: phaseLookup},
			"the name servers gave no answer for a.example in the time that this machine's resolver has; are they up?"},
		{&net.DNSError{Err: "i/o timeout", Name: "a.example", IsTimeout: true}, situation{phase: phaseLookup, expired: true, timeout: 90 * time.Second},
			"the timeout of 1m30s ended while the host name was looked up; are its name servers up?"},
		{context.DeadlineExceeded, situation{phase: phaseProxy, proxy: "proxy:1"}, "the proxy proxy:1 did not connect to the endpoint within net/http's limit of 1m"},
		{&net.OpError{Op: "read", Source: &net.TCPAddr{Port: 4}, Err: os.NewSyscallError("read", syscall.EIO)}, situation{phase: phaseWait, address: "192.0.2.1:443"},
			"the connection to 192.0.2.1:443 failed: read: input/output error"},
		{&net.OpError{Op: "dial", Source: &net.TCPAddr{Port: 4}, Err: errors.New("something new")}, at, "connecting to 192.0.2.1:443: something new"},
		{errors.New("readLoopPeekFailLocked: %!w(<nil>)"), situation{phase: phaseSend, first: []byte("SSH-2.0-x")},
			"the endpoint does not speak HTTP on this port, but SSH; is the port right?"},
		{errors.New("readLoopPeekFailLocked: %!w(<nil>)"), situation{phase: phaseSend}, "the endpoint speaks before it is sent a request; is the port right?"},
		{errors.New(notEstablished), situation{phase: phaseSend}, "the endpoint agreed to HTTP/2 in the TLS handshake and does not speak it; its server or proxy is misconfigured"},
		{errors.New(notEstablished), situation{phase: phaseSend, wantsCertificate: true},
			"the endpoint ended the connection after the TLS handshake; it requires a client certificate: set tls.cert and tls.key"},
		{&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, situation{phase: phaseSend, wantsCertificate: true},
			"the endpoint reset the connection while the request was sent; it requires a client certificate: set tls.cert and tls.key; or it limits the size of a request"},
		{errors.New("http2: client connection lost"), situation{phase: phaseWait}, "the connection was lost: the endpoint no longer answered on it"},
	} {
		if _, detail := classify(tc.err, tc.at); detail != tc.want {
			t.Errorf("%v:\ngot  %s\nwant %s", tc.err, detail, tc.want)
		}
	}
}
