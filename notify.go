package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"

	"hookbolt/engine"
)

// closingTime is what an end may take beyond its grace: the last attempts are recorded and the database is closed.
const closingTime = time.Minute

// tellTimeout is how long to wait for a service manager that does not listen.
const tellTimeout = 5 * time.Second

// supervisor is the service manager that has started hookbolt and wants to hear how it does: systemd, or another one that speaks
// sd_notify(3). Without one nothing is told. The protocol is a datagram with a line for each thing to say, which is not worth a library.
type supervisor struct {
	log    *slog.Logger
	socket string // "" without one
	// patience is after how long without a sign of life hookbolt is killed and started again; 0 for never.
	patience time.Duration
}

// newSupervisor reads from the environment whether there is one.
func newSupervisor(log *slog.Logger) supervisor {
	s := supervisor{log: log, socket: os.Getenv("NOTIFY_SOCKET")}
	// WATCHDOG_PID says whom the rest is meant for: not a child that has got the same environment.
	if pid := os.Getenv("WATCHDOG_PID"); s.socket == "" || pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return s
	}
	if usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 52); err == nil && usec > 0 { // 52: no overflow below
		s.patience = time.Duration(usec) * time.Microsecond
	}
	return s
}

func (s supervisor) tell(state string) {
	if s.socket == "" {
		return
	}
	conn, err := net.Dial("unixgram", s.socket) // a leading @, for an abstract address, is understood
	if err == nil {
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(tellTimeout))
		_, err = conn.Write([]byte(state))
	}
	if err != nil {
		s.log.Warn("the service manager could not be told", "state", state, "error", err)
	}
}

// ready says that requests are served and deliveries made.
func (s supervisor) ready(url string) { s.tell("READY=1\nSTATUS=ready at " + url) }

// stopping says that the end has begun, and asks for as much time as it may take, so that http.shutdown_timeout holds whatever
// TimeoutStopSec is.
func (s supervisor) stopping(grace time.Duration) {
	s.tell(fmt.Sprintf("STOPPING=1\nSTATUS=stopping\nEXTEND_TIMEOUT_USEC=%d", (grace + closingTime).Microseconds()))
}

// watch gives signs of life until ctx ends, as long as ready, the check behind /readyz, finds that the server works: not while the
// database's writer hangs. A full disk is no reason to be killed, for a new start would find the same disk: the server refuses events
// then, and attempts go on.
func (s supervisor) watch(ctx context.Context, ready func(context.Context) error) {
	if s.patience == 0 {
		return
	}
	interval := s.patience / 2
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		asked, cancel := context.WithTimeout(ctx, interval)
		err := ready(asked)
		cancel()
		switch {
		case err == nil || errors.Is(err, engine.ErrFull):
			s.tell("WATCHDOG=1")
		case ctx.Err() == nil:
			s.log.Error("no sign of life for the service manager: the server does not work", "error", err, "patience", s.patience)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}
