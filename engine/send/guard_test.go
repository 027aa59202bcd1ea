package send

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"code.dny.dev/ssrf"
	"golang.org/x/net/dns/dnsmessage"
)

func TestDialGuard(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "localhost"} {
		t.Run(host, func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			_, port, _ := net.SplitHostPort(listener.Addr().String())
			s, _ := testSender(t)
			a := try(t, s, "http://"+net.JoinHostPort(host, port)+secretPath, testTimeout)
			if a.Error != ErrorAddressRefused {
				t.Fatalf("got %q: %s", a.Error, a.ErrorDetail)
			}
			// A name may have been resolved to either.
			if !strings.Contains(a.ErrorDetail, `set delivery.allow_networks = ["127.0.0.1/32"] or start with -allow 127.0.0.1/32`) &&
				!(host == "localhost" && strings.Contains(a.ErrorDetail, `set delivery.allow_networks = ["::1/128"] or start with -allow ::1/128`)) {
				t.Errorf("the detail does not say how to allow it: %s", a.ErrorDetail)
			}
			wantNoConnection(t, listener)
		})
		t.Run(host+" allowed", func(t *testing.T) {
			address, _ := serveRaw(t, answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
			_, port, _ := net.SplitHostPort(address)
			s, _ := testSender(t, loopback...)
			wantDelivered(t, try(t, s, "http://"+net.JoinHostPort(host, port)+secretPath, testTimeout))
		})
	}
	t.Run("another address allowed", func(t *testing.T) {
		address, accepted := serveRaw(t, answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
		s, _ := testSender(t, netip.MustParsePrefix("127.0.0.2/32"))
		if a := try(t, s, "http://"+address+secretPath, testTimeout); a.Error != ErrorAddressRefused || accepted.Load() != 0 {
			t.Errorf("got %q: %s", a.Error, a.ErrorDetail)
		}
	})
	for network, address := range map[string]string{
		"udp": "127.0.0.1:9", // connecting a UDP socket sends nothing
		"tcp": ":9",          // no host is this machine
	} {
		conn, err := guard{loopback[:strings.Count(network, "udp")]}.dialer(nil)(t.Context(), network, address)
		if err == nil {
			conn.Close()
		}
		if !errors.Is(err, errAddressRefused) {
			t.Errorf("%s %s: got %v", network, address, err)
		}
	}
	if _, transport := testSender(t); transport.Proxy != nil {
		t.Error("a proxy would get around the guard")
	}
}

