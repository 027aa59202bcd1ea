package server

import (
	"net/http"

	"hookbolt/engine"
	"hookbolt/internal/config"
	"hookbolt/storage/bolt"
)

// EngineConfig is engineConfig.
func EngineConfig(c *config.Config, version string) engine.Config { return engineConfig(c, version) }

// Store is the server's database.
func (s *Server) Store() *bolt.Store { return s.store.(*bolt.Store) }

// SetStore puts another one in its place.
func (s *Server) SetStore(store interface {
	Failed() <-chan struct{}
	Err() error
	Close() error
	SetLimits(minFree, maxBytes int64)
}) {
	s.store = store
}

// SetListen has the server take an address for the one that it listens on.
func (s *Server) SetListen(address string) { s.cfg.HTTP.Listen = address }

// ReloadNow reads the settings again.
func (s *Server) ReloadNow() { s.reload() }

// API is what the server serves.
func (s *Server) API() http.Handler { return s.api }

// Engine is the server's engine.
func (s *Server) Engine() *engine.Engine { return s.engine }

// ReadCertificate is readCertificate.
var ReadCertificate = readCertificate

// Serial is the serial number of the certificate that is served now.
func (c *certificate) Serial() (int64, error) {
	pair, err := c.get(nil)
	if err != nil {
		return 0, err
	}
	return pair.Leaf.SerialNumber.Int64(), nil
}

// LookAgain lets the time pass until the files are looked at.
func (c *certificate) LookAgain() { c.checkedAt = c.checkedAt.Add(-certificateCheckInterval) }
