package postgres

import (
	"errors"
	"sync"
)

// maxNamed bounds how many damaged rows are remembered, so that each is named once.
const maxNamed = 10_000

// damageLog collects the damaged rows that calls have passed whose results have no place for them. Maintain reports them.
type damageLog struct {
	mu      sync.Mutex
	named   map[string]bool // the texts of all errors so far; guarded by mu
	pending []error         // those that are not reported yet; guarded by mu
}

// add adds the error of a damaged row.
func (l *damageLog) add(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := err.Error()
	if l.named[text] || len(l.named) == maxNamed {
		return
	}
	if l.named == nil {
		l.named = make(map[string]bool)
	}
	l.named[text] = true
	l.pending = append(l.pending, err)
}

// take returns the errors since the last call.
func (l *damageLog) take() []error {
	l.mu.Lock()
	defer l.mu.Unlock()
	errs := l.pending
	l.pending = nil
	return errs
}

// passes reports whether err is about a damaged row, and notes the row. Who walks through rows goes on behind it: damage of one row hides no other.
func (s *Store) passes(err error) bool {
	if !errors.Is(err, ErrCorrupt) {
		return false
	}
	s.damaged.add(err)
	return true
}
