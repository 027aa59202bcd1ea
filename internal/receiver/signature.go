package receiver

import (
	"errors"
	"net/http"
	"time"

	"hookbolt/engine/send"
)

// ErrUnchecked is the verdict on a signature that was not checked because there is no secret.
var ErrUnchecked = errors.New("not checked")

// CheckSecret returns an error unless secret has the form of a webhook's secret.
func CheckSecret(secret string) error {
	_, err := send.Secret(secret).Key()
	return err
}

// verify returns nil for a valid signature, ErrUnchecked without a secret, else what is wrong. It uses the check of package send, so that
// the rules of signatures are in one place.
func verify(header http.Header, secret string, body []byte, at time.Time) error {
	if secret == "" {
		return ErrUnchecked
	}
	return send.Verify(header, send.Secret(secret), body, at)
}
