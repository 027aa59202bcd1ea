package send

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
)

// BodySignature is a header with the HMAC-SHA256 of the body, for endpoints that verify signatures as GitHub, Shopify or Typeform make them.
// It has one value, in the form that such endpoints compare as a whole, so there is never more than one key.
type BodySignature struct {
	Header, Prefix string
	Encoding       Encoding
	// Key is a text, whose bytes in UTF-8 are the key.
	Key Credential
}

// Encoding is how a BodySignature is written.
type Encoding string

// The encodings: digits in lower case, or standard base64 with its padding.
const (
	EncodingHex    Encoding = "hex"
	EncodingBase64 Encoding = "base64"
)

// String and LogValue are as those of BasicAuth.
func (b BodySignature) String() string { return b.Header + ": " + b.Prefix + hidden }

// LogValue is what a log shows.
func (b BodySignature) LogValue() slog.Value { return slog.StringValue(b.String()) }

// NewTextSecret returns a secret for a BodySignature: 64 hexadecimal digits, which every endpoint takes.
func NewTextSecret() Credential {
	key := make([]byte, 32)
	rand.Read(key) // never fails (crypto/rand)
	return Credential(hex.EncodeToString(key))
}

// CheckTextSecret refuses a text as the Key of a BodySignature if it is a key of v1a, which was meant for something else.
func CheckTextSecret(text string) error {
	if strings.HasPrefix(text, signingKeyPrefix) || strings.HasPrefix(text, publicKeyPrefix) || strings.HasPrefix(text, "-----BEGIN") {
		return errors.New("must be a text that the endpoint knows, too: " + otherKind(text, ""))
	}
	return nil
}

// value returns the value of the header.
func (b *BodySignature) value(body []byte) string {
	m := hmac.New(sha256.New, []byte(b.Key))
	m.Write(body)
	if b.Encoding == EncodingBase64 {
		return b.Prefix + base64.StdEncoding.EncodeToString(m.Sum(nil))
	}
	return b.Prefix + hex.EncodeToString(m.Sum(nil))
}

// Verify checks the header as an endpoint does.
func (b *BodySignature) Verify(h http.Header, body []byte) error {
	want := []byte(b.value(body))
	if slices.ContainsFunc(h.Values(b.Header), func(got string) bool { return hmac.Equal([]byte(got), want) }) {
		return nil
	}
	if h.Get(b.Header) == "" {
		return errors.New(b.Header + " is missing")
	}
	return errors.New(b.Header + " does not match")
}
