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

// signatureTolerance is how far a timestamp may be from now for Verify, as in the reference libraries of Standard Webhooks.
const signatureTolerance = 5 * time.Minute

// Secret is a key that signs messages, in the form of Standard Webhooks: "whsec_" and base64.
type Secret string

const secretPrefix = "whsec_"

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
	if !ok || err != nil || len(key) < 24 || len(key) > 64 || base64.StdEncoding.EncodeToString(key) != encoded {
		return nil, fmt.Errorf("must be %s followed by the base64 of 24 to 64 bytes, padded and without line breaks", secretPrefix)
	}
	return key, nil
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
