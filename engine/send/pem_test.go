package send

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"unicode/utf16"
)

// TestPEMIsTaken: PEM as editors, forms and tools write it.
func TestPEMIsTaken(t *testing.T) {
	ca := newAuthority(t)
	issued := ca.issue(t, forClients("ours"))
	cert, key := texts(t, issued)
	ec, err := x509.MarshalECPrivateKey(newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, _ := ed25519.GenerateKey(rand.Reader)
	edDER, _ := x509.MarshalPKCS8PrivateKey(edKey)
	ecText := pemOf("EC PARAMETERS", []byte{6, 8, 42, 134, 72, 206, 61, 3, 1, 7}) + pemOf("EC PRIVATE KEY", ec)
	for name, text := range map[string]string{
		"EC": ecText, "RSA": pemOf("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey)), "Ed25519": pemOf("PRIVATE KEY", edDER), "PKCS #8": key,
		"beside its certificate": cert + key,
	} {
		if _, err := parseKey(text); err != nil {
			t.Errorf("a key, %s: %v", name, err)
		}
	}
	for name, change := range map[string]func(string) string{
		"as it is":          func(s string) string { return s },
		"byte order mark":   func(s string) string { return "\ufeff" + s },
		"CRLF":              func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") },
		"no line end":       strings.TrimSpace,
		"text before":       func(s string) string { return "subject=CN = ours\nissuer=CN = Authority\n" + s },
		"blank lines":       func(s string) string { return "\n\n" + s + "\n\n" },
		"spaces at the end": func(s string) string { return strings.ReplaceAll(s, "\n", " \n") },
	} {
		settings := &TLS{CA: change(ca.text()), Cert: change(cert + ca.text()), Key: Credential(change(key))}
		if err := CheckTLS(settings); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTLSIsRefused: each mistake has a message that names the member and says what would be right. None shows what was given.
func TestTLSIsRefused(t *testing.T) {
	ca := newAuthority(t)
	issued := ca.issue(t, forClients("ours"))
	cert, key := texts(t, issued)
	otherCert, otherKey := texts(t, ca.issue(t, forClients("other")))
	encrypted := pemOf("ENCRYPTED PRIVATE KEY", []byte("sekret"))
	oldEncrypted := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"}, Bytes: []byte("sekret")}))
	wide := string(utf16Bytes(ca.text()))
	pair := func(c, k string) *TLS { return &TLS{Cert: c, Key: Credential(k)} }
	base := strings.Split(strings.TrimSpace(cert), "\n")
	for _, tt := range []struct {
		name     string
		settings *TLS
		want     string
	}{
		{"swapped", pair(key, cert), "tls.cert is a private key and no certificate: are the two swapped?"},
		{"a certificate twice", pair(cert, cert), "tls.key is a certificate and no private key: are the two swapped?"},
		{"another key", pair(cert, otherKey), `tls.key is not the private key of the certificate "CN=ours"`},
		{"the intermediate first", pair(ca.text()+cert, key), "tls.cert has the client's certificate as number 2: it must come first"},
		{"key in cert", pair(cert+key, key), "tls.cert has the private key in it, too: give that as tls.key"},
		{"two keys", pair(cert, key+otherKey), "tls.key has several private keys"},
		{"no key", &TLS{Cert: cert}, "tls.key is required with tls.cert"},
		{"no certificate", &TLS{Key: Credential(key)}, "tls.cert is required with tls.key"},
		{"passphrase", pair(cert, encrypted), "tls.key is encrypted with a passphrase, which hookbolt does not have: decrypt it with openssl pkey -in FILE -out NEW"},
		{"passphrase of OpenSSL 1", pair(cert, oldEncrypted), "tls.key is encrypted with a passphrase"},
		{"OpenSSH", pair(cert, pemOf("OPENSSH PRIVATE KEY", []byte("sekret"))), "tls.key is a key of OpenSSH: convert a copy of it with ssh-keygen -p -m PKCS8"},
		{"damaged key", pair(cert, pemOf("PRIVATE KEY", []byte("sekret"))), "tls.key cannot be read as a PRIVATE KEY: it is damaged"},
		{"public key", pair(cert, pemOf("PUBLIC KEY", []byte("sekret"))), "tls.key has a PUBLIC KEY in it, which is no private key"},
		{"request", pair(pemOf("CERTIFICATE REQUEST", []byte("sekret")), key), "tls.cert has a CERTIFICATE REQUEST in it, which is no certificate"},
		{"trusted", &TLS{CA: pemOf("TRUSTED CERTIFICATE", []byte("x"))}, "tls.ca is a TRUSTED CERTIFICATE of OpenSSL: convert it with openssl x509"},
		{"damaged certificate", &TLS{CA: pemOf("CERTIFICATE", []byte("sekret"))}, "tls.ca certificate 1 cannot be read"},
		{"key as authority", &TLS{CA: ca.text() + key}, "tls.ca has a private key in it, which nobody needs"},
		{"no end", &TLS{CA: strings.TrimSuffix(strings.TrimSpace(ca.text()), "-----END CERTIFICATE-----")}, "tls.ca has no line -----END CERTIFICATE-----"},
		{"no end of the second", &TLS{CA: ca.text() + strings.Join(base[:len(base)-1], "\n")}, "tls.ca has no line -----END CERTIFICATE-----"},
		{"no begin", &TLS{CA: strings.Join(base[1:], "\n")}, "tls.ca must be PEM text with the lines -----BEGIN CERTIFICATE-----"},
		{"base64 broken", &TLS{CA: strings.Replace(ca.text(), "MII", "M*I", 1)}, "tls.ca is damaged"},
		{"one line", &TLS{CA: strings.ReplaceAll(ca.text(), "\n", " ")}, "tls.ca stands on one line: PEM needs its line breaks"},
		{"escaped", &TLS{CA: strings.ReplaceAll(ca.text(), "\n", `\n`)}, `tls.ca has the two characters \n in place of each line break`},
		{"DER", &TLS{CA: string(ca.certificate.Raw)}, "tls.ca is binary, DER or PKCS #12, and must be PEM text: convert it"},
		{"UTF-16", &TLS{CA: wide}, "tls.ca is PEM in UTF-16"},
		{"something else", &TLS{CA: "sekret"}, "tls.ca must be PEM text"},
		{"too long", &TLS{CA: strings.Repeat("x", MaxPEMBytes+1)}, "tls.ca must have at most 65536 bytes (got 65537)"},
		{"text and file", &TLS{CA: ca.text(), CAFile: "ca.pem"}, "tls.ca_file and tls.ca are set: give one of the two"},
		{"version", &TLS{MinVersion: "1.1"}, `tls.min_version must be "1.2" or "1.3"`},
		{"name with a port", &TLS{ServerName: "a.example:443"}, "tls.server_name must be a host name or an address"},
		{"URL as name", &TLS{ServerName: "https://a.example"}, "tls.server_name must be"},
		{"path in name", &TLS{ServerName: "a.example/x"}, "tls.server_name must be"},
		{"capitals in name", &TLS{ServerName: "A.example"}, "tls.server_name must be"},
		{"space in name", &TLS{ServerName: "a example"}, "tls.server_name must be"},
		{"expired", pair(otherCert, key), "tls.key is not the private key"},
	} {
		err := CheckTLS(tt.settings)
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s: %v\nwant %s", tt.name, err, tt.want)
			continue
		}
		bad, ok := errors.AsType[*TLSError](err)
		if !ok || bad.Member == "" || strings.Contains(err.Error(), "sekret") || len(err.Error()) > 300 {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	for _, name := range []string{"a.example", "xn--bcher-kva.example", "127.0.0.1", "::1", "under_score.example"} {
		if err := CheckTLS(&TLS{ServerName: name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func utf16Bytes(text string) (b []byte) {
	b = []byte{0xff, 0xfe}
	for _, u := range utf16.Encode([]rune(text)) {
		b = append(b, byte(u), byte(u>>8))
	}
	return b
}

// FuzzPEM: no text makes the readers panic, and no error shows what was given.
func FuzzPEM(f *testing.F) {
	f.Add("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
	f.Add("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n-----BEGIN X-----\n")
	f.Add("\ufeff0\x00-----BEGIN ")
	f.Fuzz(func(t *testing.T, text string) {
		for _, settings := range []*TLS{{CA: text}, {Cert: text, Key: Credential(text)}} {
			err := CheckTLS(settings)
			if err != nil && len(err.Error()) > 400 {
				t.Errorf("a long error: %v", err)
			}
		}
	})
}
