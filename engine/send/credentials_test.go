package send

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"testing"
)

// sendTo makes one attempt with the networks and credentials of settings.
func sendTo(t *testing.T, s *Sender, endpoint string, settings Request) Outcome {
	t.Helper()
	r := requestTo(endpoint)
	r.AllowNetworks, r.Headers, r.BasicAuth, r.OAuth2, r.TokenKey = settings.AllowNetworks, settings.Headers, settings.BasicAuth, settings.OAuth2, settings.TokenKey
	a, err := s.Send(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestHeadersAsSent(t *testing.T) {
	got := make(chan http.Header, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.Header }))
	defer server.Close()
	s, _ := testSender(t, loopback...)
	for i, tt := range []struct {
		settings Request
		want     map[string]string
	}{
		{Request{}, map[string]string{"Authorization": ""}},
		{Request{Headers: map[string]Header{"X-Api-Key": {Value: "k"}, "Authorization": {Value: "Token abc"}}}, map[string]string{"X-Api-Key": "k", "Authorization": "Token abc"}},
		{Request{BasicAuth: &BasicAuth{"Aladdin", "open sesame"}}, map[string]string{"Authorization": "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="}},
		{Request{BasicAuth: &BasicAuth{"ü", "p:q"}, Headers: map[string]Header{"X-Tenant": {Value: "4"}}}, map[string]string{"Authorization": "Basic w7w6cDpx", "X-Tenant": "4"}},
		{Request{BasicAuth: &BasicAuth{}}, map[string]string{"Authorization": "Basic Og=="}},
	} {
		wantDelivered(t, sendTo(t, s, server.URL, tt.settings))
		h := <-got
		for name, value := range tt.want {
			if h.Get(name) != value {
				t.Errorf("%d: %s is %q, want %q", i, name, h.Get(name), value)
			}
		}
		if h.Get("Content-Type") != "application/json" || h.Get("User-Agent") != "hookbolt/1.2.3" || h.Get(HeaderSignature) == "" {
			t.Errorf("%d: hookbolt's own are missing: %v", i, h)
		}
	}
}

// An endpoint that answers with what it was sent does not carry credentials into what is kept of its answers, not even across the
// end of what is kept.
func TestEchoIsRedacted(t *testing.T) {
	for _, pad := range []int{0, 1000, 1010, 1015, 1019, 1023, 1024} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Echo", r.Header.Get("Authorization"))
			w.Header().Set("X-Key", r.Header.Get("X-Api-Key"))
			w.WriteHeader(400)
			io.WriteString(w, strings.Repeat(".", pad)+r.Header.Get("X-Api-Key")+" "+r.Header.Get("Authorization")+" "+strings.Repeat("=", 3000))
		}))
		s, _ := testSender(t, loopback...)
		for _, settings := range []Request{
			{Headers: map[string]Header{"X-Api-Key": {Value: "sekret-key-1"}, "Authorization": {Value: "Bearer sekret-token-2"}}},
			{Headers: map[string]Header{"X-Api-Key": {Value: "sekret-key-1"}}, BasicAuth: &BasicAuth{"u", "sekret-pass"}},
		} {
			a := sendTo(t, s, server.URL, settings)
			shown, _ := json.Marshal(a)
			all := string(a.Response) + string(shown)
			// What is cut off at the end must be no part of a credential either.
			for _, piece := range []string{"sekret", "sekr", base64.StdEncoding.EncodeToString([]byte("u:sekret-pass"))} {
				if strings.Contains(all, piece) {
					t.Errorf("pad %d: %q is kept: %s", pad, piece, all[max(0, strings.Index(all, piece)-20):])
				}
			}
			if len(a.Response) > maxResponseBytes {
				t.Errorf("%d bytes are kept", len(a.Response))
			}
			if pad == 0 && !strings.Contains(string(a.Response), redacted) {
				t.Errorf("nothing was redacted: %.60q", a.Response)
			}
		}
		server.Close()
	}
}

// The forms in which endpoints usually write what they were sent.
func TestSpellingsAreRedacted(t *testing.T) {
	const key = `p?ss "wörd"/>~~\x&`
	r := Request{BasicAuth: &BasicAuth{Username: "theuser", Password: key}, Headers: map[string]Header{"X-Key": {Value: "0123456789abcdef"}}}
	secrets := r.credentials("")
	marshalled, _ := json.Marshal(key)
	php := strings.ReplaceAll(strings.Trim(strconv.QuoteToASCII(key), `"`), "/", `\/`)
	for _, text := range []string{key, string(marshalled), php, url.QueryEscape(key), url.PathEscape(key), html.EscapeString(key), "theuser",
		"0123456789abcdef", strings.ReplaceAll(r.BasicAuth.authorization(), "/", `\/`)} {
		got := string(redact([]byte("before "+text+" after"), secrets))
		if rest := strings.ReplaceAll(strings.ReplaceAll(strings.ReplaceAll(got, redacted, ""), `"`, ""), "Basic ", ""); rest != "before  after" {
			t.Errorf("%s: %s", text, got)
		}
	}
	h := http.Header{"X-0123456789abcdef": {"1"}, "X-0123456789ABCDEF": {"1"}, "X-Fine": {"2"}}
	for _, f := range keptHeader(h, secrets) {
		if f.Name != redacted && f.Name != "X-Fine" {
			t.Errorf("kept: %v", f)
		}
	}
}

