package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"hookbolt/engine"
	"hookbolt/httpapi"
	"hookbolt/storage/bolt"
)

// gcPercent is how much the heap grows between two collections. What lives is a few MB, however much is queued, so collecting at Go's 100
// would be frequent for little memory; at 400, large requests of strangers would cost more of it than they are worth.
const gcPercent = 150

// tune sets what Go's runtime goes by, unless the environment does (GOGC, GOMAXPROCS).
var tune = sync.OnceFunc(func() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	// The writer gives its place up with each wait for the disk, and would have to wait for another one under load.
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	}
})

// serve runs the server until ctx ends.
func serve(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("serve", flag.ContinueOnError)
	path, allow := settingsFlags(fs)
	profiles := fs.String("pprof", "", "serve Go's profiles on `ADDRESS`, such as 127.0.0.1:6060; of loopback only")
	if err := parseFlags(fs, args, stdout, "Runs the server until SIGTERM or SIGINT. Settings come from the file, and from the environment:\n"+
		"HOOKBOLT_HTTP_LISTEN is http.listen. SIGHUP has the file read again."); err != nil {
		return err
	}
	settings := &loader{path: *path, environ: os.Environ(), allow: *allow}
	cfg, _, err := settings.load()
	if err != nil {
		return err
	}
	var hangups chan os.Signal
	if settings.rereadable(&cfg) { // else a closed terminal ends it, as it ends others
		hangups = make(chan os.Signal, 1)
		signal.Notify(hangups, syscall.SIGHUP)
		defer signal.Stop(hangups)
	}
	tune()
	log, level := cfg.Log.logger(stderr)
	if *profiles != "" {
		url, stop, err := startPprof(*profiles)
		if err != nil {
			return err
		}
		defer stop()
		log.Info("profiles", "url", url)
	}
	a, err := newApp(cfg, log)
	if err != nil {
		return err
	}
	a.reloader = reloader{settings.load, level, hangups}
	if err := a.run(ctx); err != nil {
		log.Error("hookbolt has stopped", "error", err)
		return errTold
	}
	return nil
}

// app is the whole server. serve runs one, and so do demo and the tests, on a port of their own.
type app struct {
	cfg   Config
	log   *slog.Logger
	store interface { // a *bolt.Store
		Failed() <-chan struct{}
		Err() error
		Close() error
		SetLimits(minFree, maxBytes int64)
	}
	engine      *engine.Engine
	api         *httpapi.API
	server      *http.Server
	listener    net.Listener
	certificate *certificate // nil for plain HTTP
	reloader    reloader     // set before run; zero where nothing is read again
}

// newApp opens the database and the port and puts the parts together. Nothing is served or delivered before run, which must
// follow: it is what closes both again.
func newApp(cfg Config, log *slog.Logger) (*app, error) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	v := readVersion()
	registerBuildInfo(reg, v)

	var cert *certificate
	if cfg.HTTP.TLSCertFile != "" {
		var err error
		if cert, err = readCertificate(&cfg.HTTP, log); err != nil {
			return nil, err
		}
	}
	store, err := bolt.Open(cfg.Storage.Path, bolt.Options{Inspect: inspectApart(log),
		MinFree: int64(cfg.Storage.MinFree), MaxBytes: int64(cfg.Storage.MaxBytes), ObserveCommit: observeCommits(reg)})
	if err != nil {
		return nil, err
	}
	// The port comes second: a start may take its time to read a large database, and who connects then should hear "refused"
	// rather than nothing.
	listener, err := net.Listen("tcp", cfg.HTTP.Listen)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("http.listen: %w", err), store.Close())
	}
	e := engine.New(store, cfg.engine(v.Version), reg, log)
	if err := e.EnsureOperations(context.Background()); err != nil {
		return nil, errors.Join(fmt.Errorf("delivery.operations_url: %w", err), listener.Close(), store.Close())
	}
	api := httpapi.New(e, cfg.api(func(ctx context.Context) (httpapi.Snapshot, error) { return store.Backup(ctx) }), reg, log)
	server := httpapi.NewServer(api, log)
	if cert != nil {
		server.TLSConfig = cert.config()
	}
	return &app{cfg: cfg, log: log, store: store, engine: e, api: api, server: server, listener: listener, certificate: cert}, nil
}

