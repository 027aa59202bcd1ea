package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// specialNetworks are the special-purpose ranges of the IANA IPv4 and IPv6 registries (RFC 6890 and later), and multicast: no
// endpoint of a stranger may make hookbolt talk to them.
var specialNetworks = parsePrefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
	"192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24",
	"203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
	"::/127", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64", "2001::/23", "2001:db8::/32", "2620:4f:8000::/48", "3fff::/20",
	"5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
)

func parsePrefixes(list ...string) []netip.Prefix {
	prefixes := make([]netip.Prefix, len(list))
	for i, s := range list {
		prefixes[i] = netip.MustParsePrefix(s)
	}
	return prefixes
}

// errAddressRefused is returned for a connection to an address that the guard does not allow.
var errAddressRefused = errors.New("address refused")

// guard decides which addresses may be connected to.
type guard struct{ allow []netip.Prefix }

// check returns an error that is errAddressRefused, and says what to configure, for an address that is not allowed.
func (g guard) check(addr netip.Addr) error {
	addr = addr.Unmap().WithZone("")
	if contains(g.allow, addr) {
		return nil
	}
	inner := embeddedIPv4(addr)
	if !contains(specialNetworks, addr) && (!inner.IsValid() || !contains(specialNetworks, inner)) {
		return nil
	}
	return fmt.Errorf("%w: %s is not a public address; to allow it, set delivery.allow_networks = [%q] or start with -allow %[3]s",
		errAddressRefused, addr, netip.PrefixFrom(addr, addr.BitLen()))
}

func contains(networks []netip.Prefix, addr netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(addr) {
			return true
		}
	}
	return false
}

// embeddedIPv4 returns the IPv4 address to which a translator or relay would send what goes to an IPv6 address: NAT64
// (RFC 6052), 6to4 (RFC 3056), and the deprecated IPv4-compatible form (RFC 4291). The zero Addr means that there is none.
// Teredo needs no look: 2001::/32 is refused as a whole.
func embeddedIPv4(addr netip.Addr) netip.Addr {
	if !addr.Is6() {
		return netip.Addr{}
	}
	b := addr.As16()
	at := -1
	switch {
	case netip.MustParsePrefix("64:ff9b::/96").Contains(addr), netip.MustParsePrefix("::/96").Contains(addr):
		at = 12
	case netip.MustParsePrefix("2002::/16").Contains(addr):
		at = 2
	default:
		return netip.Addr{}
	}
	return netip.AddrFrom4([4]byte(b[at : at+4]))
}

// checkEndpoint refuses a URL whose host is a refused address in plain sight.
func (g guard) checkEndpoint(rawURL string) error {
	if addr, ok := plainAddress(rawURL); ok {
		return g.check(addr)
	}
	return nil
}

// dialer returns a DialContext that checks each resolved address at the moment its socket is dialled, so that a name that
// resolves to something else on the second look-up finds nothing (DNS rebinding).
func (g guard) dialer() func(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{
		Timeout:   10 * time.Second,
		KeepAlive: 30 * time.Second,
		ControlContext: func(_ context.Context, network, address string, _ syscall.RawConn) error {
			if !strings.HasPrefix(network, "tcp") {
				return fmt.Errorf("%w: network %s", errAddressRefused, network)
			}
			ap, err := netip.ParseAddrPort(address)
			if err != nil {
				return fmt.Errorf("%w: %v", errAddressRefused, err)
			}
			return g.check(ap.Addr())
		},
	}
	return d.DialContext
}
