package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
)

// The pages of the documentation are programs: what stands in their code blocks is run, in the order of the page. A block's info string
// says what it is.
//
//	sh              run in the page's own directory, beside a server of its own; each command must succeed
//	sh stopped      the same while the server is stopped
//	sh norun        only its syntax is looked at: it wants another machine, or hours
//	text output     what the block before has printed; … stands for any text
//	json output     the same, where the spaces of JSON do not count
//	json delivered  the body of a webhook that has arrived, but for event_time
//	toml            settings
//	toml NAME       the same, and the page's directory gets it as a file; so with other languages
//	toml webhooks   webhooks for "hookbolt apply", as webhooks.toml
//
// A line "hookbolt serve …" starts the page's server anew with what it says, and "hookbolt listen …" an endpoint, as another terminal would.
// http://127.0.0.1:8080 and port 9000 stand for theirs. Other languages have tests of their own.

// pages are the files of the documentation.
func pages(t *testing.T) []string {
	t.Helper()
	list, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("deploy/README.md"); err == nil {
		list = append(list, "deploy/README.md")
	}
	list = append(list, "README.md")
	for i := range list {
		list[i] = filepath.ToSlash(list[i])
	}
	return list
}

// codeBlock is a fenced block of a page.
type codeBlock struct {
	line           int // of its fence
	language, word string
	text           string
}

// blocksOf returns the code blocks of a page. A fence that is not closed ends the test.
func blocksOf(t *testing.T, page, markdown string) []codeBlock {
	t.Helper()
	var blocks []codeBlock
	open := false
	for i, line := range strings.SplitAfter(markdown, "\n") {
		info, fence := strings.CutPrefix(strings.TrimRight(line, "\n"), "```")
		switch {
		case fence && !open:
			language, word, _ := strings.Cut(info, " ")
			blocks = append(blocks, codeBlock{line: i + 1, language: language, word: word})
			open = true
		case fence:
			open = false
		case open:
			blocks[len(blocks)-1].text += line
		}
	}
	if open {
		t.Fatalf("%s: the last code block is not closed", page)
	}
	return blocks
}

