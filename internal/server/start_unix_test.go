//go:build unix

package server_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"hookbolt/internal/hookbolttest"
)

// TestStopDuringStart: a stop is heeded while the start still reads something that takes long, here a key that never comes.
func TestStopDuringStart(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"cert", "key"} {
		if err := syscall.Mkfifo(filepath.Join(dir, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config := hookbolttest.WriteConfig(t, dir, "tls_cert_file = \""+filepath.Join(dir, "cert")+"\"\ntls_key_file = \""+filepath.Join(dir, "key")+"\"", "")
	child, said := hookbolttest.Command(t, nil, "serve", "-config", config)
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	// To open a pipe for writing waits for its reader. The server reads it to the end, which does not come.
	cert, err := os.OpenFile(filepath.Join(dir, "cert"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer cert.Close()
	if err := child.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := child.Wait(); err != nil {
		t.Error(err)
	}
	if log := said.String(); !strings.Contains(log, `level=INFO msg="stopped before the start was complete" cause=`) {
		t.Errorf("it said %s", log)
	}
}