// TestSecretHeaders: whether a header is a credential, its setting says, or else its name or the form of its value.
func TestSecretHeaders(t *testing.T) {
	for _, name := range []string{"Authorization", "X-Api-Key", "Apikey", "Private-Token", "X-Auth", "Cookie", "X-Session-Id", "X-Client-Secret", "X-Password", "X-Hub-Signature-256",
		"X-Credential", "X-Jwt", "X-Access-Code"} {
		if !(Header{Value: "plain"}).isSecret(name) {
			t.Errorf("%s is no credential", name)
		}
		if (Header{Value: "plain", Secret: new(false)}).isSecret(name) {
			t.Errorf("%s is a credential although its setting denies it", name)
		}
	}
	for _, name := range []string{"Accept", "X-Env", "X-Tenant", "X-Source", "Origin", "Prefer", "X-Request-Source"} {
		for value, want := range map[string]bool{"application/json": false, "production": false, "application/vnd.github.v3+json": false, "poltio-webhooks-production-1": false,
			"550e8400-e29b-41d4-a716-446655440000": false, "2022-11-28": false, "https://quiz.example.com/embed": false, "internationalization": false, "1234567890123456": false,
			"8f14e45fceea167a5a36dedd4bea2543": true, "hcaik01exampleteamkey7731": true, "sk_live_4eC39HqLyjWDarjtT1zdp7dc": true, "eyJhbGciOiJIUzI1NiJ9.e30.x": true} {
			if got := (Header{Value: Credential(value)}).isSecret(name); got != want {
				t.Errorf("%s: %s: a credential: %t, want %t", name, value, got, want)
			}
			if !(Header{Value: Credential(value), Secret: new(true)}).isSecret(name) {
				t.Errorf("%s: %s is no credential although its setting says so", name, value)
			}
		}
	}
}

