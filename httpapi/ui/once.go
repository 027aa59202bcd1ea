package ui

import (
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
)

// onceAnswers are the answers to forms that were posted lately. A form that is posted twice, by a double click or by reloading the page, must
// have its effect once. Each form that makes something has an input "once" with a random key, and the answer to it is kept for a while. The key
// counts together with the values: a form that somebody has gone back to and changed is another one.
//
// Answers are kept in memory: after a restart a form has its effect again.
type onceAnswers struct {
	mu   sync.Mutex
	kept []*onceAnswer // guarded by mu; the oldest first
}

// onceAnswer is the answer to one form.
type onceAnswer struct {
	key    [sha256.Size]byte
	postAt time.Time
	mu     sync.Mutex // held while the form is handled
	answer *Answer    // guarded by mu; nil until the form has had its effect
}

const (
	// maxOnceAge is how long an answer is kept at most. It is longer than browsers and proxies repeat a request for.
	maxOnceAge = 10 * time.Minute
	// maxOnceAnswers bounds how many answers are kept.
	maxOnceAnswers = 200
)

// newOnce returns the value of the input "once" of a new form.
func newOnce() string { return rand.Text() }

// once handles a form, unless the same one has been handled already: then it returns that answer. A form without the input is always
// handled, and so is one whose answer was no redirect, because it had no effect.
func (o *onceAnswers) once(r *http.Request, values url.Values, handle func() (*Answer, error)) (*Answer, error) {
	if values.Get("once") == "" {
		return handle()
	}
	known := o.of(sha256.Sum256([]byte(r.URL.Path + "?" + values.Encode())))
	known.mu.Lock()
	defer known.mu.Unlock()
	if known.answer != nil {
		return known.answer, nil
	}
	answer, err := handle()
	if err == nil && answer.Location != "" {
		known.answer = answer
	}
	return answer, err
}

// of returns the entry of a key.
func (o *onceAnswers) of(key [sha256.Size]byte) *onceAnswer {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	o.kept = slices.DeleteFunc(o.kept, func(a *onceAnswer) bool { return now.Sub(a.postAt) > maxOnceAge })
	if i := slices.IndexFunc(o.kept, func(a *onceAnswer) bool { return a.key == key }); i >= 0 {
		return o.kept[i]
	}
	if len(o.kept) == maxOnceAnswers {
		o.kept = slices.Delete(o.kept, 0, 1)
	}
	added := &onceAnswer{key: key, postAt: now}
	o.kept = append(o.kept, added)
	return added
}
