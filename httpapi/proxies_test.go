package httpapi

import (
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

var testProxies = proxies{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("2001:db8:1::/48")}

// TestClientAddr finds the client behind proxies, and nobody's inventions.
func TestClientAddr(t *testing.T) {
	for _, c := range []struct {
		name, peer string
		forwarded  []string
		want       string
	}{
		{"no proxy", "203.0.113.7:1234", nil, "203.0.113.7"},
		{"no proxy, and a claim", "203.0.113.7:1234", []string{"198.51.100.1"}, "203.0.113.7"},
		{"a proxy", "10.1.2.3:80", []string{"203.0.113.7"}, "203.0.113.7"},
		{"a proxy on this machine", "127.0.0.1:80", []string{"203.0.113.7"}, "203.0.113.7"},
		{"another address of this machine", "127.0.0.2:80", []string{"203.0.113.7"}, "127.0.0.2"},
		{"a claim before the proxy's word", "10.1.2.3:80", []string{"198.51.100.1, 203.0.113.7"}, "203.0.113.7"},
		{"a claim to be a proxy", "10.1.2.3:80", []string{"198.51.100.1, 10.9.9.9, 203.0.113.7"}, "203.0.113.7"},
		{"a claim in a header of its own", "10.1.2.3:80", []string{"198.51.100.1", "203.0.113.7"}, "203.0.113.7"},
		{"a chain", "10.1.2.3:80", []string{"203.0.113.7, 10.4.5.6,10.7.8.9"}, "203.0.113.7"},
		{"a chain in two headers", "10.1.2.3:80", []string{"203.0.113.7", "10.4.5.6"}, "203.0.113.7"},
		{"proxies only", "10.1.2.3:80", []string{"10.4.5.6, 10.7.8.9"}, "10.4.5.6"},
		{"no header", "10.1.2.3:80", nil, "10.1.2.3"},
		{"an empty header", "10.1.2.3:80", []string{""}, "10.1.2.3"},
		{"no address", "10.1.2.3:80", []string{"203.0.113.7, unknown"}, "10.1.2.3"},
		{"no address before a proxy", "10.1.2.3:80", []string{"203.0.113.7, _hidden, 10.4.5.6"}, "10.4.5.6"},
		{"a comma at the end", "10.1.2.3:80", []string{"203.0.113.7,"}, "10.1.2.3"},
		{"with a port", "10.1.2.3:80", []string{"203.0.113.7:4711"}, "203.0.113.7"},
		{"IPv6", "[2001:db8:1::5]:80", []string{"2001:db8:2::7"}, "2001:db8:2::7"},
		{"IPv6 in brackets", "[2001:db8:1::5]:80", []string{"[2001:db8:2::7]"}, "2001:db8:2::7"},
		{"IPv6 with a port", "[2001:db8:1::5]:80", []string{"[2001:db8:2::7]:4711"}, "2001:db8:2::7"},
		{"IPv4 in IPv6", "[::ffff:10.1.2.3]:80", []string{"::ffff:203.0.113.7"}, "203.0.113.7"},
		{"a zone", "[fe80::1%eth0]:80", []string{"203.0.113.7"}, "fe80::1"},
		{"a socket without an address", "@", []string{"203.0.113.7"}, "invalid IP"},
		{"a very long list", "10.1.2.3:80", []string{strings.Repeat("198.51.100.1,", 2000) + "203.0.113.7"}, "203.0.113.7"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = c.peer
		for _, value := range c.forwarded {
			r.Header.Add("X-Forwarded-For", value)
		}
		if got := testProxies.client(r).String(); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
		if peer := peerAddr(r); proxies(nil).client(r) != peer {
			t.Errorf("%s: without trusted proxies the client is not %s", c.name, peer)
		}
	}
}

// FuzzClientAddr: nobody but a trusted proxy names a client, and what a client writes in front of its address has no effect.
func FuzzClientAddr(f *testing.F) {
	for _, seed := range []string{"", "203.0.113.7", "10.1.2.3, 203.0.113.7", "unknown", ",", "[2001:db8::1]:80,10.0.0.1", "::ffff:10.0.0.1", "10.0.0.1%eth0"} {
		f.Add(seed, "198.51.100.1")
	}
	f.Fuzz(func(t *testing.T, forwarded, claim string) {
		client := func(peer, value string) netip.Addr {
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr = peer
			r.Header.Set("X-Forwarded-For", value)
			return testProxies.client(r)
		}
		if got := client("203.0.113.9:1", forwarded); got != netip.MustParseAddr("203.0.113.9") {
			t.Fatalf("%q gives %s to a client that connects itself", forwarded, got)
		}
		got := client("10.0.0.1:1", forwarded)
		if !got.IsValid() || got.Is4In6() || got.Zone() != "" {
			t.Fatalf("%q gives %s", forwarded, got)
		}
		if testProxies.trusts(got) { // the list may go on
			return
		}
		if claimed := client("10.0.0.1:1", claim+","+forwarded); claimed != got {
			t.Fatalf("%q before %q gives %s instead of %s", claim, forwarded, claimed, got)
		}
	})
}

// TestForwardedProto: only a trusted proxy says whether the browser uses HTTPS.
func TestForwardedProto(t *testing.T) {
	for value, want := range map[string]bool{"https": true, "HTTPS": true, "https,http": true, " https , http": true, "http,https": false, "http": false, ",https": false, "": false} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("X-Forwarded-Proto", value)
		r.RemoteAddr = "10.1.2.3:80"
		if got := testProxies.forwardedHTTPS(r); got != want {
			t.Errorf("%q: %v", value, got)
		}
		if proxies(nil).forwardedHTTPS(r) {
			t.Errorf("%q is believed of anybody", value)
		}
	}
}
