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
	"hookbolt/internal/systemd"
)

// parts are the goroutines of a running server.
type parts struct {
	sync.WaitGroup
	broken chan error // gets what ended the HTTP server or the engine before ctx did; capacity 2
}

// Run serves and delivers until ctx ends, finishes what is under way within the shutdown timeout, closes everything and returns nil. It
// returns an error if it had to end for another reason. After a failed commit it returns at once: nothing more can be recorded, so all
// further work would be done again after the next start.
func (s *Server) Run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	manager := systemd.New(s.log)
	p := &parts{broken: make(chan error, 2)}
	s.start(ctx, p, manager)

	failure, err := s.wait(ctx, p)
	if err != nil {
		return err
	}
	stop(failure)
	manager.Stopping(time.Duration(s.cfg.HTTP.ShutdownTimeout))
	return s.shutDown(p, failure)
}

// start starts the HTTP server, the engine, and what tells the service manager of them.
func (s *Server) start(ctx context.Context, p *parts, manager *systemd.Manager) {
	p.Go(func() {
		if err := s.serve(); !errors.Is(err, http.ErrServerClosed) {
			p.broken <- fmt.Errorf("serve: %w", err)
		}
	})
	p.Go(func() {
		if err := s.engine.Run(ctx); err != nil {
			p.broken <- fmt.Errorf("deliver: %w", err)
		}
	})
	database := s.cfg.Storage.Path // before a reload may be at work
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

// alive is the check behind /readyz, and fails while the database's writer hangs. A full disk does not count: it would be as full after a
// new start, and the server refuses events then and goes on with its attempts.
func (s *Server) alive(ctx context.Context) error {
	if err := s.engine.Ready(ctx); !errors.Is(err, engine.ErrFull) {
		return err
	}
	return nil
}

// wait reloads settings until it is time to stop: ctx has ended, or a part has failed, which is the failure. The error is that of a commit:
// there is nothing left to wait for.
func (s *Server) wait(ctx context.Context, p *parts) (failure, err error) {
	for {
		select {
		case <-s.settings.Asked:
			s.reload()
		case <-ctx.Done():
			s.log.Info("stopping", "cause", context.Cause(ctx), "grace", s.cfg.HTTP.ShutdownTimeout)
			return nil, nil
		case failure := <-p.broken:
			return failure, nil
		case <-s.store.Failed():
			s.http.Close()
			return nil, s.store.Err()
		}
	}
}

// shutDown waits for what is under way, at most for the shutdown timeout, and closes everything. It returns the first failure.
func (s *Server) shutDown(p *parts, failure error) error {
	grace, cancel := context.WithTimeout(context.Background(), time.Duration(s.cfg.HTTP.ShutdownTimeout))
	defer cancel()
	quiet := make(chan struct{})
	go func() {
		defer close(quiet)
		if err := s.http.Shutdown(grace); err != nil {
			s.log.Warn("requests were cut off: the grace has ended")
			s.http.Close()
		}
		p.Wait()
	}()
	select {
	case <-quiet:
	case <-s.store.Failed():
		s.http.Close()
		return s.store.Err()
	}
	if failure == nil && len(p.broken) > 0 {
		failure = <-p.broken
	}
	if err := s.store.Close(); err != nil && failure == nil {
		failure = fmt.Errorf("close the database: %w", err)
	}
	if failure == nil {
		s.log.Info("stopped")
	}
	return failure
}
