package send

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Certificates and keys come as PEM (RFC 7468), from people who copy them from mails, forms and tools. So each common mistake has a message of
// its own, which says what to do. No message quotes what was given: it may be a key.

// MaxPEMBytes is how long a PEM text of a setting may be.
const MaxPEMBytes = 64 << 10

// blocks returns the blocks of a PEM text, and what is wrong with it. want is the type of block that is looked for.
func blocks(text, want string) ([]*pem.Block, error) {
	data := bytes.TrimPrefix([]byte(text), []byte("\ufeff")) // as some editors write it; package pem would skip the first block
	var found []*pem.Block
	for rest := data; ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		found = append(found, b)
	}
	begins := bytes.Count(data, []byte("-----BEGIN "))
	switch {
	case len(found) == begins && begins > 0:
		return found, nil
	case begins > 0 && !bytes.ContainsAny(bytes.TrimSpace(data), "\n") && bytes.Contains(data, []byte(`\n`)):
		return nil, errors.New(`has the two characters \n in place of each line break`)
	case begins > 0 && !bytes.ContainsAny(bytes.TrimSpace(data), "\n"):
		return nil, errors.New("stands on one line: PEM needs its line breaks")
	case begins > bytes.Count(data, []byte("-----END ")):
		return nil, fmt.Errorf("has no line -----END %s-----: its end is missing", want)
	case begins > 0:
		return nil, errors.New("is damaged: what stands between -----BEGIN and -----END is not base64, or the two lines do not fit")
	case bytes.ContainsRune(data, 0) && bytes.Contains(bytes.ReplaceAll(data, []byte{0}, nil), []byte("-----BEGIN ")):
		return nil, errors.New("is PEM in UTF-16: save it as ASCII or UTF-8")
	case len(data) > 0 && data[0] == 0x30 && bytes.ContainsFunc(data, func(r rune) bool { return r < ' ' && r != '\n' && r != '\r' || r == '\ufffd' }):
		return nil, errors.New("is binary, DER or PKCS #12, and must be PEM text: convert it with openssl x509 -inform der, openssl pkey -inform der, or openssl pkcs12 -nodes")
	}
	return nil, fmt.Errorf("must be PEM text with the lines -----BEGIN %s----- and -----END %[1]s-----", want)
}

// isKey reports whether a block is a private key.
func isKey(b *pem.Block) bool { return strings.HasSuffix(b.Type, "PRIVATE KEY") }

// parseCertificates reads one certificate or several.
func parseCertificates(text string) ([]*x509.Certificate, error) {
	found, err := blocks(text, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	var list []*x509.Certificate
	for _, b := range found {
		switch {
		case b.Type == "CERTIFICATE":
			c, err := x509.ParseCertificate(b.Bytes)
			if err != nil {
				return nil, fmt.Errorf("certificate %d cannot be read: %w", len(list)+1, err)
			}
			list = append(list, c)
		case isKey(b) || b.Type == "EC PARAMETERS": // a file may have both
		case b.Type == "TRUSTED CERTIFICATE":
			return nil, errors.New("is a TRUSTED CERTIFICATE of OpenSSL: convert it with openssl x509 -in FILE")
		default:
			return nil, fmt.Errorf("has a %s in it, which is no certificate", shortText(b.Type))
		}
	}
	if len(list) == 0 {
		return nil, errors.New("is a private key and no certificate: are the two swapped?")
	}
	return list, nil
}

// hasKey reports whether a PEM text has a private key in it.
func hasKey(text string) bool {
	found, _ := blocks(text, "")
	return slices.ContainsFunc(found, isKey)
}

// parseKey reads a private key.
func parseKey(text string) (crypto.Signer, error) {
	found, err := blocks(text, "PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	var key any
	for _, b := range found {
		switch {
		case key != nil && isKey(b):
			return nil, errors.New("has several private keys: give the one of the certificate")
		case b.Type == "ENCRYPTED PRIVATE KEY", b.Headers["DEK-Info"] != "":
			return nil, errors.New("is encrypted with a passphrase, which hookbolt does not have: decrypt it with openssl pkey -in FILE -out NEW")
		case b.Type == "OPENSSH PRIVATE KEY":
			return nil, errors.New("is a key of OpenSSH: convert a copy of it with ssh-keygen -p -m PKCS8 -f COPY")
		case b.Type == "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(b.Bytes)
		case b.Type == "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(b.Bytes)
		case b.Type == "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(b.Bytes)
		case b.Type == "CERTIFICATE", b.Type == "EC PARAMETERS": // a file may have both
		default:
			return nil, fmt.Errorf("has a %s in it, which is no private key", shortText(b.Type))
		}
		if err != nil {
			return nil, fmt.Errorf("cannot be read as a %s: it is damaged, or of an unknown kind", b.Type) // err could tell of the key
		}
	}
	if key == nil {
		return nil, errors.New("is a certificate and no private key: are the two swapped?")
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("is not a key that signs: RSA, ECDSA or Ed25519")
	}
	return signer, nil
}

// allExpired returns when the last of some certificates expired; zero if one of them has not, or there are none.
func allExpired(list []*x509.Certificate, now time.Time) (last time.Time) {
	for _, c := range list {
		if now.Before(c.NotAfter) {
			return time.Time{}
		}
		if c.NotAfter.After(last) {
			last = c.NotAfter
		}
	}
	return last
}

// fits reports whether a private key is that of a certificate.
func fits(key crypto.Signer, c *x509.Certificate) bool {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(c.PublicKey)
}