// TestRedactionLeavesDiagnosis: of what an endpoint says, only credentials are replaced, and of those that may be words only whole ones.
func TestRedactionLeavesDiagnosis(t *testing.T) {
	r := Request{
		BasicAuth: &BasicAuth{Username: "admin", Password: "test"},
		Headers: map[string]Header{"Accept": {Value: "application/json"}, "X-Env": {Value: "production"}, "X-Api-Key": {Value: "prod"}, "X-Long-Key": {Value: "k3y-of-many-letters"},
			"X-Shown-Key": {Value: "nightly", Secret: new(false)}, "X-Tenant": {Value: "acme-7731", Secret: new(true)}, "Cookie": {Value: "sid=c00k1e; theme=dark"}},
	}
	secrets := r.credentials("")
	for text, want := range map[string]string{
		// What is no credential.
		"expected Content-Type application/json in production": "expected Content-Type application/json in production",
		"no nightly builds": "no nightly builds",
		// Parts of words, of any script.
		"the latest contest, tested, was a product of an administrator": "the latest contest, tested, was a product of an administrator",
		"test1 1test tést testé ütest tes":                              "test1 1test tést testé ütest tes",
		// Whole words.
		"test":                       "[redacted]",
		"(test) test. test_run test": "([redacted]) [redacted]. [redacted]_run [redacted]",
		"admin:test@example.com":     "[redacted]:[redacted]@example.com",
		"key prod, tenant acme-7731": "key [redacted], tenant [redacted]",
		"sid c00k1e and dark":        "sid [redacted] and [redacted]",
		// Escapes are no part of a word.
		`{"password":"test","env":"production\ntest"}`: `{"password":"[redacted]","env":"production\n[redacted]"}`,
		"p=%20test%26&u=%22admin%22":                   "p=%20[redacted]%26&u=%22[redacted]%22",
		`\u0022test\u0022 \x22test\x22`:                `\u0022[redacted]\u0022 \x22[redacted]\x22`,
		"<b>test</b> &quot;test&quot;":                 "<b>[redacted]</b> &quot;[redacted]&quot;",
		// A long one, anywhere; and the encoded form of basic authentication.
		"xk3y-of-many-lettersx":      "x[redacted]x",
		"got Basic YWRtaW46dGVzdA==": "got [redacted]",
		"got YWRtaW46dGVzdA%3D%3D":   "got [redacted]",
		// A shorter one that is no word, and one beside another that is replaced.
		"nacme-7731n": "n[redacted]n", "k3y-of-many-letterstest": "[redacted]", "test" + "acme-7731x": "[redacted]x",
		// What is cut off at the end.
		"it was k3y-of": "it was [redacted]", "it was acme": "it was [redacted]", "it was nacme": "it was n[redacted]", "it was npro": "it was npro",
	} {
		if got := string(redact([]byte(text), secrets)); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	h := http.Header{"X-Latest": {"1"}, "X-Test": {"2"}, "X-K3y-Of-Many-Letters": {"3"}}
	if got := fmt.Sprint(keptHeader(h, secrets)); got != "[{[redacted] 3} {X-Latest 1} {[redacted] 2}]" {
		t.Errorf("kept of the header: %s", got)
	}
	// Credentials within the header Authorization are found as those of basic_auth are.
	r = Request{Headers: map[string]Header{"Authorization": {Value: "Basic YWRtaW46aHVudGVyMg=="}}}
	if got := string(redact([]byte("no admin with hunter2"), r.credentials(""))); got != "no [redacted] with [redacted]" {
		t.Errorf("of a header Authorization is kept: %s", got)
	}
}

func TestRedactAtTheEnd(t *testing.T) {
	secret := strings.Repeat("sekret-", 30)
	text := []byte(strings.Repeat(secret+" ", 6))
	for cut := range len(text) {
		if got := string(keptBody(strings.NewReader(string(text[:cut])), []string{secret})); strings.Contains(got, "sekr") {
			t.Fatalf("cut at %d: …%s", cut, got[strings.Index(got, "sekr"):])
		}
	}
}

func TestPhasesOfAnAttempt(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-One", "1")
		w.Header().Add("X-Two", "a")
		w.Header().Add("X-Two", "b")
		if r.URL.Path == "/large" {
			for i := range 100 {
				w.Header().Set(fmt.Sprintf("X-%03d", i), strings.Repeat("v", 100))
			}
		}
		io.WriteString(w, "ok")
	}))
	defer server.Close()
	s, transport := testSender(t, loopback...)
	transport.TLSClientConfig = server.Client().Transport.(*http.Transport).TLSClientConfig
	_, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "https://"), ":")
	endpoint := "https://localhost:" + port
	transport.TLSClientConfig.ServerName = "example.com" // the certificate's

	first := sendTo(t, s, endpoint, Request{})
	wantDelivered(t, first)
	p := first.Phases
	if p.Connect <= 0 || p.TLS <= 0 || p.FirstByte <= p.Connect+p.TLS || p.FirstByte > first.Duration || p.Token != 0 || first.Reused {
		t.Errorf("phases of a new connection: %+v of %v", p, first.Duration)
	}
	if !strings.HasSuffix(first.Address, ":"+port) || first.Protocol != "HTTP/1.1" {
		t.Errorf("to %q by %s", first.Address, first.Protocol)
	}
	var shown []string
	for _, f := range first.ResponseHeader {
		if strings.HasPrefix(f.Name, "X-") {
			shown = append(shown, f.Name+"="+f.Value)
		}
	}
	if strings.Join(shown, " ") != "X-One=1 X-Two=a X-Two=b" {
		t.Errorf("header: %v", first.ResponseHeader)
	}
	second := sendTo(t, s, endpoint, Request{})
	if p := second.Phases; !second.Reused || p.DNS != 0 || p.Connect != 0 || p.TLS != 0 || p.FirstByte <= 0 || second.Address != first.Address {
		t.Errorf("phases of a connection that was there: %+v", second)
	}
	large, size := sendTo(t, s, endpoint+"/large", Request{}), 0
	for _, f := range large.ResponseHeader {
		size += len(f.Name) + len(f.Value)
	}
	if size > maxResponseHeaderKept || size < maxResponseHeaderKept-200 {
		t.Errorf("%d bytes of a large header are kept", size)
	}
}

// inUse are networks that endpoints have, without TLS settings.
func inUse(networks ...[]netip.Prefix) iter.Seq2[[]netip.Prefix, *TLS] {
	return func(yield func([]netip.Prefix, *TLS) bool) {
		for _, own := range networks {
			if !yield(own, nil) {
				return
			}
		}
	}
}

// An endpoint's own networks open nothing to others, not even through a connection that is kept.
func TestOwnNetworksAreOwn(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	s, _ := testSender(t)
	own := Request{AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}
	wantDelivered(t, sendTo(t, s, server.URL, own))
	if a := sendTo(t, s, server.URL, Request{}); a.Error != ErrorAddressRefused || a.Address == "" {
		t.Errorf("another endpoint used the connection: %+v", a)
	}
	if a := sendTo(t, s, server.URL, own); !a.Delivered() || !a.Reused {
		t.Errorf("the connection was not kept: %+v", a)
	}
	if a := sendTo(t, s, server.URL, Request{AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}}); a.Error != ErrorAddressRefused {
		t.Errorf("other networks of its own: %+v", a)
	}
	s.CloseUnused(inUse(nil, own.AllowNetworks))
	if n := len(s.transports.pools); n != 2 {
		t.Errorf("%d pools are kept for one set of networks, and for none", n)
	}
	if a := sendTo(t, s, server.URL, own); !a.Delivered() || !a.Reused {
		t.Errorf("the connection of networks that are in use was closed: %+v", a)
	}
	s.CloseUnused(inUse(nil, loopback))
	if n := len(s.transports.pools); n != 1 {
		t.Errorf("%d pools are kept for networks that are not in use", n-1)
	}
}
