package cli_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"hookbolt/internal/hookbolttest"
)

// TestExposedFiles: the commands that read files with secrets say which of them others may read, once each, and work all the same.
func TestExposedFiles(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // modes do not say there who may read a file
	}
	dir := t.TempDir()
	tokens := hookbolttest.Write(t, filepath.Join(dir, "tokens"), "a-token-of-my-own\n")
	path, database := hookbolttest.WriteConfig(t, dir, `admin_tokens_file = "`+tokens+`"`, `operations_url = "https://ops.example/a-token"`), filepath.Join(dir, "test.db")
	p := hookbolttest.Start(t, "serve", "-config", path)
	p.URL(t)
	if code := p.End(t); code != 0 || strings.Contains(p.Stderr.String(), "level=WARN") {
		t.Fatalf("exit code %d: %s", code, p.Stderr)
	}
	for _, file := range []string{tokens, path, database} {
		if err := os.Chmod(file, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p = hookbolttest.Start(t, "serve", "-config", path)
	p.URL(t)
	if code := p.End(t); code != 0 {
		t.Fatalf("exit code %d: %s", code, p.Stderr)
	}
	said := p.Stderr.String()
	for _, file := range []string{tokens, path, database} {
		if want := "level=WARN msg=\"others than its owner may read or change a file with secrets\" file=" + file + " mode=0644 run=\"chmod go= " + file + "\"\n"; strings.Count(said, want) != 1 {
			t.Errorf("lacks %s in %s", want, said)
		}
	}
	code, stdout, stderr := hookbolttest.Run(t, "config", "check", "-config", path)
	if code != 0 || strings.Count(stderr, "\n") != 3 || strings.Contains(stdout, "warning") || !strings.Contains(stderr, "hookbolt: warning: others than its owner may read or change "+tokens+" (mode 0644): run chmod go= "+tokens+"\n") {
		t.Errorf("config check: %d, %s", code, stderr)
	}
	code, stdout, stderr = hookbolttest.Run(t, "check", database)
	if code != 0 || !strings.HasPrefix(stdout, "ok: ") || stderr != "hookbolt: warning: others than its owner may read or change "+database+" (mode 0644): run chmod go= "+database+"\n" {
		t.Errorf("check: %d, %s%s", code, stdout, stderr)
	}
}
