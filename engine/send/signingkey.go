package send

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

// SigningKey is an Ed25519 key pair that signs messages as "v1a" of Standard Webhooks: "whsk_" and the base64 of 64 bytes, which are the
// seed of RFC 8032 and the public key. The specification does not say which bytes these are; the form is that of Svix, libsodium and
// crypto/ed25519.
type SigningKey string

// PublicKey is the part of a SigningKey with which endpoints verify signatures: "whpk_" and the base64 of its 32 bytes. It is no secret.
type PublicKey string

const (
	signingKeyPrefix = "whsk_"
	publicKeyPrefix  = "whpk_"
)

// NewSigningKey returns a random key pair.
func NewSigningKey() SigningKey {
	seed := make([]byte, ed25519.SeedSize)
	rand.Read(seed) // never fails (crypto/rand)
	return signingKeyOf(seed)
}

// signingKeyOf returns the key pair of a seed.
func signingKeyOf(seed []byte) SigningKey {
	return SigningKey(signingKeyPrefix + base64.StdEncoding.EncodeToString(ed25519.NewKeyFromSeed(seed)))
}

// ParseSigningKey reads a key pair: whsk_ and the base64 of the 64 bytes of a SigningKey, or of the 32 of its seed alone, as some libraries
// write it. The error never repeats the key.
func ParseSigningKey(text string) (SigningKey, error) {
	const stem = "must be " + signingKeyPrefix + " followed by the base64 of 64 bytes (the seed and the public key) or 32 (the seed)"
	key, trouble := decodeKey(text, signingKeyPrefix, func(n int) string {
		if n == ed25519.SeedSize || n == ed25519.PrivateKeySize {
			return ""
		}
		return fmt.Sprintf("it has %d bytes", n)
	})
	if wrong := otherKind(text, signingKeyPrefix); wrong != "" {
		trouble = wrong
	}
	if trouble != "" {
		return "", errors.New(stem + ": " + trouble)
	}
	made := signingKeyOf(key[:ed25519.SeedSize])
	// With another public key than its own, Ed25519 gives signatures that nobody can verify, and that reveal the key.
	if len(key) == ed25519.PrivateKeySize && !bytes.Equal(made.private(), key) {
		return "", errors.New(stem + ": its last 32 bytes are not the public key of the first 32")
	}
	return made, nil
}

// private returns the key in the form of crypto/ed25519; nil if k is none.
func (k SigningKey) private() ed25519.PrivateKey {
	encoded, ok := strings.CutPrefix(string(k), signingKeyPrefix)
	key, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || len(key) != ed25519.PrivateKeySize {
		return nil
	}
	return key
}

// Public returns the public key.
func (k SigningKey) Public() PublicKey {
	private := k.private()
	if private == nil {
		return ""
	}
	return PublicKey(publicKeyPrefix + base64.StdEncoding.EncodeToString(private[ed25519.SeedSize:]))
}

// String keeps the key out of text, LogValue out of logs.
func (k SigningKey) String() string { return signingKeyPrefix + hidden }

// LogValue is what a log shows.
func (k SigningKey) LogValue() slog.Value { return slog.StringValue(k.String()) }

// Key returns the bytes of the key. The error says what a public key must look like.
func (p PublicKey) Key() (ed25519.PublicKey, error) {
	key, trouble := decodeKey(string(p), publicKeyPrefix, func(n int) string {
		if n == ed25519.PublicKeySize {
			return ""
		}
		return fmt.Sprintf("it has %d bytes", n)
	})
	if wrong := otherKind(string(p), publicKeyPrefix); wrong != "" {
		trouble = wrong
	}
	if trouble != "" {
		return nil, fmt.Errorf("must be %s followed by the base64 of 32 bytes: %s", publicKeyPrefix, trouble)
	}
	return key, nil
}

// PEM returns the key as a SubjectPublicKeyInfo (RFC 8410) in PEM.
func (p PublicKey) PEM() (string, error) {
	key, err := p.Key()
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), nil
}

// otherKind says what a text is that was meant as the kind of key that begins with prefix, and is of another one; "" if it is of no other
// kind.
func otherKind(text, prefix string) string {
	for _, kind := range []struct{ begins, says string }{
		{secretPrefix, "this is a secret (" + secretPrefix + ") of signatures v1, which is no key pair"},
		{signingKeyPrefix, "this is the secret key (" + signingKeyPrefix + ") of a key pair, which makes signatures v1a"},
		{publicKeyPrefix, "this is a public key (" + publicKeyPrefix + "), with which signatures v1a are verified"},
		{"-----BEGIN", "this is a PEM"},
		{"v1,", "remove v1 and its comma in front of it, which belong to signatures"},
	} {
		if kind.begins != prefix && strings.HasPrefix(text, kind.begins) {
			return kind.says
		}
	}
	return ""
}

// decodeKey decodes what follows the prefix. trouble says what is wrong, and repeats nothing of the text; "" if nothing is. size says what is
// wrong with a number of bytes.
func decodeKey(text, prefix string, size func(n int) string) (key []byte, trouble string) {
	encoded, hasPrefix := strings.CutPrefix(text, prefix)
	padded := encoded + strings.Repeat("=", (4-len(encoded)%4)%4)
	standard := strings.NewReplacer("-", "+", "_", "/").Replace(padded)
	key, err := base64.StdEncoding.DecodeString(standard)
	switch {
	case text == "":
		return nil, "it is empty"
	case isPlaceholder(encoded):
		return nil, "this is a placeholder; put the secret in its place"
	case strings.ContainsFunc(text, func(r rune) bool { return r == ' ' || invisible(r) != "" }):
		return nil, "remove the spaces, line breaks and other characters that cannot be seen"
	case !hasPrefix:
		return nil, prefix + " in front of it is missing"
	case err != nil:
		return nil, "what follows " + prefix + " is no base64, which is letters, digits, + and /, with = at the end"
	case size(len(key)) != "":
		return nil, size(len(key))
	case strings.ContainsAny(encoded, "-_"):
		return nil, "this is the base64 of URLs; write + for each - and / for each _"
	case padded != encoded:
		return nil, fmt.Sprintf("its padding is missing; write %s at its end", padded[len(encoded):])
	// DecodeString ignores line ends, and bits that belong to no byte. Many libraries that endpoints use do not, so only the one form
	// that all of them read is valid.
	case base64.StdEncoding.EncodeToString(key) != encoded:
		return nil, "its last character has bits that belong to no byte; copy it again, or encode it again"
	}
	return key, ""
}
