package httpapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/julienschmidt/httprouter"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"hookbolt/engine"
)

// readyTimeout is how long /readyz waits for the database. A server whose disk hangs is not ready.
const readyTimeout = 5 * time.Second

func (a *API) healthz(*http.Request, httprouter.Params) (any, error) {
	return rawJSON("{\"status\":\"ok\"}\n"), nil
}

func (a *API) readyz(r *http.Request, _ httprouter.Params) (any, error) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	if err := a.engine.Ready(ctx); err != nil {
		// Do not show the error itself: anybody may call this.
		detail := "the database takes no writes, or the engine is not running"
		if known, ok := errors.AsType[*engine.NotReadyError](err); ok {
			detail = known.Why
		} else if errors.Is(err, engine.ErrFull) {
			detail = err.Error()
		}
		return nil, &problem{Status: http.StatusServiceUnavailable, Detail: "not ready: " + detail, header: map[string]string{"Retry-After": "5"}}
	}
	// A trouble of this machine delays deliveries. It is no reason to send events elsewhere: they are accepted and kept.
	return readiness{Status: "ready", Troubles: a.engine.Troubles()}, nil
}

// readiness is the response of a server that is ready.
type readiness struct {
	Status string `json:"status"`
	// Troubles are those that keep attempts from being made now.
	Troubles []engine.Trouble `json:"troubles,omitempty"`
}

func (a *API) metrics(*http.Request, httprouter.Params) (any, error) { return a.scrape, nil }

// newScrape creates the handler of /metrics. If a collector fails, only its own metrics are missing.
func newScrape(reg *prometheus.Registry, log *slog.Logger) http.Handler {
	scrape := promhttp.HandlerFor(reg, promhttp.HandlerOpts{
		Registry:      reg,
		ErrorHandling: promhttp.ContinueOnError,
		ErrorLog:      slog.NewLogLogger(log.Handler(), slog.LevelError),
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { scrape.ServeHTTP(&scrapeWriter{ResponseWriter: w}, r) })
}

// scrapeWriter hides from promhttp that a scraper has hung up. promhttp would log an error for each metric that it cannot write, but only
// the scraper can cause that: it has a timeout of its own.
type scrapeWriter struct {
	http.ResponseWriter
	gone bool // a write has failed
}

func (s *scrapeWriter) Write(p []byte) (int, error) {
	if !s.gone {
		_, err := s.ResponseWriter.Write(p)
		s.gone = err != nil
	}
	return len(p), nil
}

// Unwrap is for http.ResponseController.
func (s *scrapeWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }
