package engine

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"
)

func TestCredentialSettings(t *testing.T) {
	w := applyPatch(t, DefaultWebhook(), `{"headers":{"X-Api-Key":"k1","authorization":"Bearer t1"},"rate_limit":0.5,
		"allow_networks":["10.1.2.3","fd00::/8","::ffff:192.168.0.0/112"]}`)
	if fmt.Sprint(w.AllowNetworks) != "[10.1.2.3/32 fd00::/8 192.168.0.0/16]" || *w.RateLimit != 0.5 {
		t.Errorf("got %v, %v", w.AllowNetworks, *w.RateLimit)
	}
	if len(w.Headers) != 2 || w.Headers["X-Api-Key"] != "k1" || w.Headers["Authorization"] != "Bearer t1" {
		t.Errorf("got %d headers", len(w.Headers))
	}
	w = applyPatch(t, w, `{"headers":{"X-Other":"k2"},"basic_auth":{"username":"","password":""}}`)
	if len(w.Headers) != 1 || w.BasicAuth.authorization() != "Basic Og==" {
		t.Errorf("headers are not replaced as a whole: %d; %s", len(w.Headers), w.BasicAuth.authorization())
	}
	w = applyPatch(t, w, `{"headers":null,"basic_auth":null,"rate_limit":null,"allow_networks":null,
		"oauth2":{"token_url":"https://auth.example/token","client_id":"c","client_secret":"s","scopes":["a","b:c"]}}`)
	if w.Headers != nil || w.BasicAuth != nil || w.RateLimit != nil || w.AllowNetworks != nil || w.OAuth2.Scopes[1] != "b:c" {
		t.Errorf("null does not set the default again: %+v", w.OAuth2.Scopes)
	}
	w = applyPatch(t, w, `{"oauth2":{"token_url":"https://auth.example/token","body": {"a": [1, "ü"]} ,"headers":{"content-type":"text/x"}}}`)
	if w.OAuth2.Body != `{"a": [1, "ü"]}` || !w.OAuth2.IsJSON || w.OAuth2.Headers["Content-Type"] != "text/x" {
		t.Errorf("a body of the caller's own: %q", string(w.OAuth2.Body))
	}
	// What is stored is what was set.
	stored, err := json.Marshal(w)
	var back Webhook
	if err != nil || json.Unmarshal(stored, &back) != nil || back.OAuth2.Body != w.OAuth2.Body || back.OAuth2.TokenURL != w.OAuth2.TokenURL {
		t.Errorf("stored as %s: %v", stored, err)
	}
}

