package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"hookbolt/engine"
)

// Every curl line of the README works, in the order in which they stand there, and its first example leads to the payload that it
// shows.
func TestReadmeCommands(t *testing.T) {
	readme := readFile(t, "README.md")
	if !strings.Contains(readme, "listen -secret "+sampleSecret) {
		t.Fatal("the README uses another secret")
	}
	payloads := make(chan []byte, 10)
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if err := engine.Verify(r.Header, sampleSecret, body, time.Now()); err != nil {
			t.Error(err)
		}
		select {
		case payloads <- body:
		default:
		}
	}))
	defer endpoint.Close()
	p := start(t, "serve", "-config", writeConfig(t, t.TempDir(), "", ""), "-allow", "127.0.0.0/8")
	sh := &shell{t: t, replace: strings.NewReplacer("http://127.0.0.1:8080", p.url(t), "http://127.0.0.1:9000", endpoint.URL)}

	first := true
	for _, block := range codeBlocks(readme, "sh") {
		sh.run(block)
		if first && strings.Contains(block, "/v1/events") {
			first = false
			select {
			case got := <-payloads:
				samePayload(t, got, codeBlocks(readme, "json")[0])
			case <-time.After(testPatience):
				t.Fatal("the first example's webhook did not come")
			}
		}
	}
	if sh.curls < 15 {
		t.Errorf("the README has %d curl lines, which is fewer than it had", sh.curls)
	}
}

// samePayload compares all but the time at which a payload was built.
func samePayload(t *testing.T, got []byte, want string) {
	t.Helper()
	var compact bytes.Buffer
	if err := json.Compact(&compact, []byte(want)); err != nil {
		t.Fatal(err)
	}
	eventTime := regexp.MustCompile(`"event_time":\d+`)
	if got, want := eventTime.ReplaceAll(got, nil), eventTime.ReplaceAll(compact.Bytes(), nil); !bytes.Equal(got, want) {
		t.Errorf("the payload differs from the README's\n got %s\nwant %s", got, want)
	}
}

func TestReadmeHasEverySetting(t *testing.T) {
	readme := readFile(t, "README.md")
	for name := range settingNames() {
		if strings.Contains(name, ".") && !strings.Contains(readme, "| `"+name+"` |") {
			t.Errorf("the README's table of settings lacks %s", name)
		}
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z]+\\.[a-z_]+)` \\|").FindAllStringSubmatch(readme, -1) {
		if !settingNames()[m[1]] {
			t.Errorf("the README has a setting that does not exist: %s", m[1])
		}
	}
	for _, block := range codeBlocks(readme, "toml") {
		if _, err := parseConfig(block); err != nil {
			t.Errorf("%v in\n%s", err, block)
		}
	}
}

func TestReadmeHasEveryMetric(t *testing.T) {
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
	is, told := names(scraped, `(?m)^# TYPE (hookbolt_\S+)`), names(readFile(t, "README.md"), "`(hookbolt_[a-z_]+)")
	if !slices.Equal(is, told) {
		t.Errorf("the README tells of\n%v\nthere are\n%v", told, is)
	}
}

