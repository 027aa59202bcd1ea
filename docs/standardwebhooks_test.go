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
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"hookbolt/internal/hookbolttest"
)

// signedRequest is an attempt as its endpoint got it.
type signedRequest struct {
	path   string
	header http.Header
	body   []byte
}

// signatureCase is a request, as it came or as somebody made it, that is held against a secret.
type signatureCase struct {
	name    string
	request signedRequest
	secret  string
	genuine bool // the reference libraries must accept it, else refuse it for its signature
}

// TestReferenceLibraries lets the reference libraries of Standard Webhooks judge what endpoints get from a server, and what forgers
// could make of it.
func TestReferenceLibraries(t *testing.T) {
	cases := signedTraffic(t)
	for _, library := range []struct {
		name   string
		judges func(*testing.T, []signatureCase) (verdicts []string)
	}{{"Go", goVerdicts}, {"JavaScript", javaScriptVerdicts}} {
		t.Run(library.name, func(t *testing.T) {
			verdicts := library.judges(t, cases)
			if len(verdicts) != len(cases) {
				t.Fatalf("%d verdicts on %d requests", len(verdicts), len(cases))
			}
			for i, c := range cases {
				want := "refused: no matching signature found"
				if c.genuine {
					want = "accepted"
				}
				if got := strings.ToLower(verdicts[i]); got != want {
					t.Errorf("%s: %s, want %s\n%v", c.name, got, want, c.request.header)
				}
			}
		})
	}
}

func goVerdicts(t *testing.T, cases []signatureCase) (verdicts []string) {
	for _, c := range cases {
		webhook, err := standardwebhooks.NewWebhook(c.secret)
		if err != nil {
			t.Fatal(err)
		}
		verdict := "accepted"
		if err := webhook.Verify(c.request.body, c.request.header); err != nil {
			verdict = "refused: " + strings.TrimPrefix(err.Error(), "unable to verify payload, err: ")
		}
		verdicts = append(verdicts, verdict)
	}
	return verdicts
}

// javaScriptFolder has the JavaScript library, once npm has brought it, and the program that asks it.
var javaScriptFolder = filepath.Join("..", "testdata", "standardwebhooks")

func javaScriptVerdicts(t *testing.T, cases []signatureCase) (verdicts []string) {
	node, err := exec.LookPath("node")
	if err == nil {
		_, err = os.Stat(filepath.Join(javaScriptFolder, "node_modules", "standardwebhooks"))
	}
	if err != nil {
		missing := t.Skipf
		if os.Getenv("HOOKBOLT_REQUIRE_NODE") == "1" {
			missing = t.Fatalf
		}
		missing("THE JAVASCRIPT LIBRARY HAS NOT JUDGED THE SIGNATURES: %v. Install node, 18 or later, with npm, and run: "+
			"cd testdata/standardwebhooks && npm ci --ignore-scripts", err)
	}
	var in, complaints bytes.Buffer
	for _, c := range cases {
		headers := make(map[string]string)
		for name := range c.request.header {
			headers[name] = c.request.header.Get(name)
		}
		if err := json.NewEncoder(&in).Encode(map[string]any{"secret": c.secret, "headers": headers, "body": c.request.body}); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), node, "verify.mjs")
	cmd.Dir, cmd.Stdin, cmd.Stderr = javaScriptFolder, &in, &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, &complaints)
	}
	return slices.Collect(strings.FieldsFuncSeq(string(out), func(r rune) bool { return r == '\n' || r == '\r' }))
}

// signedTraffic runs a server through all that a webhook's secrets can go through, and returns what its endpoints got, held against
// every secret that there ever was, and what a forger could make of it.
func signedTraffic(t *testing.T) (cases []signatureCase) {
	s := &signing{t: t, got: make(chan signedRequest, 100)}
	endpoint := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.got <- signedRequest{r.URL.Path, r.Header, body}
	}))
	defer endpoint.Close()
	p := hookbolttest.Start(t, "serve", "-config", hookbolttest.WriteConfig(t, t.TempDir(), "", ""), "-allow", "127.0.0.0/8")
	s.api, s.endpoint = p.URL(t), endpoint.URL
	s.everySecret()
	s.rotations()
	if code := p.End(t); code != 0 {
		t.Errorf("exit code %d", code)
	}

	var secrets []string
	for _, signed := range s.signed {
		secrets = append(secrets, signed.by...)
	}
	slices.Sort(secrets)
	secrets = append(slices.Compact(secrets), givenSecret(32, 99))
	for _, signed := range s.signed {
		for _, secret := range secrets {
			genuine := slices.Contains(signed.by, secret)
			cases = append(cases, signatureCase{signed.name + ", with " + secret, signed.signedRequest, secret, genuine})
		}
		// The order of the signatures: each one alone is accepted with one secret only.
		signatures := signed.header["Webhook-Signature"]
		for i, signature := range strings.Split(signatures[0], " ") {
			alone := signed.with("webhook-signature", signature)
			for _, secret := range signed.by {
				name := fmt.Sprintf("%s, signature %d alone, with %s", signed.name, i, secret)
				cases = append(cases, signatureCase{name, alone, secret, i < len(signed.by) && secret == signed.by[i]})
			}
		}
		for name, forged := range signed.forgeries() {
			cases = append(cases, signatureCase{signed.name + ", with another " + name, forged, signed.by[0], false})
		}
	}
	return cases
}

