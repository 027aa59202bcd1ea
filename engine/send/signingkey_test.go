package send

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The key pair and the signature of Svix's server, of which the specification of Standard Webhooks shows the signature.
const (
	vectorSigningKey   = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
	vectorPublicKey    = PublicKey("whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=")
	vectorKeySignature = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="
)

func signingKey(t *testing.T, text string) SigningKey {
	t.Helper()
	k, err := ParseSigningKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestSignWithKeyVector(t *testing.T) {
	whole := signingKey(t, vectorSigningKey)
	seed := signingKey(t, vectorSigningKey[:len("whsk_")+42]+"c=")
	if string(whole) != vectorSigningKey || seed != whole || whole.Public() != vectorPublicKey {
		t.Errorf("the key is %s, by its seed %s, public %s", string(whole), string(seed), whole.Public())
	}
	h := http.Header{}
	r := Request{ID: vectorID, Payload: []byte(vectorBody), Secrets: []Secret{vectorSecret}, Keys: []SigningKey{whole}}
	sent, err := r.sign(h, vectorTime)
	if want := vectorSignature + " " + vectorKeySignature; err != nil || h.Get(HeaderSignature) != want || sent.Signature != want {
		t.Errorf("signed %v, %v; want %s", h, err, want)
	}
	if err := VerifyKey(h, vectorPublicKey, []byte(vectorBody), vectorTime); err != nil {
		t.Errorf("not verified: %v", err)
	}
	if err := Verify(h, vectorSecret, []byte(vectorBody), vectorTime); err != nil {
		t.Errorf("v1 beside it is not verified: %v", err)
	}
}

// TestSigningKeysOfRFC8032 takes the keys, messages and signatures of RFC 8032, section 7.1.
func TestSigningKeysOfRFC8032(t *testing.T) {
	for _, v := range []struct{ seed, public, message, signature string }{
		{"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
			"e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"},
		{"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb", "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
			"92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"},
		{"c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7", "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
			"6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"},
	} {
		seed, public, message, signature := unhex(t, v.seed), unhex(t, v.public), unhex(t, v.message), unhex(t, v.signature)
		k := signingKey(t, "whsk_"+base64.StdEncoding.EncodeToString(seed))
		got, err := k.Public().Key()
		if err != nil || !bytes.Equal(got, public) || !bytes.Equal(ed25519.Sign(k.private(), message), signature) {
			t.Errorf("%s: another key: %x, %v", v.seed, got, err)
		}
	}
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestVerifyKeyRefuses: a signature v1a holds for its message, its key and its version only.
func TestVerifyKeyRefuses(t *testing.T) {
	key, other := signingKey(t, vectorSigningKey), NewSigningKey()
	signed := func(keys ...SigningKey) http.Header {
		h := http.Header{}
		r := Request{ID: vectorID, Payload: []byte(vectorBody), Secrets: []Secret{vectorSecret}, Keys: keys}
		if _, err := r.sign(h, vectorTime); err != nil {
			t.Fatal(err)
		}
		return h
	}
	with := func(name, value string) http.Header {
		h := signed(key)
		h.Set(name, value)
		return h
	}
	signature := strings.TrimPrefix(vectorKeySignature, "v1a,")
	for _, tt := range []struct {
		name string
		h    http.Header
		body string
		now  time.Time
		ok   bool
	}{
		{"genuine", signed(key), vectorBody, vectorTime, true},
		{"the second of two", signed(other, key), vectorBody, vectorTime, true},
		{"another key", signed(other), vectorBody, vectorTime, false},
		{"another body", signed(key), vectorBody + " ", vectorTime, false},
		{"another id", with(HeaderID, "x"), vectorBody, vectorTime, false},
		{"another time", with(HeaderTimestamp, "1614265331"), vectorBody, vectorTime, false},
		{"too old", signed(key), vectorBody, vectorTime.Add(301 * time.Second), false},
		{"under the version v1", with(HeaderSignature, "v1,"+signature), vectorBody, vectorTime, false},
		{"under no version", with(HeaderSignature, signature), vectorBody, vectorTime, false},
		{"shortened", with(HeaderSignature, "v1a,"+signature[:84]), vectorBody, vectorTime, false},
		{"empty", with(HeaderSignature, "v1a,"), vectorBody, vectorTime, false},
	} {
		if err := VerifyKey(tt.h, vectorPublicKey, []byte(tt.body), tt.now); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if err := VerifyKey(signed(key), "whpk_", nil, vectorTime); err == nil {
		t.Error("verified with no key")
	}
}

// TestParseSigningKeyRefuses: each kind of bad key has an error of its own, which repeats nothing of the key.
func TestParseSigningKeyRefuses(t *testing.T) {
	of := func(n int) string {
		return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xfb, 0xef, 0xbe, 0x5a}, n)[:n])
	}
	for text, want := range map[string]string{
		"": "it is empty", "whsk_...": "this is a placeholder", "whsec_" + of(32): "this is a secret (whsec_) of signatures v1", "whpk_" + of(32): "this is a public key (whpk_)",
		"-----BEGIN PRIVATE KEY-----\nMC4=": "this is a PEM", of(64): "whsk_ in front of it is missing", "hush hush": "remove the spaces",
		"whsk_" + of(33): "it has 33 bytes", "whsk_" + of(0): "it has 0 bytes", "whsk_hush!": "is no base64", "whsk_" + strings.TrimRight(of(64), "="): "its padding is missing",
		"whsk_" + of(64): "its last 32 bytes are not the public key of the first 32",
	} {
		_, err := ParseSigningKey(text)
		if err == nil || !strings.HasPrefix(err.Error(), "must be whsk_ followed by the base64 of 64 bytes") || !strings.Contains(err.Error(), ": "+want) && !strings.Contains(err.Error(), want) ||
			strings.Contains(err.Error(), "hush") || strings.Contains(err.Error(), of(12)) {
			t.Errorf("%q: %v; want …%s…", text, err, want)
		}
	}
	for text, want := range map[string]string{
		vectorSigningKey: "this is the secret key (whsk_)", string(vectorSecret): "this is a secret (whsec_)", "whpk_" + of(31): "it has 31 bytes", "whpk_" + of(33): "it has 33 bytes",
	} {
		if _, err := PublicKey(text).Key(); err == nil || !strings.Contains(err.Error(), "must be whpk_ followed by the base64 of 32 bytes: "+want) {
			t.Errorf("%q: %v; want …%s…", text, err, want)
		}
	}
}

