package receiver

import (
	"errors"
	"net/http"
	"time"

	"hookbolt/engine/send"
)

// ErrUnchecked is the verdict on a signature that nobody has checked, for want of a secret.
var ErrUnchecked = errors.New("not checked")

// CheckSecret returns an error unless a webhook's secret is written as it must be.
func CheckSecret(secret string) error {
	_, err := send.Secret(secret).Key()
	return err
}

// verify returns nil for a good signature, ErrUnchecked without a secret, else what is wrong. The check is the domain's own: the rules of
// a signature stand in one place.
func verify(header http.Header, secret string, body []byte, at time.Time) error {
	if secret == "" {
		return ErrUnchecked
	}
	return send.Verify(header, send.Secret(secret), body, at)
}