// needs skips a test where a program is missing, or fails it where everything has to be there.
func needs(t *testing.T, programs ...string) {
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

func TestDocumentation(t *testing.T) {
	needs(t, "sh", "curl", "grep", "openssl")
	for _, page := range pages(t) {
		t.Run(page, func(t *testing.T) {
			t.Parallel()
			runPage(t, page, blocksOf(t, page, readFile(t, page)))
		})
	}
}

// TestDocumentationIsTested shows that a page which is wrong would be noticed.
func TestDocumentationIsTested(t *testing.T) {
	needs(t, "sh", "curl", "grep")
	for name, page := range map[string]string{
		"a call that is refused":  "```sh\ncurl -s http://127.0.0.1:8080/v1/webhooks/77\n```\n",
		"a call in the middle":    "```sh\ncurl -s http://127.0.0.1:8080/v1/webhooks/77\ntrue\n```\n",
		"another output":          "```sh\necho a\n```\n```text output\nb\n```\n",
		"a setting that is none":  "```toml\n[http]\nlisten_on = 1\n```\n",
		"JSON that is none":       "```json\n{\"a\": }\n```\n",
		"a command that is none":  "```sh\nhookbolt destroy\n```\n",
		"a server that cannot be": "```sh\nhookbolt serve -config none.toml\n```\n",
		"syntax":                  "```sh norun\nif true\n```\n",
		"nothing that arrived":    "```json delivered\n{\"a\": 1}\n```\n",
	} {
		if err := newPageRun(t, t.TempDir()).all(blocksOf(t, name, page)); err == nil {
			t.Errorf("%s is not noticed", name)
		}
	}
}

func runPage(t *testing.T, page string, blocks []codeBlock) {
	if err := newPageRun(t, t.TempDir()).all(blocks); err != nil {
		t.Errorf("%s:%v", page, err)
	}
}

// pageRun is a page that is being run.
type pageRun struct {
	t             *testing.T
	dir           string
	api, endpoint string // addresses
	server        *exec.Cmd
	listener      *exec.Cmd
	listened      *output
	last          string // what the last sh block has printed
}

// newPageRun prepares a directory in which hookbolt is this very program, and curl tells a refusal by its exit code.
func newPageRun(t *testing.T, dir string) *pageRun {
	t.Helper()
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "bin")
	if err := os.MkdirAll(filepath.Join(dir, "page"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "state"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, script := range map[string]string{
		"hookbolt": fmt.Sprintf("exec '%s' \"$@\"", self),
		"curl":     fmt.Sprintf("case \" $* \" in *' -f '*) ;; *) set -- --fail-with-body \"$@\";; esac\nexec '%s' --max-time 20 \"$@\"", curl),
		// The README's first commands are for who has nothing but Go: these run elsewhere in the tests, or are the tests.
		"go": "case \"$1 $2\" in 'run .') shift 2; exec hookbolt \"$@\";; 'test ./...') ;; *) echo \"go $*: not known to the test\" >&2; exit 1;; esac",
	} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return &pageRun{t: t, dir: dir, api: freeAddress(t), endpoint: freeAddress(t)}
}

// freeAddress returns an address of loopback that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// all runs a page's blocks. The error begins with a line's number.
func (p *pageRun) all(blocks []codeBlock) error {
	defer p.stop(&p.listener)
	defer p.stop(&p.server)
	if slices.ContainsFunc(blocks, func(b codeBlock) bool { return b.language == "sh" && b.word != "norun" }) {
		if err := p.serve(nil); err != nil {
			return fmt.Errorf("0: %w", err)
		}
	}
	for _, b := range blocks {
		if err := p.run(b); err != nil {
			return fmt.Errorf("%d: %w", b.line, err)
		}
	}
	return nil
}

// here puts the page's own addresses in the place of those in its text.
func (p *pageRun) here(text string) string {
	return strings.NewReplacer("127.0.0.1:8080", p.api, "127.0.0.1:9000", p.endpoint).Replace(text)
}

func (p *pageRun) run(b codeBlock) error {
	if strings.Contains(b.word, ".") {
		if err := os.WriteFile(filepath.Join(p.dir, "page", b.word), []byte(p.here(b.text)), 0o600); err != nil {
			return err
		}
	}
	switch b.language {
	case "sh":
		return p.shell(b)
	case "text", "json":
		switch b.word {
		case "output":
			return sameOutput(p.last, p.here(b.text), b.language == "json")
		case "delivered":
			return p.delivered(b.text)
		}
		if b.language == "json" {
			for d := json.NewDecoder(strings.NewReader(b.text)); d.More(); {
				if err := d.Decode(new(any)); err != nil {
					return err
				}
			}
		}
	case "toml":
		if b.word == "webhooks" || b.word == "webhooks.toml" {
			return os.WriteFile(filepath.Join(p.dir, "page", "webhooks.toml"), []byte(p.here(b.text)), 0o600)
		}
		_, err := parseConfig(b.text)
		return err
	case "":
		return fmt.Errorf("a block without a language")
	}
	return nil
}

var background = regexp.MustCompile(`^(?:hookbolt|go run \.) (serve|listen)(?: (.*))?$`)

func (p *pageRun) shell(b codeBlock) error {
	if b.word == "norun" {
		return p.script("-n", b.text)
	}
	if m := background.FindStringSubmatch(strings.TrimSpace(b.text)); m != nil {
		if m[1] == "listen" {
			return p.listen(strings.Fields(m[2]))
		}
		return p.serve(strings.Fields(m[2]))
	}
	if b.word == "stopped" {
		p.stop(&p.server)
		if err := p.script("-eu", b.text); err != nil {
			return err
		}
		return p.serve(nil)
	}
	return p.script("-eu", b.text)
}

// environ is what commands of the page see.
func (p *pageRun) environ() []string {
	return append(os.Environ(), "PATH="+filepath.Join(p.dir, "bin")+string(os.PathListSeparator)+os.Getenv("PATH"),
		"HOOKBOLT_TEST_MAIN=1", "HOOKBOLT_URL=http://"+p.api, "HOOKBOLT_HTTP_LISTEN="+p.api)
}

// script runs a script by sh with a flag.
func (p *pageRun) script(flag, text string) error {
	// A terminal knows in the next block what was set in the one before.
	text = ". ../state\nset -a\n" + text + "\nexport -p >../state"
	cmd := exec.CommandContext(p.t.Context(), "sh", flag, "-c", p.here(text))
	cmd.Dir, cmd.Env = filepath.Join(p.dir, "page"), p.environ()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.Output()
	p.last = string(stdout)
	if err != nil {
		return fmt.Errorf("%w in\n%s\nwhich printed\n%s%s", err, text, stdout, stderr.String())
	}
	return nil
}

// serve starts the page's server, in the place of the one before.
func (p *pageRun) serve(args []string) error {
	p.stop(&p.server)
	cmd := exec.CommandContext(p.t.Context(), filepath.Join(p.dir, "bin", "hookbolt"), append([]string{"serve"}, args...)...)
	cmd.Dir = filepath.Join(p.dir, "page")
	cmd.Env = p.environ()
	if !slices.Contains(args, "-allow") && !slices.Contains(args, "-config") {
		cmd.Args = append(cmd.Args, "-allow", "127.0.0.0/8")
	}
	out := newOutput()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return err
	}
	p.server = cmd
	return waitFor(out, cmd, "msg=ready", `"msg":"ready"`)
}

func (p *pageRun) listen(args []string) error {
	p.stop(&p.listener)
	cmd := exec.CommandContext(p.t.Context(), filepath.Join(p.dir, "bin", "hookbolt"), append([]string{"listen", "-addr", p.endpoint}, args...)...)
	cmd.Dir, cmd.Env = filepath.Join(p.dir, "page"), p.environ()
	p.listened = newOutput()
	cmd.Stdout, cmd.Stderr = p.listened, p.listened
	if err := cmd.Start(); err != nil {
		return err
	}
	p.listener = cmd
	return waitFor(p.listened, cmd, "http://"+p.endpoint)
}

// waitFor waits until a process has said one of some texts.
func waitFor(out *output, cmd *exec.Cmd, texts ...string) error {
	deadline := time.After(testPatience)
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
		case <-out.more:
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
	for deadline := time.After(testPatience); ; {
		got := eventTime.ReplaceAllString(p.listened.String(), "")
		if strings.Contains(got, want) && strings.Contains(got, "signature ok") {
			return nil
		}
		select {
		case <-p.listened.more:
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

// TestDocumentationLinks: links lead to files and headings that are there, or to the web.
func TestDocumentationLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for _, page := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(withoutCode(readFile(t, page)), -1) {
			if strings.HasPrefix(m[1], "https://") {
				continue
			}
			path, anchor, _ := strings.Cut(m[1], "#")
			file := page
			if path != "" {
				file = filepath.Join(filepath.Dir(page), filepath.FromSlash(path))
			}
			info, err := os.Stat(file)
			if err != nil {
				t.Errorf("%s: %v", page, err)
				continue
			}
			if anchor != "" && (info.IsDir() || !slices.Contains(anchorsOf(readFile(t, file)), anchor)) {
				t.Errorf("%s: %s has no heading #%s", page, file, anchor)
			}
		}
	}
}

// withoutCode takes the code blocks out of a page.
func withoutCode(markdown string) string {
	return regexp.MustCompile("(?ms)^```.*?^```$").ReplaceAllString(markdown, "")
}

// anchorsOf are the names under which a page's headings can be linked to.
func anchorsOf(markdown string) []string {
	var anchors []string
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(withoutCode(markdown), -1) {
		anchors = append(anchors, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r) || unicode.IsDigit(r) || r == '-' || r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, m[1]))
	}
	return anchors
}

