package httpapi

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// proxies are the networks of the reverse proxies that are trusted. Anybody can send X-Forwarded-For and X-Forwarded-Proto, so they are
// believed only if the connection comes from one of these.
type proxies []netip.Prefix

// clientAddr returns the address of the client of a request: that of the connection or, if this is a trusted proxy, the one that the
// proxies name. It is the zero Addr if the connection has no IP address. Every part of hookbolt that tells clients apart uses it.
func (a *API) clientAddr(r *http.Request) netip.Addr { return a.settings.Load().proxies.client(r) }

// usesHTTPS reports whether the browser that sent a request uses HTTPS, as far as hookbolt can know.
func (a *API) usesHTTPS(r *http.Request) bool {
	return r.TLS != nil || a.settings.Load().proxies.forwardedHTTPS(r)
}

func (p proxies) trusts(addr netip.Addr) bool {
	return slices.ContainsFunc(p, func(network netip.Prefix) bool { return network.Contains(addr) })
}

// client finds the client of a request. Each proxy appends the address of its own client to X-Forwarded-For, and the client itself may have
// begun the list. So the list is read from its end: the first address that is no trusted proxy is the client. Whatever stands before it
// may be invented.
func (p proxies) client(r *http.Request) netip.Addr {
	addr := peerAddr(r)
	if !p.trusts(addr) {
		return addr
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		named, ok := parseHop(hop)
		if !ok { // what stands before it is not believed either
			return addr
		}
		if addr = named; !p.trusts(addr) {
			return addr
		}
	}
	return addr
}

// peerAddr returns the address of the other end of the connection.
func peerAddr(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return plainAddr(peer.Addr())
}

// parseHop reads an item of X-Forwarded-For: an address, which some proxies write with a port.
func parseHop(hop string) (netip.Addr, bool) {
	hop = strings.TrimSpace(hop)
	if withPort, err := netip.ParseAddrPort(hop); err == nil {
		return plainAddr(withPort.Addr()), true
	}
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(hop, "["), "]"))
	return plainAddr(addr), err == nil
}

// plainAddr writes an address in the one form that networks are compared with: no IPv4 inside IPv6, no zone.
func plainAddr(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }

// forwardedHTTPS reports whether a trusted proxy says that the browser uses HTTPS. Each proxy of a chain may append what it has seen; the
// first value is the browser's. A client that invents it affects only its own cookie.
func (p proxies) forwardedHTTPS(r *http.Request) bool {
	first, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Proto"), ",")
	return strings.EqualFold(strings.TrimSpace(first), "https") && p.trusts(peerAddr(r))
}