// TestOpenSSLVerifiesKey has openssl verify a signature v1a with the PEM of the public key.
func TestOpenSSLVerifiesKey(t *testing.T) {
	openssl := needOpenSSL(t)
	key, dir := NewSigningKey(), t.TempDir()
	pem, err := key.Public().PEM()
	if err != nil {
		t.Fatal(err)
	}
	h := http.Header{}
	r := Request{ID: vectorID, Payload: []byte(vectorBody), Keys: []SigningKey{key}}
	if _, err := r.sign(h, vectorTime); err != nil {
		t.Fatal(err)
	}
	signature, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(h.Get(HeaderSignature), "v1a,"))
	if err != nil {
		t.Fatal(err)
	}
	for content, verified := range map[string]bool{vectorID + ".1614265330." + vectorBody: true, vectorID + ".1614265331." + vectorBody: false} {
		for name, data := range map[string][]byte{"key": []byte(pem), "signature": signature, "content": []byte(content)} {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.CommandContext(t.Context(), openssl, "pkeyutl", "-verify", "-pubin", "-inkey", "key", "-rawin", "-in", "content", "-sigfile", "signature")
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); (err == nil) != verified {
			t.Errorf("%s: %v\n%s", content, err, out)
		}
	}
}

// needOpenSSL returns the path of openssl.
func needOpenSSL(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		missing := t.Skipf
		if os.Getenv("HOOKBOLT_REQUIRE_NODE") == "1" {
			missing = t.Fatalf
		}
		missing("OPENSSL HAS NOT JUDGED THE SIGNATURES: %v", err)
	}
	return path
}
