// Package loopback tells which addresses lead to this machine only. It knows nothing of hookbolt.
package loopback

import (
	"net"
	"net/netip"
	"strings"
)

// IsHost tells whether a host, such as that of a Host header, is a loopback address or localhost, whatever the port.
func IsHost(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	} else if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
	}
	// Not *.localhost: not every resolver keeps it on this machine.
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

// IsAddress tells whether a listen address, such as "127.0.0.1:8080", can be reached from this machine only. An address without a host,
// such as ":8080", can be reached through every interface.
func IsAddress(listen string) bool {
	_, _, err := net.SplitHostPort(listen)
	return err == nil && IsHost(listen)
}
