package receiver

import (
	"io"
	"sync"
)

// SharedWriter lets several goroutines use one writer, one Write at a time.
type SharedWriter struct {
	mu sync.Mutex
	w  io.Writer // guarded by mu
}

// NewSharedWriter returns a SharedWriter that writes to w.
func NewSharedWriter(w io.Writer) *SharedWriter { return &SharedWriter{w: w} }

// Write writes p. It waits for other calls of Write.
func (s *SharedWriter) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(p)
}
