package send

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"
)

// The test vector of Standard Webhooks' reference libraries. Also by openssl:
//
//	printf '%s' 'msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}' | openssl dgst -sha256 -mac HMAC \
//	  -macopt hexkey:$(printf MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw | base64 -d | xxd -p) -binary | base64
const (
	vectorSecret    = Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	vectorID        = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	vectorBody      = `{"test": 2432232314}`
	vectorSignature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)

var vectorTime = time.Unix(1614265330, 0)

func vectorHeader() http.Header {
	h := http.Header{}
	h.Set("webhook-id", vectorID)
	h.Set("webhook-timestamp", "1614265330")
	h.Set("webhook-signature", vectorSignature)
	return h
}

// sign signs with secrets alone.
func sign(h http.Header, secrets []Secret, id string, at time.Time, body []byte) error {
	r := Request{ID: id, Payload: body, Secrets: secrets}
	_, err := r.sign(h, at)
	return err
}

func TestSignVector(t *testing.T) {
	h := http.Header{}
	if err := sign(h, []Secret{vectorSecret}, vectorID, vectorTime.Add(999*time.Millisecond), []byte(vectorBody)); err != nil {
		t.Fatal(err)
	}
	for name, want := range vectorHeader() {
		if got := h.Values(name); len(got) != 1 || got[0] != want[0] {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if len(h) != 3 {
		t.Errorf("headers %v, want three", h)
	}
}

// testSecret returns the n-th of ten secrets.
func testSecret(n int) Secret {
	return Secret("whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{byte(n)}, 32)))
}

// TestSignWithSeveral: a signature for each secret, in their order, single spaces between them, and none if one of them is bad.
func TestSignWithSeveral(t *testing.T) {
	signatures := func(secrets ...Secret) string {
		h := http.Header{}
		if err := sign(h, secrets, vectorID, vectorTime, []byte(vectorBody)); err != nil {
			t.Fatal(err)
		}
		return h.Get(HeaderSignature)
	}
	one, two := signatures(testSecret(1)), signatures(testSecret(2))
	if got, want := signatures(testSecret(1), vectorSecret, testSecret(2)), one+" "+vectorSignature+" "+two; got != want || one == two {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	h := http.Header{}
	err := sign(h, []Secret{vectorSecret, "whsec_c2hvcnQ="}, vectorID, vectorTime, nil)
	if err == nil || !strings.Contains(err.Error(), "signing secret: must be whsec_") || strings.Contains(err.Error(), "c2hvcnQ") || len(h) != 0 {
		t.Errorf("got %v and %v", err, h)
	}
}

func TestVerify(t *testing.T) {
	other := NewSecret()
	tests := []struct {
		name   string
		change func(http.Header)
		secret Secret
		body   string
		now    time.Time
		want   string // a piece of the error; "" for none
	}{
		{"as signed", nil, vectorSecret, vectorBody, vectorTime, ""},
		{"five minutes old", nil, vectorSecret, vectorBody, vectorTime.Add(5 * time.Minute), ""},
		{"five minutes early", nil, vectorSecret, vectorBody, vectorTime.Add(-5 * time.Minute), ""},
		{"too old", nil, vectorSecret, vectorBody, vectorTime.Add(5*time.Minute + time.Second), "away from now"},
		{"too early", nil, vectorSecret, vectorBody, vectorTime.Add(-5*time.Minute - time.Second), "away from now"},
		{"another body", nil, vectorSecret, vectorBody + " ", vectorTime, "no signature matches"},
		{"empty body", nil, vectorSecret, "", vectorTime, "no signature matches"},
		{"another secret", nil, other, vectorBody, vectorTime, "no signature matches"},
		{"another id", func(h http.Header) { h.Set("webhook-id", vectorID+"x") }, vectorSecret, vectorBody, vectorTime, "no signature matches"},
		{"another timestamp", func(h http.Header) { h.Set("webhook-timestamp", "1614265331") }, vectorSecret, vectorBody, vectorTime, "no signature matches"},
		{"the timestamp in another form", func(h http.Header) { h.Set("webhook-timestamp", "+1614265330") }, vectorSecret, vectorBody, vectorTime, "no signature matches"},
		{"no id", func(h http.Header) { h.Del("webhook-id") }, vectorSecret, vectorBody, vectorTime, "is missing"},
		{"no timestamp", func(h http.Header) { h.Del("webhook-timestamp") }, vectorSecret, vectorBody, vectorTime, "is missing"},
		{"no number for a timestamp", func(h http.Header) { h.Set("webhook-timestamp", "now") }, vectorSecret, vectorBody, vectorTime, "is missing"},
		{"no signature", func(h http.Header) { h.Del("webhook-signature") }, vectorSecret, vectorBody, vectorTime, "no signature matches"},
		{"an empty signature", func(h http.Header) { h.Set("webhook-signature", "v1,") }, vectorSecret, vectorBody, vectorTime, "no signature matches"},
		{"another version", func(h http.Header) { h.Set("webhook-signature", "v2"+vectorSignature[2:]) }, vectorSecret, vectorBody, vectorTime, "no signature matches"},
		{"a shortened signature", func(h http.Header) { h.Set("webhook-signature", "v1,g0hM9SsE+OTPJTGt") }, vectorSecret, vectorBody, vectorTime, "no signature matches"},
		{"not base64", func(h http.Header) { h.Set("webhook-signature", "v1,!") }, vectorSecret, vectorBody, vectorTime, "no signature matches"},
		// During an overlap two secrets sign.
		{"the second of two", func(h http.Header) {
			h.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(make([]byte, 32))+" "+vectorSignature)
		}, vectorSecret, vectorBody, vectorTime, ""},
		{"the secret is none", nil, "whsec_", vectorBody, vectorTime, "must be whsec_"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := vectorHeader()
			if tt.change != nil {
				tt.change(h)
			}
			err := Verify(h, tt.secret, []byte(tt.body), tt.now)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestSignedIsVerified(t *testing.T) {
	secret, now := NewSecret(), time.Date(2026, 5, 1, 0, 0, 0, 123, time.UTC)
	for _, body := range []string{"", "{}", "\x00.\n.", strings.Repeat("ü", 100_000)} {
		h := http.Header{}
		if err := sign(h, []Secret{secret}, "018f4e9a-3b7c-7d21-9c65-0a1b2c3d4e18", now, []byte(body)); err != nil {
			t.Fatal(err)
		}
		if err := Verify(h, secret, []byte(body), now); err != nil {
			t.Errorf("body of %d bytes: %v", len(body), err)
		}
	}
}

func TestSecretKey(t *testing.T) {
	of := func(n int) string { return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xfb}, n)) }
	tests := []struct {
		secret string
		bytes  int // 0 for an error
	}{
		{string(vectorSecret), 24},
		{"whsec_" + of(24), 24},
		{"whsec_" + of(32), 32},
		{"whsec_" + of(64), 64},
		{"whsec_" + of(23), 0},
		{"whsec_" + of(65), 0},
		{of(32), 0},
		{"WHSEC_" + of(32), 0},
		{"whsec_" + strings.TrimRight(of(32), "="), 0},
		{"whsec_" + strings.ReplaceAll(of(32), "+", "-"), 0},
		{"whsec_" + of(32) + " ", 0},
		{"whsec_" + of(32) + "\n", 0},
		{"whsec_" + of(48)[:32] + "\r\n" + of(48)[32:], 0},
		{"whsec_" + strings.Repeat("+", 42) + "s=", 32},
		{"whsec_" + strings.Repeat("+", 42) + "t=", 0}, // the same bytes, but a bit is left over
		{"whsec_", 0},
		{"", 0},
	}
	for _, tt := range tests {
		key, err := Secret(tt.secret).Key()
		if len(key) != tt.bytes || (err == nil) != (tt.bytes > 0) {
			t.Errorf("%q: %d bytes, %v; want %d", tt.secret, len(key), err, tt.bytes)
		}
		if err != nil && len(tt.secret) > 10 && strings.Contains(err.Error(), tt.secret[6:]) {
			t.Errorf("the error repeats the secret: %v", err)
		}
	}
	a, b := NewSecret(), NewSecret()
	if key, err := a.Key(); err != nil || len(key) != 32 || a == b {
		t.Errorf("new secrets: %d bytes, %v, equal: %t", len(key), err, a == b)
	}
}

// TestBadSecret: each kind of bad secret has an error of its own, which repeats nothing of the secret.
func TestBadSecret(t *testing.T) {
	of := func(n int) string {
		return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xfb, 0xef, 0xbe, 0x5a}, n)[:n])
	}
	const empty, placeholder, unseen, prefix = "it is empty", "this is a placeholder; ", "remove the spaces, ", "whsec_ in front of it is missing"
	const noBase64, short, long = "what follows whsec_ is no base64, ", "it is too short (got ", "it is too long (got "
	for secret, want := range map[string]string{
		"": empty, "whsec_...": placeholder, "whsec_…": placeholder, "<secret>": placeholder, "${SECRET}": placeholder, "whsec_xxxxxxxx": placeholder, "********": placeholder,
		"whsec_your-secret-here": placeholder, "changeme": placeholder,
		" whsec_" + of(32): unseen, "whsec_" + of(32) + "\n": unseen, "whsec_" + of(32)[:8] + " " + of(32)[8:]: unseen, "\ufeffwhsec_" + of(32): unseen, "whsec_" + of(32) + "\u200b": unseen,
		"whsec_" + of(32) + "\u00a0": unseen,
		"whsk_" + of(64):             "this is the secret key (whsk_) of a key pair, ", "whpk_" + of(32): "this is a public key (whpk_), ", "-----BEGIN PRIVATE KEY-----": "this is a PEM", "v1,whsec_" + of(32): "remove v1 and its comma",
		of(32): prefix, "WHSEC_" + of(32): prefix, "hush": prefix, "whsec-" + of(32): prefix,
		"whsec_hush!": noBase64, `whsec_"` + of(32) + `"`: noBase64, "whsec_" + of(32) + "=": noBase64, "whsec_" + of(32)[:41]: noBase64,
		"whsec_": short + "0)", "whsec_" + of(23): short + "23)", "whsec_" + of(65): long + "65)", "whsec_" + of(100): long + "100)",
		"whsec_" + strings.NewReplacer("+", "-", "/", "_").Replace(of(32)): "this is the base64 of URLs; write + for each - and / for each _",
		"whsec_" + strings.TrimRight(of(32), "="):                          "its padding is missing; write = at its end",
		"whsec_" + strings.TrimRight(of(34), "="):                          "its padding is missing; write == at its end",
		"whsec_" + strings.Repeat("+", 42) + "t=":                          "its last character has bits that belong to no byte; ",
	} {
		_, err := Secret(secret).Key()
		const stem = "must be whsec_ followed by the base64 of 24 to 64 bytes: "
		if err == nil || !strings.HasPrefix(err.Error(), stem+want) || strings.Contains(err.Error(), "hush") || strings.Contains(err.Error(), of(12)) {
			t.Errorf("%q: %v; want …%s…", secret, err, want)
		}
	}
}

