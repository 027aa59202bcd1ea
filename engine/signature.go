package engine

import (
	"encoding/json"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"hookbolt/engine/jsonread"
	"hookbolt/engine/send"
)

// Limits of a webhook's signature.
const (
	maxSignatureHeader = 256 // bytes
	maxSignaturePrefix = 64  // bytes
)

// Signature is how a webhook's attempts are signed beside v1 of Standard Webhooks: by a header with the HMAC-SHA256 of the body, by the
// signature v1a of a key pair, or by both.
type Signature struct {
	// Header is the name of the header, "" for none. Prefix stands before the HMAC in it.
	Header   string        `json:"header,omitzero"`
	Prefix   string        `json:"prefix,omitzero"`
	Encoding send.Encoding `json:"encoding,omitzero"`
	// Secret is the text whose UTF-8 is the key of the HMAC; "" means that of the webhook's secret, with its whsec_.
	Secret          Credential             `json:"secret,omitzero"`
	PreviousSecrets []Previous[Credential] `json:"previous_secrets,omitempty"`
	// Key makes the signature v1a; "" for none.
	Key          SigningKey             `json:"key,omitzero"`
	PreviousKeys []Previous[SigningKey] `json:"previous_keys,omitempty"`
}

// ShownSignature is what answers show of a Signature. Secret tells whether it has one of its own, V1a whether it has a key pair.
type ShownSignature struct {
	Header   *string        `json:"header"`
	Prefix   *string        `json:"prefix"`
	Encoding *send.Encoding `json:"encoding"`
	Secret   *bool          `json:"secret"`
	V1a      bool           `json:"v1a"`
}

// shownSignature returns what answers show of a webhook's signature: a nil *ShownSignature if it has none.
func shownSignature(w *Webhook) any {
	s := w.Signature
	if s == nil {
		return (*ShownSignature)(nil)
	}
	shown := &ShownSignature{V1a: s.Key != ""}
	if s.Header != "" {
		shown.Header, shown.Prefix, shown.Encoding = &s.Header, &s.Prefix, &s.Encoding
	}
	if s.Secret != "" {
		shown.Secret = new(true)
	}
	return shown
}

// signatureMembers returns what is set, as it is read. A key pair is not among it: readSignature keeps the one that there is.
func signatureMembers(w *Webhook) members {
	s := w.Signature
	if s == nil {
		return members{}
	}
	found := membersOf(Signature{Header: s.Header, Prefix: s.Prefix, Encoding: s.Encoding, Secret: s.Secret})
	if s.Key != "" {
		found["v1a"] = json.RawMessage("true")
	}
	return found
}

// givenSignature is what was read of the setting signature.
type givenSignature struct {
	Signature
	// v1a is the member of that name; nil if it is not given.
	v1a *bool
	// newKey means that the key pair is to be another one.
	newKey bool
}

// readSignature reads the setting signature.
func readSignature(r *jsonread.Reader) func(*Webhook) {
	var g givenSignature
	ofHeader := "" // a member that needs a header
	r.Object(func(key []byte) bool {
		switch name := string(key); name {
		case "header":
			if !r.Null() {
				g.Header = readSignatureHeader(r)
			}
		case "prefix":
			if !r.Null() {
				g.Prefix, ofHeader = readSignaturePrefix(r), name
			}
		case "encoding":
			if !r.Null() {
				g.Encoding, ofHeader = readEncoding(r), name
			}
		case "secret":
			if !r.Null() {
				g.Secret, ofHeader = readTextSecret(r), name
			}
		case "v1a":
			if !r.Null() {
				g.v1a = new(r.Bool())
			}
		case "secret_key":
			if g.newKey = r.Null(); !g.newKey {
				g.Key = readSigningKey(r)
			}
		default:
			return false
		}
		return true
	})
	switch {
	case g.Header == "" && ofHeader != "":
		r.FailAt("header", "is required with %s: the name of the header for the HMAC of the body", ofHeader)
	case g.Key != "" && g.v1a != nil && !*g.v1a:
		r.FailAt("v1a", "must be true, or left out, with secret_key")
	}
	if g.Header != "" && g.Encoding == "" {
		g.Encoding = send.EncodingHex
	}
	if g.newKey {
		g.Key = send.NewSigningKey()
	}
	return g.set
}