// signing is a server that signs, and what its endpoints have got.
type signing struct {
	t             *testing.T
	api, endpoint string // base URLs
	got           chan signedRequest
	signed        []signedBy
}

// signedBy is a request and the secrets that must have signed it, newest first.
type signedBy struct {
	signedRequest
	name string
	by   []string
}

// with returns the request with another value of a header.
func (r signedRequest) with(name, value string) signedRequest {
	r.header = r.header.Clone()
	r.header.Set(name, value)
	return r
}

// forgeries returns requests that differ from a genuine one as little as they can.
func (r signedRequest) forgeries() map[string]signedRequest {
	id := r.header.Get("webhook-id")
	second, _ := strconv.ParseInt(r.header.Get("webhook-timestamp"), 10, 64)
	body := r
	body.body = append(slices.Clone(r.body), ' ')
	return map[string]signedRequest{
		"body":      body,
		"id":        r.with("webhook-id", id[:35]+string(id[35]^1)),
		"timestamp": r.with("webhook-timestamp", strconv.FormatInt(second-1, 10)),
	}
}

// givenSecret makes a secret of n bytes, of which only the first one differs. Its base64 has a + and a / in it.
func givenSecret(n int, first byte) string {
	key := bytes.Repeat([]byte{0xfb, 0xef, 0xff}, n)[:n]
	key[0] = first
	return "whsec_" + base64.StdEncoding.EncodeToString(key)
}

// everySecret sends a session, with the characters that JSON writers treat in ways of their own, to webhooks with a secret that was
// made and with given ones.
func (s *signing) everySecret() {
	const text = "&<>/ \u2028\u2029\u00a0\u200b\u007f ünï שלום 👩‍👩‍👧 𐍈"
	secrets := map[string]string{"/made": "", "/24": givenSecret(24, 0), "/32": givenSecret(32, 0), "/64": givenSecret(64, 0)}
	for path, given := range secrets {
		settings := map[string]any{"url": s.endpoint + path, "delay": 0, "secret": given}
		if given == "" {
			delete(settings, "secret")
		}
		w := s.call(201, "POST", "/v1/webhooks", settings)
		if given != "" && w.Secret != given {
			s.t.Errorf("%s: the secret is %s, given was %s", path, w.Secret, given)
		}
		secrets[path] = w.Secret
	}
	since := time.Now()
	result := `"type": "result_view", "result": {"result_id": 1, "result_title": "` + text + `\u0000\ud83e\udd8a"},`
	status, answer := hookbolttest.Call(s.t, "POST", s.api+"/v1/events", strings.Replace(hookbolttest.Session, `"type": "finish",`, result, 1))
	hookbolttest.WantStatus(s.t, 202, status, answer)
	for range secrets {
		r := s.next(since)
		if !bytes.Contains(r.body, []byte(text)) {
			s.t.Errorf("%s: the text is not sent as it came: %s", r.path, r.body)
		}
		s.signed = append(s.signed, signedBy{r, r.path, []string{secrets[r.path]}})
	}
}

