package ui_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"go/format"
	"html"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"hookbolt/engine"
)

// hostilePath is what an endpoint's URL may end in, to break out of a text in any of the languages: of hookbolt's own placeholders, too.
const hostilePath = "/a'b\"c`touch pwned`$(touch pwned)${x}%23{x}%5Cu0022;{{secret}}{{url}}%E2%80%A8𐍈%0a*/'''\"\"\"?q='$(touch pwned)'\"`\\"

// tool returns the path of a program that a test needs.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		missing := t.Skipf
		if os.Getenv("HOOKBOLT_REQUIRE_NODE") == "1" {
			missing = t.Fatalf
		}
		missing("THE CODE THAT PEOPLE PASTE HAS NOT BEEN RUN: %v", err)
	}
	return path
}

// snippet returns the code that the page of a webhook's secret has for a language.
func (f *fixture) snippet(id int, language string) string {
	f.t.Helper()
	page := f.wantIn(f.post(fmt.Sprintf("/webhooks/%d/secret", id), nil), 200)
	m := regexp.MustCompile(`(?s)data-copy="the ` + language + ` code"[^>]*>(.*?)</pre>`).FindStringSubmatch(page)
	if m == nil {
		f.t.Fatalf("no code for %s", language)
	}
	return html.UnescapeString(m[1])
}

// signedPost is a webhook as the engine has sent it, or as somebody has changed it.
type signedPost struct {
	header http.Header
	body   []byte
}

// with returns the request with another value of a header.
func (p signedPost) with(name, value string) signedPost {
	p.header = maps.Clone(p.header)
	p.header.Set(name, value)
	return p
}

// signedAt signs a body as the engine does, at any time.
func signedAt(t *testing.T, secret engine.Secret, at time.Time, body []byte) signedPost {
	t.Helper()
	key, err := secret.Key()
	if err != nil {
		t.Fatal(err)
	}
	second := strconv.FormatInt(at.Unix(), 10)
	m := hmac.New(sha256.New, key)
	m.Write([]byte("an-id." + second + "."))
	m.Write(body)
	return signedPost{http.Header{"Webhook-Id": {"an-id"}, "Webhook-Timestamp": {second},
		"Webhook-Signature": {"v1," + base64.StdEncoding.EncodeToString(m.Sum(nil))}}, body}
}

