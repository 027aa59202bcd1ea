package hookbolttest

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// ServiceManager acts as systemd does towards a service: it has a socket, and environment variables with its address.
type ServiceManager struct {
	// Env are the variables, as NAME=value.
	Env  []string
	path string
	conn *net.UnixConn
}

// NewServiceManager starts a ServiceManager for a service with this watchdog timeout.
func NewServiceManager(t *testing.T, watchdogTimeout time.Duration) *ServiceManager {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("there are no datagram sockets with a path on Windows")
	}
	dir, err := os.MkdirTemp("", "hookbolt") // not t.TempDir: a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &ServiceManager{[]string{"NOTIFY_SOCKET=" + path, fmt.Sprintf("WATCHDOG_USEC=%d", watchdogTimeout.Microseconds())}, path, conn}
}

// Say sends a message as a service would. Next returns it in its turn.
func (m *ServiceManager) Say(t *testing.T, state string) {
	t.Helper()
	conn, err := net.Dial("unixgram", m.path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(state)); err != nil {
		t.Fatal(err)
	}
}

// Next waits for the next message of the service.
func (m *ServiceManager) Next(t *testing.T) string {
	t.Helper()
	m.conn.SetReadDeadline(time.Now().Add(Timeout))
	var buf [4096]byte
	n, err := m.conn.Read(buf[:])
	if err != nil {
		t.Fatalf("the service sends nothing: %v", err)
	}
	return string(buf[:n])
}

// Await waits for a message of the service, and ignores messages of the watchdog before it.
func (m *ServiceManager) Await(t *testing.T, state string) {
	t.Helper()
	for {
		switch got := m.Next(t); got {
		case state:
			return
		case "WATCHDOG=1":
		default:
			t.Fatalf("the service sent %q, want %q", got, state)
		}
	}
}
