package engine

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// clientPair returns a self-signed certificate and its key, as PEM.
func clientPair(t *testing.T, name string, until time.Time) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: until.Add(-100 * 24 * time.Hour), NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

// asText writes a text as JSON.
func asText(text string) string {
	b, _ := json.Marshal(text)
	return string(b)
}

// TestTLSMerges: a change of a member leaves the others, and a file takes the place of a text. Answers show no PEM.
func TestTLSMerges(t *testing.T) {
	cert, key := clientPair(t, "a", time.Now().Add(time.Hour))
	ca, other := cert, ""
	other, otherKey := clientPair(t, "b", time.Now().Add(time.Hour))
	whole := TLS{CA: ca, Cert: cert, Key: Credential(key), ServerName: "a.example", MinVersion: "1.3"}
	with := func(change func(*TLS)) *TLS {
		after := whole
		change(&after)
		return &after
	}
	for _, tt := range []struct {
		change string
		want   *TLS
	}{
		{`{"min_version":"1.2"}`, with(func(t *TLS) { t.MinVersion = "1.2" })},
		{`{"server_name":null,"ca":null}`, with(func(t *TLS) { t.ServerName, t.CA = "", "" })},
		{`{"ca_file":"ca.pem"}`, with(func(t *TLS) { t.CA, t.CAFile = "", "ca.pem" })},
		{`{"cert_file":"c.pem","key_file":"k.pem"}`, with(func(t *TLS) { t.Cert, t.Key, t.CertFile, t.KeyFile = "", "", "c.pem", "k.pem" })},
		{`{"cert":` + asText(other) + `,"key":` + asText(otherKey) + `}`, with(func(t *TLS) { t.Cert, t.Key = other, Credential(otherKey) })},
		{`{"cert":null,"key":null,"ca":null,"server_name":null,"min_version":null}`, nil},
		{`{}`, &whole},
		{`null`, nil},
	} {
		w := DefaultWebhook()
		w.TLS = new(whole)
		patch, err := ParseMergePatch([]byte(`{"tls":` + tt.change + `}`))
		if err != nil {
			t.Fatal(err)
		}
		dropped, err := patch.applyTo(&w)
		if err != nil || len(dropped) > 0 || !sameTLS(w.TLS, tt.want) {
			t.Errorf("%.80s: %v, %v", tt.change, err, dropped)
		}
		if shown := string(SettingNamed("tls").JSON(&w)); strings.Contains(shown, "BEGIN") || (w.TLS == nil) != (shown == "null") {
			t.Errorf("%.80s: shown as %s", tt.change, shown)
		}
		stored, _ := json.Marshal(w)
		var back Webhook
		if json.Unmarshal(stored, &back) != nil || !sameTLS(back.TLS, w.TLS) {
			t.Errorf("%.80s: not stored as it is", tt.change)
		}
	}
	for change, want := range map[string]string{
		`{"cert":` + asText(other) + `}`: "tls.key is not the private key of the certificate \"CN=b\"", `{"key":null}`: "tls.key is required",
		`{"ca":""}`: "tls.ca must not be empty", `{"ca":7}`: "tls.ca must be a string", `{"verify":false}`: "tls.verify unknown field",
		`{"insecure_skip_verify":true}`: "tls.insecure_skip_verify unknown field", `{"ca_file":"/etc/passwd"}`: "tls.ca_file must be the name of a file within",
	} {
		w := DefaultWebhook()
		w.TLS = new(whole)
		patch, err := ParseMergePatch([]byte(`{"tls":` + change + `}`))
		if err == nil {
			_, err = patch.applyTo(&w)
		}
		bad, _ := err.(InputErrors)
		if len(bad) != 1 || !strings.HasPrefix(bad[0].Field+" "+bad[0].Detail, want) {
			t.Errorf("%.80s: %v", change, err)
		}
	}
}