// TestSecretStaysSecret tries to get a secret out by every way that text takes.
func TestSecretStaysSecret(t *testing.T) {
	secret := NewSecret()
	var text, jsonText strings.Builder
	for _, h := range []slog.Handler{slog.NewTextHandler(&text, nil), slog.NewJSONHandler(&jsonText, nil)} {
		slog.New(h).Info("made", "secret", secret, "key", SigningKey("whsk_"+secret[6:]), "body", BodySignature{Key: Credential(secret[6:])})
	}
	key := NewSigningKey()
	r := Request{Secrets: []Secret{secret}, Keys: []SigningKey{key}, BodySignature: &BodySignature{Header: "X-Signature", Key: Credential(secret[6:])}}
	for name, got := range map[string]string{
		"text log": text.String(), "JSON log": jsonText.String(),
		"%v": fmt.Sprintf("%v", secret), "%q": fmt.Sprintf("%q", secret), "%x": fmt.Sprintf("%x", secret),
		"request %v": fmt.Sprintf("%v", r), "request %+v": fmt.Sprintf("%+v", &r),
		"body %v": fmt.Sprintf("whsec_ %v %+v", r.BodySignature, *r.BodySignature), "key": fmt.Sprintf("whsec_ %v %+v %q", key, key, key),
	} {
		if strings.Contains(got, string(key[6:20])) {
			t.Errorf("%s: %s", name, got)
		}
		if strings.Contains(got, string(secret[6:20])) || strings.Contains(got, fmt.Sprintf("%x", string(secret[6:20]))) {
			t.Errorf("%s: %s", name, got)
		}
		if !strings.Contains(got, "whsec_") && name != "%x" {
			t.Errorf("%s says nothing of the secret: %s", name, got)
		}
	}
	// The stored form must hold it.
	if b, err := json.Marshal(secret); err != nil || !bytes.Contains(b, []byte(secret)) {
		t.Errorf("stored form %s, %v", b, err)
	}
}