func TestGuardCheck(t *testing.T) {
	for address, allowed := range map[string]bool{
		// Public.
		"1.1.1.1": true, "8.8.8.8": true, "9.255.255.255": true, "11.0.0.0": true, "100.63.255.255": true, "100.128.0.0": true,
		"126.255.255.255": true, "128.0.0.1": true, "169.253.255.255": true, "169.255.0.0": true, "172.15.255.255": true, "172.32.0.0": true,
		"192.0.1.1": true, "192.167.255.255": true, "192.169.0.0": true, "198.17.255.255": true, "198.20.0.0": true, "223.255.255.255": true,
		"2606:4700:4700::1111": true, "2a00:1450:4001::200e": true, "2001:4860:4860::8888": true, "2400::1": true,
		// This machine, and nowhere.
		"127.0.0.1": false, "127.255.255.254": false, "0.0.0.0": false, "0.1.2.3": false, "::": false, "::1": false,
		// Private, shared (CGNAT) and link-local; 169.254.169.254 is a cloud's metadata.
		"10.0.0.1": false, "10.255.255.255": false, "172.16.0.1": false, "172.31.255.255": false, "192.168.0.1": false, "192.168.255.255": false,
		"100.64.0.1": false, "100.127.255.255": false, "169.254.0.1": false, "169.254.169.254": false,
		// The services of cloud providers that are for one machine: Azure, also behind IPv6; Alibaba, Oracle, AWS, Google.
		"168.63.129.16": false, "::ffff:168.63.129.16": false, "64:ff9b::168.63.129.16": false, "168.63.129.15": true, "168.63.129.17": true,
		"100.100.100.200": false, "192.0.0.192": false, "169.254.170.2": false, "fd20:ce::254": false,
		"fc00::1": false, "fd12:3456::1": false, "fdff:ffff::": false, "fe80::1": false, "febf::1": false, "fec0::1": false, "fd00:ec2::254": false,
		// Multicast, reserved, broadcast.
		"224.0.0.1": false, "239.255.255.255": false, "240.0.0.1": false, "255.255.255.255": false, "ff02::1": false, "ff0e::1": false,
		// Documentation, benchmarks, protocols.
		"192.0.2.1": false, "198.51.100.7": false, "203.0.113.9": false, "2001:db8::1": false, "3fff::1": false, "198.18.0.1": false,
		"198.19.255.255": false, "192.0.0.1": false, "192.0.0.170": false, "192.88.99.1": false, "100::1": false, "5f00::1": false, "2001:2::1": false,
		// IPv4 within IPv6: mapped, NAT64, 6to4, Teredo, compatible.
		"::ffff:10.0.0.1": false, "::ffff:127.0.0.1": false, "::ffff:169.254.169.254": false, "::ffff:8.8.8.8": true,
		"64:ff9b::10.0.0.1": false, "64:ff9b::127.0.0.1": false, "64:ff9b::8.8.8.8": true, "64:ff9b:1::8.8.8.8": false,
		"2002:0a00:0001::": false, "2002:7f00:1::1": false, "2002:0808:0808::": false, "2001:0::1": false, "2001:0:4136:e378::1": false,
		"::127.0.0.1": false, "::10.0.0.1": false, "::8.8.8.8": false, "::2": false,
		// Outside of what is given out to the public.
		"64:ff9a:ffff:ffff:ffff:ffff:ffff:ffff": false, "64:ff9b::1:0:0": false, "200::1": false, "1fff:ffff::1": false, "4000::1": false, "8000::1": false,
		"e000::1": false, "2000::1": true, "3ffe:ffff::1": true,
		// Zones do not make another address of it.
		"fe80::1%eth0": false, "::1%lo": false, "fd00::1%0": false, "2400::1%eth0": true,
	} {
		err := guard{}.check(netip.MustParseAddr(address))
		if (err == nil) != allowed || err != nil && !errors.Is(err, errAddressRefused) {
			t.Errorf("%s: %v; want allowed: %t", address, err, allowed)
		}
	}

	for _, tc := range []struct {
		allow, address string
		want           bool
	}{
		{"127.0.0.0/8", "127.9.9.9", true},
		{"127.0.0.0/8", "::ffff:127.0.0.1", true},
		{"127.0.0.0/8", "::1", false},
		{"127.0.0.0/8", "10.0.0.1", false},
		{"127.0.0.0/8", "64:ff9b::127.0.0.1", false}, // another machine would make it of it
		{"127.0.0.0/8", "2002:7f00:1::", false},
		{"127.0.0.0/8", "::127.0.0.1", false},
		{"127.0.0.1/32", "127.0.0.1", true},
		{"127.0.0.1/32", "127.0.0.2", false},
		{"10.1.0.0/16", "10.1.255.255", true},
		{"10.1.0.0/16", "10.2.0.0", false},
		{"::1/128", "::1", true},
		{"::1/128", "127.0.0.1", false},
		{"fe80::/10", "fe80::1%eth0", true},
		{"fd00::/8", "fd00::1", true},
		{"fd00::/8", "fc00::1", false},
		{"64:ff9b::/96", "64:ff9b::10.0.0.1", true},
		{"168.63.129.16/32", "168.63.129.16", true},
		{"168.63.129.16/32", "::ffff:168.63.129.16", true},
		{"168.63.129.16/32", "64:ff9b::168.63.129.16", false},
		{"0.0.0.0/0", "192.168.0.1", true},
		{"0.0.0.0/0", "fd00::1", false},
		{"192.168.0.0/16", "8.8.8.8", true}, // an allow list takes nothing away
	} {
		g := guard{[]netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix(tc.allow)}}
		if err := g.check(netip.MustParseAddr(tc.address)); (err == nil) != tc.want {
			t.Errorf("%s with %s: %v; want allowed: %t", tc.address, tc.allow, err, tc.want)
		}
	}

	// What the error says to set is what allows the address.
	for _, address := range []string{"10.0.0.1", "::ffff:10.0.0.1", "fe80::1%eth0", "::1", "64:ff9b::10.0.0.1"} {
		addr := netip.MustParseAddr(address)
		_, advice, _ := strings.Cut(fmt.Sprint(guard{}.check(addr)), "-allow ")
		prefix, err := ParseNetwork(advice)
		if err != nil {
			t.Errorf("%s: the advice is no network: %v", address, err)
		} else if err := (guard{[]netip.Prefix{prefix}}).check(addr); err != nil {
			t.Errorf("%s: the advice does not help: %v", address, err)
		}
	}
}

