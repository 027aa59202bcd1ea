package httpapi

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/julienschmidt/httprouter"

	"hookbolt/engine"
)

// publicKeys are the keys with which signatures v1a of a webhook can be verified, newest first. It is a JWK Set (RFC 7517, section 5).
type publicKeys struct {
	Keys []publicKey `json:"keys"`
}

// publicKey is an Ed25519 public key: as a JWK (RFC 8037), in the form of Standard Webhooks, and as PEM. Readers of a JWK ignore members that
// they do not know.
type publicKey struct {
	KeyType   string  `json:"kty"`
	Curve     string  `json:"crv"`
	X         string  `json:"x"`
	KeyID     string  `json:"kid"` // its thumbprint (RFC 7638)
	Use       string  `json:"use"`
	Algorithm string  `json:"alg"`
	PublicKey string  `json:"public_key"`
	PEM       string  `json:"pem"`
	Until     instant `json:"signs_until"`
}

func showPublicKey(k *engine.SigningPublicKey) (publicKey, error) {
	raw, err := k.Key()
	if err != nil {
		return publicKey{}, err
	}
	pem, err := k.PEM()
	if err != nil {
		return publicKey{}, err
	}
	x := base64.RawURLEncoding.EncodeToString(raw)
	thumbprint := sha256.Sum256(fmt.Appendf(nil, `{"crv":"Ed25519","kty":"OKP","x":"%s"}`, x))
	return publicKey{
		KeyType: "OKP", Curve: "Ed25519", X: x, KeyID: base64.RawURLEncoding.EncodeToString(thumbprint[:]), Use: "sig", Algorithm: "EdDSA",
		PublicKey: string(k.PublicKey), PEM: pem, Until: instant(k.SignsUntil),
	}, nil
}

// The forms of the public keys, and the type of the one that is no JSON.
const (
	formJSON, formPEM = "json", "pem"
	typePEM           = "application/x-pem-file"
)

// getPublicKeys shows the public keys that sign at the moment: as JSON, or, with format=pem or the header Accept, as PEM blocks.
func (a *API) getPublicKeys(r *http.Request, ps httprouter.Params) (any, error) {
	id, err := webhookID(ps)
	if err != nil {
		return nil, err
	}
	q := queryOf(r)
	form := q.values.Get("format")
	if !slices.Contains([]string{"", formJSON, formPEM}, form) {
		q.refuse("format", "must be %s or %s (got %q)", formJSON, formPEM, engine.Excerpt(form))
	}
	if err := q.err(); err != nil {
		return nil, err
	}
	w, err := a.engine.Webhook(id)
	if err != nil {
		return nil, err
	}
	shown, blocks := publicKeys{Keys: []publicKey{}}, ""
	for _, k := range w.PublicKeys(time.Now()) {
		key, err := showPublicKey(&k)
		if err != nil {
			return nil, err
		}
		shown.Keys = append(shown.Keys, key)
		blocks += key.PEM
	}
	if len(shown.Keys) == 0 {
		return nil, &problem{Status: http.StatusNotFound, Detail: fmt.Sprintf("webhook %d has no key pair: set signature to {\"v1a\": true}", id)}
	}
	if form == formPEM || form == "" && strings.Contains(r.Header.Get("Accept"), typePEM) {
		return document(typePEM, []byte(blocks))(r, ps)
	}
	return shown, nil
}
