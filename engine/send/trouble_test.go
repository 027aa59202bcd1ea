package send

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// dialing returns a sender whose dials fail with an error of the system.
func dialing(t *testing.T, err error, hasRoute bool) *Sender {
	s, _ := testSender(t, loopback...)
	s.machine.hasRoute = func() bool { return hasRoute }
	poolOf(s).dialNet = func(_ context.Context, network, address string) (net.Conn, error) {
		to, _ := net.ResolveTCPAddr(network, address)
		return nil, &net.OpError{Op: "dial", Net: network, Addr: to, Err: os.NewSyscallError("connect", err)}
	}
	return s
}

// What only this machine can cause is its trouble. What an endpoint can cause as well is the endpoint's, as long as this machine has any
// route.
func TestTroubleOfDials(t *testing.T) {
	const v4, v6 = "http://127.0.0.1:1", "http://[::1]:1"
	for _, tc := range []struct {
		err      error
		endpoint string
		hasRoute bool
		want     Trouble
		class    ErrorClass // if want is ""
	}{
		{syscall.EMFILE, v4, true, TroubleDescriptors, ""},
		{syscall.ENFILE, v4, true, TroubleDescriptors, ""},
		{syscall.ENOBUFS, v4, true, TroubleMemory, ""},
		{syscall.ENOMEM, v6, true, TroubleMemory, ""},
		{syscall.EADDRNOTAVAIL, v4, true, TroublePorts, ""},
		{syscall.EAGAIN, v4, true, TroublePorts, ""},
		{syscall.ENETDOWN, v4, true, TroubleNetwork, ""},
		{syscall.ENETUNREACH, v4, false, TroubleNetwork, ""},
		{syscall.EADDRNOTAVAIL, v6, false, TroubleNetwork, ""},
		{syscall.ENETUNREACH, v6, true, "", ErrorRefused}, // an endpoint with IPv6 only, a machine with IPv4 only
		{syscall.EADDRNOTAVAIL, v6, true, "", ErrorRefused},
		{syscall.EHOSTUNREACH, v4, false, "", ErrorRefused},
		{syscall.ECONNREFUSED, v4, false, "", ErrorRefused},
		{syscall.ECONNRESET, v4, false, "", ErrorReset},
	} {
		t.Run(fmt.Sprintf("%v/%s/%t", tc.err, tc.endpoint, tc.hasRoute), func(t *testing.T) {
			a := try(t, dialing(t, tc.err, tc.hasRoute), tc.endpoint+secretPath, testTimeout)
			wantTrouble(t, a, tc.want, tc.class)
			if !strings.Contains(a.ErrorDetail, tc.err.Error()) && tc.err != syscall.EAGAIN { // which net/http calls a timeout
				t.Errorf("the detail does not say %q: %s", tc.err, a.ErrorDetail)
			}
		})
	}
}

func wantTrouble(t *testing.T, a Outcome, want Trouble, class ErrorClass) {
	t.Helper()
	if want != "" {
		class = ErrorInternal
	}
	if a.Trouble != want || a.Error != class {
		t.Errorf("got trouble %q, class %q: %s; want %q, %q", a.Trouble, a.Error, a.ErrorDetail, want, class)
	}
}

// A token endpoint is reached in the same way.
func TestTroubleOfTokenRequest(t *testing.T) {
	r := requestTo("http://127.0.0.1:1" + secretPath)
	r.OAuth2 = &OAuth2{TokenURL: "http://127.0.0.1:2/token", ClientID: "a", ClientSecret: "b"}
	a, err := dialing(t, syscall.EMFILE, true).Send(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	wantTrouble(t, a, TroubleDescriptors, "")
}

// nameServer returns a resolver whose name server answers for the root and for other names with these codes; -1 is no answer.
func nameServer(t *testing.T, root, others dnsmessage.RCode) *net.Resolver {
	t.Helper()
	return answeringNameServer(t, func(m *dnsmessage.Message) {
		m.RCode = others
		if name := m.Questions[0].Name; name.String() == "." {
			m.RCode = root
			m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET},
				Body: &dnsmessage.NSResource{NS: dnsmessage.MustNewName("a.root-servers.net.")}}}
		}
	})
}

