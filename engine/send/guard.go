package send

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
)

// specialNetworks are the special-purpose ranges of the IANA IPv4 and IPv6 registries (RFC 6890 and later), and multicast. An endpoint
// there could make hookbolt attack its own network (server-side request forgery). Of IPv6, only ranges within globalUnicast are
// listed. 2001::/23 includes Teredo, and 2002::/16 is 6to4: both embed an IPv4 address, and both are obsolete.
//
// The services of cloud providers that hand out a machine's credentials are within these ranges (169.254.169.254, 100.100.100.200,
// 192.0.0.192, fd00:ec2::254), but for Azure's: see hostServices.
var specialNetworks = parsePrefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
	"192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24",
	"203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
	"2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
)

// hostServices are addresses outside of specialNetworks that only a machine's own host answers. 168.63.129.16 is Azure's: it hands out
// certificates and the settings of extensions, and it is the same on each machine
// (https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16).
var hostServices = parsePrefixes("168.63.129.16/32")

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

// AddressError is the refusal of an address that is not public, or that is this machine's own.
type AddressError struct {
	addr netip.Addr
	own  bool // the address is public, but this machine's
}

// Error says which settings would allow the address.
func (e *AddressError) Error() string {
	what := "is not a public address"
	if e.own {
		what = "is an address of this machine"
	}
	return fmt.Sprintf("%v: %s %s; to allow it, name it in the webhook's allow_networks, "+
		"set delivery.allow_networks = [%q] or start with -allow %[4]s", errAddressRefused, e.addr, what, e.Network())
}

func (e *AddressError) Unwrap() error { return errAddressRefused }

// Network returns the network to allow: the address alone.
func (e *AddressError) Network() netip.Prefix { return netip.PrefixFrom(e.addr, e.addr.BitLen()) }

// CheckAddress refuses a URL whose host is an address that is in none of the allowed networks, and not public or this machine's own. A
// host name is not looked up: Send checks the addresses of names. The error is an AddressError.
func CheckAddress(rawURL string, allow []netip.Prefix) error { return guard{allow}.checkURL(rawURL) }

// guard decides which addresses may be connected to.
type guard struct{ allow []netip.Prefix }

// with returns a guard that allows what g allows, and own as well.
func (g guard) with(own []netip.Prefix) guard { return guard{slices.Concat(g.allow, own)} }

// check returns an AddressError for an address that is not allowed, and another error if the system does not tell.
func (g guard) check(addr netip.Addr) error {
	addr = addr.Unmap().WithZone("")
	if contains(g.allow, addr) {
		return nil
	}
	if !isPublic(translated(addr)) {
		return &AddressError{addr: addr}
	}
	for _, a := range slices.Compact([]netip.Addr{translated(addr), addr}) {
		if own, err := isOwn(a); err != nil {
			return err
		} else if own {
			return &AddressError{addr: addr, own: true}
		}
	}
	return nil
}

// translated returns the IPv4 address to which a NAT64 translator forwards, or the address itself.
func translated(addr netip.Addr) netip.Addr {
	if !nat64.Contains(addr) {
		return addr
	}
	b := addr.As16()
	return netip.AddrFrom4([4]byte(b[12:]))
}

// isPublic reports whether an address is public. It must have no zone, and must not be IPv4 within IPv6.
func isPublic(addr netip.Addr) bool {
	return (addr.Is4() || globalUnicast.Contains(addr)) && !contains(specialNetworks, addr) && !contains(hostServices, addr)
}

// isOwn reports whether an address is this machine's. It is a variable for tests, which have no public address.
var isOwn = isRoutedHere

// isRoutedHere asks the system from which address it would send to another one: a machine talks to itself from the very address that it
// talks to. So no list can be out of date, and no list of interfaces is needed, which a service may be forbidden to read
// (RestrictAddressFamilies of systemd). Connecting a UDP socket sends nothing. It fails where there is no route, which an address of the
// machine always has. If there is no socket or no port for it, the answer is unknown.
func isRoutedHere(addr netip.Addr) (bool, error) {
	const anyPort = 9
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, anyPort)))
	if failed, ok := errors.AsType[*os.SyscallError](err); ok && failed.Syscall == "connect" && !errors.Is(err, syscall.EAGAIN) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer conn.Close()
	from, ok := conn.LocalAddr().(*net.UDPAddr)
	return ok && from.AddrPort().Addr().Unmap().WithZone("") == addr, nil
}

func contains(networks []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(addr) })
}

// checkURL is CheckAddress.
func (g guard) checkURL(rawURL string) error {
	addr, ok := literalAddress(rawURL)
	if !ok {
		return nil
	}
	err := g.check(addr)
	if !errors.Is(err, errAddressRefused) {
		return nil // unknown now: each dial is checked, too
	}
	return err
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
func (g guard) dialer(resolver *net.Resolver) dialFunc {
	d := net.Dialer{KeepAlive: connectKeepAlive, Resolver: resolver, ControlContext: g.control}
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
