package engine_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"hookbolt/engine"
	"math/rand/v2"
	"net/http"
	"time"
)

func (s *sim) chance(parts ...any) uint64 {
	h := fnv.New64a()
	fmt.Fprint(h, append([]any{s.seed, "|"}, parts...)...)
	return rand.New(rand.NewPCG(h.Sum64(), 7)).Uint64()
}

// mode is how an endpoint fares at a time; below 4 it is well.
func (s *sim) mode(host string, at time.Time) uint64 { return s.chance(host, at.Unix()/simSpell) % 10 }

const simSpell = 7200 // seconds

func (s *sim) answer(r received, req *http.Request) (*http.Response, error) {
	url := 0
	fmt.Sscanf(req.URL.Path, "/%d", &url)
	d, n := s.started(r, url)
	mode := s.mode(r.host, time.Now())
	one := s.chance(d.simKey, d.test, n) // not of the id, for a seed is to tell the same story again
	// Ends have an order that can be told, wherever it matters: with failures.
	wait, status, retryAfter := time.Duration(1+one%1e6), 200, 0
	switch {
	case mode < 4:
		if s.mode(r.host, time.Now().Add(-simSpell*time.Second)) < 4 {
			wait = 0
		}
	case mode == 4:
		status = 500
	case mode == 5:
		status, retryAfter = 503, int(one%900)
	case mode == 6:
		wait += time.Duration(one%25000) * time.Millisecond
	case mode == 7:
		wait = time.Hour
	case mode == 8: // flapping
		if one%2 == 0 {
			status = 502
		}
		wait += time.Duration(one%3000) * time.Millisecond
	default:
		wait, status = wait+time.Duration(one%4000)*time.Millisecond, 404
	}
	switch {
	case status == 200:
	case one/7%40 == 0:
		status, retryAfter = 410, 0
	case d.kind == engine.KindTest && one%3 == 0: // the first success may be of another lane
		status, retryAfter = 200, 0
	}
	if s.drained() {
		wait, status, retryAfter = time.Duration(1+one%1e6), 200, 0
	}
	if wait < time.Millisecond && *simSlow > 0 {
		wait += time.Millisecond // so that explainLate sees it
	}
	if wait > 0 {
		select {
		case <-time.After(wait):
		case <-req.Context().Done():
		}
	}
	if err := req.Context().Err(); err != nil {
		s.ended(d, 0, 0, errors.Is(err, context.Canceled))
		return nil, err
	}
	s.ended(d, status, retryAfter, false)
	if retryAfter > 0 {
		return answer(status, "Retry-After", fmt.Sprint(retryAfter)), nil
	}
	return answer(status), nil
}
