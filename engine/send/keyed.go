package send

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"sync"
)

// maxKeyed bounds keyedMACs, and with it what deleted webhooks leave: some 0.6 KB each. There is a secret for each webhook, and two while it is rotated. Where more of
// them send at a time, keys are read again, as if nothing was kept.
const maxKeyed = 256

// keyedMACs has an HMAC for each secret that signs, keyed and with nothing written. Reading a key and hashing it costs more than a short message.
type keyedMACs struct {
	mu       sync.RWMutex
	bySecret map[Secret]hash.Cloner // guarded by mu
}

// keyed serves all attempts of the process.
var keyed = keyedMACs{bySecret: make(map[Secret]hash.Cloner)}

// of returns a new HMAC with the key of a secret. The error is that of Secret.Key.
func (k *keyedMACs) of(s Secret) (hash.Hash, error) {
	k.mu.RLock()
	m := k.bySecret[s]
	k.mu.RUnlock()
	if m == nil {
		key, err := s.Key()
		if err != nil {
			return nil, err
		}
		h := hmac.New(sha256.New, key)
		h.Reset() // prepares the second half of the key as well
		m = h.(hash.Cloner)
		k.mu.Lock()
		if len(k.bySecret) >= maxKeyed { // most are of webhooks that are gone, or the next attempts bring them back
			clear(k.bySecret)
		}
		k.bySecret[s] = m
		k.mu.Unlock()
	}
	return m.Clone()
}

// signV1 returns the signature v1 of a message, without its version.
func signV1(s Secret, id, timestamp string, body []byte) (string, error) {
	m, err := keyed.of(s)
	if err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(sum(m, id, timestamp, body)), nil
}
