package ui

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/url"
	"time"

	"hookbolt/engine"
	"hookbolt/httpapi/audit"
)

// A form that is posted twice, by a double click or by reloading the page, must have its effect once. Each form that makes something has an input
// "once" with a random key. The key counts together with the values: a form that somebody has gone back to and changed is another one. The store
// keeps what a form has done together with its effect, as it does for a request with an Idempotency-Key: the second post may go to another process.

// onceRetry is how often a form that is being handled already is looked for again.
const onceRetry = 50 * time.Millisecond

// newOnce returns the value of the input "once" of a new form.
func newOnce() string { return rand.Text() }

// onceForm is a form that has its effect once.
type onceForm struct {
	// do handles the form. o is nil for a form without a key. An answer that is no redirect says that the form had no effect.
	do func(o *engine.Once) (*Answer, error)
	// again is the answer to a form that was handled already.
	again func(done *engine.Done) *Answer
}

// once handles a form, unless the same one has been handled already. It waits for one that is being handled, because a browser shows the answer to
// the second click only.
func (p *Pages) once(r *http.Request, values url.Values, f onceForm) (*Answer, error) {
	if values.Get("once") == "" {
		return f.do(nil)
	}
	key := sha256.Sum256([]byte("form " + r.URL.Path + "?" + values.Encode()))
	for {
		o := &engine.Once{Key: key, Request: key[:]}
		done, end, err := p.engine.BeginOnce(r.Context(), o)
		switch {
		case err == nil && done == nil:
			answer, err := f.do(o)
			end()
			if !errors.Is(err, engine.ErrRepeated) {
				return answer, err
			} // else another process has handled it meanwhile
		case err == nil:
			end()
			audit.Repeat(r.Context())
			return f.again(done), nil
		case !errors.Is(err, engine.ErrConflict): // which means that this process is handling it
			return nil, err
		}
		select {
		case <-r.Context().Done():
			return nil, r.Context().Err()
		case <-time.After(onceRetry):
		}
	}
}
