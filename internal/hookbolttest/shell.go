package hookbolttest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Needs skips a test if a program is missing, or fails it where nothing may be missing.
func Needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err == nil {
			continue
		}
		if os.Getenv("HOOKBOLT_REQUIRE_NODE") != "" {
			t.Fatalf("%s is missing", program)
		}
		t.Skipf("%s is missing", program)
	}
}

// Shell runs scripts in a directory of its own. hookbolt is the test binary there, and curl fails for statuses of 400 and more. A variable
// that one script sets is set in the next one, too, as in a terminal.
type Shell struct {
	// Dir is where scripts run.
	Dir string
	// Env is the environment, as NAME=value.
	Env []string

	bin string
	t   *testing.T
}

// NewShell creates the directories of a shell below dir.
func NewShell(t *testing.T, dir string) *Shell {
	t.Helper()
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := &Shell{Dir: filepath.Join(dir, "page"), bin: filepath.Join(dir, "bin"), t: t}
	for _, folder := range []string{s.Dir, s.bin} {
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	Write(t, filepath.Join(dir, "state"), "")
	for name, script := range map[string]string{
		"hookbolt": fmt.Sprintf("exec '%s' \"$@\"", self),
		"curl":     fmt.Sprintf("case \" $* \" in *' -f '*) ;; *) set -- --fail-with-body \"$@\";; esac\nexec '%s' --max-time 20 \"$@\"", curl),
		// "go run ." runs the test binary. "go test ./..." does nothing: it would run this test again.
		"go": "case \"$1 $2\" in 'run .') shift 2; exec hookbolt \"$@\";; 'test ./...') ;; *) echo \"go $*: not known to the test\" >&2; exit 1;; esac",
	} {
		if err := os.WriteFile(filepath.Join(s.bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s.Env = append(os.Environ(), "PATH="+s.bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	return s
}

// Command returns hookbolt as the shell runs it.
func (s *Shell) Command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(s.t.Context(), filepath.Join(s.bin, "hookbolt"), args...)
	cmd.Dir, cmd.Env = s.Dir, s.Env
	return cmd
}

// Script runs a script with sh and a flag, and returns what it prints.
func (s *Shell) Script(flag, text string) (stdout string, err error) {
	text = ". ../state\nset -a\n" + text + "\nexport -p >../state"
	cmd := exec.CommandContext(s.t.Context(), "sh", flag, "-c", text)
	cmd.Dir, cmd.Env = s.Dir, s.Env
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w in\n%s\nwhich printed\n%s%s", err, text, out, stderr.String())
	}
	return string(out), err
}
