package httpapi

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"strings"
	"testing"
	"time"
)

// The first key pair of RFC 8032, section 7.1, as a seed, its public key, and as RFC 8037, appendices A.2 and A.3, have it.
const (
	knownSeed       = "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="
	knownPublicKey  = "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
	knownX          = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
	knownThumbprint = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
)

// shownKeys is the answer with the public keys as a client reads it.
type shownKeys struct {
	Keys []struct {
		Kty, Crv, X, Kid, Use, Alg string
		PublicKey                  string `json:"public_key"`
		PEM                        string
		SignsUntil                 *time.Time `json:"signs_until"`
	}
}

// TestPublicKeys: the public keys that sign, newest first, in all their forms, for read tokens too.
func TestPublicKeys(t *testing.T) {
	f := newFixture(t, Config{AdminTokens: []string{"admin"}, ReadTokens: []string{"reader"}})
	f.token = "admin"
	f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/"}`)
	if got := f.want(404, "GET", "/v1/webhooks/1/public-key", ""); !strings.Contains(got, "has no key pair") {
		t.Errorf("without a key pair: %s", got)
	}
	f.want(200, "PATCH", "/v1/webhooks/1", `{"signature":{"secret_key":"`+knownSeed+`"}}`)
	f.token = "reader"
	var keys shownKeys
	f.wantJSON(&keys, 200, "GET", "/v1/webhooks/1/public-key", "")
	if len(keys.Keys) != 1 {
		t.Fatalf("%d keys", len(keys.Keys))
	}
	k := keys.Keys[0]
	if k.Kty != "OKP" || k.Crv != "Ed25519" || k.X != knownX || k.Kid != knownThumbprint || k.Use != "sig" || k.Alg != "EdDSA" || k.PublicKey != knownPublicKey || k.SignsUntil != nil {
		t.Errorf("shown: %+v", k)
	}

	f.token = "admin"
	var rotated rotatedWebhook
	f.wantJSON(&rotated, 200, "POST", "/v1/webhooks/1/rotate-secret", `{"which":"signature.secret_key","overlap":"2h"}`)
	if len(rotated.PreviousSecrets) != 1 || rotated.PreviousSecrets[0].Which != "signature.secret_key" {
		t.Errorf("rotated: %+v", rotated)
	}
	f.token = "reader"
	keys = shownKeys{}
	f.wantJSON(&keys, 200, "GET", "/v1/webhooks/1/public-key?format=json", "")
	if len(keys.Keys) != 2 || keys.Keys[0].SignsUntil != nil || keys.Keys[1].PublicKey != knownPublicKey || time.Until(*keys.Keys[1].SignsUntil).Round(time.Minute) != 2*time.Hour {
		t.Fatalf("after the rotation: %+v", keys)
	}
	var blocks strings.Builder
	for _, k := range keys.Keys {
		blocks.WriteString(k.PEM)
		block, rest := pem.Decode([]byte(k.PEM))
		if block == nil || block.Type != "PUBLIC KEY" || len(rest) > 0 {
			t.Fatalf("the PEM is %q", k.PEM)
		}
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		raw, err2 := base64.StdEncoding.DecodeString(strings.TrimPrefix(k.PublicKey, "whpk_"))
		if public, ok := key.(ed25519.PublicKey); err != nil || err2 != nil || !ok || !bytes.Equal(public, raw) {
			t.Errorf("the PEM has %v, want %x: %v, %v", key, raw, err, err2)
		}
	}
	rec := f.do("GET", "/v1/webhooks/1/public-key?format=pem", "")
	if rec.Code != 200 || rec.Body.String() != blocks.String() || rec.Header().Get("Content-Type") != "application/x-pem-file" {
		t.Errorf("as PEM: %d %v %s", rec.Code, rec.Header(), rec.Body)
	}
	r := f.request("GET", "/v1/webhooks/1/public-key", "")
	r.Header.Set("Accept", "application/x-pem-file")
	if rec := f.serve(r); rec.Body.String() != blocks.String() {
		t.Errorf("by Accept: %d %s", rec.Code, rec.Body)
	}
	wantInputProblem(t, f.do("GET", "/v1/webhooks/1/public-key?format=der", ""), 0, "format", "must be json or pem")
	f.want(404, "GET", "/v1/webhooks/9/public-key", "")
}

