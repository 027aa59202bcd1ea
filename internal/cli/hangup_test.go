package cli_test

import (
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"hookbolt/internal/hookbolttest"
)

// TestHangUpWithoutFiles: where there is nothing to read again, a closed terminal ends the server like any other command.
func TestHangUpWithoutFiles(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot be sent SIGHUP on Windows")
	}
	cmd, out := hookbolttest.Command(t, []string{"HOOKBOLT_HTTP_LISTEN=127.0.0.1:0", "HOOKBOLT_STORAGE_PATH=" + filepath.Join(t.TempDir(), "x.db")}, "serve")
	hookbolttest.Launch(t, cmd, out)
	cmd.Process.Signal(syscall.SIGHUP)
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "hangup") {
		t.Errorf("it ended with %v", err)
	}
}
