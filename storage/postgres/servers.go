package postgres

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// addressTimeout bounds an attempt at one address. A name may have several, and the first one may be that of a machine which answers nothing.
const addressTimeout = connectTimeout / 2

// servers are the servers that a URL names. At most one of them takes writes at a time, and a failover makes it another one.
type servers struct {
	all []*pgx.ConnConfig // one for each server, without the others among its fallbacks
	// last is the index of the server that has answered last. The next attempt begins with it: the one that is named first may be a dead machine, and
	// each connection would wait for it in vain.
	last atomic.Int32
}

// newServers takes the servers of a URL apart: each gets its time, whatever the one before has taken.
func newServers(config *pgx.ConnConfig) *servers {
	config.RuntimeParams["client_encoding"] = "UTF8" // the role may have another one; poolers let it pass
	config.OnNotice = noteUnreplicated
	list := []*pgconn.FallbackConfig{{Host: config.Host, Port: config.Port, TLSConfig: config.TLSConfig}}
	list = append(list, config.Fallbacks...)
	s := new(servers)
	for i, at := range list {
		if i > 0 && at.Host == list[i-1].Host && at.Port == list[i-1].Port { // the same with, or without, TLS
			one := s.all[len(s.all)-1]
			one.Fallbacks = append(one.Fallbacks, at)
			continue
		}
		one := config.Copy()
		one.Host, one.Port, one.TLSConfig, one.Fallbacks = at.Host, at.Port, at.TLSConfig, nil
		if one.ConnectTimeout == 0 || one.ConnectTimeout > addressTimeout {
			one.ConnectTimeout = addressTimeout
		}
		s.all = append(s.all, one)
	}
	return s
}

// connect returns a connection to the server that takes writes.
func (s *servers) connect(ctx context.Context, open func(context.Context, *pgx.ConnConfig) (*pgx.Conn, error)) (*pgx.Conn, error) {
	var failed []error
	first := int(s.last.Load())
	for i := range s.all {
		at := (first + i) % len(s.all)
		conn, err := s.connectTo(ctx, s.all[at], open)
		if err == nil {
			s.last.Store(int32(at))
			return conn, nil
		}
		failed = append(failed, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(failed...)
}

func (s *servers) connectTo(ctx context.Context, server *pgx.ConnConfig, open func(context.Context, *pgx.ConnConfig) (*pgx.Conn, error)) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	return open(ctx, server.Copy())
}

// timeout bounds an attempt to connect, and the set-up of the session.
func (s *servers) timeout() time.Duration { return time.Duration(len(s.all)) * connectTimeout }

// host is the name of the server that has answered last.
func (s *servers) host() string { return s.all[s.last.Load()].Host }