// TestTLSIsOfHost: a webhook that moves to another host does not take along who it is, nor what the host is called. What makes the check stricter
// stays.
func TestTLSIsOfHost(t *testing.T) {
	cert, key := clientPair(t, "a", time.Now().Add(time.Hour))
	other, otherKey := clientPair(t, "b", time.Now().Add(time.Hour))
	text := TLS{CA: cert, Cert: cert, Key: Credential(key), ServerName: "a.example", MinVersion: "1.3"}
	files := TLS{CertFile: "c.pem", KeyFile: "k.pem"}
	const to = `{"url":"https://evil.example/"`
	for _, tt := range []struct {
		has     TLS
		change  string
		dropped []string
		want    *TLS
	}{
		{text, to + `}`, []string{"tls.cert", "tls.key", "tls.server_name"}, &TLS{CA: cert, MinVersion: "1.3"}},
		{text, to + `,"tls":{"min_version":"1.2"}}`, []string{"tls.cert", "tls.key", "tls.server_name"}, &TLS{CA: cert, MinVersion: "1.2"}},
		{text, to + `,"tls":{"cert":` + asText(other) + `,"key":` + asText(otherKey) + `}}`, []string{"tls.server_name"},
			&TLS{CA: cert, Cert: other, Key: Credential(otherKey), MinVersion: "1.3"}},
		{text, to + `,"tls":null}`, nil, nil},
		{files, to + `}`, []string{"tls.cert_file", "tls.key_file"}, nil},
		{files, to + `,"tls":{"cert_file":"c.pem","key_file":"k.pem"}}`, nil, &files},
		{text, `{"url":"https://a.example/other"}`, nil, &text},
		{text, `{"name":"n"}`, nil, &text},
	} {
		w := DefaultWebhook()
		w.URL, w.TLS = "https://a.example/", new(tt.has)
		patch, err := ParseMergePatch([]byte(tt.change))
		if err != nil {
			t.Fatal(err)
		}
		before := w
		changes := patch.Changes(&before)
		dropped, err := patch.applyTo(&w)
		if err != nil || !reflect.DeepEqual(dropped, tt.dropped) || !sameTLS(w.TLS, tt.want) {
			t.Errorf("%.80s: %v, dropped %v, %t", tt.change, err, dropped, sameTLS(w.TLS, tt.want))
		}
		if named := strings.Contains(fmt.Sprint(changes), "tls"); named != !sameTLS(tt.want, &tt.has) {
			t.Errorf("%.80s: changes %v", tt.change, changes)
		}
		if !sameTLS(before.TLS, &tt.has) {
			t.Errorf("%.80s: the webhook that was read has changed", tt.change)
		}
	}
	// A key for a certificate that does not move along makes no pair.
	w := DefaultWebhook()
	w.URL, w.TLS = "https://a.example/", new(text)
	patch, err := ParseMergePatch([]byte(to + `,"tls":{"key":` + asText(otherKey) + `}}`))
	if err == nil {
		_, err = patch.applyTo(&w)
	}
	if bad, _ := err.(InputErrors); len(bad) != 1 || bad[0].Field != "tls.cert" {
		t.Errorf("got %v", err)
	}
}

// TestTLSFilesAreChecked: files are looked at when they are named, and not again when other settings change.
func TestTLSFilesAreChecked(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, key := clientPair(t, "a", time.Now().Add(time.Hour))
	put("c.pem", cert)
	put("k.pem", key)
	old, oldKey := clientPair(t, "old", time.Now().Add(-time.Hour))
	put("old.pem", old)
	put("old.key", oldKey)
	cfg := DefaultConfig()
	cfg.TLSDir = dir
	e := &Engine{}
	e.snapshot.Store(&snapshot{cfg, newSender(cfg, nil)})
	for _, tt := range []struct{ url, tls, want string }{
		{"https://192.0.2.1/", `{"cert_file":"c.pem","key_file":"k.pem"}`, ""},
		{"https://192.0.2.1/", `{"cert":` + asText(cert) + `,"key_file":"k.pem"}`, ""},
		{"https://192.0.2.1/", `{"cert_file":"c.pem","key_file":"none.pem"}`, "tls.key_file (none.pem) cannot be read: no such file or directory"},
		{"https://192.0.2.1/", `{"cert_file":"k.pem","key_file":"c.pem"}`, "tls.cert_file is a private key and no certificate: are the two swapped?"},
		{"https://192.0.2.1/", `{"cert_file":"old.pem","key_file":"k.pem"}`, `tls.key_file is not the private key of the certificate "CN=old"`},
		{"https://192.0.2.1/", `{"cert_file":"old.pem","key_file":"old.key"}`, "tls.cert_file expired at"},
		{"http://192.0.2.1/", `{"min_version":"1.3"}`, "tls is for https, and the URL is http: change it, or remove tls"},
	} {
		patch, err := ParseWebhookPatch([]byte(`{"url":"` + tt.url + `","tls":` + tt.tls + `}`))
		if err != nil {
			t.Fatal(err)
		}
		w, err := NewWebhook(patch)
		if err != nil {
			t.Fatal(err)
		}
		err = e.checkTLS(&w, &Webhook{})
		bad, _ := err.(InputErrors)
		if tt.want == "" && err != nil || tt.want != "" && (len(bad) != 1 || !strings.HasPrefix(bad[0].Field+" "+bad[0].Detail, tt.want)) {
			t.Errorf("%s: %v", tt.tls, err)
		}
		if err := e.checkTLS(&w, &w); err != nil && tt.want[:4] != "tls " {
			t.Errorf("%s, unchanged: %v", tt.tls, err)
		}
	}
	w := &Webhook{URL: "https://192.0.2.1/", TLS: &TLS{CertFile: "c.pem", KeyFile: "k.pem"}}
	if c, err := e.ClientCertificate(w); err != nil || c.Subject != "CN=a" || !c.Expiring(time.Now()) || c.Expiring(time.Now().Add(-30*24*time.Hour)) {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err := e.ClientCertificate(&Webhook{}); c != nil || err != nil {
		t.Errorf("%+v, %v", c, err)
	}
}
