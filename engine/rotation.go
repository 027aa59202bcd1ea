package engine

import (
	"cmp"
	"time"

	"hookbolt/engine/jsonread"
	"hookbolt/engine/send"
)

// MaxOverlap is how long a secret may sign on after its rotation.
const MaxOverlap = 30 * 24 * time.Hour

// defaultOverlap is how long a secret signs on after its rotation, unless the caller says: a day to change an endpoint.
const defaultOverlap = 24 * time.Hour

// SecretName names a secret of a webhook by its setting.
type SecretName string

// The secrets of a webhook.
const (
	SecretOfWebhook SecretName = "secret"
	SecretOfHeader  SecretName = "signature.secret"     // of the HMAC of the body, if it has one of its own
	SecretKey       SecretName = "signature.secret_key" // the key pair of signatures v1a
	AllSecrets      SecretName = "all"
)

// Rotation is how a webhook gets its next secret.
type Rotation struct {
	// Which is the secret that is replaced; "" means SecretOfWebhook.
	Which SecretName
	// Overlap is how long the present secret signs beside the next one, 0 to MaxOverlap; 0: it stops at once.
	Overlap time.Duration
	// Secret, Text and Key are the next secret, that of Which; "" has one made.
	Secret Secret
	Text   Credential
	Key    SigningKey
	// IfTag are the tags of which the webhook must have one; see WebhookPatch.IfTag.
	IfTag []string
	// Once is the request that it is made for, if it has a key; see Engine.BeginOnce.
	Once *Once
}

// ParseRotation reads a rotation from a JSON object, in which all fields may be left out or null. Without a body the overlap is a day, and the
// secret of the webhook is replaced by one that is made. The error is an InputErrors.
func ParseRotation(body []byte) (Rotation, error) {
	rotation := Rotation{Overlap: defaultOverlap}
	if len(body) == 0 {
		return rotation, nil
	}
	which, err := rotationOf(body)
	if err != nil {
		return Rotation{}, err
	}
	rotation.Which = which
	err = parseObject(body, func(r *jsonread.Reader, key []byte) bool {
		switch string(key) {
		case "which":
			r.Skip()
		case "overlap":
			if r.Null() {
				break
			}
			d := readDuration(r)
			if d < 0 || time.Duration(d) > MaxOverlap {
				r.Fail("must be 0s to %s (got %s)", Duration(MaxOverlap), d)
			}
			rotation.Overlap = time.Duration(d)
		case "secret":
			if !r.Null() {
				rotation.readSecret(r)
			}
		default:
			return false
		}
		return true
	})
	if err != nil {
		return Rotation{}, err
	}
	return rotation, nil
}

// rotationOf reads which secret a rotation replaces: its form depends on that. Anything else that is wrong is for the caller to find.
func rotationOf(body []byte) (which SecretName, err error) {
	var bad InputErrors
	err = parseObject(body, func(r *jsonread.Reader, key []byte) bool {
		if string(key) != "which" || r.Null() {
			r.Skip()
			return true
		}
		switch which = SecretName(r.Text()); which {
		case SecretOfWebhook, SecretOfHeader, SecretKey, AllSecrets:
		default:
			r.Fail("must be %q, %q, %q or %q (got %q)", SecretOfWebhook, SecretOfHeader, SecretKey, AllSecrets, jsonread.Excerpt(string(which)))
		}
		return true
	})
	bad, _ = err.(InputErrors)
	for _, e := range bad {
		if e.Field == "which" {
			return "", InputErrors{e}
		}
	}
	return which, nil
}

// readSecret reads the next secret.
func (r *Rotation) readSecret(from *jsonread.Reader) {
	switch r.Which {
	case SecretOfHeader:
		r.Text = readTextSecret(from)
	case SecretKey:
		r.Key = readSigningKey(from)
	case AllSecrets:
		from.Skip()
		from.Fail("must be left out where all secrets are rotated: each gets one of its own")
	default:
		r.Secret = readSecret(from)
	}
}

// made returns the rotation with secrets for all that are not given.
func (r Rotation) made() Rotation {
	r.Which = cmp.Or(r.Which, SecretOfWebhook)
	r.Secret, r.Text, r.Key = cmp.Or(r.Secret, send.NewSecret()), cmp.Or(r.Text, send.NewTextSecret()), cmp.Or(r.Key, send.NewSigningKey())
	return r
}

// of reports whether the rotation replaces the secret of that name, which the webhook has.
func (r *Rotation) of(w *Webhook, name SecretName) bool {
	return (r.Which == name || r.Which == AllSecrets) && w.hasSecret(name)
}

// check refuses a rotation of what the webhook does not have, or to what it has already. configured says that the configuration sets the
// secret of the webhook.
func (r *Rotation) check(w *Webhook, configured bool) error {
	refuse := func(field, detail string) error { return InputErrors{{Field: field, Detail: detail}} }
	s := w.Signature
	if s == nil {
		s = &Signature{}
	}
	const isCurrent = "is the current secret already: give another one, or none to generate one"
	switch {
	case r.Which == SecretOfHeader && s.Header == "":
		return refuse("which", "the webhook has no signature.header, which this secret is for")
	case r.Which == SecretOfHeader && s.Secret == "":
		return refuse("which", "the header "+s.Header+" is made with the webhook's own secret: rotate \"secret\", or set signature.secret")
	case r.Which == SecretKey && s.Key == "":
		return refuse("which", "the webhook has no key pair: set signature.v1a")
	case r.of(w, SecretOfWebhook) && configured:
		return refuse("secret", "is set by delivery.operations_secret")
	case r.of(w, SecretOfWebhook) && r.Secret == w.Secret, r.of(w, SecretOfHeader) && r.Text == s.Secret, r.of(w, SecretKey) && r.Key == s.Key:
		return refuse("secret", isCurrent)
	}
	return nil
}

// apply replaces the secrets. It shares nothing with the webhook that w was copied from.
func (r *Rotation) apply(w *Webhook, now time.Time) {
	if r.of(w, SecretOfWebhook) {
		w.rotate(r.Secret, r.Overlap, now)
	}
	if w.Signature == nil {
		return
	}
	s := *w.Signature
	if r.of(w, SecretOfHeader) {
		s.PreviousSecrets, s.Secret = rotate(s.Secret, s.PreviousSecrets, r.Text, r.Overlap, now), r.Text
	}
	if r.of(w, SecretKey) {
		s.PreviousKeys, s.Key = rotate(s.Key, s.PreviousKeys, r.Key, r.Overlap, now), r.Key
	}
	w.Signature = &s
}
