package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hookbolt/storage/bolt"
)

// A damaged database keeps the server from starting, with one line that says so, whatever it would do to the process that reads it.
func TestDamagedDatabaseIsRefused(t *testing.T) {
	dir := t.TempDir()
	config := writeConfig(t, dir, "", "")
	path := filepath.Join(dir, "test.db")
	p := start(t, "serve", "-config", config)
	call(t, "POST", p.url(t)+"/v1/webhooks", `{"url":"https://example.com/"}`)
	if code := p.end(t); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const page = 4096
	damage := map[string][]byte{
		"truncated": whole[:len(whole)/2/page*page],
		"tiny":      whole[:100],
		"nothing":   nil,
		"zeroed":    append(append([]byte(nil), whole[:2*page]...), make([]byte, len(whole)-2*page)...),
		"garbage":   append(append([]byte(nil), whole[:2*page]...), bytes.Repeat([]byte{0xa5}, len(whole)-2*page)...),
		"no metas":  append(make([]byte, 2*page), whole[2*page:]...),
	}
	for name, content := range damage {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			var said bytes.Buffer
			if code := run(t.Context(), []string{"serve", "-config", config}, io.Discard, &said); code != exitFailure {
				t.Errorf("exit code %d, want %d", code, exitFailure)
			}
			line := said.String()
			if strings.Count(line, "\n") != 1 || !strings.Contains(line, path) ||
				!strings.Contains(line, bolt.ErrCorrupt.Error()) && !strings.Contains(line, bolt.ErrNotDatabase.Error()) {
				t.Errorf("it said %q, want one line that names the file and what it is", line)
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, content) {
				t.Errorf("the file was changed: %v", err)
			}
		})
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if code := start(t, "serve", "-config", config).end(t); code != 0 {
		t.Errorf("the undamaged file: exit code %d", code)
	}
}

// What ends the inspecting process by a signal or a panic is an error of the one that asked.
func TestInspectionThatDies(t *testing.T) {
	t.Setenv("HOOKBOLT_TEST_INSPECT", "panic")
	err := inspectApart(slog.New(slog.DiscardHandler))("some.db")
	if err == nil || !strings.Contains(err.Error(), bolt.ErrCorrupt.Error()) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v, want one line that says damaged", err)
	}
}

// init is for the process that TestInspectionThatDies starts.
func init() {
	if os.Getenv("HOOKBOLT_TEST_INSPECT") != "" {
		commands["inspect"] = func(context.Context, []string, io.Writer, io.Writer) error { panic("of the test") }
	}
}
