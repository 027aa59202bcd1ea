package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
)

// specialNetworks are the special-purpose ranges of the IANA IPv4 and IPv6 registries (RFC 6890 and later), and multicast: no
// endpoint of a stranger may make hookbolt talk to them. Of IPv6 only those within globalUnicast are here. 2001::/23 has Teredo
// in it, and 2002::/16 is 6to4: both hide an IPv4 address, and both are of the past.
var specialNetworks = parsePrefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
	"192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24",
	"203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
	"2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
)

var (
	// globalUnicast is all of IPv6 that is given out to the public (RFC 4291, section 2.4). What lies outside is this machine, a
	// private or local network, a group, IPv4 in a form of the past, or nobody's yet.
	globalUnicast = netip.MustParsePrefix("2000::/3")
	// nat64 is where networks that have IPv6 alone find IPv4: a translator sends on to the last four bytes (RFC 6052).
	nat64 = netip.MustParsePrefix("64:ff9b::/96")
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

// with returns a guard that allows what g does, and own as well.
func (g guard) with(own []netip.Prefix) guard { return guard{slices.Concat(g.allow, own)} }

// check returns an error that is errAddressRefused, and says what to configure, for an address that is not allowed.
func (g guard) check(addr netip.Addr) error {
	addr = addr.Unmap().WithZone("")
	if contains(g.allow, addr) || isPublic(addr) {
		return nil
	}
	return fmt.Errorf("%w: %s is not a public address; to allow it, name it in the webhook's allow_networks, "+
		"set delivery.allow_networks = [%q] or start with -allow %[3]s", errAddressRefused, addr, singleAddress(addr))
}

// isPublic tells whether an address, which has no zone and is not IPv4 mapped into IPv6, may belong to anybody.
func isPublic(addr netip.Addr) bool {
	if nat64.Contains(addr) {
		b := addr.As16()
		addr = netip.AddrFrom4([4]byte(b[12:]))
	}
	return (addr.Is4() || globalUnicast.Contains(addr)) && !contains(specialNetworks, addr)
}

func contains(networks []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(addr) })
}

// checkEndpoint refuses a URL whose host is a refused address in plain sight.
func (g guard) checkEndpoint(rawURL string) error {
	if addr, ok := plainAddress(rawURL); ok {
		return g.check(addr)
	}
	return nil
}

// singleAddress is the network that has one address.
func singleAddress(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	return netip.PrefixFrom(addr, addr.BitLen())
}

// control is a dialer's ControlContext: it sees each resolved address when its socket is made, before anything is sent.
func (g guard) control(_ context.Context, network, address string, _ syscall.RawConn) error {
	if !strings.HasPrefix(network, "tcp") {
		return fmt.Errorf("%w: network %s", errAddressRefused, network)
	}
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %v", errAddressRefused, err)
	}
	return g.check(ap.Addr())
}

// dialer returns a DialContext that checks each resolved address at the moment its socket is dialled, so that a name that
// resolves to something else on the second look-up finds nothing (DNS rebinding). A nil resolver means the system's.
func (g guard) dialer(resolver *net.Resolver) func(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: connectTimeout, KeepAlive: connectKeepAlive, Resolver: resolver, ControlContext: g.control}
	return d.DialContext
}

// ParseNetwork reads a range of addresses, written as in "10.0.0.0/8"; a bare address is a range of one. IPv4 that is mapped
// into IPv6 becomes plain IPv4, as which addresses are checked.
func ParseNetwork(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if addr, addrErr := netip.ParseAddr(text); addrErr == nil && addr.Zone() == "" {
		p, err = netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("must be a network or an address, such as 10.0.0.0/8, 192.168.1.7 or fd00::/8 (got %.60q)", text)
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}
