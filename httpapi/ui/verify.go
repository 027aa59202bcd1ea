package ui

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"hookbolt/engine"
)

// snippet is code that verifies signatures, or makes them, for a webhook.
type snippet struct {
	// Name is the language, About what the code does, File what to call its file, Run how to start it.
	Name, About, File, Run string
	Code                   string
}

// languages are the embedded snippets. quote writes a text as a literal of the language.
var languages = []struct {
	snippet
	source string
	quote  func(string) string
}{
	{snippet{Name: "curl", File: "try.sh", Run: "bash try.sh", About: "posts a signed sample and a forged one to your endpoint, to test its verification."},
		"verify/curl.sh", quoteShell},
	{snippet{Name: "Node", File: "endpoint.mjs", Run: "node endpoint.mjs", About: "an endpoint that verifies signatures, without dependencies."},
		"verify/node.mjs", quoteJavaScript},
	{snippet{Name: "Python", File: "endpoint.py", Run: "python3 endpoint.py", About: "an endpoint that verifies signatures, with the standard library."},
		"verify/python.py", strconv.QuoteToASCII},
	{snippet{Name: "Go", File: "endpoint.go", Run: "go run endpoint.go", About: "an endpoint that verifies signatures, with the standard library."},
		"verify/go.txt", strconv.QuoteToASCII},
	{snippet{Name: "PHP", File: "endpoint.php", Run: "php -S 127.0.0.1:{{port}} endpoint.php", About: "an endpoint that verifies signatures, without dependencies."},
		"verify/php.php", quotePHP},
}

// functions are the embedded functions that verify signatures of other kinds, in each language: by a public key, and by the HMAC of the body.
// quote is as in languages.
var functions = []struct {
	name, key, body string
	quote           func(string) string
}{
	{"Node", "verify/v1a.mjs", "verify/body.mjs", quoteJavaScript},
	{"Python", "verify/v1a.py", "verify/body.py", strconv.QuoteToASCII},
	{"Go", "verify/v1a.txt", "verify/body.txt", strconv.QuoteToASCII},
	{"PHP", "verify/v1a.php", "verify/body.php", quotePHP},
}

// keySnippets fills in a public key.
func keySnippets(key engine.PublicKey) []snippet {
	list := make([]snippet, len(functions))
	for i, f := range functions {
		list[i] = snippet{Name: f.name, Code: fillIn(f.key, f.quote, "key", string(key))}
	}
	return list
}

// bodySnippets fills in how the body is signed, and the secret; "" hides it.
func bodySnippets(s *engine.Signature, secret string) []snippet {
	list := make([]snippet, len(functions))
	for i, f := range functions {
		list[i] = snippet{Name: f.name, Code: fillIn(f.body, f.quote, "secret", cmp.Or(secret, "..."), "header", s.Header, "prefix", s.Prefix, "encoding", string(s.Encoding))}
	}
	return list
}

// fillIn returns an embedded file with values in the place of their names in braces, in one pass: inserted text is not replaced again.
func fillIn(file string, quote func(string) string, namesAndValues ...string) string {
	source, err := files.ReadFile(file)
	if err != nil { // the build would have failed
		panic(err)
	}
	for i := range namesAndValues {
		if i%2 == 0 {
			namesAndValues[i] = "{{" + namesAndValues[i] + "}}"
		} else {
			namesAndValues[i] = quote(namesAndValues[i])
		}
	}
	return strings.NewReplacer(namesAndValues...).Replace(string(source))
}

// noSecret is the placeholder for a hidden secret. It is ASCII, so that the code of each language shows it as it is.
const noSecret = "whsec_..."

// snippets fills in an endpoint's URL and a secret; "" hides the secret.
func snippets(secret, endpoint string) []snippet {
	if secret == "" {
		secret = noSecret
	}
	port := ""
	if u, err := url.Parse(endpoint); err == nil { // it was validated when it was set
		port = u.Port()
		u.RawQuery = strings.ReplaceAll(u.RawQuery, " ", "%20") // curl refuses a space, and the path has none left
		endpoint = u.String()
	}
	list := make([]snippet, len(languages))
	for i, l := range languages {
		list[i] = l.snippet
		list[i].Run = strings.ReplaceAll(l.Run, "{{port}}", cmp.Or(port, "9000")) // the default in the code
		list[i].Code = fillIn(l.source, l.quote, "secret", secret, "url", endpoint)
	}
	return list
}

// quoteShell quotes a text for a POSIX shell.
func quoteShell(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// quotePHP quotes a text for PHP.
func quotePHP(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(s) + "'"
}

// quoteJavaScript writes a text as a JSON string of ASCII alone.
func quoteJavaScript(s string) string {
	quoted, err := json.Marshal(s)
	if err != nil { // cannot be: it is a string
		panic(err)
	}
	var b strings.Builder
	for _, r := range string(quoted) {
		switch {
		case r < utf8.RuneSelf:
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}
