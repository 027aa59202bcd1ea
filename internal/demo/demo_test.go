package demo_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"hookbolt/internal/demo"
	"hookbolt/internal/hookbolttest"
)

func TestMain(m *testing.M) { hookbolttest.Main(m) }

// sessions are those that are part of the program.
func sessions(t *testing.T) fs.FS { return os.DirFS(hookbolttest.Path(t, "testdata/sessions")) }

func TestDemo(t *testing.T) {
	out, log := hookbolttest.NewOutput(), hookbolttest.NewOutput()
	if err := demo.RunFast(t.Context(), demo.Options{Sessions: sessions(t), Stdout: out, Stderr: log}); err != nil {
		t.Fatalf("%v\n%s%s", err, out, log)
	}
	for _, want := range []string{
		`seed-example complete for "everything"`,
		`incomplete-then-complete incomplete for "everything"`,
		`incomplete-then-complete complete for "everything"`,
		`quiz-istanbul complete for "a quiz, no answers"`,
		"attempt 1  signature ok  answered 500",
		"attempt 2  signature ok  answered 200",
		"Every signature was valid. No webhook was missing, none was delivered twice.",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the demo does not show %s", want)
		}
	}
	if log.String() != "" {
		t.Errorf("on stderr: %s", log)
	}
}

func TestDemoKeepsRunning(t *testing.T) {
	hookbolttest.Needs(t, "sh", "curl")
	ctx, stop := context.WithCancelCause(t.Context())
	out, ended := hookbolttest.NewOutput(), make(chan error, 1)
	go func() {
		ended <- demo.RunFast(ctx, demo.Options{Keep: true, Sessions: sessions(t), Stdout: out, Stderr: out})
	}()
	if _, err := hookbolttest.NewShell(t, t.TempDir()).Script("-eu", out.Find(t, `(?s)in another terminal:\n(.*limit=3')\n`)); err != nil {
		t.Error(err)
	}
	out.Find(t, `POST /mine  \S+  complete  attempt 1  signature ok  answered 200`)
	stop(errors.New("signal: of the test"))
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestDemoEndsWhenToldTo(t *testing.T) {
	ctx, stop := context.WithCancelCause(t.Context())
	out := hookbolttest.NewOutput()
	ended := make(chan error, 1)
	go func() { ended <- demo.Run(ctx, demo.Options{Sessions: sessions(t), Stdout: out, Stderr: out}) }()
	out.Find(t, "answered 200")
	stop(errors.New("signal: of the test"))
	select {
	case err := <-ended:
		if err == nil {
			t.Error("it says that all went well")
		}
	case <-time.After(hookbolttest.Timeout):
		t.Fatal("it goes on")
	}
}
