package server_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"hookbolt/internal/cli"
	"hookbolt/internal/hookbolttest"
)

// A database gets its directory if the one above is there. Otherwise serve and config check say the same, and name the directory.
func TestDirectoryOfTheDatabase(t *testing.T) {
	dir := t.TempDir()
	file := hookbolttest.Write(t, filepath.Join(dir, "file"), "")
	lost := filepath.Join(dir, "none", "data")
	t.Setenv("HOOKBOLT_HTTP_LISTEN", "127.0.0.1:0")
	for path, want := range map[string]string{
		filepath.Join(lost, "x.db"):         "storage.path: the directory " + lost + " does not exist, and cannot be created: " + filepath.Dir(lost) + " is not a directory\n",
		filepath.Join(file, "x.db"):         "storage.path: " + file + " is not a directory\n",
		filepath.Join(file, "data", "x.db"): "storage.path: ",
	} {
		t.Setenv("HOOKBOLT_STORAGE_PATH", path)
		for command, from := range map[string]string{"config check": "HOOKBOLT_STORAGE_PATH: ", "serve": ""} {
			code, stdout, stderr := hookbolttest.Run(t, strings.Fields(command)...)
			if code != cli.ExitFailure || stdout != "" || !strings.HasPrefix(stderr, "hookbolt: "+from+want) || !strings.Contains(stderr, filepath.Dir(path)) || strings.Count(stderr, "\n") != 1 {
				t.Errorf("%s with %s: exit code %d, it said %s%s\nwant %s", command, path, code, stdout, stderr, want)
			}
		}
	}
	if _, err := os.Stat(filepath.Dir(lost)); err == nil {
		t.Errorf("%s was made", filepath.Dir(lost))
	}

	directory := filepath.Join(dir, "data")
	t.Setenv("HOOKBOLT_STORAGE_PATH", filepath.Join(directory, "x.db"))
	if code, _, stderr := hookbolttest.Run(t, "config", "check"); code != 0 {
		t.Errorf("config check: exit code %d: %s", code, stderr)
	}
	if _, err := os.Stat(directory); err == nil {
		t.Error("config check has made the directory")
	}
	for range 2 { // the second time it is there
		p := hookbolttest.Start(t, "serve")
		p.URL(t)
		if code := p.End(t); code != 0 {
			t.Errorf("exit code %d", code)
		}
	}
	if info, err := os.Stat(directory); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o700 {
		t.Errorf("the directory is %v, %v, want one that is nobody else's", info, err)
	}
}
