package receiver

import (
	"io"
	"sync"
)

// SharedWriter lets several goroutines write to one place, one Write at a time.
type SharedWriter struct {
	mu sync.Mutex
	w  io.Writer // guarded by mu
}

// NewSharedWriter returns a writer that passes on to w.
func NewSharedWriter(w io.Writer) *SharedWriter { return &SharedWriter{w: w} }

// Write writes p after any Write that is under way.
func (s *SharedWriter) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(p)
}