// TestSignatureShown: answers have all of the setting but its secrets, and a change merges it.
func TestSignatureShown(t *testing.T) {
	f := newFixture(t, Config{})
	text := func(w *shownWebhook) string { return jsonOf(t, w.Signature) }
	var w shownWebhook
	f.wantJSON(&w, 201, "POST", "/v1/webhooks", `{"url":"https://example.com/"}`)
	if w.Signature != nil {
		t.Errorf("at first: %s", text(&w))
	}
	for _, step := range []struct{ change, want string }{
		{`{"header":"x-hub-signature-256","prefix":"sha256="}`, `{"header":"X-Hub-Signature-256","prefix":"sha256=","encoding":"hex","secret":null,"v1a":false}`},
		{`{"secret":"sekret","encoding":"base64"}`, `{"header":"X-Hub-Signature-256","prefix":"sha256=","encoding":"base64","secret":true,"v1a":false}`},
		{`{"v1a":true}`, `{"header":"X-Hub-Signature-256","prefix":"sha256=","encoding":"base64","secret":true,"v1a":true}`},
		{`{"header":null}`, `{"header":null,"prefix":null,"encoding":null,"secret":null,"v1a":true}`},
		{`null`, `null`},
	} {
		w = shownWebhook{}
		f.wantJSON(&w, 200, "PATCH", "/v1/webhooks/1", `{"signature":`+step.change+`}`)
		if text(&w) != step.want {
			t.Errorf("%s: %s, want %s", step.change, text(&w), step.want)
		}
	}
	for _, c := range []struct{ body, field, detail string }{
		{`{"signature":{"prefix":"sha256="}}`, "signature.header", "is required with prefix"},
		{`{"signature":{"header":"webhook-signature"}}`, "signature.header", "hookbolt's own"},
		{`{"signature":{"header":"X-A","secret":"whsk_sekret"}}`, "signature.secret", "the secret key (whsk_)"},
		{`{"signature":{"secret_key":"whsec_sekret"}}`, "signature.secret_key", "a secret (whsec_)"},
		{`{"signature":{"header":"X-Key"},"headers":{"x-key":"v"}}`, "signature.header", "headers sets this header already"},
	} {
		wantInputProblem(t, f.do("PATCH", "/v1/webhooks/1", c.body), 0, c.field, c.detail)
		wantInputProblem(t, f.do("POST", "/v1/webhooks", `{"url":"https://example.com/",`+c.body[1:]), 0, c.field, c.detail)
	}
}

// TestRotateKinds rotates each kind of secret by its name; answers have the new one, but never a secret key.
func TestRotateKinds(t *testing.T) {
	f := newFixture(t, Config{})
	f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/","secret":"`+knownSecret+`","signature":{"header":"X-Sig"}}`)
	rotate := func(body string) (w rotatedWebhook, which string) {
		t.Helper()
		f.wantJSON(&w, 200, "POST", "/v1/webhooks/1/rotate-secret", body)
		for _, p := range w.PreviousSecrets {
			which += " " + p.Which
		}
		return w, strings.TrimSpace(which)
	}
	// The header has the text of the webhook's secret as its key, so both are rotated at once.
	w, which := rotate(`{}`)
	if w.Secret == knownSecret || *w.SignatureSecret != w.Secret || which != "secret" {
		t.Errorf("the secret: %+v", w)
	}
	wantInputProblem(t, f.do("POST", "/v1/webhooks/1/rotate-secret", `{"which":"signature.secret"}`), 0, "which", "is made with the webhook's own secret")
	wantInputProblem(t, f.do("POST", "/v1/webhooks/1/rotate-secret", `{"which":"signature.secret_key"}`), 0, "which", "no key pair")
	wantInputProblem(t, f.do("POST", "/v1/webhooks/1/rotate-secret", `{"which":"signature"}`), 0, "which", `must be "secret", `)
	f.want(200, "PATCH", "/v1/webhooks/1", `{"signature":{"secret":"It's a Secret to Everybody","secret_key":"`+knownSeed+`"}}`)

	w, which = rotate(`{"which":"signature.secret","secret":"another"}`)
	if *w.SignatureSecret != "another" || which != "secret signature.secret" {
		t.Errorf("that of the header: %+v", w)
	}
	w, which = rotate(`{"which":"all","overlap":"1h"}`)
	if len(*w.SignatureSecret) != 64 || which != "secret secret signature.secret signature.secret signature.secret_key" {
		t.Errorf("all: %+v", w)
	}
	var shown struct {
		Secret          string
		SignatureSecret string `json:"signature_secret"`
	}
	if f.wantJSON(&shown, 200, "GET", "/v1/webhooks/1/secret", ""); shown.Secret != w.Secret || shown.SignatureSecret != *w.SignatureSecret {
		t.Errorf("shown are %+v, rotated to %+v", shown, w)
	}
	for _, body := range []string{`{"which":"all","secret":"x"}`, `{"which":"signature.secret_key","secret":"whpk_x"}`, `{"which":"signature.secret","secret":"whsk_x"}`, `{"secret":"` + knownSeed + `"}`} {
		wantInputProblem(t, f.do("POST", "/v1/webhooks/1/rotate-secret", body), 0, "secret", "")
	}
	if got := f.log.String(); !strings.Contains(got, "settings=[all]") || !strings.Contains(got, "settings=[signature.secret]") {
		t.Errorf("the audit does not say what was rotated: %s", got)
	}
}

