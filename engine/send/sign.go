package send

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The headers of Standard Webhooks 1.0.
const (
	HeaderID        = "webhook-id"
	HeaderTimestamp = "webhook-timestamp"
	HeaderSignature = "webhook-signature"
)

// The same as net/http keeps them, which need not be made of them for each attempt.
var wireID, wireTimestamp, wireSignature, wireKind = http.CanonicalHeaderKey(HeaderID), http.CanonicalHeaderKey(HeaderTimestamp), http.CanonicalHeaderKey(HeaderSignature),
	http.CanonicalHeaderKey(HeaderKind)

// HeaderKind is the header that tells what kind of message a request has. It is hookbolt's own, and not signed.
const HeaderKind = "hookbolt-kind"

// signatureTolerance is how far a timestamp may be from now for Verify, as in the reference libraries of Standard Webhooks.
const signatureTolerance = 5 * time.Minute

// Secret is a key that signs messages, in the form of Standard Webhooks: "whsec_" and base64.
type Secret string

const (
	secretPrefix = "whsec_"
	minKeyBytes  = 24
	maxKeyBytes  = 64
)

// NewSecret returns a secret of 32 random bytes.
func NewSecret() Secret {
	key := make([]byte, 32)
	rand.Read(key) // never fails (crypto/rand)
	return Secret(secretPrefix + base64.StdEncoding.EncodeToString(key))
}

// Key returns the bytes of the key. The error says what a secret must look like; it never repeats the secret.
func (s Secret) Key() ([]byte, error) {
	key, trouble := decodeKey(string(s), secretPrefix, func(n int) string {
		switch {
		case n < minKeyBytes:
			return fmt.Sprintf("it is too short (got %d)", n)
		case n > maxKeyBytes:
			return fmt.Sprintf("it is too long (got %d)", n)
		}
		return ""
	})
	if wrong := otherKind(string(s), secretPrefix); wrong != "" {
		trouble = wrong
	}
	if trouble != "" {
		return nil, fmt.Errorf("must be %s followed by the base64 of %d to %d bytes: %s", secretPrefix, minKeyBytes, maxKeyBytes, trouble)
	}
	return key, nil
}

// isPlaceholder tells a text that stands for a secret in documentation or a template, such as "...", "<secret>" or "${SECRET}".
func isPlaceholder(text string) bool {
	if strings.Contains(text, "...") || strings.ContainsAny(text, "…<>{}$*") {
		return true
	}
	for _, words := range []string{"changeme", "change-me", "change_me", "placeholder", "your-", "your_"} {
		if strings.Contains(strings.ToLower(text), words) {
			return true
		}
	}
	return text != "" && strings.Trim(text, "xX") == ""
}

// String keeps the secret out of text, LogValue out of logs: a JSON log does not call String.
func (s Secret) String() string { return secretPrefix + "…" }

// LogValue is what a log shows.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// sign sets the headers that sign the request: those of Standard Webhooks, which are the message id, the attempt's Unix second, and the
// signatures over both and the body, of each secret and then of each key; and that of BodySignature. A dot separates what is signed, so the
// id must not hold one. Nothing is signed anywhere else.
func (r *Request) sign(h http.Header, at time.Time) (Sent, error) {
	timestamp, body := unixSecond(at), r.body()
	// The signatures v1 come first: some endpoints read the first one only.
	signatures := make([]string, 0, len(r.Secrets)+len(r.Keys))
	for _, s := range r.Secrets {
		signature, err := signV1(s, r.ID, timestamp, body)
		if err != nil {
			return Sent{}, fmt.Errorf("signing secret: %w", err)
		}
		signatures = append(signatures, "v1,"+signature)
	}
	for _, k := range r.Keys {
		key := k.private()
		if key == nil {
			return Sent{}, errors.New("signing key: is none") // cannot be: it was read by ParseSigningKey
		}
		signatures = append(signatures, "v1a,"+base64.StdEncoding.EncodeToString(ed25519.Sign(key, signedContent(r.ID, timestamp, body))))
	}
	sent := Sent{Signature: strings.Join(signatures, " ")}
	h[wireID], h[wireTimestamp], h[wireSignature] = []string{r.ID}, []string{timestamp}, []string{sent.Signature}
	if b := r.BodySignature; b != nil {
		sent.BodySignature = HeaderField{b.Header, b.value(body)}
		h.Set(b.Header, sent.BodySignature.Value)
	}
	return sent, nil
}

// unixSecond returns the value of webhook-timestamp.
func unixSecond(at time.Time) string { return strconv.FormatInt(at.Unix(), 10) }

// signedContent returns what Standard Webhooks signs.
func signedContent(id, timestamp string, body []byte) []byte {
	return append([]byte(id+"."+timestamp+"."), body...)
}

// sum writes what is signed to an HMAC that has its key, and returns it.
func sum(m hash.Hash, id, timestamp string, body []byte) []byte {
	m.Write([]byte(id + "." + timestamp + "."))
	m.Write(body)
	return m.Sum(nil)
}

// Verify checks a signature v1 as an endpoint does. The timestamp is compared with now.
func Verify(h http.Header, secret Secret, body []byte, now time.Time) error {
	key, err := secret.Key()
	if err != nil {
		return fmt.Errorf("secret: %w", err)
	}
	return verifyOne(h, "v1", now, func(id, timestamp string, signature []byte) bool {
		return hmac.Equal(signature, sum(hmac.New(sha256.New, key), id, timestamp, body))
	})
}

// VerifyKey is Verify for a signature v1a.
func VerifyKey(h http.Header, public PublicKey, body []byte, now time.Time) error {
	key, err := public.Key()
	if err != nil {
		return fmt.Errorf("public key: %w", err)
	}
	return verifyOne(h, "v1a", now, func(id, timestamp string, signature []byte) bool {
		return ed25519.Verify(key, signedContent(id, timestamp, body), signature)
	})
}

// verifyOne returns nil if a signature of that version fits, and is recent.
func verifyOne(h http.Header, version string, now time.Time, fits func(id, timestamp string, signature []byte) bool) error {
	id, timestamp := h.Get(HeaderID), h.Get(HeaderTimestamp)
	at, err := strconv.ParseInt(timestamp, 10, 64)
	if id == "" || err != nil {
		return errors.New("webhook-id or webhook-timestamp is missing")
	}
	if age := now.Sub(time.Unix(at, 0)); age.Abs() > signatureTolerance {
		return fmt.Errorf("webhook-timestamp is %s away from now", age.Abs().Round(time.Second))
	}
	for entry := range strings.SplitSeq(h.Get(HeaderSignature), " ") {
		v, encoded, _ := strings.Cut(entry, ",")
		signature, err := base64.StdEncoding.DecodeString(encoded)
		if v == version && err == nil && fits(id, timestamp, signature) {
			return nil
		}
	}
	return errors.New("no signature matches")
}
