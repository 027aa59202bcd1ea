// Package loopback tells which addresses lead to this machine only. It knows nothing of hookbolt.
package loopback

import (
	"net"
	"net/netip"
	"strings"
)

// IsHost reports whether a host, such as that of a Host header, is a loopback address or localhost, with any port.
func IsHost(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	} else if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
	}
	// Not *.localhost: some resolvers look it up elsewhere.
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

// IsAddress reports whether a listen address, such as "127.0.0.1:8080", can be reached only from this machine. An address without a
// host, such as ":8080", can be reached through every interface.
func IsAddress(listen string) bool {
	_, _, err := net.SplitHostPort(listen)
	return err == nil && IsHost(listen)
}
