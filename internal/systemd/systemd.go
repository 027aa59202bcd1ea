// Package systemd reports the state of this process to the service manager: systemd, or another one that implements sd_notify(3). Without
// a service manager it does nothing. The protocol is a datagram of lines NAME=value, so no library is needed.
//
// It knows nothing of hookbolt: its caller passes the check that the watchdog needs.
package systemd

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"
)

// ClosingTime is how long a stop may take beyond the shutdown timeout, to record the last attempts and to close the database.
const ClosingTime = time.Minute

// sendTimeout is how long to wait for a service manager that does not read.
const sendTimeout = 5 * time.Second

// Manager sends messages to the service manager.
type Manager struct {
	log    *slog.Logger
	socket string // "" without one
	// watchdogTimeout is the time without WATCHDOG=1 after which the process is killed and restarted; 0 means no watchdog.
	watchdogTimeout time.Duration
}

// New returns a Manager for the service manager that the environment names, if any.
func New(log *slog.Logger) *Manager {
	m := &Manager{log: log, socket: os.Getenv("NOTIFY_SOCKET")}
	// The watchdog is meant for the process WATCHDOG_PID, not for a child that has inherited the environment.
	if pid := os.Getenv("WATCHDOG_PID"); m.socket == "" || pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return m
	}
	if usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 52); err == nil && usec > 0 { // 52: no overflow below
		m.watchdogTimeout = time.Duration(usec) * time.Microsecond
	}
	return m
}

func (m *Manager) send(state string) {
	if m.socket == "" {
		return
	}
	conn, err := net.Dial("unixgram", m.socket) // net understands the leading @ of an abstract address
	if err == nil {
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(sendTimeout))
		_, err = conn.Write([]byte(state))
	}
	if err != nil {
		m.log.Warn("the service manager could not be notified", "state", state, "error", err)
	}
}

// Ready reports that the server at url serves requests and makes deliveries.
func (m *Manager) Ready(url string) { m.send("READY=1\nSTATUS=ready at " + url) }

// Stopping reports that the stop has begun. It asks for enough time, so that the shutdown timeout is kept whatever TimeoutStopSec is.
func (m *Manager) Stopping(shutdownTimeout time.Duration) {
	m.send(fmt.Sprintf("STOPPING=1\nSTATUS=stopping\nEXTEND_TIMEOUT_USEC=%d", (shutdownTimeout + ClosingTime).Microseconds()))
}

// Watch sends WATCHDOG=1 regularly until ctx ends, as long as alive returns nil. An error of alive must mean that a restart would help.
func (m *Manager) Watch(ctx context.Context, alive func(context.Context) error) {
	if m.watchdogTimeout == 0 {
		return
	}
	interval := m.watchdogTimeout / 2
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		checking, cancel := context.WithTimeout(ctx, interval)
		err := alive(checking)
		cancel()
		switch {
		case err == nil:
			m.send("WATCHDOG=1")
		case ctx.Err() == nil:
			m.log.Error("the watchdog is not reset: the server does not work", "error", err, "watchdog_timeout", m.watchdogTimeout)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}