// set sets the signature. Earlier secrets and keys sign until their overlaps end, unless another one takes their place. A key pair stays
// where none is given: it is made here, and nobody else has it.
func (g *givenSignature) set(w *Webhook) {
	next, before := g.Signature, w.Signature
	if before == nil {
		before = &Signature{}
	}
	if next.Secret != "" && next.Secret == before.Secret {
		next.PreviousSecrets = before.PreviousSecrets
	}
	switch wanted := g.v1a != nil && *g.v1a || g.v1a == nil && next.Key != "" && !g.newKey; {
	case !wanted:
		next.Key = ""
	case next.Key == "" && before.Key == "":
		next.Key = send.NewSigningKey()
	case next.Key == "" || next.Key == before.Key:
		next.Key, next.PreviousKeys = before.Key, before.PreviousKeys
	}
	w.Signature = nil
	if next.Header != "" || next.Key != "" {
		w.Signature = &next
	}
}

// readSignatureHeader reads the name of the header for the HMAC of the body.
func readSignatureHeader(r *jsonread.Reader) string {
	name := textproto.CanonicalMIMEHeaderKey(r.Text())
	switch {
	case !isToken(name):
		r.Fail(badHeaderName)
	case isOwnHeader(name):
		r.Fail("this header is hookbolt's own and cannot be set")
	case len(name) > maxSignatureHeader:
		r.Fail("must have at most %d characters (got %d)", maxSignatureHeader, len(name))
	}
	return name
}

// readSignaturePrefix reads what stands before the HMAC.
func readSignaturePrefix(r *jsonread.Reader) string {
	prefix := r.Text()
	switch {
	case strings.ContainsFunc(prefix, func(c rune) bool { return c < ' ' || c > '~' }):
		r.Fail("must be letters, digits, spaces and punctuation of ASCII")
	case strings.HasPrefix(prefix, " "):
		r.Fail("must not begin with a space, which HTTP removes")
	case len(prefix) > maxSignaturePrefix:
		r.Fail("must have at most %d characters (got %d)", maxSignaturePrefix, len(prefix))
	}
	return prefix
}

// readEncoding reads how the HMAC is written.
func readEncoding(r *jsonread.Reader) send.Encoding {
	e := send.Encoding(r.Text())
	if e != send.EncodingHex && e != send.EncodingBase64 {
		r.Fail(`must be "hex" or "base64" (got %q)`, jsonread.Excerpt(string(e)))
	}
	return e
}

// readTextSecret reads a secret that is any text.
func readTextSecret(r *jsonread.Reader) Credential {
	s := readClientPart(r, "the secret")
	if err := send.CheckTextSecret(string(s)); err != nil {
		r.Fail("%v", err)
	}
	return s
}

func readSigningKey(r *jsonread.Reader) SigningKey {
	key, err := send.ParseSigningKey(r.Text())
	if err != nil {
		r.Fail("%v", err)
	}
	return key
}

// checkSignature refuses a header that something else fills as well.
func (w *Webhook) checkSignature() error {
	if w.Signature == nil || w.Signature.Header == "" {
		return nil
	}
	name := w.Signature.Header
	if _, taken := w.Headers[name]; taken {
		return InputErrors{{Field: "signature.header", Detail: "headers sets this header already: choose another name, or remove it from headers"}}
	}
	if name == "Authorization" && (w.BasicAuth != nil || w.OAuth2 != nil) {
		return InputErrors{{Field: "signature.header", Detail: "basic_auth or oauth2 sets this header already: choose another name"}}
	}
	return nil
}