// TestGuardWith: a webhook's own networks are allowed to it alone.
func TestGuardWith(t *testing.T) {
	common := make([]netip.Prefix, 1, 8) // with room in which two webhooks could meet
	common[0] = netip.MustParsePrefix("10.0.0.0/8")
	g := guard{common}
	a, b := g.with([]netip.Prefix{netip.MustParsePrefix("192.168.0.0/16")}), g.with([]netip.Prefix{netip.MustParsePrefix("::1/128")})
	for name, tc := range map[string]struct {
		g    guard
		want [3]bool
	}{
		"common": {g, [3]bool{true, false, false}}, "nil": {g.with(nil), [3]bool{true, false, false}},
		"a": {a, [3]bool{true, true, false}}, "b": {b, [3]bool{true, false, true}},
	} {
		for i, address := range []string{"10.0.0.1", "192.168.0.1", "::1"} {
			if err := tc.g.check(netip.MustParseAddr(address)); (err == nil) != tc.want[i] {
				t.Errorf("%s: %s: %v; want allowed: %t", name, address, err, tc.want[i])
			}
		}
	}
	if common[:2][1].IsValid() {
		t.Error("with has written into the list that it was given")
	}
}

// TestOwnAddress: a public address of this machine is refused as a private one is, in each notation, and allowed alike.
func TestOwnAddress(t *testing.T) {
	own := []netip.Addr{netip.MustParseAddr("8.8.4.4"), netip.MustParseAddr("2606:4700::1")}
	machineHas(t, own...)
	g, allowing := guard{}, guard{[]netip.Prefix{netip.MustParsePrefix("8.8.4.4/32"), netip.MustParsePrefix("2606:4700::1/128")}}
	for address, want := range map[string]bool{
		"8.8.4.4": true, "::ffff:8.8.4.4": true, "64:ff9b::8.8.4.4": true, "2606:4700::1": true, "2606:4700::1%eth0": true,
		"8.8.4.5": false, "64:ff9b::8.8.4.5": false, "2606:4700::2": false,
	} {
		err := g.check(netip.MustParseAddr(address))
		if (err != nil) != want || err != nil && !strings.Contains(err.Error(), "is an address of this machine; to allow it, name it in") {
			t.Errorf("%s: %v; want refused: %t", address, err, want)
		}
		// Behind a translator it is another connection, which the grant does not cover.
		if err := allowing.check(netip.MustParseAddr(address)); err != nil && !strings.HasPrefix(address, "64:") {
			t.Errorf("%s is allowed, and refused: %v", address, err)
		}
	}
	for _, endpoint := range []string{"http://8.8.4.4/", "http://[2606:4700::1]:8080/x"} {
		if err := CheckAddress(endpoint, nil); !errors.Is(err, errAddressRefused) {
			t.Errorf("%s: %v", endpoint, err)
		}
		if err := CheckAddress(endpoint, allowing.allow); err != nil {
			t.Errorf("%s: %v", endpoint, err)
		}
	}
	if err := g.control(t.Context(), "tcp4", "8.8.4.4:443", nil); !errors.Is(err, errAddressRefused) {
		t.Errorf("at the dial: %v", err)
	}

	// An address that is given up or added later is judged by what is true at the dial.
	machineHas(t, netip.MustParseAddr("8.8.4.5"))
	if err := g.check(own[0]); err != nil {
		t.Errorf("after it was given up: %v", err)
	}
	if err := g.check(netip.MustParseAddr("8.8.4.5")); err == nil {
		t.Error("an address that was added is not refused")
	}
}

