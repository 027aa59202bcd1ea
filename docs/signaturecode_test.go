package docs

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"hookbolt/internal/hookbolttest"
)

// drivers run the function verify of a code block: they read headers, by names in lower case, and the body in base64, and print true or false.
var drivers = map[string]struct {
	program, file, suffix string
	missing               []string // what the program says if the machine lacks what the code needs
}{
	"js": {"node", "verify.mjs", `
import { readFileSync } from "node:fs";
const input = JSON.parse(readFileSync(0, "utf8"));
console.log(verify(input.headers, Buffer.from(input.body, "base64")));
`, nil},
	"python": {"python3", "verify.py", `

if __name__ == "__main__":
    import json
    import sys

    class Headers(dict):
        def get(self, name, default=None):
            return super().get(name.lower(), default)

    given = json.load(sys.stdin)
    print(str(verify(Headers(given["headers"]), base64.b64decode(given["body"]))).lower())
`, []string{"No module named 'cryptography'"}},
	"php": {"php", "verify.php", `
$given = json_decode(file_get_contents('php://stdin'), true);
echo verify($given['headers'], base64_decode($given['body'])) ? "true\n" : "false\n";
`, []string{"undefined function sodium_"}},
	"go": {"go", "verify.go", "", nil},
}

// goDriver is that of Go, in a file of its own.
const goDriver = `package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
)

func main() {
	var given struct {
		Headers map[string]string
		Body    []byte
	}
	if err := json.NewDecoder(os.Stdin).Decode(&given); err != nil {
		panic(err)
	}
	h := http.Header{}
	for name, value := range given.Headers {
		h.Set(name, value)
	}
	fmt.Println(verify(h, given.Body))
}
`

// TestOtherSignatures runs the functions of signatures.md that verify a signature v1a and a header with an HMAC, on what a server has sent and
// on what a forger could make of it.
func TestOtherSignatures(t *testing.T) {
	got := make(chan signedRequest, 10)
	endpoint := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- signedRequest{r.URL.Path, r.Header, body}
	}))
	defer endpoint.Close()
	api := hookbolttest.Serve(t, "", "")
	settings := fmt.Sprintf(`{"url":%q,"allow_networks":["127.0.0.0/8"],"signature":{"header":"X-Hub-Signature-256","prefix":"sha256=","secret":"It's a Secret to Everybody",
		"secret_key":"whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbc="}}`, endpoint.URL)
	status, answer := hookbolttest.Call(t, "POST", api+"/v1/webhooks", settings)
	hookbolttest.WantStatus(t, 201, status, answer)
	status, answer = hookbolttest.Call(t, "POST", api+"/v1/webhooks/1/test", "")
	hookbolttest.WantStatus(t, 202, status, answer)
	var sent signedRequest
	select {
	case sent = <-got:
	case <-time.After(hookbolttest.Timeout):
		t.Fatal("nothing was sent")
	}

	_, page, _ := strings.Cut(hookbolttest.ReadFile(t, "docs/signatures.md"), "## Other signatures")
	blocks := regexp.MustCompile("(?s)```(js|python|go|php)\n(.*?)```").FindAllStringSubmatch(page, -1)
	if len(blocks) != 8 {
		t.Fatalf("%d blocks of code", len(blocks))
	}
	for _, block := range blocks {
		language, code := block[1], block[2]
		header := "X-Hub-Signature-256"
		if strings.Contains(code, "whpk_") {
			header = "Webhook-Signature"
		}
		t.Run(language+" "+header, func(t *testing.T) {
			verify := codeDriver(t, language, code)
			signature := sent.header.Get(header)
			changed := sent
			changed.body = append(bytes.Clone(sent.body), ' ')
			for name, c := range map[string]struct {
				request signedRequest
				genuine bool
			}{
				"genuine": {sent, true}, "another body": {changed, false}, "no signature": {sent.with(header, ""), false},
				"another signature": {sent.with(header, strings.ToUpper(signature)), false},
				"half of it":        {sent.with(header, signature[:len(signature)-8]), false},
			} {
				if got := verify(c.request); got != c.genuine {
					t.Errorf("%s: verified: %t", name, got)
				}
			}
			if header == "Webhook-Signature" && (verify(sent.with("Webhook-Id", "x")) || verify(sent.with("Webhook-Timestamp", "1614265330"))) {
				t.Error("verified with another id or time")
			}
		})
	}
}

// codeDriver returns a function that has the code verify a request.
func codeDriver(t *testing.T, language, code string) func(signedRequest) bool {
	t.Helper()
	d := drivers[language]
	program, err := exec.LookPath(d.program)
	if err != nil {
		t.Skipf("THE CODE HAS NOT BEEN RUN: %v", err)
	}
	dir := t.TempDir()
	path := hookbolttest.Write(t, filepath.Join(dir, d.file), code+d.suffix)
	args := []string{path}
	if language == "go" {
		driver := hookbolttest.Write(t, filepath.Join(dir, "main.go"), goDriver)
		built := filepath.Join(dir, "verify.exe")
		if out, err := exec.CommandContext(t.Context(), program, "build", "-o", built, path, driver).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		program, args = built, nil
	}
	return func(r signedRequest) bool {
		headers := make(map[string]string)
		for name := range r.header {
			headers[strings.ToLower(name)] = r.header.Get(name)
		}
		input, err := json.Marshal(map[string]any{"headers": headers, "body": base64.StdEncoding.EncodeToString(r.body)})
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), program, args...)
		cmd.Stdin = bytes.NewReader(input)
		out, err := cmd.CombinedOutput()
		for _, missing := range d.missing {
			if strings.Contains(string(out), missing) && os.Getenv("HOOKBOLT_REQUIRE_NODE") != "1" {
				t.Skipf("THE CODE HAS NOT BEEN RUN: %s", missing)
			}
		}
		switch strings.TrimSpace(string(out)) {
		case "true":
			return true
		case "false":
			return false
		}
		t.Fatalf("%v\n%s", err, out)
		return false
	}
}
