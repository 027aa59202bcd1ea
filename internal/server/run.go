package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"hookbolt/engine"
	"hookbolt/internal/buildinfo"
	"hookbolt/internal/config"
	"hookbolt/internal/systemd"
)

// parts are the goroutines of a running server.
type parts struct {
	sync.WaitGroup
	failed chan error // the error that ended the HTTP server or the engine before ctx ended; capacity 2
}

// Run serves and delivers until ctx ends. Then it drains, if there are others, finishes requests and attempts in flight within the shutdown timeout, closes everything
// and returns nil. It returns an error if it ended for another reason. After a failed commit it returns at once: nothing more can be
// recorded, so all further work would be repeated after the next start.
func (s *Server) Run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	manager := systemd.New(s.log)
	p := &parts{failed: make(chan error, 2)}
	s.start(ctx, p, manager)

	failure, err := s.wait(ctx, p)
	if err != nil {
		return err
	}
	stop(failure)
	delay := time.Duration(0)
	if failure == nil {
		delay = s.drainTime()
	}
	manager.Stopping(delay + time.Duration(s.cfg.HTTP.ShutdownTimeout))
	s.drain(delay)
	return s.shutDown(p, failure)
}

// start starts the HTTP server, the engine, and the notifications of the service manager.
func (s *Server) start(ctx context.Context, p *parts, manager *systemd.Manager) {
	p.Go(func() {
		if err := s.serve(); !errors.Is(err, http.ErrServerClosed) {
			p.failed <- fmt.Errorf("serve: %w", err)
		}
	})
	p.Go(func() {
		if err := s.engine.Run(ctx); err != nil {
			p.failed <- fmt.Errorf("deliver: %w", err)
		}
	})
	p.Go(func() { keepMemory(ctx) })
	database := s.cfg.Storage.Path // read before a reload can change s.cfg
	if s.cfg.Storage.Driver == config.DriverPostgres {
		database = "PostgreSQL, schema " + s.cfg.Storage.PostgresSchema
	}
	p.Go(func() {
		select {
		case <-s.engine.Started():
			s.log.Info("ready", "url", s.URL(), "database", database, "version", buildinfo.Read().Version)
			manager.Ready(s.URL())
			manager.Watch(ctx, s.alive)
		case <-ctx.Done():
		}
	})
}

// alive is the check of the watchdog. It is that of /readyz, which fails while the database's writer hangs, but it accepts a full disk, and a
// PostgreSQL server that is away: a restart would help neither.
func (s *Server) alive(ctx context.Context) error {
	if err := s.engine.Ready(ctx); !errors.Is(err, engine.ErrFull) && !errors.Is(err, engine.ErrTransient) {
		return err
	}
	return nil
}

// wait reloads settings until the server must stop: ctx has ended, or a part has failed, with the error failure. err is that of a failed
// commit; then Run must return at once.
func (s *Server) wait(ctx context.Context, p *parts) (failure, err error) {
	for {
		select {
		case <-s.settings.Signal:
			s.reload()
		case <-ctx.Done():
			s.log.Info("stopping", "cause", context.Cause(ctx), "grace", s.cfg.HTTP.ShutdownTimeout)
			return nil, nil
		case failure := <-p.failed:
			return failure, nil
		case <-s.store.Failed():
			s.http.Close()
			return nil, s.store.Err()
		}
	}
}

// shutDown waits for requests and attempts in flight, at most for the shutdown timeout, and closes everything. It returns the first failure.
func (s *Server) shutDown(p *parts, failure error) error {
	grace, cancel := context.WithTimeout(context.Background(), time.Duration(s.cfg.HTTP.ShutdownTimeout))
	defer cancel()
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		if err := s.http.Shutdown(grace); err != nil {
			s.log.Warn("requests were cut off: the shutdown timeout has passed")
			s.http.Close()
		}
		p.Wait()
	}()
	select {
	case <-finished:
	case <-s.store.Failed():
		s.http.Close()
		return s.store.Err()
	}
	if failure == nil && len(p.failed) > 0 {
		failure = <-p.failed
	}
	if err := s.store.Close(); err != nil && failure == nil {
		failure = fmt.Errorf("close the database: %w", err)
	}
	if failure == nil {
		s.log.Info("stopped")
	}
	return failure
}
