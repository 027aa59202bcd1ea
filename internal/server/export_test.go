package server

import (
	"net/http"

	"hookbolt/engine"
	"hookbolt/internal/config"
	"hookbolt/storage"
)

// EngineConfig is engineConfig.
func EngineConfig(c *config.Config, version string) engine.Config { return engineConfig(c, version) }

// WrapStore has a server use another store than the one that it opens.
func (o *Options) WrapStore(wrap func(storage.Store) storage.Store) { o.wrapStore = wrap }

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