// answeringNameServer returns a resolver whose name server makes an answer of each question by a function.
func answeringNameServer(t *testing.T, answer func(*dnsmessage.Message)) *net.Resolver {
	t.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
			answer(&m)
			if m.RCode == noAnswer {
				continue
			}
			if packed, err := m.Pack(); err == nil {
				server.WriteTo(packed, from)
			}
		}
	}()
	var mu sync.Mutex // a lookup outlives an attempt that does not wait for it
	var open []net.Conn
	over := false
	t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		over = true
		for _, conn := range open {
			conn.Close()
		}
	})
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		if over {
			return nil, net.ErrClosed
		}
		conn, err := net.Dial("udp", server.LocalAddr().String())
		if err == nil {
			open = append(open, conn)
		}
		return conn, err
	}}
}

const noAnswer = dnsmessage.RCode(0xffff)

// A name server that answers nothing is this machine's trouble. One that answers for the root and not for the endpoint's name shows that
// the endpoint's own name servers are at fault.
func TestTroubleOfLookups(t *testing.T) {
	refusing := func(err error) *net.Resolver {
		return &net.Resolver{PreferGo: true, Dial: func(_ context.Context, network, _ string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: network, Err: os.NewSyscallError("socket", err)}
		}}
	}
	const ok, failed, unknown = dnsmessage.RCodeSuccess, dnsmessage.RCodeServerFailure, dnsmessage.RCodeNameError
	const silent = 300 * time.Millisecond // long enough to send the question; the others get their answer
	for name, tc := range map[string]struct {
		resolver *net.Resolver
		want     Trouble
		class    ErrorClass
		timeout  time.Duration
	}{
		"no descriptor":            {refusing(syscall.EMFILE), TroubleDescriptors, "", testTimeout},
		"no buffers":               {refusing(syscall.ENOBUFS), TroubleMemory, "", testTimeout},
		"network unreachable":      {refusing(syscall.ENETUNREACH), TroubleResolver, "", testTimeout},
		"connection refused":       {refusing(syscall.ECONNREFUSED), TroubleResolver, "", testTimeout},
		"no such host":             {nameServer(t, ok, unknown), "", ErrorDNS, testTimeout},
		"no such host, no root":    {nameServer(t, failed, unknown), "", ErrorDNS, testTimeout},
		"failure for the endpoint": {nameServer(t, ok, failed), "", ErrorDNS, testTimeout},
		"failure for all":          {nameServer(t, failed, failed), TroubleResolver, "", testTimeout},
		"silence for the endpoint": {nameServer(t, ok, noAnswer), "", ErrorTimeout, silent},
	} {
		t.Run(name, func(t *testing.T) {
			s := New(Options{Resolver: tc.resolver})
			defer s.CloseIdleConnections()
			a := try(t, s, "http://endpoint.example"+secretPath, tc.timeout)
			wantTrouble(t, a, tc.want, tc.class)
		})
	}
}

// A name server that says nothing is asked for the root once, however many attempts fail with it.
func TestTroubleOfSilentNameServer(t *testing.T) {
	asked := 0
	m := &machine{hasRoute: hasRoute, resolver: &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		asked++
		return nil, &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}
	}}}
	timeout := &net.DNSError{Err: "i/o timeout", Name: "endpoint.example", Server: "192.0.2.1:53", IsTimeout: true}
	var first int
	for range 10 {
		if got := m.trouble(t.Context(), timeout, false); got != TroubleResolver {
			t.Fatalf("got %q", got)
		}
		if first == 0 {
			first = asked
		}
	}
	if got := m.trouble(t.Context(), context.DeadlineExceeded, true); got != TroubleResolver || asked != first {
		t.Errorf("got %q; asked %d times, %d for the first attempt", got, asked, first)
	}
	if got := m.trouble(t.Context(), context.DeadlineExceeded, false); got != "" {
		t.Errorf("a timeout after the lookup: got %q", got)
	}
	if got := m.trouble(t.Context(), errors.New("something new"), false); got != "" {
		t.Errorf("an unknown error: got %q", got)
	}
}

// An attempt that is cut off while the name servers are asked tells nothing of them.
func TestTroubleOfAttemptCutOff(t *testing.T) {
	resolver := nameServer(t, dnsmessage.RCodeSuccess, dnsmessage.RCodeServerFailure)
	dial := resolver.Dial
	resolver.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if ctx.Err() != nil { // as a dialer of the system does
			return nil, ctx.Err()
		}
		return dial(ctx, network, address)
	}
	m := &machine{hasRoute: hasRoute, resolver: resolver}
	failed := &net.DNSError{Err: "server misbehaving", Name: "endpoint.example", Server: "192.0.2.1:53", IsTemporary: true}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	m.trouble(gone, failed, false)
	if got := m.trouble(t.Context(), failed, false); got != "" {
		t.Errorf("the next attempt: got %q, although a name server answers", got)
	}
}
