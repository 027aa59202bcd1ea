package server

import (
	"net/http"
	"sync/atomic"
	"time"

	"hookbolt/storage"
)

// One of several processes that stops says so before it takes no more requests: /readyz answers 503 from the first moment on, and the port stays open for
// http.shutdown_delay. A balancer needs that time to notice, since it asks only now and then.

// drainingHandler has clients give their connections up once it drains. A connection that the server closes while it is idle may have the next request on its
// way already, which would be lost.
type drainingHandler struct {
	http.Handler
	draining atomic.Bool
}

func (h *drainingHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.draining.Load() {
		w.Header().Set("Connection", "close") // with HTTP/2, the server sends a GOAWAY instead
	}
	h.Handler.ServeHTTP(w, r)
}

// drainTime is for how long requests are still taken in: not at all where nobody else could take them.
func (s *Server) drainTime() time.Duration {
	if store, ok := s.store.(storage.Server); ok && store.HasOthers() {
		return time.Duration(s.cfg.HTTP.ShutdownDelay)
	}
	return 0
}

// drain takes requests in for some time, while /readyz says that they should go elsewhere. It returns early if nothing can be stored any more.
func (s *Server) drain(d time.Duration) {
	if d <= 0 {
		return
	}
	s.handler.draining.Store(true)
	s.log.Info("requests are taken in for a while, until balancers have noticed", "for", d)
	select {
	case <-time.After(d):
	case <-s.store.Failed():
	}
}
