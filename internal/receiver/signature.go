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

// CheckPublicKey returns an error unless key has the form of a public key of signatures v1a.
func CheckPublicKey(key string) error {
	_, err := send.PublicKey(key).Key()
	return err
}

// HMAC is a header with the HMAC-SHA256 of the body.
type HMAC struct {
	// Header is its name; with "" it is not checked.
	Header, Prefix string
	// Encoding is "hex" or "base64"; "" means hex. Secret is a text, whose bytes are the key.
	Encoding, Secret string
}

// verify returns nil if all signatures that are to be checked are valid, ErrUnchecked if none is to be, else what is wrong with the first one.
// It uses the checks of package send, so that the rules of signatures are in one place.
func (o *Options) verify(header http.Header, body []byte, at time.Time) error {
	verdict := ErrUnchecked
	if o.Secret != "" {
		if verdict = send.Verify(header, send.Secret(o.Secret), body, at); verdict != nil {
			return verdict
		}
	}
	if o.PublicKey != "" {
		if verdict = send.VerifyKey(header, send.PublicKey(o.PublicKey), body, at); verdict != nil {
			return verdict
		}
	}
	if h := o.HMAC; h.Header != "" {
		expected := send.BodySignature{Header: h.Header, Prefix: h.Prefix, Encoding: send.Encoding(h.Encoding), Key: send.Credential(h.Secret)}
		verdict = expected.Verify(header, body)
	}
	return verdict
}

// checks reports whether any signature is checked.
func (o *Options) checks() bool { return o.Secret != "" || o.PublicKey != "" || o.HMAC.Header != "" }
