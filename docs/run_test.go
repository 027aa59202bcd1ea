package docs

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"hookbolt/internal/config"
	"hookbolt/internal/hookbolttest"
)

// pageRun is a page that is being run.
type pageRun struct {
	*hookbolttest.Shell
	t             *testing.T
	api, endpoint string // addresses
	server        *exec.Cmd
	listener      *exec.Cmd
	listened      *hookbolttest.Output
	last          string // what the last sh block has printed
}

// newPageRun prepares a shell for a page, in which commands call the page's own server.
func newPageRun(t *testing.T) *pageRun {
	t.Helper()
	p := &pageRun{Shell: hookbolttest.NewShell(t, t.TempDir()), t: t, api: hookbolttest.FreeAddress(t), endpoint: hookbolttest.FreeAddress(t)}
	p.Env = append(p.Env, "HOOKBOLT_URL=http://"+p.api, "HOOKBOLT_HTTP_LISTEN="+p.api)
	return p
}

// all runs a page's blocks. The error begins with a line's number.
func (p *pageRun) all(blocks []hookbolttest.CodeBlock) error {
	defer p.stop(&p.listener)
	defer p.stop(&p.server)
	if slices.ContainsFunc(blocks, func(b hookbolttest.CodeBlock) bool { return b.Language == "sh" && b.Word != "norun" }) {
		if err := p.serve(nil); err != nil {
			return fmt.Errorf("0: %w", err)
		}
	}
	for _, b := range blocks {
		if err := p.run(b); err != nil {
			return fmt.Errorf("%d: %w", b.Line, err)
		}
	}
	return nil
}

// here puts the page's own addresses in the place of those in its text.
func (p *pageRun) here(text string) string {
	return strings.NewReplacer("127.0.0.1:8080", p.api, "127.0.0.1:9000", p.endpoint).Replace(text)
}

func (p *pageRun) run(b hookbolttest.CodeBlock) error {
	if strings.Contains(b.Word, ".") {
		if err := os.WriteFile(filepath.Join(p.Dir, b.Word), []byte(p.here(b.Text)), 0o600); err != nil {
			return err
		}
	}
	switch b.Language {
	case "sh":
		return p.shell(b)
	case "text", "json":
		switch b.Word {
		case "output":
			return sameOutput(p.last, p.here(b.Text), b.Language == "json")
		case "delivered":
			return p.delivered(b.Text)
		}
		if b.Language == "json" {
			for d := json.NewDecoder(strings.NewReader(b.Text)); d.More(); {
				if err := d.Decode(new(any)); err != nil {
					return err
				}
			}
		}
	case "toml":
		if b.Word == "webhooks" || b.Word == "webhooks.toml" {
			return os.WriteFile(filepath.Join(p.Dir, "webhooks.toml"), []byte(p.here(b.Text)), 0o600)
		}
		path := hookbolttest.Write(p.t, filepath.Join(p.t.TempDir(), "config.toml"), b.Text)
		_, _, err := (&config.Loader{Path: path}).Load()
		return err
	case "":
		return fmt.Errorf("a block without a language")
	}
	return nil
}

var background = regexp.MustCompile(`^(?:hookbolt|go run \.) (serve|listen)(?: (.*))?$`)

func (p *pageRun) shell(b hookbolttest.CodeBlock) error {
	if b.Word == "norun" {
		return p.script("-n", b.Text)
	}
	if m := background.FindStringSubmatch(strings.TrimSpace(b.Text)); m != nil {
		if m[1] == "listen" {
			return p.listen(strings.Fields(m[2]))
		}
		return p.serve(strings.Fields(m[2]))
	}
	if b.Word == "stopped" {
		p.stop(&p.server)
		if err := p.script("-eu", b.Text); err != nil {
			return err
		}
		return p.serve(nil)
	}
	return p.script("-eu", b.Text)
}

// script runs a script by sh with a flag.
func (p *pageRun) script(flag, text string) (err error) {
	p.last, err = p.Script(flag, p.here(text))
	return err
}

// serve starts the page's server, in the place of the one before.
func (p *pageRun) serve(args []string) error {
	p.stop(&p.server)
	cmd := p.Command(append([]string{"serve"}, args...)...)
	if !slices.Contains(args, "-allow") && !slices.Contains(args, "-config") {
		cmd.Args = append(cmd.Args, "-allow", "127.0.0.0/8")
	}
	out := hookbolttest.NewOutput()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return err
	}
	p.server = cmd
	return waitFor(out, cmd, "msg=ready", `"msg":"ready"`)
}

func (p *pageRun) listen(args []string) error {
	p.stop(&p.listener)
	cmd := p.Command(append([]string{"listen", "-addr", p.endpoint}, args...)...)
	p.listened = hookbolttest.NewOutput()
	cmd.Stdout, cmd.Stderr = p.listened, p.listened
	if err := cmd.Start(); err != nil {
		return err
	}
	p.listener = cmd
	return waitFor(p.listened, cmd, "http://"+p.endpoint)
}

// waitFor waits until a process has said one of some texts.
func waitFor(out *hookbolttest.Output, cmd *exec.Cmd, texts ...string) error {
	deadline := time.After(hookbolttest.Timeout)
	for {
		for _, text := range texts {
			if strings.Contains(out.String(), text) {
				return nil
			}
		}
		if strings.Contains(out.String(), "hookbolt: ") { // how an error of the start looks
			return fmt.Errorf("%s: %s", strings.Join(cmd.Args[1:], " "), out)
		}
		select {
		case <-out.More:
		case <-deadline:
			return fmt.Errorf("%s said no %q: %s", strings.Join(cmd.Args[1:], " "), texts, out)
		}
	}
}

// stop ends a process of the page, if there is one.
func (p *pageRun) stop(cmd **exec.Cmd) {
	if *cmd == nil {
		return
	}
	(*cmd).Process.Signal(os.Interrupt)
	(*cmd).Wait()
	*cmd = nil
}

var eventTime = regexp.MustCompile(`"event_time": ?\d+`)

// delivered waits until a body has arrived at the page's endpoint.
func (p *pageRun) delivered(body string) error {
	want := strings.TrimSpace(eventTime.ReplaceAllString(body, ""))
	if p.listened == nil {
		return fmt.Errorf("the page has no endpoint")
	}
	for deadline := time.After(hookbolttest.Timeout); ; {
		got := eventTime.ReplaceAllString(p.listened.String(), "")
		if strings.Contains(got, want) && strings.Contains(got, "signature ok") {
			return nil
		}
		select {
		case <-p.listened.More:
		case <-deadline:
			return fmt.Errorf("it did not arrive; what did:\n%s", p.listened)
		}
	}
}

// sameOutput compares what was printed with what a page says; … in the latter stands for any text.
func sameOutput(got, want string, isJSON bool) error {
	var parts []string
	for part := range strings.SplitSeq(strings.TrimSpace(want), "…") {
		parts = append(parts, regexp.QuoteMeta(squeeze(part, isJSON)))
	}
	if !regexp.MustCompile("(?s)^" + strings.Join(parts, ".*") + "$").MatchString(squeeze(strings.TrimSpace(got), isJSON)) {
		return fmt.Errorf("printed was\n%s\nthe page says\n%s", got, want)
	}
	return nil
}

// squeeze takes the spaces out of JSON, which may do without them outside of its strings.
func squeeze(s string, isJSON bool) string {
	if !isJSON {
		return s
	}
	quoted := false
	return strings.Map(func(r rune) rune {
		if r == '"' {
			quoted = !quoted
		}
		if !quoted && unicode.IsSpace(r) {
			return -1
		}
		return r
	}, s)
}