// freePort returns a port that nobody listens on.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// TestVerificationCode runs what people paste as endpoints, and lets the engine's signer and forgers try them.
func TestVerificationCode(t *testing.T) {
	for _, language := range []struct {
		name, file string
		command    func(t *testing.T, dir, file string, port int) []string
	}{
		{"Node", "endpoint.mjs", func(t *testing.T, _, file string, _ int) []string { return []string{tool(t, "node"), file} }},
		{"Python", "endpoint.py", func(t *testing.T, _, file string, _ int) []string { return []string{tool(t, "python3"), file} }},
		{"PHP", "endpoint.php", func(t *testing.T, _, file string, port int) []string {
			return []string{tool(t, "sh"), "-c", `exec "$0" -S "$1" "$2" 2>&1`, tool(t, "php"), fmt.Sprintf("127.0.0.1:%d", port), file}
		}},
		{"Go", "endpoint.go", func(t *testing.T, dir, file string, _ int) []string {
			// What "go run" does, but for a process between, which would outlive the test.
			program := filepath.Join(dir, "endpoint.exe")
			build := exec.CommandContext(t.Context(), tool(t, "go"), "build", "-o", program, file)
			build.Dir = dir
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			return []string{program}
		}},
	} {
		t.Run(language.name, func(t *testing.T) {
			sent := make(chan signedPost, 1)
			f := newFixture(t, transport(func(r *http.Request) (*http.Response, error) {
				body, err := io.ReadAll(r.Body)
				sent <- signedPost{r.Header, body}
				return &http.Response{StatusCode: 204, Body: http.NoBody}, err
			}))
			defer f.run()()
			port := freePort(t)
			endpoint := fmt.Sprintf("http://127.0.0.1:%d", port)
			f.wantIn(f.post("/webhooks", url.Values{"url": {endpoint + hostilePath}, "allow_networks": {"127.0.0.1"}}), 303)
			genuine := f.sample(sent)
			code := f.snippet(1, language.name)
			first := f.webhook(1).Secret

			if language.name == "Go" {
				if tidy, err := format.Source([]byte(code)); err != nil || string(tidy) != code {
					t.Errorf("gofmt would change the code: %v", err)
				}
			}
			dir := t.TempDir()
			file := filepath.Join(dir, language.file)
			if err := os.WriteFile(file, []byte(code), 0o600); err != nil {
				t.Fatal(err)
			}
			said := serveSnippet(t, dir, language.command(t, dir, file, port))
			if !strings.Contains(said, "listening on") && !strings.Contains(said, "Development Server") {
				t.Fatalf("it says %q", said)
			}

			// Rotated: the endpoint, which has the first secret, gets both signatures.
			f.api("POST", "/v1/webhooks/1/rotate-secret", "")
			double := f.sample(sent)
			if n := strings.Count(double.header.Get("Webhook-Signature"), "v1,"); n != 2 {
				t.Fatalf("%d signatures", n)
			}
			now := time.Now()
			body := []byte(`{"session_id":"` + sessionA + `"}`)
			changed := genuine
			changed.body = append(bytes.Clone(genuine.body), ' ')
			unsigned := genuine.with("Webhook-Signature", "")
			signed, err := strconv.ParseInt(genuine.header.Get("Webhook-Timestamp"), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			for _, tt := range []struct {
				name     string
				post     signedPost
				accepted bool
			}{
				{"genuine", genuine, true},
				{"rotated", double, true},
				{"signed here", signedAt(t, first, now, body), true},
				{"four minutes old", signedAt(t, first, now.Add(-4*time.Minute), body), true},
				{"six minutes old", signedAt(t, first, now.Add(-6*time.Minute), body), false},
				{"six minutes ahead", signedAt(t, first, now.Add(6*time.Minute), body), false},
				{"another body", changed, false},
				{"another id", genuine.with("Webhook-Id", "another"), false},
				{"another time", genuine.with("Webhook-Timestamp", strconv.FormatInt(signed-7, 10)), false},
				{"no time", genuine.with("Webhook-Timestamp", "soon"), false},
				{"no signature", unsigned, false},
				{"an empty signature", genuine.with("Webhook-Signature", "v1,"), false},
				{"another version", genuine.with("Webhook-Signature", "v2"+genuine.header.Get("Webhook-Signature")[2:]), false},
				{"no ASCII", genuine.with("Webhook-Signature", "v1,é"), false},
				{"another secret", signedAt(t, f.webhook(1).Secret, now, body), false},
			} {
				status := postTo(t, endpoint+"/hook", tt.post)
				if tt.accepted && status != 204 || !tt.accepted && status != 401 {
					t.Errorf("%s: %d, accepted should be %t", tt.name, status, tt.accepted)
				}
			}
			if _, err := os.Stat(filepath.Join(dir, "pwned")); err == nil {
				t.Error("the URL has run a command")
			}
		})
	}
}

// sample has the engine send a sample, and returns it.
func (f *fixture) sample(sent <-chan signedPost) signedPost {
	f.t.Helper()
	f.api("POST", "/v1/webhooks/1/test", "")
	select {
	case p := <-sent:
		return p
	case <-f.t.Context().Done():
	case <-time.After(30 * time.Second):
	}
	f.t.Fatal("nothing was sent")
	return signedPost{}
}

// serveSnippet starts a program, waits until it has said something, which is returned, and ends it with the test.
func serveSnippet(t *testing.T, dir string, command []string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir = dir
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	line, err := lines.ReadString('\n')
	drained := make(chan struct{})
	go func() {
		io.Copy(io.Discard, lines)
		close(drained)
	}()
	t.Cleanup(func() {
		cancel()
		<-drained
		cmd.Wait() // it was killed
	})
	if err != nil {
		cancel()
		<-drained
		cmd.Wait()
		t.Fatalf("%v\n%s", err, &complaints)
	}
	return line
}

// postTo sends a request and returns the status of its answer.
func postTo(t *testing.T, target string, p signedPost) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", target, bytes.NewReader(p.body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = p.header
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// TestTryCode runs the code that signs and posts, against an endpoint that verifies and against one that does not.
func TestTryCode(t *testing.T) {
	bash := tool(t, "bash")
	for _, needed := range []string{"curl", "openssl", "od"} {
		tool(t, needed)
	}
	f := newFixture(t, nil)
	verifies := make(chan func(*http.Request, []byte) error, 1)
	paths := make(chan string, 10)
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		verify := <-verifies
		verifies <- verify
		paths <- r.RequestURI
		if verify(r, body) != nil {
			w.WriteHeader(401)
		}
	}))
	defer endpoint.Close()
	f.wantIn(f.post("/webhooks", url.Values{"url": {endpoint.URL + hostilePath}, "allow_networks": {"127.0.0.1"}}), 303)
	code := f.snippet(1, "curl")
	with := func(secret engine.Secret) func(*http.Request, []byte) error {
		return func(r *http.Request, body []byte) error { return engine.Verify(r.Header, secret, body, time.Now()) }
	}
	for _, tt := range []struct {
		name   string
		verify func(*http.Request, []byte) error
		says   string
		fails  bool
	}{
		{"verifies", with(f.webhook(1).Secret), "The endpoint verifies signatures.", false},
		{"verifies with another secret", with("whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"), "The endpoint refuses a genuine request.", true},
		{"takes everything", func(*http.Request, []byte) error { return nil }, "The endpoint accepts a forged request", true},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "try.sh"), []byte(code), 0o600); err != nil {
			t.Fatal(err)
		}
		verifies <- tt.verify
		cmd := exec.CommandContext(t.Context(), bash, "try.sh")
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if (err != nil) != tt.fails || !strings.Contains(string(out), tt.says) {
			t.Errorf("%s: %v\n%s", tt.name, err, out)
		}
		<-verifies
		if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
			t.Errorf("the URL has run a command: %v", files)
		}
		if len(paths) != 2 {
			t.Errorf("%s: %d requests, want a genuine and a forged one", tt.name, len(paths))
		}
		for len(paths) > 0 {
			if got := <-paths; !strings.Contains(got, "touch%20pwned") && !strings.Contains(got, "touch pwned") {
				t.Errorf("posted to %s", got)
			}
		}
	}
}