func TestCredentialSettingsRefuse(t *testing.T) {
	many := []string{}
	for i := range 33 {
		many = append(many, fmt.Sprintf(`"X-%d":"v"`, i))
	}
	const token = `"token_url":"https://auth.example/token"`
	for _, tt := range []struct{ body, field, detail string }{
		{`{"headers":["X"]}`, "headers", "must be an object (got a list)"},
		{`{"headers":{"X Y":"v"}}`, "headers.X Y", "letters, digits, -"},
		{`{"headers":{"":"v"}}`, "headers.", "letters, digits, -"},
		{`{"headers":{"X\r\nY":"v"}}`, "headers.X\r\nY", "letters, digits, -"},
		{`{"headers":{"X-Y":""}}`, "headers.X-Y", "1 to 4096 bytes (got 0)"},
		{`{"headers":{"X-Y":7}}`, "headers.X-Y", "must be a string (got a number)"},
		{`{"headers":{"X-Y":"a\r\nInjected: 1"}}`, "headers.X-Y", "line breaks"},
		{`{"headers":{"X-Y":" a"}}`, "headers.X-Y", "begin or end with a space"},
		{`{"headers":{"X-Y":"` + strings.Repeat("a", 4097) + `"}}`, "headers.X-Y", "1 to 4096 bytes (got 4097)"},
		{`{"headers":{"x-y":"a","X-Y":"b"}}`, "headers.X-Y", "stands twice"},
		{`{"headers":{` + strings.Join(many, ",") + `}}`, "headers", "at most 32 headers"},
		{`{"headers":{"Webhook-Id":"x"}}`, "headers.Webhook-Id", "hookbolt's own"},
		{`{"headers":{"webhook-signature":"x"}}`, "headers.webhook-signature", "hookbolt's own"},
		{`{"headers":{"content-type":"x"}}`, "headers.content-type", "hookbolt's own"},
		{`{"headers":{"User-Agent":"x"}}`, "headers.User-Agent", "hookbolt's own"},
		{`{"headers":{"HOST":"x"}}`, "headers.HOST", "hookbolt's own"},
		{`{"headers":{"Content-Length":"1"}}`, "headers.Content-Length", "hookbolt's own"},
		{`{"headers":{"Transfer-Encoding":"chunked"}}`, "headers.Transfer-Encoding", "hookbolt's own"},
		{`{"headers":{"Idempotency-Key":"x"}}`, "headers.Idempotency-Key", "hookbolt's own"},
		{`{"headers":{"X-Idempotency-Key":"x"}}`, "headers.X-Idempotency-Key", "hookbolt's own"},
		{`{"headers":{"Accept-Encoding":"gzip"}}`, "headers.Accept-Encoding", "hookbolt's own"},
		{`{"headers":{"Proxy-Authorization":"x"}}`, "headers.Proxy-Authorization", "hookbolt's own"},
		{`{"basic_auth":{"username":"a"}}`, "basic_auth.password", "is required"},
		{`{"basic_auth":{"password":"a"}}`, "basic_auth.username", "is required"},
		{`{"basic_auth":{"username":"a:b","password":"c"}}`, "basic_auth.username", "colon"},
		{`{"basic_auth":{"username":"a","password":"c","realm":"x"}}`, "basic_auth.realm", "unknown field"},
		{`{"basic_auth":"a:b"}`, "basic_auth", "must be an object (got a string)"},
		{`{"oauth2":{}}`, "oauth2.token_url", "is required"},
		{`{"oauth2":{"token_url":"ftp://x","client_id":"c","client_secret":"s"}}`, "oauth2.token_url", "http or https"},
		{`{"oauth2":{` + token + `}}`, "oauth2.client_id", "is required"},
		{`{"oauth2":{` + token + `,"client_id":"c"}}`, "oauth2.client_secret", "is required"},
		{`{"oauth2":{` + token + `,"client_id":"c","client_secret":"s","body":"b"}}`, "oauth2.body", "takes the place"},
		{`{"oauth2":{` + token + `,"client_id":"c","client_secret":"s","scopes":["a b"]}}`, "oauth2.scopes[0]", "white space"},
		{`{"oauth2":{` + token + `,"client_id":"c","client_secret":"s","audience":"b"}}`, "oauth2.audience", "unknown field"},
		{`{"oauth2":{` + token + `,"body":"b","headers":{"Host":"x"}}}`, "oauth2.headers.Host", "hookbolt's own"},
		{`{"oauth2":{` + token + `,"body":7}}`, "oauth2.body", "must be a string (got a number)"},
		{`{"rate_limit":0}`, "rate_limit", "must be 0.001 to 10000 deliveries a second (got 0)"},
		{`{"rate_limit":-1}`, "rate_limit", "(got -1)"},
		{`{"rate_limit":10001}`, "rate_limit", "(got 10001)"},
		{`{"rate_limit":1e999}`, "rate_limit", "too large"},
		{`{"rate_limit":"10"}`, "rate_limit", "must be a number (got a string)"},
		{`{"allow_networks":"10.0.0.0/8"}`, "allow_networks", "must be a list (got a string)"},
		{`{"allow_networks":["10.0.0.0/8","10.0.0"]}`, "allow_networks[1]", "must be a network or an address"},
	} {
		_, err := ParseWebhookPatch([]byte(tt.body))
		bad, ok := err.(InputErrors)
		if !ok || len(bad) != 1 || bad[0].Field != tt.field || !strings.Contains(bad[0].Detail, tt.detail) {
			t.Errorf("%.90s: got %v, want %s: …%s…", tt.body, err, tt.field, tt.detail)
		}
	}
	for _, tt := range []struct{ body, field string }{
		{`{"basic_auth":{"username":"a","password":"b"},"headers":{"Authorization":"x"}}`, "basic_auth"},
		{`{"oauth2":{` + token + `,"body":"b"},"headers":{"Authorization":"x"}}`, "oauth2"},
		{`{"oauth2":{` + token + `,"body":"b"},"basic_auth":{"username":"a","password":"b"}}`, "basic_auth"},
	} {
		w := applyPatch(t, DefaultWebhook(), tt.body)
		if bad, ok := w.checkCredentials().(InputErrors); !ok || bad[0].Field != tt.field || !strings.Contains(bad[0].Detail, "only one of") {
			t.Errorf("%s: got %v", tt.body, w.checkCredentials())
		}
	}
}

// Whatever prints a webhook prints none of its credentials.
func TestCredentialsAreNotPrinted(t *testing.T) {
	w := applyPatch(t, DefaultWebhook(), `{"headers":{"X-Api-Key":"sekret-1"},"oauth2":{"token_url":"https://auth.example/sekret-2","client_id":"sekret-3",
		"client_secret":"sekret-4"},"secret":"whsec_`+base64.StdEncoding.EncodeToString([]byte("sekret-5sekret-5sekret-5"))+`"}`)
	w.BasicAuth = &BasicAuth{"sekret-6", "sekret-7"}
	var out strings.Builder
	for _, v := range []any{w, &w, w.Headers, w.OAuth2, *w.OAuth2, w.BasicAuth, *w.BasicAuth} {
		fmt.Fprintf(&out, "%v %+v %s\n", v, v, v)
	}
	log := slog.New(slog.NewJSONHandler(&out, nil))
	log.Info("x", "key", w.Headers["X-Api-Key"], "password", w.BasicAuth.Password, "secret", w.Secret, "basic", w.BasicAuth, "oauth2", w.OAuth2)
	if i := strings.Index(out.String(), "sekret"); i >= 0 {
		t.Errorf("…%s…", out.String()[max(0, i-50):i+10])
	}
}