// The README promises what holds everywhere: no path of a machine, no file that is not there.
func TestReadmeLinks(t *testing.T) {
	for _, m := range regexp.MustCompile(`\]\(([^)#]+)\)`).FindAllStringSubmatch(readFile(t, "README.md"), -1) {
		if strings.HasPrefix(m[1], "https://") {
			continue
		}
		if _, err := os.Stat(filepath.FromSlash(m[1])); err != nil {
			t.Error(err)
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

// codeBlocks returns the code blocks of a language.
func codeBlocks(markdown, language string) []string {
	var blocks []string
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(markdown, -1) {
		blocks = append(blocks, m[1])
	}
	return blocks
}

// shell understands as much of sh and curl as our examples need, so that they can be tested on a machine that has neither.
type shell struct {
	t       *testing.T
	replace *strings.Replacer // applied to all words
	vars    []string          // "$name", value, …
	curls   int               // how many were run
}

var assignment = regexp.MustCompile(`^(\w+)=\$\((curl .*) \| grep -oE '\[0-9a-f-\]\{36\}' \| head -1\)$`)

// run carries out the curl commands of a script, each of which must succeed; "go run" is left out, anything else is an error.
func (sh *shell) run(script string) {
	sh.t.Helper()
	for _, line := range sh.lines(script) {
		if m := assignment.FindStringSubmatch(line); m != nil {
			id := regexp.MustCompile(`[0-9a-f-]{36}`).FindString(sh.curl(sh.words(m[2])))
			if id == "" {
				sh.t.Fatalf("no id from %s", line)
			}
			sh.vars = append([]string{"$" + m[1], id}, sh.vars...) // the first one counts
			continue
		}
		switch words := sh.words(line); words[0] {
		case "curl":
			sh.curl(words)
		case "go":
		default:
			sh.t.Fatalf("the test does not understand %s", line)
		}
	}
}

// lines splits a script into commands: at line ends outside of quotes.
func (sh *shell) lines(script string) []string {
	var lines []string
	quote, from := rune(0), 0
	for i, c := range script + "\n" {
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case c == '\n':
			if line := strings.TrimSpace(script[from:i]); line != "" {
				lines = append(lines, line)
			}
			from = i + 1
		}
	}
	if quote != 0 {
		sh.t.Fatalf("a quote is not closed in %s", script)
	}
	return lines
}

// words splits a command at blanks, takes the quotes away, and puts variables in.
func (sh *shell) words(line string) []string {
	var words []string
	var word, plain strings.Builder
	put := func() {
		word.WriteString(strings.NewReplacer(sh.vars...).Replace(plain.String()))
		plain.Reset()
	}
	quote, begun := rune(0), false
	for _, c := range line + " " {
		switch {
		case quote != 0 && c == quote:
			if quote == '"' {
				put()
			}
			quote = 0
		case quote == '\'':
			word.WriteRune(c)
		case quote == 0 && (c == '\'' || c == '"'):
			put()
			quote, begun = c, true
		case quote == 0 && c == ' ':
			put()
			if begun {
				words = append(words, sh.replace.Replace(word.String()))
			}
			word.Reset()
			begun = false
		case strings.ContainsRune("|&;<>()`\\*?~#", c) && quote == 0: // "?" as well: some shells look for files then
			sh.t.Fatalf("the test does not understand %q in %s", c, line)
		default:
			plain.WriteRune(c)
			begun = true
		}
	}
	return words
}

// curl makes the request of a command and returns the answer's body, which must be that of a success.
func (sh *shell) curl(words []string) string {
	sh.t.Helper()
	sh.curls++
	method, url, body, header := "", "", "", http.Header{}
	for i := 1; i < len(words); i++ {
		value := func() string {
			if i++; i == len(words) {
				sh.t.Fatalf("%s needs a value in %q", words[i-1], words)
			}
			return words[i]
		}
		switch w := words[i]; {
		case w == "-s":
		case w == "-o": // the answer is looked at, not kept
			value()
		case w == "-X":
			method = value()
		case w == "-d":
			body = value()
			header.Set("Content-Type", "application/x-www-form-urlencoded") // as curl does
		case w == "-H":
			name, v, _ := strings.Cut(value(), ": ")
			header.Set(name, v)
		case strings.HasPrefix(w, "http://127.0.0.1:") && url == "":
			url = w
		default:
			sh.t.Fatalf("the test does not understand %q in %q", w, words)
		}
	}
	switch {
	case method != "":
	case body != "":
		method = "POST"
	default:
		method = "GET"
	}
	req, err := http.NewRequestWithContext(sh.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		sh.t.Fatal(err)
	}
	req.Header = header
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		sh.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		sh.t.Fatal(err)
	}
	if resp.StatusCode/100 != 2 {
		sh.t.Errorf("%s %s: %s\n%s", method, url, resp.Status, answer)
	}
	return string(answer)
}
