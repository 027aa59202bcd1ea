package cli_test

import (
	"os/signal"
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
	if signal.Ignored(syscall.SIGHUP) { // and by the server, which inherits that
		t.Skip("SIGHUP is ignored, as under nohup")
	}
	cmd, out := hookbolttest.Command(t, []string{"HOOKBOLT_HTTP_LISTEN=127.0.0.1:0", "HOOKBOLT_STORAGE_PATH=" + filepath.Join(t.TempDir(), "x.db")}, "serve")
	hookbolttest.Launch(t, cmd, out)
	cmd.Process.Signal(syscall.SIGHUP)
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "hangup") {
		t.Errorf("it ended with %v", err)
	}
}