// sendTo makes one attempt for a webhook with these settings.
func sendTo(t *testing.T, s *sender, endpoint, settings string) Attempt {
	t.Helper()
	w := applyPatch(t, Webhook{ID: 7, URL: endpoint, Secret: newSecret()}, settings)
	a, err := s.send(t.Context(), &w, &Delivery{ID: uuid.New(), NextAttemptAt: utcNow()}, []byte(`{"n":1}`), sendPatience)
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
	for settings, want := range map[string]map[string]string{
		`{}`: {"Authorization": ""},
		`{"headers":{"X-Api-Key":"k","authorization":"Token abc"}}`:                   {"X-Api-Key": "k", "Authorization": "Token abc"},
		`{"basic_auth":{"username":"Aladdin","password":"open sesame"}}`:              {"Authorization": "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="},
		`{"basic_auth":{"username":"ü","password":"p:q"},"headers":{"X-Tenant":"4"}}`: {"Authorization": "Basic w7w6cDpx", "X-Tenant": "4"},
	} {
		wantDelivered(t, sendTo(t, s, server.URL, settings))
		h := <-got
		for name, value := range want {
			if h.Get(name) != value {
				t.Errorf("%s: %s is %q, want %q", settings, name, h.Get(name), value)
			}
		}
		if h.Get("Content-Type") != "application/json" || h.Get("User-Agent") != "hookbolt/1.2.3" || h.Get(HeaderSignature) == "" {
			t.Errorf("%s: hookbolt's own are missing: %v", settings, h)
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
		for _, settings := range []string{
			`{"headers":{"X-Api-Key":"sekret-key-1","Authorization":"Bearer sekret-token-2"}}`,
			`{"headers":{"X-Api-Key":"sekret-key-1"},"basic_auth":{"username":"u","password":"sekret-pass"}}`,
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
	w := Webhook{BasicAuth: &BasicAuth{Username: "theuser", Password: key}, Headers: map[string]Credential{"X-Key": "0123456789abcdef"}}
	secrets := w.secrets("")
	marshalled, _ := json.Marshal(key)
	php := strings.ReplaceAll(strings.Trim(strconv.QuoteToASCII(key), `"`), "/", `\/`)
	for _, text := range []string{key, string(marshalled), php, url.QueryEscape(key), url.PathEscape(key), html.EscapeString(key), "theuser",
		"0123456789abcdef", strings.ReplaceAll(w.BasicAuth.authorization(), "/", `\/`)} {
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

	first := sendTo(t, s, endpoint, `{}`)
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
	second := sendTo(t, s, endpoint, `{}`)
	if p := second.Phases; !second.Reused || p.DNS != 0 || p.Connect != 0 || p.TLS != 0 || p.FirstByte <= 0 || second.Address != first.Address {
		t.Errorf("phases of a connection that was there: %+v", second)
	}
	large, size := sendTo(t, s, endpoint+"/large", `{}`), 0
	for _, f := range large.ResponseHeader {
		size += len(f.Name) + len(f.Value)
	}
	if size > maxResponseHeaderKept || size < maxResponseHeaderKept-200 {
		t.Errorf("%d bytes of a large header are kept", size)
	}
}

// A webhook's own networks open nothing for others: not by a connection that is kept either.
func TestOwnNetworksAreOwn(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	s, _ := testSender(t)
	own := `{"allow_networks":["127.0.0.1"]}`
	wantDelivered(t, sendTo(t, s, server.URL, own))
	if a := sendTo(t, s, server.URL, `{}`); a.Error != ErrorAddressRefused || a.Address == "" {
		t.Errorf("another webhook used the connection: %+v", a)
	}
	if a := sendTo(t, s, server.URL, own); !a.Delivered() || !a.Reused {
		t.Errorf("the connection was not kept: %+v", a)
	}
	if a := sendTo(t, s, server.URL, `{"allow_networks":["127.0.0.2"]}`); a.Error != ErrorAddressRefused {
		t.Errorf("other networks of its own: %+v", a)
	}
	s.transports.tidy([]*Webhook{{}, {AllowNetworks: loopback}})
	if n := len(s.transports.byOwn); n != 0 {
		t.Errorf("%d transports are kept for networks that no webhook has", n)
	}
}