// TestSignatureSecretsStayInside looks for a text secret and a secret key in everything that may not show them: the secret key is shown
// nowhere at all.
func TestSignatureSecretsStayInside(t *testing.T) {
	f := newFixture(t, Config{})
	const text = "sekret-text"
	settings := `"signature":{"header":"X-Sig","secret":"` + text + `","secret_key":"` + knownSeed + `"}`
	create := f.request("POST", "/v1/webhooks", `{"url":"https://example.com/",`+settings+`}`)
	create.Header.Set("Idempotency-Key", "k")
	created := f.serve(create)
	if created.Code != 201 || strings.Count(created.Body.String(), text) != 1 {
		t.Errorf("created: %d %s", created.Code, created.Body)
	}
	f.want(202, "POST", "/v1/events", start(sessionA)+finish(sessionA))
	var d shownDelivery
	f.wantJSON(&d, 202, "POST", "/v1/webhooks/1/test", "")
	var all strings.Builder
	for _, c := range []struct{ method, target, body string }{
		{"GET", "/v1/webhooks", ""}, {"GET", "/v1/webhooks/1", ""}, {"PATCH", "/v1/webhooks/1", `{"name":"x"}`}, {"PATCH", "/v1/webhooks/1", `{` + settings + `}`},
		{"GET", "/v1/webhooks/1/public-key", ""}, {"GET", "/v1/deliveries", ""}, {"GET", "/v1/deliveries/" + d.ID, ""}, {"GET", "/v1/sessions/" + sessionA, ""},
		{"GET", "/metrics", ""}, {"GET", "/platform/hooks/web/1", ""}, {"PUT", "/platform/hooks/web/1", `{"name":"y"}`},
	} {
		all.WriteString(f.want(200, c.method, c.target, c.body))
	}
	for _, page := range []string{"/webhooks/1", "/webhooks/1/edit", "/webhooks/1/secret", "/webhooks/1/rotate", "/webhooks"} {
		all.WriteString(f.want(200, "GET", page, ""))
	}
	key := strings.TrimSuffix(strings.TrimPrefix(knownSeed, "whsk_"), "=")
	for _, secret := range []string{text, key[:40]} {
		if got := all.String() + f.log.String(); strings.Contains(got, secret) {
			t.Errorf("%s is shown: …%s…", secret, got[max(0, strings.Index(got, secret)-200):][:300])
		}
	}
	again := f.serve(func() *http.Request {
		r := f.request("POST", "/v1/webhooks", `{"url":"https://example.com/",`+settings+`}`)
		r.Header.Set("Idempotency-Key", "k")
		return r
	}())
	for _, answer := range []string{created.Body.String(), again.Body.String(), f.want(200, "GET", "/v1/webhooks/1/secret", ""),
		f.want(200, "POST", "/v1/webhooks/1/rotate-secret", `{"which":"all"}`)} {
		if strings.Contains(answer, "whsk_") || strings.Contains(answer, key[:40]) {
			t.Errorf("the secret key is shown: %s", answer)
		}
	}
	// The platform's API keeps the setting.
	if w, err := f.engine.Webhook(1); err != nil || w.Signature == nil || w.Signature.Header != "X-Sig" {
		t.Errorf("left: %+v, %v", w.Signature, err)
	}
	if !json.Valid(created.Body.Bytes()) {
		t.Error("no JSON")
	}
}
