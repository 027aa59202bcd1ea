// Package systemd tells the service manager that has started this process how it does: systemd, or another one that speaks sd_notify(3).
// Without a service manager it does nothing. The protocol is a datagram with one line for each thing to say, which needs no library.
//
// It knows nothing of hookbolt: what it takes to be alive is a function that it is given.
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

// ClosingTime is how long a stop may take beyond its grace: the last attempts are recorded and the database is closed.
const ClosingTime = time.Minute

// sendTimeout is how long to wait for a service manager that does not listen.
const sendTimeout = 5 * time.Second

// Manager is the service manager.
type Manager struct {
	log    *slog.Logger
	socket string // "" without one
	// watchdogTimeout is after how long without a sign of life the process is killed and started again; 0 for never.
	watchdogTimeout time.Duration
}

// New reads from the environment whether there is a service manager.
func New(log *slog.Logger) *Manager {
	m := &Manager{log: log, socket: os.Getenv("NOTIFY_SOCKET")}
	// WATCHDOG_PID is the process that the rest is meant for: not a child that has inherited the environment.
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
	conn, err := net.Dial("unixgram", m.socket) // a leading @, for an abstract address, is understood
	if err == nil {
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(sendTimeout))
		_, err = conn.Write([]byte(state))
	}
	if err != nil {
		m.log.Warn("the service manager could not be told", "state", state, "error", err)
	}
}

// Ready says that the server at url serves requests and makes deliveries.
func (m *Manager) Ready(url string) { m.send("READY=1\nSTATUS=ready at " + url) }

// Stopping says that the stop has begun, and asks for as much time as it may take, so that the grace holds whatever TimeoutStopSec is.
func (m *Manager) Stopping(grace time.Duration) {
	m.send(fmt.Sprintf("STOPPING=1\nSTATUS=stopping\nEXTEND_TIMEOUT_USEC=%d", (grace + ClosingTime).Microseconds()))
}

// Watch gives signs of life until ctx ends, as long as alive returns nil. What alive returns must mean that a new start would help.
func (m *Manager) Watch(ctx context.Context, alive func(context.Context) error) {
	if m.watchdogTimeout == 0 {
		return
	}
	interval := m.watchdogTimeout / 2
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		asked, cancel := context.WithTimeout(ctx, interval)
		err := alive(asked)
		cancel()
		switch {
		case err == nil:
			m.send("WATCHDOG=1")
		case ctx.Err() == nil:
			m.log.Error("no sign of life for the service manager: the server does not work", "error", err, "watchdog_timeout", m.watchdogTimeout)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}