// TestOwnAddressName: a name that resolves to an address of this machine is refused at the dial.
func TestOwnAddressName(t *testing.T) {
	machineHas(t, netip.MustParseAddr("8.8.4.4"))
	resolver := fakeResolver(t, func(string, int) []string { return []string{"8.8.4.4"} })
	s := New(Options{Resolver: resolver})
	defer s.CloseIdleConnections()
	a := try(t, s, "http://own.example"+secretPath, testTimeout)
	wantClass(t, a, ErrorAddressRefused, "8.8.4.4 is an address of this machine")
}

// TestRoutedHere asks the system. A loopback address is this machine's, and is the one that a test may ask about.
func TestRoutedHere(t *testing.T) {
	for _, address := range []string{"127.0.0.1", "::1"} {
		conn, err := net.ListenPacket("udp", net.JoinHostPort(address, "0"))
		if err != nil {
			t.Logf("%s: %v", address, err) // a machine without IPv6
			continue
		}
		conn.Close()
		if own, err := isRoutedHere(netip.MustParseAddr(address)); !own || err != nil {
			t.Errorf("%s is not taken for an address of this machine: %v", address, err)
		}
	}
}

// machineHas gives this machine public addresses until the end of the test.
func machineHas(t *testing.T, own ...netip.Addr) {
	t.Helper()
	before := isOwn
	isOwn = func(addr netip.Addr) (bool, error) { return slices.Contains(own, addr), nil }
	t.Cleanup(func() { isOwn = before })
}

// TestOwnAddressUnknown: while the system cannot tell, nothing is dialled, and that is not called a refused address.
func TestOwnAddressUnknown(t *testing.T) {
	before := isOwn
	isOwn = func(netip.Addr) (bool, error) { return false, syscall.EMFILE }
	t.Cleanup(func() { isOwn = before })
	if err := (guard{}).control(t.Context(), "tcp4", "8.8.4.4:443", nil); !errors.Is(err, syscall.EMFILE) || errors.Is(err, errAddressRefused) {
		t.Errorf("at the dial: %v", err)
	}
	if err := CheckAddress("http://8.8.4.4/", nil); err != nil {
		t.Errorf("at creation: %v", err)
	}
}

// TestGuardAgainstLibrary holds the ranges against those that a library makes of the IANA registries, on both sides of each
// range's two ends. The library refuses IPv4 behind NAT64 as a whole; here that is judged by the IPv4 address. It knows no hostServices.
func TestGuardAgainstLibrary(t *testing.T) {
	library := ssrf.New(ssrf.WithAnyPort())
	prefixes := slices.Concat(specialNetworks, hostServices, ssrf.IPv4DeniedPrefixes, ssrf.IPv6DeniedPrefixes,
		parsePrefixes("2000::/3", "::/128", "::1/128", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64", "5f00::/16", "fc00::/7",
			"fe80::/10", "fec0::/10", "ff00::/8"))
	compare := func(addr netip.Addr) {
		if addr.Is4() {
			b := addr.As4()
			inNAT64 := netip.AddrFrom16([16]byte(slices.Concat([]byte{0, 0x64, 0xff, 0x9b, 11: 0}, b[:])))
			for _, same := range []netip.Addr{netip.AddrFrom16(addr.As16()), inNAT64} {
				if (guard{}.check(same) == nil) != (guard{}.check(addr) == nil) {
					t.Errorf("%s is not judged as %s", same, addr)
				}
			}
		}
		if ours, theirs := (guard{}).check(addr), library.SafeAddr(addr); (ours == nil) != (theirs == nil && !contains(hostServices, addr)) {
			t.Errorf("%s: %v; the library: %v", addr, ours, theirs)
		}
	}
	for _, p := range prefixes {
		first, bytes := p.Masked().Addr(), p.Masked().Addr().AsSlice()
		for bit := p.Bits(); bit < len(bytes)*8; bit++ {
			bytes[bit/8] |= 0x80 >> (bit % 8)
		}
		last, _ := netip.AddrFromSlice(bytes)
		for _, addr := range []netip.Addr{first.Prev(), first, last, last.Next()} {
			if addr.IsValid() { // there is none before the first address of all, or after the last
				compare(addr)
			}
		}
	}
}

