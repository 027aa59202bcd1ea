package send

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

// specialNetworks are the special-purpose ranges of the IANA IPv4 and IPv6 registries (RFC 6890 and later), and multicast. An endpoint
// there could make hookbolt attack its own network (server-side request forgery). Of IPv6, only ranges within globalUnicast are
// listed. 2001::/23 includes Teredo, and 2002::/16 is 6to4: both embed an IPv4 address, and both are obsolete.
var specialNetworks = parsePrefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
	"192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24",
	"203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
	"2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
)

var (
	// globalUnicast is the part of IPv6 that is allocated to the public (RFC 4291, section 2.4). Outside are loopback, private and
	// link-local networks, multicast, obsolete embeddings of IPv4, and what is unassigned.
	globalUnicast = netip.MustParsePrefix("2000::/3")
	// nat64 is how IPv6-only networks reach IPv4: a translator forwards to the address in the last four bytes (RFC 6052).
	nat64 = netip.MustParsePrefix("64:ff9b::/96")
)

func parsePrefixes(list ...string) []netip.Prefix {
	prefixes := make([]netip.Prefix, len(list))
	for i, s := range list {
		prefixes[i] = netip.MustParsePrefix(s)
	}
	return prefixes
}

// errAddressRefused is the error of each address that the guard does not allow.
var errAddressRefused = errors.New("address refused")

// AddressError is the refusal of an address that is not public.
type AddressError struct{ addr netip.Addr }

// Error says which settings would allow the address.
func (e *AddressError) Error() string {
	return fmt.Sprintf("%v: %s is not a public address; to allow it, name it in the webhook's allow_networks, "+
		"set delivery.allow_networks = [%q] or start with -allow %[3]s", errAddressRefused, e.addr, e.Network())
}

func (e *AddressError) Unwrap() error { return errAddressRefused }

// Network returns the network to allow: the address alone.
func (e *AddressError) Network() netip.Prefix { return netip.PrefixFrom(e.addr, e.addr.BitLen()) }

// CheckAddress refuses a URL whose host is an address that is neither public nor in one of the allowed networks. A host name is not
// looked up: Send checks the addresses of names. The error is an AddressError.
func CheckAddress(rawURL string, allow []netip.Prefix) error { return guard{allow}.checkURL(rawURL) }

// guard decides which addresses may be connected to.
type guard struct{ allow []netip.Prefix }

// with returns a guard that allows what g allows, and own as well.
func (g guard) with(own []netip.Prefix) guard { return guard{slices.Concat(g.allow, own)} }

// check returns an AddressError for an address that is not allowed.
func (g guard) check(addr netip.Addr) error {
	addr = addr.Unmap().WithZone("")
	if contains(g.allow, addr) || isPublic(addr) {
		return nil
	}
	return &AddressError{addr}
}

// isPublic reports whether an address is public. It must have no zone, and must not be IPv4 mapped into IPv6.
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

// checkURL is CheckAddress.
func (g guard) checkURL(rawURL string) error {
	if addr, ok := literalAddress(rawURL); ok {
		return g.check(addr)
	}
	return nil
}

// checkRequest is checkURL for the URLs of a request.
func (g guard) checkRequest(r *Request) error {
	g = g.with(r.AllowNetworks)
	if err := g.checkURL(r.URL); err != nil || r.OAuth2 == nil {
		return err
	}
	return g.checkURL(string(r.OAuth2.TokenURL))
}

// control is a dialer's ControlContext: it is called for each resolved address when its socket is created, before anything is sent.
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

// dialer returns a DialContext that checks each resolved address at the moment its socket is dialled. A check of an earlier lookup
// would not help: the name may resolve to another address on the second lookup (DNS rebinding). A nil resolver means the system's.
func (g guard) dialer(resolver *net.Resolver) func(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: connectTimeout, KeepAlive: connectKeepAlive, Resolver: resolver, ControlContext: g.control}
	return d.DialContext
}

// ParseNetwork reads a network, written as in "10.0.0.0/8"; a single address is a network of one. IPv4 that is mapped into IPv6
// becomes plain IPv4: addresses are checked in that form.
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