// TestDocumentedSettings: the page about the configuration has every setting, and no other.
func TestDocumentedSettings(t *testing.T) {
	text := readFile(t, "docs/configuration.md")
	for name := range settingNames() {
		if strings.Contains(name, ".") && !strings.Contains(text, "| `"+name+"` |") {
			t.Errorf("the table of settings lacks %s", name)
		}
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z]+\\.[a-z_]+)` \\|").FindAllStringSubmatch(text, -1) {
		if !settingNames()[m[1]] {
			t.Errorf("there is no setting %s", m[1])
		}
	}
}

// TestDocumentedMetrics: the page about operations has every metric, and no other.
func TestDocumentedMetrics(t *testing.T) {
	p := start(t, "serve", "-config", writeConfig(t, t.TempDir(), "", ""))
	call(t, "GET", p.url(t)+"/metrics", "") // makes the metrics of calls
	_, scraped := call(t, "GET", p.url(t)+"/metrics", "")
	names := func(text, pattern string) []string {
		var list []string
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
			list = append(list, m[1])
		}
		slices.Sort(list)
		return slices.Compact(list)
	}
	is, told := names(scraped, `(?m)^# TYPE (hookbolt_\S+)`), names(readFile(t, "docs/operations.md"), "`(hookbolt_[a-z_]+)")
	if !slices.Equal(is, told) {
		t.Errorf("told of are\n%v\nthere are\n%v", told, is)
	}
}

// TestDocumentedCommands: the README has every command.
func TestDocumentedCommands(t *testing.T) {
	readme := readFile(t, "README.md")
	for name := range commands {
		if name != "inspect" && name != "bench-relay" && !regexp.MustCompile("`(hookbolt )?"+name+"[` ]").MatchString(readme) {
			t.Errorf("the README lacks the command %s", name)
		}
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(text), "\r\n", "\n") // a checkout on Windows may have changed them
}