func TestParseNetwork(t *testing.T) {
	for text, want := range map[string]string{
		"10.1.2.3/8": "10.0.0.0/8", "192.168.1.7": "192.168.1.7/32", "fd00::1/8": "fd00::/8", "::1": "::1/128", "::ffff:127.0.0.1": "127.0.0.1/32",
		"::ffff:127.0.0.9/104": "127.0.0.0/8", "::ffff:1.2.3.4/96": "0.0.0.0/0", "::/0": "::/0",
	} {
		if got, err := ParseNetwork(text); err != nil || got.String() != want {
			t.Errorf("%s: got %s, %v; want %s", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "localhost", "10.0.0.0/33", "10.0.0.0/-1", "10.0/8", "010.0.0.1", "fe80::1%eth0", "fe80::%eth0/10", "[::1]", " 10.0.0.1", "10.0.0.1:80",
	} {
		if got, err := ParseNetwork(text); err == nil || !strings.Contains(err.Error(), "must be a network or an address") || got.IsValid() {
			t.Errorf("%q: got %s, %v", text, got, err)
		}
	}
}

// TestDialerControl has what the hook is told, as text. Nothing here is dialled.
func TestDialerControl(t *testing.T) {
	for _, tc := range []struct {
		network, address string
		allowed          bool
	}{
		{"tcp4", "8.8.8.8:443", true},
		{"tcp6", "[2606:4700::1111]:443", true},
		{"tcp", "8.8.8.8:1", true},
		{"tcp6", "[2606:4700::1111%eth0]:443", true},
		{"tcp6", "[::ffff:8.8.8.8]:80", true},
		{"tcp4", "127.9.9.9:80", true}, // allowed below
		{"tcp6", "[::ffff:127.9.9.9]:80", true},
		{"tcp4", "127.9.9.8:80", false},
		{"tcp6", "[::ffff:127.9.9.8]:80", false},
		{"tcp6", "[::1]:80", false},
		{"tcp6", "[fe80::1%eth0]:80", false},
		{"tcp6", "[64:ff9b::7f09:909]:80", false}, // the translator's loopback is not ours
		{"tcp4", "169.254.169.254:80", false},
		{"udp4", "8.8.8.8:443", false},
		{"ip4:1", "8.8.8.8", false},
		{"unix", "/run/x.sock", false},
		{"", "8.8.8.8:443", false},
		{"tcp4", "", false},
		{"tcp4", "8.8.8.8", false},
		{"tcp4", ":80", false},
		{"tcp4", "localhost:80", false},
		{"tcp4", "example.com:80", false},
		{"tcp4", "0177.0.0.1:80", false},
		{"tcp4", "8.8.8.8.:80", false},
		{"tcp4", "134744072:80", false},
		{"tcp4", "8.8.8.8:99999", false},
		{"tcp6", "2606:4700::1111:443", false},
	} {
		g := guard{[]netip.Prefix{netip.MustParsePrefix("127.9.9.9/32")}}
		err := g.control(t.Context(), tc.network, tc.address, nil)
		if (err == nil) != tc.allowed || err != nil && !errors.Is(err, errAddressRefused) {
			t.Errorf("%s %q: %v; want allowed: %t", tc.network, tc.address, err, tc.allowed)
		}
	}
}

// fakeResolver makes a resolver that asks a DNS server of the test, on a loopback socket. The server answers with the addresses
// that lookUp gives for a name, nth being 1 for the first question for the name's IPv4 addresses, and so on.
//
// A name may have one address outside loopback at most: to put several in order, a resolver connects a UDP socket to each. That
// sends nothing, but tests keep to loopback.
func fakeResolver(t testing.TB, lookUp func(name string, nth int) []string) *net.Resolver {
	t.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	go func() {
		defer close(done)
		asked := make(map[string]int)
		for buf := make([]byte, 1500); ; {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			answer, err := answerDNS(buf[:n], func(name string, kind dnsmessage.Type) []string {
				if kind == dnsmessage.TypeA {
					asked[name]++
				}
				return lookUp(name, asked[name])
			})
			if err == nil {
				_, err = server.WriteTo(answer, from)
			}
			if err != nil {
				t.Errorf("DNS server: %v", err)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
}

// answerDNS answers a query for addresses.
func answerDNS(query []byte, lookUp func(name string, kind dnsmessage.Type) []string) ([]byte, error) {
	var p dnsmessage.Parser
	header, err := p.Start(query)
	if err != nil {
		return nil, err
	}
	question, err := p.Question()
	if err != nil {
		return nil, err
	}
	addresses := lookUp(strings.TrimSuffix(question.Name.String(), "."), question.Type)
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: header.ID, Response: true, Authoritative: true, RecursionAvailable: true},
		Questions: []dnsmessage.Question{question},
	}
	if len(addresses) == 0 {
		m.RCode = dnsmessage.RCodeNameError
	}
	for _, address := range addresses {
		addr := netip.MustParseAddr(address)
		r := dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET}}
		switch {
		case addr.Is4() && question.Type == dnsmessage.TypeA:
			r.Body = &dnsmessage.AResource{A: addr.As4()}
		case addr.Is6() && question.Type == dnsmessage.TypeAAAA:
			r.Body = &dnsmessage.AAAAResource{AAAA: addr.As16()}
		default:
			continue
		}
		m.Answers = append(m.Answers, r)
	}
	return m.Pack()
}

// TestRebinding: a name that is an allowed address for the first attempt and another one for the second.
func TestRebinding(t *testing.T) {
	allowed, refused := listenTwice(t)
	host, port, _ := net.SplitHostPort(allowed.Addr().String())
	resolver := fakeResolver(t, func(name string, nth int) []string {
		switch {
		case name == "rebind.example" && nth == 1:
			return []string{host}
		case name == "rebind.example":
			return []string{"127.0.0.1"}
		case name == "both.example": // all addresses of a name are judged, each by itself
			return []string{"127.0.0.1", host}
		}
		return nil
	})
	network, err := ParseNetwork(host)
	if err != nil {
		t.Fatal(err)
	}
	s := New(Options{AllowNetworks: []netip.Prefix{network}, Resolver: resolver})
	defer s.CloseIdleConnections()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close") // so that each attempt dials
		io.WriteString(w, r.Host)
	})}
	go server.Serve(allowed)
	defer server.Close()

	endpoint := "http://rebind.example:" + port + secretPath
	first := try(t, s, endpoint, testTimeout)
	wantDelivered(t, first)
	if want := "rebind.example:" + port; string(first.Response) != want {
		t.Errorf("the first attempt got to %q", first.Response)
	}
	for range 2 {
		wantClass(t, try(t, s, endpoint, testTimeout), ErrorAddressRefused, "127.0.0.1 is not a public address")
	}
	wantDelivered(t, try(t, s, "http://both.example:"+port+secretPath, testTimeout))

	wantNoConnection(t, refused)
}

// listenTwice listens on the same port of an address that a test allows and of 127.0.0.1. The first is 127.0.0.2, or ::1 where
// the system has 127.0.0.1 alone.
func listenTwice(t *testing.T) (allowed, refused net.Listener) {
	t.Helper()
	var errs []error
	for range 10 { // the port may be taken on the other address
		for _, host := range []string{"127.0.0.2", "::1"} {
			first, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
			if err != nil {
				errs = append(errs, err)
				continue
			}
			_, port, _ := net.SplitHostPort(first.Addr().String())
			second, err := net.Listen("tcp", "127.0.0.1:"+port)
			if err != nil {
				first.Close()
				errs = append(errs, err)
				continue
			}
			t.Cleanup(func() {
				first.Close()
				second.Close()
			})
			return first, second
		}
	}
	t.Fatal(errors.Join(errs...))
	return nil, nil
}

// wantNoConnection sees to it that nobody has connected to a listener that has accepted nothing yet.
func wantNoConnection(t *testing.T, listener net.Listener) {
	t.Helper()
	// Connections are accepted in their order: ours is the first.
	mine, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer mine.Close()
	first, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if first.RemoteAddr().String() != mine.LocalAddr().String() {
		t.Error("the refused address saw a connection")
	}
}
