package send

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
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
	encoded, ok := strings.CutPrefix(string(s), secretPrefix)
	key, err := base64.StdEncoding.DecodeString(encoded)
	// DecodeString ignores line ends, and bits that belong to no byte. Many libraries that endpoints use do not, so only the one form
	// that all of them read is valid.
	if !ok || err != nil || len(key) < minKeyBytes || len(key) > maxKeyBytes || base64.StdEncoding.EncodeToString(key) != encoded {
		return nil, fmt.Errorf("must be %s followed by the base64 of %d to %d bytes: %s", secretPrefix, minKeyBytes, maxKeyBytes, s.trouble())
	}
	return key, nil
}

// trouble says what is wrong with a secret from which Key makes no key. It repeats nothing of it.
func (s Secret) trouble() string {
	text := string(s)
	encoded, hasPrefix := strings.CutPrefix(text, secretPrefix)
	padded := encoded + strings.Repeat("=", (4-len(encoded)%4)%4)
	standard := strings.NewReplacer("-", "+", "_", "/").Replace(padded)
	key, err := base64.StdEncoding.DecodeString(standard)
	switch {
	case text == "":
		return "it is empty"
	case isPlaceholder(encoded):
		return "this is a placeholder; put the secret in its place"
	case strings.ContainsFunc(text, func(r rune) bool { return r == ' ' || invisible(r) != "" }):
		return "remove the spaces, line breaks and other characters that cannot be seen"
	case !hasPrefix:
		return secretPrefix + " in front of it is missing"
	case err != nil:
		return "what follows " + secretPrefix + " is no base64, which is letters, digits, + and /, with = at the end"
	case len(key) < minKeyBytes:
		return fmt.Sprintf("it is too short (got %d)", len(key))
	case len(key) > maxKeyBytes:
		return fmt.Sprintf("it is too long (got %d)", len(key))
	case strings.ContainsAny(encoded, "-_"):
		return "this is the base64 of URLs; write + for each - and / for each _"
	case padded != encoded:
		return fmt.Sprintf("its padding is missing; write %s at its end", padded[len(encoded):])
	}
	return "its last character has bits that belong to no byte; copy it again, or encode it again"
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

// sign sets the headers of Standard Webhooks: the message id, the attempt's Unix second, and for each secret, in their order, the
// signature over both and the body. A dot separates what is signed, so the id must not hold one.
func sign(h http.Header, secrets []Secret, id string, at time.Time, body []byte) error {
	timestamp := unixSecond(at)
	signatures := make([]string, len(secrets))
	for i, s := range secrets {
		key, err := s.Key()
		if err != nil {
			return fmt.Errorf("signing secret: %w", err)
		}
		signatures[i] = "v1," + base64.StdEncoding.EncodeToString(mac(key, id, timestamp, body))
	}
	h.Set(HeaderID, id)
	h.Set(HeaderTimestamp, timestamp)
	h.Set(HeaderSignature, strings.Join(signatures, " "))
	return nil
}

// unixSecond returns the value of webhook-timestamp.
func unixSecond(at time.Time) string { return strconv.FormatInt(at.Unix(), 10) }

func mac(key []byte, id, timestamp string, body []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(id + "." + timestamp + "."))
	m.Write(body)
	return m.Sum(nil)
}

// Verify checks a signature as an endpoint does. The timestamp is compared with now.
func Verify(h http.Header, secret Secret, body []byte, now time.Time) error {
	key, err := secret.Key()
	if err != nil {
		return fmt.Errorf("secret: %w", err)
	}
	id, timestamp := h.Get(HeaderID), h.Get(HeaderTimestamp)
	at, err := strconv.ParseInt(timestamp, 10, 64)
	if id == "" || err != nil {
		return errors.New("webhook-id or webhook-timestamp is missing")
	}
	if age := now.Sub(time.Unix(at, 0)); age.Abs() > signatureTolerance {
		return fmt.Errorf("webhook-timestamp is %s away from now", age.Abs().Round(time.Second))
	}
	want := mac(key, id, timestamp, body)
	for signature := range strings.SplitSeq(h.Get(HeaderSignature), " ") {
		version, encoded, _ := strings.Cut(signature, ",")
		got, err := base64.StdEncoding.DecodeString(encoded)
		if version == "v1" && err == nil && hmac.Equal(got, want) {
			return nil
		}
	}
	return errors.New("no signature matches")
}
