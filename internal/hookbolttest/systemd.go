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

// ServiceManager is systemd as far as a service sees it: a socket, and variables that tell of it.
type ServiceManager struct {
	// Env are the variables, as NAME=value.
	Env  []string
	path string
	conn *net.UnixConn
}

// NewServiceManager listens as systemd does for a service that is to give a sign of life each watchdogTimeout.
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

// Say sends what a service might say, which Next returns in its turn.
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

// Next waits for what the service says next.
func (m *ServiceManager) Next(t *testing.T) string {
	t.Helper()
	m.conn.SetReadDeadline(time.Now().Add(Timeout))
	var buf [4096]byte
	n, err := m.conn.Read(buf[:])
	if err != nil {
		t.Fatalf("the service says nothing: %v", err)
	}
	return string(buf[:n])
}

// Await waits until the service says something, and lets it give signs of life meanwhile.
func (m *ServiceManager) Await(t *testing.T, state string) {
	t.Helper()
	for {
		switch got := m.Next(t); got {
		case state:
			return
		case "WATCHDOG=1":
		default:
			t.Fatalf("the service says %q, want %q", got, state)
		}
	}
}
