package httpapi

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"net/http"
	"strings"

	"hookbolt/engine"
	"hookbolt/httpapi/audit"
)

// maxIdempotencyKey is how many bytes an Idempotency-Key may have.
const maxIdempotencyKey = 255

var (
	errMalformedKey = &problem{Status: http.StatusBadRequest, Detail: "Idempotency-Key must be one text of 1 to 255 printable ASCII characters, in double quotes or without them, " +
		"such as a new UUID for each request"}
	errKeyInUse = &problem{Status: http.StatusConflict, Detail: "the first request with this Idempotency-Key is still being carried out: send it again in a moment, with the same key",
		header: map[string]string{"Retry-After": "1"}}
	errKeyReused = &problem{Status: http.StatusUnprocessableEntity, Detail: "this Idempotency-Key belongs to another request, with another path or body, which was carried out in the last 24 hours: " +
		"send a new key with each new request, and the same bytes with the same key"}
	errResultGone = &problem{Status: http.StatusGone, Detail: "the request with this Idempotency-Key was carried out, and what it has made was deleted since. To make it once more, send a new key",
		header: map[string]string{replayedHeader: "true"}}
)

// replayedHeader tells that a response is to a request that was carried out before.
const replayedHeader = "Idempotency-Replayed"

// idempotencyKey reads the Idempotency-Key of a request, "" if it has none. The draft of the header (draft-ietf-httpapi-idempotency-key-header)
// has a string in quotes (RFC 9651, section 3.3.3); most clients send the bare text. Both are the same key.
func idempotencyKey(r *http.Request) (string, error) {
	lines := r.Header.Values("Idempotency-Key")
	if len(lines) == 0 {
		return "", nil
	}
	key := strings.Trim(lines[0], " \t")
	if quoted, ok := strings.CutPrefix(key, `"`); ok {
		if key, ok = unquoteKey(quoted); !ok {
			return "", errMalformedKey
		}
	}
	if len(lines) > 1 || key == "" || len(key) > maxIdempotencyKey || strings.ContainsFunc(key, func(c rune) bool { return c < ' ' || c > '~' }) {
		return "", errMalformedKey
	}
	return key, nil
}

// unquoteKey returns the text of a string behind its opening quote. It must end with the closing one.
func unquoteKey(s string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), i == len(s)-1
		case '\\':
			if i++; i == len(s) || s[i] != '"' && s[i] != '\\' {
				return "", false
			}
		}
		b.WriteByte(s[i])
	}
	return "", false
}

// newOnce returns what identifies a request with a key. Keys of different tokens are different keys.
func newOnce(r *http.Request, key string, body []byte) *engine.Once {
	o := &engine.Once{Key: hashOf([]byte(bearerToken(r)), []byte(key))}
	request := hashOf([]byte(r.Method), []byte(r.URL.Path), body)
	o.Request = request[:]
	return o
}

// hashOf returns a hash of several texts, and of where each of them ends.
func hashOf(texts ...[]byte) [sha256.Size]byte {
	var all []byte
	for _, text := range texts {
		all = binary.BigEndian.AppendUint64(all, uint64(len(text)))
		all = append(all, text...)
	}
	return sha256.Sum256(all)
}

// onceCall is a call that has its effect once for each Idempotency-Key.
type onceCall struct {
	// body is the part of the request's body that it reads.
	body []byte
	// do carries out the request, and again responds to a repeated one. o is nil for a request without a key.
	do    func(o *engine.Once) (any, error)
	again func(done *engine.Done) (any, error)
}

// once carries out a call. A repeated one gets a response that is made anew from what the first one has done, so it shows the webhook or the
// delivery as it is now, and no secret is stored once more for it. A call that failed had no effect: it is carried out again.
func (a *API) once(r *http.Request, c onceCall) (any, error) {
	key, err := idempotencyKey(r)
	if err != nil {
		return nil, err
	}
	if key == "" {
		return c.do(nil)
	}
	o := newOnce(r, key, c.body)
	done, end, err := a.engine.BeginOnce(r.Context(), o)
	switch {
	case errors.Is(err, engine.ErrKeyReused):
		return nil, errKeyReused
	case errors.Is(err, engine.ErrConflict):
		return nil, errKeyInUse
	case err != nil:
		return nil, err
	}
	defer end()
	if done == nil {
		value, err := c.do(o)
		if errors.Is(err, engine.ErrRepeated) { // in another process, which shares the database
			err = errKeyInUse
		}
		return value, err
	}
	audit.Repeat(r.Context())
	value, err := c.again(done)
	if errors.Is(err, engine.ErrNotFound) {
		return nil, errResultGone
	}
	if err != nil {
		return nil, err
	}
	shown, ok := value.(reply)
	if !ok {
		shown = reply{value, make(map[string]string)}
	}
	shown.header[replayedHeader] = "true"
	return shown, nil
}
