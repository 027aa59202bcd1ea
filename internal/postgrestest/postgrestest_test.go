package postgrestest

import (
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// The watchdog stops the server and removes its files when the pipe ends, as it does when the test binary is killed.
func TestNothingIsLeft(t *testing.T) {
	c := Start(t, Options{})
	conn, err := pgx.Connect(t.Context(), c.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var fsync string
	if err := conn.QueryRow(t.Context(), "SHOW fsync").Scan(&fsync); err != nil || fsync != "off" {
		t.Errorf("fsync is %q (%v), want off", fsync, err)
	}
	c.stop()
	if _, err := os.Stat(c.dir); !os.IsNotExist(err) {
		t.Errorf("the directory is still there: %v", err)
	}
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("the server still answers")
	}
}

// A cluster takes a moment, not minutes: it is started by each test binary.
func TestSharedIsOne(t *testing.T) {
	first := Shared(t)
	began := time.Now()
	if Shared(t) != first || time.Since(began) > time.Second {
		t.Error("the second call has started another cluster")
	}
}