// rotations takes one webhook from secret to secret. After each step a sample is sent.
func (s *signing) rotations() {
	s1, s3, s5 := givenSecret(24, 1), givenSecret(64, 3), givenSecret(32, 5)
	w := s.call(201, "POST", "/v1/webhooks", map[string]any{"url": s.endpoint + "/rotated", "secret": s1})
	hook := fmt.Sprintf("/v1/webhooks/%v", w.ID)
	rotate := func(settings map[string]any) string {
		return s.call(200, "POST", hook+"/rotate-secret", settings).Secret
	}
	sample := func(name string, by ...string) signedRequest {
		since := time.Now()
		d := s.call(202, "POST", hook+"/test", nil)
		r := s.next(since)
		if id := r.header.Get("webhook-id"); id != d.ID {
			s.t.Errorf("%s: the delivery %v came as %s", name, d.ID, id)
		}
		s.signed = append(s.signed, signedBy{r, name, by})
		return r
	}

	first := sample("before any rotation", s1)
	s2 := rotate(nil)
	sample("in an overlap", s2, s1)
	if got := rotate(map[string]any{"overlap": "720h", "secret": s3}); got != s3 {
		s.t.Errorf("rotated to %s, given was %s", got, s3)
	}
	sample("in two overlaps", s3, s2, s1)
	s4 := rotate(map[string]any{"overlap": "1h"})
	sample("after a third rotation", s4, s3, s2)

	s.call(200, "PATCH", hook, map[string]any{"secret": s5})
	sample("after a secret was set", s5)
	s6 := rotate(map[string]any{"overlap": "0s"})
	sample("after a rotation without overlap", s6)
	s7 := rotate(map[string]any{"overlap": "1ms"})
	for deadline := time.Now().Add(hookbolttest.Timeout); len(s.call(200, "GET", hook, nil).PreviousSecrets) > 0; {
		if time.Now().After(deadline) {
			s.t.Fatal("the overlap does not end")
		}
	}
	sample("after an overlap", s7)

	since := time.Now()
	s.call(202, "POST", "/v1/deliveries/"+first.header.Get("webhook-id")+"/retry", nil)
	again := s.next(since)
	if again.header.Get("webhook-id") != first.header.Get("webhook-id") || !bytes.Equal(again.body, first.body) {
		s.t.Errorf("sent again as %v %s; it was %v %s", again.header, again.body, first.header, first.body)
	}
	s.signed = append(s.signed, signedBy{again, "sent again", []string{s7}})
}

// answered is what answers have that matters here.
type answered struct {
	ID              any    `json:"id"`
	Secret          string `json:"secret"`
	PreviousSecrets []any  `json:"previous_secrets"`
}

// call makes a call of the API; settings nil stand for no body.
func (s *signing) call(want int, method, path string, settings map[string]any) (a answered) {
	s.t.Helper()
	var body []byte
	var err error
	if settings != nil {
		if body, err = json.Marshal(settings); err != nil {
			s.t.Fatal(err)
		}
	}
	status, answer := hookbolttest.Call(s.t, method, s.api+path, string(body))
	hookbolttest.WantStatus(s.t, want, status, answer)
	if err := json.Unmarshal([]byte(answer), &a); err != nil {
		s.t.Fatalf("%v in %s", err, answer)
	}
	return a
}

// The letter of Standard Webhooks 1.0, and of hookbolt's own ids.
var signedHeaders = map[string]*regexp.Regexp{
	"Webhook-Id":        regexp.MustCompile(`^[0-9a-f-]{36}$`),
	"Webhook-Timestamp": regexp.MustCompile(`^\d{10}$`),
	"Webhook-Signature": regexp.MustCompile(`^v1,[A-Za-z0-9+/]{43}=( v1,[A-Za-z0-9+/]{43}=)*$`),
}

// next waits for the next attempt, which must have been made since then, and reads its headers to the letter.
func (s *signing) next(since time.Time) signedRequest {
	s.t.Helper()
	select {
	case r := <-s.got:
		for name, letter := range signedHeaders {
			if values := r.header[name]; len(values) != 1 || !letter.MatchString(values[0]) {
				s.t.Fatalf("%s: %q, want one value of the form %s", name, values, letter)
			}
		}
		second, err := strconv.ParseInt(r.header.Get("webhook-timestamp"), 10, 64)
		if err != nil || second < since.Unix() || second > time.Now().Unix() {
			s.t.Errorf("an attempt from %d to %d says that it is of %d", since.Unix(), time.Now().Unix(), second)
		}
		return r
	case <-time.After(hookbolttest.Timeout):
		s.t.Fatal("no webhook")
		return signedRequest{}
	}
}

// A lock file with addresses in it would tie everybody to the place that its author downloads from.
func TestJavaScriptLockFile(t *testing.T) {
	lock := hookbolttest.Read(t, filepath.Join(javaScriptFolder, "package-lock.json"))
	if strings.Contains(lock, `"resolved"`) || strings.Contains(lock, "://") {
		t.Error("package-lock.json holds addresses")
	}
	if packages := strings.Count(lock, `"node_modules/`); packages == 0 || strings.Count(lock, `"integrity": "sha512-`) != packages {
		t.Errorf("package-lock.json has not the hash of each of its %d packages", packages)
	}
}