// signingKeys returns the key pairs that sign an attempt that starts at that time, newest first.
func (w *Webhook) signingKeys(at time.Time) []SigningKey {
	if w.Signature == nil || w.Signature.Key == "" {
		return nil
	}
	return signing(w.Signature.Key, w.Signature.PreviousKeys, at)
}

// bodySignature returns the header that signs the body of an attempt that starts at that time; nil for none. attempts are those that the
// delivery has had.
//
// Endpoints of this kind compare the whole value, most of them with one secret. A list, or a second line, would be refused with the old
// secret and with the new one. So the header always has one value, and in an overlap attempts take turns: the new secret, the one before,
// the new one again. An endpoint that has either of two secrets accepts every second attempt.
func (w *Webhook) bodySignature(at time.Time, attempts int) *send.BodySignature {
	s := w.Signature
	if s == nil || s.Header == "" {
		return nil
	}
	keys := signing(s.Secret, s.PreviousSecrets, at)
	if s.Secret == "" {
		// The text, not what it decodes to: with that key, a body could be made whose HMAC is the signature v1 of another message.
		keys = nil
		for _, secret := range w.signingSecrets(at) {
			keys = append(keys, Credential(secret))
		}
	}
	return &send.BodySignature{Header: s.Header, Prefix: s.Prefix, Encoding: s.Encoding, Key: keys[attempts%len(keys)]}
}

// SigningPublicKey is a public key with which signatures v1a of a webhook can be verified.
type SigningPublicKey struct {
	PublicKey
	// SignsUntil is when an earlier key stops signing; zero for the present one.
	SignsUntil time.Time
}

// PublicKeys returns the public keys of the key pairs that sign at that time, newest first; nil if the webhook has none.
func (w *Webhook) PublicKeys(at time.Time) []SigningPublicKey {
	if w.Signature == nil || w.Signature.Key == "" {
		return nil
	}
	keys := []SigningPublicKey{{PublicKey: w.Signature.Key.Public()}}
	for _, p := range overlapping(w.Signature.PreviousKeys, at) {
		keys = append(keys, SigningPublicKey{p.Secret.Public(), p.SignsUntil})
	}
	return keys
}

// BodySecret returns the secret with which the body is signed, as it is given to an endpoint; "" if no header is.
func (w *Webhook) BodySecret() Credential {
	if b := w.bodySignature(w.UpdatedAt, 0); b != nil {
		return b.Key
	}
	return ""
}

// EarlierSecret is a secret or key that signs on beside the one that took its place.
type EarlierSecret struct {
	Which      SecretName
	SignsUntil time.Time
}

// EarlierSecrets returns the secrets and keys that sign, at that time, beside the present ones: those of each kind newest first.
func (w *Webhook) EarlierSecrets(at time.Time) (list []EarlierSecret) {
	for _, p := range w.Overlapping(at) {
		list = append(list, EarlierSecret{SecretOfWebhook, p.SignsUntil})
	}
	if w.Signature == nil {
		return list
	}
	for _, p := range overlapping(w.Signature.PreviousSecrets, at) {
		list = append(list, EarlierSecret{SecretOfHeader, p.SignsUntil})
	}
	for _, p := range overlapping(w.Signature.PreviousKeys, at) {
		list = append(list, EarlierSecret{SecretKey, p.SignsUntil})
	}
	return list
}

// has reports whether a webhook has a secret of that name.
func (w *Webhook) hasSecret(name SecretName) bool { return slices.Contains(w.SecretNames(), name) }

// SecretNames returns the names of the secrets and keys of a webhook that can be rotated.
func (w *Webhook) SecretNames() []SecretName {
	names := []SecretName{SecretOfWebhook}
	if w.Signature != nil && w.Signature.Secret != "" {
		names = append(names, SecretOfHeader)
	}
	if w.Signature != nil && w.Signature.Key != "" {
		names = append(names, SecretKey)
	}
	return names
}