// TestVerificationPage: the page of the documentation has the same code.
func TestVerificationPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/signatures.md")
	if err != nil {
		t.Fatal(err)
	}
	f := newFixture(t, nil)
	f.api("POST", "/v1/webhooks", `{"url":"http://127.0.0.1:9000/","allow_networks":["127.0.0.1"],"secret":"whsec_aG9va2JvbHQsIGEgc2VjcmV0IHRvIHBsYXkgd2l0aCE="}`)
	for _, language := range []string{"curl", "Node", "Python", "Go", "PHP"} {
		if code := f.snippet(1, language); !strings.Contains(strings.ReplaceAll(string(page), "\r\n", "\n"), "\n"+code+"```\n") {
			t.Errorf("docs/signatures.md has other code for %s; a webhook's page has\n%s", language, code)
		}
	}
	f.api("PATCH", "/v1/webhooks/1", `{"signature":{"header":"X-Hub-Signature-256","prefix":"sha256=","secret":"It's a Secret to Everybody",
		"secret_key":"whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbc="}}`)
	for _, language := range []string{"Node", "Python", "Go", "PHP"} {
		for _, kind := range []string{" code for v1a", " code for the header"} {
			name := strings.TrimSuffix(language+kind, " code")
			shown := f.wantIn(f.post("/webhooks/1/secret", nil), 200)
			m := regexp.MustCompile(`(?s)data-copy="the ` + name + `"[^>]*>(.*?)</pre>`).FindStringSubmatch(shown)
			if m == nil {
				t.Fatalf("no %s", name)
			}
			if code := html.UnescapeString(m[1]); !strings.Contains(strings.ReplaceAll(string(page), "\r\n", "\n"), "\n"+code+"```\n") {
				t.Errorf("docs/signatures.md has other %s; a webhook's page has\n%s", name, code)
			}
		}
	}
}

