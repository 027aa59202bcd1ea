package postgres

import (
	"net"
	"time"
)

// silence is for how long the other machine may acknowledge nothing before a connection counts as lost. Without a bound it takes a quarter of an hour, or
// for ever if nothing is sent: a firewall forgets idle connections, and a machine that has lost its power sends no farewell.
const silence = 5 * time.Second

// tcpDialer connects to the server.
func tcpDialer() *net.Dialer {
	return &net.Dialer{Control: setUserTimeout, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: silence, Interval: silence / 5, Count: 3}}
}
