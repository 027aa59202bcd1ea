package server

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"hookbolt/engine"
	"hookbolt/httpapi"
	"hookbolt/internal/buildinfo"
	"hookbolt/internal/config"
	"hookbolt/internal/dbfile"
	"hookbolt/storage"
)

// Options are the settings of a server.
type Options struct {
	// Config must be valid.
	Config config.Config
	Log    *slog.Logger
	// Reload is how the settings are reloaded; zero for a server without reload.
	Reload Reload
	// wrapStore replaces the opened store by another one; only tests set it.
	wrapStore func(storage.Store) storage.Store
}

// Server is the whole server.
type Server struct {
	cfg         config.Config
	log         *slog.Logger
	store       storage.Store
	engine      *engine.Engine
	api         *httpapi.API
	http        *http.Server
	handler     *drainingHandler
	listener    net.Listener
	certificate *certificate // nil for plain HTTP
	settings    Reload
}

// New opens the database and the port, and builds the server. It creates the directory of a database file if the parent directory exists. Nothing
// is served or delivered before Run. Run must follow, because it closes the database and the port.
func New(o Options) (*Server, error) {
	cfg := o.Config
	log, nameMember := newMemberLog(o.Log)
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	build := buildinfo.Read()
	registerBuildInfo(reg, build)

	cert, err := readTLSFiles(&cfg, log)
	if err != nil {
		return nil, err
	}
	if cfg.Storage.Driver == config.DriverBolt {
		if err := makeDirectory(cfg.Storage.Path); err != nil {
			return nil, err
		}
	}
	store, err := storage.Open(storageSettings(&cfg), storage.Hooks{Inspect: dbfile.Inspector(log), ObserveCommit: observeCommits(reg), Log: log})
	if err != nil {
		return nil, err
	}
	if o.wrapStore != nil {
		store = o.wrapStore(store)
	}
	// The port is opened after the database: opening a large database may take long, and clients should get "connection refused"
	// meanwhile, not a connection that nobody answers.
	listener, err := listen(cfg.HTTP.Listen, connectionLimit(maxDescriptors()), log)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("http.listen: %w", err), store.Close())
	}
	e := engine.New(store, engineConfig(&cfg, build.Version), reg, log)
	if err := e.EnsureOperations(context.Background()); err != nil {
		setting, _ := cfg.Delivery.Operations()
		return nil, errors.Join(fmt.Errorf("%s: %w", setting, err), listener.Close(), store.Close())
	}
	apiCfg := apiConfig(&cfg)
	switch kept := store.(type) {
	case storage.File:
		apiCfg.Backup = func(ctx context.Context) (httpapi.Snapshot, error) { return kept.Backup(ctx) }
	case storage.Server:
		apiCfg.NoBackup = "the data is in PostgreSQL: use pg_dump, or the backups of the server"
		nameMember(kept.MemberID)
		reg.MustRegister(newPostgresCollector(kept.Figures, kept.Fleet))
		apiCfg.Fleet = kept
	}
	api := httpapi.New(e, apiCfg, reg, log)
	handler := &drainingHandler{Handler: api}
	server := httpapi.NewServer(handler, log)
	listener.limit(server)
	reg.MustRegister(listener)
	if cert != nil {
		server.TLSConfig = cert.config()
	}
	return &Server{cfg: cfg, log: log, store: store, engine: e, api: api, http: server, handler: handler, listener: listener, certificate: cert, settings: o.Reload}, nil
}

// readTLSFiles reads the certificate of the server, nil if it has none, and looks at the files that endpoints are spoken to with.
func readTLSFiles(cfg *config.Config, log *slog.Logger) (cert *certificate, err error) {
	// The certificates of this machine are read once. Read when no descriptor is left, they would be missing for good.
	if _, err := x509.SystemCertPool(); err != nil {
		log.Warn("the certificates of this machine cannot be read; endpoints with https fail", "error", err)
	}
	if cfg.HTTP.TLSCertFile != "" {
		if cert, err = readCertificate(cfg.HTTP.TLSCertFile, cfg.HTTP.TLSKeyFile, log); err != nil {
			return nil, err
		}
	}
	return cert, engine.CheckTLSFiles(cfg.Delivery.CAFile, cfg.Delivery.TLSDir)
}

// URL returns the base URL of the server.
func (s *Server) URL() string {
	scheme := "http://"
	if s.certificate != nil {
		scheme = "https://"
	}
	return scheme + s.listener.Addr().String()
}

func (s *Server) serve() error {
	if s.certificate != nil {
		return s.http.ServeTLS(s.listener, "", "") // its configuration has the certificate
	}
	return s.http.Serve(s.listener)
}