// url is where the server can be reached.
func (a *app) url() string {
	scheme := "http://"
	if a.certificate != nil {
		scheme = "https://"
	}
	return scheme + a.listener.Addr().String()
}

func (a *app) serve() error {
	if a.certificate != nil {
		return a.server.ServeTLS(a.listener, "", "") // its configuration has the certificate
	}
	return a.server.Serve(a.listener)
}

// run serves and delivers until ctx ends, finishes what is under way within the shutdown timeout, closes everything and
// returns nil. It returns an error if it had to end for another reason. After a failed commit it returns at once: nothing
// more can be recorded, so every moment of going on would be for work that is done again after the next start.
func (a *app) run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	manager := newSupervisor(a.log)
	broken := make(chan error, 2) // gets what ended one of the two parts before ctx did
	var parts sync.WaitGroup
	parts.Go(func() {
		if err := a.serve(); !errors.Is(err, http.ErrServerClosed) {
			broken <- fmt.Errorf("serve: %w", err)
		}
	})
	parts.Go(func() {
		if err := a.engine.Run(ctx); err != nil {
			broken <- fmt.Errorf("deliver: %w", err)
		}
	})
	database := a.cfg.Storage.Path // before a reload may be at work
	parts.Go(func() {
		select {
		case <-a.engine.Started():
			a.log.Info("ready", "url", a.url(), "database", database, "version", readVersion().Version)
			manager.ready(a.url())
			manager.watch(ctx, a.engine.Ready)
		case <-ctx.Done():
		}
	})

	var failure error
	for running := true; running; {
		select {
		case <-a.reloader.asked:
			a.reload()
			continue
		case <-ctx.Done():
			a.log.Info("stopping", "cause", context.Cause(ctx), "grace", a.cfg.HTTP.ShutdownTimeout)
		case failure = <-broken:
			stop(failure)
		case <-a.store.Failed():
			a.server.Close()
			return a.store.Err()
		}
		running = false
	}
	manager.stopping(time.Duration(a.cfg.HTTP.ShutdownTimeout))

	grace, cancel := context.WithTimeout(context.Background(), time.Duration(a.cfg.HTTP.ShutdownTimeout))
	defer cancel()
	quiet := make(chan struct{})
	go func() {
		defer close(quiet)
		if err := a.server.Shutdown(grace); err != nil {
			a.log.Warn("requests were cut off: the grace has ended")
			a.server.Close()
		}
		parts.Wait()
	}()
	select {
	case <-quiet:
	case <-a.store.Failed():
		a.server.Close()
		return a.store.Err()
	}
	if failure == nil && len(broken) > 0 {
		failure = <-broken
	}
	if err := a.store.Close(); err != nil && failure == nil {
		failure = fmt.Errorf("close the database: %w", err)
	}
	if failure == nil {
		a.log.Info("stopped")
	}
	return failure
}

// registerBuildInfo shows in the metrics which build runs.
func registerBuildInfo(reg prometheus.Registerer, v version) {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "hookbolt_build_info",
		Help:        "Always 1; the labels say which build runs.",
		ConstLabels: prometheus.Labels{"version": v.Version, "revision": v.Revision, "go_version": runtime.Version()},
	})
	info.Set(1)
	reg.MustRegister(info)
}

// observeCommits registers the metrics of the storage's writer and returns what feeds them.
func observeCommits(reg prometheus.Registerer) func(operations int, took time.Duration) {
	took := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "hookbolt_storage_commit_duration_seconds",
		Help:    "Duration of a commit, the wait for the disk (fsync) included.",
		Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16), // 0.1 ms, a fast disk, to 3.3 s, a sick one
	})
	operations := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "hookbolt_storage_commit_operations",
		Help:    "Operations that shared a commit.",
		Buckets: prometheus.ExponentialBuckets(1, 2, 12),
	})
	reg.MustRegister(took, operations)
	return func(n int, d time.Duration) {
		took.Observe(d.Seconds())
		operations.Observe(float64(n))
	}
}