// TestSignatureForm sets what signs beside v1 in the form, sends the form as it is, and takes it back. The page of the secret shows the public
// key, the secret of the header on request, and never the secret key.
func TestSignatureForm(t *testing.T) {
	f := newFixture(t, nil)
	f.wantIn(f.post("/webhooks", url.Values{"url": {"https://example.com/"}, "signature.header": {" x-sig "}, "signature.prefix": {"p="}, "signature.encoding": {"base64"},
		"signature.secret": {"sekret text"}, "signature.v1a": {"on"}}), 303)
	made := *f.webhook(1).Signature
	if made.Header != "X-Sig" || made.Prefix != "p=" || made.Encoding != "base64" || made.Secret != "sekret text" || made.Key == "" {
		t.Errorf("made: %+v", made)
	}
	form := f.wantPage("/webhooks/1/edit", `value="X-Sig"`, `value="p="`)
	if got := *f.save(1, settingsOf(form)).Signature; got.Secret != made.Secret || got.Key != made.Key || got.Prefix != made.Prefix {
		t.Errorf("sent as it is, it became %+v", got)
	}
	hidden := f.wantPage("/webhooks/1/secret", "X-Sig", strings.ReplaceAll(string(made.Key.Public()), "+", "&#43;"), "BEGIN PUBLIC KEY")
	shown := f.wantIn(f.post("/webhooks/1/secret", nil), 200, "sekret text")
	key := string(made.Key)[len("whsk_"):][:30]
	if strings.Contains(hidden+form, "sekret") || strings.Contains(hidden+form+shown, key) {
		t.Error("a page shows a secret")
	}
	f.wantPage("/webhooks/1/rotate", `value="signature.secret"`, `value="signature.secret_key"`, `value="all"`)
	f.wantIn(f.post("/webhooks/1/rotate", url.Values{"which": {"signature.secret_key"}, "overlap": {"1h"}}), 303)
	if got := f.webhook(1).Signature; got.Key == made.Key || len(got.PreviousKeys) != 1 {
		t.Errorf("rotated: %+v", got)
	}
	f.wantPage("/webhooks/1", "An earlier key pair also signs until", "v1a, by a key pair")
	f.wantIn(f.post("/webhooks/1/rotate", url.Values{"which": {"signature.secret"}, "overlap": {"1h"}, "secret": {"whpk_x"}}), 400, "secret-error", "a public key")
	f.wantIn(f.post("/webhooks/1", url.Values{"revision": {"1"}, "url": {"https://example.com/"}, "signature.header": {"webhook-id"}}), 400, "hookbolt&#39;s own")
	emptied := settingsOf(f.wantPage("/webhooks/1/edit"))
	emptied["signature.header"] = []string{""}
	if got := f.save(1, emptied).Signature; got == nil || got.Header != "" || got.Secret != "" || got.Key == "" {
		t.Errorf("without a header: %+v", got)
	}
}

// TestNodeKeepsIDs runs the function of the code for Node that parses payloads: no integer is rounded, and all else is as JSON.parse has it.
func TestNodeKeepsIDs(t *testing.T) {
	node := tool(t, "node")
	code, err := os.ReadFile("verify/node.mjs")
	if err != nil {
		t.Fatal(err)
	}
	_, parse, ok := strings.Cut(string(code), "function parse(")
	parse, _, closed := strings.Cut(parse, "\n}\n")
	if !ok || !closed {
		t.Fatal("there is no function parse")
	}
	const payload = `{"a":9007199254740993,"b":"9007199254740993, \" -9007199254740993","c":[-9223372036854775808,9007199254740991,-1,1.5e3],"":null}`
	script := "function parse(" + parse + "\n}\nprocess.stdout.write(JSON.stringify(parse(process.argv[1])))"
	got, err := exec.CommandContext(t.Context(), node, "-e", script, payload).Output()
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"a":"9007199254740993","b":"9007199254740993, \" -9007199254740993","c":["-9223372036854775808",9007199254740991,-1,1500],"":null}`; string(got) != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}
