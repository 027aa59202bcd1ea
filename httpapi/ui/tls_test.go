package ui_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"html"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"
)

// clientPair returns a self-signed certificate and its key, as PEM.
func clientPair(t *testing.T, name string, until time.Time) (cert, key string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

// TestTLSForm: PEM is typed and never shown again; what is not typed stays; a mistake is told beside its input; another host does not get the
// client certificate.
func TestTLSForm(t *testing.T) {
	f := newFixture(t, nil)
	cert, key := clientPair(t, "ours", time.Now().Add(100*time.Hour))
	lines := func(text string) string { return strings.ReplaceAll(text, "\n", "\r\n") } // as browsers send them
	base := url.Values{"url": {"https://example.com/"}, "send_answers": {"on"}, "send_leads": {"on"}, "http2": {"on"}}
	swapped := with(with(base, "tls.cert", lines(key)), "tls.key", lines(cert))
	body := html.UnescapeString(f.wantIn(f.post("/webhooks", swapped), 400, "is a private key and no certificate: are the two swapped?"))
	if strings.Contains(body, strings.Split(key, "\n")[1]) || strings.Contains(body, strings.Split(cert, "\n")[1]) {
		t.Error("the page shows what was typed")
	}
	f.wantIn(f.post("/webhooks", with(with(with(base, "tls.ca", lines(cert)), "tls.cert", lines(cert)), "tls.key", lines(key))), 303)
	w := f.webhook(1)
	if w.TLS == nil || w.TLS.Cert != cert || string(w.TLS.Key) != key || w.TLS.CA != cert {
		t.Fatalf("stored is not what was typed: %t", w.TLS != nil)
	}
	page := html.UnescapeString(f.wantPage("/webhooks/1", "trusted certificates of its own, a client certificate", "CN=ours by CN=ours expires soon, at "))
	page += html.UnescapeString(f.wantPage("/webhooks/1/edit", "It is set"))
	if strings.Contains(page, strings.Split(key, "\n")[1]) || strings.Contains(page, strings.Split(cert, "\n")[1]) {
		t.Error("a page shows what is set")
	}
	form := settingsOf(f.wantPage("/webhooks/1/edit"))
	if again := f.save(1, form); again.Revision != w.Revision {
		t.Error("a form without a change has changed something")
	}
	if w = f.save(1, with(form, "tls.min_version", "1.3")); w.TLS.MinVersion != "1.3" || w.TLS.Cert != cert || string(w.TLS.Key) != key {
		t.Error("what was not typed has not stayed")
	}
	form = settingsOf(f.wantPage("/webhooks/1/edit"))
	f.wantIn(f.post("/webhooks/1", with(form, "url", "https://other.example/")), 303)
	if w = f.webhook(1); w.TLS == nil || w.TLS.Cert != "" || w.TLS.Key != "" || w.TLS.CA != cert || w.TLS.MinVersion != "1.3" {
		t.Errorf("on another host: %t", w.TLS != nil)
	}
	f.wantIn(f.post("/webhooks/1", with(settingsOf(f.wantPage("/webhooks/1/edit")), "tls.cert_file", "c.pem")), 400, "is required with tls.cert: the private key of the certificate")
	f.wantIn(f.post("/webhooks/1", with(settingsOf(f.wantPage("/webhooks/1/edit")), "tls.ca_file", "c.pem")), 400, "needs delivery.tls_dir in the configuration")
	if w = f.save(1, with(settingsOf(f.wantPage("/webhooks/1/edit")), "remove.tls", "on")); w.TLS != nil {
		t.Error("it is not removed")
	}
}
