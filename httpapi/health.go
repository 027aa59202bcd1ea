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

// readyTimeout is how long /readyz waits for the database: a disk that hangs is not ready.
const readyTimeout = 5 * time.Second

func (a *API) healthz(*http.Request, httprouter.Params) (any, error) {
	return rawJSON("{\"status\":\"ok\"}\n"), nil
}

func (a *API) readyz(r *http.Request, _ httprouter.Params) (any, error) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	if err := a.engine.Ready(ctx); err != nil {
		// Not the error itself: anybody may ask.
		detail := "the database takes no writes, or the engine is not running"
		if errors.Is(err, engine.ErrFull) {
			detail = err.Error()
		}
		return nil, &problem{Status: http.StatusServiceUnavailable, Detail: "not ready: " + detail, header: map[string]string{"Retry-After": "5"}}
	}
	return rawJSON("{\"status\":\"ready\"}\n"), nil
}

func (a *API) metrics(*http.Request, httprouter.Params) (any, error) { return a.scrape, nil }

// newScrape makes the handler of /metrics. A collector that fails takes only its own metrics with it.
func newScrape(reg *prometheus.Registry, log *slog.Logger) http.Handler {
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{
		Registry:      reg,
		ErrorHandling: promhttp.ContinueOnError,
		ErrorLog:      slog.NewLogLogger(log.Handler(), slog.LevelError),
	})
}
