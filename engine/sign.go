package engine

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
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

// signatureTolerance is how old or early a timestamp may be for Verify: Standard Webhooks' reference libraries take the same.
const signatureTolerance = 5 * time.Minute

// sign sets the headers of Standard Webhooks on a request: the delivery's id, the attempt's second, and the signature over
// both and the body.
func sign(h http.Header, secret Secret, id string, at time.Time, body []byte) error {
	key, err := secret.Key()
	if err != nil {
		return fmt.Errorf("signing secret: %w", err)
	}
	timestamp := strconv.FormatInt(at.Unix(), 10)
	h.Set(HeaderID, id)
	h.Set(HeaderTimestamp, timestamp)
	h.Set(HeaderSignature, "v1,"+base64.StdEncoding.EncodeToString(mac(key, id, timestamp, body)))
	return nil
}

func mac(key []byte, id, timestamp string, body []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(id + "." + timestamp + "."))
	m.Write(body)
	return m.Sum(nil)
}

// Verify checks the signature of a webhook as an endpoint does. now is compared with the timestamp.
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
