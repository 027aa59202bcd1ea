package hookbolttest

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"hookbolt/engine/transform"
	"hookbolt/internal/cli"
)

// Timeout is how long a test waits for something that should happen at once. It is long enough for a busy machine.
const Timeout = 20 * time.Second

// mainVariable makes a test binary run as hookbolt. Its value is the directory of the demo's sessions.
const mainVariable = "HOOKBOLT_TEST_MAIN"

// Main is the TestMain of a package that starts servers. It lets the test binary run as hookbolt in child processes, also in the one in
// which a server inspects its database, and in those that run the programs of webhooks. It fails the package if its tests leak a goroutine.
func Main(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == transform.Command { // it has no environment
		os.Exit(runAsProcess("."))
	}
	if sessions := os.Getenv(mainVariable); sessions != "" && !slices.Contains(os.Args, "-test.fuzzworker") {
		os.Exit(runAsProcess(sessions))
	}
	root, err := root()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Setenv(mainVariable, filepath.Join(root, "testdata", "sessions"))
	goleak.VerifyTestMain(withBinary{m})
}

// runAsProcess does what package main does, except for the handling of a second signal.
func runAsProcess(sessions string) int {
	log.SetOutput(io.Discard)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	p := cli.Program{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Sessions: os.DirFS(sessions)}
	return p.Run(ctx, os.Args[1:])
}

// withBinary runs a package's tests, and removes the binary of Build afterwards.
type withBinary struct{ *testing.M }

// Run runs the tests.
func (w withBinary) Run() int {
	defer func() { os.RemoveAll(binary.dir) }()
	return w.M.Run()
}

// binary is the program that Build has built.
var binary struct {
	sync.Mutex
	dir string // "" until then
}

// Build builds package main and returns the path of the binary. It is for tests of what only package main has.
func Build(t *testing.T) string {
	t.Helper()
	binary.Lock()
	defer binary.Unlock()
	if binary.dir == "" {
		dir, err := os.MkdirTemp("", "hookbolt-test-")
		if err != nil {
			t.Fatal(err)
		}
		binary.dir = dir
		cmd := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "hookbolt.exe"), ".")
		cmd.Dir, cmd.Env = Path(t, "."), append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go build: %v\n%s", err, out)
		}
	}
	return filepath.Join(binary.dir, "hookbolt.exe")
}
